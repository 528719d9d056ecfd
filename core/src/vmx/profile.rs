//! CPU profiles: the CPUID leaves and VMX capability MSRs of a kind of processor.

use super::capability::{self, basic, misc, msr, Capabilities, VmxMsrs};
use super::controls::{primary, Word};
use super::cpuid_features::{feature, Feature, Register, ALL, CR4_ALWAYS};
use super::honoured;
use super::vmcs::REGION_SIZE;
use crate::cpu::xstate;

/// The profile that a machine gets when none is named.
pub const DEFAULT: &str = "gdbvmx";

#[derive(Clone, Debug)]
pub struct Profile {
    pub name: String,
    /// CPUID results by leaf and subleaf, ascending.
    leaves: Vec<Leaf>,
    msrs: VmxMsrs,
    capabilities: Capabilities,
    derived: Derived,
}

/// What follows from the leaves and is asked for at every page walk, VM entry or write of a control register.
#[derive(Clone, Copy, Debug, Default)]
struct Derived {
    physical_address_width: u32,
    /// EBX of leaf 7.
    extended_features: u32,
    linear_address_width: u8,
    huge_pages: bool,
    cr4_allowed: u64,
    efer_reserved: u64,
    perf_global_ctrl_reserved: u64,
    xcr0_allowed: u64,
    xss_allowed: u64,
}

#[derive(Clone, Copy, Debug)]
struct Leaf {
    leaf: u32,
    subleaf: u32,
    /// EAX, EBX, ECX, EDX.
    registers: [u32; 4],
}

/// What a built-in profile offers; its leaves and MSRs are computed from this.
struct Model {
    name: &'static str,
    about: &'static str,
    /// Family, model and stepping as CPUID.1:EAX gives them.
    signature: u32,
    physical_address_width: u8,
    features: &'static [Feature],
    revision: u32,
    basic: u64,
    /// The control bits that may be 1 and need not be.
    controls: fn(Word) -> u64,
    misc: u64,
    ept_vpid: u64,
}

/// The features of the first processors with both VT-x and 64-bit mode.
const FIRST_GENERATION: &[Feature] = &[
    feature::FPU,
    feature::DE,
    feature::PSE,
    feature::TSC,
    feature::MSR,
    feature::PAE,
    feature::MCE,
    feature::CX8,
    feature::APIC,
    feature::SEP,
    feature::MTRR,
    feature::PGE,
    feature::MCA,
    feature::CMOV,
    feature::PAT,
    feature::PSE36,
    feature::CLFSH,
    feature::MMX,
    feature::FXSR,
    feature::SSE,
    feature::SSE2,
    feature::MONITOR,
    feature::VMX,
    feature::CX16,
    feature::LAHF64,
    feature::SYSCALL,
    feature::NX,
    feature::LM,
];

/// The controls of the first generation: those without which no hypervisor of its time ran.
fn first_generation_controls(word: Word) -> u64 {
    use super::controls::{entry, exit, pin};
    honoured::controls(word)
        & match word {
            Word::Pin => pin::EXTERNAL_INTERRUPT_EXITING | pin::NMI_EXITING | pin::VIRTUAL_NMIS,
            Word::Primary => {
                !(primary::ACTIVATE_SECONDARY_CONTROLS
                    | primary::ACTIVATE_TERTIARY_CONTROLS
                    | primary::MONITOR_TRAP_FLAG)
            }
            Word::Exit => exit::HOST_ADDRESS_SPACE_SIZE | exit::ACKNOWLEDGE_INTERRUPT_ON_EXIT,
            Word::Entry => entry::IA32E_MODE_GUEST,
            _ => 0,
        }
}

static MODELS: &[Model] = &[
    Model {
        name: DEFAULT,
        about: "a recent Intel client processor with all that the core honours",
        signature: 0x0008_06ec,
        physical_address_width: 40,
        features: honoured::FEATURES,
        revision: 0x6764_6276,
        basic: honoured::BASIC,
        controls: honoured::controls,
        misc: honoured::MISC,
        ept_vpid: honoured::EPT_VPID,
    },
    Model {
        name: "minimal",
        about: "a first-generation VT-x processor: no secondary controls, EPT, VPID or TRUE capability MSRs",
        signature: 0x0000_06f6,
        physical_address_width: 36,
        features: FIRST_GENERATION,
        revision: 7,
        basic: 0,
        controls: first_generation_controls,
        misc: misc::ACTIVITY_HLT | misc::ACTIVITY_SHUTDOWN | misc::ACTIVITY_WAIT_FOR_SIPI | 4 << 16,
        ept_vpid: 0,
    },
];

