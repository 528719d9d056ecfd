//! A VMCS taken over from another machine, so that it can be looked at with this one's rules and words.

use super::controls::exit;
use super::entry::environment;
use super::fields::field;
use super::inferred;
use super::reasons::{reason, ENTRY_FAILURE};
use super::record::{FailReason, Outcome, Record, Recorded};
use super::rules::{self, Context};
use super::state::Exit;
use super::vmcs::Vmcs;
use crate::cpu::Cpu;
use crate::platform::Bus;

/// What the other machine did last with the VMCS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Last {
    /// Nothing that is known.
    Nothing,
    /// A VM exit or a failed entry: the exit-information fields tell which.
    Exit,
    /// VMLAUNCH or VMRESUME ended in VMfailValid: the VM-instruction error field tells the number.
    Fail,
}

/// Makes `vmcs` the current one, launched, in place of one that has its address. `rip` is the linear address of the
/// instruction that entered the guest or failed to; 0 if it is not known.
pub fn adopt(cpu: &mut Cpu, bus: &Bus, mut vmcs: Vmcs, last: Last, rip: u64) {
    vmcs.launched = true;
    cpu.vmx.record = Record::default();
    match last {
        Last::Nothing => {}
        Last::Fail => cpu.vmx.record.failure = Some(Box::new(failure(cpu, bus, &vmcs, rip))),
        Last::Exit if vmcs.get(field::EXIT_REASON) & ENTRY_FAILURE != 0 => {
            cpu.vmx.record.failure = Some(Box::new(entry_failure(&vmcs, rip)));
        }
        Last::Exit => cpu.vmx.record.exit = Some((reported_exit(&vmcs), vmcs.get(field::GUEST_RIP), 0)),
    }
    cpu.vmx.vmxon.get_or_insert(0);
    cpu.vmx.deactivate(vmcs.address);
    cpu.vmx.activate(vmcs);
}

fn recorded(vmcs: &Vmcs, outcome: Outcome) -> Recorded {
    Recorded {
        outcome,
        clock: 0,
        vmcs: Some(vmcs.address),
        judged: Some(Box::new(vmcs.clone())),
        long_mode: host_is_long(vmcs),
    }
}

/// A host in IA-32e mode is what enters, and what exits return to (SDM vol. 3, 27.2.4).
fn host_is_long(vmcs: &Vmcs) -> bool {
    vmcs.get(field::EXIT_CONTROLS) & exit::HOST_ADDRESS_SPACE_SIZE != 0
}

fn failure(cpu: &Cpu, bus: &Bus, vmcs: &Vmcs, rip: u64) -> Recorded {
    let read = |address| bus.ram.offset(address).and_then(|at| bus.ram.load::<u64>(at));
    let environment = environment(&cpu.profile, host_is_long(vmcs), &read);
    let context = Context {
        vmcs,
        capabilities: cpu.profile.capabilities(),
        environment: &environment,
    };
    let error = vmcs.get(field::VM_INSTRUCTION_ERROR) as u32;
    let broken = rules::check_all(&context).into_iter().map(|finding| finding.rule);
    let decided = broken
        .filter(|rule| rule.outcome == rules::Outcome::FailValid(error))
        .map(FailReason::Rule)
        .next();
    recorded(
        vmcs,
        Outcome::Fail {
            instruction: "VM entry",
            error,
            reason: decided.unwrap_or(FailReason::Reported),
            rip,
        },
    )
}

fn entry_failure(vmcs: &Vmcs, rip: u64) -> Recorded {
    let basic = vmcs.get(field::EXIT_REASON) as u16;
    recorded(
        vmcs,
        Outcome::EntryFailure {
            reason: u32::from(basic),
            qualification: vmcs.get(field::EXIT_QUALIFICATION),
            rule: None,
            words: (basic == reason::ENTRY_FAILURE_MSR_LOADING)
                .then(|| "One of the MSRs could not be loaded".to_string()),
            rip,
        },
    )
}

pub(super) fn reported_exit(vmcs: &Vmcs) -> Exit {
    let exit = Exit {
        reason: vmcs.get(field::EXIT_REASON) as u32 & 0xffff,
        qualification: vmcs.get(field::EXIT_QUALIFICATION),
        instruction_length: vmcs.get(field::EXIT_INSTRUCTION_LENGTH) as u32,
        instruction_info: vmcs.get(field::EXIT_INSTRUCTION_INFO) as u32,
        guest_linear: vmcs.get(field::GUEST_LINEAR_ADDRESS),
        guest_physical: vmcs.get(field::GUEST_PHYSICAL_ADDRESS),
        interruption_info: vmcs.get(field::EXIT_INTERRUPTION_INFO) as u32,
        interruption_error_code: vmcs.get(field::EXIT_INTERRUPTION_ERROR_CODE) as u32,
        ..Exit::default()
    };
    Exit {
        cause: inferred::cause(&exit, vmcs),
        ..exit
    }
}
