//! Selectors, the descriptors that they stand for, and loading segment registers (SDM vol. 3, 3.4 and 5.2 to 5.8).

use super::exception::vector;
use super::int::Int;
use super::segment::{self, Rights, Segment, LDTR, SS, TR};
use super::{flags, Cpu, Done, Stop};
use crate::cpu::bits::*;
use crate::mmu::tlb::Privilege;
use crate::platform::Bus;

/// A null selector, whatever its RPL.
pub fn is_null(selector: u16) -> bool {
    selector & !3 == 0
}

pub fn rpl(selector: u16) -> u8 {
    (selector & 3) as u8
}

/// The error code of a fault that a selector causes; delivery adds EXT.
pub fn error_code(selector: u16) -> u32 {
    (selector & !3) as u32
}

/// Types of system descriptors (SDM vol. 3, table 3-2).
pub mod system {
    pub const TSS16: u32 = 1;
    pub const LDT: u32 = 2;
    pub const TSS16_BUSY: u32 = 3;
    pub const CALL_GATE16: u32 = 4;
    pub const TASK_GATE: u32 = 5;
    pub const INTERRUPT_GATE16: u32 = 6;
    pub const TRAP_GATE16: u32 = 7;
    /// Of 32 bits, or of 64 in IA-32e mode; so are the gates below.
    pub const TSS32: u32 = 9;
    pub const TSS32_BUSY: u32 = 11;
    pub const CALL_GATE32: u32 = 12;
    pub const INTERRUPT_GATE32: u32 = 14;
    pub const TRAP_GATE32: u32 = 15;
}

const ACCESSED: u64 = 1 << 40;
const BUSY: u64 = 1 << 41;

/// A descriptor as it stands in its table.
#[derive(Clone, Copy, Debug)]
pub struct Descriptor {
    pub selector: u16,
    /// Linear.
    address: u64,
    raw: u64,
}

impl Descriptor {
    pub fn rights(&self) -> Rights {
        Rights::from_descriptor((self.raw >> 32) as u32)
    }
    /// The second doubleword.
    pub fn high(&self) -> u32 {
        (self.raw >> 32) as u32
    }
    pub fn dpl(&self) -> u8 {
        self.rights().dpl()
    }
    pub fn present(&self) -> bool {
        self.rights().present()
    }
    /// The type of a system descriptor; `None` for code and data.
    pub fn system(&self) -> Option<u32> {
        let rights = self.rights();
        (!rights.is_code_or_data()).then_some(rights.kind())
    }
    pub fn segment(&self) -> Segment {
        Segment::from_descriptor(self.selector, self.raw)
    }
    pub fn error_code(&self) -> u32 {
        error_code(self.selector)
    }
    /// As a call, interrupt or trap gate, 32-bit or (the low 32 bits of its offset) 64-bit.
    pub fn gate(&self) -> Gate {
        Gate::new(self.raw)
    }
}

/// The parts of a call, interrupt, trap or task gate.
#[derive(Clone, Copy, Debug)]
pub struct Gate {
    pub selector: u16,
    pub offset: u64,
    /// 0 to 31: a system descriptor type, or something that is no gate.
    pub kind: u32,
    pub dpl: u8,
    pub present: bool,
    /// Of a call gate: how many parameters are copied.
    pub parameters: u8,
    /// Of an interrupt or trap gate in IA-32e mode.
    pub ist: u8,
}

impl Gate {
    pub fn new(raw: u64) -> Gate {
        Gate {
            selector: (raw >> 16) as u16,
            offset: raw & 0xffff | raw >> 32 & 0xffff_0000,
            kind: (raw >> 40 & 31) as u32,
            dpl: (raw >> 45 & 3) as u8,
            present: raw >> 47 & 1 != 0,
            parameters: (raw >> 32 & 31) as u8,
            ist: (raw >> 32 & 7) as u8,
        }
    }
    /// The operand size: 16-bit gates have type bit 3 clear.
    pub fn is_16bit(&self) -> bool {
        self.kind & 8 == 0
    }
}

impl Cpu {
    /// Reads a table of the system's (GDT, LDT, IDT, TSS) as supervisor, whatever CPL is.
    pub fn read_table<T: Int>(&mut self, bus: &mut Bus, base: u64, offset: u64) -> Result<T, Stop> {
        let linear = self.table_address(base, offset);
        self.read_linear(bus, linear, Privilege::Supervisor)
    }

    pub fn write_table<T: Int>(&mut self, bus: &mut Bus, base: u64, offset: u64, value: T) -> Done {
        let linear = self.table_address(base, offset);
        self.write_linear(bus, linear, Privilege::Supervisor, value)
    }

    /// Tables lie at 64-bit addresses in all of IA-32e mode, compatibility mode included.
    fn table_address(&self, base: u64, offset: u64) -> u64 {
        let linear = base.wrapping_add(offset);
        if self.long_mode() {
            linear
        } else {
            linear & 0xffff_ffff
        }
    }

