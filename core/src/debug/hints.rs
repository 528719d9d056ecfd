//! Hints at mistakes that no single instruction reports.

use crate::machine::Machine;
use crate::mmu::paging::Kind;
use crate::vmx::controls::{pin, primary, Control, Word};
use crate::vmx::fields::field;
use crate::vmx::reasons::{reason, reason_name};

/// Instructions after which a guest without an exit is remarkable.
const LONG: u64 = 50_000_000;
/// Entries in a row that lead nowhere.
const MANY: u64 = 16;
/// Stale translations that are told one by one.
const TOLD: usize = 4;

/// What can bring a guest back that does nothing by itself.
const RETURNS: [(Word, u64); 4] = [
    (Word::Pin, pin::EXTERNAL_INTERRUPT_EXITING),
    (Word::Pin, pin::ACTIVATE_PREEMPTION_TIMER),
    (Word::Primary, primary::HLT_EXITING),
    (Word::Primary, primary::PAUSE_EXITING),
];

impl Machine {
    /// Hints for the processor as it is now, a paragraph each.
    pub fn hints(&self, cpu: usize) -> Vec<String> {
        [self.no_exit(cpu), self.same_exit(cpu), self.stale(cpu)]
            .into_iter()
            .flatten()
            .collect()
    }

    fn no_exit(&self, cpu: usize) -> Option<String> {
        let vmx = &self.cpus[cpu].vmx;
        let ran = self.bus.clock.saturating_sub(vmx.record.entered);
        if !vmx.guest || ran < LONG {
            return None;
        }
        let names = |on: bool| -> String {
            let controls: Vec<&str> = RETURNS
                .iter()
                .filter(|(word, bit)| {
                    let value = match word {
                        Word::Pin => vmx.controls.pin,
                        _ => vmx.controls.primary,
                    };
                    (value & bit != 0) == on
                })
                .filter_map(|(word, bit)| word.control(bit.trailing_zeros() as u8))
                .map(|control: &Control| control.name)
                .collect();
            match controls.len() {
                0 => "none".to_string(),
                _ => controls.join(", "),
            }
        };
        Some(format!(
            "The guest has run {ran} instructions since its last VM entry without an exit. Of the controls that take a busy \
             guest off the processor these are 1: {}; and these are 0: {}.",
            names(true),
            names(false)
        ))
    }

    fn same_exit(&self, cpu: usize) -> Option<String> {
        let vmx = &self.cpus[cpu].vmx;
        let record = &vmx.record;
        let (exit, rip, _) = record.exit.as_ref()?;
        if record.repeats < MANY {
            return None;
        }
        let start = format!(
            "The last {} VM entries ended in this same exit ({}) at guest RIP {rip:#x}, without the guest running an \
             instruction: the code at HOST_RIP {:#x} enters it again with nothing changed that matters.",
            record.repeats + 1,
            reason_name(u64::from(exit.reason)),
            vmx.get(field::HOST_RIP)
        );
        let advice = match exit.reason as u16 {
            reason::EPT_VIOLATION | reason::EPT_MISCONFIGURATION => {
                " The EPT entry still does not allow the access: map the page, or give the guest an exception."
            }
            reason::PREEMPTION_TIMER => " The VMX-preemption timer is loaded with too small a value.",
            reason::EXTERNAL_INTERRUPT => {
                " The interrupt stays pending: take it in the host (RFLAGS.IF, or \u{201c}acknowledge interrupt on exit\u{201d})."
            }
            _ if exit.instruction_length != 0 => {
                " A VM exit leaves GUEST_RIP at the instruction that caused it: once the instruction is emulated, add the \
                 VM-exit instruction length to GUEST_RIP."
            }
            _ => "",
        };
        Some(start + advice)
    }

    fn stale(&self, cpu: usize) -> Option<String> {
        let vmcs = self.cpus[cpu].vmx.current()?.address;
        let stale = self.stale_translations(cpu, vmcs);
        if stale.is_empty() {
            return None;
        }
        let told: Vec<String> = stale
            .iter()
            .take(TOLD)
            .map(|stale| {
                let kind = match stale.kind {
                    Kind::Read => "reads",
                    Kind::Write => "writes",
                    Kind::Fetch => "instruction fetches",
                };
                let now = match (stale.guest_physical, stale.now) {
                    (None, _) => "the guest's own tables do not allow it any more".to_string(),
                    (Some(guest), None) => {
                        format!("EPT does not allow it any more at guest-physical {guest:#x}")
                    }
                    (Some(guest), Some(_)) => {
                        format!("the tables lead elsewhere, by guest-physical {guest:#x}")
                    }
                };
                format!("{kind} of guest-linear {:#x}: {now}", stale.linear)
            })
            .collect();
        let more = match stale.len().saturating_sub(TOLD) {
            0 => String::new(),
            more => format!("; and {more} more"),
        };
        Some(format!(
            "The processor still has translations cached that the tables no longer give (SDM vol. 3, 29.4.3): {}{more}. \
             After a change of EPT entries that takes something away the host executes INVEPT; after one of the guest's \
             own tables the guest executes INVLPG.",
            told.join("; ")
        ))
    }
}
