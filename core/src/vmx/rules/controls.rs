//! Checks on the control fields (SDM vol. 3, 27.2.1).

use super::checks::*;
use super::conditions::*;
use super::{found, rules, ruling_msr, wrong_bits, Check, Condition, Context, Event, Outcome};
use crate::vmx::capability::{basic, ept_vpid, misc};
use crate::vmx::controls::{entry, exit, pin, primary, secondary, tertiary, Word};
use crate::vmx::errors::instruction_error::ENTRY_INVALID_CONTROLS;
use crate::vmx::fields::{field::*, Field, Format};

const OUTCOME: Outcome = Outcome::FailValid(ENTRY_INVALID_CONTROLS);

/// The word of controls that a field is.
fn word_of(field: Field) -> Word {
    match field.info().format {
        Format::Controls(word) => word,
        _ => unreachable!("{field:?} is not a word of controls"),
    }
}

/// The bits of a word of controls against its capability MSR.
const CONTROL_BITS: Check = Check {
    holds: |c, f| c.capabilities.word(word_of(f[0])).accepts(c.get(f[0])),
    words: |c, f| {
        let word = word_of(f[0]);
        let (allowed, value) = (c.capabilities.word(word), c.get(f[0]));
        let wrong = wrong_bits(allowed.missing(value), allowed.excess(value), |bits| {
            word.describe(bits)
        });
        format!("{} ({}); {wrong}", found(c, f[0]), ruling_msr(c, word))
    },
};

/// A control that may be 1 only with "enable EPT".
const NEEDS_EPT: Check = Check {
    holds: |c, _| c.secondary(secondary::ENABLE_EPT),
    words: |c, f| {
        format!(
            "{}; with this control “enable EPT” (bit 1) must be 1 too",
            found(c, f[0])
        )
    },
};

/// Secondary controls that need others; the field of the rule is the one that holds what they need.
const fn with_secondary<const BITS: u64>() -> Condition {
    if_secondary::<BITS>()
}

const IF_TPR_SHADOW: Condition = if_primary::<{ primary::USE_TPR_SHADOW }>();

/// The TPR threshold is in force: there is a TPR shadow and no virtual-interrupt delivery.
const IF_TPR_THRESHOLD: Condition = Condition {
    fields: &[
        PRIMARY_PROCESSOR_BASED_CONTROLS,
        SECONDARY_PROCESSOR_BASED_CONTROLS,
    ],
    holds: |c| c.primary(primary::USE_TPR_SHADOW) && !c.secondary(secondary::VIRTUAL_INTERRUPT_DELIVERY),
};

/// The TPR threshold is in force and compared with the virtual TPR at VM entry.
const IF_TPR_COMPARED: Condition = Condition {
    fields: IF_TPR_THRESHOLD.fields,
    holds: |c| (IF_TPR_THRESHOLD.holds)(c) && !c.secondary(secondary::VIRTUALIZE_APIC_ACCESSES),
};

