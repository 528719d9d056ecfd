//! VM exits, and the end of VM entries that fail after their first checks (SDM vol. 3, chapter 28 and 27.8).

use super::apic;
use super::controls::{exit, pin, secondary_exit};
use super::errors::abort;
use super::fields::field;
use super::reasons::{reason, BUSY_SHADOW_STACK, BUS_LOCK, ENTRY_FAILURE};
use super::record::{Outcome, Recorded};
use super::rules::{MsrListUse, Rule};
use super::state::Exit;
use super::vmcs::Vmcs;
use super::{guest_state, host_state, msr_list};
use crate::cpu::bits::EFER_LMA;
use crate::cpu::exception::{Event as Delivered, EventKind as Kind};
use crate::cpu::insn::Insn;
use crate::cpu::{Activity, Cpu};
use crate::debug::events::{At, Event, EventKind};
use crate::platform::Bus;

/// Bits of interruption information (SDM vol. 3, table 25-18).
pub const VALID: u32 = 1 << 31;
pub const ERROR_CODE_VALID: u32 = 1 << 11;
pub const NMI_UNBLOCKING: u32 = 1 << 12;

/// The interruption information that names an event.
pub fn interruption_info(event: &Delivered) -> u32 {
    let code = if event.error_code.is_some() {
        ERROR_CODE_VALID
    } else {
        0
    };
    VALID | (event.kind as u32) << 8 | event.vector as u32 | code
}

/// The exit that `cpu.vmx.exit` describes came of `insn`. Accesses to memory do not know whose they are; the SDM leaves
/// the length undefined for them, and processors record it, which hypervisors rely on to skip an access to the APIC.
#[inline]
pub fn caused_by(cpu: &mut Cpu, insn: &Insn) {
    if cpu.vmx.exit.reason == reason::APIC_ACCESS as u32 && cpu.vmx.vectoring.is_none() {
        cpu.vmx.exit.instruction_length = insn.length as u32;
    }
}

/// Takes the exit that `cpu.vmx.exit` describes, RIP being at the instruction that caused it.
pub fn take(cpu: &mut Cpu, bus: &mut Bus) {
    cpu.waiting = None;
    let rip = cpu.rip;
    let was_long = cpu.efer & EFER_LMA != 0;
    let timer = time_left(cpu, bus);
    let flags = reason_flags(cpu);
    let vmx = &mut cpu.vmx;
    let vectoring = vmx.vectoring.take();
    let Some(vmcs) = vmx.current.and_then(|at| vmx.active.get_mut(at)) else {
        return;
    };
    let address = vmcs.address;
    record_information(vmcs, &vmx.exit, flags, vectoring.as_ref());
    guest_state::save(cpu, timer);
    cpu.vmx.freeze_guest(address, &cpu.regs);
    let vmx = &mut cpu.vmx;
    let exit = &vmx.exit;
    vmx.record.exited(exit, rip, bus.clock);
    let at = At {
        icount: bus.clock,
        vcpu: cpu.id as u32,
        vmcs: address,
        guest_rip: rip,
    };
    bus.debug.events.exit(at, exit);
    bus.debug.catches.on_exit(exit.reason);

    // Blocking by NMI: an NMI that exits sets it, virtual NMIs never had it (SDM vol. 3, 28.5.6).
    let nmi = VALID | (Kind::Nmi as u32) << 8;
    let by_nmi =
        exit.reason == reason::EXCEPTION_OR_NMI as u32 && exit.interruption_info & (VALID | 0x700) == nmi;
    let virtual_nmis = vmx.controls.pin & pin::VIRTUAL_NMIS != 0;
    cpu.nmi_blocked = by_nmi || cpu.nmi_blocked && !virtual_nmis;

    // The list gets the TSC itself, without the guest's offset.
    vmx.guest = false;
    if let Err(failed) = msr_list::process(cpu, bus, MsrListUse::ExitStore) {
        return vmx_abort(cpu, bus, abort::SAVING_GUEST_MSRS, failed.words());
    }
    if was_long && cpu.vmx.controls.exit & exit::HOST_ADDRESS_SPACE_SIZE == 0 {
        let detail = "the guest had entered IA-32e mode by itself".to_string();
        return vmx_abort(cpu, bus, abort::FROM_64_BIT_TO_32_BIT, detail);
    }
    to_host(cpu, bus);
}

