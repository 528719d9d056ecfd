//! Single bits, bit scans and counts, bit fields, CRC32.

use std::marker::PhantomData;

use iced_x86::Mnemonic as Mn;

use super::select::{size, Reader};
use crate::cpu::decode::{Flow, Form, Group, Operand};
use crate::cpu::flags::Flags;
use crate::cpu::insn::{Handler, Insn, Place, Reg, Source, M, R0, R1};
use crate::cpu::int::Int;
use crate::cpu::{Cpu, Done};
use crate::platform::Bus;

/// BT, BTS, BTR and BTC: what becomes of the chosen bit.
const TEST: u8 = 0;
const SET: u8 = 1;
const RESET: u8 = 2;
const COMPLEMENT: u8 = 3;

/// CF is the bit as it was; ZF stays, and so do the flags that the SDM leaves undefined.
#[inline(always)]
fn change_bit<T: Int, const OP: u8>(flags: &mut Flags, old: T, bit: u64) -> T {
    let mask = T::from_u64(1 << (bit & (T::BITS as u64 - 1)));
    flags.set_carry(old & mask != T::zero());
    match OP {
        SET => old | mask,
        RESET => old & !mask,
        COMPLEMENT => old ^ mask,
        _ => old,
    }
}

/// The bit's number is taken modulo the operand's size.
fn bit_of_operand<T: Int, D: Place, S: Source, const OP: u8>(
    cpu: &mut Cpu,
    bus: &mut Bus,
    insn: &Insn,
) -> Done {
    let bit = S::read::<T>(cpu, bus, insn)?.to_u64();
    if OP == TEST {
        let value = D::read::<T>(cpu, bus, insn)?;
        change_bit::<T, OP>(&mut cpu.flags, value, bit);
        return Ok(());
    }
    D::update::<T>(cpu, bus, insn, |cpu, old| {
        change_bit::<T, OP>(&mut cpu.flags, old, bit)
    })
}

/// Memory and a register: the number is signed and reaches any bit from the operand's address on.
fn bit_of_string<T: Int, const OP: u8>(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn) -> Done {
    let bit = cpu.reg::<T>(insn.r[0]).sign_extended() as i64;
    let bytes = (bit >> T::BITS.trailing_zeros()) * T::BYTES as i64;
    let address = cpu.ea(insn).wrapping_add(bytes as u64) & insn.address_mask();
    if OP == TEST {
        let value = cpu.read::<T>(bus, insn.seg, address)?;
        change_bit::<T, OP>(&mut cpu.flags, value, bit as u64);
        return Ok(());
    }
    cpu.update::<T>(bus, insn.seg, address, |cpu, old| {
        change_bit::<T, OP>(&mut cpu.flags, old, bit as u64)
    })
}

fn select_bit<const OP: u8>(form: &Form) -> Option<Handler> {
    use crate::cpu::insn::Imm;
    let bytes = size(form.operands[0]);
    match (form.has_memory(), form.operands[1]) {
        (true, Operand::Immediate) => by_wide_size!(bytes, T => bit_of_operand::<T, M, Imm, OP>),
        (true, _) => by_wide_size!(bytes, T => bit_of_string::<T, OP>),
        (false, Operand::Immediate) => by_wide_size!(bytes, T => bit_of_operand::<T, R0, Imm, OP>),
        (false, _) => by_wide_size!(bytes, T => bit_of_operand::<T, R0, R1, OP>),
    }
}

/// BSF and BSR. With a source of 0 the destination keeps its value, upper half included.
fn scan<T: Int, S: Source, const REVERSE: bool>(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn) -> Done {
    let value = S::read::<T>(cpu, bus, insn)?;
    cpu.flags.result_with(value, false, false);
    let bits = value.to_u64();
    if bits != 0 {
        let found = if REVERSE {
            63 - bits.leading_zeros()
        } else {
            bits.trailing_zeros()
        };
        cpu.set_reg(insn.r[0], T::from_u64(found as u64));
    }
    Ok(())
}

fn select_scan<const REVERSE: bool>(form: &Form) -> Option<Handler> {
    match form.operands[1] {
        Operand::Gpr(bytes) => by_wide_size!(bytes, T => scan::<T, R1, REVERSE>),
        Operand::Memory(bytes) => by_wide_size!(bytes, T => scan::<T, M, REVERSE>),
        _ => None,
    }
}

