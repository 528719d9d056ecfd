//! The bits of the VM-execution, VM-exit and VM-entry controls (SDM vol. 3, 25.6 to 25.8), each described
//! once.
//!
//! The table makes the constants (`primary::HLT_EXITING` is the bit itself) and the rows that describe them.

use std::fmt;

/// A word of control bits: one field of the VMCS that is a set of controls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Word {
    Pin,
    Primary,
    Secondary,
    Tertiary,
    Exit,
    SecondaryExit,
    Entry,
    VmFunction,
}

/// One control bit.
#[derive(Debug)]
pub struct Control {
    pub word: Word,
    pub bit: u8,
    /// The SDM's name in snake case, such as `hlt_exiting`.
    pub id: &'static str,
    /// The SDM's name, such as `HLT exiting`.
    pub name: &'static str,
}

impl Control {
    pub const fn mask(&self) -> u64 {
        1 << self.bit
    }
}

impl fmt::Display for Control {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "“{}” ({}, bit {})", self.name, self.word.title(), self.bit)
    }
}

/// The ASCII lower case of a name known at compile time. `N` is its length.
pub(crate) const fn lower_case<const N: usize>(name: &str) -> [u8; N] {
    let bytes = name.as_bytes();
    let mut lower = [0; N];
    let mut i = 0;
    while i < N {
        lower[i] = bytes[i].to_ascii_lowercase();
        i += 1;
    }
    lower
}

/// The snake-case name that belongs to the name of a constant.
macro_rules! snake_case {
    ($constant:ident) => {{
        const UPPER: &str = stringify!($constant);
        const LOWER: [u8; UPPER.len()] = crate::vmx::controls::lower_case(UPPER);
        match std::str::from_utf8(&LOWER) {
            Ok(name) => name,
            Err(_) => panic!("a constant's name is ASCII"),
        }
    }};
}
pub(crate) use snake_case;

macro_rules! controls {
    ($($module:ident $word:ident $title:literal $section:literal {
        $($bit:literal $constant:ident $name:literal;)*
    })*) => {
        $(
            #[doc = concat!("The bits of the ", $title, " (SDM vol. 3, ", $section, ").")]
            pub mod $module {
                use super::{Control, Word};
                pub const WORD: Word = Word::$word;
                $(#[doc = $name] pub const $constant: u64 = 1 << $bit;)*
                pub(super) static TABLE: &[Control] = &[$(Control {
                    word: WORD,
                    bit: $bit,
                    id: super::snake_case!($constant),
                    name: $name,
                }),*];
            }
        )*

        impl Word {
            pub const ALL: &'static [Word] = &[$(Word::$word),*];

            /// The defined bits of this word, lowest first.
            pub fn controls(self) -> &'static [Control] {
                match self { $(Word::$word => $module::TABLE),* }
            }

            /// The SDM's name of the word.
            pub const fn title(self) -> &'static str {
                match self { $(Word::$word => $title),* }
            }

            /// The short name used in the ids of rules, such as `primary`.
            pub const fn id(self) -> &'static str {
                match self { $(Word::$word => stringify!($module)),* }
            }

            /// The section of SDM vol. 3 that defines the word's bits.
            pub const fn section(self) -> &'static str {
                match self { $(Word::$word => $section),* }
            }
        }
    };
}

