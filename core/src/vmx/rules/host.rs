//! Checks on the host-state area (SDM vol. 3, 27.2.2 to 27.2.4).

use super::checks::*;
use super::conditions::*;
use super::{found, rules, wrong_bits, Check, Outcome};
use crate::vmx::controls::exit;
use crate::vmx::errors::instruction_error::ENTRY_INVALID_HOST_STATE;

const OUTCOME: Outcome = Outcome::FailValid(ENTRY_INVALID_HOST_STATE);

const CR4_PAE: u64 = 1 << 5;
const CR4_PCIDE: u64 = 1 << 17;
const EFER_LME_LMA: u64 = 1 << 8 | 1 << 10;

rules! {
    /// Control registers, MSRs and the shadow-stack pointer.
    REGISTERS "27.2.2" OUTCOME;
    "host.cr0.fixed", [HOST_CR0], Check {
        holds: |c, f| c.capabilities.cr0().accepts(c.get(f[0])),
        words: |c, f| {
            let (fixed, value) = (c.capabilities.cr0(), c.get(f[0]));
            let wrong = wrong_bits(fixed.missing(value), fixed.excess(value), |bits| cr_bits(c, f[0], bits));
            format!("{} (IA32_VMX_CR0_FIXED0 and FIXED1); {wrong}", found(c, f[0]))
        },
    };
    "host.cr4.fixed", [HOST_CR4], Check {
        holds: |c, f| c.capabilities.cr4().accepts(c.get(f[0])),
        words: |c, f| {
            let (fixed, value) = (c.capabilities.cr4(), c.get(f[0]));
            let wrong = wrong_bits(fixed.missing(value), fixed.excess(value), |bits| cr_bits(c, f[0], bits));
            format!("{} (IA32_VMX_CR4_FIXED0 and FIXED1); {wrong}", found(c, f[0]))
        },
    };
    "host.cr4.cet", [HOST_CR4 HOST_CR0], CET_NEEDS_WP;
    "host.cr3.width", [HOST_CR3], CR3_IN_WIDTH;
    "host.sysenter_esp.canonical", [HOST_IA32_SYSENTER_ESP], CANONICAL;
    "host.sysenter_eip.canonical", [HOST_IA32_SYSENTER_EIP], CANONICAL;
    "host.perf_global_ctrl.reserved", [HOST_IA32_PERF_GLOBAL_CTRL]
        if if_exit::<{ exit::LOAD_IA32_PERF_GLOBAL_CTRL }>(), PERF_GLOBAL_CTRL_RESERVED;
    "host.pat.types", [HOST_IA32_PAT] if if_exit::<{ exit::LOAD_IA32_PAT }>(), PAT_TYPES;
    "host.efer.reserved", [HOST_IA32_EFER] if if_exit::<{ exit::LOAD_IA32_EFER }>(), EFER_RESERVED;
    "host.efer.long_mode", [HOST_IA32_EFER EXIT_CONTROLS] if if_exit::<{ exit::LOAD_IA32_EFER }>(), Check {
        holds: |c, f| c.get(f[0]) & EFER_LME_LMA == if c.host_64() { EFER_LME_LMA } else { 0 },
        words: |c, f| format!(
            "{}; LME (bit 8) and LMA (bit 10) must both be {}, as “host address-space size” is",
            found(c, f[0]), u8::from(c.host_64())
        ),
    };
    "host.s_cet.reserved", [HOST_IA32_S_CET] if if_exit::<{ exit::LOAD_CET_STATE }>(), S_CET_RESERVED;
    "host.ssp.aligned", [HOST_SSP] if if_exit::<{ exit::LOAD_CET_STATE }>(), SSP_ALIGNED;
    "host.interrupt_ssp_table.canonical", [HOST_IA32_INTERRUPT_SSP_TABLE_ADDR]
        if if_exit::<{ exit::LOAD_CET_STATE }>(), CANONICAL;
    "host.pkrs.reserved", [HOST_IA32_PKRS] if if_exit::<{ exit::LOAD_PKRS }>(), UPPER_HALF_CLEAR;
}

/// Bits of a control register by name.
fn cr_bits(c: &super::Context, field: crate::vmx::fields::Field, bits: u64) -> Vec<String> {
    crate::vmx::describe::describe(field, bits, c.vmcs)
}

const RPL: Check = Check {
    holds: |c, f| c.get(f[0]) & 3 == 0,
    words: |c, f| {
        format!(
            "{}; RPL (bits 1:0) must be 0, and is {}",
            found(c, f[0]),
            c.get(f[0]) & 3
        )
    },
};

const TI: Check = Check {
    holds: |c, f| c.get(f[0]) & 4 == 0,
    words: |c, f| {
        format!(
            "{}; TI (bit 2) must be 0, as host selectors select from the GDT",
            found(c, f[0])
        )
    },
};