impl Model {
    fn vmx_msrs(&self) -> VmxMsrs {
        const WRITE_BACK: u64 = 6;
        let mut msrs = VmxMsrs::default();
        let mut set = |address, value| assert!(msrs.set(address, value), "not a capability MSR");
        set(
            msr::BASIC,
            u64::from(self.revision) | (REGION_SIZE as u64) << 32 | WRITE_BACK << 50 | self.basic,
        );
        for (word, plain, with_true) in [
            (Word::Pin, msr::PINBASED_CTLS, msr::TRUE_PINBASED_CTLS),
            (Word::Primary, msr::PROCBASED_CTLS, msr::TRUE_PROCBASED_CTLS),
            (Word::Exit, msr::EXIT_CTLS, msr::TRUE_EXIT_CTLS),
            (Word::Entry, msr::ENTRY_CTLS, msr::TRUE_ENTRY_CTLS),
        ] {
            let required = word.default1();
            let allowed = required | (self.controls)(word);
            set(plain, required | allowed << 32);
            if self.basic & basic::TRUE_CONTROLS != 0 {
                set(with_true, required & !word.defined() | allowed << 32);
            }
        }
        set(msr::PROCBASED_CTLS2, (self.controls)(Word::Secondary) << 32);
        set(msr::PROCBASED_CTLS3, (self.controls)(Word::Tertiary));
        set(msr::EXIT_CTLS2, (self.controls)(Word::SecondaryExit));
        set(msr::VMFUNC, (self.controls)(Word::VmFunction));
        set(msr::MISC, self.misc);
        set(msr::EPT_VPID_CAP, self.ept_vpid);
        // PE, NE and PG are required, as is VMXE (SDM vol. 3, 24.8).
        set(msr::CR0_FIXED0, 0x8000_0021);
        set(msr::CR0_FIXED1, 0xffff_ffff);
        set(msr::CR4_FIXED0, 1 << 13);
        set(
            msr::CR4_FIXED1,
            self.features
                .iter()
                .fold(CR4_ALWAYS, |cr4, feature| cr4 | feature.cr4),
        );
        let fields = Capabilities::new(msrs).fields();
        let highest = fields.iter().map(|field| field.info().index()).max().unwrap_or(0);
        msrs.set(msr::VMCS_ENUM, u64::from(highest) << 1);
        msrs
    }

