//! Extended page tables (SDM vol. 3, 29.3): the second translation of a guest. One walker serves the processor, which
//! sets accessed and dirty flags and exits, and the debugger, which changes nothing and wants to see every level.

use super::paging::{Access, Kind, Leaf, Step, Tables};
use super::sub_page::{self, Permission};
use crate::cpu::bits::CR0_PE;
use crate::cpu::exception::vector;
use crate::cpu::{Cpu, Stop};
use crate::platform::Bus;
use crate::vmx::apic;
use crate::vmx::capability::{ept_vpid, Capabilities};
use crate::vmx::cause::Cause;
use crate::vmx::controls::{secondary, tertiary};
use crate::vmx::fields::field;
use crate::vmx::page_log;
use crate::vmx::reasons::reason;
use crate::vmx::state::{Exit, SavedRf};

/// Rights, as the bits of an entry. With mode-based execute control `EXECUTE` is for supervisor-mode linear addresses.
pub const READ: u64 = 1 << 0;
pub const WRITE: u64 = 1 << 1;
pub const EXECUTE: u64 = 1 << 2;
pub const USER_EXECUTE: u64 = 1 << 10;
/// In an entry that maps a page: guest paging may write to it although `WRITE` is 0, with "EPT paging-write control".
const PAGING_WRITE: u64 = 1 << 58;
/// In an entry that maps a page: with "guest-paging verification" a linear address may lead there only by guest paging
/// structures on pages that have `PAGING_WRITE`.
const VERIFY_GUEST_PAGING: u64 = 1 << 57;
/// In an entry that maps a page or is not present: its EPT violations exit even with "EPT-violation #VE".
const SUPPRESS_VE: u64 = 1 << 63;
const LARGE: u64 = 1 << 7;
const ACCESSED: u64 = 1 << 8;
const DIRTY: u64 = 1 << 9;
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;

/// Bit 6 of the EPT pointer.
const POINTER_ACCESSED_DIRTY: u64 = 1 << 6;

/// Bits of the exit qualification of an EPT violation (SDM vol. 3, table 28-7).
const FETCH: u64 = 1 << 2;
const USER_EXECUTABLE: u64 = 1 << 6;
const LINEAR_VALID: u64 = 1 << 7;
const TRANSLATED: u64 = 1 << 8;
const USER_ADDRESS: u64 = 1 << 9;
const WRITABLE_ADDRESS: u64 = 1 << 10;
const EXECUTE_DISABLE_ADDRESS: u64 = 1 << 11;
const NMI_UNBLOCKING: u64 = 1 << 12;
const SHADOW_STACK_ACCESS: u64 = 1 << 13;
const GUEST_PAGING: u64 = 1 << 15;

/// Of the exit qualification of an SPP-related event: a miss, not a misconfiguration.
const SUB_PAGE_MISS: u64 = 1 << 11;

/// Whether VM entry takes `pointer` as an EPT pointer (SDM vol. 3, 27.2.1.1). `width` is that of physical addresses.
pub fn pointer_is_valid(capabilities: &Capabilities, width: u32, pointer: u64) -> bool {
    let has = |bit| capabilities.ept_vpid() & bit != 0;
    let memory_type = match pointer & 7 {
        0 => has(ept_vpid::MEMORY_TYPE_UC),
        6 => has(ept_vpid::MEMORY_TYPE_WB),
        _ => false,
    };
    let levels = match pointer >> 3 & 7 {
        3 => has(ept_vpid::WALK_4),
        4 => has(ept_vpid::WALK_5),
        _ => false,
    };
    memory_type
        && levels
        && (pointer & POINTER_ACCESSED_DIRTY == 0 || has(ept_vpid::ACCESSED_DIRTY))
        && (pointer & 1 << 7 == 0 || has(ept_vpid::SUPERVISOR_SHADOW_STACK))
        && pointer & 0xf00 == 0
        && pointer >> width == 0
}

