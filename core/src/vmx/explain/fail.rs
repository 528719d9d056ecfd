//! VMfailInvalid and VMfailValid.

use super::entry::deciding;
use super::{at, judged, Explanation};
use crate::cpu::Cpu;
use crate::platform::Bus;
use crate::vmx::errors;
use crate::vmx::fields::Field;
use crate::vmx::invalidate::offers;
use crate::vmx::reasons::reason;
use crate::vmx::record::{FailReason, Recorded};

pub fn explain(
    cpu: &Cpu,
    bus: &Bus,
    recorded: &Recorded,
    instruction: &str,
    error: u32,
    reason: &FailReason,
    rip: u64,
) -> Explanation {
    let headline = match error {
        0 => format!("{instruction}{} ended in VMfailInvalid (CF = 1)", at(rip)),
        _ => format!(
            "{instruction}{} ended in VMfailValid {error} (ZF = 1): {}",
            at(rip),
            errors::instruction_error_text(u64::from(error)).unwrap_or("not defined by the SDM")
        ),
    };
    if let (FailReason::Rule(_), Some(vmcs)) = (reason, &recorded.judged) {
        let rules = judged(cpu, bus, vmcs, recorded.long_mode);
        let section = deciding(&rules).map_or("27.2", |rule| rule.section);
        let mut explanation = Explanation::new(headline, section);
        if let Some(rule) = deciding(&rules) {
            explanation = explanation.say(format!("Rule {}: {}.", rule.id, rule.found));
        }
        explanation.rules = rules;
        return explanation;
    }
    let mut explanation = Explanation::new(headline, section(reason));
    for paragraph in paragraphs(cpu, instruction, error, reason) {
        explanation = explanation.say(paragraph);
    }
    explanation
}

fn section(reason: &FailReason) -> &'static str {
    match reason {
        FailReason::NoCurrentVmcs
        | FailReason::ShadowVmcs { .. }
        | FailReason::LaunchState { .. }
        | FailReason::MovSs => "27.1",
        FailReason::Revision { .. } => "25.2",
        FailReason::Field { .. } | FailReason::ReadOnly { .. } => "25.11.2",
        _ => "31.3",
    }
}

fn paragraphs(cpu: &Cpu, instruction: &str, error: u32, reason: &FailReason) -> Vec<String> {
    let one = match reason {
        FailReason::NoCurrentVmcs => {
            "There is no current VMCS: VMPTRLD makes one current; VMCLEAR of it, VMXON and VMXOFF leave none.".to_string()
        }
        FailReason::Pointer { address } => pointer_words(cpu, *address),
        FailReason::VmxonPointer { address } => format!(
            "The operand {address:#x} is the VMXON pointer. The VMXON region belongs to the processor and is no VMCS: \
             give each its own page."
        ),
        FailReason::Revision {
            address,
            found,
            wanted,
        } => revision_words(instruction, *address, *found, *wanted),
        FailReason::LaunchState {
            address,
            initialised,
        } => launch_words(instruction, *address, *initialised),
        FailReason::ShadowVmcs { address } => format!(
            "Bit 31 of the first word at {address:#x} marks the current VMCS as a shadow VMCS: no guest can be entered by it."
        ),
        FailReason::Field { encoding } => field_words(*encoding),
        FailReason::ReadOnly { encoding } => format!(
            "{} is a VM-exit information field. This processor does not let VMWRITE change those: bit 29 of \
             IA32_VMX_MISC is 0.",
            named(*encoding)
        ),
        FailReason::MovSs => {
            "The instruction before it loaded SS, which blocks events until the next instruction has run. VM entry \
             cannot be made in that shadow: put another instruction between."
                .to_string()
        }
        FailReason::InRoot if error == errors::instruction_error::VMXON_IN_ROOT => {
            "The processor is in VMX operation already; VMXOFF leaves it.".to_string()
        }
        FailReason::InRoot => {
            "VMCALL is for guests. In VMX root operation it would call an SMM monitor, which this processor does not have."
                .to_string()
        }
        FailReason::Invalidation { kind, low, high } => invalidation_words(cpu, instruction, *kind, *low, *high),
        FailReason::Forced => return vec!["The debugger asked for this failure (vmx force vmfail).".to_string()],
        FailReason::Reported => {
            "It happened on another processor, which tells no more, and the VMCS as it is now breaks no rule that gives \
             this error."
                .to_string()
        }
        FailReason::Rule(rule) => format!("Rule {} is broken.", rule.id),
    };
    vec![one]
}

