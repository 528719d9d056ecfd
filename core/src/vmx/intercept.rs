//! What instructions and events ask of VMX in a guest (SDM vol. 3, 26.1 to 26.4). The callers have made the checks that
//! come before a VM exit (26.1.1: #UD, privilege, the TSS's I/O bitmap) and make the others after.
//!
//! Each function returns at once outside VMX non-root operation. `Err(Stop::Exit)` asks for the exit described by
//! `cpu.vmx.exit`.

use iced_x86::Code;

use super::apic::{self, registers::VirtualApic};
use super::cause::Cause;
use super::controls::{pin, primary, secondary, Word};
use super::exit::{interruption_info, NMI_UNBLOCKING};
use super::fields::{field, Field};
use super::operand;
use super::reasons::reason;
use super::record::{Outcome, Recorded};
use super::state::{Exit, SavedRf};
use crate::cpu::bits::*;
use crate::cpu::exception::{vector, Event, EventKind, Fault};
use crate::cpu::insn::Insn;
use crate::cpu::{Cpu, Done, Stop};
use crate::debug::events;
use crate::platform::Bus;

/// An exit by an instruction, with nothing but its length.
fn exit(cpu: &mut Cpu, insn: &Insn, reason: u16, cause: Cause) -> Stop {
    exit_with(cpu, insn, reason, cause, 0, 0)
}

#[cold]
fn exit_with(cpu: &mut Cpu, insn: &Insn, reason: u16, cause: Cause, qualification: u64, info: u32) -> Stop {
    cpu.vmx.exit = Exit {
        reason: reason as u32,
        qualification,
        instruction_length: insn.length as u32,
        instruction_info: info,
        cause,
        ..Exit::default()
    };
    Stop::Exit
}

/// Whether a guest runs under this primary control.
#[inline]
fn under_primary(cpu: &Cpu, bit: u64) -> bool {
    cpu.vmx.guest && cpu.vmx.controls.primary & bit != 0
}

#[inline]
fn under_secondary(cpu: &Cpu, bit: u64) -> bool {
    cpu.vmx.guest && cpu.vmx.controls.secondary & bit != 0
}

// Events.

/// `fault` is about to be delivered; `vectoring` is the event whose delivery raised it, if one did. Exits where the
/// exception bitmap and the page-fault masks say so. External interrupts and NMIs come here too: `boundary` has let
/// them through.
pub fn event(cpu: &mut Cpu, _bus: &mut Bus, fault: &Fault, vectoring: Option<Event>) -> Done {
    let busy_shadow_stack = std::mem::take(&mut cpu.vmx.token_acquired);
    if !cpu.vmx.guest {
        return Ok(());
    }
    let event = &fault.event;
    let intercepted = match event.kind {
        EventKind::HardwareException
        | EventKind::SoftwareException
        | EventKind::PrivilegedSoftwareException => intercepted_exception(cpu, event),
        EventKind::ExternalInterrupt | EventKind::Nmi | EventKind::SoftwareInterrupt => None,
    };
    let Some(cause) = intercepted else {
        cpu.vmx.mtf_pending = cpu.vmx.single_steps();
        return Ok(());
    };
    let hardware = event.kind == EventKind::HardwareException;
    let trap = hardware && event.vector == vector::DEBUG;
    let unblocked = cpu.vmx.iret_unblocked && vectoring.is_none() && event.vector != vector::DOUBLE_FAULT;
    cpu.vmx.exit = Exit {
        reason: reason::EXCEPTION_OR_NMI as u32,
        qualification: if hardware && matches!(event.vector, vector::DEBUG | vector::PAGE_FAULT) {
            fault.payload
        } else {
            0
        },
        instruction_length: if event.is_software() {
            event.length as u32
        } else {
            0
        },
        interruption_info: interruption_info(event) | if unblocked { NMI_UNBLOCKING } else { 0 },
        interruption_error_code: event.error_code.unwrap_or(0),
        busy_shadow_stack,
        rf: match (hardware, trap) {
            (true, false) => SavedRf::Set,
            (true, true) => SavedRf::Keep,
            _ => SavedRf::Clear,
        },
        cause,
        ..Exit::default()
    };
    Err(Stop::Exit)
}

