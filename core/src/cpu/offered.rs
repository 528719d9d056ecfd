//! Which instructions exist: those of the features that the profile's CPUID reports.

use iced_x86::{CpuidFeature, DecoderOptions, Instruction};

use crate::vmx::cpuid_features::{feature, Feature};
use crate::vmx::profile::Profile;

/// What iced says an instruction needs, where CPUID has a bit for it. Instructions that CR4 alone turns off (VMX, …)
/// find that out themselves.
const NEEDS: &[(CpuidFeature, Feature)] = &[
    (CpuidFeature::ADX, feature::ADX),
    (CpuidFeature::AES, feature::AES),
    (CpuidFeature::AVX, feature::AVX),
    (CpuidFeature::AVX2, feature::AVX2),
    (CpuidFeature::BMI1, feature::BMI1),
    (CpuidFeature::BMI2, feature::BMI2),
    (CpuidFeature::CLFLUSHOPT, feature::CLFLUSHOPT),
    (CpuidFeature::CLFSH, feature::CLFSH),
    (CpuidFeature::CLWB, feature::CLWB),
    (CpuidFeature::CMOV, feature::CMOV),
    (CpuidFeature::CMPXCHG16B, feature::CX16),
    (CpuidFeature::CX8, feature::CX8),
    (CpuidFeature::F16C, feature::F16C),
    (CpuidFeature::FMA, feature::FMA),
    (CpuidFeature::FPU, feature::FPU),
    (CpuidFeature::FPU287, feature::FPU),
    (CpuidFeature::FPU387, feature::FPU),
    (CpuidFeature::FSGSBASE, feature::FSGSBASE),
    (CpuidFeature::FXSR, feature::FXSR),
    (CpuidFeature::INVPCID, feature::INVPCID),
    (CpuidFeature::LZCNT, feature::LZCNT),
    (CpuidFeature::MMX, feature::MMX),
    (CpuidFeature::MONITOR, feature::MONITOR),
    (CpuidFeature::MOVBE, feature::MOVBE),
    (CpuidFeature::MOVDIR64B, feature::MOVDIR64B),
    (CpuidFeature::MOVDIRI, feature::MOVDIRI),
    (CpuidFeature::MSR, feature::MSR),
    (CpuidFeature::PCLMULQDQ, feature::PCLMULQDQ),
    (CpuidFeature::PKU, feature::PKU),
    (CpuidFeature::POPCNT, feature::POPCNT),
    (CpuidFeature::RDPID, feature::RDPID),
    (CpuidFeature::RDRAND, feature::RDRAND),
    (CpuidFeature::RDSEED, feature::RDSEED),
    (CpuidFeature::RDTSCP, feature::RDTSCP),
    (CpuidFeature::SEP, feature::SEP),
    (CpuidFeature::SERIALIZE, feature::SERIALIZE),
    (CpuidFeature::SHA, feature::SHA),
    (CpuidFeature::SMAP, feature::SMAP),
    (CpuidFeature::SSE, feature::SSE),
    (CpuidFeature::SSE2, feature::SSE2),
    (CpuidFeature::SSE3, feature::SSE3),
    (CpuidFeature::SSE4_1, feature::SSE4_1),
    (CpuidFeature::SSE4_2, feature::SSE4_2),
    (CpuidFeature::SSSE3, feature::SSSE3),
    (CpuidFeature::SYSCALL, feature::SYSCALL),
    (CpuidFeature::TSC, feature::TSC),
    (CpuidFeature::VAES, feature::VAES),
    (CpuidFeature::VPCLMULQDQ, feature::VPCLMULQDQ),
    (CpuidFeature::WAITPKG, feature::WAITPKG),
    (CpuidFeature::XSAVE, feature::XSAVE),
    (CpuidFeature::XSAVEC, feature::XSAVEC),
    (CpuidFeature::XSAVEOPT, feature::XSAVEOPT),
    (CpuidFeature::XSAVES, feature::XSAVES),
];

/// What decoding needs to know of a profile.
#[derive(Clone, Debug)]
pub struct Offered {
    missing: Vec<bool>,
    /// iced's options: without their features LZCNT and TZCNT are BSR and BSF, and 64-bit mode has no LAHF and SAHF.
    pub options: u32,
}

impl Offered {
    pub fn by(profile: &Profile) -> Offered {
        let mut missing = vec![false; CpuidFeature::values().len()];
        for (needed, feature) in NEEDS {
            missing[*needed as usize] = !profile.has(*feature);
        }
        let options = [
            (feature::BMI1, DecoderOptions::NO_MPFX_0FBC),
            (feature::LZCNT, DecoderOptions::NO_MPFX_0FBD),
            (feature::LAHF64, DecoderOptions::NO_LAHF_SAHF_64),
        ];
        Offered {
            missing,
            options: options
                .iter()
                .filter(|(feature, _)| !profile.has(*feature))
                .fold(DecoderOptions::NONE, |all, (_, option)| all | option),
        }
    }

    /// Whether the processor has the instruction.
    pub fn has(&self, instruction: &Instruction) -> bool {
        !instruction
            .cpuid_features()
            .iter()
            .any(|needed| self.missing.get(*needed as usize) == Some(&true))
    }
}
