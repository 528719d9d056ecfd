//! Checks on the guest-state area: control registers, debug registers and MSRs, descriptor-table registers,
//! RIP, RFLAGS and SSP (SDM vol. 3, 27.3.1.1, 27.3.1.3 and 27.3.1.4).

use super::checks::*;
use super::conditions::*;
use super::{found, rules, wrong_bits, Check, Condition, Context, Event, Outcome};
use crate::vmx::capability::Allowed;
use crate::vmx::controls::{entry, secondary};
use crate::vmx::describe;
use crate::vmx::fields::field::*;

/// Exit qualification 0: a check of guest state that has no qualification of its own.
pub(super) const OUTCOME: Outcome = Outcome::EntryFailure(0);

const CR0_PE: u64 = 1;
const CR0_NW_CD: u64 = 1 << 29 | 1 << 30;
const CR0_PG: u64 = 1 << 31;
const CR4_PAE: u64 = 1 << 5;
const CR4_PCIDE: u64 = 1 << 17;
const EFER_LME: u64 = 1 << 8;
const EFER_LMA: u64 = 1 << 10;

/// The settings of CR0 for this guest: CD and NW are not checked, as VM entry does not change them, nor are
/// PE and PG of an unrestricted guest.
fn guest_cr0(c: &Context) -> Allowed {
    let fixed = c.capabilities.cr0();
    let free = if c.unrestricted() {
        CR0_NW_CD | CR0_PE | CR0_PG
    } else {
        CR0_NW_CD
    };
    Allowed {
        required: fixed.required & !free,
        allowed: fixed.allowed | free,
    }
}

const IF_DEBUG_CONTROLS: Condition = if_entry::<{ entry::LOAD_DEBUG_CONTROLS }>();
const IF_EFER: Condition = if_entry::<{ entry::LOAD_IA32_EFER }>();
const IF_CET: Condition = if_entry::<{ entry::LOAD_CET_STATE }>();

/// The bits that IA32_RTIT_CTL has on no processor (33.2.8.2).
const RTIT_CTL_RESERVED: u64 = 1 << 18 | 1 << 23 | 7 << 28 | 0x7f << 48 | 0x7f << 57;
/// The bits that IA32_LBR_CTL has on no processor (vol. 4, table 2-2).
const LBR_CTL_RESERVED: u64 = !0x7f_000f;

/// These bits are reserved; a processor may have more reserved bits.
const fn always_reserved<const BITS: u64>() -> Check {
    Check {
        holds: |c, f| c.get(f[0]) & BITS == 0,
        words: |c, f| {
            format!(
                "{}; the bits {:#x} are reserved and must be 0",
                found(c, f[0]),
                c.get(f[0]) & BITS
            )
        },
    }
}

