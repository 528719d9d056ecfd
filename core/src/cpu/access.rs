//! Memory as instructions see it: segment check, TLB, RAM; the rare cases out of line.

use super::int::Int;
use super::segment::{ES, SS};
use super::{flags, Cpu, Done, Stop, RSP};
use crate::mmu::paging::{self, Access, Kind};
use crate::mmu::sub_page::SUB_PAGE;
use crate::mmu::tlb::{Entry, Privilege, PAGE, PAGE_MASK};
use crate::platform::Bus;
use crate::vmx::apic::page::{self, Use};

impl Cpu {
    /// Reads at offset `ea` of segment `seg`.
    #[inline(always)]
    pub fn read<T: Int>(&mut self, bus: &mut Bus, seg: u8, ea: u64) -> Result<T, Stop> {
        let window = &self.window[(seg & 7) as usize];
        if ea.wrapping_add(T::BYTES - 1) < window.read_end {
            let linear = ea.wrapping_add(window.base);
            let entry = self.tlb.entry(linear, self.tlb.context);
            if entry.read == linear & PAGE_MASK | self.tlb.context && linear & 0xfff <= PAGE - T::BYTES {
                if let Some(value) = bus.ram.load(entry.ram(linear)) {
                    return Ok(value);
                }
            }
        }
        self.read_checked(bus, seg, ea)
    }

    #[inline(always)]
    pub fn write<T: Int>(&mut self, bus: &mut Bus, seg: u8, ea: u64, value: T) -> Done {
        let window = &self.window[(seg & 7) as usize];
        if ea.wrapping_add(T::BYTES - 1) < window.write_end {
            let linear = ea.wrapping_add(window.base);
            let entry = self.tlb.entry(linear, self.tlb.context);
            if entry.write == linear & PAGE_MASK | self.tlb.context
                && linear & 0xfff <= PAGE - T::BYTES
                && bus.ram.store(entry.ram(linear), value)
            {
                return Ok(());
            }
        }
        self.write_checked(bus, seg, ea, value)
    }

    /// Read, compute, write back. The page is checked for writing first, as a locked instruction does.
    #[inline(always)]
    pub fn update<T: Int>(
        &mut self,
        bus: &mut Bus,
        seg: u8,
        ea: u64,
        f: impl FnOnce(&mut Cpu, T) -> T,
    ) -> Done {
        let window = &self.window[(seg & 7) as usize];
        if ea.wrapping_add(T::BYTES - 1) < window.write_end {
            let linear = ea.wrapping_add(window.base);
            let entry = self.tlb.entry(linear, self.tlb.context);
            if entry.write == linear & PAGE_MASK | self.tlb.context && linear & 0xfff <= PAGE - T::BYTES {
                let at = entry.ram(linear);
                if let Some(old) = bus.ram.load(at) {
                    let new = f(self, old);
                    bus.ram.store(at, new);
                    return Ok(());
                }
            }
        }
        let linear = self.check_segment(seg, ea, T::BYTES, true)?;
        let mapped = self.translate_write(bus, linear, T::BYTES, Use::Update)?;
        let old = self.read_mapped(bus, linear, mapped, T::BYTES)?;
        let new = f(self, T::from_u64(old));
        self.write_mapped(bus, linear, mapped, T::BYTES, new.to_u64());
        Ok(())
    }

    #[cold]
    #[inline(never)]
    fn read_checked<T: Int>(&mut self, bus: &mut Bus, seg: u8, ea: u64) -> Result<T, Stop> {
        let linear = self.check_segment(seg, ea, T::BYTES, false)?;
        self.read_linear(bus, linear, self.tlb.privilege())
    }

    #[cold]
    #[inline(never)]
    fn write_checked<T: Int>(&mut self, bus: &mut Bus, seg: u8, ea: u64, value: T) -> Done {
        let linear = self.check_segment(seg, ea, T::BYTES, true)?;
        let mapped = self.translate_write(bus, linear, T::BYTES, Use::Write)?;
        self.write_mapped(bus, linear, mapped, T::BYTES, value.to_u64());
        Ok(())
    }

