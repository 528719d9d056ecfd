//! Checks on guest non-register state (SDM vol. 3, 27.3.1.5).

use super::checks::PAGE_ALIGNED;
use super::conditions::*;
use super::guest::OUTCOME;
use super::{found, rules, Check, Condition, Context, Event, Outcome};
use crate::vmx::capability::misc;
use crate::vmx::controls::{entry, pin, secondary};
use crate::vmx::describe::{activity_state, interruption_type};
use crate::vmx::fields::field::*;

const ACTIVE: u64 = 0;
const HLT: u64 = 1;
const SHUTDOWN: u64 = 2;
const WAIT_FOR_SIPI: u64 = 3;

const BLOCKING_BY_STI: u64 = 1 << 0;
const BLOCKING_BY_MOV_SS: u64 = 1 << 1;
const BLOCKING_BY_SMI: u64 = 1 << 2;
const BLOCKING_BY_NMI: u64 = 1 << 3;
const ENCLAVE_INTERRUPTION: u64 = 1 << 4;

const RFLAGS_TF: u64 = 1 << 8;
const RFLAGS_IF: u64 = 1 << 9;
const DEBUGCTL_BTF: u64 = 1 << 1;

const PENDING_BS: u64 = 1 << 14;
const PENDING_RTM: u64 = 1 << 16;
/// Bits of the pending debug exceptions that have a meaning everywhere: B0 to B3, enabled breakpoint, BS,
/// RTM.
const PENDING_DEFINED: u64 = 0xf | 1 << 12 | PENDING_BS | PENDING_RTM;
/// Bus lock; of a processor that detects bus locks, as IA32_DEBUGCTL has a bit for it there.
const PENDING_BUS_LOCK: u64 = 1 << 11;
const DEBUGCTL_BLD: u64 = 1 << 2;
/// What a pending debug exception inside a transactional region says: RTM and enabled breakpoint.
const PENDING_IN_REGION: u64 = PENDING_RTM | 1 << 12;

/// The activity state that a guest asks for, with its name.
fn found_activity(c: &Context) -> String {
    format!(
        "{} ({})",
        found(c, GUEST_ACTIVITY_STATE),
        activity_state(c.get(GUEST_ACTIVITY_STATE))
    )
}

/// Whether an event can be injected into a guest in its activity state.
fn wakes(c: &Context) -> bool {
    let Event { vector, kind, .. } = c.event();
    const DEBUG: u8 = 1;
    const MACHINE_CHECK: u8 = 18;
    match c.get(GUEST_ACTIVITY_STATE) {
        ACTIVE => true,
        HLT => match kind {
            Event::EXTERNAL_INTERRUPT | Event::NMI => true,
            Event::HARDWARE_EXCEPTION => matches!(vector, DEBUG | MACHINE_CHECK),
            Event::OTHER => vector == 0,
            _ => false,
        },
        SHUTDOWN => match kind {
            Event::NMI => true,
            Event::HARDWARE_EXCEPTION => vector == MACHINE_CHECK,
            _ => false,
        },
        _ => false,
    }
}

/// An interruptibility bit must be 0 while an event of a kind is injected.
macro_rules! not_with_event {
    ($bit:expr, $name:literal, $kind:expr) => {
        Check {
            holds: |c, f| c.get(f[0]) & $bit == 0 || !c.event().is($kind),
            words: |c, f| {
                format!(
                    "{} and {}; {} must be 0 to inject an event of this kind ({})",
                    found(c, f[0]),
                    found(c, f[1]),
                    $name,
                    interruption_type(u64::from($kind))
                )
            },
        }
    };
}

/// The single-step condition: events wait, by blocking or in HLT, so that BS must tell what TF will do.
const IF_STEP_PENDS: Condition = Condition {
    fields: &[GUEST_INTERRUPTIBILITY_STATE, GUEST_ACTIVITY_STATE],
    holds: |c| {
        c.get(GUEST_INTERRUPTIBILITY_STATE) & (BLOCKING_BY_STI | BLOCKING_BY_MOV_SS) != 0
            || c.get(GUEST_ACTIVITY_STATE) == HLT
    },
};

/// BS as TF and BTF ask for it: a step is pending if TF is 1 and BTF does not limit steps to branches.
fn wanted_bs(c: &Context) -> bool {
    c.get(GUEST_RFLAGS) & RFLAGS_TF != 0 && c.get(GUEST_IA32_DEBUGCTL) & DEBUGCTL_BTF == 0
}

