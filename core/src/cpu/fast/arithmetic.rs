//! What computes and sets flags.

use super::operand::{InPlace, Input};
use super::plain_or_exact;
use crate::cpu::exec::alu::{Change, Compute};
use crate::cpu::exec::shift::Shift;
use crate::cpu::flags::Flags;
use crate::cpu::insn::Insn;
use crate::cpu::int::Int;
use crate::cpu::{Cpu, Done, RCX};
use crate::platform::Bus;
use std::marker::PhantomData;

/// The same computation, whose flags nobody reads.
pub struct Quiet<C>(PhantomData<C>);

impl<C: Compute> Compute for Quiet<C> {
    #[inline(always)]
    fn compute<T: Int>(flags: &mut Flags, a: T, b: T) -> T {
        C::compute(&mut { *flags }, a, b)
    }
}

impl<C: Change> Change for Quiet<C> {
    #[inline(always)]
    fn change<T: Int>(flags: &mut Flags, a: T) -> T {
        C::change(&mut { *flags }, a)
    }
}

impl<C: Shift> Shift for Quiet<C> {
    #[inline(always)]
    fn shift<T: Int>(flags: &mut Flags, a: T, count: u32) -> T {
        C::shift(&mut { *flags }, a, count)
    }
}

pub fn update<T: Int, C: Compute, D: InPlace, S: Input>(
    cpu: &mut Cpu,
    bus: &mut Bus,
    insn: &Insn,
    rest: &[Insn],
) -> Done {
    let done = S::get::<T>(cpu, bus, insn)
        .and_then(|b| D::change::<T>(cpu, bus, insn, |cpu, a| C::compute(&mut cpu.flags, a, b)));
    plain_or_exact!(cpu, bus, insn, rest, done)
}

pub fn compare<T: Int, C: Compute, A: Input, B: Input>(
    cpu: &mut Cpu,
    bus: &mut Bus,
    insn: &Insn,
    rest: &[Insn],
) -> Done {
    let operands = A::get::<T>(cpu, bus, insn).zip(B::get::<T>(cpu, bus, insn));
    let done = operands.map(|(a, b)| {
        C::compute(&mut cpu.flags, a, b);
    });
    plain_or_exact!(cpu, bus, insn, rest, done)
}

pub fn in_place<T: Int, C: Change, D: InPlace>(
    cpu: &mut Cpu,
    bus: &mut Bus,
    insn: &Insn,
    rest: &[Insn],
) -> Done {
    let done = D::change::<T>(cpu, bus, insn, |cpu, a| C::change(&mut cpu.flags, a));
    plain_or_exact!(cpu, bus, insn, rest, done)
}

/// By an immediate count, which is masked and not 0.
pub fn shift<T: Int, K: Shift, D: InPlace>(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn, rest: &[Insn]) -> Done {
    let count = insn.imm as u32 & (T::BITS - 1);
    let done = D::change::<T>(cpu, bus, insn, |cpu, a| K::shift(&mut cpu.flags, a, count));
    plain_or_exact!(cpu, bus, insn, rest, done)
}

/// By CL, which may be 0.
pub fn shift_by_cl<T: Int, K: Shift, D: InPlace>(
    cpu: &mut Cpu,
    bus: &mut Bus,
    insn: &Insn,
    rest: &[Insn],
) -> Done {
    let count = cpu.regs[RCX] as u32 & (T::BITS - 1);
    let done = D::change::<T>(cpu, bus, insn, |cpu, a| match count {
        0 => a,
        _ => K::shift(&mut cpu.flags, a, count),
    });
    plain_or_exact!(cpu, bus, insn, rest, done)
}
