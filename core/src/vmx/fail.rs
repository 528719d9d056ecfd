//! How VMX instructions end (SDM vol. 3, 31.2): VMsucceed, VMfailInvalid, VMfailValid, or an exception, with what is
//! kept for those who ask why.

use super::fields::field;
use super::record::{FailReason, Outcome, Recorded, Refusal};
use crate::cpu::insn::Insn;
use crate::cpu::{flags, Cpu, Done, Stop};
use crate::debug::events::{Event, EventKind};
use crate::platform::Bus;

/// VMsucceed: the six arithmetic flags are cleared.
#[inline]
pub fn succeed(cpu: &mut Cpu) {
    // As a result of 1 leaves them.
    cpu.flags.logic(1u64);
}

fn set_arithmetic(cpu: &mut Cpu, wanted: u64) {
    let rest = cpu.flags.get() & !flags::ARITHMETIC;
    cpu.flags.set(rest | wanted);
}

/// VMfail(`error`): VMfailValid where there is a current VMCS, else VMfailInvalid. An `error` of 0 is VMfailInvalid
/// whatever there is.
#[cold]
pub fn fail(
    cpu: &mut Cpu,
    bus: &mut Bus,
    insn: &Insn,
    instruction: &'static str,
    error: u32,
    reason: FailReason,
) -> Done {
    // The event and the record say when it was.
    if !cpu.solo {
        return Err(Stop::Solo);
    }
    let rip = cpu.ip(insn);
    let long_mode = cpu.long_mode();
    let clock = bus.clock;
    let mut address = None;
    let mut judged = None;
    let mut number = 0;
    if let (Some(vmcs), true) = (cpu.vmx.current_mut(), error != 0) {
        if let FailReason::Rule(_) = reason {
            judged = Some(Box::new(vmcs.clone()));
        }
        vmcs.set(field::VM_INSTRUCTION_ERROR, error as u64);
        address = Some(vmcs.address);
        number = error;
    }
    set_arithmetic(cpu, if number == 0 { flags::CF } else { flags::ZF });
    cpu.vmx.record.failure = Some(Box::new(Recorded {
        outcome: Outcome::Fail {
            instruction,
            error: number,
            reason,
            rip,
        },
        clock,
        vmcs: address,
        judged,
        long_mode,
    }));
    bus.debug.events.push(Event {
        icount: clock,
        vcpu: cpu.id as u32,
        kind: EventKind::Vmfail,
        vmcs: address,
        reason: Some(number),
        rule: match reason {
            FailReason::Rule(rule) => Some(rule.id),
            _ => None,
        },
        forced: matches!(reason, FailReason::Forced),
        ..Event::default()
    });
    bus.debug.catches.on_fail(number);
    Err(Stop::Sync)
}

/// #UD or #GP(0), as the refusal says.
#[cold]
pub fn refuse(cpu: &mut Cpu, bus: &Bus, insn: &Insn, instruction: &'static str, refusal: Refusal) -> Stop {
    if !cpu.solo {
        return Stop::Solo;
    }
    cpu.vmx.record.failure = Some(Box::new(Recorded {
        outcome: Outcome::Refused {
            instruction,
            refusal,
            rip: cpu.ip(insn),
        },
        clock: bus.clock,
        vmcs: cpu.vmx.current().map(|vmcs| vmcs.address),
        judged: None,
        long_mode: cpu.long_mode(),
    }));
    if refusal.is_undefined_opcode() {
        cpu.invalid_opcode()
    } else {
        cpu.general_protection(0)
    }
}