/// The bits of the pending debug exceptions that must be 0 on this processor.
fn pending_reserved(c: &Context) -> u64 {
    match c.environment.debugctl_reserved & DEBUGCTL_BLD {
        0 => !(PENDING_DEFINED | PENDING_BUS_LOCK),
        _ => !PENDING_DEFINED,
    }
}

const IF_RTM: Condition = Condition {
    fields: &[GUEST_PENDING_DEBUG_EXCEPTIONS],
    holds: |c| c.get(GUEST_PENDING_DEBUG_EXCEPTIONS) & PENDING_RTM != 0,
};

rules! {
    /// Activity state, interruptibility state and pending debug exceptions.
    ACTIVITY "27.3.1.5" OUTCOME;
    "guest.activity_state.value", [GUEST_ACTIVITY_STATE], Check {
        holds: |c, f| c.get(f[0]) <= WAIT_FOR_SIPI,
        words: |c, f| format!(
            "{}; it must be 0 (active), 1 (HLT), 2 (shutdown) or 3 (wait-for-SIPI)", found(c, f[0])
        ),
    };
    "guest.activity_state.supported", [GUEST_ACTIVITY_STATE], Check {
        holds: |c, f| match c.get(f[0]) {
            HLT => c.capabilities.misc() & misc::ACTIVITY_HLT != 0,
            SHUTDOWN => c.capabilities.misc() & misc::ACTIVITY_SHUTDOWN != 0,
            WAIT_FOR_SIPI => c.capabilities.misc() & misc::ACTIVITY_WAIT_FOR_SIPI != 0,
            _ => true,
        },
        words: |c, _| format!("{}; this processor does not support it (bits 8:6 of IA32_VMX_MISC)", found_activity(c)),
    };
    "guest.activity_state.hlt_dpl", [GUEST_ACTIVITY_STATE GUEST_SS_ACCESS_RIGHTS], Check {
        holds: |c, f| c.get(f[0]) != HLT || c.get(f[1]) >> 5 & 3 == 0,
        words: |c, f| format!(
            "{} and {}; the state HLT needs DPL 0 in SS (bits 6:5), as only CPL 0 can execute HLT",
            found_activity(c), found(c, f[1])
        ),
    };
    "guest.activity_state.blocking", [GUEST_ACTIVITY_STATE GUEST_INTERRUPTIBILITY_STATE], Check {
        holds: |c, f| c.get(f[0]) == ACTIVE || c.get(f[1]) & (BLOCKING_BY_STI | BLOCKING_BY_MOV_SS) == 0,
        words: |c, f| format!(
            "{} and {}; with blocking by STI (bit 0) or MOV SS (bit 1) the activity state must be active",
            found_activity(c), found(c, f[1])
        ),
    };
    "guest.activity_state.event", [GUEST_ACTIVITY_STATE ENTRY_INTERRUPTION_INFO] if IF_EVENT, Check {
        holds: |c, _| wakes(c),
        words: |c, f| format!(
            "{} and {} ({}, vector {}); {}",
            found_activity(c), found(c, f[1]), interruption_type(u64::from(c.event().kind)), c.event().vector,
            match c.get(f[0]) {
                HLT => "into HLT only external interrupts, NMIs, #DB, #MC and pending MTF VM exits can be injected",
                SHUTDOWN => "into shutdown only NMIs and #MC can be injected",
                _ => "nothing can be injected in this state",
            }
        ),
    };
    "guest.activity_state.smm", [GUEST_ACTIVITY_STATE] if if_entry::<{ entry::ENTRY_TO_SMM }>(), Check {
        holds: |c, f| c.get(f[0]) != WAIT_FOR_SIPI,
        words: |c, _| format!(
            "{}; with “entry to SMM” it must not be wait-for-SIPI", found_activity(c)
        ),
    };
    "guest.interruptibility.reserved", [GUEST_INTERRUPTIBILITY_STATE], Check {
        holds: |c, f| c.get(f[0]) >> 5 == 0,
        words: |c, f| format!("{}; bits 31:5 are reserved and must be 0", found(c, f[0])),
    };
    "guest.interruptibility.sti_and_mov_ss", [GUEST_INTERRUPTIBILITY_STATE], Check {
        holds: |c, f| {
            let both = BLOCKING_BY_STI | BLOCKING_BY_MOV_SS;
            c.get(f[0]) & both != both
        },
        words: |c, f| format!(
            "{}; blocking by STI (bit 0) and by MOV SS (bit 1) must not both be 1", found(c, f[0])
        ),
    };
    "guest.interruptibility.sti_if", [GUEST_INTERRUPTIBILITY_STATE GUEST_RFLAGS], Check {
        holds: |c, f| c.get(f[0]) & BLOCKING_BY_STI == 0 || c.get(f[1]) & RFLAGS_IF != 0,
        words: |c, f| format!(
            "{} and {}; blocking by STI (bit 0) may be 1 only if RFLAGS.IF (bit 9) is", found(c, f[0]), found(c, f[1])
        ),
    };
    "guest.interruptibility.sti_interrupt", [GUEST_INTERRUPTIBILITY_STATE ENTRY_INTERRUPTION_INFO],
        not_with_event!(BLOCKING_BY_STI, "blocking by STI (bit 0)", Event::EXTERNAL_INTERRUPT);
    "guest.interruptibility.mov_ss_interrupt", [GUEST_INTERRUPTIBILITY_STATE ENTRY_INTERRUPTION_INFO],
        not_with_event!(BLOCKING_BY_MOV_SS, "blocking by MOV SS (bit 1)", Event::EXTERNAL_INTERRUPT);
    "guest.interruptibility.mov_ss_nmi", [GUEST_INTERRUPTIBILITY_STATE ENTRY_INTERRUPTION_INFO],
        not_with_event!(BLOCKING_BY_MOV_SS, "blocking by MOV SS (bit 1)", Event::NMI);
    "guest.interruptibility.smi_outside_smm", [GUEST_INTERRUPTIBILITY_STATE], Check {
        holds: |c, f| c.get(f[0]) & BLOCKING_BY_SMI == 0 || c.environment.in_smm,
        words: |c, f| format!("{}; blocking by SMI (bit 2) must be 0 outside SMM", found(c, f[0])),
    };
    "guest.interruptibility.smi_entering_smm", [GUEST_INTERRUPTIBILITY_STATE]
        if if_entry::<{ entry::ENTRY_TO_SMM }>(), Check {
        holds: |c, f| c.get(f[0]) & BLOCKING_BY_SMI != 0,
        words: |c, f| format!(
            "{}; with “entry to SMM”, blocking by SMI (bit 2) must be 1", found(c, f[0])
        ),
    };
    "guest.interruptibility.virtual_nmi", [GUEST_INTERRUPTIBILITY_STATE ENTRY_INTERRUPTION_INFO]
        if if_pin::<{ pin::VIRTUAL_NMIS }>(),
        not_with_event!(BLOCKING_BY_NMI, "with “virtual NMIs”, blocking by NMI (bit 3)", Event::NMI);
    "guest.interruptibility.enclave_mov_ss", [GUEST_INTERRUPTIBILITY_STATE], Check {
        holds: |c, f| {
            let both = ENCLAVE_INTERRUPTION | BLOCKING_BY_MOV_SS;
            c.get(f[0]) & both != both
        },
        words: |c, f| format!(
            "{}; blocking by MOV SS (bit 1) must be 0 while enclave interruption (bit 4) is 1", found(c, f[0])
        ),
    };
    "guest.interruptibility.enclave_support", [GUEST_INTERRUPTIBILITY_STATE], Check {
        holds: |c, f| c.get(f[0]) & ENCLAVE_INTERRUPTION == 0 || c.environment.has_sgx,
        words: |c, f| format!(
            "{}; enclave interruption (bit 4) must be 0 on a processor without SGX", found(c, f[0])
        ),
    };
    "guest.pending_debug.reserved", [GUEST_PENDING_DEBUG_EXCEPTIONS], Check {
        holds: |c, f| c.get(f[0]) & pending_reserved(c) == 0,
        words: |c, f| format!(
            "{}; the bits {:#x} are reserved and must be 0", found(c, f[0]), c.get(f[0]) & pending_reserved(c)
        ),
    };
    "guest.pending_debug.bs", [GUEST_PENDING_DEBUG_EXCEPTIONS GUEST_RFLAGS GUEST_IA32_DEBUGCTL] if IF_STEP_PENDS,
        Check {
        holds: |c, f| (c.get(f[0]) & PENDING_BS != 0) == wanted_bs(c),
        words: |c, f| format!(
            "{}, {} and {}; with blocking by STI or MOV SS or in HLT, BS (bit 14) must be {}: 1 exactly if RFLAGS.TF is \
             1 and IA32_DEBUGCTL.BTF is 0",
            found(c, f[0]), found(c, f[1]), found(c, f[2]), u8::from(wanted_bs(c))
        ),
    };
    "guest.pending_debug.rtm", [GUEST_PENDING_DEBUG_EXCEPTIONS GUEST_INTERRUPTIBILITY_STATE] if IF_RTM, Check {
        holds: |c, f| {
            c.get(f[0]) == PENDING_IN_REGION
                && c.get(f[1]) & BLOCKING_BY_MOV_SS == 0
                && c.environment.has_rtm
        },
        words: |c, f| format!(
            "{} and {}; RTM (bit 16) may be 1 only on a processor with RTM, with bit 12 and no other bit, and without \
             blocking by MOV SS",
            found(c, f[0]), found(c, f[1])
        ),
    };
}