rules! {
    /// The VM-execution controls, up to the TPR threshold.
    EXECUTION "27.2.1.1" OUTCOME;
    "control.pin.reserved", [PIN_BASED_CONTROLS], CONTROL_BITS;
    "control.primary.reserved", [PRIMARY_PROCESSOR_BASED_CONTROLS], CONTROL_BITS;
    "control.secondary.reserved", [SECONDARY_PROCESSOR_BASED_CONTROLS]
        if if_primary::<{ primary::ACTIVATE_SECONDARY_CONTROLS }>(), CONTROL_BITS;
    "control.tertiary.reserved", [TERTIARY_PROCESSOR_BASED_CONTROLS]
        if if_primary::<{ primary::ACTIVATE_TERTIARY_CONTROLS }>(), CONTROL_BITS;
    "control.cr3_target_count", [CR3_TARGET_COUNT], Check {
        holds: |c, f| c.get(f[0]) <= c.capabilities.cr3_target_count(),
        words: |c, f| format!(
            "{}; this processor has {} CR3-target values (bits 24:16 of IA32_VMX_MISC)",
            found(c, f[0]), c.capabilities.cr3_target_count()
        ),
    };
    "control.io_bitmap_a.aligned", [IO_BITMAP_A] if if_primary::<{ primary::USE_IO_BITMAPS }>(), PAGE_ALIGNED;
    "control.io_bitmap_a.width", [IO_BITMAP_A] if if_primary::<{ primary::USE_IO_BITMAPS }>(), IN_PHYSICAL_WIDTH;
    "control.io_bitmap_b.aligned", [IO_BITMAP_B] if if_primary::<{ primary::USE_IO_BITMAPS }>(), PAGE_ALIGNED;
    "control.io_bitmap_b.width", [IO_BITMAP_B] if if_primary::<{ primary::USE_IO_BITMAPS }>(), IN_PHYSICAL_WIDTH;
    "control.msr_bitmap.aligned", [MSR_BITMAP] if if_primary::<{ primary::USE_MSR_BITMAPS }>(), PAGE_ALIGNED;
    "control.msr_bitmap.width", [MSR_BITMAP] if if_primary::<{ primary::USE_MSR_BITMAPS }>(), IN_PHYSICAL_WIDTH;
    "control.virtual_apic.aligned", [VIRTUAL_APIC_ADDRESS] if IF_TPR_SHADOW, PAGE_ALIGNED;
    "control.virtual_apic.width", [VIRTUAL_APIC_ADDRESS] if IF_TPR_SHADOW, IN_PHYSICAL_WIDTH;
    "control.tpr_threshold.reserved", [TPR_THRESHOLD] if IF_TPR_THRESHOLD, Check {
        holds: |c, f| c.get(f[0]) >> 4 == 0,
        words: |c, f| format!(
            "{}; bits 31:4 must be 0 while “virtual-interrupt delivery” is 0", found(c, f[0])
        ),
    };
}

/// The priority class of the virtual TPR: bits 7:4 of the byte at 80H of the virtual-APIC page. Memory that
/// is not there reads as all 1.
fn virtual_tpr_class(c: &Context) -> u64 {
    let address = c.get(VIRTUAL_APIC_ADDRESS) & !0xfff;
    (c.environment.read_physical)(address + 0x80).map_or(15, |bytes| bytes >> 4 & 15)
}

rules! {
    /// The TPR threshold against the virtual TPR, which is in memory.
    VIRTUAL_TPR "27.2.1.1" OUTCOME;
    "control.tpr_threshold.above_virtual_tpr", [TPR_THRESHOLD VIRTUAL_APIC_ADDRESS] if IF_TPR_COMPARED, Check {
        holds: |c, f| c.get(f[0]) & 15 <= virtual_tpr_class(c),
        words: |c, f| format!(
            "{}; bits 3:0 must not be above bits 7:4 of the virtual TPR (offset 80H of the virtual-APIC page), which \
             are {:#x}",
            found(c, f[0]), virtual_tpr_class(c)
        ),
    };
}

/// The bits of the EPT pointer that must be 0 whatever the processor: bits 11:8.
const EPTP_RESERVED: u64 = 0xf00;

