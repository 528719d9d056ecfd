//! A case for each rule on the control fields.

use super::setups::*;
use crate::vmx::capability::msr;
use crate::vmx::controls::{entry, exit, pin, primary, secondary, tertiary};
use crate::vmx::fields::{field::*, Field};
use crate::vmx::rules::baseline::Setup;

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

pub fn execution_cases(cases: &mut Vec<Case>) {
    cases.extend([
        field_case("control.pin.reserved", PIN_BASED_CONTROLS, 0),
        field_case("control.primary.reserved", PRIMARY_PROCESSOR_BASED_CONTROLS, 0),
        case("control.secondary.reserved", |s| set_secondary(s, 1 << 29)),
        case("control.tertiary.reserved", |s| set_tertiary(s, 1 << 63)),
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
        case("control.tpr_shadow.ipi_virtualization", |s| {
            virtualize_ipis(s);
            s.clear_bits(PRIMARY_PROCESSOR_BASED_CONTROLS, primary::USE_TPR_SHADOW);
        }),
        case("control.pid_pointer_table.aligned", |s| {
            virtualize_ipis(s);
            s.set(PID_POINTER_TABLE_ADDRESS, 0x7004);
        }),
        case("control.pid_pointer_table.width", |s| {
            virtualize_ipis(s);
            s.set(PID_POINTER_TABLE_ADDRESS, BEYOND_WIDTH);
        }),
        case("control.pid_pointer_table.end", |s| {
            virtualize_ipis(s);
            s.set(PID_POINTER_TABLE_ADDRESS, (1 << 40) - 8);
            s.set(LAST_PID_POINTER_INDEX, 1);
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
        case("control.hlat.ept", |s| {
            set_secondary(s, 0);
            set_tertiary(s, tertiary::ENABLE_HLAT);
        }),
        case("control.hlat_pointer.reserved", |s| {
            tertiary_with_ept(s, tertiary::ENABLE_HLAT);
            s.set(HLAT_POINTER, 0x1020);
        }),
        case("control.hlat_pointer.width", |s| {
            tertiary_with_ept(s, tertiary::ENABLE_HLAT);
            s.set(HLAT_POINTER, BEYOND_WIDTH);
        }),
        case("control.paging_write.ept", |s| {
            set_secondary(s, 0);
            set_tertiary(s, tertiary::EPT_PAGING_WRITE_CONTROL);
        }),
        case("control.guest_paging_verification.ept", |s| {
            set_secondary(s, 0);
            set_tertiary(s, tertiary::GUEST_PAGING_VERIFICATION);
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

pub fn execution_address_cases(cases: &mut Vec<Case>) {
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

pub fn exit_and_entry_cases(cases: &mut Vec<Case>) {
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
