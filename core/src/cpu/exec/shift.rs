//! Shifts and rotates.

use std::marker::PhantomData;

use iced_x86::Mnemonic as Mn;

use super::select::{size, Unary};
use crate::cpu::decode::{Flow, Form, Group, Operand};
use crate::cpu::flags::Flags;
use crate::cpu::insn::{Handler, Imm, Insn, Place, Source, M, R0, R1};
use crate::cpu::int::Int;
use crate::cpu::{Cpu, Done, Stop, RCX};
use crate::platform::Bus;

/// Where the count is.
struct Cl;
impl Source for Cl {
    #[inline(always)]
    fn read<T: Int>(cpu: &mut Cpu, _: &mut Bus, _: &Insn) -> Result<T, Stop> {
        Ok(cpu.reg(RCX as u8))
    }
}

/// The processor takes five bits of the count, or six with a 64-bit operand.
#[inline(always)]
fn count<T: Int, C: Source>(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn) -> Result<u32, Stop> {
    let count = C::read::<u8>(cpu, bus, insn)? as u32;
    Ok(count & if T::BITS == 64 { 63 } else { 31 })
}

/// What becomes of `a` and the flags; `count` is masked and not 0. OF is defined for a count of 1 only, CF of a shift
/// only up to the operand's size: the rest is as the last of `count` single steps would leave it.
pub trait Shift {
    fn shift<T: Int>(flags: &mut Flags, a: T, count: u32) -> T;
}

#[inline(always)]
fn top<T: Int>(value: u64) -> bool {
    value >> (T::BITS - 1) & 1 != 0
}

pub struct Shl;
impl Shift for Shl {
    #[inline(always)]
    fn shift<T: Int>(flags: &mut Flags, a: T, count: u32) -> T {
        let result = T::from_u64(a.to_u64() << count);
        let carry = top::<T>(a.to_u64() << (count - 1));
        flags.result_with(result, carry, carry != result.sign());
        result
    }
}

pub struct Shr;
impl Shift for Shr {
    #[inline(always)]
    fn shift<T: Int>(flags: &mut Flags, a: T, count: u32) -> T {
        let result = T::from_u64(a.to_u64() >> count);
        let before = a.to_u64() >> (count - 1);
        flags.result_with(result, before & 1 != 0, top::<T>(before));
        result
    }
}

pub struct Sar;
impl Shift for Sar {
    #[inline(always)]
    fn shift<T: Int>(flags: &mut Flags, a: T, count: u32) -> T {
        let wide = a.sign_extended() as i64;
        let result = T::from_u64((wide >> count) as u64);
        let before = wide >> (count - 1);
        flags.result_with(result, before & 1 != 0, false);
        result
    }
}

pub struct Rol;
impl Shift for Rol {
    #[inline(always)]
    fn shift<T: Int>(flags: &mut Flags, a: T, count: u32) -> T {
        let result = rotate_left(a, count % T::BITS);
        let carry = result.to_u64() & 1 != 0;
        flags.set_carry_overflow(carry, carry != result.sign());
        result
    }
}

pub struct Ror;
impl Shift for Ror {
    #[inline(always)]
    fn shift<T: Int>(flags: &mut Flags, a: T, count: u32) -> T {
        let result = rotate_left(a, (T::BITS - count % T::BITS) % T::BITS);
        let next = result.to_u64() >> (T::BITS - 2) & 1 != 0;
        flags.set_carry_overflow(result.sign(), result.sign() != next);
        result
    }
}

#[inline(always)]
fn rotate_left<T: Int>(a: T, count: u32) -> T {
    if count == 0 {
        return a;
    }
    let a = a.to_u64();
    T::from_u64(a << count | a >> (T::BITS - count))
}

/// Rotates `a` with CF above its top bit, `count` to the left. False and true are the new CF.
#[inline(always)]
fn rotate_with_carry<T: Int>(a: T, carry: bool, count: u32) -> (T, bool) {
    let width = T::BITS + 1;
    let count = count % width;
    let all = a.to_u64() as u128 | (carry as u128) << T::BITS;
    let turned = all << count | all >> (width - count);
    (T::from_u64(turned as u64), turned >> T::BITS & 1 != 0)
}

struct Rcl;
impl Shift for Rcl {
    #[inline(always)]
    fn shift<T: Int>(flags: &mut Flags, a: T, count: u32) -> T {
        let (result, carry) = rotate_with_carry(a, flags.carry(), count);
        flags.set_carry_overflow(carry, carry != result.sign());
        result
    }
}

struct Rcr;
impl Shift for Rcr {
    #[inline(always)]
    fn shift<T: Int>(flags: &mut Flags, a: T, count: u32) -> T {
        let (result, carry) = rotate_with_carry(a, flags.carry(), T::BITS + 1 - count % (T::BITS + 1));
        let next = result.to_u64() >> (T::BITS - 2) & 1 != 0;
        flags.set_carry_overflow(carry, result.sign() != next);
        result
    }
}