rules! {
    /// The VM-execution controls, from the NMI controls on.
    EXECUTION_FEATURES "27.2.1.1" OUTCOME;
    "control.virtual_nmis", [PIN_BASED_CONTROLS] if if_pin::<{ pin::VIRTUAL_NMIS }>(), Check {
        holds: |c, _| c.pin(pin::NMI_EXITING),
        words: |c, f| format!(
            "{}; “virtual NMIs” (bit 5) may be 1 only if “NMI exiting” (bit 3) is",
            found(c, f[0])
        ),
    };
    "control.nmi_window", [PRIMARY_PROCESSOR_BASED_CONTROLS PIN_BASED_CONTROLS]
        if if_primary::<{ primary::NMI_WINDOW_EXITING }>(), Check {
        holds: |c, _| c.pin(pin::VIRTUAL_NMIS),
        words: |c, f| format!(
            "{} and {}; “NMI-window exiting” (bit 22) may be 1 only if “virtual NMIs” (bit 5 of \
             the pin-based controls) is",
            found(c, f[0]), found(c, f[1])
        ),
    };
    "control.apic_access.aligned", [APIC_ACCESS_ADDRESS]
        if if_secondary::<{ secondary::VIRTUALIZE_APIC_ACCESSES }>(), PAGE_ALIGNED;
    "control.apic_access.width", [APIC_ACCESS_ADDRESS]
        if if_secondary::<{ secondary::VIRTUALIZE_APIC_ACCESSES }>(), IN_PHYSICAL_WIDTH;
    "control.tpr_shadow.x2apic", [PRIMARY_PROCESSOR_BASED_CONTROLS SECONDARY_PROCESSOR_BASED_CONTROLS]
        if with_secondary::<{ secondary::VIRTUALIZE_X2APIC_MODE }>(), NEEDS_TPR_SHADOW;
    "control.tpr_shadow.apic_register_virtualization",
        [PRIMARY_PROCESSOR_BASED_CONTROLS SECONDARY_PROCESSOR_BASED_CONTROLS]
        if with_secondary::<{ secondary::APIC_REGISTER_VIRTUALIZATION }>(), NEEDS_TPR_SHADOW;
    "control.tpr_shadow.virtual_interrupt_delivery",
        [PRIMARY_PROCESSOR_BASED_CONTROLS SECONDARY_PROCESSOR_BASED_CONTROLS]
        if with_secondary::<{ secondary::VIRTUAL_INTERRUPT_DELIVERY }>(), NEEDS_TPR_SHADOW;
    "control.tpr_shadow.ipi_virtualization",
        [PRIMARY_PROCESSOR_BASED_CONTROLS TERTIARY_PROCESSOR_BASED_CONTROLS] if IF_IPI_VIRTUALIZATION, NEEDS_TPR_SHADOW;
    "control.x2apic.apic_accesses", [SECONDARY_PROCESSOR_BASED_CONTROLS PRIMARY_PROCESSOR_BASED_CONTROLS]
        if with_secondary::<{ secondary::VIRTUALIZE_X2APIC_MODE }>(), Check {
        holds: |c, _| !c.secondary(secondary::VIRTUALIZE_APIC_ACCESSES),
        words: |c, f| format!(
            "{}; “virtualize x2APIC mode” (bit 4) and “virtualize APIC accesses” (bit 0) must \
             not both be 1",
            found(c, f[0])
        ),
    };
    "control.virtual_interrupt_delivery", [PIN_BASED_CONTROLS]
        if with_secondary::<{ secondary::VIRTUAL_INTERRUPT_DELIVERY }>(), Check {
        holds: |c, _| c.pin(pin::EXTERNAL_INTERRUPT_EXITING),
        words: |c, f| format!(
            "{}; with “virtual-interrupt delivery”, “external-interrupt exiting” (bit 0) must be 1",
            found(c, f[0])
        ),
    };
    "control.posted_interrupts.delivery", [SECONDARY_PROCESSOR_BASED_CONTROLS PRIMARY_PROCESSOR_BASED_CONTROLS]
        if IF_POSTED_INTERRUPTS, Check {
        holds: |c, _| c.secondary(secondary::VIRTUAL_INTERRUPT_DELIVERY),
        words: |c, f| format!(
            "{}; with “process posted interrupts”, “virtual-interrupt delivery” (bit 9) must be 1",
            found(c, f[0])
        ),
    };
    "control.posted_interrupts.acknowledge", [EXIT_CONTROLS] if IF_POSTED_INTERRUPTS, Check {
        holds: |c, _| c.exit(exit::ACKNOWLEDGE_INTERRUPT_ON_EXIT),
        words: |c, f| format!(
            "{}; with “process posted interrupts”, “acknowledge interrupt on exit” (bit 15) must \
             be 1",
            found(c, f[0])
        ),
    };
    "control.posted_interrupts.vector", [POSTED_INTERRUPT_NOTIFICATION_VECTOR] if IF_POSTED_INTERRUPTS, Check {
        holds: |c, f| c.get(f[0]) >> 8 == 0,
        words: |c, f| format!("{}; bits 15:8 must be 0", found(c, f[0])),
    };
    "control.posted_interrupts.aligned", [POSTED_INTERRUPT_DESCRIPTOR_ADDRESS] if IF_POSTED_INTERRUPTS, Check {
        holds: |c, f| c.get(f[0]) & 63 == 0,
        words: |c, f| format!("{}; bits 5:0 must be 0, as the descriptor is aligned to 64 bytes", found(c, f[0])),
    };
    "control.posted_interrupts.width", [POSTED_INTERRUPT_DESCRIPTOR_ADDRESS] if IF_POSTED_INTERRUPTS,
        IN_PHYSICAL_WIDTH;
    "control.pid_pointer_table.aligned", [PID_POINTER_TABLE_ADDRESS] if IF_IPI_VIRTUALIZATION, Check {
        holds: |c, f| c.get(f[0]) & 7 == 0,
        words: |c, f| format!("{}; bits 2:0 must be 0, as the table is aligned to 8 bytes", found(c, f[0])),
    };
    "control.pid_pointer_table.width", [PID_POINTER_TABLE_ADDRESS] if IF_IPI_VIRTUALIZATION, IN_PHYSICAL_WIDTH;
    "control.pid_pointer_table.end", [PID_POINTER_TABLE_ADDRESS LAST_PID_POINTER_INDEX] if IF_IPI_VIRTUALIZATION,
        Check {
        holds: |c, f| {
            let last = c.get(f[0]).saturating_add(c.get(f[1]) * 8);
            last & c.address_reserved() == 0 || c.get(f[0]) & c.address_reserved() != 0
        },
        words: |c, f| format!(
            "{} and {}, so the last entry lies at {:#x}; physical addresses have {} bits",
            found(c, f[0]), found(c, f[1]), c.get(f[0]).saturating_add(c.get(f[1]) * 8),
            c.address_reserved().trailing_zeros()
        ),
    };
    "control.vpid", [VIRTUAL_PROCESSOR_IDENTIFIER] if if_secondary::<{ secondary::ENABLE_VPID }>(), Check {
        holds: |c, f| c.get(f[0]) != 0,
        words: |c, f| format!("{}; with “enable VPID” it must not be 0, the host's own", found(c, f[0])),
    };
    "control.ept_pointer.memory_type", [EPT_POINTER] if IF_EPT, Check {
        holds: |c, f| match c.get(f[0]) & 7 {
            0 => c.capabilities.ept_vpid() & ept_vpid::MEMORY_TYPE_UC != 0,
            6 => c.capabilities.ept_vpid() & ept_vpid::MEMORY_TYPE_WB != 0,
            _ => false,
        },
        words: |c, f| format!(
            "{}; the memory type in bits 2:0 is {}, and must be 0 (UC) or 6 (WB) as IA32_VMX_EPT_VPID_CAP allows",
            found(c, f[0]), c.get(f[0]) & 7
        ),
    };
    "control.ept_pointer.walk_length", [EPT_POINTER] if IF_EPT, Check {
        holds: |c, f| match c.get(f[0]) >> 3 & 7 {
            3 => c.capabilities.ept_vpid() & ept_vpid::WALK_4 != 0,
            4 => c.capabilities.ept_vpid() & ept_vpid::WALK_5 != 0,
            _ => false,
        },
        words: |c, f| format!(
            "{}; bits 5:3 are {}, and must be 1 less than the length of a page walk that IA32_VMX_EPT_VPID_CAP allows: \
             3 for 4 levels, 4 for 5",
            found(c, f[0]), c.get(f[0]) >> 3 & 7
        ),
    };
    "control.ept_pointer.accessed_dirty", [EPT_POINTER] if IF_EPT, Check {
        holds: |c, f| {
            c.get(f[0]) >> 6 & 1 == 0 || c.capabilities.ept_vpid() & ept_vpid::ACCESSED_DIRTY != 0
        },
        words: |c, f| format!(
            "{}; bit 6 must be 0, as this processor has no accessed and dirty flags for EPT", found(c, f[0])
        ),
    };
    "control.ept_pointer.shadow_stack", [EPT_POINTER] if IF_EPT, Check {
        holds: |c, f| {
            c.get(f[0]) >> 7 & 1 == 0 || c.capabilities.ept_vpid() & ept_vpid::SUPERVISOR_SHADOW_STACK != 0
        },
        words: |c, f| format!(
            "{}; bit 7 must be 0, as this processor has no supervisor shadow-stack control for EPT", found(c, f[0])
        ),
    };
    "control.ept_pointer.reserved", [EPT_POINTER] if IF_EPT, Check {
        holds: |c, f| c.get(f[0]) & (EPTP_RESERVED | c.beyond_width()) == 0,
        words: |c, f| format!(
            "{}; bits 11:8 and 63:{} are reserved and must be 0", found(c, f[0]), c.environment.physical_address_width
        ),
    };
    "control.pml.ept", [SECONDARY_PROCESSOR_BASED_CONTROLS] if if_secondary::<{ secondary::ENABLE_PML }>(), NEEDS_EPT;
    "control.pml.aligned", [PML_ADDRESS] if if_secondary::<{ secondary::ENABLE_PML }>(), PAGE_ALIGNED;
    "control.pml.width", [PML_ADDRESS] if if_secondary::<{ secondary::ENABLE_PML }>(), IN_PHYSICAL_WIDTH;
    "control.unrestricted_guest.ept", [SECONDARY_PROCESSOR_BASED_CONTROLS]
        if if_secondary::<{ secondary::UNRESTRICTED_GUEST }>(), NEEDS_EPT;
    "control.mode_based_execute.ept", [SECONDARY_PROCESSOR_BASED_CONTROLS]
        if if_secondary::<{ secondary::MODE_BASED_EXECUTE_CONTROL_FOR_EPT }>(), NEEDS_EPT;
    "control.sub_page_permissions.ept", [SECONDARY_PROCESSOR_BASED_CONTROLS] if IF_SPP, NEEDS_EPT;
    "control.sub_page_permissions.aligned", [SUB_PAGE_PERMISSION_TABLE_POINTER] if IF_SPP, PAGE_ALIGNED;
    "control.sub_page_permissions.width", [SUB_PAGE_PERMISSION_TABLE_POINTER] if IF_SPP, IN_PHYSICAL_WIDTH;
    "control.vm_functions.reserved", [VM_FUNCTION_CONTROLS]
        if if_secondary::<{ secondary::ENABLE_VM_FUNCTIONS }>(), CONTROL_BITS;
    "control.eptp_switching.ept", [SECONDARY_PROCESSOR_BASED_CONTROLS] if IF_EPTP_SWITCHING, NEEDS_EPT;
    "control.eptp_list.aligned", [EPTP_LIST_ADDRESS] if IF_EPTP_SWITCHING, PAGE_ALIGNED;
    "control.eptp_list.width", [EPTP_LIST_ADDRESS] if IF_EPTP_SWITCHING, IN_PHYSICAL_WIDTH;
    "control.vmread_bitmap.aligned", [VMREAD_BITMAP] if IF_SHADOWING, PAGE_ALIGNED;
    "control.vmread_bitmap.width", [VMREAD_BITMAP] if IF_SHADOWING, IN_PHYSICAL_WIDTH;
    "control.vmwrite_bitmap.aligned", [VMWRITE_BITMAP] if IF_SHADOWING, PAGE_ALIGNED;
    "control.vmwrite_bitmap.width", [VMWRITE_BITMAP] if IF_SHADOWING, IN_PHYSICAL_WIDTH;
    "control.virtualization_exception.aligned", [VIRTUALIZATION_EXCEPTION_INFORMATION_ADDRESS]
        if if_secondary::<{ secondary::EPT_VIOLATION_VE }>(), PAGE_ALIGNED;
    "control.virtualization_exception.width", [VIRTUALIZATION_EXCEPTION_INFORMATION_ADDRESS]
        if if_secondary::<{ secondary::EPT_VIOLATION_VE }>(), IN_PHYSICAL_WIDTH;
    "control.hlat.ept", [SECONDARY_PROCESSOR_BASED_CONTROLS] if IF_HLAT, NEEDS_EPT;
    "control.hlat_pointer.reserved", [HLAT_POINTER] if IF_HLAT, Check {
        holds: |c, f| c.get(f[0]) & HLATP_RESERVED == 0,
        words: |c, f| format!("{}; bits 2:0 and 11:5 must be 0", found(c, f[0])),
    };
    "control.hlat_pointer.width", [HLAT_POINTER] if IF_HLAT, IN_PHYSICAL_WIDTH;
    "control.paging_write.ept", [SECONDARY_PROCESSOR_BASED_CONTROLS]
        if if_tertiary::<{ tertiary::EPT_PAGING_WRITE_CONTROL }>(), NEEDS_EPT;
    "control.guest_paging_verification.ept", [SECONDARY_PROCESSOR_BASED_CONTROLS]
        if if_tertiary::<{ tertiary::GUEST_PAGING_VERIFICATION }>(), NEEDS_EPT;
    "control.pt_guest_physical.ept", [SECONDARY_PROCESSOR_BASED_CONTROLS] if IF_PT, NEEDS_EPT;
    "control.pt_guest_physical.rtit_ctl", [ENTRY_CONTROLS EXIT_CONTROLS] if IF_PT, Check {
        holds: |c, _| c.entry(entry::LOAD_IA32_RTIT_CTL) && c.exit(exit::CLEAR_IA32_RTIT_CTL),
        words: |c, f| format!(
            "{} and {}; with “Intel PT uses guest physical addresses”, “load IA32_RTIT_CTL” (bit \
             18 of the VM-entry controls) and “clear IA32_RTIT_CTL” (bit 25 of the VM-exit controls) must be 1",
            found(c, f[0]), found(c, f[1])
        ),
    };
    "control.tsc_multiplier", [TSC_MULTIPLIER] if if_secondary::<{ secondary::USE_TSC_SCALING }>(), Check {
        holds: |c, f| c.get(f[0]) != 0,
        words: |c, f| format!("{}; with “use TSC scaling” it must not be 0", found(c, f[0])),
    };
}