/// The destination and the flags follow from one source.
trait OfOne {
    /// VEX-encoded: no such instruction in real-address and virtual-8086 mode.
    const VEX: bool = false;
    fn compute<T: Int>(flags: &mut Flags, a: T) -> T;
}

struct One<K>(PhantomData<K>);
impl<K: OfOne> Reader for One<K> {
    fn run<T: Int, S: Source>(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn) -> Done {
        if K::VEX {
            cpu.check_vex()?;
        }
        let a = S::read::<T>(cpu, bus, insn)?;
        let result = K::compute(&mut cpu.flags, a);
        cpu.set_reg(insn.r[0], result);
        Ok(())
    }
}

struct Popcnt;
impl OfOne for Popcnt {
    fn compute<T: Int>(flags: &mut Flags, a: T) -> T {
        flags.result_with(a, false, false);
        // Only ZF may be set.
        let zero = flags.zero();
        flags.set(flags.rest);
        flags.set_zero(zero);
        T::from_u64(a.to_u64().count_ones() as u64)
    }
}

/// LZCNT and TZCNT: CF says that the source was 0, ZF that the count is.
fn counted<T: Int>(flags: &mut Flags, count: u32) -> T {
    let result = T::from_u64(count as u64);
    flags.result_with(result, count == T::BITS, false);
    result
}

struct Lzcnt;
impl OfOne for Lzcnt {
    fn compute<T: Int>(flags: &mut Flags, a: T) -> T {
        counted(flags, a.to_u64().leading_zeros() - (64 - T::BITS))
    }
}

struct Tzcnt;
impl OfOne for Tzcnt {
    fn compute<T: Int>(flags: &mut Flags, a: T) -> T {
        counted(flags, a.to_u64().trailing_zeros().min(T::BITS))
    }
}

struct Blsi;
impl OfOne for Blsi {
    const VEX: bool = true;
    fn compute<T: Int>(flags: &mut Flags, a: T) -> T {
        let result = T::zero().sub(a) & a;
        flags.result_with(result, a != T::zero(), false);
        result
    }
}

struct Blsmsk;
impl OfOne for Blsmsk {
    const VEX: bool = true;
    fn compute<T: Int>(flags: &mut Flags, a: T) -> T {
        let result = a.sub(T::from_u64(1)) ^ a;
        flags.result_with(result, a == T::zero(), false);
        result
    }
}

struct Blsr;
impl OfOne for Blsr {
    const VEX: bool = true;
    fn compute<T: Int>(flags: &mut Flags, a: T) -> T {
        let result = a.sub(T::from_u64(1)) & a;
        flags.result_with(result, a == T::zero(), false);
        result
    }
}

/// The destination and the flags follow from the second and the third operand.
trait OfTwo {
    fn compute<T: Int>(flags: &mut Flags, a: T, b: T) -> T;
}

fn two<T: Int, A: Source, B: Source, K: OfTwo>(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn) -> Done {
    cpu.check_vex()?;
    let (a, b) = (A::read::<T>(cpu, bus, insn)?, B::read::<T>(cpu, bus, insn)?);
    let result = K::compute(&mut cpu.flags, a, b);
    cpu.set_reg(insn.r[0], result);
    Ok(())
}

fn select_two<K: OfTwo>(form: &Form) -> Option<Handler> {
    let bytes = size(form.operands[0]);
    match (form.operands[1], form.operands[2]) {
        (Operand::Memory(_), _) => by_wide_size!(bytes, T => two::<T, M, R1, K>),
        (_, Operand::Memory(_)) => by_wide_size!(bytes, T => two::<T, R1, M, K>),
        _ => by_wide_size!(bytes, T => two::<T, R1, Reg<2>, K>),
    }
}

struct Andn;
impl OfTwo for Andn {
    fn compute<T: Int>(flags: &mut Flags, a: T, b: T) -> T {
        let result = !a & b;
        flags.logic(result);
        result
    }
}

/// The low `count` bits.
fn low_bits(value: u64, count: u64) -> u64 {
    if count >= 64 {
        value
    } else {
        value & !(!0 << count)
    }
}