rules! {
    /// Control registers, debug registers and MSRs.
    REGISTERS "27.3.1.1" OUTCOME;
    "guest.cr0.fixed", [GUEST_CR0 SECONDARY_PROCESSOR_BASED_CONTROLS PRIMARY_PROCESSOR_BASED_CONTROLS], Check {
        holds: |c, f| guest_cr0(c).accepts(c.get(f[0])),
        words: |c, f| {
            let (fixed, value) = (guest_cr0(c), c.get(f[0]));
            let name = |bits| describe::describe(f[0], bits, c.vmcs);
            let wrong = wrong_bits(fixed.missing(value), fixed.excess(value), name);
            format!("{} (IA32_VMX_CR0_FIXED0 and FIXED1); {wrong}", found(c, f[0]))
        },
    };
    "guest.cr0.pg_without_pe", [GUEST_CR0], Check {
        holds: |c, f| c.get(f[0]) & (CR0_PG | CR0_PE) != CR0_PG,
        words: |c, f| format!("{}; PG (bit 31) may be 1 only if PE (bit 0) is", found(c, f[0])),
    };
    "guest.cr4.fixed", [GUEST_CR4], Check {
        holds: |c, f| c.capabilities.cr4().accepts(c.get(f[0])),
        words: |c, f| {
            let (fixed, value) = (c.capabilities.cr4(), c.get(f[0]));
            let name = |bits| describe::describe(f[0], bits, c.vmcs);
            let wrong = wrong_bits(fixed.missing(value), fixed.excess(value), name);
            format!("{} (IA32_VMX_CR4_FIXED0 and FIXED1); {wrong}", found(c, f[0]))
        },
    };
    "guest.cr4.cet", [GUEST_CR4 GUEST_CR0], CET_NEEDS_WP;
    "guest.debugctl.reserved", [GUEST_IA32_DEBUGCTL] if IF_DEBUG_CONTROLS, Check {
        holds: |c, f| c.get(f[0]) & c.environment.debugctl_reserved == 0,
        words: |c, f| {
            let bad = c.get(f[0]) & c.environment.debugctl_reserved;
            format!("{}; the bits {bad:#x} are reserved on this processor and must be 0", found(c, f[0]))
        },
    };
    "guest.cr0.ia32e_paging", [GUEST_CR0] if IF_IA32E_GUEST, Check {
        holds: |c, f| c.get(f[0]) & CR0_PG != 0,
        words: |c, f| format!("{}; with “IA-32e mode guest”, PG (bit 31) must be 1", found(c, f[0])),
    };
    "guest.cr4.ia32e_pae", [GUEST_CR4] if IF_IA32E_GUEST, Check {
        holds: |c, f| c.get(f[0]) & CR4_PAE != 0,
        words: |c, f| format!("{}; with “IA-32e mode guest”, PAE (bit 5) must be 1", found(c, f[0])),
    };
    "guest.cr4.pcide", [GUEST_CR4] if IF_NOT_IA32E_GUEST, Check {
        holds: |c, f| c.get(f[0]) & CR4_PCIDE == 0,
        words: |c, f| format!(
            "{}; PCIDE (bit 17) may be 1 only with “IA-32e mode guest”", found(c, f[0])
        ),
    };
    "guest.cr3.width", [GUEST_CR3], CR3_IN_WIDTH;
    "guest.dr7.upper_half", [GUEST_DR7] if IF_DEBUG_CONTROLS, UPPER_HALF_CLEAR;
    "guest.sysenter_esp.canonical", [GUEST_IA32_SYSENTER_ESP], CANONICAL;
    "guest.sysenter_eip.canonical", [GUEST_IA32_SYSENTER_EIP], CANONICAL;
    "guest.perf_global_ctrl.reserved", [GUEST_IA32_PERF_GLOBAL_CTRL]
        if if_entry::<{ entry::LOAD_IA32_PERF_GLOBAL_CTRL }>(), PERF_GLOBAL_CTRL_RESERVED;
    "guest.pat.types", [GUEST_IA32_PAT] if if_entry::<{ entry::LOAD_IA32_PAT }>(), PAT_TYPES;
    "guest.efer.reserved", [GUEST_IA32_EFER] if IF_EFER, EFER_RESERVED;
    "guest.efer.lma", [GUEST_IA32_EFER ENTRY_CONTROLS] if IF_EFER, Check {
        holds: |c, f| (c.get(f[0]) & EFER_LMA != 0) == c.ia32e_guest(),
        words: |c, f| format!(
            "{}; LMA (bit 10) must be {}, as “IA-32e mode guest” is", found(c, f[0]), u8::from(c.ia32e_guest())
        ),
    };
    "guest.efer.lme", [GUEST_IA32_EFER GUEST_CR0] if IF_EFER, Check {
        holds: |c, f| {
            let efer = c.get(f[0]);
            c.get(f[1]) & CR0_PG == 0 || (efer & EFER_LMA != 0) == (efer & EFER_LME != 0)
        },
        words: |c, f| format!("{}; while CR0.PG is 1, LME (bit 8) must be equal to LMA (bit 10)", found(c, f[0])),
    };
    "guest.bndcfgs.reserved", [GUEST_IA32_BNDCFGS] if if_entry::<{ entry::LOAD_IA32_BNDCFGS }>(), Check {
        holds: |c, f| c.get(f[0]) & 0xffc == 0,
        words: |c, f| format!("{}; bits 11:2 are reserved and must be 0", found(c, f[0])),
    };
    "guest.bndcfgs.canonical", [GUEST_IA32_BNDCFGS] if if_entry::<{ entry::LOAD_IA32_BNDCFGS }>(), Check {
        holds: |c, f| c.is_canonical(c.get(f[0]) & !0xfff),
        words: |c, f| format!("{}; the linear address in bits 63:12 must be canonical", found(c, f[0])),
    };
    "guest.rtit_ctl.reserved", [GUEST_IA32_RTIT_CTL] if if_entry::<{ entry::LOAD_IA32_RTIT_CTL }>(),
        always_reserved::<RTIT_CTL_RESERVED>();
    "guest.lbr_ctl.reserved", [GUEST_IA32_LBR_CTL] if if_entry::<{ entry::LOAD_GUEST_IA32_LBR_CTL }>(),
        always_reserved::<LBR_CTL_RESERVED>();
    "guest.uinv.reserved", [GUEST_UINV] if if_entry::<{ entry::LOAD_UINV }>(), Check {
        holds: |c, f| c.get(f[0]) >> 8 == 0,
        words: |c, f| format!("{}; bits 15:8 must be 0", found(c, f[0])),
    };
    "guest.s_cet.canonical", [GUEST_IA32_S_CET] if IF_CET, CANONICAL;
    "guest.s_cet.reserved", [GUEST_IA32_S_CET] if IF_CET, S_CET_RESERVED;
    "guest.interrupt_ssp_table.canonical", [GUEST_IA32_INTERRUPT_SSP_TABLE_ADDR] if IF_CET, CANONICAL;
    "guest.pkrs.reserved", [GUEST_IA32_PKRS] if if_entry::<{ entry::LOAD_PKRS }>(), UPPER_HALF_CLEAR;
}

