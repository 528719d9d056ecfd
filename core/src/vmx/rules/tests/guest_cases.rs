//! A case for each rule on the guest-state area.

use super::setups::*;
use crate::vmx::capability::msr;
use crate::vmx::controls::{entry, pin};
use crate::vmx::fields::{field::*, Field};
use crate::vmx::rules::baseline::{Setup, REVISION};

pub fn guest_register_cases(cases: &mut Vec<Case>) {
    let with_entry = |id: &str, bits: u64, field: Field, value: u64| {
        case(id, move |s| {
            s.set_bits(ENTRY_CONTROLS, bits);
            s.set(field, value);
        })
    };
    let debug = entry::LOAD_DEBUG_CONTROLS;
    cases.extend([
        case("guest.cr0.fixed", |s| s.clear_bits(GUEST_CR0, 1 << 5)),
        case("guest.cr0.pg_without_pe", |s| {
            make_unrestricted(s);
            s.clear_bits(GUEST_CR0, 1);
        }),
        case("guest.cr4.fixed", |s| s.clear_bits(GUEST_CR4, 1 << 13)),
        case("guest.cr4.cet", |s| {
            s.set_bits(GUEST_CR4, 1 << 23);
            s.clear_bits(GUEST_CR0, 1 << 16);
        }),
        with_entry("guest.debugctl.reserved", debug, GUEST_IA32_DEBUGCTL, 1 << 20),
        case("guest.cr0.ia32e_paging", |s| {
            make_unrestricted(s);
            s.clear_bits(GUEST_CR0, 1 << 31);
        }),
        case("guest.cr4.ia32e_pae", |s| s.clear_bits(GUEST_CR4, 1 << 5)),
        case("guest.cr4.pcide", |s| {
            make_legacy(s);
            s.set_bits(GUEST_CR4, 1 << 17);
        }),
        field_case("guest.cr3.width", GUEST_CR3, BEYOND_WIDTH),
        with_entry("guest.dr7.upper_half", debug, GUEST_DR7, 1 << 32),
        field_case(
            "guest.sysenter_esp.canonical",
            GUEST_IA32_SYSENTER_ESP,
            NON_CANONICAL,
        ),
        field_case(
            "guest.sysenter_eip.canonical",
            GUEST_IA32_SYSENTER_EIP,
            NON_CANONICAL,
        ),
        with_entry(
            "guest.perf_global_ctrl.reserved",
            entry::LOAD_IA32_PERF_GLOBAL_CTRL,
            GUEST_IA32_PERF_GLOBAL_CTRL,
            1 << 8,
        ),
        with_entry("guest.pat.types", entry::LOAD_IA32_PAT, GUEST_IA32_PAT, 0xff),
        with_entry(
            "guest.efer.reserved",
            entry::LOAD_IA32_EFER,
            GUEST_IA32_EFER,
            0x502,
        ),
        with_entry("guest.efer.lma", entry::LOAD_IA32_EFER, GUEST_IA32_EFER, 0),
        with_entry("guest.efer.lme", entry::LOAD_IA32_EFER, GUEST_IA32_EFER, 0x400),
        with_entry(
            "guest.bndcfgs.reserved",
            entry::LOAD_IA32_BNDCFGS,
            GUEST_IA32_BNDCFGS,
            4,
        ),
        with_entry(
            "guest.bndcfgs.canonical",
            entry::LOAD_IA32_BNDCFGS,
            GUEST_IA32_BNDCFGS,
            NON_CANONICAL,
        ),
        with_entry(
            "guest.rtit_ctl.reserved",
            entry::LOAD_IA32_RTIT_CTL,
            GUEST_IA32_RTIT_CTL,
            1 << 18,
        ),
        with_entry(
            "guest.lbr_ctl.reserved",
            entry::LOAD_GUEST_IA32_LBR_CTL,
            GUEST_IA32_LBR_CTL,
            1 << 4,
        ),
        with_entry("guest.uinv.reserved", entry::LOAD_UINV, GUEST_UINV, 0x100),
        with_entry(
            "guest.s_cet.canonical",
            entry::LOAD_CET_STATE,
            GUEST_IA32_S_CET,
            NON_CANONICAL,
        ),
        with_entry(
            "guest.s_cet.reserved",
            entry::LOAD_CET_STATE,
            GUEST_IA32_S_CET,
            0x40,
        ),
        with_entry(
            "guest.interrupt_ssp_table.canonical",
            entry::LOAD_CET_STATE,
            GUEST_IA32_INTERRUPT_SSP_TABLE_ADDR,
            NON_CANONICAL,
        ),
        with_entry("guest.pkrs.reserved", entry::LOAD_PKRS, GUEST_IA32_PKRS, 1 << 32),
        with_entry("guest.ssp.aligned", entry::LOAD_CET_STATE, GUEST_SSP, 1),
        with_entry(
            "guest.ssp.canonical",
            entry::LOAD_CET_STATE,
            GUEST_SSP,
            NON_CANONICAL,
        ),
        field_case("guest.gdtr.base", GUEST_GDTR_BASE, NON_CANONICAL),
        field_case("guest.idtr.base", GUEST_IDTR_BASE, NON_CANONICAL),
        field_case("guest.gdtr.limit", GUEST_GDTR_LIMIT, 0x1_0000),
        field_case("guest.idtr.limit", GUEST_IDTR_LIMIT, 0x1_0000),
        case("guest.rip.upper_half", |s| {
            s.set(GUEST_CS_ACCESS_RIGHTS, 0xc09b);
            s.set(GUEST_RIP, 1 << 32);
        }),
        field_case("guest.rip.canonical", GUEST_RIP, NON_CANONICAL),
        field_case("guest.rflags.reserved", GUEST_RFLAGS, 0xa),
        field_case("guest.rflags.bit_1", GUEST_RFLAGS, 0),
        case("guest.rflags.vm", make_virtual_8086),
        case("guest.rflags.if", |s| {
            inject(s, EXTERNAL_INTERRUPT);
            s.set(GUEST_RFLAGS, 2);
        }),
    ]);
}

