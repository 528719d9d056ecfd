//! For each rule a case that breaks it, and the tests that hold the table to these cases.

use super::baseline::{baseline, Setup, REVISION};
use super::*;
use crate::vmx::capability::msr;
use crate::vmx::controls::{pin, secondary};
use crate::vmx::fields::field::*;

/// Breaks the rule with this id in a setup that breaks none.
type Case = (String, Box<dyn Fn(&mut Setup)>);

fn case(id: impl Into<String>, make: impl Fn(&mut Setup) + 'static) -> Case {
    (id.into(), Box::new(make))
}

/// A case that sets one field.
fn field_case(id: impl Into<String>, field: Field, value: u64) -> Case {
    case(id, move |s| s.set(field, value))
}

/// Rules that the SDM asks for although others already forbid all that they do: what else their case breaks.
const IMPLIED: &[(&str, &[&str])] = &[("host.address_space.guest", &["host.address_space.legacy_now"])];

fn set_secondary(s: &mut Setup, bits: u64) {
    s.set_bits(
        PRIMARY_PROCESSOR_BASED_CONTROLS,
        primary::ACTIVATE_SECONDARY_CONTROLS,
    );
    s.set_bits(SECONDARY_PROCESSOR_BASED_CONTROLS, bits);
}

fn enable_ept(s: &mut Setup) {
    set_secondary(s, secondary::ENABLE_EPT);
    s.set(EPT_POINTER, 0x101e);
}

fn make_unrestricted(s: &mut Setup) {
    enable_ept(s);
    set_secondary(s, secondary::UNRESTRICTED_GUEST);
}

/// A 32-bit host and guest, with PAE paging.
fn make_legacy(s: &mut Setup) {
    s.long_mode = false;
    s.clear_bits(EXIT_CONTROLS, exit::HOST_ADDRESS_SPACE_SIZE);
    s.clear_bits(ENTRY_CONTROLS, entry::IA32E_MODE_GUEST);
}

fn post_interrupts(s: &mut Setup) {
    s.set_bits(
        PIN_BASED_CONTROLS,
        pin::PROCESS_POSTED_INTERRUPTS | pin::EXTERNAL_INTERRUPT_EXITING,
    );
    s.set_bits(PRIMARY_PROCESSOR_BASED_CONTROLS, primary::USE_TPR_SHADOW);
    set_secondary(s, secondary::VIRTUAL_INTERRUPT_DELIVERY);
    s.set_bits(EXIT_CONTROLS, exit::ACKNOWLEDGE_INTERRUPT_ON_EXIT);
}

fn inject(s: &mut Setup, info: u64) {
    s.set(ENTRY_INTERRUPTION_INFO, 1 << 31 | info);
    s.set_bits(GUEST_RFLAGS, 1 << 9);
}

const EXTERNAL_INTERRUPT: u64 = 0x20;
const NMI: u64 = 2 << 8 | 2;
const NON_CANONICAL: u64 = 1 << 60;
const BEYOND_WIDTH: u64 = 1 << 45;

/// The rules of an address that a control field gives: alignment and width.
fn address_cases(id: &str, address: Field, enable: fn(&mut Setup)) -> [Case; 2] {
    [("aligned", 8), ("width", BEYOND_WIDTH)].map(|(aspect, value)| {
        case(format!("control.{id}.{aspect}"), move |s| {
            enable(s);
            s.set(address, value);
        })
    })
}

fn list_cases(id: &str, address: Field, count: Field) -> [Case; 3] {
    [
        ("aligned", 8, 1),
        ("width", BEYOND_WIDTH, 1),
        ("end", (1 << 40) - 16, 2),
    ]
    .map(|(aspect, start, entries)| {
        case(format!("control.{id}.{aspect}"), move |s| {
            s.set(address, start);
            s.set(count, entries);
        })
    })
}