const IF_EPT: Condition = if_secondary::<{ secondary::ENABLE_EPT }>();
const IF_SPP: Condition = if_secondary::<{ secondary::SUB_PAGE_WRITE_PERMISSIONS_FOR_EPT }>();
const IF_HLAT: Condition = if_tertiary::<{ tertiary::ENABLE_HLAT }>();
const HLATP_RESERVED: u64 = 0xfe7;
const IF_SHADOWING: Condition = if_secondary::<{ secondary::VMCS_SHADOWING }>();
const IF_PT: Condition = if_secondary::<{ secondary::PT_USES_GUEST_PHYSICAL_ADDRESSES }>();
const IF_IPI_VIRTUALIZATION: Condition = if_tertiary::<{ tertiary::IPI_VIRTUALIZATION }>();
const IF_POSTED_INTERRUPTS: Condition = if_pin::<{ pin::PROCESS_POSTED_INTERRUPTS }>();

const NEEDS_TPR_SHADOW: Check = Check {
    holds: |c, _| c.primary(primary::USE_TPR_SHADOW),
    words: |c, f| {
        format!(
            "{} and {}; virtualization of the APIC needs “use TPR shadow” (bit 21 of the primary controls)",
            found(c, f[0]),
            found(c, f[1])
        )
    },
};

