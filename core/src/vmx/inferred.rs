//! The cause of a VM exit that another processor made, as far as its exit-information and control fields leave no choice.

use super::cause::Cause;
use super::controls::{pin, primary, secondary, Word};
use super::exit::VALID;
use super::fields::field;
use super::reasons::reason;
use super::state::{Controls, Exit};
use super::vmcs::Vmcs;
use crate::cpu::bits::CR0_TS;
use crate::cpu::exception::{vector, EventKind};

/// Exits that happen in every guest.
const ALWAYS: &[u16] = &[
    reason::TRIPLE_FAULT,
    reason::TASK_SWITCH,
    reason::CPUID,
    reason::GETSEC,
    reason::INVD,
    reason::VMCALL,
    reason::VMCLEAR,
    reason::VMLAUNCH,
    reason::VMPTRLD,
    reason::VMPTRST,
    reason::VMRESUME,
    reason::VMXOFF,
    reason::VMXON,
    reason::INVEPT,
    reason::INVVPID,
    reason::XSETBV,
];

/// Exits that one control alone asks for.
const CONTROLS: &[(u16, Word, u64)] = &[
    (
        reason::EXTERNAL_INTERRUPT,
        Word::Pin,
        pin::EXTERNAL_INTERRUPT_EXITING,
    ),
    (
        reason::INTERRUPT_WINDOW,
        Word::Primary,
        primary::INTERRUPT_WINDOW_EXITING,
    ),
    (reason::NMI_WINDOW, Word::Primary, primary::NMI_WINDOW_EXITING),
    (reason::HLT, Word::Primary, primary::HLT_EXITING),
    (reason::INVLPG, Word::Primary, primary::INVLPG_EXITING),
    (reason::INVPCID, Word::Primary, primary::INVLPG_EXITING),
    (reason::RDPMC, Word::Primary, primary::RDPMC_EXITING),
    (reason::RDTSC, Word::Primary, primary::RDTSC_EXITING),
    (reason::RDTSCP, Word::Primary, primary::RDTSC_EXITING),
    (reason::MOV_DR, Word::Primary, primary::MOV_DR_EXITING),
    (reason::MWAIT, Word::Primary, primary::MWAIT_EXITING),
    (reason::MONITOR, Word::Primary, primary::MONITOR_EXITING),
    (
        reason::GDTR_IDTR_ACCESS,
        Word::Secondary,
        secondary::DESCRIPTOR_TABLE_EXITING,
    ),
    (
        reason::LDTR_TR_ACCESS,
        Word::Secondary,
        secondary::DESCRIPTOR_TABLE_EXITING,
    ),
    (reason::WBINVD, Word::Secondary, secondary::WBINVD_EXITING),
    (reason::RDRAND, Word::Secondary, secondary::RDRAND_EXITING),
    (reason::RDSEED, Word::Secondary, secondary::RDSEED_EXITING),
];

/// `Cause::Reported` where the fields alone do not tell.
pub fn cause(exit: &Exit, vmcs: &Vmcs) -> Cause {
    let controls = Controls::of(vmcs);
    let basic = exit.reason as u16;
    let has_primary = |bit| controls.primary & bit != 0;
    match basic {
        reason::EXCEPTION_OR_NMI => event(exit, vmcs),
        reason::INIT_SIGNAL | reason::START_UP_IPI => Cause::Signal,
        reason::PREEMPTION_TIMER => Cause::Timer,
        reason::PAGE_MODIFICATION_LOG_FULL => Cause::PageLogFull {
            index: vmcs.get(field::GUEST_PML_INDEX),
        },
        // An injected MTF VM exit needs no control.
        reason::MONITOR_TRAP_FLAG if has_primary(primary::MONITOR_TRAP_FLAG) => {
            Cause::Control(Word::Primary, primary::MONITOR_TRAP_FLAG)
        }
        reason::PAUSE if has_primary(primary::PAUSE_EXITING) => {
            Cause::Control(Word::Primary, primary::PAUSE_EXITING)
        }
        reason::PAUSE => Cause::Control(Word::Secondary, secondary::PAUSE_LOOP_EXITING),
        reason::VMREAD | reason::VMWRITE if controls.secondary & secondary::VMCS_SHADOWING == 0 => {
            Cause::ControlClear(Word::Secondary, secondary::VMCS_SHADOWING)
        }
        reason::RDMSR | reason::WRMSR if !has_primary(primary::USE_MSR_BITMAPS) => {
            Cause::ControlClear(Word::Primary, primary::USE_MSR_BITMAPS)
        }
        reason::CR_ACCESS => control_register(exit.qualification, vmcs),
        reason::IO_INSTRUCTION => io(exit.qualification, &controls, vmcs),
        _ if ALWAYS.contains(&basic) => Cause::Always,
        _ => {
            let row = CONTROLS.iter().find(|row| row.0 == basic);
            row.map_or(Cause::Reported, |&(_, word, bit)| Cause::Control(word, bit))
        }
    }
}

fn event(exit: &Exit, vmcs: &Vmcs) -> Cause {
    let info = exit.interruption_info;
    let (kind, number) = (info >> 8 & 7, info as u8);
    if info & VALID == 0 {
        return Cause::Reported;
    }
    if kind == EventKind::Nmi as u32 {
        return Cause::Control(Word::Pin, pin::NMI_EXITING);
    }
    if kind == EventKind::HardwareException as u32 && number == vector::PAGE_FAULT {
        return Cause::PageFault {
            error_code: exit.interruption_error_code,
            mask: vmcs.get(field::PAGE_FAULT_ERROR_CODE_MASK) as u32,
            matching: vmcs.get(field::PAGE_FAULT_ERROR_CODE_MATCH) as u32,
            bit: vmcs.get(field::EXCEPTION_BITMAP) >> vector::PAGE_FAULT & 1 != 0,
        };
    }
    Cause::ExceptionBitmap { vector: number }
}

/// What a MOV to CR0 or CR4 was to load is in a register that the VMCS does not hold, and so for the CR3-target values.
fn control_register(qualification: u64, vmcs: &Vmcs) -> Cause {
    const CLTS: u64 = 2;
    match (qualification & 15, qualification >> 4 & 3) {
        (3, 1) => Cause::Control(Word::Primary, primary::CR3_STORE_EXITING),
        (8, 0) => Cause::Control(Word::Primary, primary::CR8_LOAD_EXITING),
        (8, 1) => Cause::Control(Word::Primary, primary::CR8_STORE_EXITING),
        (0, CLTS) => {
            let shadow = vmcs.get(field::CR0_READ_SHADOW);
            Cause::CrMask {
                cr: 0,
                mask: vmcs.get(field::CR0_GUEST_HOST_MASK),
                shadow,
                value: shadow & !CR0_TS,
            }
        }
        _ => Cause::Reported,
    }
}

/// Of an access to several ports any port's bit can be the one.
fn io(qualification: u64, controls: &Controls, vmcs: &Vmcs) -> Cause {
    if controls.primary & primary::USE_IO_BITMAPS == 0 {
        return Cause::Control(Word::Primary, primary::UNCONDITIONAL_IO_EXITING);
    }
    if qualification & 7 != 0 {
        return Cause::Reported;
    }
    let port = (qualification >> 16) as u16;
    let bitmap = if port & 0x8000 == 0 {
        field::IO_BITMAP_A
    } else {
        field::IO_BITMAP_B
    };
    Cause::IoBitmap {
        byte: vmcs.get(bitmap) + u64::from(port & 0x7fff) / 8,
        bit: (port & 7) as u8,
        port,
    }
}
