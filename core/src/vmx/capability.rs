//! The VMX capability MSRs (SDM vol. 3, appendix A): what a processor allows, from their values, and in
//! words.

use super::controls::Word;
use super::fields::{Field, FieldSet};

/// The first and last of the VMX capability MSRs.
pub const FIRST_MSR: u32 = 0x480;
pub const LAST_MSR: u32 = 0x493;
const MSR_COUNT: usize = (LAST_MSR - FIRST_MSR + 1) as usize;

/// The addresses and names of the capability MSRs, by address.
pub mod msr {
    pub const BASIC: u32 = 0x480;
    pub const PINBASED_CTLS: u32 = 0x481;
    pub const PROCBASED_CTLS: u32 = 0x482;
    pub const EXIT_CTLS: u32 = 0x483;
    pub const ENTRY_CTLS: u32 = 0x484;
    pub const MISC: u32 = 0x485;
    pub const CR0_FIXED0: u32 = 0x486;
    pub const CR0_FIXED1: u32 = 0x487;
    pub const CR4_FIXED0: u32 = 0x488;
    pub const CR4_FIXED1: u32 = 0x489;
    pub const VMCS_ENUM: u32 = 0x48a;
    pub const PROCBASED_CTLS2: u32 = 0x48b;
    pub const EPT_VPID_CAP: u32 = 0x48c;
    pub const TRUE_PINBASED_CTLS: u32 = 0x48d;
    pub const TRUE_PROCBASED_CTLS: u32 = 0x48e;
    pub const TRUE_EXIT_CTLS: u32 = 0x48f;
    pub const TRUE_ENTRY_CTLS: u32 = 0x490;
    pub const VMFUNC: u32 = 0x491;
    pub const PROCBASED_CTLS3: u32 = 0x492;
    pub const EXIT_CTLS2: u32 = 0x493;

    pub(super) static NAMES: [&str; super::MSR_COUNT] = [
        "IA32_VMX_BASIC",
        "IA32_VMX_PINBASED_CTLS",
        "IA32_VMX_PROCBASED_CTLS",
        "IA32_VMX_EXIT_CTLS",
        "IA32_VMX_ENTRY_CTLS",
        "IA32_VMX_MISC",
        "IA32_VMX_CR0_FIXED0",
        "IA32_VMX_CR0_FIXED1",
        "IA32_VMX_CR4_FIXED0",
        "IA32_VMX_CR4_FIXED1",
        "IA32_VMX_VMCS_ENUM",
        "IA32_VMX_PROCBASED_CTLS2",
        "IA32_VMX_EPT_VPID_CAP",
        "IA32_VMX_TRUE_PINBASED_CTLS",
        "IA32_VMX_TRUE_PROCBASED_CTLS",
        "IA32_VMX_TRUE_EXIT_CTLS",
        "IA32_VMX_TRUE_ENTRY_CTLS",
        "IA32_VMX_VMFUNC",
        "IA32_VMX_PROCBASED_CTLS3",
        "IA32_VMX_EXIT_CTLS2",
    ];
}

/// A single bit of a capability MSR that says yes or no.
#[derive(Debug)]
pub struct Flag {
    pub msr: u32,
    pub bit: u8,
    pub name: &'static str,
}

