//! Addition, subtraction, comparison and the logical instructions (SDM vol. 2).

use std::marker::PhantomData;

use iced_x86::Mnemonic as Mn;

use super::select::{binary, size, unary, Binary, Unary};
use crate::cpu::decode::Operand;
use crate::cpu::decode::{Flow, Form, Group};
use crate::cpu::flags::{self, Flags};
use crate::cpu::insn::{Handler, Insn, Place, Source, M, R0, R1};
use crate::cpu::int::Int;
use crate::cpu::{Cpu, Done, RAX, RBX, RCX, RDX};
use crate::platform::Bus;

/// What is computed from two operands, and which flags that sets.
pub trait Compute {
    fn compute<T: Int>(flags: &mut Flags, a: T, b: T) -> T;
}

pub struct Add;
impl Compute for Add {
    #[inline(always)]
    fn compute<T: Int>(flags: &mut Flags, a: T, b: T) -> T {
        let result = a.add(b);
        flags.add(a, b, result);
        result
    }
}

pub struct AddCarry;
impl Compute for AddCarry {
    #[inline(always)]
    fn compute<T: Int>(flags: &mut Flags, a: T, b: T) -> T {
        let result = a.add(b).add(T::from_u64(flags.carry() as u64));
        flags.add(a, b, result);
        result
    }
}

pub struct Sub;
impl Compute for Sub {
    #[inline(always)]
    fn compute<T: Int>(flags: &mut Flags, a: T, b: T) -> T {
        let result = a.sub(b);
        flags.sub(a, b, result);
        result
    }
}

pub struct SubBorrow;
impl Compute for SubBorrow {
    #[inline(always)]
    fn compute<T: Int>(flags: &mut Flags, a: T, b: T) -> T {
        let result = a.sub(b).sub(T::from_u64(flags.carry() as u64));
        flags.sub(a, b, result);
        result
    }
}

macro_rules! logical {
    ($($name:ident $operator:tt;)*) => {$(
        pub struct $name;
        impl Compute for $name {
            #[inline(always)]
            fn compute<T: Int>(flags: &mut Flags, a: T, b: T) -> T {
                let result = a $operator b;
                flags.logic(result);
                result
            }
        }
    )*};
}
logical! {
    And &;
    Or |;
    Xor ^;
}

/// The result goes to the first operand.
struct Update<C>(PhantomData<C>);
impl<C: Compute> Binary for Update<C> {
    fn run<T: Int, D: Place, S: Source>(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn) -> Done {
        let b = S::read::<T>(cpu, bus, insn)?;
        D::update::<T>(cpu, bus, insn, |cpu, a| C::compute(&mut cpu.flags, a, b))
    }
}

/// Only the flags are kept.
struct Compare<C>(PhantomData<C>);
impl<C: Compute> Binary for Compare<C> {
    fn run<T: Int, D: Place, S: Source>(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn) -> Done {
        let a = D::read::<T>(cpu, bus, insn)?;
        let b = S::read::<T>(cpu, bus, insn)?;
        C::compute(&mut cpu.flags, a, b);
        Ok(())
    }
}

/// What is computed from one operand.
pub trait Change {
    fn change<T: Int>(flags: &mut Flags, a: T) -> T;
}

pub struct Inc;
impl Change for Inc {
    #[inline(always)]
    fn change<T: Int>(flags: &mut Flags, a: T) -> T {
        let carry = flags.carry();
        let result = Add::compute(flags, a, T::from_u64(1));
        flags.set_carry(carry);
        result
    }
}

pub struct Dec;
impl Change for Dec {
    #[inline(always)]
    fn change<T: Int>(flags: &mut Flags, a: T) -> T {
        let carry = flags.carry();
        let result = Sub::compute(flags, a, T::from_u64(1));
        flags.set_carry(carry);
        result
    }
}

pub struct Neg;
impl Change for Neg {
    #[inline(always)]
    fn change<T: Int>(flags: &mut Flags, a: T) -> T {
        Sub::compute(flags, T::zero(), a)
    }
}

pub struct Not;
impl Change for Not {
    #[inline(always)]
    fn change<T: Int>(_: &mut Flags, a: T) -> T {
        !a
    }
}