fn execution_cases(cases: &mut Vec<Case>) {
    cases.extend([
        field_case("control.pin.reserved", PIN_BASED_CONTROLS, 0),
        field_case("control.primary.reserved", PRIMARY_PROCESSOR_BASED_CONTROLS, 0),
        case("control.secondary.reserved", |s| set_secondary(s, 1 << 29)),
        case("control.tertiary.reserved", |s| {
            s.set_bits(
                PRIMARY_PROCESSOR_BASED_CONTROLS,
                primary::ACTIVATE_TERTIARY_CONTROLS,
            );
            s.set(TERTIARY_PROCESSOR_BASED_CONTROLS, 1 << 63);
        }),
        field_case("control.cr3_target_count", CR3_TARGET_COUNT, 5),
        case("control.tpr_threshold.reserved", |s| {
            s.set_bits(PRIMARY_PROCESSOR_BASED_CONTROLS, primary::USE_TPR_SHADOW);
            s.set(TPR_THRESHOLD, 0x10);
        }),
        case("control.tpr_threshold.above_virtual_tpr", |s| {
            s.set_bits(PRIMARY_PROCESSOR_BASED_CONTROLS, primary::USE_TPR_SHADOW);
            s.set(VIRTUAL_APIC_ADDRESS, 0x7000);
            s.memory.insert(0x7080, 0x3f);
            s.set(TPR_THRESHOLD, 4);
        }),
        case("control.virtual_nmis", |s| {
            s.set_bits(PIN_BASED_CONTROLS, pin::VIRTUAL_NMIS)
        }),
        case("control.nmi_window", |s| {
            s.set_bits(PRIMARY_PROCESSOR_BASED_CONTROLS, primary::NMI_WINDOW_EXITING);
        }),
        case("control.tpr_shadow.x2apic", |s| {
            set_secondary(s, secondary::VIRTUALIZE_X2APIC_MODE)
        }),
        case("control.tpr_shadow.apic_register_virtualization", |s| {
            set_secondary(s, secondary::APIC_REGISTER_VIRTUALIZATION);
        }),
        case("control.tpr_shadow.virtual_interrupt_delivery", |s| {
            set_secondary(s, secondary::VIRTUAL_INTERRUPT_DELIVERY);
            s.set_bits(PIN_BASED_CONTROLS, pin::EXTERNAL_INTERRUPT_EXITING);
        }),
        case("control.x2apic.apic_accesses", |s| {
            s.set_bits(PRIMARY_PROCESSOR_BASED_CONTROLS, primary::USE_TPR_SHADOW);
            set_secondary(
                s,
                secondary::VIRTUALIZE_X2APIC_MODE | secondary::VIRTUALIZE_APIC_ACCESSES,
            );
        }),
        case("control.virtual_interrupt_delivery", |s| {
            s.set_bits(PRIMARY_PROCESSOR_BASED_CONTROLS, primary::USE_TPR_SHADOW);
            set_secondary(s, secondary::VIRTUAL_INTERRUPT_DELIVERY);
        }),
        case("control.posted_interrupts.delivery", |s| {
            post_interrupts(s);
            s.clear_bits(
                SECONDARY_PROCESSOR_BASED_CONTROLS,
                secondary::VIRTUAL_INTERRUPT_DELIVERY,
            );
        }),
        case("control.posted_interrupts.acknowledge", |s| {
            post_interrupts(s);
            s.clear_bits(EXIT_CONTROLS, exit::ACKNOWLEDGE_INTERRUPT_ON_EXIT);
        }),
        case("control.posted_interrupts.vector", |s| {
            post_interrupts(s);
            s.set(POSTED_INTERRUPT_NOTIFICATION_VECTOR, 0x100);
        }),
        case("control.vpid", |s| set_secondary(s, secondary::ENABLE_VPID)),
        case("control.pml.ept", |s| set_secondary(s, secondary::ENABLE_PML)),
        case("control.unrestricted_guest.ept", |s| {
            set_secondary(s, secondary::UNRESTRICTED_GUEST)
        }),
        case("control.mode_based_execute.ept", |s| {
            set_secondary(s, secondary::MODE_BASED_EXECUTE_CONTROL_FOR_EPT);
        }),
        case("control.sub_page_permissions.ept", |s| {
            set_secondary(s, secondary::SUB_PAGE_WRITE_PERMISSIONS_FOR_EPT);
        }),
        case("control.vm_functions.reserved", |s| {
            set_secondary(s, secondary::ENABLE_VM_FUNCTIONS);
            s.set(VM_FUNCTION_CONTROLS, 2);
        }),
        case("control.eptp_switching.ept", |s| {
            set_secondary(s, secondary::ENABLE_VM_FUNCTIONS);
            s.set(VM_FUNCTION_CONTROLS, 1);
        }),
        case("control.pt_guest_physical.ept", |s| {
            set_secondary(s, secondary::PT_USES_GUEST_PHYSICAL_ADDRESSES);
            s.set_bits(ENTRY_CONTROLS, entry::LOAD_IA32_RTIT_CTL);
            s.set_bits(EXIT_CONTROLS, exit::CLEAR_IA32_RTIT_CTL);
        }),
        case("control.pt_guest_physical.rtit_ctl", |s| {
            enable_ept(s);
            set_secondary(s, secondary::PT_USES_GUEST_PHYSICAL_ADDRESSES);
            s.set_bits(ENTRY_CONTROLS, entry::LOAD_IA32_RTIT_CTL);
        }),
        case("control.tsc_multiplier", |s| {
            set_secondary(s, secondary::USE_TSC_SCALING)
        }),
    ]);
    for (aspect, value) in [
        ("memory_type", 0x101d),
        ("walk_length", 0x1016),
        ("accessed_dirty", 0x105e),
        ("shadow_stack", 0x109e),
        ("reserved", 0x111e),
    ] {
        cases.push(case(format!("control.ept_pointer.{aspect}"), move |s| {
            enable_ept(s);
            s.msrs.set(msr::EPT_VPID_CAP, 0x4140);
            s.set(EPT_POINTER, value);
        }));
    }
}

