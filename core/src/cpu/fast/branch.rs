//! Near branches of 64-bit mode.

use super::operand::{load, Input};
use super::transfer::push_value;
use super::{detour, go_on};
use crate::cpu::exec::alu::Compute;
use crate::cpu::insn::Insn;
use crate::cpu::int::Int;
use crate::cpu::{Cpu, Done, Stop, BLOCK_RIP, RSP};
use crate::platform::Bus;

/// What RIP agrees with in these upper bits is canonical as RIP is, with 48-bit and with 57-bit linear addresses.
const CANONICAL: u32 = 46;

#[inline(always)]
fn is_near(cpu: &Cpu, target: u64) -> bool {
    (target ^ cpu.regs[BLOCK_RIP]) >> CANONICAL == 0
}

#[inline(always)]
fn go(cpu: &mut Cpu, target: u64) -> Option<()> {
    if !is_near(cpu, target) {
        return None;
    }
    cpu.rip = target;
    Some(())
}

/// What is no Jcc is the last instruction of its block.
#[inline(always)]
fn end(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn, rest: &[Insn], done: Option<()>) -> Done {
    match done {
        Some(()) => Ok(()),
        None => detour(cpu, bus, insn, rest),
    }
}

#[inline(always)]
fn target(cpu: &Cpu, insn: &Insn) -> u64 {
    cpu.regs[BLOCK_RIP].wrapping_add(insn.imm)
}

#[inline(always)]
fn next(cpu: &Cpu, insn: &Insn) -> u64 {
    cpu.regs[BLOCK_RIP].wrapping_add(insn.offset as u64 + insn.length as u64)
}

/// A Jcc: the block goes on after it.
#[inline(always)]
fn branch_if(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn, rest: &[Insn], condition: bool) -> Done {
    if !condition {
        return fall_through(cpu, bus, insn, rest);
    }
    match go(cpu, target(cpu, insn)) {
        Some(()) => taken(cpu, insn),
        None => exact_jcc(cpu, bus, insn, rest),
    }
}

#[inline(always)]
fn fall_through(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn, rest: &[Insn]) -> Done {
    if rest.is_empty() {
        cpu.rip = next(cpu, insn);
    }
    go_on(cpu, bus, rest)
}

#[inline(always)]
fn taken(cpu: &mut Cpu, insn: &Insn) -> Done {
    cpu.stopped_at = insn.position;
    Err(Stop::Taken)
}

#[cold]
#[inline(never)]
fn exact_jcc(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn, rest: &[Insn]) -> Done {
    match (insn.run)(cpu, bus, insn) {
        Ok(()) if cpu.rip == next(cpu, insn) => fall_through(cpu, bus, insn, rest),
        Ok(()) => taken(cpu, insn),
        Err(stop) => {
            cpu.stopped_at = insn.position;
            Err(stop)
        }
    }
}

pub fn jcc<const CONDITION: u8>(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn, rest: &[Insn]) -> Done {
    let condition = cpu.flags.condition::<CONDITION>();
    branch_if(cpu, bus, insn, rest, condition)
}

/// An instruction that sets flags by two operands that are not in memory, and the Jcc after it.
pub fn compare_and_jcc<T: Int, C: Compute, A: Input, B: Input, const CONDITION: u8>(
    cpu: &mut Cpu,
    bus: &mut Bus,
    insn: &Insn,
    rest: &[Insn],
) -> Done {
    let operands = A::get::<T>(cpu, bus, insn).zip(B::get::<T>(cpu, bus, insn));
    let (Some((a, b)), [jcc, rest @ ..]) = (operands, rest) else {
        return detour(cpu, bus, insn, rest);
    };
    C::compute(&mut cpu.flags, a, b);
    let condition = cpu.flags.condition::<CONDITION>();
    branch_if(cpu, bus, jcc, rest, condition)
}

/// The same with a result that goes to the first operand.
pub fn update_and_jcc<T: Int, C: Compute, B: Input, const CONDITION: u8>(
    cpu: &mut Cpu,
    bus: &mut Bus,
    insn: &Insn,
    rest: &[Insn],
) -> Done {
    let (Some(b), [jcc, rest @ ..]) = (B::get::<T>(cpu, bus, insn), rest) else {
        return detour(cpu, bus, insn, rest);
    };
    let a = cpu.reg::<T>(insn.r[0]);
    let result = C::compute(&mut cpu.flags, a, b);
    cpu.set_reg(insn.r[0], result);
    let condition = cpu.flags.condition::<CONDITION>();
    branch_if(cpu, bus, jcc, rest, condition)
}

pub fn jmp(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn, rest: &[Insn]) -> Done {
    let done = go(cpu, target(cpu, insn));
    end(cpu, bus, insn, rest, done)
}

pub fn jmp_indirect<S: Input>(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn, rest: &[Insn]) -> Done {
    let done = S::get::<u64>(cpu, bus, insn).and_then(|target| go(cpu, target));
    end(cpu, bus, insn, rest, done)
}

#[inline(always)]
fn call_to(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn, target: u64) -> Option<()> {
    if !is_near(cpu, target) {
        return None;
    }
    let back = next(cpu, insn);
    push_value(cpu, bus, back)?;
    cpu.rip = target;
    Some(())
}

pub fn call(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn, rest: &[Insn]) -> Done {
    let done = call_to(cpu, bus, insn, target(cpu, insn));
    end(cpu, bus, insn, rest, done)
}

pub fn call_indirect<S: Input>(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn, rest: &[Insn]) -> Done {
    let done = S::get::<u64>(cpu, bus, insn).and_then(|target| call_to(cpu, bus, insn, target));
    end(cpu, bus, insn, rest, done)
}

pub fn ret(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn, rest: &[Insn]) -> Done {
    let done = load::<u64>(cpu, bus, cpu.regs[RSP])
        .and_then(|target| go(cpu, target))
        .map(|()| {
            // RET imm16 releases that many bytes more; without one the immediate is 0.
            cpu.regs[RSP] = cpu.regs[RSP].wrapping_add(8).wrapping_add(insn.imm & 0xffff);
        });
    end(cpu, bus, insn, rest, done)
}