/// A count of 0 leaves the flags.
struct By<C, K>(PhantomData<(C, K)>);
impl<K: Shift, C: Source> Unary for By<C, K> {
    fn run<T: Int, D: Place>(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn) -> Done {
        let count = count::<T, C>(cpu, bus, insn)?;
        D::update::<T>(cpu, bus, insn, |cpu, a| match count {
            0 => a,
            _ => K::shift(&mut cpu.flags, a, count),
        })
    }
}

fn select_shift<K: Shift>(form: &Form) -> Option<Handler> {
    match form.operands[1] {
        Operand::Immediate => super::select::unary::<By<Imm, K>>(form),
        _ => super::select::unary::<By<Cl, K>>(form),
    }
}

/// SHLD and SHRD; `r[S]` is the register that bits come from. With 16 bits and a count above 16, which the SDM leaves
/// undefined, the destination's own bits follow the source's.
fn double<T: Int, D: Place, C: Source, const S: usize, const LEFT: bool>(
    cpu: &mut Cpu,
    bus: &mut Bus,
    insn: &Insn,
) -> Done {
    let count = count::<T, C>(cpu, bus, insn)?;
    let fill = cpu.reg::<T>(insn.r[S]).to_u64() as u128;
    D::update::<T>(cpu, bus, insn, |cpu, old| {
        if count == 0 {
            return old;
        }
        let a = old.to_u64() as u128;
        let bits = T::BITS;
        let (result, carry) = if LEFT {
            let joined = if bits == 16 {
                a << 32 | fill << 16 | a
            } else {
                a << bits | fill
            };
            let at = if bits == 16 { 32 } else { bits };
            (joined << count >> at, joined >> (at + bits - count))
        } else {
            let joined = if bits == 16 {
                a << 32 | fill << 16 | a
            } else {
                fill << bits | a
            };
            (joined >> count, joined >> (count - 1))
        };
        let result = T::from_u64(result as u64);
        cpu.flags
            .result_with(result, carry & 1 != 0, result.sign() != old.sign());
        result
    })
}

fn select_double<const LEFT: bool>(form: &Form) -> Option<Handler> {
    let bytes = size(form.operands[0]);
    match (form.has_memory(), form.operands[2]) {
        (true, Operand::Immediate) => by_wide_size!(bytes, T => double::<T, M, Imm, 0, LEFT>),
        (true, _) => by_wide_size!(bytes, T => double::<T, M, Cl, 0, LEFT>),
        (false, Operand::Immediate) => by_wide_size!(bytes, T => double::<T, R0, Imm, 1, LEFT>),
        (false, _) => by_wide_size!(bytes, T => double::<T, R0, Cl, 1, LEFT>),
    }
}

/// BMI2's shifts, which leave the flags.
const LEFT: u8 = 0;
const RIGHT: u8 = 1;
const ARITHMETIC: u8 = 2;
const ROTATE: u8 = 3;

fn flagless<T: Int, S: Source, C: Source, const KIND: u8>(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn) -> Done {
    cpu.check_vex()?;
    let a = S::read::<T>(cpu, bus, insn)?;
    let count = count::<T, C>(cpu, bus, insn)?;
    let result = match KIND {
        LEFT => T::from_u64(a.to_u64() << count),
        RIGHT => T::from_u64(a.to_u64() >> count),
        ARITHMETIC => T::from_u64((a.sign_extended() as i64 >> count) as u64),
        _ => rotate_left(a, (T::BITS - count) % T::BITS),
    };
    cpu.set_reg(insn.r[0], result);
    Ok(())
}

fn select_flagless<const KIND: u8>(form: &Form) -> Option<Handler> {
    use crate::cpu::insn::Reg;
    let bytes = size(form.operands[0]);
    match (form.has_memory(), form.operands[2]) {
        (true, Operand::Immediate) => by_wide_size!(bytes, T => flagless::<T, M, Imm, KIND>),
        (true, _) => by_wide_size!(bytes, T => flagless::<T, M, R1, KIND>),
        (false, Operand::Immediate) => by_wide_size!(bytes, T => flagless::<T, R1, Imm, KIND>),
        (false, _) => by_wide_size!(bytes, T => flagless::<T, R1, Reg<2>, KIND>),
    }
}

pub static ROWS: Group = &[
    (Mn::Shl, select_shift::<Shl>, Flow::Next),
    (Mn::Sal, select_shift::<Shl>, Flow::Next),
    (Mn::Shr, select_shift::<Shr>, Flow::Next),
    (Mn::Sar, select_shift::<Sar>, Flow::Next),
    (Mn::Rol, select_shift::<Rol>, Flow::Next),
    (Mn::Ror, select_shift::<Ror>, Flow::Next),
    (Mn::Rcl, select_shift::<Rcl>, Flow::Next),
    (Mn::Rcr, select_shift::<Rcr>, Flow::Next),
    (Mn::Shld, select_double::<true>, Flow::Next),
    (Mn::Shrd, select_double::<false>, Flow::Next),
    (Mn::Shlx, select_flagless::<LEFT>, Flow::Next),
    (Mn::Shrx, select_flagless::<RIGHT>, Flow::Next),
    (Mn::Sarx, select_flagless::<ARITHMETIC>, Flow::Next),
    (Mn::Rorx, select_flagless::<ROTATE>, Flow::Next),
];