const IF_STORE_LIST: Condition = Condition {
    fields: &[EXIT_MSR_STORE_COUNT],
    holds: |c| c.get(EXIT_MSR_STORE_COUNT) != 0,
};
const IF_EXIT_LOAD_LIST: Condition = Condition {
    fields: &[EXIT_MSR_LOAD_COUNT],
    holds: |c| c.get(EXIT_MSR_LOAD_COUNT) != 0,
};
const IF_ENTRY_LOAD_LIST: Condition = Condition {
    fields: &[ENTRY_MSR_LOAD_COUNT],
    holds: |c| c.get(ENTRY_MSR_LOAD_COUNT) != 0,
};

rules! {
    /// The VM-exit controls.
    EXIT "27.2.1.2" OUTCOME;
    "control.exit.reserved", [EXIT_CONTROLS], CONTROL_BITS;
    "control.secondary_exit.reserved", [SECONDARY_EXIT_CONTROLS]
        if if_exit::<{ exit::ACTIVATE_SECONDARY_CONTROLS }>(), CONTROL_BITS;
    "control.exit.save_preemption_timer", [EXIT_CONTROLS PIN_BASED_CONTROLS]
        if if_exit::<{ exit::SAVE_PREEMPTION_TIMER_VALUE }>(), Check {
        holds: |c, _| c.pin(pin::ACTIVATE_PREEMPTION_TIMER),
        words: |c, f| format!(
            "{} and {}; “save VMX-preemption timer value” (bit 22) may be 1 only if “activate \
             VMX-preemption timer” (bit 6 of the pin-based controls) is",
            found(c, f[0]), found(c, f[1])
        ),
    };
    "control.exit_msr_store.aligned", [EXIT_MSR_STORE_ADDRESS] if IF_STORE_LIST, ALIGNED_16;
    "control.exit_msr_store.width", [EXIT_MSR_STORE_ADDRESS] if IF_STORE_LIST, IN_PHYSICAL_WIDTH;
    "control.exit_msr_store.end", [EXIT_MSR_STORE_ADDRESS EXIT_MSR_STORE_COUNT] if IF_STORE_LIST,
        LIST_IN_PHYSICAL_WIDTH;
    "control.exit_msr_load.aligned", [EXIT_MSR_LOAD_ADDRESS] if IF_EXIT_LOAD_LIST, ALIGNED_16;
    "control.exit_msr_load.width", [EXIT_MSR_LOAD_ADDRESS] if IF_EXIT_LOAD_LIST, IN_PHYSICAL_WIDTH;
    "control.exit_msr_load.end", [EXIT_MSR_LOAD_ADDRESS EXIT_MSR_LOAD_COUNT] if IF_EXIT_LOAD_LIST,
        LIST_IN_PHYSICAL_WIDTH;
}