/// Whether the exception bitmap wants an exception, and how so (SDM vol. 3, 26.2).
fn intercepted_exception(cpu: &Cpu, event: &Event) -> Option<Cause> {
    let bit = cpu.vmx.get(field::EXCEPTION_BITMAP) >> (event.vector & 31) & 1 != 0;
    if event.kind == EventKind::HardwareException && event.vector == vector::PAGE_FAULT {
        let error_code = event.error_code.unwrap_or(0);
        let mask = cpu.vmx.get(field::PAGE_FAULT_ERROR_CODE_MASK) as u32;
        let matching = cpu.vmx.get(field::PAGE_FAULT_ERROR_CODE_MATCH) as u32;
        let cause = Cause::PageFault {
            error_code,
            mask,
            matching,
            bit,
        };
        return (bit == (error_code & mask == matching)).then_some(cause);
    }
    let vector = event.vector;
    bit.then_some(Cause::ExceptionBitmap { vector })
}

/// "Instruction timeout": the processor comes to no instruction boundary (SDM vol. 3, 26.2). Its time is that of
/// `Cpu::icount`, in which nothing but exceptions whose delivery raises exceptions takes any.
pub fn instruction_timeout(cpu: &mut Cpu) -> Done {
    let window = cpu.vmx.get(field::INSTRUCTION_TIMEOUT_CONTROL);
    if !under_secondary(cpu, secondary::INSTRUCTION_TIMEOUT) || cpu.vmx.serial_exceptions <= window {
        return Ok(());
    }
    cpu.vmx.exit = Exit {
        reason: reason::INSTRUCTION_TIMEOUT as u32,
        rf: SavedRf::Keep,
        cause: Cause::InstructionTimeout { window },
        ..Exit::default()
    };
    Err(Stop::Exit)
}

/// A fault during the delivery of a double fault. Always exits in a guest; `Ok` outside one.
pub fn triple_fault(cpu: &mut Cpu, bus: &mut Bus) -> Done {
    if cpu.vmx.guest {
        cpu.vmx.exit = Exit {
            reason: reason::TRIPLE_FAULT as u32,
            rf: SavedRf::Keep,
            cause: Cause::Always,
            ..Exit::default()
        };
        return Err(Stop::Exit);
    }
    let vmcs = cpu.vmx.current().map(|vmcs| vmcs.address);
    cpu.vmx.record.failure = Some(Box::new(Recorded {
        outcome: Outcome::TripleFault {
            rip: cpu.rip,
            refused: cpu.vmx.record.refusal(),
        },
        clock: bus.clock,
        vmcs,
        judged: None,
        long_mode: cpu.long_mode(),
    }));
    bus.debug.events.push(events::Event {
        icount: bus.clock,
        vcpu: cpu.id as u32,
        kind: events::EventKind::TripleFault,
        vmcs,
        ..Default::default()
    });
    Ok(())
}

/// What starts a task switch; the numbers are those of the exit qualification (SDM vol. 3, table 28-2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TaskSwitch {
    Call = 0,
    Iret = 1,
    Jmp = 2,
    Gate = 3,
}

/// A task switch to TSS `selector`, whose descriptor has passed its checks. `length` is that of the instruction, 0 for
/// an event that is no instruction's. Always exits in a guest.
pub fn task_switch(cpu: &mut Cpu, source: TaskSwitch, selector: u16, length: u8) -> Done {
    if !cpu.vmx.guest {
        return Ok(());
    }
    cpu.vmx.exit = Exit {
        reason: reason::TASK_SWITCH as u32,
        qualification: selector as u64 | (source as u64) << 30,
        instruction_length: length as u32,
        rf: SavedRf::Keep,
        cause: Cause::Always,
        ..Exit::default()
    };
    Err(Stop::Exit)
}

/// IRET is about to run: says whether it ends blocking by NMI (or by virtual NMI).
pub fn iret_unblocks_nmi(cpu: &mut Cpu) -> bool {
    if !cpu.vmx.guest {
        return true;
    }
    let pins = cpu.vmx.controls.pin;
    let unblocks = pins & pin::NMI_EXITING == 0 || pins & pin::VIRTUAL_NMIS != 0;
    cpu.vmx.iret_unblocked = unblocks && cpu.nmi_blocked;
    unblocks
}

