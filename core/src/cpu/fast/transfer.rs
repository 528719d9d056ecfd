//! Moves between registers, RAM and the stack.

use super::operand::{load, store, Address, Input, Output};
use super::{go_on, plain_or_exact};
use crate::cpu::insn::{Insn, R0};
use crate::cpu::int::Int;
use crate::cpu::{Cpu, Done, RSP};
use crate::platform::Bus;

pub fn mov<T: Int, D: Output, S: Input>(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn, rest: &[Insn]) -> Done {
    let done = S::get::<T>(cpu, bus, insn).and_then(|value| D::put(cpu, bus, insn, value));
    plain_or_exact!(cpu, bus, insn, rest, done)
}

/// MOVZX, MOVSX and MOVSXD.
pub fn extend<From: Int, To: Int, S: Input, const SIGNED: bool>(
    cpu: &mut Cpu,
    bus: &mut Bus,
    insn: &Insn,
    rest: &[Insn],
) -> Done {
    let done = S::get::<From>(cpu, bus, insn).map(|value| {
        let wide = if SIGNED {
            value.sign_extended()
        } else {
            value.to_u64()
        };
        cpu.set_reg(insn.r[0], To::from_u64(wide));
    });
    plain_or_exact!(cpu, bus, insn, rest, done)
}

pub fn lea<T: Int, A: Address>(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn, rest: &[Insn]) -> Done {
    let address = A::of(cpu, insn);
    cpu.set_reg(insn.r[0], T::from_u64(address));
    go_on(cpu, bus, rest)
}

pub fn cmov<T: Int, S: Input, const CONDITION: u8>(
    cpu: &mut Cpu,
    bus: &mut Bus,
    insn: &Insn,
    rest: &[Insn],
) -> Done {
    let done = S::get::<T>(cpu, bus, insn).map(|new| {
        let old = cpu.reg::<T>(insn.r[0]);
        let value = if cpu.flags.condition::<CONDITION>() {
            new
        } else {
            old
        };
        cpu.set_reg(insn.r[0], value);
    });
    plain_or_exact!(cpu, bus, insn, rest, done)
}

pub fn setcc<const CONDITION: u8>(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn, rest: &[Insn]) -> Done {
    let value = cpu.flags.condition::<CONDITION>() as u8;
    cpu.set_reg(insn.r[0], value);
    go_on(cpu, bus, rest)
}

/// Pushes 64 bits.
#[inline(always)]
pub fn push_value(cpu: &mut Cpu, bus: &mut Bus, value: u64) -> Option<()> {
    let top = cpu.regs[RSP].wrapping_sub(8);
    store(cpu, bus, top, value)?;
    cpu.regs[RSP] = top;
    Some(())
}

pub fn push<S: Input>(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn, rest: &[Insn]) -> Done {
    let done = S::get::<u64>(cpu, bus, insn).and_then(|value| push_value(cpu, bus, value));
    plain_or_exact!(cpu, bus, insn, rest, done)
}

pub fn pop(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn, rest: &[Insn]) -> Done {
    let done = load::<u64>(cpu, bus, cpu.regs[RSP]).and_then(|value| {
        cpu.regs[RSP] = cpu.regs[RSP].wrapping_add(8);
        R0::put(cpu, bus, insn, value)
    });
    plain_or_exact!(cpu, bus, insn, rest, done)
}

pub fn nop(cpu: &mut Cpu, bus: &mut Bus, _: &Insn, rest: &[Insn]) -> Done {
    go_on(cpu, bus, rest)
}