macro_rules! flags {
    ($($module:ident $msr:ident $table:ident { $($bit:literal $constant:ident $name:literal;)* })*) => {
        $(
            #[doc = concat!("The yes-or-no bits of ", stringify!($msr), ".")]
            pub mod $module {
                $(#[doc = $name] pub const $constant: u64 = 1 << $bit;)*
            }
            static $table: &[Flag] = &[$(Flag { msr: msr::$msr, bit: $bit, name: $name }),*];
        )*
    };
}

flags! {
    basic BASIC BASIC_FLAGS {
        48 ADDRESSES_32_BIT "VMX structures lie below 4 GiB";
        49 DUAL_MONITOR "dual-monitor treatment of SMIs and SMM";
        54 INS_OUTS_INFORMATION "instruction information at exits for INS and OUTS";
        55 TRUE_CONTROLS "default1 controls may be 0 (TRUE capability MSRs)";
        56 ANY_ERROR_CODE "hardware exceptions injected with or without error code";
    }
    misc MISC MISC_FLAGS {
        5 STORE_LMA "VM exits store EFER.LMA in “IA-32e mode guest”";
        6 ACTIVITY_HLT "activity state HLT";
        7 ACTIVITY_SHUTDOWN "activity state shutdown";
        8 ACTIVITY_WAIT_FOR_SIPI "activity state wait-for-SIPI";
        14 PT_IN_VMX "Intel PT in VMX operation";
        15 SMBASE_IN_SMM "RDMSR of IA32_SMBASE in SMM";
        28 SMM_MONITOR_CTL "bit 2 of IA32_SMM_MONITOR_CTL";
        29 VMWRITE_EXIT_INFORMATION "VMWRITE to VM-exit information fields";
        30 ZERO_LENGTH_INJECTION "injection of software events with instruction length 0";
    }
    ept_vpid EPT_VPID_CAP EPT_VPID_FLAGS {
        0 EXECUTE_ONLY "EPT execute-only translations";
        6 WALK_4 "EPT page walk of 4 levels";
        7 WALK_5 "EPT page walk of 5 levels";
        8 MEMORY_TYPE_UC "EPT paging structures of memory type UC";
        14 MEMORY_TYPE_WB "EPT paging structures of memory type WB";
        16 PAGES_2M "EPT 2-MByte pages";
        17 PAGES_1G "EPT 1-GByte pages";
        20 INVEPT "INVEPT";
        21 ACCESSED_DIRTY "EPT accessed and dirty flags";
        22 ADVANCED_EXIT_INFORMATION "advanced exit information for EPT violations";
        23 SUPERVISOR_SHADOW_STACK "EPT supervisor shadow-stack control";
        25 INVEPT_SINGLE_CONTEXT "INVEPT single-context";
        26 INVEPT_ALL_CONTEXT "INVEPT all-context";
        32 INVVPID "INVVPID";
        40 INVVPID_INDIVIDUAL_ADDRESS "INVVPID individual-address";
        41 INVVPID_SINGLE_CONTEXT "INVVPID single-context";
        42 INVVPID_ALL_CONTEXT "INVVPID all-context";
        43 INVVPID_SINGLE_CONTEXT_RETAINING_GLOBALS "INVVPID single-context-retaining-globals";
    }
}

/// The name of a capability MSR.
pub fn msr_name(address: u32) -> Option<&'static str> {
    msr::NAMES.get(address.checked_sub(FIRST_MSR)? as usize).copied()
}

/// The names of the yes-or-no bits of a capability MSR that are set in `bits`.
pub fn flag_names(address: u32, bits: u64) -> Vec<&'static str> {
    let tables = [BASIC_FLAGS, MISC_FLAGS, EPT_VPID_FLAGS];
    let flags = tables
        .into_iter()
        .flatten()
        .filter(|flag| flag.msr == address && bits >> flag.bit & 1 != 0);
    flags.map(|flag| flag.name).collect()
}

/// The values of the capability MSRs, as a profile gives them. Which of them a RDMSR finds follows from the
/// values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VmxMsrs([u64; MSR_COUNT]);

impl VmxMsrs {
    /// The value for `address`; 0 for what is not a capability MSR.
    pub fn get(&self, address: u32) -> u64 {
        address
            .checked_sub(FIRST_MSR)
            .and_then(|i| self.0.get(i as usize))
            .copied()
            .unwrap_or(0)
    }

    /// Sets the value for `address`; false if that is not a capability MSR.
    pub fn set(&mut self, address: u32, value: u64) -> bool {
        match address
            .checked_sub(FIRST_MSR)
            .and_then(|i| self.0.get_mut(i as usize))
        {
            Some(slot) => {
                *slot = value;
                true
            }
            None => false,
        }
    }
}

/// Which settings of a control word are allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Allowed {
    /// Bits that must be 1.
    pub required: u64,
    /// Bits that may be 1.
    pub allowed: u64,
}