    fn leaves(&self) -> Vec<Leaf> {
        // Leaf 0BH tells the x2APIC ID, and comes with x2APIC mode; leaf 0DH comes with XSAVE.
        let last_basic = match (self.has(feature::XSAVE), self.has(feature::X2APIC)) {
            (true, _) => 0xd,
            (false, true) => 0xb,
            (false, false) => 7,
        };
        const LAST_EXTENDED: u32 = 0x8000_0008;
        let text = |bytes: &[u8]| {
            bytes
                .iter()
                .rev()
                .fold(0, |word, &byte| word << 8 | u32::from(byte))
        };
        let mut leaves: Vec<Leaf> = (0..=last_basic)
            .chain(0x8000_0000..=LAST_EXTENDED)
            .map(|leaf| Leaf {
                leaf,
                subleaf: 0,
                registers: [0; 4],
            })
            .collect();
        let mut brand = [0; 48];
        let words = b"gdbvmx emulated processor";
        brand[..words.len()].copy_from_slice(words);
        let brand_leaf = |n: usize| [0, 4, 8, 12].map(|i| text(&brand[16 * n + i..16 * n + i + 4]));
        for Leaf { leaf, registers, .. } in &mut leaves {
            *registers = match *leaf {
                0 => [last_basic, text(b"Genu"), text(b"ntel"), text(b"ineI")],
                // Lines of 64 bytes for CLFLUSH, one logical processor; the APIC ID is filled in by the
                // processor.
                1 => [self.signature, 8 << 8 | 1 << 16, 0, 0],
                // Cache descriptors: none here, see leaf 4, which has none either.
                2 => [0x00ff_0001, 0, 0, 0],
                // MONITOR works on lines of 64 bytes; MWAIT has its extension for masked interrupts, and one kind of C1.
                5 if self.has(feature::MONITOR) => [64, 64, 0b11, 1 << 4],
                // The level of threads, one to a core; the x2APIC ID is filled in by the processor.
                0xb => [0, 1, 1 << 8, 0],
                0x8000_0000 => [LAST_EXTENDED, 0, 0, 0],
                0x8000_0002..=0x8000_0004 => brand_leaf((*leaf - 0x8000_0002) as usize),
                // The TSC counts at one rate.
                0x8000_0007 => [0, 0, 0, 1 << 8],
                0x8000_0008 => {
                    let linear = if self.has(feature::LA57) { 57 } else { 48 };
                    [u32::from(self.physical_address_width) | linear << 8, 0, 0, 0]
                }
                _ => [0; 4],
            };
        }
        let mut insert = |leaf, subleaf, registers| {
            let row = Leaf {
                leaf,
                subleaf,
                registers,
            };
            match leaves.binary_search_by_key(&(leaf, subleaf), |row| (row.leaf, row.subleaf)) {
                Ok(at) => leaves[at] = row,
                Err(at) => leaves.insert(at, row),
            }
        };
        if last_basic >= 0xb {
            // The level of cores: the rest of the x2APIC ID, of 8 bits.
            insert(0xb, 1, [8, 1, 2 << 8 | 1, 0]);
        }
        if last_basic >= 0xd {
            for (subleaf, registers) in xstate::leaves(|feature| self.has(feature)) {
                insert(0xd, subleaf, registers);
            }
        }
        for feature in self.features {
            let place = |leaf: &&mut Leaf| (leaf.leaf, leaf.subleaf) == (feature.leaf, feature.subleaf);
            if let Some(leaf) = leaves.iter_mut().find(place) {
                leaf.registers[feature.register as usize] |= feature.mask();
            }
        }
        leaves
    }

    fn has(&self, feature: Feature) -> bool {
        self.features.contains(&feature)
    }
}

impl Default for Profile {
    fn default() -> Profile {
        Profile::of(&MODELS[0])
    }
}

impl Profile {
    fn of(model: &Model) -> Profile {
        let msrs = model.vmx_msrs();
        let capabilities = Capabilities::new(msrs);
        let mut profile = Profile {
            name: model.name.to_string(),
            leaves: model.leaves(),
            msrs,
            capabilities,
            derived: Derived::default(),
        };
        profile.derive();
        profile
    }

    fn derive(&mut self) {
        const SCE: u64 = 1;
        const LME_LMA: u64 = 1 << 8 | 1 << 10;
        const NXE: u64 = 1 << 11;
        let bits = [
            (feature::SYSCALL, SCE),
            (feature::LM, LME_LMA),
            (feature::NX, NXE),
        ];
        let efer = bits
            .iter()
            .filter(|(feature, _)| self.has(*feature))
            .fold(0, |efer, (_, bits)| efer | bits);
        let has = ALL.iter().filter(|&&feature| self.has(feature));
        self.derived = Derived {
            physical_address_width: (self.cpuid(0x8000_0008, 0)[0] & 0xff).clamp(32, 52),
            extended_features: self.cpuid(7, 0)[1],
            linear_address_width: if self.has(feature::LA57) { 57 } else { 48 },
            huge_pages: self.has(feature::PAGE1GB),
            cr4_allowed: has.fold(CR4_ALWAYS, |cr4, feature| cr4 | feature.cr4),
            efer_reserved: !efer,
            perf_global_ctrl_reserved: !self.performance_counters(),
            xcr0_allowed: self.offered_xcr0() & xstate::honoured().0,
            xss_allowed: self.offered_xss() & xstate::honoured().1,
        };
    }

    /// A bit for each counter of CPUID leaf 0AH, where IA32_PERF_GLOBAL_CTRL has it.
    fn performance_counters(&self) -> u64 {
        if self.cpuid(0, 0)[0] < 0xa {
            return 0;
        }
        let [eax, _, _, edx] = self.cpuid(0xa, 0);
        let counters = |count: u32| (1u64 << count.min(32)) - 1;
        counters(eax >> 8 & 0xff) | counters(edx & 31) << 32
    }