// Instructions that exit always, or by one control.

/// Those that exit without looking at an operand. Exits with `reason` where the controls say so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plain {
    Cpuid,
    Getsec,
    Hlt,
    Invd,
    Monitor,
    Rdpmc,
    Rdtsc,
    Rdtscp,
    Wbinvd,
    Xsetbv,
}

/// The exit reason of each, and the control that asks for it, if one does.
fn plain_row(which: Plain) -> (u16, Option<(Word, u64)>) {
    use {primary as p, secondary as s, Word::Primary, Word::Secondary};
    match which {
        Plain::Cpuid => (reason::CPUID, None),
        Plain::Getsec => (reason::GETSEC, None),
        Plain::Invd => (reason::INVD, None),
        Plain::Xsetbv => (reason::XSETBV, None),
        Plain::Hlt => (reason::HLT, Some((Primary, p::HLT_EXITING))),
        Plain::Monitor => (reason::MONITOR, Some((Primary, p::MONITOR_EXITING))),
        Plain::Rdpmc => (reason::RDPMC, Some((Primary, p::RDPMC_EXITING))),
        Plain::Rdtsc => (reason::RDTSC, Some((Primary, p::RDTSC_EXITING))),
        Plain::Rdtscp => (reason::RDTSCP, Some((Primary, p::RDTSC_EXITING))),
        Plain::Wbinvd => (reason::WBINVD, Some((Secondary, s::WBINVD_EXITING))),
    }
}

pub fn plain(cpu: &mut Cpu, insn: &Insn, which: Plain) -> Done {
    if !cpu.vmx.guest {
        return Ok(());
    }
    let (reason, control) = plain_row(which);
    let cause = match control {
        None => Cause::Always,
        Some((Word::Primary, bit)) if cpu.vmx.controls.primary & bit == 0 => return Ok(()),
        Some((Word::Secondary, bit)) if cpu.vmx.controls.secondary & bit == 0 => return Ok(()),
        Some((word, bit)) => Cause::Control(word, bit),
    };
    Err(exit(cpu, insn, reason, cause))
}

/// `armed`: there is a monitored line that nothing was stored to.
pub fn mwait(cpu: &mut Cpu, insn: &Insn, armed: bool) -> Done {
    if !under_primary(cpu, primary::MWAIT_EXITING) {
        return Ok(());
    }
    let cause = Cause::Control(Word::Primary, primary::MWAIT_EXITING);
    Err(exit_with(cpu, insn, reason::MWAIT, cause, armed as u64, 0))
}

/// PAUSE exiting, PAUSE-loop exiting.
pub fn pause(cpu: &mut Cpu, insn: &Insn) -> Done {
    if under_primary(cpu, primary::PAUSE_EXITING) {
        let cause = Cause::Control(Word::Primary, primary::PAUSE_EXITING);
        return Err(exit(cpu, insn, reason::PAUSE, cause));
    }
    if cpu.cpl == 0 && under_secondary(cpu, secondary::PAUSE_LOOP_EXITING) {
        return pause_in_loop(cpu, insn);
    }
    Ok(())
}

/// A loop is a run of PAUSEs no further than PLE_Gap apart; it exits once it is longer than PLE_Window (SDM vol. 3,
/// 26.1.3).
fn pause_in_loop(cpu: &mut Cpu, insn: &Insn) -> Done {
    let now = cpu.clock_at(insn);
    let (gap, window) = (cpu.vmx.get(field::PLE_GAP), cpu.vmx.get(field::PLE_WINDOW));
    let pauses = &mut cpu.vmx.pauses;
    match pauses {
        Some((first, last)) if now - *last <= gap => {
            *last = now;
            if now - *first <= window {
                return Ok(());
            }
        }
        _ => {
            *pauses = Some((now, now));
            return Ok(());
        }
    }
    let cause = Cause::Control(Word::Secondary, secondary::PAUSE_LOOP_EXITING);
    Err(exit(cpu, insn, reason::PAUSE, cause))
}