/// What rules a walk.
#[derive(Clone, Copy, Debug)]
pub struct Control {
    /// The EPT pointer.
    pub pointer: u64,
    pub maxphyaddr: u32,
    pub execute_only: bool,
    pub pages_1g: bool,
    /// Mode-based execute control.
    pub mode_based: bool,
    /// EPT paging-write control.
    pub paging_writes: bool,
    /// The access is a paging write: to a guest paging structure, by the processor.
    pub paging_write: bool,
    /// The sub-page-permission-table pointer, where sub-page write permissions apply.
    pub sub_pages: Option<u64>,
}

impl Control {
    pub fn new(pointer: u64, cpu: &Cpu) -> Control {
        let offered = cpu.profile.capabilities().ept_vpid();
        let has = |bit| cpu.vmx.controls.secondary & bit != 0;
        Control {
            pointer,
            maxphyaddr: cpu.maxphyaddr(),
            execute_only: offered & ept_vpid::EXECUTE_ONLY != 0,
            pages_1g: offered & ept_vpid::PAGES_1G != 0,
            mode_based: has(secondary::MODE_BASED_EXECUTE_CONTROL_FOR_EPT),
            paging_writes: cpu.vmx.controls.tertiary & tertiary::EPT_PAGING_WRITE_CONTROL != 0,
            paging_write: false,
            sub_pages: has(secondary::SUB_PAGE_WRITE_PERMISSIONS_FOR_EPT)
                .then(|| cpu.vmx.get(field::SUB_PAGE_PERMISSION_TABLE_POINTER)),
        }
    }

    /// The same of a pointer that no VM entry has checked; `None` if it would be refused.
    pub fn checked(pointer: u64, cpu: &Cpu) -> Option<Control> {
        pointer_is_valid(cpu.profile.capabilities(), cpu.maxphyaddr(), pointer)
            .then(|| Control::new(pointer, cpu))
    }

    /// The bits of an entry that are rights.
    fn rights(&self) -> u64 {
        READ | WRITE | EXECUTE | if self.mode_based { USER_EXECUTE } else { 0 }
    }

    fn accessed_dirty(&self) -> bool {
        self.pointer & POINTER_ACCESSED_DIRTY != 0
    }

    /// Whether an entry that is present is malformed (SDM vol. 3, 29.3.3.1).
    fn misconfigured(&self, level: u8, entry: u64, leaf: bool) -> bool {
        let rights = entry & self.rights();
        let paging_write = leaf && self.paging_writes && entry & PAGING_WRITE != 0;
        if rights & READ == 0 && (rights & WRITE != 0 || paging_write || !self.execute_only) {
            return true;
        }
        let mut reserved = ADDRESS & !((1 << self.maxphyaddr) - 1);
        if leaf {
            reserved |= ((1 << (12 + 9 * (level - 1))) - 1) & ADDRESS;
            if matches!(entry >> 3 & 7, 2 | 3 | 7) {
                return true;
            }
        } else {
            // Of a table's reference bits 6:3 are 0; bit 7 too, or it would be a page.
            reserved |= 0xf8;
        }
        entry & reserved != 0
    }
}

/// A guest-physical address translated.
#[derive(Clone, Copy, Debug)]
pub struct Page {
    /// Host-physical, of the byte.
    pub physical: u64,
    pub page_bytes: u64,
    /// What all entries of the walk allow.
    pub rights: u64,
    /// A write needs no further flag in the tables.
    pub dirty: bool,
    /// The entry that maps it.
    pub step: Step,
}

/// Why there is no translation.
#[derive(Clone, Copy, Debug)]
pub enum Failure<E> {
    /// `rights`: what all entries together allow. `by` is the first entry that denies the access; `last` is where the walk
    /// ended, at the page or at what is not present; `vector` the sub-page permissions that deny a write too.
    Violation {
        rights: u64,
        by: Step,
        last: Step,
        vector: Option<Step>,
    },
    Misconfiguration {
        by: Step,
    },
    /// The tables of sub-page permissions have no vector for the page, or an entry that is malformed.
    SubPage {
        by: Step,
        miss: bool,
    },
    Tables(E),
}