impl Allowed {
    /// From a capability MSR with the allowed 0-settings in its low half and the allowed 1-settings in its
    /// high half.
    pub const fn from_halves(value: u64) -> Allowed {
        Allowed {
            required: value & 0xffff_ffff,
            allowed: value >> 32,
        }
    }

    pub const fn accepts(&self, value: u64) -> bool {
        self.missing(value) == 0 && self.excess(value) == 0
    }

    /// Bits that must be 1 and are 0 in `value`.
    pub const fn missing(&self, value: u64) -> u64 {
        self.required & !value
    }

    /// Bits that must be 0 and are 1 in `value`.
    pub const fn excess(&self, value: u64) -> u64 {
        value & !self.allowed
    }
}

/// What a processor with given capability MSRs allows.
#[derive(Clone, Debug)]
pub struct Capabilities {
    msrs: VmxMsrs,
    words: [Allowed; 8],
    fields: FieldSet,
}

impl Capabilities {
    pub fn new(msrs: VmxMsrs) -> Capabilities {
        let mut capabilities = Capabilities {
            msrs,
            words: [Allowed::default(); 8],
            fields: FieldSet::EMPTY,
        };
        // In the order of Word::ALL, activating words come before the words that they activate.
        for &word in Word::ALL {
            capabilities.words[word as usize] = match capabilities.word_msr(word) {
                Some(address) if word.bits() == 32 => Allowed::from_halves(msrs.get(address)),
                Some(address) => Allowed {
                    required: 0,
                    allowed: msrs.get(address),
                },
                None => Allowed::default(),
            };
        }
        for field in Field::all() {
            let needs = field.info().needs;
            if needs.is_empty() || needs.iter().any(|&(word, bits)| capabilities.allows(word, bits)) {
                capabilities.fields.insert(field);
            }
        }
        capabilities
    }

    /// The MSR that rules over a control word, if the word exists: the TRUE one where there is one (A.3 to
    /// A.5).
    pub fn word_msr(&self, word: Word) -> Option<u32> {
        use super::controls::{exit, primary, secondary};
        let by_true = |plain, with_true| {
            Some(if self.has_true_controls() {
                with_true
            } else {
                plain
            })
        };
        match word {
            Word::Pin => by_true(msr::PINBASED_CTLS, msr::TRUE_PINBASED_CTLS),
            Word::Primary => by_true(msr::PROCBASED_CTLS, msr::TRUE_PROCBASED_CTLS),
            Word::Exit => by_true(msr::EXIT_CTLS, msr::TRUE_EXIT_CTLS),
            Word::Entry => by_true(msr::ENTRY_CTLS, msr::TRUE_ENTRY_CTLS),
            Word::Secondary => self
                .allows(Word::Primary, primary::ACTIVATE_SECONDARY_CONTROLS)
                .then_some(msr::PROCBASED_CTLS2),
            Word::Tertiary => self
                .allows(Word::Primary, primary::ACTIVATE_TERTIARY_CONTROLS)
                .then_some(msr::PROCBASED_CTLS3),
            Word::SecondaryExit => self
                .allows(Word::Exit, exit::ACTIVATE_SECONDARY_CONTROLS)
                .then_some(msr::EXIT_CTLS2),
            Word::VmFunction => self
                .allows(Word::Secondary, secondary::ENABLE_VM_FUNCTIONS)
                .then_some(msr::VMFUNC),
        }
    }

    /// The allowed settings of a control word.
    #[inline]
    pub fn word(&self, word: Word) -> Allowed {
        self.words[word as usize]
    }

    /// Whether all of `bits` may be 1.
    #[inline]
    pub fn allows(&self, word: Word, bits: u64) -> bool {
        self.word(word).allowed & bits == bits
    }