/// `linear`: the operand.
pub fn invlpg(cpu: &mut Cpu, insn: &Insn, linear: u64) -> Done {
    if !under_primary(cpu, primary::INVLPG_EXITING) {
        return Ok(());
    }
    let cause = Cause::Control(Word::Primary, primary::INVLPG_EXITING);
    Err(exit_with(cpu, insn, reason::INVLPG, cause, linear, 0))
}

/// "INVLPG exiting" with "enable INVPCID". #UD without the second is `offered`'s business.
pub fn invpcid(cpu: &mut Cpu, insn: &Insn) -> Done {
    if !under_primary(cpu, primary::INVLPG_EXITING) {
        return Ok(());
    }
    let cause = Cause::Control(Word::Primary, primary::INVLPG_EXITING);
    let displacement = operand::displacement(cpu, insn);
    let info = operand::invalidation(insn);
    Err(exit_with(cpu, insn, reason::INVPCID, cause, displacement, info))
}

/// SGDT, SIDT, LGDT, LIDT, SLDT, STR, LLDT, LTR under "descriptor-table exiting".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Table {
    Sgdt,
    Sidt,
    Lgdt,
    Lidt,
    Sldt,
    Str,
    Lldt,
    Ltr,
}

pub fn descriptor_table(cpu: &mut Cpu, insn: &Insn, which: Table) -> Done {
    if !under_secondary(cpu, secondary::DESCRIPTOR_TABLE_EXITING) {
        return Ok(());
    }
    let (reason, info) = match which {
        Table::Sgdt | Table::Sidt | Table::Lgdt | Table::Lidt => {
            let short = matches!(
                Code::try_from(insn.code as usize),
                Ok(Code::Sgdt_m1632_16 | Code::Sidt_m1632_16 | Code::Lgdt_m1632_16 | Code::Lidt_m1632_16)
            );
            let identity = which as u32;
            (
                reason::GDTR_IDTR_ACCESS,
                operand::table_register(insn, !short, identity),
            )
        }
        Table::Sldt | Table::Str | Table::Lldt | Table::Ltr => {
            let identity = which as u32 - Table::Sldt as u32;
            (reason::LDTR_TR_ACCESS, operand::selector_register(insn, identity))
        }
    };
    let cause = Cause::Control(Word::Secondary, secondary::DESCRIPTOR_TABLE_EXITING);
    let displacement = operand::displacement(cpu, insn);
    Err(exit_with(cpu, insn, reason, cause, displacement, info))
}

/// Instructions that are #UD in a guest unless a control enables them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Optional {
    Rdtscp,
    Rdpid,
    Invpcid,
    Xsaves,
    UserWait,
}

/// False where the guest must see #UD.
pub fn offered(cpu: &Cpu, which: Optional) -> bool {
    let bit = match which {
        Optional::Rdtscp | Optional::Rdpid => secondary::ENABLE_RDTSCP,
        Optional::Invpcid => secondary::ENABLE_INVPCID,
        Optional::Xsaves => secondary::ENABLE_XSAVES,
        Optional::UserWait => secondary::ENABLE_USER_WAIT_AND_PAUSE,
    };
    !cpu.vmx.guest || cpu.vmx.controls.secondary & bit != 0
}

/// XSAVES, or XRSTORS where `restore`: exits where a component that IA32_XSS enables is asked for and the XSS-exiting
/// bitmap has it.
pub fn supervisor_state(cpu: &mut Cpu, insn: &Insn, restore: bool) -> Done {
    if !cpu.vmx.guest {
        return Ok(());
    }
    let bits = cpu.halves() & cpu.msr.xss & cpu.vmx.get(field::XSS_EXITING_BITMAP);
    if bits == 0 {
        return Ok(());
    }
    let reason = if restore { reason::XRSTORS } else { reason::XSAVES };
    let displacement = operand::displacement(cpu, insn);
    let info = operand::pointer(insn);
    Err(exit_with(
        cpu,
        insn,
        reason,
        Cause::XssBitmap { bits },
        displacement,
        info,
    ))
}

