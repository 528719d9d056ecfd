//! Paging: 32-bit, PAE and 4- and 5-level (SDM vol. 3, chapter 4). One walker serves the processor, which sets accessed
//! and dirty flags and faults, and the debugger, which changes nothing and wants to see every level.

use super::ept;
use super::tlb::{Privilege, PAGE_MASK};
use crate::cpu::bits::*;
use crate::cpu::{Cpu, Stop};
use crate::platform::Bus;

/// Bits of a page-fault error code (SDM vol. 3, 4.7).
pub mod error {
    pub const PRESENT: u32 = 1 << 0;
    pub const WRITE: u32 = 1 << 1;
    pub const USER: u32 = 1 << 2;
    pub const RESERVED: u32 = 1 << 3;
    pub const FETCH: u32 = 1 << 4;
    pub const PROTECTION_KEY: u32 = 1 << 5;
    pub const SHADOW_STACK: u32 = 1 << 6;
}

const PRESENT: u64 = 1 << 0;
const WRITABLE: u64 = 1 << 1;
const USER: u64 = 1 << 2;
const ACCESSED: u64 = 1 << 5;
const DIRTY: u64 = 1 << 6;
const LARGE: u64 = 1 << 7;
const NO_EXECUTE: u64 = 1 << 63;

/// What is wanted of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access {
    pub kind: Kind,
    pub privilege: Privilege,
    /// By a shadow-stack instruction, or as a part of a call, a return or an event.
    pub shadow_stack: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Read,
    Write,
    Fetch,
}

impl Access {
    pub fn read(privilege: Privilege) -> Access {
        Access {
            kind: Kind::Read,
            privilege,
            shadow_stack: false,
        }
    }
    pub fn write(privilege: Privilege) -> Access {
        Access {
            kind: Kind::Write,
            privilege,
            shadow_stack: false,
        }
    }
    pub fn fetch(privilege: Privilege) -> Access {
        Access {
            kind: Kind::Fetch,
            privilege,
            shadow_stack: false,
        }
    }
    pub fn of_shadow_stack(self) -> Access {
        Access {
            shadow_stack: true,
            ..self
        }
    }
    fn user(self) -> bool {
        matches!(self.privilege, Privilege::User | Privilege::UserAligned)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Off,
    Bits32,
    Pae,
    Level4,
    Level5,
}

/// The registers that rule a translation: the processor's own, or those of a world that is not running.
#[derive(Clone, Copy, Debug)]
pub struct Control {
    pub mode: Mode,
    pub cr0: u64,
    pub cr3: u64,
    pub cr4: u64,
    pub efer: u64,
    /// Used in `Mode::Pae` only.
    pub pdpte: [u64; 4],
    pub maxphyaddr: u32,
    pub pkru: u32,
    pub pkrs: u32,
    pub huge_pages: bool,
}

impl Control {
    pub fn new(cr0: u64, cr3: u64, cr4: u64, efer: u64, pdpte: [u64; 4], cpu: &Cpu) -> Control {
        let mode = if cr0 & CR0_PG == 0 {
            Mode::Off
        } else if cr4 & CR4_PAE == 0 {
            Mode::Bits32
        } else if efer & EFER_LMA == 0 {
            Mode::Pae
        } else if cr4 & CR4_LA57 == 0 {
            Mode::Level4
        } else {
            Mode::Level5
        };
        Control {
            mode,
            cr0,
            cr3,
            cr4,
            efer,
            pdpte,
            maxphyaddr: cpu.maxphyaddr(),
            pkru: cpu.msr.pkru,
            pkrs: cpu.msr.pkrs as u32,
            huge_pages: cpu.profile.has_1g_pages(),
        }
    }

    pub fn of(cpu: &Cpu) -> Control {
        Control::new(cpu.cr0, cpu.cr3, cpu.cr4, cpu.efer, cpu.pdpte, cpu)
    }

