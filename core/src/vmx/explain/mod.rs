//! Why it happened: what VMX did last, in words, with the section of the SDM and the fields that decided.

mod apic;
mod entry;
mod exit;
mod fail;
mod refusal;

use serde::Serialize;

use super::entry::environment;
use super::fields::{field, Field};
use super::record::{Outcome, Recorded};
use super::rules::{self, Context};
use super::vmcs::Vmcs;
use super::{describe, errors};
use crate::cpu::exception::{EventKind, Fault};
use crate::cpu::Cpu;
use crate::platform::Bus;

/// A field that matters: its name, the value found, what the value means.
pub type Shown = (&'static str, u64, String);

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Explanation {
    pub headline: String,
    /// Of SDM vol. 3.
    pub section: String,
    pub paragraphs: Vec<String>,
    /// Of a failed VM entry: every rule that is broken, in the processor's order.
    pub rules: Vec<BrokenRule>,
    pub fields: Vec<Shown>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BrokenRule {
    pub id: &'static str,
    pub section: &'static str,
    /// All that it reads, those first that it is about, then those that make it apply.
    pub fields: Vec<(&'static str, u64)>,
    /// What was found and what is allowed.
    pub found: String,
    /// What the VM entry ends in if this rule decides.
    pub outcome: String,
    pub deciding: bool,
}

impl Explanation {
    fn new(headline: impl Into<String>, section: impl Into<String>) -> Explanation {
        Explanation {
            headline: headline.into(),
            section: section.into(),
            ..Explanation::default()
        }
    }

    fn say(mut self, paragraph: impl Into<String>) -> Explanation {
        self.paragraphs.push(paragraph.into());
        self
    }

    /// With hints at what else is remarkable, after the paragraphs.
    pub fn with_hints(mut self, hints: Vec<String>) -> Explanation {
        self.paragraphs.extend(hints);
        self
    }

    /// Nothing went wrong, and there was no exit: the hints alone.
    pub fn of_hints(hints: Vec<String>) -> Explanation {
        Explanation::new("No VM exit yet, and nothing failed", "26.1").with_hints(hints)
    }

    /// Shows fields of a VMCS.
    fn show(mut self, vmcs: &Vmcs, fields: &[Field]) -> Explanation {
        for &field in fields {
            let value = vmcs.get(field);
            let meaning = describe::describe(field, value, vmcs).join(", ");
            self.fields.push((field.name(), value, meaning));
        }
        self
    }

    /// Shows a value that is not a field of a VMCS.
    fn value(mut self, name: &'static str, value: u64, meaning: impl Into<String>) -> Explanation {
        self.fields.push((name, value, meaning.into()));
        self
    }
}

/// The last failure or exit, whichever was later; `None` if there was neither.
pub fn why(cpu: &Cpu, bus: &Bus) -> Option<Explanation> {
    let record = &cpu.vmx.record;
    let explanation = match (&record.failure, &record.exit) {
        (None, None) => None,
        (Some(failure), Some((_, _, clock))) if failure.clock < *clock => exit::last(cpu),
        (Some(failure), _) => Some(failure_in_words(cpu, bus, failure)),
        (None, Some(_)) => exit::last(cpu),
    };
    match (explanation, held_elsewhere(cpu, bus)) {
        (Some(explanation), Some(warning)) => Some(explanation.say(warning)),
        (explanation, _) => explanation,
    }
}

/// The current VMCS is active on other processors too.
fn held_elsewhere(cpu: &Cpu, bus: &Bus) -> Option<String> {
    let vmcs = cpu.vmx.current()?.address;
    let others = bus.debug.holders.others(cpu.id, vmcs);
    let others: Vec<String> = others.map(|other| format!("vCPU {other}")).collect();
    (!others.is_empty()).then(|| {
        format!(
            "VMCS {vmcs:#x} is active on {} too: each processor keeps the fields to itself, so that what this one read from \
             the region may be old. A VMCS must be VMCLEARed on the one processor before VMPTRLD on another (25.11.1).",
            others.join(", ")
        )
    })
}

/// The last failure: VMfail, failed entry, #UD or #GP of a VMX instruction, VMX abort, triple fault.
pub fn last_failure(cpu: &Cpu, bus: &Bus) -> Option<Explanation> {
    let failure = cpu.vmx.record.failure.as_ref()?;
    Some(failure_in_words(cpu, bus, failure))
}

/// The last VM exit.
pub fn last_exit(cpu: &Cpu) -> Option<Explanation> {
    exit::last(cpu)
}

fn failure_in_words(cpu: &Cpu, bus: &Bus, recorded: &Recorded) -> Explanation {
    match &recorded.outcome {
        Outcome::Refused {
            instruction,
            refusal,
            rip,
        } => refusal::explain(cpu, instruction, refusal, *rip),
        Outcome::Fail {
            instruction,
            error,
            reason,
            rip,
        } => fail::explain(cpu, bus, recorded, instruction, *error, reason, *rip),
        Outcome::EntryFailure {
            reason,
            qualification,
            words,
            rip,
            ..
        } => entry::explain(
            cpu,
            bus,
            recorded,
            *reason,
            *qualification,
            words.as_deref(),
            *rip,
        ),
        Outcome::TripleFault { rip, refused } => {
            let headline = format!("Triple fault at {rip:#x}: the processor has shut down");
            let explanation = Explanation::new(headline, "6.15").say(fault_chain(cpu));
            match refused {
                Some((instruction, refusal, rip)) => {
                    let mut first = refusal::explain(cpu, instruction, refusal, *rip);
                    first
                        .paragraphs
                        .insert(0, format!("It began so: {}.", first.headline));
                    Explanation {
                        headline: explanation.headline,
                        section: explanation.section,
                        paragraphs: [explanation.paragraphs, first.paragraphs].concat(),
                        ..first
                    }
                }
                None => explanation,
            }
        }
        Outcome::Abort { cause, detail } => {
            let text = errors::abort_text(u64::from(*cause)).unwrap_or("not defined by the SDM");
            Explanation::new(format!("VMX abort {cause}: {text}"), "28.7").say(format!(
                "{detail}. The VM exit could not be completed: the processor wrote {cause} to offset 4 of the VMCS \
                 region and has shut down."
            ))
        }
    }
}

/// Every rule of VM entry that `vmcs` breaks on this processor as it is now.
pub fn broken_rules(cpu: &Cpu, bus: &Bus, vmcs: &Vmcs) -> Vec<BrokenRule> {
    judged(cpu, bus, vmcs, cpu.long_mode() || cpu.vmx.guest)
}

/// `long_mode`: IA32_EFER.LMA at the VM entry.
fn judged(cpu: &Cpu, bus: &Bus, vmcs: &Vmcs, long_mode: bool) -> Vec<BrokenRule> {
    let read = |address| bus.ram.offset(address).and_then(|at| bus.ram.load::<u64>(at));
    let environment = environment(&cpu.profile, long_mode, &read);
    broken_in(&Context {
        vmcs,
        capabilities: cpu.profile.capabilities(),
        environment: &environment,
    })
}

/// Every broken rule of a context, in the processor's order.
pub fn broken_in(context: &Context) -> Vec<BrokenRule> {
    rules::check_all(context)
        .into_iter()
        .map(|finding| BrokenRule {
            id: finding.rule.id,
            section: finding.rule.section,
            fields: finding
                .rule
                .read_in_order()
                .map(|field| (field.name(), context.get(field)))
                .collect(),
            found: finding.words,
            outcome: outcome_words(finding.rule.outcome),
            deciding: finding.deciding,
        })
        .collect()
}

/// Such as `VMfailValid 7` or `entry failure 0x80000021, qualification 0`.
pub fn outcome_words(outcome: rules::Outcome) -> String {
    match outcome {
        rules::Outcome::FailValid(number) => format!("VMfailValid {number}"),
        rules::Outcome::EntryFailure(qualification) => {
            format!("entry failure 0x80000021, qualification {qualification}")
        }
    }
}

/// The last exceptions, as a chain.
fn fault_chain(cpu: &Cpu) -> String {
    let faults: Vec<String> = cpu
        .vmx
        .record
        .faults()
        .map(|(fault, rip)| fault_words(&fault, rip))
        .collect();
    match faults.len() {
        0 => "No exception was recorded.".to_string(),
        _ => format!(
            "The last exceptions, in this order: {}. An exception while a double fault was delivered ends the chain.",
            faults.join("; then ")
        ),
    }
}

/// `#PF at RIP 0x…: error code 0x2, linear address 0x…`.
fn fault_words(fault: &Fault, rip: u64) -> String {
    let event = &fault.event;
    let name = match event.kind {
        EventKind::ExternalInterrupt => format!("external interrupt {:#x}", event.vector),
        EventKind::SoftwareInterrupt => format!("INT {:#x}", event.vector),
        _ => vector_name(event.vector),
    };
    let mut words = format!("{name} at RIP {rip:#x}");
    if let Some(code) = event.error_code {
        words += &format!(", error code {code:#x}");
    }
    if event.kind == EventKind::HardwareException && event.vector == crate::cpu::exception::vector::PAGE_FAULT
    {
        words += &format!(", linear address {:#x}", fault.payload);
    }
    words
}

/// `#GP` and so on; a number for a vector without a mnemonic.
fn vector_name(vector: u8) -> String {
    match describe::EXCEPTIONS.get(vector as usize) {
        Some(name) => name.to_string(),
        None => format!("vector {vector}"),
    }
}

/// ` at 0x…`; empty for 0, which stands for a place that is not known.
fn at(rip: u64) -> String {
    match rip {
        0 => String::new(),
        _ => format!(" at {rip:#x}"),
    }
}

/// Fields that say where a VM entry was to begin.
const WHERE: &[Field] = &[field::GUEST_RIP];