struct InPlace<C>(PhantomData<C>);
impl<C: Change> Unary for InPlace<C> {
    fn run<T: Int, D: Place>(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn) -> Done {
        D::update::<T>(cpu, bus, insn, |cpu, a| C::change(&mut cpu.flags, a))
    }
}

/// `r[S]` is the source, which takes the destination's old value.
fn xadd<T: Int, D: Place, const S: usize>(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn) -> Done {
    let b = cpu.reg::<T>(insn.r[S]);
    D::update::<T>(cpu, bus, insn, |cpu, a| {
        cpu.set_reg(insn.r[S], a);
        Add::compute(&mut cpu.flags, a, b)
    })
}

/// The destination is written in either case, if only with what it holds.
fn cmpxchg<T: Int>(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn) -> Done {
    let (expected, new) = (cpu.reg::<T>(RAX as u8), cpu.reg::<T>(insn.r[0]));
    M::update::<T>(cpu, bus, insn, |cpu, old| {
        Sub::compute(&mut cpu.flags, expected, old);
        if old == expected {
            new
        } else {
            cpu.set_reg(RAX as u8, old);
            old
        }
    })
}

/// A register that is not replaced is not written either: of one of 32 bits, processors keep the upper half, where SDM
/// vol. 2 writes its own value to it.
fn cmpxchg_register<T: Int>(cpu: &mut Cpu, _: &mut Bus, insn: &Insn) -> Done {
    let (expected, old) = (cpu.reg::<T>(RAX as u8), cpu.reg::<T>(insn.r[0]));
    Sub::compute(&mut cpu.flags, expected, old);
    if old == expected {
        cpu.set_reg(insn.r[0], cpu.reg::<T>(insn.r[1]));
    } else {
        cpu.set_reg(RAX as u8, old);
    }
    Ok(())
}

fn cmpxchg8b(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn) -> Done {
    M::update::<u64>(cpu, bus, insn, |cpu, old| {
        let pair = |high: usize, low: usize| cpu.regs[high] << 32 | cpu.regs[low] & 0xffff_ffff;
        let (expected, new) = (pair(RDX, RAX), pair(RCX, RBX));
        cpu.flags.set_zero(old == expected);
        if old == expected {
            new
        } else {
            cpu.regs[RAX] = old & 0xffff_ffff;
            cpu.regs[RDX] = old >> 32;
            old
        }
    })
}

fn cmpxchg16b(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn) -> Done {
    let address = cpu.ea(insn);
    cpu.update_bytes::<16>(bus, insn.seg, address, true, |cpu, bytes| {
        let old = u128::from_le_bytes(bytes);
        let pair = |high: usize, low: usize| (cpu.regs[high] as u128) << 64 | cpu.regs[low] as u128;
        let (expected, new) = (pair(RDX, RAX), pair(RCX, RBX));
        cpu.flags.set_zero(old == expected);
        if old == expected {
            new.to_le_bytes()
        } else {
            cpu.regs[RAX] = old as u64;
            cpu.regs[RDX] = (old >> 64) as u64;
            bytes
        }
    })
}

/// ADCX carries by CF alone, ADOX by OF.
fn add_chain<T: Int, S: Source, const BY_OVERFLOW: bool>(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn) -> Done {
    let (a, b) = (cpu.reg::<T>(insn.r[0]), S::read::<T>(cpu, bus, insn)?);
    let (carry, overflow) = (cpu.flags.carry(), cpu.flags.overflow());
    let carried = if BY_OVERFLOW { overflow } else { carry };
    let sum = a.to_u64() as u128 + b.to_u64() as u128 + carried as u128;
    let out = sum >> T::BITS != 0;
    cpu.set_reg(insn.r[0], T::from_u64(sum as u64));
    if BY_OVERFLOW {
        cpu.flags.set_carry_overflow(carry, out);
    } else {
        cpu.flags.set_carry_overflow(out, overflow);
    }
    Ok(())
}

fn select_add_chain<const BY_OVERFLOW: bool>(form: &Form) -> Option<Handler> {
    match form.operands[1] {
        Operand::Gpr(bytes) => by_wide_size!(bytes, T => add_chain::<T, R1, BY_OVERFLOW>),
        Operand::Memory(bytes) => by_wide_size!(bytes, T => add_chain::<T, M, BY_OVERFLOW>),
        _ => None,
    }
}