pub fn segment_cases(cases: &mut Vec<Case>) {
    let legacy_8086 = |s: &mut Setup| {
        make_legacy(s);
        make_virtual_8086(s);
    };
    for register in ["cs", "ss", "ds", "es", "fs", "gs"] {
        let id = |aspect: &str| format!("guest.{register}.{aspect}");
        let part = |name: &str| named(&format!("guest_{register}_{name}"));
        let (selector, base, limit, rights) = (
            part("selector"),
            part("base"),
            part("limit"),
            part("access_rights"),
        );
        for (aspect, field, value) in [
            ("v86_base", base, 0x5550),
            ("v86_limit", limit, 0xfffe),
            ("v86_rights", rights, 0x93),
        ] {
            cases.push(case(id(aspect), move |s| {
                legacy_8086(s);
                s.set(field, value);
            }));
        }
        cases.extend([
            case(id("type"), move |s| s.clear_bits(rights, 1)),
            case(id("s"), move |s| s.clear_bits(rights, 1 << 4)),
            case(id("present"), move |s| s.clear_bits(rights, 1 << 7)),
            case(id("reserved_low"), move |s| s.set_bits(rights, 1 << 8)),
            case(id("reserved_high"), move |s| s.set_bits(rights, 1 << 17)),
            field_case(id("granularity"), limit, 0xffff_f000),
            field_case(
                id("base"),
                base,
                if matches!(register, "fs" | "gs") {
                    NON_CANONICAL
                } else {
                    1 << 32
                },
            ),
        ]);
        if !matches!(register, "cs" | "ss") {
            cases.push(field_case(id("dpl"), selector, 0x13));
        }
    }
    cases.extend([
        case("guest.cs.dpl", |s| s.set_bits(GUEST_CS_ACCESS_RIGHTS, 3 << 5)),
        case("guest.cs.default_size", |s| {
            s.set_bits(GUEST_CS_ACCESS_RIGHTS, 1 << 14)
        }),
        field_case("guest.ss.rpl", GUEST_CS_SELECTOR, 0x0b),
        case("guest.ss.dpl_rpl", |s| {
            s.set(GUEST_CS_ACCESS_RIGHTS, 0xa09f);
            s.set_bits(GUEST_SS_ACCESS_RIGHTS, 1 << 5);
        }),
        case("guest.ss.dpl_zero", |s| {
            make_unrestricted(s);
            s.set(GUEST_CS_ACCESS_RIGHTS, 0xc093);
            s.set_bits(GUEST_SS_ACCESS_RIGHTS, 3 << 5);
        }),
        field_case("guest.tr.ti", GUEST_TR_SELECTOR, 0x1c),
        field_case("guest.tr.base", GUEST_TR_BASE, NON_CANONICAL),
        field_case("guest.tr.type", GUEST_TR_ACCESS_RIGHTS, 0x83),
        field_case("guest.tr.s", GUEST_TR_ACCESS_RIGHTS, 0x9b),
        field_case("guest.tr.present", GUEST_TR_ACCESS_RIGHTS, 0x0b),
        field_case("guest.tr.reserved_low", GUEST_TR_ACCESS_RIGHTS, 0x88b),
        field_case("guest.tr.granularity", GUEST_TR_ACCESS_RIGHTS, 0x808b),
        field_case("guest.tr.unusable", GUEST_TR_ACCESS_RIGHTS, 0x1_008b),
        field_case("guest.tr.reserved_high", GUEST_TR_ACCESS_RIGHTS, 0x8000_008b),
    ]);
    for (aspect, field, value) in [
        ("ti", GUEST_LDTR_SELECTOR, 0x24),
        ("base", GUEST_LDTR_BASE, NON_CANONICAL),
        ("type", GUEST_LDTR_ACCESS_RIGHTS, 0x8b),
        ("s", GUEST_LDTR_ACCESS_RIGHTS, 0x92),
        ("present", GUEST_LDTR_ACCESS_RIGHTS, 0x02),
        ("reserved_low", GUEST_LDTR_ACCESS_RIGHTS, 0x182),
        ("granularity", GUEST_LDTR_LIMIT, 0x10_0000),
        ("reserved_high", GUEST_LDTR_ACCESS_RIGHTS, 0x2_0082),
    ] {
        cases.push(case(format!("guest.ldtr.{aspect}"), move |s| {
            make_ldtr_usable(s);
            s.set(field, value);
        }));
    }
}