rules! {
    /// An NMI into a guest with blocking by STI; the SDM lets a processor refuse it, with a qualification of
    /// its own.
    NMI_AND_STI "27.3.1.5" Outcome::EntryFailure(3);
    "guest.interruptibility.sti_nmi", [GUEST_INTERRUPTIBILITY_STATE ENTRY_INTERRUPTION_INFO],
        not_with_event!(BLOCKING_BY_STI, "blocking by STI (bit 0)", Event::NMI);
}

/// There is a link pointer.
const IF_LINKED: Condition = Condition {
    fields: &[VMCS_LINK_POINTER],
    holds: |c| c.get(VMCS_LINK_POINTER) != u64::MAX,
};

/// The link pointer can be read from; its other rules say so where it cannot.
const IF_LINK_READABLE: Condition = Condition {
    fields: &[VMCS_LINK_POINTER],
    holds: |c| {
        let pointer = c.get(VMCS_LINK_POINTER);
        pointer != u64::MAX && pointer & (0xfff | c.address_reserved()) == 0
    },
};

/// The first 4 bytes of the linked VMCS: revision identifier and, in bit 31, the shadow-VMCS indicator.
/// Memory that is not there reads as all 1.
fn linked_revision(c: &Context) -> u64 {
    (c.environment.read_physical)(c.get(VMCS_LINK_POINTER)).map_or(0xffff_ffff, |bytes| bytes & 0xffff_ffff)
}