    fn no_execute(&self) -> bool {
        self.efer & EFER_NXE != 0
    }
}

/// One entry that a walk used.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    /// 5: PML5E … 2: PDE, 1: PTE.
    pub level: u8,
    /// Guest-physical address of the entry.
    pub address: u64,
    pub entry: u64,
}

/// Where a walk reads its entries.
pub trait Tables {
    type Error;
    /// The entry of 4 or 8 bytes at guest-physical `address`.
    fn load(&mut self, address: u64, bytes: u64) -> Result<u64, Self::Error>;
    fn store(&mut self, address: u64, bytes: u64, entry: u64) -> Result<(), Self::Error>;
    fn step(&mut self, _step: Step) {}
    /// EPT: a page is about to become dirty, by a write to this guest-physical address.
    fn dirty(&mut self, _address: u64) -> Result<(), Self::Error> {
        Ok(())
    }
}

pub enum Failure<E> {
    /// The error code of the #PF.
    Fault(u32),
    Tables(E),
}

impl<E> From<E> for Failure<E> {
    fn from(error: E) -> Self {
        Failure::Tables(error)
    }
}

/// A translation with what it allows.
#[derive(Clone, Copy, Debug)]
pub struct Leaf {
    /// Guest-physical.
    pub physical: u64,
    pub page_bytes: u64,
    pub user: bool,
    pub writable: bool,
    pub executable: bool,
    pub dirty: bool,
    /// Read-only in the entry that maps it alone, and dirty (SDM vol. 3, 4.6).
    pub shadow_stack: bool,
    pub key: u8,
}

impl Leaf {
    /// SDM vol. 3, 4.6.
    pub fn allows(&self, control: &Control, access: Access) -> bool {
        let (user, write) = (access.user(), access.kind == Kind::Write);
        if access.kind == Kind::Fetch {
            return self.executable
                && if user {
                    self.user
                } else {
                    !(self.user && control.cr4 & CR4_SMEP != 0)
                };
        }
        if access.shadow_stack {
            return self.shadow_stack && self.user == user && self.key_allows(control, user, write);
        }
        let by_mode = if user {
            self.user
        } else {
            !(self.user && control.cr4 & CR4_SMAP != 0 && access.privilege != Privilege::SupervisorAc)
        };
        by_mode
            && (!write || self.writable || !user && control.cr0 & CR0_WP == 0)
            && self.key_allows(control, user, write)
    }

    /// SDM vol. 3, 4.6.2.
    fn key_allows(&self, control: &Control, user: bool, write: bool) -> bool {
        let (enabled, rights) = if self.user {
            (CR4_PKE, control.pkru)
        } else {
            (CR4_PKS, control.pkrs)
        };
        if control.mode < Mode::Level4 || control.cr4 & enabled == 0 {
            return true;
        }
        let bits = rights >> (self.key * 2) & 3;
        let guarded = user || control.cr0 & CR0_WP != 0;
        bits & 1 == 0 && !(write && bits & 2 != 0 && guarded)
    }
}

impl PartialOrd for Mode {
    fn partial_cmp(&self, other: &Mode) -> Option<std::cmp::Ordering> {
        (*self as u8).partial_cmp(&(*other as u8))
    }
}

