//! What the core honours, and so may offer to a guest: VMX controls and capabilities, and CPUID features.
//!
//! These tables are the only place to turn a capability on: the capability MSRs and CPUID leaves of the
//! built-in profiles are computed from them, and the warnings about profiles made from other machines too.

use super::capability::{basic, ept_vpid, misc};
use super::controls::{entry, exit, pin, primary, secondary, secondary_exit, tertiary, vm_function, Word};
use super::cpuid_features::{feature, Feature};

/// The control bits of a word that the core honours.
pub const fn controls(word: Word) -> u64 {
    match word {
        Word::Pin => {
            pin::EXTERNAL_INTERRUPT_EXITING
                | pin::NMI_EXITING
                | pin::VIRTUAL_NMIS
                | pin::ACTIVATE_PREEMPTION_TIMER
                | pin::PROCESS_POSTED_INTERRUPTS
        }
        Word::Primary => {
            primary::INTERRUPT_WINDOW_EXITING
                | primary::USE_TSC_OFFSETTING
                | primary::HLT_EXITING
                | primary::INVLPG_EXITING
                | primary::MWAIT_EXITING
                | primary::RDPMC_EXITING
                | primary::RDTSC_EXITING
                | primary::CR3_LOAD_EXITING
                | primary::CR3_STORE_EXITING
                | primary::ACTIVATE_TERTIARY_CONTROLS
                | primary::CR8_LOAD_EXITING
                | primary::CR8_STORE_EXITING
                | primary::USE_TPR_SHADOW
                | primary::NMI_WINDOW_EXITING
                | primary::MOV_DR_EXITING
                | primary::UNCONDITIONAL_IO_EXITING
                | primary::USE_IO_BITMAPS
                | primary::MONITOR_TRAP_FLAG
                | primary::USE_MSR_BITMAPS
                | primary::MONITOR_EXITING
                | primary::PAUSE_EXITING
                | primary::ACTIVATE_SECONDARY_CONTROLS
        }
        Word::Secondary => {
            secondary::VIRTUALIZE_APIC_ACCESSES
                | secondary::ENABLE_EPT
                | secondary::DESCRIPTOR_TABLE_EXITING
                | secondary::ENABLE_RDTSCP
                | secondary::VIRTUALIZE_X2APIC_MODE
                | secondary::ENABLE_VPID
                | secondary::WBINVD_EXITING
                | secondary::UNRESTRICTED_GUEST
                | secondary::APIC_REGISTER_VIRTUALIZATION
                | secondary::VIRTUAL_INTERRUPT_DELIVERY
                | secondary::RDRAND_EXITING
                | secondary::RDSEED_EXITING
                | secondary::ENABLE_INVPCID
                | secondary::ENABLE_VM_FUNCTIONS
                | secondary::PAUSE_LOOP_EXITING
                | secondary::ENABLE_PML
                | secondary::VMCS_SHADOWING
                | secondary::MODE_BASED_EXECUTE_CONTROL_FOR_EPT
                | secondary::SUB_PAGE_WRITE_PERMISSIONS_FOR_EPT
                | secondary::ENABLE_XSAVES
                | secondary::EPT_VIOLATION_VE
                | secondary::USE_TSC_SCALING
                | secondary::ENABLE_USER_WAIT_AND_PAUSE
                | secondary::BUS_LOCK_DETECTION
                | secondary::INSTRUCTION_TIMEOUT
        }
        Word::Exit => {
            exit::SAVE_DEBUG_CONTROLS
                | exit::HOST_ADDRESS_SPACE_SIZE
                | exit::ACKNOWLEDGE_INTERRUPT_ON_EXIT
                | exit::SAVE_IA32_PAT
                | exit::LOAD_IA32_PAT
                | exit::SAVE_IA32_EFER
                | exit::LOAD_IA32_EFER
                | exit::SAVE_PREEMPTION_TIMER_VALUE
                | exit::LOAD_PKRS
                | exit::LOAD_CET_STATE
                | exit::ACTIVATE_SECONDARY_CONTROLS
        }
        Word::Entry => {
            entry::LOAD_DEBUG_CONTROLS
                | entry::IA32E_MODE_GUEST
                | entry::LOAD_IA32_PAT
                | entry::LOAD_IA32_EFER
                | entry::LOAD_PKRS
                | entry::LOAD_CET_STATE
        }
        Word::VmFunction => vm_function::EPTP_SWITCHING,
        Word::Tertiary => {
            tertiary::EPT_PAGING_WRITE_CONTROL
                | tertiary::GUEST_PAGING_VERIFICATION
                | tertiary::IPI_VIRTUALIZATION
        }
        Word::SecondaryExit => secondary_exit::PREMATURELY_BUSY_SHADOW_STACK,
    }
}