    /// The descriptor of a selector that is not null; `None` where it lies beyond its table's limit.
    pub fn find_descriptor(&mut self, bus: &mut Bus, selector: u16) -> Result<Option<Descriptor>, Stop> {
        let (base, limit) = if selector & 4 == 0 {
            (self.gdtr.base, self.gdtr.limit as u64)
        } else if self.seg[LDTR].rights.usable() {
            (self.seg[LDTR].base, self.seg[LDTR].limit as u64)
        } else {
            return Ok(None);
        };
        let offset = (selector & !7) as u64;
        if offset + 7 > limit {
            return Ok(None);
        }
        let raw = self.read_table(bus, base, offset)?;
        Ok(Some(Descriptor {
            selector,
            address: self.table_address(base, offset),
            raw,
        }))
    }

    /// The descriptor of a selector that is not null, or a fault with `vector` and the selector as its error code.
    pub fn descriptor(&mut self, bus: &mut Bus, selector: u16, vector: u8) -> Result<Descriptor, Stop> {
        match self.find_descriptor(bus, selector)? {
            Some(descriptor) => Ok(descriptor),
            None => Err(self.raise(vector, Some(error_code(selector)), 0)),
        }
    }

    /// The upper half of a 16-byte descriptor of IA-32e mode; `None` beyond the table's limit.
    pub fn upper_half(&mut self, bus: &mut Bus, descriptor: &Descriptor) -> Result<Option<u64>, Stop> {
        let limit = if descriptor.selector & 4 == 0 {
            self.gdtr.limit as u64
        } else {
            self.seg[LDTR].limit as u64
        };
        if (descriptor.selector & !7) as u64 + 15 > limit {
            return Ok(None);
        }
        self.read_linear(bus, descriptor.address.wrapping_add(8), Privilege::Supervisor)
            .map(Some)
    }

    /// Sets the accessed bit of a code or data descriptor.
    pub fn mark_accessed(&mut self, bus: &mut Bus, descriptor: &mut Descriptor) -> Done {
        if descriptor.raw & ACCESSED == 0 {
            self.set_descriptor_bits(bus, descriptor, descriptor.raw | ACCESSED)?;
        }
        Ok(())
    }

    /// Sets or clears the busy bit of a TSS descriptor.
    pub fn mark_busy(&mut self, bus: &mut Bus, descriptor: &mut Descriptor, busy: bool) -> Done {
        let raw = if busy {
            descriptor.raw | BUSY
        } else {
            descriptor.raw & !BUSY
        };
        self.set_descriptor_bits(bus, descriptor, raw)
    }

    fn set_descriptor_bits(&mut self, bus: &mut Bus, descriptor: &mut Descriptor, raw: u64) -> Done {
        let at = descriptor.address.wrapping_add(5);
        self.write_linear(bus, at, Privilege::Supervisor, (raw >> 40) as u8)?;
        descriptor.raw = raw;
        Ok(())
    }

    /// Loads ES, SS, DS, FS or GS as MOV, POP and LDS … do.
    pub fn load_segment(&mut self, bus: &mut Bus, index: usize, selector: u16) -> Done {
        self.seg[index] = if self.paragraphs() {
            self.paragraph(index, selector)
        } else if index == SS {
            self.stack_segment(bus, selector, self.cpl, vector::GENERAL_PROTECTION)?
        } else {
            self.data_segment(bus, selector, vector::GENERAL_PROTECTION)?
        };
        self.update_window(index);
        Ok(())
    }

    /// A segment register loaded in real-address or virtual-8086 mode. The first keeps the limit that protected mode
    /// left, which is what big real mode lives by.
    pub fn paragraph(&self, index: usize, selector: u16) -> Segment {
        if self.protected() {
            return Segment::virtual_8086(selector);
        }
        let old = self.seg[index];
        let sizes = old.rights.0 & 0xc000;
        Segment {
            limit: if old.rights.usable() { old.limit } else { 0xffff },
            rights: Rights(0x93 | if old.rights.usable() { sizes } else { 0 }),
            ..Segment::real(selector)
        }
    }

    /// Checks a selector for DS, ES, FS or GS (SDM vol. 3, 5.6). `bad` is #GP, or #TS in a task switch.
    pub fn data_segment(&mut self, bus: &mut Bus, selector: u16, bad: u8) -> Result<Segment, Stop> {
        if is_null(selector) {
            return Ok(Segment::unusable(selector));
        }
        let mut descriptor = self.descriptor(bus, selector, bad)?;
        let rights = descriptor.rights();
        let privileged = !rights.is_conforming() && rights.dpl() < self.cpl.max(rpl(selector));
        if !rights.is_readable() || privileged {
            return Err(self.raise(bad, Some(error_code(selector)), 0));
        }
        if !rights.present() {
            return Err(self.segment_not_present(error_code(selector)));
        }
        self.mark_accessed(bus, &mut descriptor)?;
        Ok(descriptor.segment())
    }