controls! {
    pin Pin "pin-based VM-execution controls" "25.6.1" {
        0 EXTERNAL_INTERRUPT_EXITING "external-interrupt exiting";
        3 NMI_EXITING "NMI exiting";
        5 VIRTUAL_NMIS "virtual NMIs";
        6 ACTIVATE_PREEMPTION_TIMER "activate VMX-preemption timer";
        7 PROCESS_POSTED_INTERRUPTS "process posted interrupts";
    }
    primary Primary "primary processor-based VM-execution controls" "25.6.2" {
        2 INTERRUPT_WINDOW_EXITING "interrupt-window exiting";
        3 USE_TSC_OFFSETTING "use TSC offsetting";
        7 HLT_EXITING "HLT exiting";
        9 INVLPG_EXITING "INVLPG exiting";
        10 MWAIT_EXITING "MWAIT exiting";
        11 RDPMC_EXITING "RDPMC exiting";
        12 RDTSC_EXITING "RDTSC exiting";
        15 CR3_LOAD_EXITING "CR3-load exiting";
        16 CR3_STORE_EXITING "CR3-store exiting";
        17 ACTIVATE_TERTIARY_CONTROLS "activate tertiary controls";
        19 CR8_LOAD_EXITING "CR8-load exiting";
        20 CR8_STORE_EXITING "CR8-store exiting";
        21 USE_TPR_SHADOW "use TPR shadow";
        22 NMI_WINDOW_EXITING "NMI-window exiting";
        23 MOV_DR_EXITING "MOV-DR exiting";
        24 UNCONDITIONAL_IO_EXITING "unconditional I/O exiting";
        25 USE_IO_BITMAPS "use I/O bitmaps";
        27 MONITOR_TRAP_FLAG "monitor trap flag";
        28 USE_MSR_BITMAPS "use MSR bitmaps";
        29 MONITOR_EXITING "MONITOR exiting";
        30 PAUSE_EXITING "PAUSE exiting";
        31 ACTIVATE_SECONDARY_CONTROLS "activate secondary controls";
    }
    secondary Secondary "secondary processor-based VM-execution controls" "25.6.2" {
        0 VIRTUALIZE_APIC_ACCESSES "virtualize APIC accesses";
        1 ENABLE_EPT "enable EPT";
        2 DESCRIPTOR_TABLE_EXITING "descriptor-table exiting";
        3 ENABLE_RDTSCP "enable RDTSCP";
        4 VIRTUALIZE_X2APIC_MODE "virtualize x2APIC mode";
        5 ENABLE_VPID "enable VPID";
        6 WBINVD_EXITING "WBINVD exiting";
        7 UNRESTRICTED_GUEST "unrestricted guest";
        8 APIC_REGISTER_VIRTUALIZATION "APIC-register virtualization";
        9 VIRTUAL_INTERRUPT_DELIVERY "virtual-interrupt delivery";
        10 PAUSE_LOOP_EXITING "PAUSE-loop exiting";
        11 RDRAND_EXITING "RDRAND exiting";
        12 ENABLE_INVPCID "enable INVPCID";
        13 ENABLE_VM_FUNCTIONS "enable VM functions";
        14 VMCS_SHADOWING "VMCS shadowing";
        15 ENABLE_ENCLS_EXITING "enable ENCLS exiting";
        16 RDSEED_EXITING "RDSEED exiting";
        17 ENABLE_PML "enable PML";
        18 EPT_VIOLATION_VE "EPT-violation #VE";
        19 CONCEAL_VMX_FROM_PT "conceal VMX from PT";
        20 ENABLE_XSAVES "enable XSAVES/XRSTORS";
        21 PASID_TRANSLATION "PASID translation";
        22 MODE_BASED_EXECUTE_CONTROL_FOR_EPT "mode-based execute control for EPT";
        23 SUB_PAGE_WRITE_PERMISSIONS_FOR_EPT "sub-page write permissions for EPT";
        24 PT_USES_GUEST_PHYSICAL_ADDRESSES "Intel PT uses guest physical addresses";
        25 USE_TSC_SCALING "use TSC scaling";
        26 ENABLE_USER_WAIT_AND_PAUSE "enable user wait and pause";
        27 ENABLE_PCONFIG "enable PCONFIG";
        28 ENABLE_ENCLV_EXITING "enable ENCLV exiting";
        30 BUS_LOCK_DETECTION "VMM bus-lock detection";
        31 INSTRUCTION_TIMEOUT "instruction timeout";
    }
    tertiary Tertiary "tertiary processor-based VM-execution controls" "25.6.2" {
        0 LOADIWKEY_EXITING "LOADIWKEY exiting";
        1 ENABLE_HLAT "enable HLAT";
        2 EPT_PAGING_WRITE_CONTROL "EPT paging-write control";
        3 GUEST_PAGING_VERIFICATION "guest-paging verification";
        4 IPI_VIRTUALIZATION "IPI virtualization";
        6 ENABLE_MSR_LIST_INSTRUCTIONS "enable MSR-list instructions";
        7 VIRTUALIZE_IA32_SPEC_CTRL "virtualize IA32_SPEC_CTRL";
    }
    exit Exit "primary VM-exit controls" "25.7.1" {
        2 SAVE_DEBUG_CONTROLS "save debug controls";
        9 HOST_ADDRESS_SPACE_SIZE "host address-space size";
        12 LOAD_IA32_PERF_GLOBAL_CTRL "load IA32_PERF_GLOBAL_CTRL";
        15 ACKNOWLEDGE_INTERRUPT_ON_EXIT "acknowledge interrupt on exit";
        18 SAVE_IA32_PAT "save IA32_PAT";
        19 LOAD_IA32_PAT "load IA32_PAT";
        20 SAVE_IA32_EFER "save IA32_EFER";
        21 LOAD_IA32_EFER "load IA32_EFER";
        22 SAVE_PREEMPTION_TIMER_VALUE "save VMX-preemption timer value";
        23 CLEAR_IA32_BNDCFGS "clear IA32_BNDCFGS";
        24 CONCEAL_VMX_FROM_PT "conceal VMX from PT";
        25 CLEAR_IA32_RTIT_CTL "clear IA32_RTIT_CTL";
        26 CLEAR_IA32_LBR_CTL "clear IA32_LBR_CTL";
        27 CLEAR_UINV "clear UINV";
        28 LOAD_CET_STATE "load CET state";
        29 LOAD_PKRS "load PKRS";
        30 SAVE_IA32_PERF_GLOBAL_CTRL "save IA32_PERF_GLOBAL_CTL";
        31 ACTIVATE_SECONDARY_CONTROLS "activate secondary controls";
    }
    secondary_exit SecondaryExit "secondary VM-exit controls" "25.7.1" {
        0 SAVE_FRED "save FRED";
        1 LOAD_FRED "load FRED";
        3 PREMATURELY_BUSY_SHADOW_STACK "prematurely busy shadow stack";
    }
    entry Entry "VM-entry controls" "25.8.1" {
        2 LOAD_DEBUG_CONTROLS "load debug controls";
        9 IA32E_MODE_GUEST "IA-32e mode guest";
        10 ENTRY_TO_SMM "entry to SMM";
        11 DEACTIVATE_DUAL_MONITOR_TREATMENT "deactivate dual-monitor treatment";
        13 LOAD_IA32_PERF_GLOBAL_CTRL "load IA32_PERF_GLOBAL_CTRL";
        14 LOAD_IA32_PAT "load IA32_PAT";
        15 LOAD_IA32_EFER "load IA32_EFER";
        16 LOAD_IA32_BNDCFGS "load IA32_BNDCFGS";
        17 CONCEAL_VMX_FROM_PT "conceal VMX from PT";
        18 LOAD_IA32_RTIT_CTL "load IA32_RTIT_CTL";
        19 LOAD_UINV "load UINV";
        20 LOAD_CET_STATE "load CET state";
        21 LOAD_GUEST_IA32_LBR_CTL "load guest IA32_LBR_CTL";
        22 LOAD_PKRS "load PKRS";
        23 LOAD_FRED "load FRED";
    }
    vm_function VmFunction "VM-function controls" "25.6.14" {
        0 EPTP_SWITCHING "EPTP switching";
    }
}