/// Translates `linear`, giving the leaf even where the walk's tables forbid nothing but the access does: see `Failure`.
pub fn walk<T: Tables>(
    control: &Control,
    tables: &mut T,
    linear: u64,
    access: Access,
) -> Result<Leaf, Failure<T::Error>> {
    let (mut level, mut table, bits, bytes) = match control.mode {
        Mode::Off => {
            let physical = linear & 0xffff_ffff;
            return Ok(Leaf {
                physical,
                page_bytes: 0x1000,
                user: true,
                writable: true,
                executable: true,
                dirty: true,
                shadow_stack: true,
                key: 0,
            });
        }
        Mode::Bits32 => (2, control.cr3 & 0xffff_f000, 10, 4),
        Mode::Pae => (2, 0, 9, 8),
        Mode::Level4 => (4, control.cr3 & PAGE_MASK, 9, 8),
        Mode::Level5 => (5, control.cr3 & PAGE_MASK, 9, 8),
    };
    let physical_mask = (1u64 << control.maxphyaddr) - 1;
    let above_physical = !physical_mask & 0x000f_ffff_ffff_f000;
    table &= physical_mask;
    let fault = |code: u32| {
        let code =
            code | if access.kind == Kind::Write {
                error::WRITE
            } else {
                0
            } | if access.user() { error::USER } else { 0 }
                | if access.kind == Kind::Fetch
                    && (control.no_execute() && bytes == 8 || control.cr4 & CR4_SMEP != 0)
                {
                    error::FETCH
                } else {
                    0
                }
                | if access.shadow_stack {
                    error::SHADOW_STACK
                } else {
                    0
                };
        Failure::Fault(code)
    };

    if control.mode == Mode::Pae {
        let entry = control.pdpte[(linear >> 30 & 3) as usize];
        tables.step(Step {
            level: 3,
            address: (control.cr3 & !31) + (linear >> 30 & 3) * 8,
            entry,
        });
        if entry & PRESENT == 0 {
            return Err(fault(0));
        }
        table = entry & physical_mask & PAGE_MASK;
    }

    let (mut user, mut writable, mut executable) = (true, true, true);
    loop {
        let shift = 12 + (level as u64 - 1) * bits;
        let index = linear >> shift & ((1 << bits) - 1);
        let address = table + index * bytes;
        let entry = tables.load(address, bytes)?;
        tables.step(Step {
            level,
            address,
            entry,
        });
        if entry & PRESENT == 0 {
            return Err(fault(0));
        }
        let large = entry & LARGE != 0
            && match (control.mode, level) {
                (Mode::Bits32, 2) => control.cr4 & CR4_PSE != 0,
                (_, 2) => true,
                (_, 3) => control.huge_pages,
                _ => false,
            };
        let leaf = level == 1 || large;
        let reserved = if bytes == 4 {
            // PSE-36: bits 20:13 of a 4-MByte entry are address bits 39:32, bit 21 is reserved.
            if large {
                let high = (control.maxphyaddr.min(40) - 32) as u64;
                1 << 21 | (0xff << (13 + high)) & 0x1f_e000
            } else {
                0
            }
        } else {
            let size_bit = if level >= 4 || level == 3 && !control.huge_pages {
                LARGE
            } else {
                0
            };
            let low = if large { (1u64 << shift) - 0x2000 } else { 0 };
            let high = if control.mode == Mode::Pae {
                0x7ff0_0000_0000_0000
            } else {
                0
            };
            let nx = if control.no_execute() { 0 } else { NO_EXECUTE };
            above_physical | size_bit | low | high | nx
        };
        if entry & reserved != 0 {
            return Err(fault(error::PRESENT | error::RESERVED));
        }
        let writable_above = writable;
        user &= entry & USER != 0;
        writable &= entry & WRITABLE != 0;
        executable &= bytes == 4 || entry & NO_EXECUTE == 0;
        if !leaf {
            if entry & ACCESSED == 0 {
                tables.store(address, bytes, entry | ACCESSED)?;
            }
            table = entry & physical_mask & PAGE_MASK;
            level -= 1;
            continue;
        }

        let page_bytes = if large { 1u64 << shift } else { 0x1000 };
        let frame = if bytes == 4 && large {
            (entry & 0xffc0_0000 | (entry & 0x1f_e000) << 19) & physical_mask
        } else {
            entry & physical_mask & PAGE_MASK & !(page_bytes - 1)
        };
        let write = access.kind == Kind::Write;
        let found = Leaf {
            physical: frame | linear & (page_bytes - 1),
            page_bytes,
            user,
            writable,
            executable,
            dirty: write || entry & DIRTY != 0,
            shadow_stack: writable_above && entry & (WRITABLE | DIRTY) == DIRTY,
            key: (entry >> 59 & 15) as u8,
        };
        if !found.allows(control, access) {
            // Whatever else denies the access (SDM vol. 3, 4.7).
            let by_key = access.kind != Kind::Fetch && !found.key_allows(control, access.user(), write);
            return Err(fault(
                error::PRESENT | if by_key { error::PROTECTION_KEY } else { 0 },
            ));
        }
        let wanted = entry | ACCESSED | if write { DIRTY } else { 0 };
        if wanted != entry {
            tables.store(address, bytes, wanted)?;
        }
        return Ok(found);
    }
}