    /// The segment checks of SDM vol. 3, 5.3 and 5.5, for the accesses that the window does not let through.
    fn check_segment(&mut self, seg: u8, ea: u64, bytes: u64, write: bool) -> Result<u64, Stop> {
        let index = (seg & 7) as usize;
        let fault = |cpu: &mut Cpu| {
            if index == SS {
                cpu.stack_fault(0)
            } else {
                cpu.general_protection(0)
            }
        };
        let linear = ea.wrapping_add(self.window[index].base) & self.linear_mask;
        if self.long64() {
            let last = linear.wrapping_add(bytes - 1);
            return if self.canonical(linear) && self.canonical(last) {
                Ok(linear)
            } else {
                Err(fault(self))
            };
        }
        let segment = self.seg[index];
        let rights = segment.rights;
        let (first, last) = (ea, ea + bytes - 1);
        // VM entry can load one of those in real-address mode, too (SDM vol. 3, 25.4.1).
        if !rights.usable() {
            return Err(fault(self));
        }
        if !self.paragraphs() {
            let allowed = rights.present()
                && if write {
                    rights.is_writable()
                } else {
                    rights.is_readable()
                };
            if !allowed {
                return Err(fault(self));
            }
            if rights.is_expand_down() {
                let top = if rights.big() { 0xffff_ffff } else { 0xffff };
                return if first > segment.limit as u64 && last <= top {
                    Ok(linear)
                } else {
                    Err(fault(self))
                };
            }
        }
        if last > segment.limit as u64 {
            return Err(fault(self));
        }
        Ok(linear)
    }

    /// Checks an access to `bytes` bytes at a segment offset as an instruction of unusual size makes it, and gives its
    /// linear address.
    pub fn linear(&mut self, seg: u8, ea: u64, bytes: u64, write: bool) -> Result<u64, Stop> {
        self.check_segment(seg, ea, bytes, write)
    }

    /// Reads at a linear address with a given privilege: descriptors, the TSS and the IDT are read as supervisor.
    pub fn read_linear<T: Int>(
        &mut self,
        bus: &mut Bus,
        linear: u64,
        privilege: Privilege,
    ) -> Result<T, Stop> {
        let context = self.tlb.context_for(privilege);
        let entry = self.tlb.entry(linear, context);
        if entry.read == linear & PAGE_MASK | context && linear & 0xfff <= PAGE - T::BYTES {
            if let Some(value) = bus.ram.load(entry.ram(linear)) {
                return Ok(value);
            }
        }
        self.check_alignment(linear, T::BYTES, privilege)?;
        let mapped = self.translate_span(bus, linear, T::BYTES, Access::read(privilege), Use::Read)?;
        Ok(T::from_u64(self.read_mapped(bus, linear, mapped, T::BYTES)?))
    }

    /// Writes at a linear address with a given privilege.
    pub fn write_linear<T: Int>(
        &mut self,
        bus: &mut Bus,
        linear: u64,
        privilege: Privilege,
        value: T,
    ) -> Done {
        self.check_alignment(linear, T::BYTES, privilege)?;
        let mapped = self.translate_span(bus, linear, T::BYTES, Access::write(privilege), Use::Write)?;
        self.solo_if_needed(bus, linear, mapped, T::BYTES, true)?;
        self.write_mapped(bus, linear, mapped, T::BYTES, value.to_u64());
        Ok(())
    }

    /// Reads at a linear address what is never cached.
    pub fn load_span(&mut self, bus: &mut Bus, linear: u64, bytes: u64, access: Access) -> Result<u64, Stop> {
        let mapped = self.translate_span(bus, linear, bytes, access, Use::Read)?;
        self.read_mapped(bus, linear, mapped, bytes)
    }

    pub fn store_span(&mut self, bus: &mut Bus, linear: u64, bytes: u64, value: u64, access: Access) -> Done {
        let mapped = self.translate_span(bus, linear, bytes, access, Use::Write)?;
        self.solo_if_needed(bus, linear, mapped, bytes, true)?;
        self.write_mapped(bus, linear, mapped, bytes, value);
        Ok(())
    }

    /// Reads `N` bytes at a segment offset: SSE and x87 operands. `aligned`: #GP(0) unless at a multiple of `N`.
    pub fn read_bytes<const N: usize>(
        &mut self,
        bus: &mut Bus,
        seg: u8,
        ea: u64,
        aligned: bool,
    ) -> Result<[u8; N], Stop> {
        // A page of RAM is as aligned as the page of linear addresses that it stands for.
        let misaligned = |at: u64| aligned && at & (N as u64 - 1) != 0;
        let plain = self
            .plain_read(seg, ea, N as u64)
            .filter(|at| !misaligned(*at))
            .and_then(|at| bus.ram.bytes(at as usize));
        if let Some(value) = plain {
            return Ok(*value);
        }
        let linear = self.check_segment(seg, ea, N as u64, false)?;
        if misaligned(linear) {
            return Err(self.general_protection(0));
        }
        let access = Access::read(self.tlb.privilege());
        self.check_alignment(linear, N as u64, access.privilege)?;
        let mapped = self.translate_span(bus, linear, N as u64, access, Use::Read)?;
        self.solo_if_needed(bus, linear, mapped, N as u64, false)?;
        let mut value = [0; N];
        for (at, byte) in value.iter_mut().enumerate() {
            *byte = self.read_mapped(
                bus,
                linear.wrapping_add(at as u64),
                mapped.at(linear, at as u64),
                1,
            )? as u8;
        }
        Ok(value)
    }