const NOT_NULL: Check = Check {
    holds: |c, f| c.get(f[0]) != 0,
    words: |c, f| format!("{}; the selector must not be 0", found(c, f[0])),
};

rules! {
    /// Segment and descriptor-table registers.
    SEGMENTS "27.2.3" OUTCOME;
    "host.cs.rpl", [HOST_CS_SELECTOR], RPL;
    "host.cs.ti", [HOST_CS_SELECTOR], TI;
    "host.ss.rpl", [HOST_SS_SELECTOR], RPL;
    "host.ss.ti", [HOST_SS_SELECTOR], TI;
    "host.ds.rpl", [HOST_DS_SELECTOR], RPL;
    "host.ds.ti", [HOST_DS_SELECTOR], TI;
    "host.es.rpl", [HOST_ES_SELECTOR], RPL;
    "host.es.ti", [HOST_ES_SELECTOR], TI;
    "host.fs.rpl", [HOST_FS_SELECTOR], RPL;
    "host.fs.ti", [HOST_FS_SELECTOR], TI;
    "host.gs.rpl", [HOST_GS_SELECTOR], RPL;
    "host.gs.ti", [HOST_GS_SELECTOR], TI;
    "host.tr.rpl", [HOST_TR_SELECTOR], RPL;
    "host.tr.ti", [HOST_TR_SELECTOR], TI;
    "host.cs.null", [HOST_CS_SELECTOR], NOT_NULL;
    "host.tr.null", [HOST_TR_SELECTOR], NOT_NULL;
    "host.ss.null", [HOST_SS_SELECTOR] if IF_HOST_32, NOT_NULL;
    "host.fs.base", [HOST_FS_BASE], CANONICAL;
    "host.gs.base", [HOST_GS_BASE], CANONICAL;
    "host.gdtr.base", [HOST_GDTR_BASE], CANONICAL;
    "host.idtr.base", [HOST_IDTR_BASE], CANONICAL;
    "host.tr.base", [HOST_TR_BASE], CANONICAL;
}

rules! {
    /// What belongs to the size of the address space, now and after the VM exit.
    ADDRESS_SPACE "27.2.4" OUTCOME;
    "host.address_space.legacy_now", [EXIT_CONTROLS ENTRY_CONTROLS], Check {
        holds: |c, _| c.environment.long_mode || !(c.host_64() || c.ia32e_guest()),
        words: |c, f| format!(
            "{} and {}; outside IA-32e mode “host address-space size” (bit 9 of the VM-exit controls) and \
             “IA-32e mode guest” (bit 9 of the VM-entry controls) must be 0",
            found(c, f[0]), found(c, f[1])
        ),
    };
    "host.address_space.long_now", [EXIT_CONTROLS], Check {
        holds: |c, _| !c.environment.long_mode || c.host_64(),
        words: |c, f| format!(
            "{}; in IA-32e mode “host address-space size” (bit 9) must be 1", found(c, f[0])
        ),
    };
    "host.address_space.guest", [ENTRY_CONTROLS] if IF_HOST_32, Check {
        holds: |c, _| !c.ia32e_guest(),
        words: |c, f| format!(
            "{}; “IA-32e mode guest” (bit 9) may be 1 only if “host address-space size” is",
            found(c, f[0])
        ),
    };
    "host.address_space.pcide", [HOST_CR4] if IF_HOST_32, Check {
        holds: |c, f| c.get(f[0]) & CR4_PCIDE == 0,
        words: |c, f| format!(
            "{}; PCIDE (bit 17) must be 0 while “host address-space size” is 0", found(c, f[0])
        ),
    };
    "host.address_space.rip_32", [HOST_RIP] if IF_HOST_32, UPPER_HALF_CLEAR;
    "host.address_space.pae", [HOST_CR4] if IF_HOST_64, Check {
        holds: |c, f| c.get(f[0]) & CR4_PAE != 0,
        words: |c, f| format!(
            "{}; PAE (bit 5) must be 1 while “host address-space size” is 1", found(c, f[0])
        ),
    };
    "host.address_space.rip_64", [HOST_RIP] if IF_HOST_64, CANONICAL;
    "host.s_cet.upper_half", [HOST_IA32_S_CET] if IF_HOST_32_WITH_CET, UPPER_HALF_CLEAR;
    "host.ssp.upper_half", [HOST_SSP] if IF_HOST_32_WITH_CET, UPPER_HALF_CLEAR;
    "host.s_cet.canonical", [HOST_IA32_S_CET] if IF_HOST_64_WITH_CET, CANONICAL;
    "host.ssp.canonical", [HOST_SSP] if IF_HOST_64_WITH_CET, CANONICAL;
}
