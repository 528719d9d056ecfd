//! Accesses to the APIC-access page (SDM vol. 3, 30.4): made on the virtual-APIC page instead, or exits.
//!
//! The SDM guarantees this for translations with 4-KByte pages; here the size of the page does not matter. Accesses by
//! physical addresses without EPT, and those of the processor to VMX's own structures, go to the page itself (30.4.6.2
//! leaves it open).

use super::registers::{self, VirtualApic, EOI, ICR, TPR};
use super::{interrupt_delivery, ipi_virtualization, register_virtualization, tpr_shadow, Written};
use crate::cpu::{Cpu, Stop};
use crate::vmx::cause::Cause;
use crate::vmx::reasons::reason;
use crate::vmx::state::{Exit, SavedRf};

/// What an access by a linear address is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    Read,
    Write,
    /// A read and a write of one instruction; a write as far as faults and qualifications say.
    Update,
    Fetch,
}

/// Why an access exits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    NoTprShadow,
    Fetch,
    /// More than 32 bits.
    Wide {
        bytes: u16,
    },
    /// Not within the low 4 bytes of 16.
    Misplaced {
        bytes: u16,
    },
    /// The operation has made another virtualized write before.
    SecondAccess,
    /// The controls do not virtualize reads (or writes) of this register.
    Register {
        write: bool,
    },
    /// An access by a guest-physical address: to paging structures.
    GuestPhysical,
}

/// Access types of the exit qualification (SDM vol. 3, table 28-6), in bits 15:12.
const DATA_WRITE: u64 = 1 << 12;
const INSTRUCTION_FETCH: u64 = 2 << 12;
const EVENT_DELIVERY: u64 = 3 << 12;
const PHYSICAL_EVENT_DELIVERY: u64 = 10 << 12;
const PHYSICAL: u64 = 15 << 12;

/// An access of `bytes` bytes at host-physical `address` on the APIC-access page, of which `linear` is the translation:
/// where on the virtual-APIC page it is made, or the exit.
#[cold]
pub fn redirect(cpu: &mut Cpu, address: u64, bytes: u64, usage: Use) -> Result<u64, Stop> {
    let offset = address as u16 & 0xfff;
    match refusal(cpu, offset, bytes, usage) {
        Some(refusal) => Err(linear(cpu, offset, usage, refusal)),
        None => Ok(VirtualApic::of(cpu).address + offset as u64),
    }
}

/// An access of `bytes` bytes in all began on another page and goes on at host-physical `address` on the APIC-access page.
#[cold]
pub fn crossed_into(cpu: &mut Cpu, address: u64, bytes: u64, usage: Use) -> Stop {
    let bytes = bytes.min(u16::MAX as u64) as u16;
    linear(cpu, address as u16 & 0xfff, usage, Refusal::Misplaced { bytes })
}

fn linear(cpu: &mut Cpu, offset: u16, usage: Use, refusal: Refusal) -> Stop {
    let kind = match usage {
        _ if cpu.vmx.vectoring.is_some() => EVENT_DELIVERY,
        Use::Fetch => INSTRUCTION_FETCH,
        Use::Write | Use::Update => DATA_WRITE,
        Use::Read => 0,
    };
    exit(cpu, offset, kind, refusal)
}

/// An access by a guest-physical address that EPT translates to the APIC-access page.
#[cold]
pub fn guest_physical(cpu: &mut Cpu, address: u64) -> Stop {
    let kind = if cpu.vmx.vectoring.is_some() {
        PHYSICAL_EVENT_DELIVERY
    } else {
        PHYSICAL
    };
    exit(cpu, address as u16 & 0xfff, kind, Refusal::GuestPhysical)
}

fn exit(cpu: &mut Cpu, offset: u16, kind: u64, refusal: Refusal) -> Stop {
    cpu.vmx.exit = Exit {
        reason: reason::APIC_ACCESS as u32,
        qualification: offset as u64 | kind,
        rf: SavedRf::of_access(cpu.vmx.vectoring.as_ref()),
        cause: Cause::ApicAccess { offset, refusal },
        ..Exit::default()
    };
    Stop::Exit
}

/// Why an access is not virtualized (30.4.2 and 30.4.3.1), if it is not.
fn refusal(cpu: &Cpu, offset: u16, bytes: u64, usage: Use) -> Option<Refusal> {
    let (read, write) = (usage != Use::Write, usage != Use::Read);
    let wide = bytes.min(u16::MAX as u64) as u16;
    if !tpr_shadow(cpu) {
        Some(Refusal::NoTprShadow)
    } else if usage == Use::Fetch {
        Some(Refusal::Fetch)
    } else if bytes > 4 {
        Some(Refusal::Wide { bytes: wide })
    } else if offset & 0xf > 4 - wide {
        Some(Refusal::Misplaced { bytes: wide })
    } else if is_second(cpu.vmx.apic.written, offset, wide as u8, read) {
        Some(Refusal::SecondAccess)
    } else if read && !is_virtualized(cpu, offset, false) {
        Some(Refusal::Register { write: false })
    } else if write && !is_virtualized(cpu, offset, true) {
        Some(Refusal::Register { write: true })
    } else {
        None
    }
}

/// After a virtualized write an operation can only make the same write again.
fn is_second(written: Option<Written>, offset: u16, bytes: u8, read: bool) -> bool {
    written.is_some_and(|before| read || before != Written { offset, bytes })
}

fn is_virtualized(cpu: &Cpu, offset: u16, write: bool) -> bool {
    match offset {
        TPR => true,
        EOI | ICR if interrupt_delivery(cpu) => true,
        ICR if write && ipi_virtualization(cpu) => true,
        _ => register_virtualization(cpu) && registers::is_virtualized(offset, write),
    }
}

/// `bytes` bytes were written at `address` on the virtual-APIC page, in place of the APIC-access page.
pub fn note_write(cpu: &mut Cpu, address: u64, bytes: u64) {
    cpu.vmx.apic.written = Some(Written {
        offset: address as u16 & 0xfff,
        bytes: bytes as u8,
    });
}