    pub fn write_bytes<const N: usize>(
        &mut self,
        bus: &mut Bus,
        seg: u8,
        ea: u64,
        aligned: bool,
        value: [u8; N],
    ) -> Done {
        let misaligned = |at: u64| aligned && at & (N as u64 - 1) != 0;
        let plain = self
            .plain_write(seg, ea, N as u64)
            .filter(|at| !misaligned(*at))
            .and_then(|at| bus.ram.bytes_mut(at as usize));
        if let Some(place) = plain {
            *place = value;
            return Ok(());
        }
        let linear = self.check_segment(seg, ea, N as u64, true)?;
        if misaligned(linear) {
            return Err(self.general_protection(0));
        }
        let mapped = self.translate_write(bus, linear, N as u64, Use::Write)?;
        for (at, byte) in value.iter().enumerate() {
            let at = at as u64;
            self.write_mapped(
                bus,
                linear.wrapping_add(at),
                mapped.at(linear, at),
                1,
                *byte as u64,
            );
        }
        Ok(())
    }

    /// Reads, computes, writes `N` bytes; CMPXCHG16B. `aligned` as above.
    pub fn update_bytes<const N: usize>(
        &mut self,
        bus: &mut Bus,
        seg: u8,
        ea: u64,
        aligned: bool,
        f: impl FnOnce(&mut Cpu, [u8; N]) -> [u8; N],
    ) -> Done {
        let linear = self.check_segment(seg, ea, N as u64, true)?;
        if aligned && linear & (N as u64 - 1) != 0 {
            return Err(self.general_protection(0));
        }
        self.probe_write(bus, seg, ea, N as u64)?;
        let old = self.read_bytes(bus, seg, ea, false)?;
        let new = f(self, old);
        self.write_bytes(bus, seg, ea, false, new)
    }

    /// Faults as a read of `bytes` bytes would.
    pub fn probe_read(&mut self, bus: &mut Bus, seg: u8, ea: u64, bytes: u64) -> Done {
        let linear = self.check_segment(seg, ea, bytes, false)?;
        self.translate_span(bus, linear, bytes, Access::read(self.tlb.privilege()), Use::Read)?;
        Ok(())
    }

    /// Faults as a write of `bytes` bytes would, and writes nothing.
    pub fn probe_write(&mut self, bus: &mut Bus, seg: u8, ea: u64, bytes: u64) -> Done {
        let linear = self.check_segment(seg, ea, bytes, true)?;
        self.translate_write(bus, linear, bytes, Use::Write)?;
        Ok(())
    }

    /// Faults as an access to `bytes` bytes would that is not as aligned as it should be.
    pub fn probe_alignment(&mut self, seg: u8, ea: u64, bytes: u64) -> Done {
        let linear = ea.wrapping_add(self.window[(seg & 7) as usize].base) & self.linear_mask;
        if self.tlb.privilege() == Privilege::UserAligned && linear & (bytes - 1) != 0 {
            return Err(self.alignment_check());
        }
        Ok(())
    }

    // What is never #AC: masked moves, gathers, halves (SDM vol. 2, VMASKMOV and the exceptions of types 11 and 12).

    pub fn read_unaligned<T: Int>(&mut self, bus: &mut Bus, seg: u8, ea: u64) -> Result<T, Stop> {
        let linear = self.check_segment(seg, ea, T::BYTES, false)?;
        let access = Access::read(self.tlb.privilege());
        let mapped = self.translate_span(bus, linear, T::BYTES, access, Use::Read)?;
        Ok(T::from_u64(self.read_mapped(bus, linear, mapped, T::BYTES)?))
    }

    pub fn write_unaligned<T: Int>(&mut self, bus: &mut Bus, seg: u8, ea: u64, value: T) -> Done {
        let linear = self.check_segment(seg, ea, T::BYTES, true)?;
        let mapped = self.translate_write_unaligned(bus, linear, T::BYTES, Use::Write)?;
        self.write_mapped(bus, linear, mapped, T::BYTES, value.to_u64());
        Ok(())
    }