impl Word {
    /// The word whose short name (`pin`, `primary`, `exit` …) is `id`.
    pub fn by_id(id: &str) -> Option<Word> {
        Word::ALL.iter().copied().find(|word| word.id() == id)
    }

    /// The control at `bit`, if the SDM defines one.
    pub fn control(self, bit: u8) -> Option<&'static Control> {
        self.controls().iter().find(|control| control.bit == bit)
    }

    /// Every bit that the SDM gives a name.
    pub fn defined(self) -> u64 {
        self.controls()
            .iter()
            .fold(0, |mask, control| mask | control.mask())
    }

    /// Each bit set in `bits`, in words; a bit without a name is called reserved.
    pub fn describe(self, bits: u64) -> Vec<String> {
        (0..64)
            .filter(|bit| bits >> bit & 1 != 0)
            .map(|bit| match self.control(bit) {
                Some(control) => control.name.to_string(),
                None => format!("bit {bit}"),
            })
            .collect()
    }

    /// The bits reserved to 1 on the first processors with VMX, which the capability MSRs without TRUE in
    /// their name report as required (SDM vol. 3, A.2). Words that came later have none.
    pub const fn default1(self) -> u64 {
        match self {
            Word::Pin => 0x0000_0016,
            Word::Primary => 0x0401_e172,
            Word::Exit => 0x0003_6dff,
            Word::Entry => 0x0000_11ff,
            Word::Secondary | Word::Tertiary | Word::SecondaryExit | Word::VmFunction => 0,
        }
    }

    /// The number of bits of the word: 32, or 64 for the words that came with 64-bit fields.
    pub const fn bits(self) -> u8 {
        match self {
            Word::Tertiary | Word::SecondaryExit | Word::VmFunction => 64,
            _ => 32,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_are_unique_ascending_and_inside_their_word() {
        for &word in Word::ALL {
            let bits: Vec<u8> = word.controls().iter().map(|control| control.bit).collect();
            assert!(bits.windows(2).all(|pair| pair[0] < pair[1]), "{word:?}");
            assert!(bits.iter().all(|&bit| bit < word.bits()), "{word:?}");
            assert!(word.controls().iter().all(|control| control.word == word));
            assert_eq!(Word::by_id(word.id()), Some(word));
        }
    }

    #[test]
    fn names_come_from_the_constants() {
        let control = Word::Primary.control(7).unwrap();
        assert_eq!(
            (control.id, control.mask()),
            ("hlt_exiting", primary::HLT_EXITING)
        );
        assert_eq!(
            Word::Pin.describe(0b1001 | 1 << 20),
            ["external-interrupt exiting", "NMI exiting", "bit 20"]
        );
    }

    /// The values that the SDM's appendix A.2 says the MSRs of the first processors report.
    #[test]
    fn default1_bits_that_have_a_name_are_those_of_the_sdm() {
        let named = |word: Word| word.defined() & word.default1();
        assert_eq!(named(Word::Pin), 0);
        assert_eq!(
            named(Word::Primary),
            primary::CR3_LOAD_EXITING | primary::CR3_STORE_EXITING
        );
        assert_eq!(named(Word::Exit), exit::SAVE_DEBUG_CONTROLS);
        assert_eq!(named(Word::Entry), entry::LOAD_DEBUG_CONTROLS);
    }
}