    /// What RDMSR of a capability MSR gives, or None if this processor does not have the MSR (#GP).
    pub fn read_msr(&self, address: u32) -> Option<u64> {
        use super::controls::secondary::{ENABLE_EPT, ENABLE_VPID};
        let exists = match address {
            msr::BASIC..=msr::VMCS_ENUM => true,
            msr::PROCBASED_CTLS2 => self.word_msr(Word::Secondary).is_some(),
            msr::EPT_VPID_CAP => self.word(Word::Secondary).allowed & (ENABLE_EPT | ENABLE_VPID) != 0,
            msr::TRUE_PINBASED_CTLS..=msr::TRUE_ENTRY_CTLS => self.has_true_controls(),
            msr::VMFUNC => self.word_msr(Word::VmFunction).is_some(),
            msr::PROCBASED_CTLS3 => self.word_msr(Word::Tertiary).is_some(),
            msr::EXIT_CTLS2 => self.word_msr(Word::SecondaryExit).is_some(),
            _ => false,
        };
        exists.then(|| self.msrs.get(address))
    }

    /// Whether VMREAD and VMWRITE know the field.
    #[inline]
    pub fn has_field(&self, field: Field) -> bool {
        self.fields.contains(field)
    }

    /// The fields that exist on this processor.
    pub fn fields(&self) -> FieldSet {
        self.fields
    }

    pub fn basic(&self) -> u64 {
        self.msrs.get(msr::BASIC)
    }

    pub fn has_true_controls(&self) -> bool {
        self.basic() & basic::TRUE_CONTROLS != 0
    }

    /// The VMCS revision identifier.
    pub fn revision(&self) -> u32 {
        self.basic() as u32 & 0x7fff_ffff
    }

    /// The bits that a physical address of a VMX structure must not set, for a physical-address width in
    /// bits.
    pub fn address_reserved(&self, physical_address_width: u8) -> u64 {
        let width = if self.basic() & basic::ADDRESSES_32_BIT != 0 {
            32
        } else {
            physical_address_width
        };
        u64::MAX.checked_shl(u32::from(width)).unwrap_or(0)
    }

    pub fn misc(&self) -> u64 {
        self.msrs.get(msr::MISC)
    }

    /// The preemption timer counts down each time that this bit of the TSC changes.
    pub fn preemption_timer_shift(&self) -> u8 {
        self.misc() as u8 & 31
    }

    pub fn cr3_target_count(&self) -> u64 {
        self.misc() >> 16 & 0x1ff
    }

    /// The longest MSR list that the SDM recommends (A.6).
    pub fn msr_list_limit(&self) -> u64 {
        512 * ((self.misc() >> 25 & 7) + 1)
    }

    /// IA32_VMX_EPT_VPID_CAP, or 0 where it does not exist.
    pub fn ept_vpid(&self) -> u64 {
        self.read_msr(msr::EPT_VPID_CAP).unwrap_or(0)
    }

    /// The settings of CR0 that VMX operation allows (A.7).
    #[inline]
    pub fn cr0(&self) -> Allowed {
        Allowed {
            required: self.msrs.get(msr::CR0_FIXED0),
            allowed: self.msrs.get(msr::CR0_FIXED1),
        }
    }

    /// The settings of CR4 that VMX operation allows (A.8).
    #[inline]
    pub fn cr4(&self) -> Allowed {
        Allowed {
            required: self.msrs.get(msr::CR4_FIXED0),
            allowed: self.msrs.get(msr::CR4_FIXED1),
        }
    }
}

/// A line of the capabilities in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    pub msr: u32,
    /// The bit, or the range `high:low`.
    pub bits: String,
    pub name: String,
    /// `required`, `allowed` or `forbidden` for a control; `yes` or `no` for a flag; otherwise the value.
    pub setting: String,
}

impl Capabilities {
    /// Everything the capability MSRs say, in the order of the MSRs.
    pub fn in_words(&self) -> Vec<Line> {
        let mut lines = self.basic_in_words();
        for &word in Word::ALL {
            self.word_in_words(word, &mut lines);
        }
        self.misc_in_words(&mut lines);
        for (address, name) in [(msr::CR0_FIXED0, "CR0"), (msr::CR4_FIXED0, "CR4")] {
            for (address, what) in [
                (address, "bits that must be 1"),
                (address + 1, "bits that may be 1"),
            ] {
                lines.push(value_line(
                    address,
                    "63:0",
                    format!("{name} {what}"),
                    hex(self.msrs.get(address)),
                ));
            }
        }
        let highest = self.msrs.get(msr::VMCS_ENUM) >> 1 & 0x1ff;
        lines.push(value_line(
            msr::VMCS_ENUM,
            "9:1",
            "highest index of a VMCS field",
            highest.to_string(),
        ));
        if self.read_msr(msr::EPT_VPID_CAP).is_some() {
            lines.extend(EPT_VPID_FLAGS.iter().map(|flag| self.flag_line(flag)));
        }
        lines.sort_by_key(|line| line.msr);
        lines
    }

