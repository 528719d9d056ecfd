//! The basic exit reasons (SDM vol. 3, appendix C).

/// What the exit qualification of a reason holds (SDM vol. 3, 28.2.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Qualification {
    /// Nothing: the field is cleared.
    None,
    /// Decided by the vector in the VM-exit interruption information: debug conditions for #DB, the faulting
    /// guest-linear address for #PF, otherwise nothing.
    Event,
    /// The vector of a start-up IPI.
    StartUpIpi,
    TaskSwitch,
    /// The operand of INVLPG: a guest-linear address.
    LinearAddress,
    /// The displacement of the instruction's memory operand.
    Displacement,
    CrAccess,
    MovDr,
    Io,
    /// Whether the address-range monitor is armed.
    Mwait,
    /// Which check of VM entry failed.
    EntryFailure,
    /// The number of the MSR-load entry that failed, counted from 1.
    MsrLoadEntry,
    ApicAccess,
    /// The page offset of the access in the virtual-APIC page.
    ApicWrite,
    /// The vector of the virtual end of interrupt.
    EoiVector,
    EptViolation,
    /// NMI unblocking only.
    Pml,
    Spp,
    InstructionTimeout,
    /// The MSR that the immediate of the instruction names.
    MsrAddress,
}

#[derive(Debug)]
pub struct ExitReason {
    /// Bits 15:0 of the exit-reason field.
    pub number: u16,
    /// The SDM's name in kebab case; commands and traces use it.
    pub name: &'static str,
    /// Other names that commands accept.
    pub aliases: &'static [&'static str],
    pub title: &'static str,
    /// The section of SDM vol. 3 that says when this exit happens.
    pub section: &'static str,
    pub qualification: Qualification,
}

/// Bit 31 of the exit-reason field: VM entry failed.
pub const ENTRY_FAILURE: u64 = 1 << 31;
/// Bit 28: an MTF VM exit was pending at a VM exit to SMM.
pub const PENDING_MTF: u64 = 1 << 28;
/// Bit 27: the exit came from enclave mode.
pub const ENCLAVE_MODE: u64 = 1 << 27;
/// Bit 26: a bus lock was asserted.
pub const BUS_LOCK: u64 = 1 << 26;
/// Bit 25: a shadow stack became prematurely busy.
pub const BUSY_SHADOW_STACK: u64 = 1 << 25;