/// Translates guest-physical `address` for an access that needs `wanted` (`READ`, `WRITE`, `EXECUTE`, `USER_EXECUTE`).
pub fn walk<T: Tables>(
    control: &Control,
    tables: &mut T,
    address: u64,
    wanted: u64,
) -> Result<Page, Failure<T::Error>> {
    let mut level = (control.pointer >> 3 & 7) as u8 + 1;
    let mut table = control.pointer & ADDRESS & ((1 << control.maxphyaddr) - 1);
    let mut rights = control.rights();
    let mut denied = None;
    // An address that the levels do not reach is not mapped.
    let beyond = address >> (12 + 9 * level as u32) != 0;
    loop {
        let shift = 12 + 9 * (level as u32 - 1);
        let at = table + (address >> shift & 0x1ff) * 8;
        let entry = tables.load(at, 8).map_err(Failure::Tables)?;
        let step = Step {
            level,
            address: at,
            entry,
        };
        tables.step(step);
        if entry & control.rights() == 0 || beyond {
            return Err(Failure::Violation {
                rights: 0,
                by: step,
                last: step,
                vector: None,
            });
        }
        let large = entry & LARGE != 0 && (level == 2 || level == 3 && control.pages_1g);
        let leaf = level == 1 || large;
        if control.misconfigured(level, entry, leaf) {
            return Err(Failure::Misconfiguration { by: step });
        }
        rights &= entry;
        let paging_write = leaf && control.paging_writes && control.paging_write && entry & PAGING_WRITE != 0;
        if wanted & !(entry | if paging_write { WRITE } else { 0 }) != 0 {
            denied.get_or_insert(step);
        }
        if !leaf {
            if control.accessed_dirty() && entry & ACCESSED == 0 {
                tables.store(at, 8, entry | ACCESSED).map_err(Failure::Tables)?;
            }
            table = entry & ADDRESS;
            level -= 1;
            continue;
        }
        if let Some(by) = denied {
            permitted(control, tables, address, wanted, rights, by, step)?;
        }
        let mut dirty = true;
        if control.accessed_dirty() {
            let write = wanted & WRITE != 0;
            let flags = ACCESSED | if write { DIRTY } else { 0 };
            if entry & flags != flags {
                if write {
                    tables.dirty(address).map_err(Failure::Tables)?;
                }
                tables.store(at, 8, entry | flags).map_err(Failure::Tables)?;
            }
            dirty = write || entry & DIRTY != 0;
        }
        let page_bytes = 1u64 << shift;
        return Ok(Page {
            physical: entry & ADDRESS & !(page_bytes - 1) | address & (page_bytes - 1),
            page_bytes,
            rights,
            dirty,
            step,
        });
    }
}

/// Whether sub-page permissions let a write pass that an entry, `by`, denies. `last`: the entry that maps the page.
#[cold]
fn permitted<T: Tables>(
    control: &Control,
    tables: &mut T,
    address: u64,
    wanted: u64,
    rights: u64,
    by: Step,
    last: Step,
) -> Result<(), Failure<T::Error>> {
    let mut violation = Failure::Violation {
        rights,
        by,
        last,
        vector: None,
    };
    let eligible = last.level == 1 && last.entry & sub_page::ELIGIBLE != 0 && wanted & !rights == WRITE;
    let Some(pointer) = control.sub_pages.filter(|_| eligible) else {
        return Err(violation);
    };
    let (permission, step) =
        sub_page::permission(tables, pointer, control.maxphyaddr, address).map_err(Failure::Tables)?;
    match permission {
        Permission::Allowed => return Ok(()),
        Permission::Denied => {
            if let Failure::Violation { vector, .. } = &mut violation {
                *vector = Some(step);
            }
        }
        Permission::Miss | Permission::Misconfigured => {
            violation = Failure::SubPage {
                by: step,
                miss: permission == Permission::Miss,
            }
        }
    }
    Err(violation)
}