/// Controls that the core does not honour.
pub struct LeftOut {
    pub word: Word,
    pub bits: u64,
    /// The end of a sentence that begins with the controls.
    pub reason: &'static str,
}

const fn left_out(word: Word, bits: u64, reason: &'static str) -> LeftOut {
    LeftOut { word, bits, reason }
}

const NO_SGX: &str = "the processor has no SGX";
const NO_PT: &str = "the processor has no Intel PT";
const NO_COUNTERS: &str = "the processor has no performance counters: CPUID leaf 0AH reports version 0";
const NO_BOUNDS: &str = "the processor has no MPX, which Intel has given up";
const NO_BRANCH_RECORDS: &str = "the processor has no architectural last-branch records";
const NO_USER_INTERRUPTS: &str = "the processor has no user interrupts";
const NO_FRED: &str = "the processor has no FRED";
const NO_SMM: &str = "the machine has no SMM, and so no dual-monitor treatment of SMIs";

/// The controls that the SDM defines beside those of `controls`, each with the reason.
pub const LEFT_OUT: &[LeftOut] = &[
    left_out(
        Word::Secondary,
        secondary::ENABLE_ENCLS_EXITING | secondary::ENABLE_ENCLV_EXITING,
        NO_SGX,
    ),
    left_out(
        Word::Secondary,
        secondary::CONCEAL_VMX_FROM_PT | secondary::PT_USES_GUEST_PHYSICAL_ADDRESSES,
        NO_PT,
    ),
    left_out(
        Word::Secondary,
        secondary::PASID_TRANSLATION,
        "the processor has no ENQCMD",
    ),
    left_out(
        Word::Secondary,
        secondary::ENABLE_PCONFIG,
        "the processor has no PCONFIG",
    ),
    left_out(
        Word::Tertiary,
        tertiary::LOADIWKEY_EXITING,
        "the processor has no Key Locker",
    ),
    left_out(
        Word::Tertiary,
        tertiary::ENABLE_HLAT,
        "it is not built; bits 53:48 of IA32_VMX_EPT_VPID_CAP, which it needs, have to be 0 for kvm-unit-tests",
    ),
    left_out(
        Word::Tertiary,
        tertiary::ENABLE_MSR_LIST_INSTRUCTIONS,
        "the processor has no RDMSRLIST and WRMSRLIST",
    ),
    left_out(
        Word::Tertiary,
        tertiary::VIRTUALIZE_IA32_SPEC_CTRL,
        "the processor speculates about nothing and has no IA32_SPEC_CTRL",
    ),
    left_out(
        Word::Exit,
        exit::LOAD_IA32_PERF_GLOBAL_CTRL | exit::SAVE_IA32_PERF_GLOBAL_CTRL,
        NO_COUNTERS,
    ),
    left_out(Word::Exit, exit::CLEAR_IA32_BNDCFGS, NO_BOUNDS),
    left_out(
        Word::Exit,
        exit::CONCEAL_VMX_FROM_PT | exit::CLEAR_IA32_RTIT_CTL,
        NO_PT,
    ),
    left_out(Word::Exit, exit::CLEAR_IA32_LBR_CTL, NO_BRANCH_RECORDS),
    left_out(Word::Exit, exit::CLEAR_UINV, NO_USER_INTERRUPTS),
    left_out(
        Word::SecondaryExit,
        secondary_exit::SAVE_FRED | secondary_exit::LOAD_FRED,
        NO_FRED,
    ),
    left_out(
        Word::Entry,
        entry::ENTRY_TO_SMM | entry::DEACTIVATE_DUAL_MONITOR_TREATMENT,
        NO_SMM,
    ),
    left_out(Word::Entry, entry::LOAD_IA32_PERF_GLOBAL_CTRL, NO_COUNTERS),
    left_out(Word::Entry, entry::LOAD_IA32_BNDCFGS, NO_BOUNDS),
    left_out(
        Word::Entry,
        entry::CONCEAL_VMX_FROM_PT | entry::LOAD_IA32_RTIT_CTL,
        NO_PT,
    ),
    left_out(Word::Entry, entry::LOAD_UINV, NO_USER_INTERRUPTS),
    left_out(Word::Entry, entry::LOAD_GUEST_IA32_LBR_CTL, NO_BRANCH_RECORDS),
    left_out(Word::Entry, entry::LOAD_FRED, NO_FRED),
];