    pub fn probe_unaligned(&mut self, bus: &mut Bus, seg: u8, ea: u64, bytes: u64) -> Done {
        let linear = self.check_segment(seg, ea, bytes, true)?;
        self.translate_write_unaligned(bus, linear, bytes, Use::Write)?;
        Ok(())
    }

    /// #AC: SDM vol. 3, 6.15, interrupt 17 and its table. Operands of 16 bytes and more, and images of state, have an
    /// alignment of their own, which is #GP.
    fn check_alignment(&mut self, linear: u64, bytes: u64, privilege: Privilege) -> Done {
        let alignment = match bytes {
            2 | 4 | 8 => bytes,
            // The x87's extended and decimal numbers; its environment and state.
            10 => 8,
            14 | 94 => 2,
            28 | 108 => 4,
            _ => 1,
        };
        if privilege == Privilege::UserAligned && linear & (alignment - 1) != 0 {
            return Err(self.alignment_check());
        }
        Ok(())
    }

    /// Translates for a write by the running program, and insists on being alone where the write has side effects.
    fn translate_write(&mut self, bus: &mut Bus, linear: u64, bytes: u64, usage: Use) -> Result<Span, Stop> {
        self.check_alignment(linear, bytes, self.tlb.privilege())?;
        self.translate_write_unaligned(bus, linear, bytes, usage)
    }

    fn translate_write_unaligned(
        &mut self,
        bus: &mut Bus,
        linear: u64,
        bytes: u64,
        usage: Use,
    ) -> Result<Span, Stop> {
        let access = Access::write(self.tlb.privilege());
        let mapped = self.translate_span(bus, linear, bytes, access, usage)?;
        self.solo_if_needed(bus, linear, mapped, bytes, true)?;
        Ok(mapped)
    }

    /// Physical addresses of an access that may cross into a second page. Both pages are checked before either is
    /// touched.
    fn translate_span(
        &mut self,
        bus: &mut Bus,
        linear: u64,
        bytes: u64,
        access: Access,
        usage: Use,
    ) -> Result<Span, Stop> {
        let room = PAGE - (linear & 0xfff);
        let mut first = paging::translate(self, bus, linear, access)?;
        let virtual_apic = self.vmx.apic.is_access_page(first);
        if virtual_apic {
            first = page::redirect(self, first, bytes, usage)?;
        }
        let sub_pages = access.kind == Kind::Write && self.vmx.has_sub_pages();
        if sub_pages {
            self.check_sub_pages(bus, linear, bytes.min(room), access)?;
        }
        let mut second = 0;
        if bytes > room {
            second = paging::translate(self, bus, linear.wrapping_add(room) & self.linear_mask, access)?;
            if self.vmx.apic.is_access_page(second) {
                return Err(page::crossed_into(self, second, bytes, usage));
            }
            if sub_pages {
                self.check_sub_pages(
                    bus,
                    linear.wrapping_add(room) & self.linear_mask,
                    bytes - room,
                    access,
                )?;
            }
        }
        Ok(Span {
            first,
            second,
            room,
            virtual_apic,
        })
    }

    /// A write needs the permission of every sub-page that it touches; that of the first is known (SDM vol. 3, 29.3.4.2).
    #[cold]
    fn check_sub_pages(&mut self, bus: &mut Bus, linear: u64, bytes: u64, access: Access) -> Done {
        let mut next = (linear | (SUB_PAGE - 1)).wrapping_add(1);
        while next.wrapping_sub(linear) < bytes {
            paging::translate(self, bus, next, access)?;
            next += SUB_PAGE;
        }
        Ok(())
    }

    /// Devices, code pages and watched pages are only touched by an instruction that runs as a block of its own.
    fn solo_if_needed(&mut self, bus: &Bus, linear: u64, span: Span, bytes: u64, write: bool) -> Done {
        if self.solo {
            return Ok(());
        }
        let special = |physical, bytes| match bus.ram_at(self.id, physical) {
            None => true,
            Some(at) => {
                bus.debug.watches.touch(linear, bytes) || write && bus.ram.holds_code(at as u64, bytes)
            }
        };
        let first = bytes.min(span.room);
        let emulated = write && span.virtual_apic;
        if emulated || special(span.first, first) || bytes > first && special(span.second, bytes - first) {
            return Err(Stop::Solo);
        }
        Ok(())
    }