/// A guest-physical page translated, and what the translation allows without a further look.
#[derive(Clone, Copy, Debug)]
pub struct Mapped {
    /// Host-physical.
    pub physical: u64,
    pub read: bool,
    pub write: bool,
    pub fetch: bool,
}

/// The tables as the processor reads them. Outside RAM every bit reads as 1.
struct Physical<'a> {
    cpu: &'a mut Cpu,
    bus: &'a mut Bus,
}

impl Tables for Physical<'_> {
    type Error = Stop;

    fn load(&mut self, address: u64, bytes: u64) -> Result<u64, Stop> {
        Ok(self.bus.read_table(self.cpu.id, address, bytes))
    }
    fn store(&mut self, address: u64, bytes: u64, entry: u64) -> Result<(), Stop> {
        self.bus.write_table_flags(self.cpu.id, address, bytes, entry);
        Ok(())
    }
    fn dirty(&mut self, address: u64) -> Result<(), Stop> {
        page_log::note(self.cpu, self.bus, address)
    }
}

/// What an access was made for: it decides the qualification's bits from 7 up.
#[derive(Clone, Copy)]
enum Purpose<'a> {
    /// The translation of a linear address.
    Final {
        linear: u64,
        leaf: &'a Leaf,
        shadow_stack: bool,
    },
    /// A guest paging-structure entry, on the way to translating `linear`.
    Table { linear: u64 },
    /// No linear address: the PDPTEs of a MOV to CR3.
    Physical,
}

fn run(
    cpu: &mut Cpu,
    bus: &mut Bus,
    pointer: u64,
    address: u64,
    wanted: u64,
    purpose: Purpose,
) -> Result<Page, Stop> {
    let mut control = Control::new(pointer, cpu);
    control.paging_write = matches!(purpose, Purpose::Table { .. });
    if !matches!(purpose, Purpose::Final { .. }) {
        // Never for guest paging structures (29.3.4.1).
        control.sub_pages = None;
    }
    let linear = match purpose {
        Purpose::Final { linear, .. } | Purpose::Table { linear } => linear,
        Purpose::Physical => 0,
    };
    let result = match walk(&control, &mut Physical { cpu, bus }, address, wanted) {
        Ok(page) => Ok(page),
        Err(Failure::Tables(stop)) => Err(stop),
        Err(Failure::Violation {
            rights,
            by,
            last,
            vector,
        }) => {
            let stop = violation(cpu, address, wanted, rights, purpose);
            cpu.vmx.exit.cause = match vector {
                None => cause(by),
                Some(vector) => sub_page_cause(vector),
            };
            Err(virtualization_exception(cpu, bus, last.entry).unwrap_or(stop))
        }
        Err(Failure::Misconfiguration { by }) => {
            cpu.vmx.exit = Exit {
                reason: reason::EPT_MISCONFIGURATION as u32,
                guest_physical: address,
                rf: SavedRf::of_access(cpu.vmx.vectoring.as_ref()),
                cause: cause(by),
                ..Exit::default()
            };
            Err(Stop::Exit)
        }
        Err(Failure::SubPage { by, miss }) => {
            cpu.vmx.exit = Exit {
                reason: reason::SPP_RELATED_EVENT as u32,
                qualification: if miss { SUB_PAGE_MISS } else { 0 } | nmi_unblocking(cpu),
                guest_linear: linear,
                guest_physical: address,
                rf: SavedRf::of_access(cpu.vmx.vectoring.as_ref()),
                cause: sub_page_cause(by),
                ..Exit::default()
            };
            Err(Stop::Exit)
        }
    };
    if cpu.vmx.token_acquired && matches!(result, Err(Stop::Exit)) {
        cpu.vmx.exit.guest_linear = linear;
    }
    result
}

fn sub_page_cause(by: Step) -> Cause {
    Cause::SubPage {
        level: by.level,
        address: by.address,
        entry: by.entry,
    }
}