fn pointer_words(cpu: &Cpu, address: u64) -> String {
    let reserved = cpu
        .profile
        .capabilities()
        .address_reserved(cpu.maxphyaddr() as u8);
    let mut faults = Vec::new();
    if address & 0xfff != 0 {
        faults.push(format!(
            "its bits 11:0 are {:#x} and must be 0 (the region is a page)",
            address & 0xfff
        ));
    }
    if address & reserved != 0 {
        faults.push(format!(
            "it sets bits of {reserved:#x}, beyond the physical-address width"
        ));
    }
    format!("The operand is {address:#x}: {}.", faults.join("; "))
}

fn revision_words(instruction: &str, address: u64, found: u32, wanted: u32) -> String {
    const SHADOW: u32 = 1 << 31;
    let mut words = format!(
        "The first four bytes at {address:#x} are {found:#x}; they must be the VMCS revision identifier {wanted:#x} of \
         IA32_VMX_BASIC."
    );
    if found == 0 {
        words += " The region was probably never written to.";
    } else if found ^ wanted == SHADOW {
        words += &if instruction == "VMXON" {
            " Bit 31 must be 0 in a VMXON region.".to_string()
        } else {
            " Bit 31 marks a shadow VMCS, which this processor does not offer.".to_string()
        };
    }
    words
}

fn launch_words(instruction: &str, address: u64, initialised: bool) -> String {
    let mut words = if instruction == "VMLAUNCH" {
        format!(
            "The VMCS at {address:#x} has been launched already: use VMRESUME, or VMCLEAR and VMPTRLD it first, for \
             instance when it moves to another processor."
        )
    } else {
        format!("The VMCS at {address:#x} has not been launched since its last VMCLEAR: the first VM entry is VMLAUNCH.")
    };
    if !initialised {
        words += " VMCLEAR was never used on the region, so that its launch state was undefined: VMCLEAR it before \
                  VMPTRLD.";
    }
    words
}

fn named(encoding: u64) -> String {
    match Field::by_encoding(encoding) {
        Some((field, _)) => format!("{} (encoding {encoding:#x})", field.name()),
        None => format!("encoding {encoding:#x}"),
    }
}

fn field_words(encoding: u64) -> String {
    let Some((found, _)) = Field::by_encoding(encoding) else {
        return format!("{encoding:#x} is the encoding of no VMCS field that the SDM defines.");
    };
    let needs: Vec<String> = found
        .info()
        .needs
        .iter()
        .filter_map(|(word, bits)| word.control(bits.trailing_zeros() as u8))
        .map(|control| control.to_string())
        .collect();
    format!(
        "{} does not exist on this processor: it comes with {}, which the capability MSRs do not allow.",
        named(encoding),
        needs.join(" or ")
    )
}

fn invalidation_words(cpu: &Cpu, instruction: &str, kind: u64, low: u64, high: u64) -> String {
    let invept = instruction == "INVEPT";
    let types = if invept {
        ["", "single-context", "all-context", ""]
    } else {
        [
            "individual-address",
            "single-context",
            "all-context",
            "single-context-retaining-globals",
        ]
    };
    let offered: Vec<String> = (0..4u64)
        .filter(|&kind| offers(cpu, if invept { reason::INVEPT } else { reason::INVVPID }, kind))
        .map(|kind| format!("{kind} ({})", types[kind as usize]))
        .collect();
    if !offered.iter().any(|words| words.starts_with(&format!("{kind} "))) {
        return format!(
            "Type {kind} is not offered by IA32_VMX_EPT_VPID_CAP; there are: {}.",
            offered.join(", ")
        );
    }
    if invept {
        return format!("The descriptor's EPT pointer is {low:#x}; a VM entry with it would fail.");
    }
    format!(
        "The descriptor is VPID {:#x}, bits 63:16 {:#x}, linear address {high:#x}: bits 63:16 must be 0, the VPID must \
         not be 0, and the address must be canonical.",
        low & 0xffff,
        low >> 16
    )
}