const SMM_CONTROLS: u64 = entry::ENTRY_TO_SMM | entry::DEACTIVATE_DUAL_MONITOR_TREATMENT;

/// The vectors of exceptions that must have an error code; #CP, which has one too, came later and is not among them.
fn has_error_code(vector: u8) -> bool {
    matches!(vector, 8 | 10..=14 | 17)
}

/// The setting of "deliver error code" that the event asks for; None where both are allowed.
fn wanted_error_code(c: &Context) -> Option<bool> {
    let event = c.event();
    let protected = !c.unrestricted() || c.get(GUEST_CR0) & 1 != 0;
    if !protected || event.kind != Event::HARDWARE_EXCEPTION {
        return Some(false);
    }
    match c.capabilities.basic() & basic::ANY_ERROR_CODE {
        0 => Some(has_error_code(event.vector)),
        _ => None,
    }
}

rules! {
    /// The VM-entry controls.
    ENTRY "27.2.1.3" OUTCOME;
    "control.entry.reserved", [ENTRY_CONTROLS], CONTROL_BITS;
    "control.event.type", [ENTRY_INTERRUPTION_INFO] if IF_EVENT, Check {
        holds: |c, _| match c.event().kind {
            Event::RESERVED => false,
            Event::OTHER => c.capabilities.allows(Word::Primary, primary::MONITOR_TRAP_FLAG),
            _ => true,
        },
        words: |c, f| format!(
            "{}; the interruption type {} (bits 10:8) is reserved{}",
            found(c, f[0]), c.event().kind,
            if c.event().kind == Event::OTHER { " on a processor without the monitor trap flag" } else { "" }
        ),
    };
    "control.event.vector", [ENTRY_INTERRUPTION_INFO] if IF_EVENT, Check {
        holds: |c, _| {
            let event = c.event();
            match event.kind {
                Event::NMI => event.vector == 2,
                Event::HARDWARE_EXCEPTION => event.vector <= 31,
                Event::OTHER => event.vector == 0,
                _ => true,
            }
        },
        words: |c, f| format!(
            "{}; with interruption type {} the vector (bits 7:0) must be {}, and is {}",
            found(c, f[0]), c.event().kind,
            match c.event().kind { Event::NMI => "2", Event::OTHER => "0", _ => "at most 31" }, c.event().vector
        ),
    };
    "control.event.error_code", [ENTRY_INTERRUPTION_INFO GUEST_CR0 SECONDARY_PROCESSOR_BASED_CONTROLS
                                 PRIMARY_PROCESSOR_BASED_CONTROLS] if IF_EVENT, Check {
        holds: |c, _| wanted_error_code(c).is_none_or(|wanted| wanted == c.event().error_code),
        words: |c, f| format!(
            "{}; “deliver error code” (bit 11) must be {}: only hardware exceptions 8, 10 to 14 and 17 have an \
             error code here, and none in real-address mode",
            found(c, f[0]), u8::from(!c.event().error_code)
        ),
    };
    "control.event.reserved", [ENTRY_INTERRUPTION_INFO] if IF_EVENT, Check {
        holds: |c, f| c.get(f[0]) & 0x7fff_f000 == 0,
        words: |c, f| format!("{}; bits 30:12 are reserved and must be 0", found(c, f[0])),
    };
    "control.event.error_code_value", [ENTRY_EXCEPTION_ERROR_CODE] if IF_ERROR_CODE, Check {
        holds: |c, f| c.get(f[0]) >> 16 == 0,
        words: |c, f| format!("{}; bits 31:16 must be 0", found(c, f[0])),
    };
    "control.event.instruction_length", [ENTRY_INSTRUCTION_LENGTH ENTRY_INTERRUPTION_INFO] if IF_EVENT, Check {
        holds: |c, f| !c.event().has_length() || match c.get(f[0]) {
            0 => c.capabilities.misc() & misc::ZERO_LENGTH_INJECTION != 0,
            length => length <= 15,
        },
        words: |c, f| format!(
            "{}; for an event that an instruction raises it must be {} to 15",
            found(c, f[0]), u8::from(c.capabilities.misc() & misc::ZERO_LENGTH_INJECTION == 0)
        ),
    };
    "control.entry_msr_load.aligned", [ENTRY_MSR_LOAD_ADDRESS] if IF_ENTRY_LOAD_LIST, ALIGNED_16;
    "control.entry_msr_load.width", [ENTRY_MSR_LOAD_ADDRESS] if IF_ENTRY_LOAD_LIST, IN_PHYSICAL_WIDTH;
    "control.entry_msr_load.end", [ENTRY_MSR_LOAD_ADDRESS ENTRY_MSR_LOAD_COUNT] if IF_ENTRY_LOAD_LIST,
        LIST_IN_PHYSICAL_WIDTH;
    "control.entry.smm", [ENTRY_CONTROLS], Check {
        holds: |c, f| c.environment.in_smm || c.get(f[0]) & SMM_CONTROLS == 0,
        words: |c, f| format!(
            "{}; “entry to SMM” (bit 10) and “deactivate dual-monitor treatment” (bit 11) must be 0 \
             outside SMM",
            found(c, f[0])
        ),
    };
    "control.entry.smm_both", [ENTRY_CONTROLS], Check {
        holds: |c, f| !c.environment.in_smm || c.get(f[0]) & SMM_CONTROLS != SMM_CONTROLS,
        words: |c, f| format!(
            "{}; “entry to SMM” (bit 10) and “deactivate dual-monitor treatment” (bit 11) must not \
             both be 1",
            found(c, f[0])
        ),
    };
}