    /// The bits of XCR0 that CPUID says there are.
    fn offered_xcr0(&self) -> u64 {
        let [low, _, _, high] = self.find(0xd, 0).unwrap_or_default();
        u64::from(low) | u64::from(high) << 32
    }

    /// The bits of IA32_XSS that CPUID says there are.
    fn offered_xss(&self) -> u64 {
        let [_, _, low, high] = self.find(0xd, 1).unwrap_or_default();
        u64::from(low) | u64::from(high) << 32
    }

    /// The names of the built-in profiles with a line about each; the first is the default.
    pub fn builtin_names() -> Vec<(&'static str, &'static str)> {
        MODELS.iter().map(|model| (model.name, model.about)).collect()
    }

    pub fn builtin(name: &str) -> Option<Profile> {
        MODELS.iter().find(|model| model.name == name).map(Profile::of)
    }

    /// Replaces a VMX capability MSR. The error says which addresses are capability MSRs.
    pub fn set_msr(&mut self, address: u32, value: u64) -> Result<(), String> {
        if !self.msrs.set(address, value) {
            return Err(format!(
                "MSR {address:#x} is not a VMX capability MSR; those are {:#x} to {:#x}",
                capability::FIRST_MSR,
                capability::LAST_MSR
            ));
        }
        self.capabilities = Capabilities::new(self.msrs);
        Ok(())
    }

    /// Replaces one register of a CPUID leaf, adding the leaf if it is new.
    pub fn set_cpuid(&mut self, leaf: u32, subleaf: u32, register: Register, value: u32) {
        let at = self
            .leaves
            .partition_point(|row| (row.leaf, row.subleaf) < (leaf, subleaf));
        if !matches!(self.leaves.get(at), Some(row) if (row.leaf, row.subleaf) == (leaf, subleaf)) {
            self.leaves.insert(
                at,
                Leaf {
                    leaf,
                    subleaf,
                    registers: [0; 4],
                },
            );
        }
        self.leaves[at].registers[register as usize] = value;
        self.derive();
    }

    /// Sets whether CPUID reports `feature`.
    pub fn set_feature(&mut self, feature: Feature, there: bool) {
        let found = self.cpuid(feature.leaf, feature.subleaf)[feature.register as usize] & !feature.mask();
        let bit = if there { feature.mask() } else { 0 };
        self.set_cpuid(feature.leaf, feature.subleaf, feature.register, found | bit);
    }

    /// What the VMX capability MSRs allow.
    pub fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    /// EAX, EBX, ECX, EDX of a CPUID leaf. A leaf above the highest of its range gives the highest basic leaf
    /// (SDM vol. 2, CPUID); a leaf or subleaf that the profile does not have gives zeros.
    pub fn cpuid(&self, leaf: u32, subleaf: u32) -> [u32; 4] {
        let highest = |base: u32| self.find(base, 0).map_or(base, |registers| registers[0]);
        let leaf = match leaf {
            0x8000_0000.. if leaf <= highest(0x8000_0000) => leaf,
            _ => leaf.min(highest(0)),
        };
        let exact = self.find(leaf, subleaf);
        let result = if Profile::has_subleaves(leaf) {
            exact
        } else {
            exact.or_else(|| self.find(leaf, 0))
        };
        result.unwrap_or([0; 4])
    }

    fn find(&self, leaf: u32, subleaf: u32) -> Option<[u32; 4]> {
        let found = self
            .leaves
            .binary_search_by_key(&(leaf, subleaf), |row| (row.leaf, row.subleaf));
        found.ok().map(|at| self.leaves[at].registers)
    }

    /// Whether CPUID looks at ECX for this leaf.
    fn has_subleaves(leaf: u32) -> bool {
        matches!(
            leaf,
            4 | 7 | 0xb | 0xd | 0xf | 0x10 | 0x12 | 0x14 | 0x17 | 0x18 | 0x1a..=0x20 | 0x23
        )
    }

    pub fn has(&self, feature: Feature) -> bool {
        self.cpuid(feature.leaf, feature.subleaf)[feature.register as usize] & feature.mask() != 0
    }

    /// Family, model and stepping as CPUID.1:EAX gives them; EDX holds it after RESET.
    pub fn signature(&self) -> u32 {
        self.cpuid(1, 0)[0]
    }