    /// Checks a selector for SS as it is to be at privilege level `cpl` (SDM vol. 3, 5.7). `bad` is #GP, or #TS where
    /// the selector comes from a TSS. A null selector is allowed in 64-bit mode below level 3.
    pub fn stack_segment(&mut self, bus: &mut Bus, selector: u16, cpl: u8, bad: u8) -> Result<Segment, Stop> {
        if is_null(selector) {
            if self.long64() && cpl < 3 && rpl(selector) == cpl {
                return Ok(Segment::null_stack(selector));
            }
            return Err(self.raise(bad, Some(0), 0));
        }
        let mut descriptor = self.stack_descriptor(bus, selector, cpl, bad)?;
        self.mark_accessed(bus, &mut descriptor)?;
        Ok(descriptor.segment())
    }

    /// The same of a selector that is not null, and its descriptor is not yet marked accessed.
    pub fn stack_descriptor(
        &mut self,
        bus: &mut Bus,
        selector: u16,
        cpl: u8,
        bad: u8,
    ) -> Result<Descriptor, Stop> {
        let descriptor = self.descriptor(bus, selector, bad)?;
        let rights = descriptor.rights();
        if rpl(selector) != cpl || rights.dpl() != cpl || !rights.is_writable() {
            return Err(self.raise(bad, Some(error_code(selector)), 0));
        }
        if !rights.present() {
            return Err(self.stack_fault(error_code(selector)));
        }
        Ok(descriptor)
    }

    /// Checks that the code segment `descriptor` may hold instructions now: present, and L and D not both set.
    pub fn check_code_segment(&mut self, descriptor: &Descriptor) -> Done {
        let rights = descriptor.rights();
        if self.long_mode() && rights.long() && rights.big() {
            return Err(self.general_protection(descriptor.error_code()));
        }
        if !rights.present() {
            return Err(self.segment_not_present(descriptor.error_code()));
        }
        Ok(())
    }

    /// Checks an instruction pointer within the code segment about to be loaded: #GP(0) beyond its limit, or where it
    /// is not canonical.
    pub fn check_target(&mut self, code: &Segment, ip: u64) -> Done {
        let good = if self.long_mode() && code.rights.long() {
            self.canonical(ip)
        } else {
            ip <= code.limit as u64
        };
        if good {
            Ok(())
        } else {
            Err(self.general_protection(0))
        }
    }

    /// Makes `code` CS and its RPL the privilege level `cpl`; the caller goes on to `update_mode`.
    pub fn set_code_segment(&mut self, code: Segment, cpl: u8) {
        self.seg[segment::CS] = Segment {
            selector: code.selector & !3 | cpl as u16,
            ..code
        };
        self.cpl = cpl;
    }

    /// After a return to an outer level: data segments that it may not use become null (SDM vol. 3, 5.8.6). The bases
    /// of FS and GS stay: 64-bit mode goes on using them.
    pub fn drop_privileged_segments(&mut self) {
        for index in [segment::ES, segment::DS, segment::FS, segment::GS] {
            let rights = self.seg[index].rights;
            if rights.usable() && !rights.is_conforming() && rights.dpl() < self.cpl {
                self.seg[index].selector = 0;
                self.seg[index].rights.0 |= Rights::UNUSABLE.0;
            }
        }
    }

    /// The privilege that an explicit access has at `cpl`.
    pub fn privilege_at(&self, cpl: u8) -> Privilege {
        let access_flag = self.flags.has(flags::AC);
        match cpl {
            3 if access_flag && self.cr0 & CR0_AM != 0 => Privilege::UserAligned,
            3 => Privilege::User,
            _ if access_flag && self.cr4 & CR4_SMAP != 0 => Privilege::SupervisorAc,
            _ => Privilege::Supervisor,
        }
    }

    /// Reads a stack of the TSS, #TS where it lies beyond its limit: SS and SP for level `cpl` outside IA-32e mode.
    pub fn task_stack(&mut self, bus: &mut Bus, cpl: u8) -> Result<(u16, u64), Stop> {
        let tss = self.seg[TR];
        let wide = tss.rights.kind() & 8 != 0;
        let (at, bytes) = if wide {
            (4 + 8 * cpl as u64, 4)
        } else {
            (2 + 4 * cpl as u64, 2)
        };
        if at + bytes + 1 > tss.limit as u64 {
            return Err(self.invalid_tss(error_code(tss.selector)));
        }
        let selector = self.read_table(bus, tss.base, at + bytes)?;
        let pointer = if wide {
            self.read_table::<u32>(bus, tss.base, at)? as u64
        } else {
            self.read_table::<u16>(bus, tss.base, at)? as u64
        };
        Ok((selector, pointer))
    }

    /// A stack pointer of the 64-bit TSS: RSP0 to RSP2 are numbers 0 to 2, IST1 to IST7 numbers 4 to 10.
    pub fn task_stack_64(&mut self, bus: &mut Bus, number: u8) -> Result<u64, Stop> {
        let tss = self.seg[TR];
        let at = 4 + 8 * number as u64;
        if at + 7 > tss.limit as u64 {
            return Err(self.invalid_tss(error_code(tss.selector)));
        }
        self.read_table(bus, tss.base, at)
    }
}
