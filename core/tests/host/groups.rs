//! The groups that cases are counted by, and which instructions can be compared at all.

use std::arch::is_x86_feature_detected as has;
use std::arch::x86_64::__cpuid_count;
use std::collections::HashSet;

use _core::cpu::decode::Flow;
use _core::cpu::exec::GROUPS as TABLES;
use iced_x86::{Code, CpuidFeature as Feature, Mnemonic};

/// A form belongs to the first group that has one of its features.
pub struct Group {
    pub name: &'static str,
    features: &'static [Feature],
}

/// The last takes what no other does.
pub const GROUPS: &[Group] = &[
    group("x87", &[Feature::FPU, Feature::FPU287, Feature::FPU387]),
    group("AES", &[Feature::AES, Feature::VAES]),
    group("PCLMULQDQ", &[Feature::PCLMULQDQ, Feature::VPCLMULQDQ]),
    group("SHA", &[Feature::SHA]),
    group("F16C", &[Feature::F16C]),
    group("FMA", &[Feature::FMA]),
    group("AVX2", &[Feature::AVX2]),
    group("AVX", &[Feature::AVX]),
    group("BMI1", &[Feature::BMI1]),
    group("BMI2", &[Feature::BMI2]),
    group("ADX", &[Feature::ADX]),
    group(
        "LZCNT POPCNT MOVBE",
        &[Feature::LZCNT, Feature::POPCNT, Feature::MOVBE],
    ),
    group("MMX", &[Feature::MMX]),
    group("SSE4.2", &[Feature::SSE4_2]),
    group("SSE4.1", &[Feature::SSE4_1]),
    group("SSSE3", &[Feature::SSSE3]),
    group("SSE3", &[Feature::SSE3]),
    group("SSE2", &[Feature::SSE2]),
    group("SSE and FXSR", &[Feature::SSE, Feature::FXSR]),
    group("CMPXCHG8B CMPXCHG16B", &[Feature::CX8, Feature::CMPXCHG16B]),
    group("CMOV", &[Feature::CMOV]),
    group(
        "integer 8086 to 286",
        &[
            Feature::INTEL8086,
            Feature::INTEL8086_ONLY,
            Feature::INTEL186,
            Feature::INTEL286,
            Feature::INTEL286_ONLY,
        ],
    ),
    group(
        "integer 386 and 486",
        &[
            Feature::INTEL386,
            Feature::INTEL386_ONLY,
            Feature::INTEL386_A0_ONLY,
            Feature::INTEL486,
            Feature::INTEL486_A_ONLY,
        ],
    ),
    group("integer 64 bits", &[Feature::X64]),
    group("hints and others", &[]),
];

const fn group(name: &'static str, features: &'static [Feature]) -> Group {
    Group { name, features }
}

/// The number of the group that `code` belongs to.
pub fn group_of(code: Code) -> usize {
    let features = code.cpuid_features();
    GROUPS
        .iter()
        .position(|group| group.features.iter().any(|feature| features.contains(feature)))
        .unwrap_or(GROUPS.len() - 1)
}

/// Not comparable in user mode; they have tests of their own.
const LEFT_OUT: &[Mnemonic] = &[
    // Approximations that each make of processor has its own tables for.
    Mnemonic::Rcpps,
    Mnemonic::Rcpss,
    Mnemonic::Rsqrtps,
    Mnemonic::Rsqrtss,
    Mnemonic::Vrcpps,
    Mnemonic::Vrcpss,
    Mnemonic::Vrsqrtps,
    Mnemonic::Vrsqrtss,
    // Time, random numbers, identity.
    Mnemonic::Rdtsc,
    Mnemonic::Rdtscp,
    Mnemonic::Rdrand,
    Mnemonic::Rdseed,
    Mnemonic::Rdpid,
    Mnemonic::Rdpmc,
    Mnemonic::Cpuid,
    Mnemonic::Xgetbv,
    // System registers, descriptor tables and segments, which are the operating system's.
    Mnemonic::Sgdt,
    Mnemonic::Sidt,
    Mnemonic::Sldt,
    Mnemonic::Str,
    Mnemonic::Smsw,
    Mnemonic::Lar,
    Mnemonic::Lsl,
    Mnemonic::Verr,
    Mnemonic::Verw,
    Mnemonic::Rdfsbase,
    Mnemonic::Rdgsbase,
    Mnemonic::Wrfsbase,
    Mnemonic::Wrgsbase,
    Mnemonic::Lds,
    Mnemonic::Les,
    Mnemonic::Lfs,
    Mnemonic::Lgs,
    Mnemonic::Lss,
    // All of the extended state, in images that random bytes are not: xsave.rs compares these.
    Mnemonic::Xsave,
    Mnemonic::Xsave64,
    Mnemonic::Xsaveopt,
    Mnemonic::Xsaveopt64,
    Mnemonic::Xsavec,
    Mnemonic::Xsavec64,
    Mnemonic::Xsaves,
    Mnemonic::Xsaves64,
    Mnemonic::Xrstor,
    Mnemonic::Xrstor64,
    Mnemonic::Xrstors,
    Mnemonic::Xrstors64,
];

/// The forms that the core executes and the host can be asked about.
pub fn comparable() -> HashSet<Code> {
    let mnemonics: HashSet<Mnemonic> = TABLES
        .iter()
        .flat_map(|table| table.iter())
        .filter(|(mnemonic, _, flow)| *flow == Flow::Next && !LEFT_OUT.contains(mnemonic))
        .map(|(mnemonic, ..)| *mnemonic)
        .collect();
    Code::values()
        .filter(|code| mnemonics.contains(&code.mnemonic()) && host_has(*code))
        .collect()
}

fn host_has(code: Code) -> bool {
    let bit = |register: u32, bit: u32| register >> bit & 1 != 0;
    // CPUID with leaf 7 is there where AVX2 is, and reads as zeros elsewhere.
    let leaf_7 = __cpuid_count(7, 0);
    code.cpuid_features().iter().all(|feature| match feature {
        Feature::ADX => has!("adx"),
        Feature::AES => has!("aes"),
        Feature::AVX => has!("avx"),
        Feature::AVX2 => has!("avx2"),
        Feature::BMI1 => has!("bmi1"),
        Feature::BMI2 => has!("bmi2"),
        Feature::F16C => has!("f16c"),
        Feature::FMA => has!("fma"),
        Feature::LZCNT => has!("lzcnt"),
        Feature::MOVBE => has!("movbe"),
        Feature::PCLMULQDQ => has!("pclmulqdq"),
        Feature::POPCNT => has!("popcnt"),
        Feature::SHA => has!("sha"),
        Feature::SSE3 => has!("sse3"),
        Feature::SSSE3 => has!("ssse3"),
        Feature::SSE4_1 => has!("sse4.1"),
        Feature::SSE4_2 => has!("sse4.2"),
        Feature::VAES => has!("vaes"),
        Feature::VPCLMULQDQ => has!("vpclmulqdq"),
        // Written to another place than the case's memory operand.
        Feature::MOVDIR64B => false,
        Feature::MOVDIRI => bit(leaf_7.ecx, 27),
        Feature::SERIALIZE => bit(leaf_7.edx, 14),
        Feature::CLFLUSHOPT => bit(leaf_7.ebx, 23),
        Feature::CLWB => bit(leaf_7.ebx, 24),
        _ => true,
    })
}
