//! VM entries that failed after the checks of controls and host state.

use super::{at, judged, BrokenRule, Explanation, WHERE};
use crate::cpu::Cpu;
use crate::platform::Bus;
use crate::vmx::fields::field;
use crate::vmx::reasons::{reason, ENTRY_FAILURE};
use crate::vmx::record::Recorded;

pub fn explain(
    cpu: &Cpu,
    bus: &Bus,
    recorded: &Recorded,
    basic: u32,
    qualification: u64,
    words: Option<&str>,
    rip: u64,
) -> Explanation {
    let number = ENTRY_FAILURE | u64::from(basic);
    if basic == reason::ENTRY_FAILURE_MSR_LOADING as u32 {
        let headline = format!("VM entry failed: exit reason {number:#x}, an MSR could not be loaded");
        let explanation = Explanation::new(headline, "27.4").say(format!(
            "The entry{} was refused. {}; the exit qualification is its number.",
            at(rip),
            words.unwrap_or("The debugger asked for this failure")
        ));
        let fields = [
            field::ENTRY_MSR_LOAD_COUNT,
            field::ENTRY_MSR_LOAD_ADDRESS,
            field::EXIT_QUALIFICATION,
        ];
        return match &recorded.judged {
            Some(vmcs) => explanation.show(vmcs, &fields),
            None => explanation,
        };
    }
    let rules = match &recorded.judged {
        Some(vmcs) => judged(cpu, bus, vmcs, recorded.long_mode),
        None => Vec::new(),
    };
    let headline = format!(
        "VM entry failed: exit reason {number:#x}, qualification {qualification}{}",
        deciding(&rules).map_or(String::new(), |rule| format!(", rule {}", rule.id))
    );
    let section = deciding(&rules).map_or("27.8", |rule| rule.section);
    let explanation = Explanation::new(headline, section);
    let mut explanation = match deciding(&rules) {
        Some(rule) => explanation.say(format!("{}.", rule.found)),
        None => explanation.say("No rule is broken: the debugger asked for this failure."),
    };
    if let Some(vmcs) = &recorded.judged {
        explanation = explanation.show(vmcs, WHERE);
    }
    if rules.is_empty() {
        return explanation;
    }
    explanation.rules = rules;
    explanation.say(format!(
        "The VMLAUNCH or VMRESUME{} passed the checks of controls and host state and broke one of the guest \
         state. The host goes on at its HOST_RIP with the exit reason's bit 31 set, as after a VM exit; the guest-state \
         area is as it was, and the launch state too.",
        at(rip)
    ))
}

pub fn deciding(rules: &[BrokenRule]) -> Option<&BrokenRule> {
    rules.iter().find(|rule| rule.deciding)
}