/// The bits of the exit-reason field above the basic reason (SDM vol. 3, 28.2.1).
fn reason_flags(cpu: &Cpu) -> u64 {
    let vmx = &cpu.vmx;
    let busy = vmx.exit.busy_shadow_stack
        && vmx.controls.secondary_exit & secondary_exit::PREMATURELY_BUSY_SHADOW_STACK != 0;
    let flag = |on, bit| if on { bit } else { 0 };
    flag(busy, BUSY_SHADOW_STACK) | flag(vmx.bus_lock.is_some(), BUS_LOCK)
}

/// What is left of the VMX-preemption timer, where an exit saves it.
fn time_left(cpu: &Cpu, bus: &Bus) -> Option<u64> {
    let deadline = cpu.vmx.timer?;
    let saves = cpu.vmx.controls.exit & exit::SAVE_PREEMPTION_TIMER_VALUE != 0;
    let shift = cpu.profile.capabilities().preemption_timer_shift();
    let tsc = cpu.tsc(bus);
    let left = deadline.saturating_sub(bus.clock);
    saves.then(|| (tsc.wrapping_add(left) >> shift).wrapping_sub(tsc >> shift))
}

/// The VM-exit information fields (SDM vol. 3, 28.2). What does not apply to a reason keeps its value, but for
/// qualification and the two words with a valid bit.
fn record_information(vmcs: &mut Vmcs, exit: &Exit, flags: u64, vectoring: Option<&Delivered>) {
    vmcs.set(field::EXIT_REASON, exit.reason as u64 | flags);
    vmcs.set(field::EXIT_QUALIFICATION, exit.qualification);
    if let Some(linear) = exit.linear() {
        vmcs.set(field::GUEST_LINEAR_ADDRESS, linear);
    }
    if let Some(physical) = exit.physical() {
        vmcs.set(field::GUEST_PHYSICAL_ADDRESS, physical);
    }
    vmcs.set(field::EXIT_INTERRUPTION_INFO, exit.interruption_info as u64);
    if exit.interruption_info & ERROR_CODE_VALID != 0 {
        vmcs.set(
            field::EXIT_INTERRUPTION_ERROR_CODE,
            exit.interruption_error_code as u64,
        );
    }
    let mut length = exit.instruction_length;
    vmcs.set(
        field::IDT_VECTORING_INFO,
        vectoring.map_or(0, |event| interruption_info(event) as u64),
    );
    if let Some(event) = vectoring {
        if let Some(code) = event.error_code {
            vmcs.set(field::IDT_VECTORING_ERROR_CODE, code as u64);
        }
        if event.is_software() {
            length = event.length as u32;
        }
    }
    vmcs.set(field::EXIT_INSTRUCTION_LENGTH, length as u64);
    vmcs.set(field::EXIT_INSTRUCTION_INFO, exit.instruction_info as u64);
    let entry = vmcs.get(field::ENTRY_INTERRUPTION_INFO);
    vmcs.set(field::ENTRY_INTERRUPTION_INFO, entry & !(VALID as u64));
}

/// Leaves the guest for the state of the host-state area.
fn to_host(cpu: &mut Cpu, bus: &mut Bus) {
    let vpid = cpu.vmx.vpid;
    leave(cpu);
    if let Err(cause) = host_state::load(cpu, bus) {
        let detail = format!("CR3 is {:#x}", cpu.cr3);
        return vmx_abort(cpu, bus, cause, detail);
    }
    if vpid == 0 {
        cpu.tlb
            .flush(bus.ram.table_writes(), |space| space.owner.vpid() == 0);
    }
    cpu.update_space();
    cpu.update_mode();
    if let Err(failed) = msr_list::process(cpu, bus, MsrListUse::ExitLoad) {
        vmx_abort(cpu, bus, abort::LOADING_HOST_MSRS, failed.words());
    }
}