    /// The physical-address width in bits, at least 32 and at most 52.
    pub fn maxphyaddr(&self) -> u32 {
        self.derived.physical_address_width
    }

    /// The extended feature flags: EBX of CPUID leaf 7.
    pub fn extended_features(&self) -> u32 {
        self.derived.extended_features
    }

    /// The linear-address width in bits that the processor has, whatever CR4.LA57 says.
    pub fn linear_address_width(&self) -> u8 {
        self.derived.linear_address_width
    }

    pub fn has_1g_pages(&self) -> bool {
        self.derived.huge_pages
    }

    /// The bits of CR4 that software may set.
    pub fn cr4_allowed(&self) -> u64 {
        self.derived.cr4_allowed
    }

    /// The bits of IA32_EFER that must be 0.
    pub fn efer_reserved(&self) -> u64 {
        self.derived.efer_reserved
    }

    /// The bits of IA32_PERF_GLOBAL_CTRL that must be 0: those of no counter that the processor has.
    pub fn perf_global_ctrl_reserved(&self) -> u64 {
        self.derived.perf_global_ctrl_reserved
    }

    /// The bits of XCR0 that software may set.
    pub fn xcr0_allowed(&self) -> u64 {
        self.derived.xcr0_allowed
    }

    /// The bits of IA32_XSS that software may set.
    pub fn xss_allowed(&self) -> u64 {
        self.derived.xss_allowed
    }

    /// What the profile offers to a guest and the core does not honour, a sentence each.
    pub fn unhonoured(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        let caps = &self.capabilities;
        for &word in Word::ALL {
            let honoured = honoured::controls(word) | word.default1();
            let excess = word.describe((caps.word(word).allowed | caps.word(word).required) & !honoured);
            if let (false, Some(address)) = (excess.is_empty(), caps.word_msr(word)) {
                warnings.push(not_honoured(address, &excess));
            }
        }
        for (address, honoured) in [
            (msr::BASIC, honoured::BASIC),
            (msr::MISC, honoured::MISC),
            (msr::EPT_VPID_CAP, honoured::EPT_VPID),
        ] {
            let offered = caps.read_msr(address).unwrap_or(0);
            let excess = capability::flag_names(address, offered & !honoured);
            if !excess.is_empty() {
                warnings.push(not_honoured(address, &excess));
            }
        }
        let excess: Vec<String> = ALL
            .iter()
            .filter(|&&feature| self.has(feature) && !honoured::FEATURES.contains(&feature))
            .map(|feature| feature.name.to_string())
            .collect();
        if !excess.is_empty() {
            warnings.push(format!(
                "CPUID offers what the core does not honour: {}",
                excess.join(", ")
            ));
        }
        if self.has(feature::XSAVE) {
            let (xcr0, xss) = (
                self.offered_xcr0() & !self.xcr0_allowed(),
                self.offered_xss() & !self.xss_allowed(),
            );
            for (register, excess) in [("XCR0", xcr0), ("IA32_XSS", xss)] {
                if excess != 0 {
                    warnings.push(format!(
                        "CPUID leaf 0xd offers bits of {register} that the core does not honour: {excess:#x}"
                    ));
                }
            }
        }
        warnings
    }
}