pub fn non_register_cases(cases: &mut Vec<Case>) {
    // Blocking by STI or MOV SS, and an event.
    let blocked = |id: &str, state: u64, event: u64| {
        case(id, move |s| {
            inject(s, event);
            s.set(GUEST_INTERRUPTIBILITY_STATE, state);
        })
    };
    cases.extend([
        field_case("guest.activity_state.value", GUEST_ACTIVITY_STATE, 0xffff_ffff),
        case("guest.activity_state.supported", |s| {
            s.msrs.set(msr::MISC, 0x7004_c1a0);
            s.set(GUEST_ACTIVITY_STATE, 1);
        }),
        case("guest.activity_state.hlt_dpl", |s| {
            s.set(GUEST_ACTIVITY_STATE, 1);
            s.set(GUEST_CS_SELECTOR, 0x0b);
            s.set(GUEST_SS_SELECTOR, 0x13);
            s.set_bits(GUEST_CS_ACCESS_RIGHTS, 3 << 5);
            s.set_bits(GUEST_SS_ACCESS_RIGHTS, 3 << 5);
        }),
        case("guest.activity_state.blocking", |s| {
            s.set(GUEST_ACTIVITY_STATE, 1);
            s.set(GUEST_INTERRUPTIBILITY_STATE, 2);
        }),
        case("guest.activity_state.event", |s| {
            inject(s, EXTERNAL_INTERRUPT);
            s.set(GUEST_ACTIVITY_STATE, 2);
        }),
        case("guest.activity_state.smm", |s| {
            s.in_smm = true;
            s.set_bits(ENTRY_CONTROLS, entry::ENTRY_TO_SMM);
            s.set(GUEST_INTERRUPTIBILITY_STATE, 4);
            s.set(GUEST_ACTIVITY_STATE, 3);
        }),
        field_case(
            "guest.interruptibility.reserved",
            GUEST_INTERRUPTIBILITY_STATE,
            1 << 5,
        ),
        case("guest.interruptibility.sti_and_mov_ss", |s| {
            s.set_bits(GUEST_RFLAGS, 1 << 9);
            s.set(GUEST_INTERRUPTIBILITY_STATE, 3);
        }),
        field_case("guest.interruptibility.sti_if", GUEST_INTERRUPTIBILITY_STATE, 1),
        blocked("guest.interruptibility.sti_interrupt", 1, EXTERNAL_INTERRUPT),
        blocked("guest.interruptibility.mov_ss_interrupt", 2, EXTERNAL_INTERRUPT),
        blocked("guest.interruptibility.mov_ss_nmi", 2, NMI),
        blocked("guest.interruptibility.sti_nmi", 1, NMI),
        field_case(
            "guest.interruptibility.smi_outside_smm",
            GUEST_INTERRUPTIBILITY_STATE,
            4,
        ),
        case("guest.interruptibility.smi_entering_smm", |s| {
            s.in_smm = true;
            s.set_bits(ENTRY_CONTROLS, entry::ENTRY_TO_SMM);
        }),
        case("guest.interruptibility.virtual_nmi", |s| {
            s.set_bits(PIN_BASED_CONTROLS, pin::NMI_EXITING | pin::VIRTUAL_NMIS);
            inject(s, NMI);
            s.set(GUEST_INTERRUPTIBILITY_STATE, 8);
        }),
        case("guest.interruptibility.enclave_mov_ss", |s| {
            s.has_sgx = true;
            s.set(GUEST_INTERRUPTIBILITY_STATE, 0x12);
        }),
        field_case(
            "guest.interruptibility.enclave_support",
            GUEST_INTERRUPTIBILITY_STATE,
            0x10,
        ),
        field_case(
            "guest.pending_debug.reserved",
            GUEST_PENDING_DEBUG_EXCEPTIONS,
            1 << 13,
        ),
        case("guest.pending_debug.bs", |s| {
            s.set(GUEST_INTERRUPTIBILITY_STATE, 2);
            s.set_bits(GUEST_RFLAGS, 1 << 8);
        }),
        case("guest.pending_debug.rtm", |s| {
            s.has_rtm = true;
            s.set(GUEST_PENDING_DEBUG_EXCEPTIONS, 1 << 16);
        }),
        field_case("guest.vmcs_link.aligned", VMCS_LINK_POINTER, 0x9008),
        field_case("guest.vmcs_link.width", VMCS_LINK_POINTER, BEYOND_WIDTH),
        field_case("guest.vmcs_link.revision", VMCS_LINK_POINTER, 0x9000),
        case("guest.vmcs_link.shadow", |s| {
            s.memory.insert(0x9000, 1 << 31 | REVISION);
            s.set(VMCS_LINK_POINTER, 0x9000);
        }),
        case("guest.vmcs_link.current", |s| {
            s.memory.insert(0x5000, REVISION);
            s.set(VMCS_LINK_POINTER, 0x5000);
        }),
        case("guest.cr3.pdptes", |s| {
            make_legacy(s);
            s.memory.insert(0x1018, 3);
        }),
    ]);
    for (i, field) in [GUEST_PDPTE0, GUEST_PDPTE1, GUEST_PDPTE2, GUEST_PDPTE3]
        .into_iter()
        .enumerate()
    {
        cases.push(case(format!("guest.pdpte{i}.reserved"), move |s| {
            make_legacy(s);
            enable_ept(s);
            s.set(field, 0x2001 | BEYOND_WIDTH);
        }));
    }
}