fn nmi_unblocking(cpu: &Cpu) -> u64 {
    if cpu.vmx.iret_unblocked && cpu.vmx.vectoring.is_none() {
        NMI_UNBLOCKING
    } else {
        0
    }
}

fn cause(by: Step) -> Cause {
    Cause::Ept {
        level: by.level,
        address: by.address,
        entry: by.entry,
    }
}

#[cold]
fn violation(cpu: &mut Cpu, address: u64, wanted: u64, rights: u64, purpose: Purpose) -> Stop {
    let mut qualification =
        wanted & (READ | WRITE) | (rights & (READ | WRITE | EXECUTE)) << 3 | nmi_unblocking(cpu);
    if wanted & (EXECUTE | USER_EXECUTE) != 0 {
        qualification |= FETCH;
    }
    if rights & USER_EXECUTE != 0 {
        qualification |= USER_EXECUTABLE;
    }
    let mut guest_linear = 0;
    match purpose {
        Purpose::Final {
            linear,
            leaf,
            shadow_stack,
        } => {
            qualification |= LINEAR_VALID | TRANSLATED;
            if shadow_stack {
                qualification |= SHADOW_STACK_ACCESS;
            }
            guest_linear = linear;
            if cpu.profile.capabilities().ept_vpid() & ept_vpid::ADVANCED_EXIT_INFORMATION != 0 {
                let mut set = |on, bit| qualification |= if on { bit } else { 0 };
                set(leaf.user, USER_ADDRESS);
                set(leaf.writable, WRITABLE_ADDRESS);
                set(!leaf.executable, EXECUTE_DISABLE_ADDRESS);
            }
        }
        Purpose::Table { linear } => {
            qualification |= LINEAR_VALID;
            guest_linear = linear;
        }
        Purpose::Physical => {}
    }
    cpu.vmx.exit = Exit {
        reason: reason::EPT_VIOLATION as u32,
        qualification,
        guest_linear,
        guest_physical: address,
        rf: SavedRf::of_access(cpu.vmx.vectoring.as_ref()),
        ..Exit::default()
    };
    Stop::Exit
}

/// Makes #VE of the EPT violation in `cpu.vmx.exit` where that is convertible and the information area is free (SDM vol.
/// 3, 26.5.7). `last`: the entry at which the walk ended.
fn virtualization_exception(cpu: &mut Cpu, bus: &mut Bus, last: u64) -> Option<Stop> {
    const BUSY: u64 = 0xffff_ffff;
    let convertible = cpu.vmx.controls.secondary & secondary::EPT_VIOLATION_VE != 0
        && cpu.cr0 & CR0_PE != 0
        && cpu.vmx.vectoring.is_none()
        && !cpu.vmx.token_acquired
        && last & SUPPRESS_VE == 0;
    if !convertible {
        return None;
    }
    let area = cpu.vmx.get(field::VIRTUALIZATION_EXCEPTION_INFORMATION_ADDRESS);
    if bus.read_physical(cpu.id, area + 4, 4) != 0 {
        return None;
    }
    let exit = cpu.vmx.exit;
    for (offset, bytes, value) in [
        (0, 4, exit.reason as u64),
        (4, 4, BUSY),
        (8, 8, exit.qualification),
        (16, 8, exit.guest_linear),
        (24, 8, exit.guest_physical),
        (32, 2, cpu.vmx.get(field::EPTP_INDEX)),
    ] {
        bus.write_physical(cpu.id, area + offset, bytes, value);
    }
    Some(cpu.raise(vector::VIRTUALIZATION, None, 0))
}