macro_rules! reasons {
    ($($number:literal $constant:ident $name:literal $([$($alias:literal),+])? $title:literal $section:literal
       $qualification:ident;)*) => {
        /// The numbers of the basic exit reasons.
        pub mod reason {
            $(#[doc = $title] pub const $constant: u16 = $number;)*
        }

        /// Every basic exit reason, by number.
        pub static REASONS: &[ExitReason] = &[$(ExitReason {
            number: $number,
            name: $name,
            aliases: &[$($($alias),+)?],
            title: $title,
            section: $section,
            qualification: Qualification::$qualification,
        }),*];
    };
}

reasons! {
    0 EXCEPTION_OR_NMI "exception-or-nmi" ["exception", "nmi"] "Exception or non-maskable interrupt (NMI)" "26.2" Event;
    1 EXTERNAL_INTERRUPT "external-interrupt" ["interrupt"] "External interrupt" "26.2" None;
    2 TRIPLE_FAULT "triple-fault" "Triple fault" "26.2" None;
    3 INIT_SIGNAL "init-signal" ["init"] "INIT signal" "26.2" None;
    4 START_UP_IPI "start-up-ipi" ["sipi"] "Start-up IPI (SIPI)" "26.2" StartUpIpi;
    5 IO_SMI "io-smi" "I/O system-management interrupt (SMI)" "32.15.2" None;
    6 OTHER_SMI "other-smi" "Other SMI" "32.15.2" None;
    7 INTERRUPT_WINDOW "interrupt-window" "Interrupt window" "26.2" None;
    8 NMI_WINDOW "nmi-window" "NMI window" "26.2" None;
    9 TASK_SWITCH "task-switch" "Task switch" "26.4.2" TaskSwitch;
    10 CPUID "cpuid" "CPUID" "26.1.2" None;
    11 GETSEC "getsec" "GETSEC" "26.1.2" None;
    12 HLT "hlt" "HLT" "26.1.3" None;
    13 INVD "invd" "INVD" "26.1.2" None;
    14 INVLPG "invlpg" "INVLPG" "26.1.3" LinearAddress;
    15 RDPMC "rdpmc" "RDPMC" "26.1.3" None;
    16 RDTSC "rdtsc" "RDTSC" "26.1.3" None;
    17 RSM "rsm" "RSM" "26.1.3" None;
    18 VMCALL "vmcall" "VMCALL" "26.1.2" None;
    19 VMCLEAR "vmclear" "VMCLEAR" "26.1.2" Displacement;
    20 VMLAUNCH "vmlaunch" "VMLAUNCH" "26.1.2" None;
    21 VMPTRLD "vmptrld" "VMPTRLD" "26.1.2" Displacement;
    22 VMPTRST "vmptrst" "VMPTRST" "26.1.2" Displacement;
    23 VMREAD "vmread" "VMREAD" "26.1.3" Displacement;
    24 VMRESUME "vmresume" "VMRESUME" "26.1.2" None;
    25 VMWRITE "vmwrite" "VMWRITE" "26.1.3" Displacement;
    26 VMXOFF "vmxoff" "VMXOFF" "26.1.2" None;
    27 VMXON "vmxon" "VMXON" "26.1.2" Displacement;
    28 CR_ACCESS "control-register-access" ["cr-access", "cr"] "Control-register access" "26.1.3" CrAccess;
    29 MOV_DR "mov-dr" ["dr-access", "dr"] "MOV DR" "26.1.3" MovDr;
    30 IO_INSTRUCTION "io-instruction" ["io"] "I/O instruction" "26.1.3" Io;
    31 RDMSR "rdmsr" ["msr-read"] "RDMSR" "26.1.3" None;
    32 WRMSR "wrmsr" ["msr-write"] "WRMSR" "26.1.3" None;
    33 ENTRY_FAILURE_GUEST_STATE "entry-failure-guest-state" ["invalid-guest-state"]
       "VM-entry failure due to invalid guest state" "27.3.1" EntryFailure;
    34 ENTRY_FAILURE_MSR_LOADING "entry-failure-msr-loading"
       "VM-entry failure due to MSR loading" "27.4" MsrLoadEntry;
    36 MWAIT "mwait" "MWAIT" "26.1.3" Mwait;
    37 MONITOR_TRAP_FLAG "monitor-trap-flag" ["mtf"] "Monitor trap flag" "26.5.2" None;
    39 MONITOR "monitor" "MONITOR" "26.1.3" None;
    40 PAUSE "pause" "PAUSE" "26.1.3" None;
    41 ENTRY_FAILURE_MACHINE_CHECK "entry-failure-machine-check"
       "VM-entry failure due to machine-check event" "27.9" None;
    43 TPR_BELOW_THRESHOLD "tpr-below-threshold" "TPR below threshold" "30.1.2" None;
    44 APIC_ACCESS "apic-access" "APIC access" "30.4" ApicAccess;
    45 VIRTUALIZED_EOI "virtualized-eoi" "Virtualized EOI" "30.1.4" EoiVector;
    46 GDTR_IDTR_ACCESS "gdtr-idtr-access" ["gdtr-idtr"] "Access to GDTR or IDTR" "26.1.3" Displacement;
    47 LDTR_TR_ACCESS "ldtr-tr-access" ["ldtr-tr"] "Access to LDTR or TR" "26.1.3" Displacement;
    48 EPT_VIOLATION "ept-violation" "EPT violation" "29.3.3.2" EptViolation;
    49 EPT_MISCONFIGURATION "ept-misconfiguration" ["ept-misconfig"] "EPT misconfiguration" "29.3.3.1" None;
    50 INVEPT "invept" "INVEPT" "26.1.2" Displacement;
    51 RDTSCP "rdtscp" "RDTSCP" "26.1.3" None;
    52 PREEMPTION_TIMER "preemption-timer" ["vmx-preemption-timer-expired", "vmx-preemption-timer"]
       "VMX-preemption timer expired" "26.5.1" None;
    53 INVVPID "invvpid" "INVVPID" "26.1.2" Displacement;
    54 WBINVD "wbinvd" ["wbnoinvd"] "WBINVD or WBNOINVD" "26.1.3" None;
    55 XSETBV "xsetbv" "XSETBV" "26.1.2" None;
    56 APIC_WRITE "apic-write" "APIC write" "30.4.3.3" ApicWrite;
    57 RDRAND "rdrand" "RDRAND" "26.1.3" None;
    58 INVPCID "invpcid" "INVPCID" "26.1.3" Displacement;
    59 VMFUNC "vmfunc" "VMFUNC" "26.5.6.2" None;
    60 ENCLS "encls" "ENCLS" "26.1.3" None;
    61 RDSEED "rdseed" "RDSEED" "26.1.3" None;
    62 PAGE_MODIFICATION_LOG_FULL "page-modification-log-full" ["pml-full"]
       "Page-modification log full" "29.3.6" Pml;
    63 XSAVES "xsaves" "XSAVES" "26.1.3" Displacement;
    64 XRSTORS "xrstors" "XRSTORS" "26.1.3" Displacement;
    65 PCONFIG "pconfig" "PCONFIG" "26.1.3" None;
    66 SPP_RELATED_EVENT "spp-related-event" ["spp"] "SPP-related event" "29.3.4" Spp;
    67 UMWAIT "umwait" "UMWAIT" "26.1.3" None;
    68 TPAUSE "tpause" "TPAUSE" "26.1.3" None;
    69 LOADIWKEY "loadiwkey" "LOADIWKEY" "26.1.3" None;
    70 ENCLV "enclv" "ENCLV" "26.1.3" None;
    72 ENQCMD_PASID_TRANSLATION_FAILURE "enqcmd-pasid-translation-failure"
       "ENQCMD PASID translation failure" "26.5.8" None;
    73 ENQCMDS_PASID_TRANSLATION_FAILURE "enqcmds-pasid-translation-failure"
       "ENQCMDS PASID translation failure" "26.5.8" None;
    74 BUS_LOCK "bus-lock" "Bus lock" "26.2" None;
    75 INSTRUCTION_TIMEOUT "instruction-timeout" "Instruction timeout" "26.2" InstructionTimeout;
    76 SEAMCALL "seamcall" "SEAMCALL" "26.1.2" None;
    77 TDCALL "tdcall" "TDCALL" "26.1.2" None;
    78 RDMSRLIST "rdmsrlist" "RDMSRLIST" "26.1.3" None;
    79 WRMSRLIST "wrmsrlist" "WRMSRLIST" "26.1.3" None;
    80 URDMSR "urdmsr" "URDMSR" "26.1.3" MsrAddress;
    81 UWRMSR "uwrmsr" "UWRMSR" "26.1.3" MsrAddress;
    84 RDMSR_IMMEDIATE "rdmsr-immediate" "RDMSR with an immediate" "26.1.3" MsrAddress;
    85 WRMSRNS_IMMEDIATE "wrmsrns-immediate" "WRMSRNS with an immediate" "26.1.3" MsrAddress;
}

impl ExitReason {
    /// The reason whose number is in bits 15:0 of an exit-reason field.
    pub fn by_number(number: u16) -> Option<&'static ExitReason> {
        REASONS
            .binary_search_by_key(&number, |reason| reason.number)
            .ok()
            .map(|i| &REASONS[i])
    }

    /// The reason that a person means by `text`: its name, another accepted name, or its number.
    pub fn parse(text: &str) -> Option<&'static ExitReason> {
        let number = match text.strip_prefix("0x") {
            Some(digits) => u16::from_str_radix(digits, 16).ok(),
            None => text.parse().ok(),
        };
        if let Some(number) = number {
            return ExitReason::by_number(number);
        }
        let text = text.to_ascii_lowercase().replace('_', "-");
        REASONS
            .iter()
            .find(|reason| reason.name == text || reason.aliases.contains(&text.as_str()))
    }
}

