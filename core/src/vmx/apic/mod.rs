//! APIC virtualization and virtual interrupts (SDM vol. 3, chapter 30).
//!
//! Nothing here is on the way of a guest whose VMCS has none of these controls: the APIC-access page is never in the
//! TLB, so that only the slow path of an access asks for it, and what is to follow an instruction is one look at a
//! boundary.

pub mod emulation;
pub mod interrupts;
pub mod ipi;
pub mod msr;
pub mod page;
pub mod posted;
pub mod registers;
#[cfg(test)]
mod tests;

use super::boundary;
use super::cause::Cause;
use super::controls::{primary, secondary, tertiary};
use super::fields::field;
use super::state::Controls;
use super::vmcs::Vmcs;
use crate::cpu::{Activity, Cpu, Done};
use crate::mmu::tlb::PAGE_MASK;
use crate::platform::Bus;

/// No page begins here.
const NO_PAGE: u64 = 1;

/// What a processor keeps of the virtual APIC while its guest runs.
#[derive(Clone, Copy, Debug)]
pub struct State {
    /// Host-physical address of the APIC-access page; `NO_PAGE` where accesses are not virtualized.
    page: u64,
    /// The write to that page which the operation under way has made.
    written: Option<Written>,
    /// The exit that follows the operation under way.
    trap: Option<Trap>,
    /// A virtual interrupt has been recognized.
    recognized: bool,
}

/// A virtualized write to the APIC-access page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Written {
    /// In the page.
    offset: u16,
    bytes: u8,
}

/// A VM exit that an operation causes and that comes after it.
#[derive(Clone, Copy, Debug)]
struct Trap {
    reason: u16,
    qualification: u64,
    cause: Cause,
}

impl Default for State {
    fn default() -> State {
        State {
            page: NO_PAGE,
            written: None,
            trap: None,
            recognized: false,
        }
    }
}

impl State {
    /// At the beginning of a VM entry.
    pub fn begin(controls: &Controls, vmcs: &Vmcs) -> State {
        State {
            page: if controls.secondary & secondary::VIRTUALIZE_APIC_ACCESSES != 0 {
                vmcs.get(field::APIC_ACCESS_ADDRESS)
            } else {
                NO_PAGE
            },
            ..State::default()
        }
    }

    /// Whether host-physical `address` lies on the APIC-access page.
    #[inline]
    pub fn is_access_page(&self, address: u64) -> bool {
        address & PAGE_MASK == self.page
    }

    /// What tells translations made with one APIC-access page from those made with another, or with none.
    #[inline]
    pub fn tag(&self) -> u64 {
        self.page
    }

    /// The operation under way has written to the APIC-access page.
    #[inline]
    pub fn is_writing(&self) -> bool {
        self.written.is_some()
    }

    /// Whether something is to follow the operation under way, or a virtual interrupt to be delivered.
    #[inline(always)]
    pub fn waits(&self) -> bool {
        self.written.is_some() | self.trap.is_some() | self.recognized
    }

    /// The first of several exits that an operation causes is taken.
    fn exit_after(&mut self, reason: u16, qualification: u64, cause: Cause) {
        self.trap.get_or_insert(Trap {
            reason,
            qualification,
            cause,
        });
    }
}

fn tpr_shadow(cpu: &Cpu) -> bool {
    cpu.vmx.controls.primary & primary::USE_TPR_SHADOW != 0
}

fn register_virtualization(cpu: &Cpu) -> bool {
    cpu.vmx.controls.secondary & secondary::APIC_REGISTER_VIRTUALIZATION != 0
}

fn interrupt_delivery(cpu: &Cpu) -> bool {
    cpu.vmx.controls.secondary & secondary::VIRTUAL_INTERRUPT_DELIVERY != 0
}

fn ipi_virtualization(cpu: &Cpu) -> bool {
    cpu.vmx.controls.tertiary & tertiary::IPI_VIRTUALIZATION != 0
}

/// What follows an operation of the guest: APIC-write emulation, and the exits of TPR, EOI and APIC-write
/// virtualization. It comes before INIT and all that has a lower priority, and nothing blocks it (SDM vol. 3, 30.4.3.2).
#[inline]
pub fn complete(cpu: &mut Cpu, bus: &mut Bus) -> Done {
    if cpu.vmx.apic.written.is_none() && cpu.vmx.apic.trap.is_none() {
        return Ok(());
    }
    follow(cpu, bus)
}

#[cold]
fn follow(cpu: &mut Cpu, bus: &mut Bus) -> Done {
    if let Some(written) = cpu.vmx.apic.written.take() {
        emulation::after_write(cpu, bus, written.offset);
    }
    // The exit of a VM entry with the TPR below the threshold waits in these states (SDM vol. 3, 27.7.7).
    if matches!(cpu.activity, Activity::Shutdown | Activity::WaitForSipi) {
        return Ok(());
    }
    match cpu.vmx.apic.trap.take() {
        Some(trap) => {
            let stop = boundary::asynchronous(cpu, trap.reason, trap.cause);
            cpu.vmx.exit.qualification = trap.qualification;
            Err(stop)
        }
        None => Ok(()),
    }
}