fn execution_address_cases(cases: &mut Vec<Case>) {
    let io = |s: &mut Setup| s.set_bits(PRIMARY_PROCESSOR_BASED_CONTROLS, primary::USE_IO_BITMAPS);
    cases.extend(address_cases("io_bitmap_a", IO_BITMAP_A, io));
    cases.extend(address_cases("io_bitmap_b", IO_BITMAP_B, io));
    cases.extend(address_cases("msr_bitmap", MSR_BITMAP, |s| {
        s.set_bits(PRIMARY_PROCESSOR_BASED_CONTROLS, primary::USE_MSR_BITMAPS);
    }));
    cases.extend(address_cases("virtual_apic", VIRTUAL_APIC_ADDRESS, |s| {
        s.set_bits(PRIMARY_PROCESSOR_BASED_CONTROLS, primary::USE_TPR_SHADOW);
    }));
    cases.extend(address_cases("apic_access", APIC_ACCESS_ADDRESS, |s| {
        set_secondary(s, secondary::VIRTUALIZE_APIC_ACCESSES);
    }));
    cases.extend(address_cases(
        "posted_interrupts",
        POSTED_INTERRUPT_DESCRIPTOR_ADDRESS,
        post_interrupts,
    ));
    cases.extend(address_cases("pml", PML_ADDRESS, |s| {
        enable_ept(s);
        set_secondary(s, secondary::ENABLE_PML);
    }));
    cases.extend(address_cases(
        "sub_page_permissions",
        SUB_PAGE_PERMISSION_TABLE_POINTER,
        |s| {
            enable_ept(s);
            set_secondary(s, secondary::SUB_PAGE_WRITE_PERMISSIONS_FOR_EPT);
        },
    ));
    cases.extend(address_cases("eptp_list", EPTP_LIST_ADDRESS, |s| {
        enable_ept(s);
        set_secondary(s, secondary::ENABLE_VM_FUNCTIONS);
        s.set(VM_FUNCTION_CONTROLS, 1);
    }));
    let shadowing = |s: &mut Setup| set_secondary(s, secondary::VMCS_SHADOWING);
    cases.extend(address_cases("vmread_bitmap", VMREAD_BITMAP, shadowing));
    cases.extend(address_cases("vmwrite_bitmap", VMWRITE_BITMAP, shadowing));
    let ve = |s: &mut Setup| set_secondary(s, secondary::EPT_VIOLATION_VE);
    cases.extend(address_cases(
        "virtualization_exception",
        VIRTUALIZATION_EXCEPTION_INFORMATION_ADDRESS,
        ve,
    ));
}

