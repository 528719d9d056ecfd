//! Fast system calls: SYSCALL and SYSRET, SYSENTER and SYSEXIT (SDM vol. 3, 5.8.7 and 5.8.8).

use iced_x86::Mnemonic as Mn;

use crate::cpu::bits::*;
use crate::cpu::debug_registers::DR6_SINGLE_STEP;
use crate::cpu::decode::{Flow, Group};
use crate::cpu::descriptor::is_null;
use crate::cpu::flags;
use crate::cpu::insn::Insn;
use crate::cpu::segment::{Segment, CS, SS};
use crate::cpu::{Cpu, Done, R11, RCX, RDX, RSP};
use crate::platform::Bus;

/// Rights of the flat segments that these instructions load; DPL is added.
const CODE64: u32 = 0xa09b;
const CODE32: u32 = 0xc09b;
const DATA: u32 = 0xc093;

/// What SYSRET takes over from R11.
const SYSRET_FLAGS: u64 = flags::DEFINED & !(flags::RF | flags::VM);

/// Loads CS and SS with flat segments of privilege level `cpl`.
fn set_segments(cpu: &mut Cpu, code: u16, code_rights: u32, stack: u16, cpl: u8) {
    let level = cpl as u16;
    let dpl = (cpl as u32) << 5;
    cpu.seg[CS] = Segment::flat(code & !3 | level, code_rights | dpl);
    cpu.seg[SS] = Segment::flat(stack & !3 | level, DATA | dpl);
    cpu.cpl = cpl;
}

fn syscall(cpu: &mut Cpu, _: &mut Bus, insn: &Insn) -> Done {
    if !cpu.long64() || cpu.efer & EFER_SCE == 0 {
        return Err(cpu.invalid_opcode());
    }
    cpu.regs[RCX] = cpu.next_ip(insn);
    cpu.regs[R11] = cpu.flags.get() & !flags::RF;
    cpu.rip = cpu.msr.lstar;
    cpu.shadow_system_call();
    let selector = (cpu.msr.star >> 32) as u16;
    set_segments(cpu, selector, CODE64, selector.wrapping_add(8), 0);
    let new = cpu.flags.get() & !(cpu.msr.fmask | flags::RF);
    cpu.flags.set(new);
    cpu.no_trap = !cpu.flags.has(flags::TF);
    cpu.update_mode();
    cpu.track_far();
    Ok(())
}

fn sysret<const LONG: bool>(cpu: &mut Cpu, _: &mut Bus, _: &Insn) -> Done {
    if !cpu.long64() || cpu.efer & EFER_SCE == 0 {
        return Err(cpu.invalid_opcode());
    }
    let target = if LONG {
        cpu.regs[RCX]
    } else {
        cpu.regs[RCX] & 0xffff_ffff
    };
    if cpu.cpl != 0 || !cpu.canonical(target) {
        return Err(cpu.general_protection(0));
    }
    let selector = (cpu.msr.star >> 48) as u16;
    let (code, rights) = if LONG {
        (selector.wrapping_add(16), CODE64)
    } else {
        (selector, CODE32)
    };
    set_segments(cpu, code, rights, selector.wrapping_add(8), 3);
    cpu.rip = target;
    cpu.flags.set(cpu.regs[R11] & SYSRET_FLAGS);
    // Unlike IRET and POPF, SYSRET traps at once when it sets TF.
    if cpu.flags.has(flags::TF) {
        cpu.pending_debug |= DR6_SINGLE_STEP;
    }
    cpu.shadow_system_return();
    cpu.update_mode();
    Ok(())
}

fn sysenter(cpu: &mut Cpu, _: &mut Bus, _: &Insn) -> Done {
    let selector = cpu.msr.sysenter_cs as u16;
    if !cpu.protected() || is_null(selector) {
        return Err(cpu.general_protection(0));
    }
    let (rights, mask) = if cpu.long_mode() {
        (CODE64, !0)
    } else {
        (CODE32, 0xffff_ffff)
    };
    cpu.shadow_system_call();
    cpu.flags.rest &= !(flags::VM | flags::IF | flags::RF);
    cpu.regs[RSP] = cpu.msr.sysenter_esp & mask;
    cpu.rip = cpu.msr.sysenter_eip & mask;
    set_segments(cpu, selector, rights, (selector & !3).wrapping_add(8), 0);
    cpu.update_mode();
    cpu.track_far();
    Ok(())
}

fn sysexit<const LONG: bool>(cpu: &mut Cpu, _: &mut Bus, _: &Insn) -> Done {
    let selector = cpu.msr.sysenter_cs as u16 & !3;
    if !cpu.protected() || is_null(selector) || cpu.cpl != 0 {
        return Err(cpu.general_protection(0));
    }
    let mask = if LONG { !0 } else { 0xffff_ffff };
    let (ip, pointer) = (cpu.regs[RDX] & mask, cpu.regs[RCX] & mask);
    if LONG && !(cpu.canonical(ip) && cpu.canonical(pointer)) {
        return Err(cpu.general_protection(0));
    }
    let (code, rights) = if LONG {
        (selector.wrapping_add(32), CODE64)
    } else {
        (selector.wrapping_add(16), CODE32)
    };
    set_segments(cpu, code, rights, code.wrapping_add(8), 3);
    cpu.rip = ip;
    cpu.regs[RSP] = pointer;
    cpu.shadow_system_return();
    cpu.update_mode();
    Ok(())
}

pub static ROWS: Group = &[
    (Mn::Syscall, |_| Some(syscall), Flow::AloneBranch),
    (Mn::Sysret, |_| Some(sysret::<false>), Flow::AloneBranch),
    (Mn::Sysretq, |_| Some(sysret::<true>), Flow::AloneBranch),
    (Mn::Sysenter, |_| Some(sysenter), Flow::AloneBranch),
    (Mn::Sysexit, |_| Some(sysexit::<false>), Flow::AloneBranch),
    (Mn::Sysexitq, |_| Some(sysexit::<true>), Flow::AloneBranch),
];
