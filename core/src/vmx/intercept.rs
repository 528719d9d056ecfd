//! What instructions and events ask of VMX in a guest (SDM vol. 3, 26.1 to 26.4). The callers have made the checks that
//! come before a VM exit (26.1.1: #UD, privilege, the TSS's I/O bitmap) and make the others after.
//!
//! Each function returns at once outside VMX non-root operation. `Err(Stop::Exit)` asks for the exit described by
//! `cpu.vmx.exit`.

use crate::cpu::exception::{Event, Fault};
use crate::cpu::insn::Insn;
use crate::cpu::{Cpu, Done, Stop};
use crate::platform::Bus;

// Events.

/// `fault` is about to be delivered; `vectoring` is the event whose delivery raised it, if one did. Exits where the
/// exception bitmap and the page-fault masks say so. External interrupts and NMIs come here too: `boundary` has let
/// them through.
pub fn event(_cpu: &mut Cpu, _bus: &mut Bus, _fault: &Fault, _vectoring: Option<Event>) -> Done {
    Ok(())
}

/// A fault during the delivery of a double fault. Always exits in a guest; `Ok` outside one.
pub fn triple_fault(_cpu: &mut Cpu, _bus: &mut Bus) -> Done {
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
pub fn task_switch(_cpu: &mut Cpu, _source: TaskSwitch, _selector: u16, _length: u8) -> Done {
    Ok(())
}

/// IRET is about to run: says whether it ends blocking by NMI (or by virtual NMI).
pub fn iret_unblocks_nmi(_cpu: &mut Cpu) -> bool {
    true
}

// Instructions that exit always, or by one control.

/// Those that exit without looking at an operand. Exits with `reason` where the controls say so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plain {
    Cpuid,
    Getsec,
    Hlt,
    Invd,
    Mwait,
    Monitor,
    Rdpmc,
    Rdtsc,
    Rdtscp,
    Wbinvd,
    Xsetbv,
}

pub fn plain(_cpu: &mut Cpu, _insn: &Insn, _which: Plain) -> Done {
    Ok(())
}

/// PAUSE exiting, PAUSE-loop exiting.
pub fn pause(_cpu: &mut Cpu, _bus: &mut Bus, _insn: &Insn) -> Done {
    Ok(())
}

/// `linear`: the operand.
pub fn invlpg(_cpu: &mut Cpu, _insn: &Insn, _linear: u64) -> Done {
    Ok(())
}

/// "INVLPG exiting" with "enable INVPCID". #UD without the second is `offered`'s business.
pub fn invpcid(_cpu: &mut Cpu, _insn: &Insn) -> Done {
    Ok(())
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

pub fn descriptor_table(_cpu: &mut Cpu, _insn: &Insn, _which: Table) -> Done {
    Ok(())
}

/// Instructions that are #UD in a guest unless a control enables them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Optional {
    Rdtscp,
    Rdpid,
    Invpcid,
    Xsaves,
    Tpause,
}

/// False where the guest must see #UD.
pub fn offered(_cpu: &Cpu, _which: Optional) -> bool {
    true
}

/// RDRAND and RDSEED; `seed` for the second.
pub fn random(_cpu: &mut Cpu, _insn: &Insn, _seed: bool) -> Done {
    Ok(())
}

// Control and debug registers, MSRs, I/O.

/// MOV to CR0, CR3 or CR4 from general-purpose register `gpr`: exits, or gives the value to load: bits that the host
/// owns keep what the register holds now.
pub fn write_cr(_cpu: &mut Cpu, _insn: &Insn, _cr: u8, _gpr: u8, value: u64) -> Result<u64, Stop> {
    Ok(value)
}

/// MOV from CR0, CR3 or CR4: exits, or gives what the guest reads: bits that the host owns come from the read shadow.
/// SMSW (which never exits) takes its CR0 from `visible_cr0`.
pub fn read_cr(_cpu: &mut Cpu, _insn: &Insn, _cr: u8, _gpr: u8, value: u64) -> Result<u64, Stop> {
    Ok(value)
}

pub fn visible_cr0(cpu: &Cpu) -> u64 {
    cpu.cr0
}

/// Whether the running guest may clear CR0.PE and CR0.PG, which VMX operation fixes elsewhere.
pub fn unrestricted(_cpu: &Cpu) -> bool {
    false
}

/// True: clear CR0.TS; false: CLTS does nothing.
pub fn clts(_cpu: &mut Cpu, _insn: &Insn) -> Result<bool, Stop> {
    Ok(true)
}

/// LMSW of `source`, from memory at `linear` or from a register; gives the CR0 to load, as `write_cr` does, of
/// `value`, which is CR0 with the bits of `source` put in.
pub fn lmsw(
    _cpu: &mut Cpu,
    _insn: &Insn,
    _source: u16,
    _linear: Option<u64>,
    value: u64,
) -> Result<u64, Stop> {
    Ok(value)
}

/// MOV to CR8: exits, or true where the TPR shadow took the value (4 bits, checked).
pub fn write_cr8(_cpu: &mut Cpu, _bus: &mut Bus, _insn: &Insn, _gpr: u8, _value: u64) -> Result<bool, Stop> {
    Ok(false)
}

/// MOV from CR8: exits, or gives the TPR shadow's value where there is one.
pub fn read_cr8(_cpu: &mut Cpu, _bus: &mut Bus, _insn: &Insn, _gpr: u8) -> Result<Option<u64>, Stop> {
    Ok(None)
}

/// MOV to or from DR `number`. Comes before #GP by DR7.GD's #DB and after #UD and CPL.
pub fn mov_dr(_cpu: &mut Cpu, _insn: &Insn, _number: u8, _gpr: u8, _read: bool) -> Done {
    Ok(())
}

/// RDMSR: exits, or gives the value where VMX supplies it (virtual x2APIC), or `None`.
pub fn rdmsr(_cpu: &mut Cpu, _bus: &mut Bus, _insn: &Insn, _msr: u32) -> Result<Option<u64>, Stop> {
    Ok(None)
}

/// WRMSR: exits, or true where VMX took the write.
pub fn wrmsr(_cpu: &mut Cpu, _bus: &mut Bus, _insn: &Insn, _msr: u32, _value: u64) -> Result<bool, Stop> {
    Ok(false)
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

pub fn io(_cpu: &mut Cpu, _bus: &mut Bus, _insn: &Insn, _access: Io) -> Done {
    Ok(())
}

// What a guest sees of time and translation.

/// The TSC as the guest reads it, of `host`, the processor's: offset and scaling.
pub fn guest_tsc(_cpu: &Cpu, host: u64) -> u64 {
    host
}

/// The VPID and bits 51:12 of the EPT pointer that translations are cached under; 0 where there is none.
pub fn translation_tag(_cpu: &Cpu) -> (u16, u64) {
    (0, 0)
}