/// UMWAIT and TPAUSE under "RDTSC exiting".
pub fn user_wait(cpu: &mut Cpu, insn: &Insn, reason: u16) -> Done {
    if !under_primary(cpu, primary::RDTSC_EXITING) {
        return Ok(());
    }
    let bytes = match Code::try_from(insn.code as usize) {
        Ok(Code::Umwait_r64 | Code::Tpause_r64) => 8,
        _ => 4,
    };
    let cause = Cause::Control(Word::Primary, primary::RDTSC_EXITING);
    let info = operand::register_of_size(insn.r[0], bytes);
    Err(exit_with(cpu, insn, reason, cause, 0, info))
}

/// RDRAND and RDSEED; `seed` for the second.
pub fn random(cpu: &mut Cpu, insn: &Insn, seed: bool) -> Done {
    let (reason, bit) = if seed {
        (reason::RDSEED, secondary::RDSEED_EXITING)
    } else {
        (reason::RDRAND, secondary::RDRAND_EXITING)
    };
    if !under_secondary(cpu, bit) {
        return Ok(());
    }
    let bytes = match Code::try_from(insn.code as usize) {
        Ok(Code::Rdrand_r16 | Code::Rdseed_r16) => 2,
        Ok(Code::Rdrand_r32 | Code::Rdseed_r32) => 4,
        _ => 8,
    };
    let info = operand::register_of_size(insn.r[0], bytes);
    Err(exit_with(
        cpu,
        insn,
        reason,
        Cause::Control(Word::Secondary, bit),
        0,
        info,
    ))
}

// Control and debug registers, MSRs, I/O.

/// The guest/host mask and the read shadow of a control register.
fn mask_and_shadow(cpu: &Cpu, cr: u8) -> (u64, u64) {
    let [mask, shadow]: [Field; 2] = if cr == 0 {
        [field::CR0_GUEST_HOST_MASK, field::CR0_READ_SHADOW]
    } else {
        [field::CR4_GUEST_HOST_MASK, field::CR4_READ_SHADOW]
    };
    (cpu.vmx.get(mask), cpu.vmx.get(shadow))
}

/// Access types in the exit qualification of a control-register access (SDM vol. 3, table 28-3).
const MOV_FROM: u64 = 1 << 4;
const CLTS: u64 = 2 << 4;
const LMSW: u64 = 3 << 4;
const LMSW_FROM_MEMORY: u64 = 1 << 6;

fn cr_exit(cpu: &mut Cpu, insn: &Insn, cr: u8, access: u64, gpr: u8, cause: Cause) -> Stop {
    let qualification = cr as u64 | access | (gpr as u64) << 8;
    exit_with(cpu, insn, reason::CR_ACCESS, cause, qualification, 0)
}

/// MOV to CR0, CR3 or CR4 from general-purpose register `gpr`: exits, or gives the value to load: bits that the host
/// owns keep what the register holds now.
pub fn write_cr(cpu: &mut Cpu, insn: &Insn, cr: u8, gpr: u8, value: u64) -> Result<u64, Stop> {
    if !cpu.vmx.guest {
        return Ok(value);
    }
    if cr == 3 {
        if cpu.vmx.controls.primary & primary::CR3_LOAD_EXITING == 0 {
            return Ok(value);
        }
        let count = cpu.vmx.get(field::CR3_TARGET_COUNT);
        let targets = [
            field::CR3_TARGET_VALUE0,
            field::CR3_TARGET_VALUE1,
            field::CR3_TARGET_VALUE2,
            field::CR3_TARGET_VALUE3,
        ];
        if targets
            .iter()
            .take(count as usize)
            .any(|target| cpu.vmx.get(*target) == value)
        {
            return Ok(value);
        }
        return Err(cr_exit(cpu, insn, cr, 0, gpr, Cause::Cr3Targets { value, count }));
    }
    let (mask, shadow) = mask_and_shadow(cpu, cr);
    if (value ^ shadow) & mask != 0 {
        let cause = Cause::CrMask {
            cr,
            mask,
            shadow,
            value,
        };
        return Err(cr_exit(cpu, insn, cr, 0, gpr, cause));
    }
    let now = if cr == 0 { cpu.cr0 } else { cpu.cr4 };
    Ok(value & !mask | now & mask)
}

