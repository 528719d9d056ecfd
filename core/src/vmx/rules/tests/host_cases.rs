//! A case for each rule on the host-state area.

use super::setups::*;
use crate::vmx::controls::{entry, exit};
use crate::vmx::fields::{field::*, Field};

pub fn host_cases(cases: &mut Vec<Case>) {
    let with_exit = |id: &str, bits: u64, field: Field, value: u64| {
        case(id, move |s| {
            s.set_bits(EXIT_CONTROLS, bits);
            s.set(field, value);
        })
    };
    let legacy_with_cet = |id: &str, field: Field, value: u64| {
        case(id, move |s| {
            make_legacy(s);
            s.set_bits(EXIT_CONTROLS, exit::LOAD_CET_STATE);
            s.set(field, value);
        })
    };
    cases.extend([
        case("host.cr0.fixed", |s| s.clear_bits(HOST_CR0, 1 << 5)),
        case("host.cr4.fixed", |s| s.clear_bits(HOST_CR4, 1 << 13)),
        case("host.cr4.cet", |s| {
            s.set_bits(HOST_CR4, 1 << 23);
            s.clear_bits(HOST_CR0, 1 << 16);
        }),
        field_case("host.cr3.width", HOST_CR3, BEYOND_WIDTH),
        field_case(
            "host.sysenter_esp.canonical",
            HOST_IA32_SYSENTER_ESP,
            NON_CANONICAL,
        ),
        field_case(
            "host.sysenter_eip.canonical",
            HOST_IA32_SYSENTER_EIP,
            NON_CANONICAL,
        ),
        with_exit(
            "host.perf_global_ctrl.reserved",
            exit::LOAD_IA32_PERF_GLOBAL_CTRL,
            HOST_IA32_PERF_GLOBAL_CTRL,
            1 << 40,
        ),
        with_exit("host.pat.types", exit::LOAD_IA32_PAT, HOST_IA32_PAT, 0x0200),
        with_exit("host.efer.reserved", exit::LOAD_IA32_EFER, HOST_IA32_EFER, 0x502),
        with_exit("host.efer.long_mode", exit::LOAD_IA32_EFER, HOST_IA32_EFER, 0x400),
        legacy_with_cet("host.s_cet.upper_half", HOST_IA32_S_CET, 1 << 32),
        legacy_with_cet("host.ssp.upper_half", HOST_SSP, 1 << 32),
        with_exit(
            "host.s_cet.canonical",
            exit::LOAD_CET_STATE,
            HOST_IA32_S_CET,
            NON_CANONICAL,
        ),
        with_exit(
            "host.s_cet.reserved",
            exit::LOAD_CET_STATE,
            HOST_IA32_S_CET,
            0xc00,
        ),
        with_exit(
            "host.ssp.canonical",
            exit::LOAD_CET_STATE,
            HOST_SSP,
            NON_CANONICAL,
        ),
        with_exit("host.ssp.aligned", exit::LOAD_CET_STATE, HOST_SSP, 2),
        with_exit(
            "host.interrupt_ssp_table.canonical",
            exit::LOAD_CET_STATE,
            HOST_IA32_INTERRUPT_SSP_TABLE_ADDR,
            NON_CANONICAL,
        ),
        with_exit("host.pkrs.reserved", exit::LOAD_PKRS, HOST_IA32_PKRS, 1 << 32),
        field_case("host.cs.null", HOST_CS_SELECTOR, 0),
        field_case("host.tr.null", HOST_TR_SELECTOR, 0),
        case("host.ss.null", |s| {
            make_legacy(s);
            s.set(HOST_SS_SELECTOR, 0);
        }),
        case("host.address_space.legacy_now", |s| s.long_mode = false),
        case("host.address_space.long_now", |s| {
            make_legacy(s);
            s.long_mode = true;
        }),
        case("host.address_space.guest", |s| {
            make_legacy(s);
            s.set_bits(ENTRY_CONTROLS, entry::IA32E_MODE_GUEST);
        }),
        case("host.address_space.pcide", |s| {
            make_legacy(s);
            s.set_bits(HOST_CR4, 1 << 17);
        }),
        case("host.address_space.rip_32", |s| {
            make_legacy(s);
            s.set(HOST_RIP, 1 << 32);
        }),
        case("host.address_space.pae", |s| s.clear_bits(HOST_CR4, 1 << 5)),
        field_case("host.address_space.rip_64", HOST_RIP, NON_CANONICAL),
    ]);
    for register in ["cs", "ss", "ds", "es", "fs", "gs", "tr"] {
        let selector = named(&format!("host_{register}_selector"));
        cases.push(field_case(format!("host.{register}.rpl"), selector, 0x1b));
        cases.push(field_case(format!("host.{register}.ti"), selector, 0x1c));
    }
    for register in ["fs", "gs", "gdtr", "idtr", "tr"] {
        let base = named(&format!("host_{register}_base"));
        cases.push(field_case(format!("host.{register}.base"), base, NON_CANONICAL));
    }
}
