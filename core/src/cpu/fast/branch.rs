//! Near branches of 64-bit mode.

use super::operand::{load, Input};
use super::plain_or_exact;
use super::transfer::push_value;
use crate::cpu::insn::Insn;
use crate::cpu::{Cpu, Done, BLOCK_RIP, RSP};
use crate::platform::Bus;

/// What RIP agrees with in these upper bits is canonical as RIP is, with 48-bit and with 57-bit linear addresses.
const CANONICAL: u32 = 46;

#[inline(always)]
fn go(cpu: &mut Cpu, target: u64) -> Option<()> {
    if (target ^ cpu.regs[BLOCK_RIP]) >> CANONICAL != 0 {
        return None;
    }
    cpu.rip = target;
    Some(())
}

#[inline(always)]
fn target(cpu: &Cpu, insn: &Insn) -> u64 {
    cpu.regs[BLOCK_RIP].wrapping_add(insn.imm)
}

#[inline(always)]
fn next(cpu: &Cpu, insn: &Insn) -> u64 {
    cpu.regs[BLOCK_RIP].wrapping_add(insn.offset as u64 + insn.length as u64)
}

pub fn jcc<const CONDITION: u8>(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn, rest: &[Insn]) -> Done {
    let done = if cpu.flags.condition::<CONDITION>() {
        go(cpu, target(cpu, insn))
    } else {
        cpu.rip = next(cpu, insn);
        Some(())
    };
    plain_or_exact!(cpu, bus, insn, rest, done)
}

pub fn jmp(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn, rest: &[Insn]) -> Done {
    let done = go(cpu, target(cpu, insn));
    plain_or_exact!(cpu, bus, insn, rest, done)
}

pub fn jmp_indirect<S: Input>(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn, rest: &[Insn]) -> Done {
    let done = S::get::<u64>(cpu, bus, insn).and_then(|target| go(cpu, target));
    plain_or_exact!(cpu, bus, insn, rest, done)
}

#[inline(always)]
fn call_to(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn, target: u64) -> Option<()> {
    let (old, back) = (cpu.rip, next(cpu, insn));
    go(cpu, target)?;
    let pushed = push_value(cpu, bus, back);
    if pushed.is_none() {
        cpu.rip = old;
    }
    pushed
}

pub fn call(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn, rest: &[Insn]) -> Done {
    let done = call_to(cpu, bus, insn, target(cpu, insn));
    plain_or_exact!(cpu, bus, insn, rest, done)
}

pub fn call_indirect<S: Input>(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn, rest: &[Insn]) -> Done {
    let done = S::get::<u64>(cpu, bus, insn).and_then(|target| call_to(cpu, bus, insn, target));
    plain_or_exact!(cpu, bus, insn, rest, done)
}

pub fn ret(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn, rest: &[Insn]) -> Done {
    let done = load::<u64>(cpu, bus, cpu.regs[RSP])
        .and_then(|target| go(cpu, target))
        .map(|()| {
            // RET imm16 releases that many bytes more; without one the immediate is 0.
            cpu.regs[RSP] = cpu.regs[RSP].wrapping_add(8).wrapping_add(insn.imm & 0xffff);
        });
    plain_or_exact!(cpu, bus, insn, rest, done)
}