fn not_honoured<S: AsRef<str>>(address: u32, excess: &[S]) -> String {
    let names: Vec<String> = excess.iter().map(|name| format!("“{}”", name.as_ref())).collect();
    let msr = capability::msr_name(address).unwrap_or("a capability MSR");
    format!(
        "{msr} ({address:#x}) offers what the core does not honour: {}",
        names.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vmx::controls::{exit, pin, secondary};
    use crate::vmx::fields::field;

    #[test]
    fn built_in_profiles_offer_only_what_is_honoured() {
        for (name, _) in Profile::builtin_names() {
            let profile = Profile::builtin(name).unwrap();
            assert_eq!(profile.unhonoured(), Vec::<String>::new(), "{name}");
            assert!(profile.has(feature::VMX) && profile.has(feature::LM));
        }
        assert_eq!(Profile::default().name, DEFAULT);
        assert!(Profile::builtin("nonesuch").is_none());
    }

    #[test]
    fn the_default_has_ept_and_the_minimal_one_has_no_secondary_controls() {
        let profile = Profile::default();
        let caps = profile.capabilities();
        assert!(caps.allows(
            Word::Secondary,
            secondary::ENABLE_EPT | secondary::UNRESTRICTED_GUEST
        ));
        assert_eq!(caps.word(Word::Primary).required, 0x0400_6172);
        assert_eq!(caps.word(Word::Exit).required & exit::SAVE_DEBUG_CONTROLS, 0);
        let profile = Profile::builtin("minimal").unwrap();
        let caps = profile.capabilities();
        assert!(caps.word_msr(Word::Secondary).is_none() && caps.read_msr(msr::EPT_VPID_CAP).is_none());
        assert_eq!(
            caps.word(Word::Exit).required & exit::SAVE_DEBUG_CONTROLS,
            exit::SAVE_DEBUG_CONTROLS
        );
        assert!(!caps.allows(Word::Pin, pin::ACTIVATE_PREEMPTION_TIMER));
        assert!(!caps.has_field(field::EPT_POINTER) && caps.has_field(field::GUEST_RIP));
    }

    /// IA32_VMX_VMCS_ENUM gives the highest index of any field that exists (SDM vol. 3, A.9).
    #[test]
    fn the_highest_index_is_that_of_a_field() {
        for (name, _) in Profile::builtin_names() {
            let profile = Profile::builtin(name).unwrap();
            let highest = profile.capabilities().read_msr(msr::VMCS_ENUM).unwrap() >> 1;
            let indices: Vec<u16> = profile
                .capabilities()
                .fields()
                .iter()
                .map(|f| f.info().index())
                .collect();
            assert!(indices.iter().all(|&index| u64::from(index) <= highest));
            assert!(indices.iter().any(|&index| u64::from(index) == highest));
        }
    }

    #[test]
    fn cpuid_leaves() {
        let mut profile = Profile::default();
        let [max, ebx, ecx, edx] = profile.cpuid(0, 0);
        assert_eq!([ebx, edx, ecx].map(u32::to_le_bytes).concat(), b"GenuineIntel");
        assert_eq!(
            profile.cpuid(1, 7),
            profile.cpuid(1, 0),
            "leaf 1 has no subleaves"
        );
        assert_eq!(profile.cpuid(7, 1), [0; 4], "leaf 7 has");
        assert_eq!(
            profile.cpuid(max + 5, 0),
            profile.cpuid(max, 0),
            "above the highest leaf"
        );
        assert_eq!(profile.cpuid(0x8000_0009, 0), profile.cpuid(max, 0));
        assert_eq!((profile.maxphyaddr(), profile.signature()), (40, 0x806ec));
        profile.set_cpuid(0x8000_0008, 0, Register::Eax, 0xff);
        assert_eq!(profile.maxphyaddr(), 52);
        profile.set_cpuid(7, 1, Register::Ebx, 5);
        assert_eq!(profile.cpuid(7, 1), [0, 5, 0, 0]);
        assert_eq!(profile.efer_reserved(), !0xd01);
        assert_eq!(profile.perf_global_ctrl_reserved(), u64::MAX);
        profile.set_cpuid(0, 0, Register::Eax, 0xd);
        profile.set_cpuid(0xa, 0, Register::Eax, 4 << 8);
        profile.set_cpuid(0xa, 0, Register::Edx, 3);
        assert_eq!(profile.perf_global_ctrl_reserved(), !0x7_0000_000f);
    }

    #[test]
    fn a_profile_that_offers_more_says_what() {
        let mut profile = Profile::default();
        profile
            .set_msr(msr::PROCBASED_CTLS2, 0x0000_8002_0000_0000)
            .unwrap();
        profile.set_msr(msr::EPT_VPID_CAP, 1 << 23).unwrap();
        profile.set_cpuid(1, 0, Register::Ecx, 1 << 6);
        let warnings = profile.unhonoured();
        assert_eq!(warnings.len(), 3, "{warnings:?}");
        assert!(
            warnings[0].contains("ENCLS exiting") && warnings[0].contains("0x48b"),
            "{}",
            warnings[0]
        );
        assert!(!warnings[0].contains("enable EPT"));
        assert!(
            warnings[1].contains("shadow-stack") && warnings[2].contains("smx"),
            "{warnings:?}"
        );
        assert!(profile.set_msr(0x10, 0).unwrap_err().contains("0x480"));
    }
}