/// Translates the guest-physical address of a final access.
pub fn translate(
    cpu: &mut Cpu,
    bus: &mut Bus,
    physical: u64,
    linear: u64,
    access: Access,
    leaf: &Leaf,
) -> Result<Mapped, Stop> {
    let Some(pointer) = cpu.vmx.ept_pointer else {
        return Ok(Mapped {
            physical,
            read: true,
            write: true,
            fetch: true,
        });
    };
    let mode_based = cpu.vmx.controls.secondary & secondary::MODE_BASED_EXECUTE_CONTROL_FOR_EPT != 0;
    let execute = if mode_based && leaf.user {
        USER_EXECUTE
    } else {
        EXECUTE
    };
    let wanted = match access.kind {
        Kind::Read => READ,
        Kind::Write => WRITE,
        Kind::Fetch => execute,
    };
    let purpose = Purpose::Final {
        linear,
        leaf,
        shadow_stack: access.shadow_stack,
    };
    let page = run(cpu, bus, pointer, physical, wanted, purpose)?;
    verify_guest_paging(cpu, bus, physical, wanted, &page, purpose)?;
    Ok(Mapped {
        physical: page.physical,
        read: page.rights & READ != 0,
        write: page.rights & WRITE != 0 && page.dirty,
        fetch: page.rights & execute != 0,
    })
}

/// Guest-paging verification, of a page that can be accessed (SDM vol. 3, 29.3.3.2).
fn verify_guest_paging(
    cpu: &mut Cpu,
    bus: &mut Bus,
    address: u64,
    wanted: u64,
    page: &Page,
    purpose: Purpose,
) -> Result<(), Stop> {
    const BOTH: u64 = tertiary::EPT_PAGING_WRITE_CONTROL | tertiary::GUEST_PAGING_VERIFICATION;
    let verified = cpu.vmx.controls.tertiary & BOTH != BOTH
        || page.step.entry & VERIFY_GUEST_PAGING == 0
        || cpu.vmx.paging_structures_writable;
    if verified {
        return Ok(());
    }
    let stop = violation(cpu, address, wanted, page.rights, purpose);
    cpu.vmx.exit.qualification |= GUEST_PAGING;
    cpu.vmx.exit.cause = Cause::GuestPaging {
        address: page.step.address,
        entry: page.step.entry,
    };
    Err(virtualization_exception(cpu, bus, page.step.entry).unwrap_or(stop))
}

/// Translates the guest-physical address of a paging-structure entry. With accessed and dirty flags for EPT every such
/// access counts as a write (SDM vol. 3, 29.3.5).
pub fn translate_table(
    cpu: &mut Cpu,
    bus: &mut Bus,
    physical: u64,
    linear: u64,
    write: bool,
) -> Result<u64, Stop> {
    let Some(pointer) = cpu.vmx.ept_pointer else {
        return Ok(physical);
    };
    let write = write || pointer & POINTER_ACCESSED_DIRTY != 0;
    let wanted = READ | if write { WRITE } else { 0 };
    let page = run(cpu, bus, pointer, physical, wanted, Purpose::Table { linear })?;
    cpu.vmx.paging_structures_writable &= page.step.entry & PAGING_WRITE != 0;
    not_apic(cpu, page.physical)
}

/// An access by a guest-physical address never is one to the APIC (SDM vol. 3, 30.4.6.1).
fn not_apic(cpu: &mut Cpu, physical: u64) -> Result<u64, Stop> {
    if cpu.vmx.apic.is_access_page(physical) {
        return Err(apic::page::guest_physical(cpu, physical));
    }
    Ok(physical)
}

/// Reads 8 bytes at an address that is physical to the running program and that no linear address stands for.
pub fn read_physical(cpu: &mut Cpu, bus: &mut Bus, physical: u64) -> Result<u64, Stop> {
    let host = match cpu.vmx.ept_pointer {
        None => physical,
        Some(pointer) => {
            let write = pointer & POINTER_ACCESSED_DIRTY != 0;
            let wanted = READ | if write { WRITE } else { 0 };
            let page = run(cpu, bus, pointer, physical, wanted, Purpose::Physical)?;
            not_apic(cpu, page.physical)?
        }
    };
    Ok(bus.read_physical(cpu.id, host, 8))
}