    fn basic_in_words(&self) -> Vec<Line> {
        let basic = self.basic();
        let mut lines = vec![
            value_line(
                msr::BASIC,
                "30:0",
                "VMCS revision identifier",
                hex(u64::from(self.revision())),
            ),
            value_line(
                msr::BASIC,
                "44:32",
                "bytes of a VMCS region",
                (basic >> 32 & 0x1fff).to_string(),
            ),
            value_line(
                msr::BASIC,
                "53:50",
                "memory type for VMX structures",
                super::describe::memory_type(basic >> 50 & 15).to_string(),
            ),
        ];
        lines.extend(BASIC_FLAGS.iter().map(|flag| self.flag_line(flag)));
        lines
    }

    fn misc_in_words(&self, lines: &mut Vec<Line>) {
        let shift = self.preemption_timer_shift().to_string();
        lines.push(value_line(
            msr::MISC,
            "4:0",
            "VMX-preemption timer counts changes of TSC bit",
            shift,
        ));
        let targets = self.cr3_target_count().to_string();
        lines.push(value_line(msr::MISC, "24:16", "CR3-target values", targets));
        let limit = self.msr_list_limit().to_string();
        lines.push(value_line(
            msr::MISC,
            "27:25",
            "recommended maximum of MSRs in a list",
            limit,
        ));
        let mseg = hex(self.misc() >> 32);
        lines.push(value_line(msr::MISC, "63:32", "MSEG revision identifier", mseg));
        lines.extend(MISC_FLAGS.iter().map(|flag| self.flag_line(flag)));
    }

    fn flag_line(&self, flag: &Flag) -> Line {
        let setting = if self.msrs.get(flag.msr) >> flag.bit & 1 != 0 {
            "yes"
        } else {
            "no"
        };
        value_line(flag.msr, &flag.bit.to_string(), flag.name, setting.to_string())
    }

    /// The controls of a word. Bits without a name appear only where their setting is up to software.
    fn word_in_words(&self, word: Word, lines: &mut Vec<Line>) {
        let Some(address) = self.word_msr(word) else {
            return;
        };
        let Allowed { required, allowed } = self.word(word);
        for bit in 0..word.bits() {
            let mask = 1 << bit;
            let name = match word.control(bit) {
                Some(control) => control.name.to_string(),
                None if allowed & !required & mask != 0 => format!("bit {bit}, without a name in the SDM"),
                None => continue,
            };
            let setting = match (required & mask != 0, allowed & mask != 0) {
                (true, _) => "required",
                (false, true) => "allowed",
                (false, false) => "forbidden",
            };
            lines.push(value_line(address, &bit.to_string(), name, setting.to_string()));
        }
    }
}

fn value_line(msr: u32, bits: &str, name: impl Into<String>, setting: String) -> Line {
    Line {
        msr,
        bits: bits.to_string(),
        name: name.into(),
        setting,
    }
}