/// The processor's own walks: through EPT in a guest that has it.
struct Running<'a> {
    cpu: &'a mut Cpu,
    bus: &'a mut Bus,
    linear: u64,
}

impl Tables for Running<'_> {
    type Error = Stop;

    fn load(&mut self, address: u64, bytes: u64) -> Result<u64, Stop> {
        let host = ept::translate_table(self.cpu, self.bus, address, self.linear, false)?;
        Ok(self.bus.read_table(self.cpu.id, host, bytes))
    }
    fn store(&mut self, address: u64, bytes: u64, entry: u64) -> Result<(), Stop> {
        let host = ept::translate_table(self.cpu, self.bus, address, self.linear, true)?;
        self.bus.write_table_flags(self.cpu.id, host, bytes, entry);
        Ok(())
    }
}

/// Translates for the running program: host-physical address, the TLB filled, or a #PF or VM exit raised.
#[cold]
#[inline(never)]
pub fn translate(cpu: &mut Cpu, bus: &mut Bus, linear: u64, access: Access) -> Result<u64, Stop> {
    let result = translate_and_fill(cpu, bus, linear, access);
    guard_tables(cpu, bus);
    result
}

/// From now on writes to the tables that a walk has just come across are noticed.
pub fn guard_tables(cpu: &mut Cpu, bus: &mut Bus) {
    while let Some(page) = bus.new_tables.pop() {
        cpu.tlb.forget_writes(page);
        bus.newly_guarded.push(page);
    }
}

fn translate_and_fill(cpu: &mut Cpu, bus: &mut Bus, linear: u64, access: Access) -> Result<u64, Stop> {
    let control = Control::of(cpu);
    cpu.vmx.paging_structures_writable = true;
    let leaf = match walk(&control, &mut Running { cpu, bus, linear }, linear, access) {
        Ok(leaf) => leaf,
        Err(Failure::Tables(stop)) => return Err(stop),
        Err(Failure::Fault(code)) => return Err(cpu.page_fault(linear, code)),
    };
    let mapped = ept::translate(cpu, bus, leaf.physical, linear, access, &leaf)?;
    fill(cpu, bus, linear, &control, access.privilege, &leaf, &mapped);
    Ok(mapped.physical)
}

fn fill(
    cpu: &mut Cpu,
    bus: &Bus,
    linear: u64,
    control: &Control,
    privilege: Privilege,
    leaf: &Leaf,
    mapped: &ept::Mapped,
) {
    let page = linear & PAGE_MASK;
    let Some(ram) = bus.ram_at(cpu.id, mapped.physical & PAGE_MASK) else {
        return;
    };
    if cpu.vmx.apic.is_access_page(mapped.physical) {
        return;
    }
    if privilege == Privilege::UserAligned || bus.debug.watches.touch(page, 0x1000) || cpu.watches_page(page)
    {
        return;
    }
    let allowed = |kind| {
        let access = Access {
            kind,
            privilege,
            shadow_stack: false,
        };
        leaf.allows(control, access)
    };
    let write = mapped.write && leaf.dirty && allowed(Kind::Write) && bus.ram.is_plain(ram as u64);
    let entry = super::tlb::Filled {
        read: mapped.read && allowed(Kind::Read),
        write,
        fetch: mapped.fetch && allowed(Kind::Fetch),
        ram: ram as u64,
        page_bytes: leaf.page_bytes,
    };
    cpu.tlb.fill(linear, privilege, entry);
}