/// The yes-or-no bits of IA32_VMX_BASIC.
pub const BASIC: u64 = basic::INS_OUTS_INFORMATION | basic::TRUE_CONTROLS | basic::ANY_ERROR_CODE;

/// The VMX-preemption timer counts each time that this bit of the TSC changes. KVM leaves a timer alone that counts
/// faster than 429 MHz; this one counts at a quarter of the TSC's 1 GHz. Intel's bit is 5, with which a guest that waits
/// for the timer's longest time would run eight times as many instructions.
const PREEMPTION_TIMER_SHIFT: u64 = 2;

/// IA32_VMX_MISC, with 4 CR3-target values.
pub const MISC: u64 = PREEMPTION_TIMER_SHIFT
    | misc::STORE_LMA
    | misc::ACTIVITY_HLT
    | misc::ACTIVITY_SHUTDOWN
    | misc::ACTIVITY_WAIT_FOR_SIPI
    | 4 << 16
    | misc::VMWRITE_EXIT_INFORMATION
    | misc::ZERO_LENGTH_INJECTION;

/// IA32_VMX_EPT_VPID_CAP.
pub const EPT_VPID: u64 = ept_vpid::EXECUTE_ONLY
    | ept_vpid::WALK_4
    | ept_vpid::WALK_5
    | ept_vpid::MEMORY_TYPE_UC
    | ept_vpid::MEMORY_TYPE_WB
    | ept_vpid::PAGES_2M
    | ept_vpid::PAGES_1G
    | ept_vpid::INVEPT
    | ept_vpid::ACCESSED_DIRTY
    | ept_vpid::ADVANCED_EXIT_INFORMATION
    | ept_vpid::INVEPT_SINGLE_CONTEXT
    | ept_vpid::INVEPT_ALL_CONTEXT
    | ept_vpid::INVVPID
    | ept_vpid::INVVPID_INDIVIDUAL_ADDRESS
    | ept_vpid::INVVPID_SINGLE_CONTEXT
    | ept_vpid::INVVPID_ALL_CONTEXT
    | ept_vpid::INVVPID_SINGLE_CONTEXT_RETAINING_GLOBALS;

/// The bits of IA32_DEBUGCTL that WRMSR accepts: LBR and BTF.
pub const DEBUGCTL: u64 = 0b11;

/// The CPUID features.
pub const FEATURES: &[Feature] = &[
    feature::FPU,
    feature::VME,
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
    feature::SSE3,
    feature::PCLMULQDQ,
    feature::SSSE3,
    feature::FMA,
    feature::SSE4_1,
    feature::SSE4_2,
    feature::MOVBE,
    feature::POPCNT,
    feature::AES,
    feature::PCID,
    feature::X2APIC,
    feature::RDRAND,
    feature::RDSEED,
    feature::SERIALIZE,
    feature::CLDEMOTE,
    feature::MOVDIRI,
    feature::MOVDIR64B,
    feature::XSAVE,
    feature::AVX,
    feature::F16C,
    feature::XSAVEOPT,
    feature::XSAVEC,
    feature::XGETBV1,
    feature::XSAVES,
    feature::TSC_DEADLINE,
    feature::FSGSBASE,
    feature::TSC_ADJUST,
    feature::FDP_EXCPTN_ONLY,
    feature::ZERO_FCS_FDS,
    feature::BMI1,
    feature::AVX2,
    feature::BMI2,
    feature::ADX,
    feature::CLFLUSHOPT,
    feature::CLWB,
    feature::SHA,
    feature::LZCNT,
    feature::PREFETCHW,
    feature::SMEP,
    feature::SMAP,
    feature::INVPCID,
    feature::UMIP,
    feature::PKU,
    feature::WAITPKG,
    feature::PKS,
    feature::CET_SS,
    feature::CET_IBT,
    feature::LA57,
    feature::RDPID,
    feature::LAHF64,
    feature::SYSCALL,
    feature::NX,
    feature::PAGE1GB,
    feature::RDTSCP,
    feature::LM,
];