    fn read_mapped(&mut self, bus: &mut Bus, linear: u64, span: Span, bytes: u64) -> Result<u64, Stop> {
        self.solo_if_needed(bus, linear, span, bytes, false)?;
        bus.debug.watches.note(linear, bytes, false);
        self.note_data_access(linear, bytes, false);
        if bytes <= span.room {
            return Ok(bus.read_physical(self.id, span.first, bytes));
        }
        let low = bus.read_physical(self.id, span.first, span.room);
        let high = bus.read_physical(self.id, span.second, bytes - span.room);
        Ok(low | high << (span.room * 8))
    }

    fn write_mapped(&mut self, bus: &mut Bus, linear: u64, span: Span, bytes: u64, value: u64) {
        bus.debug.watches.note(linear, bytes, true);
        self.note_data_access(linear, bytes, true);
        if span.virtual_apic {
            page::note_write(self, span.first, bytes);
        }
        if bytes <= span.room {
            bus.write_physical(self.id, span.first, bytes, value);
        } else {
            bus.write_physical(self.id, span.first, span.room, value);
            bus.write_physical(self.id, span.second, bytes - span.room, value >> (span.room * 8));
        }
    }

    // The stack. An operand of 64 bits means 64-bit mode, and a stack pointer of 64 bits.

    #[inline(always)]
    pub fn push<T: Int>(&mut self, bus: &mut Bus, value: T) -> Done {
        let mask = if T::BITS == 64 { !0 } else { self.stack_mask() };
        let top = self.regs[RSP].wrapping_sub(T::BYTES);
        self.write(bus, SS as u8, top & mask, value)?;
        self.regs[RSP] = self.regs[RSP] & !mask | top & mask;
        Ok(())
    }

    #[inline(always)]
    pub fn pop<T: Int>(&mut self, bus: &mut Bus) -> Result<T, Stop> {
        let mask = if T::BITS == 64 { !0 } else { self.stack_mask() };
        let value = self.read(bus, SS as u8, self.regs[RSP] & mask)?;
        self.regs[RSP] = self.regs[RSP] & !mask | self.regs[RSP].wrapping_add(T::BYTES) & mask;
        Ok(value)
    }

    /// Adds to the stack pointer.
    #[inline(always)]
    pub fn release_stack(&mut self, bytes: u64) {
        let mask = self.stack_mask();
        self.regs[RSP] = self.regs[RSP] & !mask | self.regs[RSP].wrapping_add(bytes) & mask;
    }

    /// The offset in RAM of `bytes` bytes within one page at a segment offset, if reading them needs no more than a look
    /// there: they passed all checks before and nobody watches.
    pub fn plain_read(&self, seg: u8, ea: u64, bytes: u64) -> Option<u64> {
        let window = &self.window[(seg & 7) as usize];
        self.plain(ea, bytes, window.base, window.read_end, |entry| entry.read)
    }

    /// The same for writing.
    pub fn plain_write(&self, seg: u8, ea: u64, bytes: u64) -> Option<u64> {
        let window = &self.window[(seg & 7) as usize];
        self.plain(ea, bytes, window.base, window.write_end, |entry| entry.write)
    }

    fn plain(&self, ea: u64, bytes: u64, base: u64, end: u64, tag: impl Fn(&Entry) -> u64) -> Option<u64> {
        let last = ea.checked_add(bytes.checked_sub(1)?)?;
        let linear = ea.wrapping_add(base) & self.linear_mask;
        let entry = self.tlb.entry(linear, self.tlb.context);
        let cached = tag(entry) == linear & PAGE_MASK | self.tlb.context;
        let within = last < end && bytes <= PAGE && linear & 0xfff <= PAGE - bytes;
        (cached && within).then_some(entry.ram(linear) as u64)
    }

    /// True where the flag DF makes string instructions go downwards.
    pub fn downwards(&self) -> bool {
        self.flags.has(flags::DF)
    }

    /// The segment that string instructions write to.
    pub const STRING_DESTINATION: u8 = ES as u8;
}

/// Where the bytes of one access lie: guest-physical, in one or two pages.
#[derive(Clone, Copy, Debug)]
struct Span {
    first: u64,
    second: u64,
    /// Bytes of the access that the first page has room for.
    room: u64,
    /// The first page is the virtual-APIC page, in place of the APIC-access page.
    virtual_apic: bool,
}

impl Span {
    /// The span of what lies `skip` bytes further.
    fn at(self, linear: u64, skip: u64) -> Span {
        let start = linear.wrapping_add(skip);
        if skip < self.room {
            Span {
                first: self.first + skip,
                second: self.second,
                room: self.room - skip,
                ..self
            }
        } else {
            Span {
                first: self.second + (skip - self.room),
                second: 0,
                room: PAGE - (start & 0xfff),
                virtual_apic: false,
            }
        }
    }
}