fn hex(value: u64) -> String {
    format!("{value:#x}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vmx::controls::{pin, primary, secondary};
    use crate::vmx::fields::field;

    /// The MSRs of a Skylake client processor, as far as a test needs them.
    fn skylake() -> VmxMsrs {
        let mut msrs = VmxMsrs::default();
        for (address, value) in [
            (msr::BASIC, 0x00da_0400_0000_0004),
            (msr::PINBASED_CTLS, 0x0000_007f_0000_0016),
            (msr::PROCBASED_CTLS, 0xfff9_fffe_0401_e172),
            (msr::MISC, 0x7004_c1e7),
            (msr::PROCBASED_CTLS2, 0x005f_fcff_0000_0000),
            (msr::EPT_VPID_CAP, 0x0000_0f01_0673_4141),
            (msr::TRUE_PINBASED_CTLS, 0x0000_007f_0000_0016),
            (msr::TRUE_PROCBASED_CTLS, 0xfff9_fffe_0400_6172),
            (msr::TRUE_EXIT_CTLS, 0x01ff_ffff_0003_6dfb),
            (msr::TRUE_ENTRY_CTLS, 0x0003_ffff_0000_11fb),
            (msr::VMFUNC, 1),
        ] {
            assert!(msrs.set(address, value));
        }
        msrs
    }

    #[test]
    fn true_msrs_rule_where_they_exist() {
        let capabilities = Capabilities::new(skylake());
        assert_eq!(
            capabilities.word_msr(Word::Primary),
            Some(msr::TRUE_PROCBASED_CTLS)
        );
        assert_eq!(
            capabilities.word(Word::Primary).required & primary::CR3_LOAD_EXITING,
            0
        );
        let mut msrs = skylake();
        msrs.set(msr::BASIC, 0x0000_0400_0000_0004);
        let capabilities = Capabilities::new(msrs);
        assert_ne!(
            capabilities.word(Word::Primary).required & primary::CR3_LOAD_EXITING,
            0
        );
        assert_eq!(capabilities.read_msr(msr::TRUE_PROCBASED_CTLS), None);
    }

    #[test]
    fn words_fields_and_msrs_exist_with_the_controls_that_they_need() {
        let capabilities = Capabilities::new(skylake());
        assert!(capabilities.allows(Word::Secondary, secondary::ENABLE_EPT | secondary::ENABLE_VPID));
        assert!(!capabilities.allows(Word::Pin, pin::PROCESS_POSTED_INTERRUPTS));
        assert!(
            capabilities.has_field(field::EPT_POINTER) && capabilities.has_field(field::EPTP_LIST_ADDRESS)
        );
        assert!(!capabilities.has_field(field::POSTED_INTERRUPT_DESCRIPTOR_ADDRESS));
        assert!(!capabilities.has_field(field::TERTIARY_PROCESSOR_BASED_CONTROLS));
        assert_eq!(capabilities.read_msr(msr::PROCBASED_CTLS3), None);
        let mut msrs = skylake();
        msrs.set(msr::TRUE_PROCBASED_CTLS, 0x7ff9_fffe_0400_6172);
        let capabilities = Capabilities::new(msrs);
        assert_eq!(capabilities.word(Word::Secondary), Allowed::default());
        assert!(!capabilities.has_field(field::EPT_POINTER));
        assert!([msr::PROCBASED_CTLS2, msr::EPT_VPID_CAP, msr::VMFUNC]
            .iter()
            .all(|&m| capabilities.read_msr(m).is_none()));
    }

    #[test]
    fn in_words() {
        let lines = Capabilities::new(skylake()).in_words();
        let setting = |name: &str| {
            lines
                .iter()
                .find(|line| line.name == name)
                .map(|line| line.setting.as_str())
        };
        assert_eq!(setting("HLT exiting"), Some("allowed"));
        assert_eq!(setting("process posted interrupts"), Some("forbidden"));
        assert_eq!(setting("VMCS revision identifier"), Some("0x4"));
        assert_eq!(setting("EPT 2-MByte pages"), Some("yes"));
        assert_eq!(setting("EPT page walk of 5 levels"), Some("no"));
        assert_eq!(setting("CR3-target values"), Some("4"));
        assert!(lines.windows(2).all(|pair| pair[0].msr <= pair[1].msr));
    }

    #[test]
    fn addresses_are_bound_by_the_physical_address_width() {
        let capabilities = Capabilities::new(skylake());
        assert_eq!(capabilities.address_reserved(39), !0 << 39);
        let mut msrs = skylake();
        msrs.set(msr::BASIC, basic::ADDRESSES_32_BIT);
        assert_eq!(Capabilities::new(msrs).address_reserved(39), !0 << 32);
    }
}
