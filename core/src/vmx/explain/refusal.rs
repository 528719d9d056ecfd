//! VMX instructions that raise #UD or #GP.

use super::Explanation;
use crate::cpu::Cpu;
use crate::vmx::controls::Word;
use crate::vmx::record::Refusal;

/// IA32_FEATURE_CONTROL.
const FEATURE_CONTROL: &str = "ia32_feature_control";

pub fn explain(cpu: &Cpu, instruction: &str, refusal: &Refusal, rip: u64) -> Explanation {
    let exception = if refusal.is_undefined_opcode() {
        "#UD"
    } else {
        "#GP(0)"
    };
    let explanation = Explanation::new(
        format!("{instruction} at {rip:#x} raised {exception}: {}", cause(refusal)),
        section(refusal),
    )
    .say(advice(instruction, refusal));
    match refusal {
        Refusal::Vmxe => explanation.value("cr4", cpu.cr4, "VMXE is bit 13"),
        Refusal::Cr0Fixed { missing, excess } => explanation
            .value("cr0", cpu.cr0, wrong("cr0", *missing, *excess))
            .value(
                "ia32_vmx_cr0_fixed0",
                cpu.profile.capabilities().cr0().required,
                "bits that must be 1",
            )
            .value(
                "ia32_vmx_cr0_fixed1",
                cpu.profile.capabilities().cr0().allowed,
                "bits that may be 1",
            ),
        Refusal::Cr4Fixed { missing, excess } => explanation
            .value("cr4", cpu.cr4, wrong("cr4", *missing, *excess))
            .value(
                "ia32_vmx_cr4_fixed0",
                cpu.profile.capabilities().cr4().required,
                "bits that must be 1",
            )
            .value(
                "ia32_vmx_cr4_fixed1",
                cpu.profile.capabilities().cr4().allowed,
                "bits that may be 1",
            ),
        Refusal::FeatureControlUnlocked | Refusal::FeatureControlDisabled => explanation.value(
            FEATURE_CONTROL,
            cpu.msr.feature_control,
            "bit 0: locked; bit 2: VMX outside SMX operation",
        ),
        Refusal::Privilege => explanation.value("cpl", cpu.cpl as u64, ""),
        _ => explanation,
    }
}

fn section(refusal: &Refusal) -> &'static str {
    match refusal {
        Refusal::Vmxe | Refusal::FeatureControlUnlocked | Refusal::FeatureControlDisabled => "24.7",
        Refusal::Cr0Fixed { .. } | Refusal::Cr4Fixed { .. } => "24.8",
        _ => "31.3",
    }
}

fn cause(refusal: &Refusal) -> &'static str {
    match refusal {
        Refusal::NotInVmxOperation => "the processor is not in VMX operation",
        Refusal::Mode => "the processor is in real-address or virtual-8086 mode",
        Refusal::CompatibilityMode => "the processor is in compatibility mode",
        Refusal::Vmxe => "CR4.VMXE is 0",
        Refusal::NotOffered => "this processor or its controls do not offer it",
        Refusal::Privilege => "CPL is not 0",
        Refusal::Cr0Fixed { .. } => "CR0 has a value that VMX operation does not allow",
        Refusal::Cr4Fixed { .. } => "CR4 has a value that VMX operation does not allow",
        Refusal::FeatureControlUnlocked => "IA32_FEATURE_CONTROL is not locked",
        Refusal::FeatureControlDisabled => "IA32_FEATURE_CONTROL does not enable VMX",
    }
}

fn advice(instruction: &str, refusal: &Refusal) -> String {
    match refusal {
        Refusal::NotInVmxOperation => {
            "VMX instructions other than VMXON work after VMXON only, until VMXOFF, on each processor for itself.".into()
        }
        Refusal::Mode => "VMX instructions need protected mode (CR0.PE = 1, RFLAGS.VM = 0).".into(),
        Refusal::CompatibilityMode => {
            "In IA-32e mode VMX instructions need a 64-bit code segment (CS.L = 1).".into()
        }
        Refusal::Vmxe => "Set CR4.VMXE (bit 13) before VMXON.".into(),
        Refusal::NotOffered => format!(
            "{} The capability MSRs say what there is: IA32_VMX_EPT_VPID_CAP for INVEPT and INVVPID, the {} for VMFUNC.",
            if instruction == "VMFUNC" {
                "VMFUNC is for guests whose controls enable VM functions."
            } else {
                "A processor without the feature does not know the instruction."
            },
            Word::Secondary.title()
        ),
        Refusal::Privilege => format!("{instruction} is for CPL 0."),
        Refusal::Cr0Fixed { .. } => {
            "IA32_VMX_CR0_FIXED0 has the bits that must be 1, IA32_VMX_CR0_FIXED1 those that may be.".into()
        }
        Refusal::Cr4Fixed { .. } => {
            "IA32_VMX_CR4_FIXED0 has the bits that must be 1, IA32_VMX_CR4_FIXED1 those that may be.".into()
        }
        Refusal::FeatureControlUnlocked => {
            "Firmware, or else the hypervisor, writes IA32_FEATURE_CONTROL (MSR 0x3a) with bit 2 (VMX outside SMX) and \
             bit 0 (lock) before VMXON: the value 5."
                .into()
        }
        Refusal::FeatureControlDisabled => {
            "Bit 2 of IA32_FEATURE_CONTROL (MSR 0x3a) is 0 and the MSR is locked: VMX is off until the next reset.".into()
        }
    }
}

fn wrong(name: &str, missing: u64, excess: u64) -> String {
    let mut parts = Vec::new();
    if missing != 0 {
        parts.push(format!("{name} bits {missing:#x} must be 1 and are 0"));
    }
    if excess != 0 {
        parts.push(format!("{name} bits {excess:#x} must be 0 and are 1"));
    }
    parts.join("; ")
}