/// The name of the basic reason in an exit-reason field, or `reason-N` for a number that the SDM does not
/// define.
pub fn reason_name(field: u64) -> String {
    match ExitReason::by_number(field as u16) {
        Some(reason) => reason.name.to_string(),
        None => format!("reason-{}", field & 0xffff),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_ascend_and_names_are_unique() {
        assert!(REASONS.windows(2).all(|pair| pair[0].number < pair[1].number));
        let mut names: Vec<&str> = REASONS
            .iter()
            .flat_map(|r| r.aliases.iter().copied().chain([r.name]))
            .collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
    }

    #[test]
    fn people_may_write_names_aliases_and_numbers() {
        for text in ["ept-violation", "EPT_VIOLATION", "48", "0x30"] {
            assert_eq!(
                ExitReason::parse(text).map(|reason| reason.number),
                Some(reason::EPT_VIOLATION),
                "{text}"
            );
        }
        assert_eq!(ExitReason::parse("mtf").map(|reason| reason.number), Some(37));
        for text in ["", "35", "-1", "65536", "ept violation"] {
            assert!(ExitReason::parse(text).is_none(), "{text}");
        }
    }

    #[test]
    fn a_field_names_its_basic_reason() {
        assert_eq!(reason_name(ENTRY_FAILURE | 33), "entry-failure-guest-state");
        assert_eq!(reason_name(35), "reason-35");
    }
}
