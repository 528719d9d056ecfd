//! The features that CPUID reports by single bits (SDM vol. 2, CPUID), and the CR4 bits that come with them.

/// The registers that CPUID writes, in the order of its results.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Register {
    Eax,
    Ebx,
    Ecx,
    Edx,
}

impl Register {
    pub const ALL: [Register; 4] = [Register::Eax, Register::Ebx, Register::Ecx, Register::Edx];

    /// The register called `name`, in lower case.
    pub fn by_name(name: &str) -> Option<Register> {
        Register::ALL.into_iter().find(|register| register.name() == name)
    }

    pub const fn name(self) -> &'static str {
        match self {
            Register::Eax => "eax",
            Register::Ebx => "ebx",
            Register::Ecx => "ecx",
            Register::Edx => "edx",
        }
    }
}

/// A CPUID feature bit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Feature {
    pub name: &'static str,
    pub leaf: u32,
    pub subleaf: u32,
    pub register: Register,
    pub bit: u8,
    /// The bits of CR4 that may be 1 on a processor with the feature.
    pub cr4: u64,
}

impl Feature {
    /// The feature called `name`, in lower case.
    pub fn by_name(name: &str) -> Option<Feature> {
        ALL.iter().find(|feature| feature.name == name).copied()
    }

    pub const fn mask(&self) -> u32 {
        1 << self.bit
    }
}

macro_rules! features {
    ($($leaf:literal $subleaf:literal $register:ident {
        $($bit:literal $constant:ident $name:literal $(cr4 $cr4:expr)?;)*
    })*) => {
        /// The features, by name.
        pub mod feature {
            use super::{Feature, Register};
            $($(
                #[doc = $name]
                pub const $constant: Feature = Feature {
                    name: $name,
                    leaf: $leaf,
                    subleaf: $subleaf,
                    register: Register::$register,
                    bit: $bit,
                    cr4: 0 $(| $cr4)?,
                };
            )*)*
        }

        /// Every feature that the core has a name for.
        pub static ALL: &[Feature] = &[$($(feature::$constant,)*)*];
    };
}

features! {
    1 0 Ecx {
        0 SSE3 "sse3";
        1 PCLMULQDQ "pclmulqdq";
        3 MONITOR "monitor";
        5 VMX "vmx" cr4 1 << 13;
        6 SMX "smx" cr4 1 << 14;
        9 SSSE3 "ssse3";
        12 FMA "fma";
        13 CX16 "cx16";
        17 PCID "pcid" cr4 1 << 17;
        19 SSE4_1 "sse4_1";
        20 SSE4_2 "sse4_2";
        21 X2APIC "x2apic";
        22 MOVBE "movbe";
        23 POPCNT "popcnt";
        24 TSC_DEADLINE "tsc_deadline";
        25 AES "aes";
        26 XSAVE "xsave" cr4 1 << 18;
        28 AVX "avx";
        29 F16C "f16c";
        30 RDRAND "rdrand";
    }
    1 0 Edx {
        0 FPU "fpu";
        1 VME "vme" cr4 0b11;
        2 DE "de" cr4 1 << 3;
        3 PSE "pse" cr4 1 << 4;
        4 TSC "tsc" cr4 1 << 2;
        5 MSR "msr";
        6 PAE "pae" cr4 1 << 5;
        7 MCE "mce" cr4 1 << 6;
        8 CX8 "cx8";
        9 APIC "apic";
        11 SEP "sep";
        12 MTRR "mtrr";
        13 PGE "pge" cr4 1 << 7;
        14 MCA "mca";
        15 CMOV "cmov";
        16 PAT "pat";
        17 PSE36 "pse36";
        19 CLFSH "clfsh";
        23 MMX "mmx";
        24 FXSR "fxsr" cr4 1 << 9;
        25 SSE "sse" cr4 1 << 10;
        26 SSE2 "sse2";
    }
    7 0 Ebx {
        0 FSGSBASE "fsgsbase" cr4 1 << 16;
        1 TSC_ADJUST "tsc_adjust";
        3 BMI1 "bmi1";
        5 AVX2 "avx2";
        6 FDP_EXCPTN_ONLY "fdp_excptn_only";
        7 SMEP "smep" cr4 1 << 20;
        8 BMI2 "bmi2";
        9 ERMS "erms";
        10 INVPCID "invpcid";
        13 ZERO_FCS_FDS "zero_fcs_fds";
        18 RDSEED "rdseed";
        19 ADX "adx";
        20 SMAP "smap" cr4 1 << 21;
        23 CLFLUSHOPT "clflushopt";
        24 CLWB "clwb";
        29 SHA "sha";
    }
    7 0 Ecx {
        2 UMIP "umip" cr4 1 << 11;
        3 PKU "pku" cr4 1 << 22;
        5 WAITPKG "waitpkg";
        7 CET_SS "cet_ss" cr4 1 << 23;
        9 VAES "vaes";
        10 VPCLMULQDQ "vpclmulqdq";
        16 LA57 "la57" cr4 1 << 12;
        22 RDPID "rdpid";
        25 CLDEMOTE "cldemote";
        27 MOVDIRI "movdiri";
        28 MOVDIR64B "movdir64b";
        31 PKS "pks" cr4 1 << 24;
    }
    7 0 Edx {
        14 SERIALIZE "serialize";
        20 CET_IBT "cet_ibt" cr4 1 << 23;
    }
    0xd 1 Eax {
        0 XSAVEOPT "xsaveopt";
        1 XSAVEC "xsavec";
        2 XGETBV1 "xgetbv1";
        3 XSAVES "xsaves";
    }
    0x8000_0001 0 Ecx {
        0 LAHF64 "lahf64";
        5 LZCNT "lzcnt";
        8 PREFETCHW "prefetchw";
    }
    0x8000_0001 0 Edx {
        11 SYSCALL "syscall";
        20 NX "nx";
        26 PAGE1GB "page1gb";
        27 RDTSCP "rdtscp";
        29 LM "lm";
    }
}

/// CR4.PCE has no feature bit: every processor with VMX has RDPMC.
pub const CR4_ALWAYS: u64 = 1 << 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_and_names_are_unique() {
        for (i, a) in ALL.iter().enumerate() {
            for b in &ALL[i + 1..] {
                assert_ne!(a.name, b.name);
                assert_ne!(
                    (a.leaf, a.subleaf, a.register, a.bit),
                    (b.leaf, b.subleaf, b.register, b.bit)
                );
            }
        }
    }
}
