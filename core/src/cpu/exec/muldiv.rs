//! Multiplication and division.

use iced_x86::Mnemonic as Mn;

use super::select::{size, unary, Unary};
use crate::cpu::decode::{Flow, Form, Group, Operand};
use crate::cpu::insn::{Handler, Imm, Insn, Place, Source, HIGH_BYTE, M, R0, R1};
use crate::cpu::int::Int;
use crate::cpu::{Cpu, Done, RAX, RDX};
use crate::platform::Bus;

/// xDX:xAX, or AX for byte operands.
fn wide_accumulator<T: Int>(cpu: &Cpu) -> u128 {
    if T::BITS == 8 {
        cpu.reg::<u16>(RAX as u8) as u128
    } else {
        (cpu.reg::<T>(RDX as u8).to_u64() as u128) << T::BITS | cpu.reg::<T>(RAX as u8).to_u64() as u128
    }
}

/// Sets the upper and the lower half: xDX and xAX, or AH and AL.
fn set_halves<T: Int>(cpu: &mut Cpu, high: T, low: T) {
    cpu.set_reg(if T::BITS == 8 { HIGH_BYTE } else { RDX as u8 }, high);
    cpu.set_reg(RAX as u8, low);
}

fn signed<T: Int>(value: T) -> i128 {
    value.sign_extended() as i64 as i128
}

struct Mul;
impl Unary for Mul {
    fn run<T: Int, D: Place>(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn) -> Done {
        let b = D::read::<T>(cpu, bus, insn)?.to_u64() as u128;
        let product = cpu.reg::<T>(RAX as u8).to_u64() as u128 * b;
        let (high, low) = (
            T::from_u64((product >> T::BITS) as u64),
            T::from_u64(product as u64),
        );
        set_halves(cpu, high, low);
        let wide = high != T::zero();
        cpu.flags.result_with(low, wide, wide);
        Ok(())
    }
}

struct SignedMul;
impl Unary for SignedMul {
    fn run<T: Int, D: Place>(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn) -> Done {
        let b = D::read::<T>(cpu, bus, insn)?;
        let product = signed(cpu.reg::<T>(RAX as u8)) * signed(b);
        let (high, low) = (
            T::from_u64((product >> T::BITS) as u64),
            T::from_u64(product as u64),
        );
        set_halves(cpu, high, low);
        let wide = signed(low) != product;
        cpu.flags.result_with(low, wide, wide);
        Ok(())
    }
}

/// IMUL with a destination of its own: `A` times `B`.
fn multiply_into<T: Int, A: Source, B: Source>(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn) -> Done {
    let (a, b) = (A::read::<T>(cpu, bus, insn)?, B::read::<T>(cpu, bus, insn)?);
    let product = signed(a) * signed(b);
    let result = T::from_u64(product as u64);
    cpu.set_reg(insn.r[0], result);
    let wide = signed(result) != product;
    cpu.flags.result_with(result, wide, wide);
    Ok(())
}

fn select_imul(form: &Form) -> Option<Handler> {
    let bytes = size(form.operands[0]);
    match (form.operands[1], form.operands[2]) {
        (Operand::None, _) => unary::<SignedMul>(form),
        (Operand::Gpr(_), Operand::None) => by_wide_size!(bytes, T => multiply_into::<T, R0, R1>),
        (_, Operand::None) => by_wide_size!(bytes, T => multiply_into::<T, R0, M>),
        (Operand::Gpr(_), _) => by_wide_size!(bytes, T => multiply_into::<T, R1, Imm>),
        _ => by_wide_size!(bytes, T => multiply_into::<T, M, Imm>),
    }
}

/// The flags are undefined after a division: they stay.
struct Div;
impl Unary for Div {
    fn run<T: Int, D: Place>(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn) -> Done {
        let divisor = D::read::<T>(cpu, bus, insn)?.to_u64();
        let dividend = wide_accumulator::<T>(cpu);
        // The common case, much faster than a division of 128 bits.
        let (quotient, remainder) = match (divisor, u64::try_from(dividend)) {
            (0, _) => return Err(cpu.divide_error()),
            (_, Ok(dividend)) => ((dividend / divisor) as u128, (dividend % divisor) as u128),
            _ => (dividend / divisor as u128, dividend % divisor as u128),
        };
        if quotient >> T::BITS != 0 {
            return Err(cpu.divide_error());
        }
        set_halves(cpu, T::from_u64(remainder as u64), T::from_u64(quotient as u64));
        Ok(())
    }
}

struct SignedDiv;
impl Unary for SignedDiv {
    fn run<T: Int, D: Place>(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn) -> Done {
        let divisor = signed(D::read::<T>(cpu, bus, insn)?);
        let unused = 128 - 2 * T::BITS;
        let dividend = (wide_accumulator::<T>(cpu) << unused) as i128 >> unused;
        let (Some(quotient), Some(remainder)) =
            (dividend.checked_div(divisor), dividend.checked_rem(divisor))
        else {
            return Err(cpu.divide_error());
        };
        let low = T::from_u64(quotient as u64);
        if signed(low) != quotient {
            return Err(cpu.divide_error());
        }
        set_halves(cpu, T::from_u64(remainder as u64), low);
        Ok(())
    }
}

/// Where both destinations are one register, it gets the upper half.
fn mulx<T: Int, S: Source>(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn) -> Done {
    cpu.check_vex()?;
    let b = S::read::<T>(cpu, bus, insn)?.to_u64() as u128;
    let product = cpu.reg::<T>(RDX as u8).to_u64() as u128 * b;
    cpu.set_reg(insn.r[1], T::from_u64(product as u64));
    cpu.set_reg(insn.r[0], T::from_u64((product >> T::BITS) as u64));
    Ok(())
}

fn select_mulx(form: &Form) -> Option<Handler> {
    use crate::cpu::insn::Reg;
    let bytes = size(form.operands[0]);
    if form.has_memory() {
        by_wide_size!(bytes, T => mulx::<T, M>)
    } else {
        by_wide_size!(bytes, T => mulx::<T, Reg<2>>)
    }
}

fn aam(cpu: &mut Cpu, _: &mut Bus, insn: &Insn) -> Done {
    let (value, base) = (cpu.reg::<u8>(RAX as u8), insn.imm as u8);
    let (Some(high), Some(low)) = (value.checked_div(base), value.checked_rem(base)) else {
        return Err(cpu.divide_error());
    };
    set_halves(cpu, high, low);
    cpu.flags.logic(low);
    Ok(())
}

fn aad(cpu: &mut Cpu, _: &mut Bus, insn: &Insn) -> Done {
    let (low, high) = (cpu.reg::<u8>(RAX as u8), cpu.reg::<u8>(HIGH_BYTE));
    let value = high.wrapping_mul(insn.imm as u8).wrapping_add(low);
    set_halves(cpu, 0, value);
    cpu.flags.logic(value);
    Ok(())
}

pub static ROWS: Group = &[
    (Mn::Mul, unary::<Mul>, Flow::Next),
    (Mn::Imul, select_imul, Flow::Next),
    (Mn::Div, unary::<Div>, Flow::Next),
    (Mn::Idiv, unary::<SignedDiv>, Flow::Next),
    (Mn::Mulx, select_mulx, Flow::Next),
    (Mn::Aam, |_| Some(aam), Flow::Next),
    (Mn::Aad, |_| Some(aad), Flow::Next),
];
