//! What VMX looks at between two instructions of a guest, in the order of SDM vol. 3, 26.2 and 7.9. All of these are
//! called in VMX non-root operation only; each asks for its exit by `Err(Stop::Exit)`.

use super::cause::Cause;
use super::controls::{exit as exit_control, pin, primary, Word};
use super::exit::VALID;
use super::force;
use super::reasons::reason;
use super::state::{Exit, SavedRf};
use crate::cpu::exception::{vector, EventKind};
use crate::cpu::{flags, Activity, Cpu, Done, Shadow, Stop};
use crate::platform::Bus;

/// An exit that no instruction causes.
pub(super) fn asynchronous(cpu: &mut Cpu, reason: u16, cause: Cause) -> Stop {
    cpu.vmx.exit = Exit {
        reason: reason as u32,
        rf: SavedRf::Keep,
        cause,
        ..Exit::default()
    };
    Stop::Exit
}

/// The last instruction has asserted a bus lock: comes before SMIs and INIT (SDM vol. 3, 26.2).
pub fn bus_lock(cpu: &mut Cpu) -> Done {
    match cpu.vmx.bus_lock {
        None => Ok(()),
        Some((locked, why)) => {
            let cause = Cause::BusLock { locked, why };
            Err(asynchronous(cpu, reason::BUS_LOCK, cause))
        }
    }
}

/// Whether all that follows here, and APIC virtualization, would find nothing to do, with the processor active and no
/// signal and no interrupt pending.
#[inline(always)]
pub fn nothing_waits(cpu: &Cpu, bus: &Bus) -> bool {
    let vmx = &cpu.vmx;
    let waits = vmx.apic.waits()
        | vmx.mtf_pending
        | vmx.iret_unblocked
        | vmx.bus_lock.is_some()
        | bus.debug.catches.forced.is_some()
        | (vmx.controls.primary & (primary::NMI_WINDOW_EXITING | primary::INTERRUPT_WINDOW_EXITING) != 0)
        | vmx.timer.is_some_and(|deadline| deadline <= bus.clock);
    !waits
}

/// What comes before debug traps: the exits that a debugger forces, and the monitor trap flag.
pub fn trap(cpu: &mut Cpu, bus: &mut Bus) -> Done {
    cpu.vmx.iret_unblocked = false;
    force::check(cpu, bus)?;
    if std::mem::take(&mut cpu.vmx.mtf_pending) {
        let cause = Cause::Control(Word::Primary, primary::MONITOR_TRAP_FLAG);
        return Err(asynchronous(cpu, reason::MONITOR_TRAP_FLAG, cause));
    }
    Ok(())
}

/// What comes between debug traps and NMIs: the preemption timer and the NMI window.
pub fn check(cpu: &mut Cpu, bus: &mut Bus) -> Done {
    if cpu.vmx.timer.is_some_and(|deadline| deadline <= bus.clock) && cpu.activity != Activity::WaitForSipi {
        return Err(asynchronous(cpu, reason::PREEMPTION_TIMER, Cause::Timer));
    }
    let window = cpu.vmx.controls.primary & primary::NMI_WINDOW_EXITING != 0;
    if window && !cpu.nmi_blocked && cpu.shadow != Shadow::MovSs && cpu.activity != Activity::WaitForSipi {
        let cause = Cause::Control(Word::Primary, primary::NMI_WINDOW_EXITING);
        return Err(asynchronous(cpu, reason::NMI_WINDOW, cause));
    }
    Ok(())
}

/// An NMI is pending: exits, or says whether the guest may take it now.
pub fn nmi(cpu: &mut Cpu, bus: &mut Bus) -> Result<bool, Stop> {
    let pins = cpu.vmx.controls.pin;
    let blocked = cpu.nmi_blocked && pins & pin::VIRTUAL_NMIS == 0;
    if blocked || cpu.activity == Activity::WaitForSipi {
        return Ok(false);
    }
    if pins & pin::NMI_EXITING == 0 {
        return Ok(true);
    }
    bus.signals[cpu.id].nmi = false;
    cpu.vmx.exit = Exit {
        reason: reason::EXCEPTION_OR_NMI as u32,
        interruption_info: VALID | (EventKind::Nmi as u32) << 8 | vector::NMI as u32,
        rf: SavedRf::Keep,
        cause: Cause::Control(Word::Pin, pin::NMI_EXITING),
        ..Exit::default()
    };
    Err(Stop::Exit)
}

/// After NMIs: the interrupt window.
pub fn interrupt_window(cpu: &mut Cpu) -> Done {
    let open = cpu.vmx.controls.primary & primary::INTERRUPT_WINDOW_EXITING != 0
        && cpu.flags.has(flags::IF)
        && cpu.shadow == Shadow::None
        && matches!(cpu.activity, Activity::Active | Activity::Halted);
    if open {
        let cause = Cause::Control(Word::Primary, primary::INTERRUPT_WINDOW_EXITING);
        return Err(asynchronous(cpu, reason::INTERRUPT_WINDOW, cause));
    }
    Ok(())
}

/// An external interrupt is pending: exits, or says whether the guest may take it now.
pub fn interrupt(cpu: &mut Cpu, bus: &mut Bus) -> Result<bool, Stop> {
    if matches!(cpu.activity, Activity::Shutdown | Activity::WaitForSipi) {
        return Ok(false);
    }
    if cpu.vmx.controls.pin & pin::EXTERNAL_INTERRUPT_EXITING == 0 {
        return Ok(cpu.flags.has(flags::IF) && cpu.shadow == Shadow::None);
    }
    let acknowledges = cpu.vmx.controls.exit & exit_control::ACKNOWLEDGE_INTERRUPT_ON_EXIT != 0;
    let vector = acknowledges.then(|| bus.acknowledge(cpu.id));
    Err(external_interrupt(cpu, vector))
}

/// The exit by an external interrupt; its vector where it was acknowledged.
pub(super) fn external_interrupt(cpu: &mut Cpu, vector: Option<u8>) -> Stop {
    cpu.vmx.exit = Exit {
        reason: reason::EXTERNAL_INTERRUPT as u32,
        interruption_info: vector.map_or(0, |vector| VALID | vector as u32),
        rf: SavedRf::Keep,
        cause: Cause::Control(Word::Pin, pin::EXTERNAL_INTERRUPT_EXITING),
        ..Exit::default()
    };
    Stop::Exit
}

/// INIT always exits.
pub fn init(cpu: &mut Cpu, bus: &mut Bus) -> Done {
    bus.signals[cpu.id].init = false;
    Err(asynchronous(cpu, reason::INIT_SIGNAL, Cause::Signal))
}

/// SIPI exits in the wait-for-SIPI state.
pub fn sipi(cpu: &mut Cpu, bus: &mut Bus, vector: u8) -> Done {
    bus.signals[cpu.id].sipi = None;
    cpu.vmx.exit = Exit {
        reason: reason::START_UP_IPI as u32,
        qualification: vector as u64,
        rf: SavedRf::Keep,
        cause: Cause::Signal,
        ..Exit::default()
    };
    Err(Stop::Exit)
}