fn exit_and_entry_cases(cases: &mut Vec<Case>) {
    cases.extend(list_cases(
        "exit_msr_store",
        EXIT_MSR_STORE_ADDRESS,
        EXIT_MSR_STORE_COUNT,
    ));
    cases.extend(list_cases(
        "exit_msr_load",
        EXIT_MSR_LOAD_ADDRESS,
        EXIT_MSR_LOAD_COUNT,
    ));
    cases.extend(list_cases(
        "entry_msr_load",
        ENTRY_MSR_LOAD_ADDRESS,
        ENTRY_MSR_LOAD_COUNT,
    ));
    cases.extend([
        case("control.exit.reserved", |s| s.clear_bits(EXIT_CONTROLS, 1)),
        case("control.secondary_exit.reserved", |s| {
            s.set_bits(EXIT_CONTROLS, exit::ACTIVATE_SECONDARY_CONTROLS);
            s.set(SECONDARY_EXIT_CONTROLS, 1 << 40);
        }),
        case("control.exit.save_preemption_timer", |s| {
            s.set_bits(EXIT_CONTROLS, exit::SAVE_PREEMPTION_TIMER_VALUE);
        }),
        case("control.entry.reserved", |s| s.clear_bits(ENTRY_CONTROLS, 1)),
        case("control.entry.smm", |s| {
            s.set_bits(ENTRY_CONTROLS, entry::DEACTIVATE_DUAL_MONITOR_TREATMENT)
        }),
        case("control.entry.smm_both", |s| {
            s.in_smm = true;
            s.set_bits(
                ENTRY_CONTROLS,
                entry::DEACTIVATE_DUAL_MONITOR_TREATMENT | entry::ENTRY_TO_SMM,
            );
            s.set(GUEST_INTERRUPTIBILITY_STATE, 4);
        }),
        case("control.event.type", |s| inject(s, 1 << 8)),
        case("control.event.vector", |s| inject(s, NMI + 1)),
        case("control.event.error_code", |s| inject(s, 3 << 8 | 13)),
        case("control.event.reserved", |s| inject(s, 1 << 12 | 3 << 8 | 6)),
        case("control.event.error_code_value", |s| {
            inject(s, 1 << 11 | 3 << 8 | 13);
            s.set(ENTRY_EXCEPTION_ERROR_CODE, 1 << 16);
        }),
        case("control.event.instruction_length", |s| {
            inject(s, 4 << 8 | 0x80);
            s.set(ENTRY_INSTRUCTION_LENGTH, 16);
        }),
    ]);
}