/// MOV from CR0, CR3 or CR4: exits, or gives what the guest reads: bits that the host owns come from the read shadow.
/// SMSW (which never exits) takes its CR0 from `visible_cr0`.
pub fn read_cr(cpu: &mut Cpu, insn: &Insn, cr: u8, gpr: u8, value: u64) -> Result<u64, Stop> {
    if !cpu.vmx.guest {
        return Ok(value);
    }
    if cr == 3 {
        if cpu.vmx.controls.primary & primary::CR3_STORE_EXITING == 0 {
            return Ok(value);
        }
        let cause = Cause::Control(Word::Primary, primary::CR3_STORE_EXITING);
        return Err(cr_exit(cpu, insn, cr, MOV_FROM, gpr, cause));
    }
    let (mask, shadow) = mask_and_shadow(cpu, cr);
    Ok(value & !mask | shadow & mask)
}

pub fn visible_cr0(cpu: &Cpu) -> u64 {
    if !cpu.vmx.guest {
        return cpu.cr0;
    }
    let (mask, shadow) = mask_and_shadow(cpu, 0);
    cpu.cr0 & !mask | shadow & mask
}

/// Whether the running guest may clear CR0.PE and CR0.PG, which VMX operation fixes elsewhere.
pub fn unrestricted(cpu: &Cpu) -> bool {
    under_secondary(cpu, secondary::UNRESTRICTED_GUEST)
}

/// True: clear CR0.TS; false: CLTS does nothing.
pub fn clts(cpu: &mut Cpu, insn: &Insn) -> Result<bool, Stop> {
    if !cpu.vmx.guest {
        return Ok(true);
    }
    let (mask, shadow) = mask_and_shadow(cpu, 0);
    if mask & shadow & CR0_TS != 0 {
        let cause = Cause::CrMask {
            cr: 0,
            mask,
            shadow,
            value: shadow & !CR0_TS,
        };
        return Err(cr_exit(cpu, insn, 0, CLTS, 0, cause));
    }
    Ok(mask & CR0_TS == 0)
}

/// LMSW of `source`, from memory at `linear` or from a register; gives the CR0 to load, as `write_cr` does, of
/// `value`, which is CR0 with the bits of `source` put in.
pub fn lmsw(cpu: &mut Cpu, insn: &Insn, source: u16, linear: Option<u64>, value: u64) -> Result<u64, Stop> {
    if !cpu.vmx.guest {
        return Ok(value);
    }
    let (mask, shadow) = mask_and_shadow(cpu, 0);
    let operand = source as u64 & (CR0_PE | CR0_MP | CR0_EM | CR0_TS);
    let mut differing = (operand ^ shadow) & mask & (CR0_MP | CR0_EM | CR0_TS);
    // LMSW can set PE and never clears it.
    differing |= operand & !shadow & mask & CR0_PE;
    if differing == 0 {
        return Ok(value & !mask | cpu.cr0 & mask);
    }
    let memory = if linear.is_some() { LMSW_FROM_MEMORY } else { 0 };
    let cause = Cause::CrMask {
        cr: 0,
        mask,
        shadow,
        value: shadow ^ differing,
    };
    let qualification = LMSW | memory | (source as u64) << 16;
    let stop = exit_with(cpu, insn, reason::CR_ACCESS, cause, qualification, 0);
    cpu.vmx.exit.guest_linear = linear.unwrap_or(0);
    Err(stop)
}

/// MOV to CR8: exits, or true where the TPR shadow took the value (4 bits, checked).
pub fn write_cr8(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn, gpr: u8, value: u64) -> Result<bool, Stop> {
    if under_primary(cpu, primary::CR8_LOAD_EXITING) {
        let cause = Cause::Control(Word::Primary, primary::CR8_LOAD_EXITING);
        return Err(cr_exit(cpu, insn, 8, 0, gpr, cause));
    }
    if !under_primary(cpu, primary::USE_TPR_SHADOW) {
        return Ok(false);
    }
    VirtualApic::of(cpu).write(bus, apic::registers::TPR, (value << 4) as u32 & 0xf0);
    apic::interrupts::virtualize_tpr(cpu, bus);
    Ok(true)
}