fn select_xadd(form: &Form) -> Option<Handler> {
    let bytes = size(form.operands[0]);
    if form.has_memory() {
        by_size!(bytes, T => xadd::<T, M, 0>)
    } else {
        by_size!(bytes, T => xadd::<T, R0, 1>)
    }
}

fn select_cmpxchg(form: &Form) -> Option<Handler> {
    let bytes = size(form.operands[0]);
    if form.has_memory() {
        by_size!(bytes, T => cmpxchg::<T>)
    } else {
        by_size!(bytes, T => cmpxchg_register::<T>)
    }
}

/// DAA and DAS: CF and AF say which half was adjusted.
fn decimal_adjust<const SUBTRACTION: bool>(cpu: &mut Cpu, _: &mut Bus, _: &Insn) -> Done {
    let old = cpu.reg::<u8>(RAX as u8);
    let low = old & 15 > 9 || cpu.flags.adjust();
    let high = old > 0x99 || cpu.flags.carry();
    let by = if low { 6 } else { 0 } + if high { 0x60 } else { 0 };
    let new = if SUBTRACTION {
        old.wrapping_sub(by)
    } else {
        old.wrapping_add(by)
    };
    // DAS also borrows where the low adjustment alone wraps below zero.
    let carry = high || SUBTRACTION && low && old < 6;
    cpu.set_reg(RAX as u8, new);
    cpu.flags.result_with(new, carry, false);
    set_flag(&mut cpu.flags, flags::AF, low);
    Ok(())
}

/// AAA and AAS.
fn ascii_adjust<const SUBTRACTION: bool>(cpu: &mut Cpu, _: &mut Bus, _: &Insn) -> Done {
    let old = cpu.reg::<u16>(RAX as u8);
    let adjust = old & 15 > 9 || cpu.flags.adjust();
    let by = if adjust { 0x106 } else { 0 };
    let new = if SUBTRACTION {
        old.wrapping_sub(by)
    } else {
        old.wrapping_add(by)
    };
    cpu.set_reg(RAX as u8, new & 0xff0f);
    cpu.flags.result_with(new as u8 & 15, adjust, false);
    set_flag(&mut cpu.flags, flags::AF, adjust);
    Ok(())
}

fn set_flag(flags: &mut Flags, flag: u64, on: bool) {
    let value = flags.get();
    flags.set(if on { value | flag } else { value & !flag });
}

pub static ROWS: Group = &[
    (Mn::Add, binary::<Update<Add>>, Flow::Next),
    (Mn::Adc, binary::<Update<AddCarry>>, Flow::Next),
    (Mn::Sub, binary::<Update<Sub>>, Flow::Next),
    (Mn::Sbb, binary::<Update<SubBorrow>>, Flow::Next),
    (Mn::And, binary::<Update<And>>, Flow::Next),
    (Mn::Or, binary::<Update<Or>>, Flow::Next),
    (Mn::Xor, binary::<Update<Xor>>, Flow::Next),
    (Mn::Cmp, binary::<Compare<Sub>>, Flow::Next),
    (Mn::Test, binary::<Compare<And>>, Flow::Next),
    (Mn::Inc, unary::<InPlace<Inc>>, Flow::Next),
    (Mn::Dec, unary::<InPlace<Dec>>, Flow::Next),
    (Mn::Neg, unary::<InPlace<Neg>>, Flow::Next),
    (Mn::Not, unary::<InPlace<Not>>, Flow::Next),
    (Mn::Xadd, select_xadd, Flow::Next),
    (Mn::Cmpxchg, select_cmpxchg, Flow::Next),
    (Mn::Cmpxchg8b, |_| Some(cmpxchg8b), Flow::Next),
    (Mn::Cmpxchg16b, |_| Some(cmpxchg16b), Flow::Next),
    (Mn::Adcx, select_add_chain::<false>, Flow::Next),
    (Mn::Adox, select_add_chain::<true>, Flow::Next),
    (Mn::Daa, |_| Some(decimal_adjust::<false>), Flow::Next),
    (Mn::Das, |_| Some(decimal_adjust::<true>), Flow::Next),
    (Mn::Aaa, |_| Some(ascii_adjust::<false>), Flow::Next),
    (Mn::Aas, |_| Some(ascii_adjust::<true>), Flow::Next),
];