/// Clears what is kept of a guest while it runs.
fn leave(cpu: &mut Cpu) {
    let vmx = &mut cpu.vmx;
    vmx.guest = false;
    vmx.ept_pointer = None;
    vmx.apic = apic::State::default();
    vmx.vpid = 0;
    vmx.timer = None;
    vmx.mtf_pending = false;
    vmx.iret_unblocked = false;
    vmx.bus_lock = None;
    vmx.serial_exceptions = 0;
    vmx.vectoring = None;
}

/// How a VM entry fails after the checks of controls and host state: the host goes on at HOST_RIP (SDM vol. 3, 27.8).
/// `vmx.controls` and `vmx.vpid` are those of the VMCS.
pub fn entry_failure(cpu: &mut Cpu, bus: &mut Bus, failure: Failure) {
    let long_mode = cpu.long_mode();
    let Some(vmcs) = cpu.vmx.current_mut() else {
        return;
    };
    let judged = Some(Box::new(vmcs.clone()));
    let forced = failure.rule.is_none() && failure.words.is_none();
    let address = vmcs.address;
    vmcs.set(field::EXIT_REASON, ENTRY_FAILURE | failure.reason as u64);
    vmcs.set(field::EXIT_QUALIFICATION, failure.qualification);
    let guest_rip = vmcs.get(field::GUEST_RIP);
    cpu.vmx.record.failure = Some(Box::new(Recorded {
        outcome: Outcome::EntryFailure {
            reason: failure.reason as u32,
            qualification: failure.qualification,
            rule: failure.rule,
            words: failure.words,
            rip: failure.rip,
        },
        clock: bus.clock,
        vmcs: Some(address),
        judged,
        long_mode,
    }));
    bus.debug.events.push(Event {
        icount: bus.clock,
        vcpu: cpu.id as u32,
        kind: EventKind::EntryFailure,
        vmcs: Some(address),
        reason: Some(failure.reason as u32),
        qualification: Some(failure.qualification),
        guest_rip: Some(guest_rip),
        rule: failure.rule.map(|rule| rule.id),
        forced,
        ..Event::default()
    });
    bus.debug.catches.on_fail(failure.reason as u32);
    to_host(cpu, bus);
}

/// A VM entry that failed.
pub struct Failure {
    pub reason: u16,
    pub qualification: u64,
    /// With neither a rule nor words it is the debugger who asked for it.
    pub rule: Option<&'static Rule>,
    /// For failures that no rule speaks of.
    pub words: Option<String>,
    /// Of the VMLAUNCH or VMRESUME.
    pub rip: u64,
}

/// SDM vol. 3, 28.7.
#[cold]
fn vmx_abort(cpu: &mut Cpu, bus: &mut Bus, cause: u32, detail: String) {
    const INDICATOR: u64 = 4;
    let vmcs = cpu.vmx.current().map(|vmcs| vmcs.address);
    if let Some(address) = vmcs {
        bus.write_physical(cpu.id, address + INDICATOR, 4, cause as u64);
    }
    leave(cpu);
    cpu.activity = Activity::Shutdown;
    cpu.vmx.record.failure = Some(Box::new(Recorded {
        outcome: Outcome::Abort { cause, detail },
        clock: bus.clock,
        vmcs,
        judged: None,
        long_mode: cpu.long_mode(),
    }));
    bus.debug.events.push(Event {
        icount: bus.clock,
        vcpu: cpu.id as u32,
        kind: EventKind::VmxAbort,
        vmcs,
        reason: Some(cause),
        ..Event::default()
    });
}