const TABLE_LIMIT: Check = Check {
    holds: |c, f| c.get(f[0]) >> 16 == 0,
    words: |c, f| format!("{}; bits 31:16 must be 0", found(c, f[0])),
};

rules! {
    /// Descriptor-table registers.
    DESCRIPTOR_TABLES "27.3.1.3" OUTCOME;
    "guest.gdtr.base", [GUEST_GDTR_BASE], CANONICAL;
    "guest.idtr.base", [GUEST_IDTR_BASE], CANONICAL;
    "guest.gdtr.limit", [GUEST_GDTR_LIMIT], TABLE_LIMIT;
    "guest.idtr.limit", [GUEST_IDTR_LIMIT], TABLE_LIMIT;
}

/// Whether the first instruction of the guest runs in 64-bit mode.
fn runs_64_bit_code(c: &Context) -> bool {
    c.ia32e_guest() && c.get(GUEST_CS_ACCESS_RIGHTS) >> 13 & 1 != 0
}

/// Fields that decide on 64-bit mode.
const CODE_SIZE: &[crate::vmx::fields::Field] = &[ENTRY_CONTROLS, GUEST_CS_ACCESS_RIGHTS];
const IF_64_BIT_CODE: Condition = Condition {
    fields: CODE_SIZE,
    holds: runs_64_bit_code,
};
const IF_NOT_64_BIT_CODE: Condition = Condition {
    fields: CODE_SIZE,
    holds: |c| !runs_64_bit_code(c),
};

const RFLAGS_RESERVED: u64 = !0x3f_7fd7;
const RFLAGS_IF: u64 = 1 << 9;
const RFLAGS_VM: u64 = 1 << 17;

rules! {
    /// RIP, RFLAGS and SSP.
    RIP_AND_RFLAGS "27.3.1.4" OUTCOME;
    "guest.rip.upper_half", [GUEST_RIP] if IF_NOT_64_BIT_CODE, Check {
        holds: |c, f| c.get(f[0]) >> 32 == 0,
        words: |c, f| format!(
            "{}; bits 63:32 must be 0, as the guest does not start in 64-bit mode (“IA-32e mode guest” is {}, \
             CS.L is {})",
            found(c, f[0]), u8::from(c.ia32e_guest()), c.get(GUEST_CS_ACCESS_RIGHTS) >> 13 & 1
        ),
    };
    "guest.rip.canonical", [GUEST_RIP] if IF_64_BIT_CODE, CANONICAL_OR_NEXT;
    "guest.rflags.reserved", [GUEST_RFLAGS], always_reserved::<RFLAGS_RESERVED>();
    "guest.rflags.bit_1", [GUEST_RFLAGS], Check {
        holds: |c, f| c.get(f[0]) & 2 != 0,
        words: |c, f| format!("{}; bit 1 is always 1", found(c, f[0])),
    };
    "guest.rflags.vm", [GUEST_RFLAGS GUEST_CR0 ENTRY_CONTROLS], Check {
        holds: |c, f| c.get(f[0]) & RFLAGS_VM == 0 || !(c.ia32e_guest() || c.get(f[1]) & CR0_PE == 0),
        words: |c, f| format!(
            "{}; VM (bit 17) must be 0 in IA-32e mode and while CR0.PE is 0 (“IA-32e mode guest” is {}, CR0.PE \
             is {})",
            found(c, f[0]), u8::from(c.ia32e_guest()), c.get(f[1]) & CR0_PE
        ),
    };
    "guest.rflags.if", [GUEST_RFLAGS ENTRY_INTERRUPTION_INFO], Check {
        holds: |c, f| c.get(f[0]) & RFLAGS_IF != 0 || !c.event().is(Event::EXTERNAL_INTERRUPT),
        words: |c, f| format!(
            "{} and {}; to inject an external interrupt, IF (bit 9) must be 1", found(c, f[0]), found(c, f[1])
        ),
    };
    "guest.ssp.aligned", [GUEST_SSP] if IF_CET, SSP_ALIGNED;
    "guest.ssp.canonical", [GUEST_SSP] if IF_CET, CANONICAL_OR_NEXT;
}

/// Fields that say whether EPT is in use.
pub(super) fn uses_ept(c: &Context) -> bool {
    c.secondary(secondary::ENABLE_EPT)
}