fn host_cases(cases: &mut Vec<Case>) {
    let with_exit = |id: &str, bits: u64, field: Field, value: u64| {
        case(id, move |s| {
            s.set_bits(EXIT_CONTROLS, bits);
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

fn named(name: &str) -> Field {
    Field::by_name(name).unwrap_or_else(|| panic!("no field {name}"))
}

fn guest_register_cases(cases: &mut Vec<Case>) {
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

fn make_virtual_8086(s: &mut Setup) {
    s.set_bits(GUEST_RFLAGS, 1 << 17);
    for register in ["cs", "ss", "ds", "es", "fs", "gs"] {
        let selector = s.vmcs.get(named(&format!("guest_{register}_selector")));
        s.set(named(&format!("guest_{register}_base")), selector << 4);
        s.set(named(&format!("guest_{register}_limit")), 0xffff);
        s.set(named(&format!("guest_{register}_access_rights")), 0xf3);
    }
}

/// LDTR with a table.
fn make_ldtr_usable(s: &mut Setup) {
    s.set(GUEST_LDTR_SELECTOR, 0x20);
    s.set(GUEST_LDTR_LIMIT, 0xfff);
    s.set(GUEST_LDTR_ACCESS_RIGHTS, 0x82);
}

fn segment_cases(cases: &mut Vec<Case>) {
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

fn non_register_cases(cases: &mut Vec<Case>) {
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

fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    execution_cases(&mut cases);
    execution_address_cases(&mut cases);
    exit_and_entry_cases(&mut cases);
    host_cases(&mut cases);
    guest_register_cases(&mut cases);
    segment_cases(&mut cases);
    non_register_cases(&mut cases);
    cases
}

fn broken(setup: &Setup) -> Vec<&'static str> {
    setup.judge(|context| check_all(context).iter().map(|finding| finding.rule.id).collect())
}

#[test]
fn the_baseline_and_its_variants_break_nothing() {
    let variants: [fn(&mut Setup); 6] = [
        |_| {},
        make_legacy,
        make_unrestricted,
        make_ldtr_usable,
        post_interrupts,
        |s| {
            make_legacy(s);
            make_virtual_8086(s);
        },
    ];
    for (i, variant) in variants.into_iter().enumerate() {
        let mut setup = baseline();
        variant(&mut setup);
        assert_eq!(broken(&setup), Vec::<&str>::new(), "variant {i}");
    }
}

#[test]
fn every_rule_has_a_case_that_breaks_only_it() {
    let cases = cases();
    for rule in all() {
        assert!(
            cases.iter().any(|(id, _)| id == rule.id),
            "no case for {}",
            rule.id
        );
    }
    for (id, make) in &cases {
        let mut setup = baseline();
        make(&mut setup);
        let implied = IMPLIED
            .iter()
            .find(|(implied, _)| implied == id)
            .map_or(&[][..], |(_, others)| others);
        let mut found = broken(&setup);
        found.retain(|found| !implied.contains(found));
        assert_eq!(found, [id.as_str()]);
    }
}

#[test]
fn the_words_name_a_field_and_its_value() {
    for (id, make) in cases() {
        let mut setup = baseline();
        make(&mut setup);
        let rule = by_id(&id).unwrap();
        let words = setup.judge(|context| rule.words(context));
        assert!(
            rule.fields.iter().any(|field| words.contains(field.name())),
            "{id}: {words}"
        );
        assert!(
            words.contains("0x") && words.contains(';') && !words.contains("  "),
            "{id}: {words}"
        );
    }
}

#[test]
fn ids_are_unique_and_say_their_area() {
    let mut ids: Vec<&str> = all().map(|rule| rule.id).collect();
    for rule in all() {
        let area = match rule.outcome {
            Outcome::FailValid(7) => "control.",
            Outcome::FailValid(_) => "host.",
            Outcome::EntryFailure(_) => "guest.",
        };
        assert!(rule.id.starts_with(area), "{}", rule.id);
    }
    ids.sort_unstable();
    let count = ids.len();
    ids.dedup();
    assert_eq!(ids.len(), count);
}

/// Skipping unchanged blocks stands on the fields that rules say they read.
#[test]
fn rules_read_no_other_fields_than_they_say() {
    for (id, make) in cases() {
        let mut setup = baseline();
        make(&mut setup);
        setup.judge(|context| {
            for rule in all() {
                context.vmcs.take_reads();
                rule.is_broken(context);
                for field in context.vmcs.take_reads().iter() {
                    assert!(
                        rule.reads().contains(field),
                        "{} reads {field:?} (case {id})",
                        rule.id
                    );
                }
            }
        });
    }
}

/// Whatever breaks a rule after an entry that passed is found although unchanged blocks are passed over.
#[test]
fn a_change_after_a_good_entry_is_found() {
    for (id, make) in cases() {
        let mut setup = baseline();
        let modes = setup.judge(|context| {
            assert!(first_broken(context).is_none());
            context.modes()
        });
        setup.vmcs.accept_changes(modes);
        make(&mut setup);
        let implied = IMPLIED.iter().any(|(implied, _)| *implied == id);
        let found = setup.judge(|context| first_broken(context).map(|rule| rule.id));
        assert!(
            found == Some(id.as_str()) || implied && found.is_some(),
            "{id}: {found:?}"
        );
    }
}

#[test]
fn the_first_rule_in_the_processor_s_order_decides() {
    let mut setup = baseline();
    setup.set(GUEST_ACTIVITY_STATE, 9);
    setup.set(HOST_TR_SELECTOR, 0);
    setup.set(CR3_TARGET_COUNT, 9);
    setup.judge(|context| {
        let findings = check_all(context);
        let ids: Vec<&str> = findings.iter().map(|finding| finding.rule.id).collect();
        assert_eq!(
            ids,
            [
                "control.cr3_target_count",
                "host.tr.null",
                "guest.activity_state.value"
            ]
        );
        assert_eq!(
            findings
                .iter()
                .map(|finding| finding.deciding)
                .collect::<Vec<_>>(),
            [true, false, false]
        );
        assert_eq!(
            first_broken(context).map(|rule| rule.outcome),
            Some(Outcome::FailValid(7))
        );
    });
}

#[test]
fn outcomes() {
    for (id, outcome) in [
        ("control.pin.reserved", Outcome::FailValid(7)),
        ("host.cs.rpl", Outcome::FailValid(8)),
        ("host.address_space.rip_64", Outcome::FailValid(8)),
        ("guest.tr.type", Outcome::EntryFailure(0)),
        ("guest.pdpte0.reserved", Outcome::EntryFailure(2)),
        ("guest.cr3.pdptes", Outcome::EntryFailure(2)),
        ("guest.interruptibility.sti_nmi", Outcome::EntryFailure(3)),
        ("guest.vmcs_link.revision", Outcome::EntryFailure(4)),
    ] {
        assert_eq!(by_id(id).map(|rule| rule.outcome), Some(outcome), "{id}");
    }
}