const SHADOW_INDICATOR: u64 = 1 << 31;

rules! {
    /// The VMCS link pointer.
    LINK_POINTER "27.3.1.5" Outcome::EntryFailure(4);
    "guest.vmcs_link.aligned", [VMCS_LINK_POINTER] if IF_LINKED, PAGE_ALIGNED;
    "guest.vmcs_link.width", [VMCS_LINK_POINTER] if IF_LINKED, Check {
        holds: |c, f| c.get(f[0]) & c.address_reserved() == 0,
        words: |c, f| format!(
            "{}; it must be 0xffffffffffffffff, for no link, or a physical address of {} bits",
            found(c, f[0]), c.address_reserved().trailing_zeros()
        ),
    };
    "guest.vmcs_link.current", [VMCS_LINK_POINTER] if IF_LINKED, Check {
        holds: |c, f| c.get(f[0]) != c.vmcs.address || c.environment.in_smm,
        words: |c, f| format!("{}; it must not be the address of the current VMCS itself", found(c, f[0])),
    };
}

rules! {
    /// The region that the VMCS link pointer points to.
    LINKED_REGION "27.3.1.5" Outcome::EntryFailure(4);
    "guest.vmcs_link.revision", [VMCS_LINK_POINTER] if IF_LINK_READABLE, Check {
        holds: |c, _| linked_revision(c) & !SHADOW_INDICATOR == u64::from(c.capabilities.revision()),
        words: |c, f| format!(
            "{}, where the revision identifier is {:#x}; it must be {:#x}, this processor's",
            found(c, f[0]), linked_revision(c) & !SHADOW_INDICATOR, c.capabilities.revision()
        ),
    };
    "guest.vmcs_link.shadow", [VMCS_LINK_POINTER SECONDARY_PROCESSOR_BASED_CONTROLS PRIMARY_PROCESSOR_BASED_CONTROLS]
        if IF_LINK_READABLE, Check {
        holds: |c, _| (linked_revision(c) & SHADOW_INDICATOR != 0) == c.secondary(secondary::VMCS_SHADOWING),
        words: |c, f| format!(
            "{}, where the shadow-VMCS indicator (bit 31) is {}; it must be {}, as “VMCS shadowing” is",
            found(c, f[0]), linked_revision(c) >> 31, u8::from(c.secondary(secondary::VMCS_SHADOWING))
        ),
    };
}