/// MOV from CR8: exits, or gives the TPR shadow's value where there is one.
pub fn read_cr8(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn, gpr: u8) -> Result<Option<u64>, Stop> {
    if under_primary(cpu, primary::CR8_STORE_EXITING) {
        let cause = Cause::Control(Word::Primary, primary::CR8_STORE_EXITING);
        return Err(cr_exit(cpu, insn, 8, MOV_FROM, gpr, cause));
    }
    if !under_primary(cpu, primary::USE_TPR_SHADOW) {
        return Ok(None);
    }
    Ok(Some(VirtualApic::of(cpu).task_priority_class(bus) as u64))
}

/// MOV to or from DR `number`. Comes before #GP by DR7.GD's #DB and after #UD and CPL.
pub fn mov_dr(cpu: &mut Cpu, insn: &Insn, number: u8, gpr: u8, read: bool) -> Done {
    if !under_primary(cpu, primary::MOV_DR_EXITING) {
        return Ok(());
    }
    let cause = Cause::Control(Word::Primary, primary::MOV_DR_EXITING);
    let qualification = number as u64 | (read as u64) << 4 | (gpr as u64) << 8;
    Err(exit_with(cpu, insn, reason::MOV_DR, cause, qualification, 0))
}

/// RDMSR: exits, or gives the value where VMX supplies it (virtual x2APIC), or `None`.
pub fn rdmsr(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn, msr: u32) -> Result<Option<u64>, Stop> {
    match msr_cause(cpu, bus, msr, false) {
        Some(cause) => Err(exit(cpu, insn, reason::RDMSR, cause)),
        None => Ok(apic::msr::read(cpu, bus, msr)),
    }
}

/// WRMSR: exits, or true where VMX took the write.
pub fn wrmsr(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn, msr: u32, value: u64) -> Result<bool, Stop> {
    match msr_cause(cpu, bus, msr, true) {
        Some(cause) => Err(exit(cpu, insn, reason::WRMSR, cause)),
        None => apic::msr::write(cpu, bus, msr, value),
    }
}

/// Where bits for writes and for MSRs from C0000000H on begin in an MSR bitmap (SDM vol. 3, 25.6.9).
const MSR_BITMAP_HIGH: u64 = 0x400;
const MSR_BITMAP_WRITE: u64 = 0x800;

fn msr_cause(cpu: &Cpu, bus: &mut Bus, msr: u32, write: bool) -> Option<Cause> {
    if !cpu.vmx.guest {
        return None;
    }
    if cpu.vmx.controls.primary & primary::USE_MSR_BITMAPS == 0 {
        return Some(Cause::ControlClear(Word::Primary, primary::USE_MSR_BITMAPS));
    }
    let half = match msr {
        0..=0x1fff => 0,
        0xc000_0000..=0xc000_1fff => MSR_BITMAP_HIGH,
        _ => return Some(Cause::MsrOutside { msr }),
    };
    let number = (msr & 0x1fff) as u64;
    let part = if write { MSR_BITMAP_WRITE } else { 0 };
    let byte = cpu.vmx.get(field::MSR_BITMAP) + part + half + number / 8;
    let bit = (number & 7) as u8;
    let set = bus.read_physical(cpu.id, byte, 1) >> bit & 1 != 0;
    set.then_some(Cause::MsrBitmap {
        byte,
        bit,
        msr,
        write,
    })
}

/// One access of an I/O instruction.
#[derive(Clone, Copy, Debug)]
pub struct Io {
    pub port: u16,
    /// 1, 2 or 4 bytes.
    pub bytes: u8,
    pub input: bool,
    pub rep: bool,
    /// The port is an immediate.
    pub immediate: bool,
    /// INS, OUTS: the linear address of the memory operand.
    pub string: Option<u64>,
}