struct Bextr;
impl OfTwo for Bextr {
    fn compute<T: Int>(flags: &mut Flags, a: T, b: T) -> T {
        let (start, length) = (b.to_u64() & 0xff, b.to_u64() >> 8 & 0xff);
        let shifted = if start < 64 { a.to_u64() >> start } else { 0 };
        let result = T::from_u64(low_bits(shifted, length));
        flags.logic(result);
        result
    }
}

struct Bzhi;
impl OfTwo for Bzhi {
    fn compute<T: Int>(flags: &mut Flags, a: T, b: T) -> T {
        let index = b.to_u64() & 0xff;
        let result = T::from_u64(low_bits(a.to_u64(), index));
        flags.result_with(result, index >= T::BITS as u64, false);
        result
    }
}

struct Pdep;
impl OfTwo for Pdep {
    fn compute<T: Int>(_: &mut Flags, a: T, b: T) -> T {
        let (mut source, mut mask, mut result) = (a.to_u64(), b.to_u64(), 0);
        while mask != 0 {
            let lowest = mask & mask.wrapping_neg();
            if source & 1 != 0 {
                result |= lowest;
            }
            source >>= 1;
            mask ^= lowest;
        }
        T::from_u64(result)
    }
}

struct Pext;
impl OfTwo for Pext {
    fn compute<T: Int>(_: &mut Flags, a: T, b: T) -> T {
        let (source, mut mask, mut result) = (a.to_u64(), b.to_u64(), 0);
        let mut at = 0;
        while mask != 0 {
            let lowest = mask & mask.wrapping_neg();
            if source & lowest != 0 {
                result |= 1 << at;
            }
            at += 1;
            mask ^= lowest;
        }
        T::from_u64(result)
    }
}

/// CRC32 with the polynomial 0x11EDC6F41, bits reflected. A 64-bit destination gets a 32-bit result.
fn crc32<T: Int, S: Source>(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn) -> Done {
    let mut crc = cpu.reg::<u32>(insn.r[0]) as u64 ^ S::read::<T>(cpu, bus, insn)?.to_u64();
    for _ in 0..T::BITS {
        crc = crc >> 1 ^ if crc & 1 != 0 { 0x82f6_3b78 } else { 0 };
    }
    cpu.set_reg(insn.r[0], crc as u32);
    Ok(())
}

fn select_crc32(form: &Form) -> Option<Handler> {
    match form.operands[1] {
        Operand::Gpr(bytes) => by_size!(bytes, T => crc32::<T, R1>),
        Operand::Memory(bytes) => by_size!(bytes, T => crc32::<T, M>),
        _ => None,
    }
}

fn select_one<K: OfOne>(form: &Form) -> Option<Handler> {
    super::select::reader::<One<K>>(form)
}

pub static ROWS: Group = &[
    (Mn::Bt, select_bit::<TEST>, Flow::Next),
    (Mn::Bts, select_bit::<SET>, Flow::Next),
    (Mn::Btr, select_bit::<RESET>, Flow::Next),
    (Mn::Btc, select_bit::<COMPLEMENT>, Flow::Next),
    (Mn::Bsf, select_scan::<false>, Flow::Next),
    (Mn::Bsr, select_scan::<true>, Flow::Next),
    (Mn::Popcnt, select_one::<Popcnt>, Flow::Next),
    (Mn::Lzcnt, select_one::<Lzcnt>, Flow::Next),
    (Mn::Tzcnt, select_one::<Tzcnt>, Flow::Next),
    (Mn::Blsi, select_one::<Blsi>, Flow::Next),
    (Mn::Blsmsk, select_one::<Blsmsk>, Flow::Next),
    (Mn::Blsr, select_one::<Blsr>, Flow::Next),
    (Mn::Andn, select_two::<Andn>, Flow::Next),
    (Mn::Bextr, select_two::<Bextr>, Flow::Next),
    (Mn::Bzhi, select_two::<Bzhi>, Flow::Next),
    (Mn::Pdep, select_two::<Pdep>, Flow::Next),
    (Mn::Pext, select_two::<Pext>, Flow::Next),
    (Mn::Crc32, select_crc32, Flow::Next),
];
