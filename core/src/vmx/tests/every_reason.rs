//! Every basic exit reason: a guest that exits with it, and what `vmx why` names as the cause; or why it cannot come.

use super::*;
use crate::vmx::adopt;
use crate::vmx::capability::basic;
use crate::vmx::reasons::{ExitReason, REASONS};

/// Makes a guest that is about to exit, or a VM entry that is about to fail.
type Make = fn() -> Bench;

/// Reason, situation, and what the explanation says.
type Situation = (u16, Make, &'static str);

const APIC_ACCESS: u64 = 0x3_0000;
const VIRTUAL_APIC: u64 = 0x3_1000;

/// A guest with these primary controls.
fn primary_controls(guest: &[u8], bits: u64) -> Bench {
    let mut bench = Bench::with_guest(guest);
    bench.set_bits(field::PRIMARY_PROCESSOR_BASED_CONTROLS, bits);
    bench
}

fn secondary_controls(guest: &[u8], bits: u64) -> Bench {
    let mut bench = primary_controls(guest, primary::ACTIVATE_SECONDARY_CONTROLS);
    bench.set_bits(field::SECONDARY_PROCESSOR_BASED_CONTROLS, bits);
    bench
}

/// An instruction that `bits` enable, under "RDTSC exiting".
fn time_stamp(guest: &[u8], bits: u64) -> Bench {
    let mut bench = secondary_controls(guest, bits);
    bench.set_bits(field::PRIMARY_PROCESSOR_BASED_CONTROLS, primary::RDTSC_EXITING);
    bench
}

fn pin_controls(guest: &[u8], bits: u64) -> Bench {
    let mut bench = Bench::with_guest(guest);
    bench.set_bits(field::PIN_BASED_CONTROLS, bits);
    bench
}

/// A guest with CR4 bits.
fn cr4(guest: &[u8], bits: u64) -> Bench {
    let mut bench = Bench::with_guest(guest);
    bench.set_bits(field::GUEST_CR4, bits);
    bench
}

/// A guest with an APIC-access page and a virtual-APIC page.
fn virtual_apic(guest: &[u8], secondary: u64) -> Bench {
    let mut bench = secondary_controls(guest, secondary | secondary::VIRTUALIZE_APIC_ACCESSES);
    bench.set_bits(
        field::PRIMARY_PROCESSOR_BASED_CONTROLS,
        primary::USE_TPR_SHADOW | primary::USE_MSR_BITMAPS,
    );
    bench.set_bits(field::PIN_BASED_CONTROLS, pin::EXTERNAL_INTERRUPT_EXITING);
    bench.set(field::APIC_ACCESS_ADDRESS, APIC_ACCESS);
    bench.set(field::VIRTUAL_APIC_ADDRESS, VIRTUAL_APIC);
    bench.set(field::MSR_BITMAP, BITMAP);
    bench
}

/// MOV EAX, [0x200010], with EPT of which the entry for that page is `entry`.
fn with_ept(entry: u64) -> Bench {
    let mut bench = Bench::with_guest(&[0x8b, 0x04, 0x25, 0x10, 0, 0x20, 0]);
    add_ept(&mut bench, 7);
    bench.store(EPT + 0x2008, entry);
    bench
}

/// JMP to a TSS from 32-bit code.
fn task_switch() -> Bench {
    const GDT: u64 = 0x6000;
    let mut bench = Bench::with_guest(&[0xea, 0, 0, 0, 0, 0x20, 0]);
    add_ept(&mut bench, 7);
    bench.set_bits(
        field::SECONDARY_PROCESSOR_BASED_CONTROLS,
        secondary::UNRESTRICTED_GUEST,
    );
    let entry_controls = bench.get(field::ENTRY_CONTROLS) & !entry::IA32E_MODE_GUEST;
    bench.set(field::ENTRY_CONTROLS, entry_controls);
    bench.set(field::GUEST_CR0, 0x31);
    bench.set(field::GUEST_CR4, CR4_VMXE);
    bench.set(field::GUEST_CS_ACCESS_RIGHTS, 0xc09b);
    bench.set(field::GUEST_GDTR_BASE, GDT);
    bench.store(GDT + 0x20, 0x0000_8900_7000_0067);
    bench
}

/// IN AL, 0x80 with this bitmap byte for the ports from 0x80 on.
fn io(byte: u64) -> Bench {
    let mut bench = primary_controls(&[0xe4, 0x80], primary::USE_IO_BITMAPS);
    bench.set(field::IO_BITMAP_A, BITMAP);
    bench.set(field::IO_BITMAP_B, BITMAP);
    bench.store(BITMAP + 0x10, byte);
    bench
}

/// RDMSR or WRMSR of `msr` with an MSR bitmap that is all 1.
fn msr(code: &[u8], msr: u64) -> Bench {
    let mut bench = primary_controls(code, primary::USE_MSR_BITMAPS);
    bench.set(field::MSR_BITMAP, BITMAP);
    for offset in (0..0x1000).step_by(8) {
        bench.store(BITMAP + offset, !0);
    }
    bench.cpu.regs[RCX] = msr;
    bench
}

const RDMSR: &[u8] = &[0x0f, 0x32];
const WRMSR: &[u8] = &[0x0f, 0x30];
/// Of an instruction with an operand at RAX: the upper three bits of ModRM.
const LOCK_ADD: &[u8] = &[0xf0, 0x01, 0x04, 0x25, 0x3d, 0, 0x15, 0];

#[rustfmt::skip]
const SITUATIONS: &[Situation] = &[
    (reason::EXCEPTION_OR_NMI, || {
        let mut bench = Bench::with_guest(&[0x0f, 0x0b]);
        bench.set(field::EXCEPTION_BITMAP, 1 << 6);
        bench
    }, "Bit 6 (#UD) of the exception bitmap is 1"),
    (reason::EXCEPTION_OR_NMI, || {
        // A write to a page that is not present.
        let mut bench = Bench::with_guest(&[0x89, 0x04, 0x25, 0, 0, 0, 0x40]);
        bench.set(field::PAGE_FAULT_ERROR_CODE_MASK, 2);
        bench
    }, "error code 0x2 masked with 0x2 differs from the match value 0x0, and bit 14"),
    (reason::EXCEPTION_OR_NMI, || {
        let mut bench = pin_controls(NOPS, pin::NMI_EXITING);
        bench.cpu.nmi_blocked = true;
        bench.bus.signals[0].nmi = true;
        bench
    }, "\u{201c}NMI exiting\u{201d}"),
    (reason::EXTERNAL_INTERRUPT, || {
        let mut bench = pin_controls(NOPS, pin::EXTERNAL_INTERRUPT_EXITING);
        let apic_base = 0xfee0_0000 | 1 << 11 | 1 << 10 | 1 << 8;
        bench.bus.set_apic_base(0, apic_base).unwrap();
        bench.bus.x2apic_write(0, 0x80f, 0x1ff).unwrap();
        bench.bus.x2apic_write(0, 0x83f, 0x51).unwrap();
        bench
    }, "\u{201c}external-interrupt exiting\u{201d}"),
    (reason::TRIPLE_FAULT, || {
        let mut bench = Bench::with_guest(&[0x0f, 0x0b]);
        bench.set(field::GUEST_IDTR_LIMIT, 0);
        bench
    }, "#UD at RIP"),
    (reason::INIT_SIGNAL, || {
        let mut bench = Bench::with_guest(NOPS);
        bench.bus.signals[0].init = true;
        bench
    }, "always exits"),
    (reason::START_UP_IPI, || {
        let mut bench = Bench::with_guest(NOPS);
        bench.set(field::GUEST_ACTIVITY_STATE, 3);
        bench
    }, "always exits"),
    (reason::INTERRUPT_WINDOW, || {
        let mut bench = primary_controls(NOPS, primary::INTERRUPT_WINDOW_EXITING);
        bench.set(field::GUEST_RFLAGS, 0x202);
        bench
    }, "\u{201c}interrupt-window exiting\u{201d}"),
    (reason::NMI_WINDOW, || {
        let mut bench = primary_controls(NOPS, primary::NMI_WINDOW_EXITING);
        bench.set_bits(field::PIN_BASED_CONTROLS, pin::NMI_EXITING | pin::VIRTUAL_NMIS);
        bench
    }, "\u{201c}NMI-window exiting\u{201d}"),
    (reason::TASK_SWITCH, task_switch, "No control is asked"),
    (reason::CPUID, || Bench::with_guest(CPUID), "No control is asked"),
    (reason::HLT, || primary_controls(&[0xf4], primary::HLT_EXITING), "\u{201c}HLT exiting\u{201d}"),
    (reason::INVD, || Bench::with_guest(&[0x0f, 0x08]), "No control is asked"),
    (reason::INVLPG, || primary_controls(&[0x0f, 0x01, 0x38], primary::INVLPG_EXITING),
     "\u{201c}INVLPG exiting\u{201d}"),
    (reason::RDPMC, || primary_controls(&[0x0f, 0x33], primary::RDPMC_EXITING), "\u{201c}RDPMC exiting\u{201d}"),
    (reason::RDTSC, || primary_controls(&[0x0f, 0x31], primary::RDTSC_EXITING), "\u{201c}RDTSC exiting\u{201d}"),
    (reason::VMCALL, || Bench::with_guest(VMCALL), "No control is asked"),
    (reason::VMCLEAR, || Bench::with_guest(VMCLEAR), "No control is asked"),
    (reason::VMLAUNCH, || Bench::with_guest(VMLAUNCH), "No control is asked"),
    (reason::VMPTRLD, || Bench::with_guest(VMPTRLD), "No control is asked"),
    (reason::VMPTRST, || Bench::with_guest(&[0x0f, 0xc7, 0x38]), "No control is asked"),
    (reason::VMREAD, || Bench::with_guest(VMREAD), "\u{201c}VMCS shadowing\u{201d}"),
    (reason::VMRESUME, || Bench::with_guest(VMRESUME), "No control is asked"),
    (reason::VMWRITE, || {
        let mut bench = secondary_controls(VMWRITE, secondary::VMCS_SHADOWING);
        bench.set(field::VMWRITE_BITMAP, BITMAP);
        bench.store(BITMAP, 1);
        bench.cpu.regs[RAX] = 0;
        bench
    }, "Bit 0 of the VMWRITE bitmap's byte at 0x12000"),
    (reason::VMXOFF, || Bench::with_guest(&[0x0f, 0x01, 0xc4]), "No control is asked"),
    (reason::VMXON, || Bench::with_guest(VMXON), "No control is asked"),
    (reason::CR_ACCESS, || {
        // CLTS
        let mut bench = Bench::with_guest(&[0x0f, 0x06]);
        bench.set(field::CR0_GUEST_HOST_MASK, CR0_TS);
        bench.set(field::CR0_READ_SHADOW, CR0_TS);
        bench
    }, "guest/host mask of CR0 is 0x8"),
    (reason::CR_ACCESS, || {
        // MOV CR3, RAX
        let mut bench = primary_controls(&[0x0f, 0x22, 0xd8], primary::CR3_LOAD_EXITING);
        bench.set(field::CR3_TARGET_COUNT, 1);
        bench
    }, "none of the 1 CR3-target values"),
    (reason::CR_ACCESS, || {
        // MOV RAX, CR8
        primary_controls(&[0x44, 0x0f, 0x20, 0xc0], primary::CR8_STORE_EXITING)
    }, "\u{201c}CR8-store exiting\u{201d}"),
    (reason::MOV_DR, || primary_controls(&[0x0f, 0x21, 0xf8], primary::MOV_DR_EXITING),
     "\u{201c}MOV-DR exiting\u{201d}"),
    (reason::IO_INSTRUCTION, || io(1), "Bit 0 of the I/O bitmap's byte at 0x12010, which stands for port 0x80"),
    (reason::IO_INSTRUCTION, || primary_controls(&[0xe4, 0x80], primary::UNCONDITIONAL_IO_EXITING),
     "\u{201c}unconditional I/O exiting\u{201d}"),
    (reason::RDMSR, || msr(RDMSR, 0x10), "Bit 0 of the MSR bitmap's byte at 0x12002, which stands for reads of MSR 0x10"),
    (reason::RDMSR, || Bench::with_guest(RDMSR), "The control \u{201c}use MSR bitmaps\u{201d}"),
    (reason::WRMSR, || msr(WRMSR, 0xc000_0080), "byte at 0x12c10, which stands for writes of MSR 0xc0000080"),
    (reason::WRMSR, || msr(WRMSR, 0x4b56_4d00), "is in neither range"),
    (reason::ENTRY_FAILURE_GUEST_STATE, || {
        let mut bench = Bench::with_guest(NOPS);
        bench.set(field::GUEST_TR_ACCESS_RIGHTS, 0x89);
        bench
    }, "guest.tr"),
    (reason::ENTRY_FAILURE_MSR_LOADING, || {
        let mut bench = Bench::with_guest(NOPS);
        bench.set(field::ENTRY_MSR_LOAD_ADDRESS, BITMAP);
        bench.set(field::ENTRY_MSR_LOAD_COUNT, 1);
        bench.store(BITMAP, 0xc000_0100);
        bench
    }, "0xc0000100"),
    (reason::MWAIT, || primary_controls(&[0x0f, 0x01, 0xc9], primary::MWAIT_EXITING), "\u{201c}MWAIT exiting\u{201d}"),
    (reason::MONITOR_TRAP_FLAG, || primary_controls(NOPS, primary::MONITOR_TRAP_FLAG),
     "\u{201c}monitor trap flag\u{201d}"),
    (reason::MONITOR, || primary_controls(&[0x0f, 0x01, 0xc8], primary::MONITOR_EXITING),
     "\u{201c}MONITOR exiting\u{201d}"),
    (reason::PAUSE, || primary_controls(&[0xf3, 0x90], primary::PAUSE_EXITING), "\u{201c}PAUSE exiting\u{201d}"),
    (reason::PAUSE, || {
        // PAUSE; JMP to it.
        let mut bench = secondary_controls(&[0xf3, 0x90, 0xeb, 0xfc], secondary::PAUSE_LOOP_EXITING);
        bench.set(field::PLE_GAP, 10);
        bench.set(field::PLE_WINDOW, 100);
        bench
    }, "\u{201c}PAUSE-loop exiting\u{201d}"),
    (reason::TPR_BELOW_THRESHOLD, || {
        // MOV CR8, RAX
        let mut bench = primary_controls(&[0x44, 0x0f, 0x22, 0xc0], primary::USE_TPR_SHADOW);
        bench.set(field::VIRTUAL_APIC_ADDRESS, VIRTUAL_APIC);
        bench.store(VIRTUAL_APIC + 0x80, 0x70);
        bench.set(field::TPR_THRESHOLD, 5);
        bench.cpu.regs[RAX] = 4;
        bench
    }, "threshold"),
    (reason::APIC_ACCESS, || {
        // MOV EAX, [APIC_ACCESS + 0x20]
        virtual_apic(&[0x8b, 0x04, 0x25, 0x20, 0, 3, 0], 0)
    }, "offset 0x20"),
    (reason::VIRTUALIZED_EOI, || {
        // MOV [APIC_ACCESS + 0xb0], EAX
        let mut bench = virtual_apic(&[0x89, 0x04, 0x25, 0xb0, 0, 3, 0], secondary::VIRTUAL_INTERRUPT_DELIVERY);
        bench.set(field::GUEST_INTERRUPT_STATUS, 0x5100);
        bench.set(field::EOI_EXIT_BITMAP1, 1 << 0x11);
        bench
    }, "bit 17 of eoi_exit_bitmap1"),
    (reason::GDTR_IDTR_ACCESS, || secondary_controls(&[0x0f, 0x01, 0x00], secondary::DESCRIPTOR_TABLE_EXITING),
     "\u{201c}descriptor-table exiting\u{201d}"),
    (reason::LDTR_TR_ACCESS, || secondary_controls(&[0x0f, 0x00, 0xc0], secondary::DESCRIPTOR_TABLE_EXITING),
     "\u{201c}descriptor-table exiting\u{201d}"),
    (reason::EPT_VIOLATION, || with_ept(0), "Guest-physical address 0x200010 is not mapped: the entry of the EPT page directory \
     at 0x22008 is 0x0"),
    (reason::EPT_MISCONFIGURATION, || with_ept(0x20_00b2), "the entry of the EPT page directory at 0x22008 is 0x2000b2"),
    (reason::INVEPT, || Bench::with_guest(&[0x66, 0x0f, 0x38, 0x80, 0x00]), "No control is asked"),
    (reason::RDTSCP, || time_stamp(&[0x0f, 0x01, 0xf9], secondary::ENABLE_RDTSCP), "\u{201c}RDTSC exiting\u{201d}"),
    (reason::PREEMPTION_TIMER, || pin_controls(NOPS, pin::ACTIVATE_PREEMPTION_TIMER), "timer counted down to 0"),
    (reason::INVVPID, || Bench::with_guest(&[0x66, 0x0f, 0x38, 0x81, 0x00]), "No control is asked"),
    (reason::WBINVD, || secondary_controls(&[0x0f, 0x09], secondary::WBINVD_EXITING),
     "\u{201c}WBINVD exiting\u{201d}"),
    (reason::XSETBV, || cr4(&[0x0f, 0x01, 0xd1], CR4_OSXSAVE), "No control is asked"),
    (reason::APIC_WRITE, || {
        // MOV [APIC_ACCESS + 0x20], EAX
        virtual_apic(&[0x89, 0x04, 0x25, 0x20, 0, 3, 0], secondary::APIC_REGISTER_VIRTUALIZATION)
    }, "offset 0x20"),
    (reason::RDRAND, || secondary_controls(&[0x0f, 0xc7, 0xf0], secondary::RDRAND_EXITING),
     "\u{201c}RDRAND exiting\u{201d}"),
    (reason::INVPCID, || {
        let mut bench = secondary_controls(&[0x66, 0x0f, 0x38, 0x82, 0x00], secondary::ENABLE_INVPCID);
        bench.set_bits(field::PRIMARY_PROCESSOR_BASED_CONTROLS, primary::INVLPG_EXITING);
        bench
    }, "\u{201c}INVLPG exiting\u{201d}"),
    (reason::VMFUNC, || {
        let mut bench = secondary_controls(&[0x0f, 0x01, 0xd4], secondary::ENABLE_VM_FUNCTIONS);
        bench.cpu.regs[RAX] = 0;
        bench
    }, "VM function 0 with parameter"),
    (reason::RDSEED, || secondary_controls(&[0x0f, 0xc7, 0xf8], secondary::RDSEED_EXITING),
     "\u{201c}RDSEED exiting\u{201d}"),
    (reason::PAGE_MODIFICATION_LOG_FULL, || {
        let mut bench = secondary_controls(&[0x89, 0x04, 0x25, 0, 0x10, 0, 0], secondary::ENABLE_PML);
        add_ept(&mut bench, 7);
        bench.set(field::EPT_POINTER, EPT | 6 | 3 << 3 | 1 << 6);
        bench.set(field::PML_ADDRESS, BITMAP);
        bench.set(field::GUEST_PML_INDEX, 0xffff);
        bench
    }, "PML index is 0xffff"),
    (reason::XSAVES, || supervisor_state(&[0x0f, 0xc7, 0x28]), "XSS-exiting bitmap"),
    (reason::XRSTORS, || supervisor_state(&[0x0f, 0xc7, 0x18]), "XSS-exiting bitmap"),
    (reason::SPP_RELATED_EVENT, || {
        // MOV [0x150000], EAX
        let mut bench = Bench::with_guest(&[0x89, 0x04, 0x25, 0, 0, 0x15, 0]);
        add_ept(&mut bench, 7);
        bench.store(EPT + 0x2000, (EPT + 0x3000) | 7);
        for page in 0..512 {
            bench.store(EPT + 0x3000 + page * 8, page << 12 | 0x37);
        }
        bench.store(EPT + 0x3000 + 0x150 * 8, 0x15_0000 | 0x35 | 1 << 61);
        bench.set_bits(field::SECONDARY_PROCESSOR_BASED_CONTROLS, secondary::SUB_PAGE_WRITE_PERMISSIONS_FOR_EPT);
        bench.set(field::SUB_PAGE_PERMISSION_TABLE_POINTER, BITMAP);
        bench
    }, "the SPPL4 entry at 0x12000 is 0x0, whose valid bit (0) is 0"),
    (reason::UMWAIT, || time_stamp(&[0xf2, 0x0f, 0xae, 0xf0], secondary::ENABLE_USER_WAIT_AND_PAUSE), "\u{201c}RDTSC exiting\u{201d}"),
    (reason::TPAUSE, || time_stamp(&[0x66, 0x0f, 0xae, 0xf0], secondary::ENABLE_USER_WAIT_AND_PAUSE), "\u{201c}RDTSC exiting\u{201d}"),
    (reason::BUS_LOCK, || {
        let mut bench = secondary_controls(LOCK_ADD, secondary::BUS_LOCK_DETECTION);
        bench.cpu.regs[RAX] = 1;
        bench
    }, "\u{201c}VMM bus-lock detection\u{201d}"),
    (reason::INSTRUCTION_TIMEOUT, endless_alignment_checks, "no instruction boundary for 1000 counts"),
];

/// 32-bit code in user mode reads misaligned memory, on a stack that is misaligned too; #AC's handler has the same
/// privilege, so that the pushes of its frame raise #AC.
pub(super) fn endless_alignment_checks() -> Bench {
    const GDT: u64 = 0x6000;
    const IDT: u64 = 0x5000;
    // MOV EAX, [0x150001]
    let mut bench = Bench::with_guest(&[0xa1, 1, 0, 0x15, 0]);
    add_ept(&mut bench, 7);
    bench.set_bits(
        field::SECONDARY_PROCESSOR_BASED_CONTROLS,
        secondary::UNRESTRICTED_GUEST | secondary::INSTRUCTION_TIMEOUT,
    );
    bench.set(field::INSTRUCTION_TIMEOUT_CONTROL, 1000);
    let entry_controls = bench.get(field::ENTRY_CONTROLS) & !entry::IA32E_MODE_GUEST;
    bench.set(field::ENTRY_CONTROLS, entry_controls);
    bench.set(field::GUEST_CR0, 0x31 | CR0_AM);
    bench.set(field::GUEST_CR4, CR4_VMXE);
    bench.set(field::GUEST_RFLAGS, flags::AC | 2);
    for (selector, rights, selector_value, rights_value) in [
        (
            field::GUEST_CS_SELECTOR,
            field::GUEST_CS_ACCESS_RIGHTS,
            0x0b,
            0xc0fb,
        ),
        (
            field::GUEST_SS_SELECTOR,
            field::GUEST_SS_ACCESS_RIGHTS,
            0x13,
            0xc0f3,
        ),
        (
            field::GUEST_DS_SELECTOR,
            field::GUEST_DS_ACCESS_RIGHTS,
            0x13,
            0xc0f3,
        ),
        (
            field::GUEST_ES_SELECTOR,
            field::GUEST_ES_ACCESS_RIGHTS,
            0x13,
            0xc0f3,
        ),
        (
            field::GUEST_FS_SELECTOR,
            field::GUEST_FS_ACCESS_RIGHTS,
            0x13,
            0xc0f3,
        ),
        (
            field::GUEST_GS_SELECTOR,
            field::GUEST_GS_ACCESS_RIGHTS,
            0x13,
            0xc0f3,
        ),
    ] {
        bench.set(selector, selector_value);
        bench.set(rights, rights_value);
    }
    bench.set(field::GUEST_GDTR_BASE, GDT);
    bench.set(field::GUEST_IDTR_BASE, IDT);
    bench.store(GDT + 8, 0x00cf_fb00_0000_ffff);
    bench.store(GDT + 16, 0x00cf_f300_0000_ffff);
    // A 32-bit interrupt gate of vector 17.
    bench.store(IDT + 8 * 17, 0x0011_ee00_000b_0800);
    bench.set(field::GUEST_RSP, 0x9001);
    bench
}

#[test]
fn nobody_hangs_for_want_of_an_instruction_boundary() {
    let mut bench = endless_alignment_checks();
    let controls = bench.get(field::SECONDARY_PROCESSOR_BASED_CONTROLS);
    bench.set(
        field::SECONDARY_PROCESSOR_BASED_CONTROLS,
        controls & !secondary::INSTRUCTION_TIMEOUT,
    );
    bench.execute(VMLAUNCH);
    bench.go(1000);
    assert!(bench.cpu.vmx.guest && bench.cpu.vmx.serial_exceptions > 500);
    bench.bus.signals[0].init = true;
    assert_eq!(bench.settle(), reason::INIT_SIGNAL as u64);
    assert_eq!(bench.get(field::GUEST_RIP), GUEST);
}

/// XSAVES or XRSTORS at RAX, which is the mask of components too.
fn supervisor_state(guest: &[u8]) -> Bench {
    const COMPONENT: u64 = POINTER;
    let mut bench = secondary_controls(guest, secondary::ENABLE_XSAVES);
    bench.set_bits(field::GUEST_CR4, CR4_OSXSAVE);
    bench.set(field::XSS_EXITING_BITMAP, COMPONENT);
    bench.cpu.msr.xss = COMPONENT;
    bench
}

/// Instructions that this processor does not have: #UD comes before any exit.
const UNDEFINED: &[(u16, &[u8])] = &[
    (reason::GETSEC, &[0x0f, 0x37]),
    (reason::RSM, &[0x0f, 0xaa]),
    (reason::ENCLS, &[0x0f, 0x01, 0xcf]),
    (reason::ENCLV, &[0x0f, 0x01, 0xc0]),
    (reason::PCONFIG, &[0x0f, 0x01, 0xc5]),
    (reason::LOADIWKEY, &[0xf3, 0x0f, 0x38, 0xdc, 0xc1]),
    (
        reason::ENQCMD_PASID_TRANSLATION_FAILURE,
        &[0xf2, 0x0f, 0x38, 0xf8, 0x00],
    ),
    (
        reason::ENQCMDS_PASID_TRANSLATION_FAILURE,
        &[0xf3, 0x0f, 0x38, 0xf8, 0x00],
    ),
    (reason::SEAMCALL, &[0x66, 0x0f, 0x01, 0xcf]),
    (reason::TDCALL, &[0x66, 0x0f, 0x01, 0xcc]),
    (reason::RDMSRLIST, &[0xf2, 0x0f, 0x01, 0xc6]),
    (reason::WRMSRLIST, &[0xf3, 0x0f, 0x01, 0xc6]),
    (reason::URDMSR, &[0xf2, 0x0f, 0x38, 0xf8, 0xc1]),
    (reason::UWRMSR, &[0xf3, 0x0f, 0x38, 0xf8, 0xc1]),
    (
        reason::RDMSR_IMMEDIATE,
        &[0xc4, 0xe7, 0x7b, 0xf6, 0xc0, 0x10, 0, 0, 0],
    ),
    (
        reason::WRMSRNS_IMMEDIATE,
        &[0xc4, 0xe7, 0x7a, 0xf6, 0xc0, 0x10, 0, 0, 0],
    ),
];

/// What does not happen to this machine: it has no SMM, and its parts do not fail.
const NEVER: &[u16] = &[
    reason::IO_SMI,
    reason::OTHER_SMI,
    reason::ENTRY_FAILURE_MACHINE_CHECK,
];

/// What `vmx why` prints, with the ids of broken rules.
fn words(bench: &Bench) -> String {
    let why = explain::why(&bench.cpu, &bench.bus).unwrap();
    let rules: Vec<&str> = why.rules.iter().map(|rule| rule.id).collect();
    format!(
        "{}\n{}\n{}",
        why.headline,
        why.paragraphs.join("\n"),
        rules.join("\n")
    )
}

#[test]
fn its_cause_is_named() {
    for &(reason, make, expected) in SITUATIONS {
        let name = ExitReason::by_number(reason).unwrap().name;
        let mut bench = make();
        bench.execute(VMLAUNCH);
        bench.bus.signals[0].sipi = (reason == reason::START_UP_IPI).then_some(0x12);
        let found = bench.settle() as u16;
        assert_eq!(found, reason, "{name}, but: {}", words(&bench));
        assert!(words(&bench).contains(expected), "{name}: {}", words(&bench));
    }
}

/// Another processor's VMCS is all that there is, often.
#[test]
fn the_fields_alone_name_the_same_cause_or_none() {
    let mut named = 0;
    for &(reason, make, _) in SITUATIONS {
        let name = ExitReason::by_number(reason).unwrap().name;
        let mut bench = make();
        bench.execute(VMLAUNCH);
        bench.bus.signals[0].sipi = (reason == reason::START_UP_IPI).then_some(0x12);
        if bench.settle() != u64::from(reason) {
            continue;
        }
        let inferred = adopt::reported_exit(bench.cpu.vmx.current().unwrap()).cause;
        assert!(
            [bench.cause(), Cause::Reported].contains(&inferred),
            "{name}: {inferred:?}"
        );
        named += u32::from(inferred != Cause::Reported);
    }
    assert!(named > 45, "{named}");
}

#[test]
fn an_instruction_that_is_not_there_does_not_exit() {
    for &(reason, code) in UNDEFINED {
        let name = ExitReason::by_number(reason).unwrap().name;
        let mut bench = Bench::with_guest(code);
        bench.set(field::EXCEPTION_BITMAP, 1 << 6);
        bench.launch();
        let found = (
            bench.get(field::EXIT_REASON),
            bench.get(field::EXIT_INTERRUPTION_INFO),
        );
        assert_eq!(found, (0, 0x8000_0306), "{name}");
    }
    let basic = Bench::new().cpu.profile.capabilities().basic();
    assert_eq!(basic & basic::DUAL_MONITOR, 0);
}

#[test]
fn no_reason_is_left_out() {
    let told = SITUATIONS.iter().map(|row| row.0);
    let told = told.chain(UNDEFINED.iter().map(|row| row.0));
    let told: Vec<u16> = told.chain(NEVER.iter().copied()).collect();
    for row in REASONS {
        assert!(told.contains(&row.number), "{}", row.name);
    }
}