pub fn io(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn, access: Io) -> Done {
    if !cpu.vmx.guest {
        return Ok(());
    }
    let cause = if cpu.vmx.controls.primary & primary::USE_IO_BITMAPS != 0 {
        io_bitmap_cause(cpu, bus, &access)
    } else if cpu.vmx.controls.primary & primary::UNCONDITIONAL_IO_EXITING != 0 {
        Some(Cause::Control(Word::Primary, primary::UNCONDITIONAL_IO_EXITING))
    } else {
        None
    };
    let Some(cause) = cause else {
        return Ok(());
    };
    let flag = |on: bool, bit: u64| if on { 1 << bit } else { 0 };
    let qualification = (access.bytes as u64 - 1) & 7
        | flag(access.input, 3)
        | flag(access.string.is_some(), 4)
        | flag(access.rep, 5)
        | flag(access.immediate, 6)
        | (access.port as u64) << 16;
    let info = match access.string {
        Some(_) => operand::string_io(insn, access.input),
        None => 0,
    };
    let stop = exit_with(cpu, insn, reason::IO_INSTRUCTION, cause, qualification, info);
    cpu.vmx.exit.guest_linear = access.string.unwrap_or(0);
    Err(stop)
}

/// SDM vol. 3, 25.6.4: an access to several ports exits if any of their bits is 1, or if it wraps.
fn io_bitmap_cause(cpu: &Cpu, bus: &mut Bus, access: &Io) -> Option<Cause> {
    for offset in 0..access.bytes as u16 {
        let Some(port) = access.port.checked_add(offset) else {
            return Some(Cause::IoWrap { port: access.port });
        };
        let bitmap = if port & 0x8000 == 0 {
            field::IO_BITMAP_A
        } else {
            field::IO_BITMAP_B
        };
        let number = (port & 0x7fff) as u64;
        let byte = cpu.vmx.get(bitmap) + number / 8;
        let bit = (number & 7) as u8;
        if bus.read_physical(cpu.id, byte, 1) >> bit & 1 != 0 {
            return Some(Cause::IoBitmap { byte, bit, port });
        }
    }
    None
}

// What a guest sees of time and translation.

/// The TSC as the guest reads it, of `host`, the processor's: offset and scaling (SDM vol. 3, 26.3 and 25.6.5).
pub fn guest_tsc(cpu: &Cpu, host: u64) -> u64 {
    if !under_primary(cpu, primary::USE_TSC_OFFSETTING) {
        return host;
    }
    let scaled = match tsc_multiplier(cpu) {
        Some(multiplier) => (host as u128 * multiplier as u128 >> 48) as u64,
        None => host,
    };
    scaled.wrapping_add(cpu.vmx.get(field::TSC_OFFSET))
}

/// A delay by the running program's time-stamp counter, in ticks of the processor's own (SDM vol. 3, 26.3: the virtual and
/// the physical delay of TPAUSE and UMWAIT).
pub fn host_delay(cpu: &Cpu, delay: u64) -> u64 {
    match tsc_multiplier(cpu) {
        Some(multiplier) => {
            u64::try_from(((delay as u128) << 48) / multiplier.max(1) as u128).unwrap_or(u64::MAX)
        }
        None => delay,
    }
}

/// What the guest's time-stamp counter is scaled by, in units of 2^-48.
fn tsc_multiplier(cpu: &Cpu) -> Option<u64> {
    let scaled =
        under_primary(cpu, primary::USE_TSC_OFFSETTING) && under_secondary(cpu, secondary::USE_TSC_SCALING);
    scaled.then(|| cpu.vmx.get(field::TSC_MULTIPLIER))
}

/// The VPID and bits 51:12 of the EPT pointer that translations are cached under; 0 where there is none.
pub fn translation_tag(cpu: &Cpu) -> (u16, u64) {
    if !cpu.vmx.guest {
        return (0, 0);
    }
    let Some(pointer) = cpu.vmx.ept_pointer else {
        return (cpu.vmx.vpid, 0);
    };
    // The levels are bits 5:3 of the pointer itself, accessed and dirty flags bit 6.
    let by_mode = cpu.vmx.controls.secondary & secondary::MODE_BASED_EXECUTE_CONTROL_FOR_EPT != 0;
    (cpu.vmx.vpid, pointer & 0x000f_ffff_ffff_f078 | by_mode as u64)
}
