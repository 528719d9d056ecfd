//! Packed integers: arithmetic, comparison, shifts, logic (SSE2, SSSE3, SSE4.1, SSE4.2, PCLMULQDQ).

use iced_x86::Mnemonic as Mn;

use super::sse::{build, halves, lane, map, select_packed, zip, Xmm};
use crate::cpu::decode::{Flow, Form, Group, Operand};
use crate::cpu::insn::{Handler, Insn};
use crate::cpu::int::Int;
use crate::cpu::{Cpu, Done};
use crate::platform::Bus;

/// All ones where the comparison holds.
fn all<T: Int>(holds: bool) -> T {
    T::from_u64(if holds { !0 } else { 0 })
}

/// The average, rounded up.
fn average(a: u64, b: u64) -> u64 {
    (a + b + 1) >> 1
}

/// A difference of 16-bit lanes to which `f` adds: pairs of neighbours in `a`, then in `b`.
fn horizontal<T: Int>(a: Xmm, b: Xmm, f: impl Fn(T, T) -> T) -> Xmm {
    let half = 64 / T::BITS;
    build(|number| {
        let (from, pair) = if number < half {
            (a, number)
        } else {
            (b, number - half)
        };
        f(lane(from, pair * 2), lane(from, pair * 2 + 1))
    })
}

/// Lanes of `Wide` become lanes of `Narrow` by `f`: `a`'s in the low half, `b`'s in the high one.
fn pack<Wide: Int, Narrow: Int>(a: Xmm, b: Xmm, f: impl Fn(Wide) -> Narrow) -> Xmm {
    let half = 64 / Narrow::BITS;
    build(|number| {
        if number < half {
            f(lane(a, number))
        } else {
            f(lane(b, number - half))
        }
    })
}

/// Absolute differences of eight bytes, summed.
fn sum_of_differences(a: u64, b: u64) -> u64 {
    a.to_le_bytes()
        .iter()
        .zip(b.to_le_bytes())
        .map(|(a, b)| a.abs_diff(b) as u64)
        .sum()
}

/// PSIGN: `a` as it is, 0, or negated, by the sign of `b`.
fn sign<T: Int>(a: T, b: T) -> T {
    if b == T::zero() {
        b
    } else if b.sign() {
        T::zero().sub(a)
    } else {
        a
    }
}

fn absolute<T: Int>(a: T) -> T {
    if a.sign() {
        T::zero().sub(a)
    } else {
        a
    }
}

/// Lanes of `Narrow` at the start of `b`, widened.
fn extend<Narrow: Int, Wide: Int>(b: Xmm, signed: bool) -> Xmm {
    build(|number| {
        let narrow: Narrow = lane(b, number);
        Wide::from_u64(if signed {
            narrow.sign_extended()
        } else {
            narrow.to_u64()
        })
    })
}

fn multiply_high_rounded(a: u16, b: u16) -> u16 {
    ((((a as i16 as i32 * b as i16 as i32) >> 14) + 1) >> 1) as u16
}

/// The smallest word and where it is.
fn minimum_position(b: Xmm) -> Xmm {
    let least = (0..8)
        .map(|number| (lane::<u16>(b, number), number))
        .min()
        .unwrap_or_default();
    [least.0 as u64 | (least.1 as u64) << 16, 0]
}

/// MPSADBW: eight sums of four absolute differences. `imm`: bit 2 where in `a` to start, bits 1:0 which four bytes of `b`.
fn multiple_sums(a: Xmm, b: Xmm, imm: u8) -> Xmm {
    let (from, against) = ((imm >> 2 & 1) as u32 * 4, (imm & 3) as u32 * 4);
    build(|number| {
        (0..4)
            .map(|at| lane::<u8>(a, from + number + at).abs_diff(lane(b, against + at)) as u16)
            .sum::<u16>()
    })
}

/// The product of polynomials with coefficients of one bit.
fn carryless_product(a: u64, b: u64) -> Xmm {
    let product = (0..64)
        .filter(|bit| b >> bit & 1 != 0)
        .fold(0, |sum, bit| sum ^ (a as u128) << bit);
    [product as u64, (product >> 64) as u64]
}

packed! {
    Paddb(16) |a, b, _| zip::<u8>(a, b, u8::wrapping_add);
    Paddw(16) |a, b, _| zip::<u16>(a, b, u16::wrapping_add);
    Paddd(16) |a, b, _| zip::<u32>(a, b, u32::wrapping_add);
    Paddq(16) |a, b, _| halves(a, b, u64::wrapping_add);
    Psubb(16) |a, b, _| zip::<u8>(a, b, u8::wrapping_sub);
    Psubw(16) |a, b, _| zip::<u16>(a, b, u16::wrapping_sub);
    Psubd(16) |a, b, _| zip::<u32>(a, b, u32::wrapping_sub);
    Psubq(16) |a, b, _| halves(a, b, u64::wrapping_sub);
    Paddsb(16) |a, b, _| zip::<u8>(a, b, |a, b| (a as i8).saturating_add(b as i8) as u8);
    Paddsw(16) |a, b, _| zip::<u16>(a, b, |a, b| (a as i16).saturating_add(b as i16) as u16);
    Psubsb(16) |a, b, _| zip::<u8>(a, b, |a, b| (a as i8).saturating_sub(b as i8) as u8);
    Psubsw(16) |a, b, _| zip::<u16>(a, b, |a, b| (a as i16).saturating_sub(b as i16) as u16);
    Paddusb(16) |a, b, _| zip::<u8>(a, b, u8::saturating_add);
    Paddusw(16) |a, b, _| zip::<u16>(a, b, u16::saturating_add);
    Psubusb(16) |a, b, _| zip::<u8>(a, b, u8::saturating_sub);
    Psubusw(16) |a, b, _| zip::<u16>(a, b, u16::saturating_sub);
    Pavgb(16) |a, b, _| zip::<u8>(a, b, |a, b| average(a as u64, b as u64) as u8);
    Pavgw(16) |a, b, _| zip::<u16>(a, b, |a, b| average(a as u64, b as u64) as u16);
    Pmullw(16) |a, b, _| zip::<u16>(a, b, u16::wrapping_mul);
    Pmulhw(16) |a, b, _| zip::<u16>(a, b, |a, b| ((a as i16 as i32 * b as i16 as i32) >> 16) as u16);
    Pmulhuw(16) |a, b, _| zip::<u16>(a, b, |a, b| ((a as u32 * b as u32) >> 16) as u16);
    Pmulhrsw(16) |a, b, _| zip::<u16>(a, b, multiply_high_rounded);
    Pmulld(16) |a, b, _| zip::<u32>(a, b, u32::wrapping_mul);
    Pclmulqdq(16) |a, b, imm| carryless_product(a[(imm & 1) as usize], b[(imm >> 4 & 1) as usize]);
    Pmuludq(16) |a, b, _| halves(a, b, |a, b| (a as u32 as u64) * (b as u32 as u64));
    Pmuldq(16) |a, b, _| halves(a, b, |a, b| (a as i32 as i64 * b as i32 as i64) as u64);
    Pmaddwd(16) |a, b, _| build::<u32>(|n| {
        let product = |n| lane::<u16>(a, n) as i16 as i32 * lane::<u16>(b, n) as i16 as i32;
        product(2 * n).wrapping_add(product(2 * n + 1)) as u32
    });
    Pmaddubsw(16) |a, b, _| build::<u16>(|n| {
        let product = |n| lane::<u8>(a, n) as i32 * lane::<u8>(b, n) as i8 as i32;
        (product(2 * n) + product(2 * n + 1)).clamp(i16::MIN as i32, i16::MAX as i32) as u16
    });
    Psadbw(16) |a, b, _| halves(a, b, sum_of_differences);
    Mpsadbw(16) |a, b, imm| multiple_sums(a, b, imm);
    Phminposuw(16) |_, b, _| minimum_position(b);
    Pminub(16) |a, b, _| zip::<u8>(a, b, Ord::min);
    Pminuw(16) |a, b, _| zip::<u16>(a, b, Ord::min);
    Pminud(16) |a, b, _| zip::<u32>(a, b, Ord::min);
    Pmaxub(16) |a, b, _| zip::<u8>(a, b, Ord::max);
    Pmaxuw(16) |a, b, _| zip::<u16>(a, b, Ord::max);
    Pmaxud(16) |a, b, _| zip::<u32>(a, b, Ord::max);
    Pminsb(16) |a, b, _| zip::<u8>(a, b, |a, b| (a as i8).min(b as i8) as u8);
    Pminsw(16) |a, b, _| zip::<u16>(a, b, |a, b| (a as i16).min(b as i16) as u16);
    Pminsd(16) |a, b, _| zip::<u32>(a, b, |a, b| (a as i32).min(b as i32) as u32);
    Pmaxsb(16) |a, b, _| zip::<u8>(a, b, |a, b| (a as i8).max(b as i8) as u8);
    Pmaxsw(16) |a, b, _| zip::<u16>(a, b, |a, b| (a as i16).max(b as i16) as u16);
    Pmaxsd(16) |a, b, _| zip::<u32>(a, b, |a, b| (a as i32).max(b as i32) as u32);
    Pcmpeqb(16) |a, b, _| zip::<u8>(a, b, |a, b| all(a == b));
    Pcmpeqw(16) |a, b, _| zip::<u16>(a, b, |a, b| all(a == b));
    Pcmpeqd(16) |a, b, _| zip::<u32>(a, b, |a, b| all(a == b));
    Pcmpeqq(16) |a, b, _| halves(a, b, |a, b| all(a == b));
    Pcmpgtb(16) |a, b, _| zip::<u8>(a, b, |a, b| all(a as i8 > b as i8));
    Pcmpgtw(16) |a, b, _| zip::<u16>(a, b, |a, b| all(a as i16 > b as i16));
    Pcmpgtd(16) |a, b, _| zip::<u32>(a, b, |a, b| all(a as i32 > b as i32));
    Pcmpgtq(16) |a, b, _| halves(a, b, |a, b| all(a as i64 > b as i64));
    And(16) |a, b, _| halves(a, b, |a, b| a & b);
    AndNot(16) |a, b, _| halves(a, b, |a, b| !a & b);
    Or(16) |a, b, _| halves(a, b, |a, b| a | b);
    Xor(16) |a, b, _| halves(a, b, |a, b| a ^ b);
    Phaddw(16) |a, b, _| horizontal::<u16>(a, b, u16::wrapping_add);
    Phaddd(16) |a, b, _| horizontal::<u32>(a, b, u32::wrapping_add);
    Phsubw(16) |a, b, _| horizontal::<u16>(a, b, u16::wrapping_sub);
    Phsubd(16) |a, b, _| horizontal::<u32>(a, b, u32::wrapping_sub);
    Phaddsw(16) |a, b, _| horizontal::<u16>(a, b, |a, b| (a as i16).saturating_add(b as i16) as u16);
    Phsubsw(16) |a, b, _| horizontal::<u16>(a, b, |a, b| (a as i16).saturating_sub(b as i16) as u16);
    Psignb(16) |a, b, _| zip::<u8>(a, b, sign);
    Psignw(16) |a, b, _| zip::<u16>(a, b, sign);
    Psignd(16) |a, b, _| zip::<u32>(a, b, sign);
    Pabsb(16) |_, b, _| map::<u8>(b, absolute);
    Pabsw(16) |_, b, _| map::<u16>(b, absolute);
    Pabsd(16) |_, b, _| map::<u32>(b, absolute);
    Packsswb(16) |a, b, _| pack(a, b, |w: u16| (w as i16).clamp(-128, 127) as u8);
    Packssdw(16) |a, b, _| pack(a, b, |d: u32| (d as i32).clamp(-32768, 32767) as u16);
    Packuswb(16) |a, b, _| pack(a, b, |w: u16| (w as i16).clamp(0, 255) as u8);
    Packusdw(16) |a, b, _| pack(a, b, |d: u32| (d as i32).clamp(0, 65535) as u16);
    Pmovsxbw(8) |_, b, _| extend::<u8, u16>(b, true);
    Pmovsxbd(4) |_, b, _| extend::<u8, u32>(b, true);
    Pmovsxbq(2) |_, b, _| extend::<u8, u64>(b, true);
    Pmovsxwd(8) |_, b, _| extend::<u16, u32>(b, true);
    Pmovsxwq(4) |_, b, _| extend::<u16, u64>(b, true);
    Pmovsxdq(8) |_, b, _| extend::<u32, u64>(b, true);
    Pmovzxbw(8) |_, b, _| extend::<u8, u16>(b, false);
    Pmovzxbd(4) |_, b, _| extend::<u8, u32>(b, false);
    Pmovzxbq(2) |_, b, _| extend::<u8, u64>(b, false);
    Pmovzxwd(8) |_, b, _| extend::<u16, u32>(b, false);
    Pmovzxwq(4) |_, b, _| extend::<u16, u64>(b, false);
    Pmovzxdq(8) |_, b, _| extend::<u32, u64>(b, false);
}

// Shifts: by a count that is the low quadword of the source, or an immediate.

fn left<T: Int>(a: Xmm, count: u64) -> Xmm {
    if count >= T::BITS as u64 {
        return [0; 2];
    }
    map::<T>(a, |lane| T::from_u64(lane.to_u64() << count))
}

fn right<T: Int>(a: Xmm, count: u64) -> Xmm {
    if count >= T::BITS as u64 {
        return [0; 2];
    }
    map::<T>(a, |lane| T::from_u64(lane.to_u64() >> count))
}

fn right_signed<T: Int>(a: Xmm, count: u64) -> Xmm {
    let count = count.min(T::BITS as u64 - 1);
    map::<T>(a, |lane| {
        T::from_u64((lane.sign_extended() as i64 >> count) as u64)
    })
}

fn whole_left(a: Xmm, bytes: u64) -> Xmm {
    let all = a[0] as u128 | (a[1] as u128) << 64;
    let shifted = if bytes > 15 { 0 } else { all << (bytes * 8) };
    [shifted as u64, (shifted >> 64) as u64]
}

pub fn whole_right(a: Xmm, bytes: u64) -> Xmm {
    let all = a[0] as u128 | (a[1] as u128) << 64;
    let shifted = if bytes > 15 { 0 } else { all >> (bytes * 8) };
    [shifted as u64, (shifted >> 64) as u64]
}

/// Of lanes, or of the whole, by a count.
pub trait Shift {
    fn shift(a: Xmm, count: u64) -> Xmm;
}

macro_rules! shifts {
    ($($name:ident $function:expr;)*) => {$(
        pub struct $name;
        impl Shift for $name {
            #[inline(always)]
            fn shift(a: Xmm, count: u64) -> Xmm {
                $function(a, count)
            }
        }
        impl super::sse::Packed for $name {
            #[inline(always)]
            fn compute(a: Xmm, b: Xmm, _: u8) -> Xmm {
                $function(a, b[0])
            }
        }
    )*};
}
shifts! {
    Psllw left::<u16>;
    Pslld left::<u32>;
    Psllq left::<u64>;
    Psrlw right::<u16>;
    Psrld right::<u32>;
    Psrlq right::<u64>;
    Psraw right_signed::<u16>;
    Psrad right_signed::<u32>;
    Pslldq whole_left;
    Psrldq whole_right;
}

fn shift_by_immediate<O: Shift>(cpu: &mut Cpu, _: &mut Bus, insn: &Insn) -> Done {
    cpu.check_sse()?;
    let result = O::shift(cpu.xmm(insn.r[0]), insn.imm & 0xff);
    cpu.set_xmm(insn.r[0], result);
    Ok(())
}

fn select_shift<O: Shift + super::sse::Packed>(form: &Form) -> Option<Handler> {
    match (form.operands[0], form.operands[1]) {
        (Operand::Xmm, Operand::Immediate) => Some(shift_by_immediate::<O>),
        _ => select_packed::<O>(form),
    }
}

/// PTEST: ZF and CF say whether `a & b` and `!a & b` are 0.
fn ptest<S: super::sse::Source>(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn) -> Done {
    cpu.check_sse()?;
    let (b, a) = (S::read::<16>(cpu, bus, insn)?, cpu.xmm(insn.r[0]));
    let is_zero = |v: Xmm| v == [0; 2];
    let zero = is_zero(halves(a, b, |a, b| a & b));
    let carry = is_zero(halves(a, b, |a, b| !a & b));
    cpu.flags.set(cpu.flags.rest);
    cpu.flags.set_zero(zero);
    cpu.flags.set_carry(carry);
    Ok(())
}

fn select_ptest(form: &Form) -> Option<Handler> {
    by_source!(form, ptest)
}

pub static ROWS: Group = &[
    (Mn::Paddb, select_packed::<Paddb>, Flow::Next),
    (Mn::Paddw, select_packed::<Paddw>, Flow::Next),
    (Mn::Paddd, select_packed::<Paddd>, Flow::Next),
    (Mn::Paddq, select_packed::<Paddq>, Flow::Next),
    (Mn::Psubb, select_packed::<Psubb>, Flow::Next),
    (Mn::Psubw, select_packed::<Psubw>, Flow::Next),
    (Mn::Psubd, select_packed::<Psubd>, Flow::Next),
    (Mn::Psubq, select_packed::<Psubq>, Flow::Next),
    (Mn::Paddsb, select_packed::<Paddsb>, Flow::Next),
    (Mn::Paddsw, select_packed::<Paddsw>, Flow::Next),
    (Mn::Psubsb, select_packed::<Psubsb>, Flow::Next),
    (Mn::Psubsw, select_packed::<Psubsw>, Flow::Next),
    (Mn::Paddusb, select_packed::<Paddusb>, Flow::Next),
    (Mn::Paddusw, select_packed::<Paddusw>, Flow::Next),
    (Mn::Psubusb, select_packed::<Psubusb>, Flow::Next),
    (Mn::Psubusw, select_packed::<Psubusw>, Flow::Next),
    (Mn::Pavgb, select_packed::<Pavgb>, Flow::Next),
    (Mn::Pavgw, select_packed::<Pavgw>, Flow::Next),
    (Mn::Pmullw, select_packed::<Pmullw>, Flow::Next),
    (Mn::Pmulhw, select_packed::<Pmulhw>, Flow::Next),
    (Mn::Pmulhuw, select_packed::<Pmulhuw>, Flow::Next),
    (Mn::Pmulhrsw, select_packed::<Pmulhrsw>, Flow::Next),
    (Mn::Pmulld, select_packed::<Pmulld>, Flow::Next),
    (Mn::Pclmulqdq, select_packed::<Pclmulqdq>, Flow::Next),
    (Mn::Pmuludq, select_packed::<Pmuludq>, Flow::Next),
    (Mn::Pmuldq, select_packed::<Pmuldq>, Flow::Next),
    (Mn::Pmaddwd, select_packed::<Pmaddwd>, Flow::Next),
    (Mn::Pmaddubsw, select_packed::<Pmaddubsw>, Flow::Next),
    (Mn::Psadbw, select_packed::<Psadbw>, Flow::Next),
    (Mn::Mpsadbw, select_packed::<Mpsadbw>, Flow::Next),
    (Mn::Phminposuw, select_packed::<Phminposuw>, Flow::Next),
    (Mn::Pminub, select_packed::<Pminub>, Flow::Next),
    (Mn::Pminuw, select_packed::<Pminuw>, Flow::Next),
    (Mn::Pminud, select_packed::<Pminud>, Flow::Next),
    (Mn::Pmaxub, select_packed::<Pmaxub>, Flow::Next),
    (Mn::Pmaxuw, select_packed::<Pmaxuw>, Flow::Next),
    (Mn::Pmaxud, select_packed::<Pmaxud>, Flow::Next),
    (Mn::Pminsb, select_packed::<Pminsb>, Flow::Next),
    (Mn::Pminsw, select_packed::<Pminsw>, Flow::Next),
    (Mn::Pminsd, select_packed::<Pminsd>, Flow::Next),
    (Mn::Pmaxsb, select_packed::<Pmaxsb>, Flow::Next),
    (Mn::Pmaxsw, select_packed::<Pmaxsw>, Flow::Next),
    (Mn::Pmaxsd, select_packed::<Pmaxsd>, Flow::Next),
    (Mn::Pcmpeqb, select_packed::<Pcmpeqb>, Flow::Next),
    (Mn::Pcmpeqw, select_packed::<Pcmpeqw>, Flow::Next),
    (Mn::Pcmpeqd, select_packed::<Pcmpeqd>, Flow::Next),
    (Mn::Pcmpeqq, select_packed::<Pcmpeqq>, Flow::Next),
    (Mn::Pcmpgtb, select_packed::<Pcmpgtb>, Flow::Next),
    (Mn::Pcmpgtw, select_packed::<Pcmpgtw>, Flow::Next),
    (Mn::Pcmpgtd, select_packed::<Pcmpgtd>, Flow::Next),
    (Mn::Pcmpgtq, select_packed::<Pcmpgtq>, Flow::Next),
    (Mn::Pand, select_packed::<And>, Flow::Next),
    (Mn::Andps, select_packed::<And>, Flow::Next),
    (Mn::Andpd, select_packed::<And>, Flow::Next),
    (Mn::Pandn, select_packed::<AndNot>, Flow::Next),
    (Mn::Andnps, select_packed::<AndNot>, Flow::Next),
    (Mn::Andnpd, select_packed::<AndNot>, Flow::Next),
    (Mn::Por, select_packed::<Or>, Flow::Next),
    (Mn::Orps, select_packed::<Or>, Flow::Next),
    (Mn::Orpd, select_packed::<Or>, Flow::Next),
    (Mn::Pxor, select_packed::<Xor>, Flow::Next),
    (Mn::Xorps, select_packed::<Xor>, Flow::Next),
    (Mn::Xorpd, select_packed::<Xor>, Flow::Next),
    (Mn::Phaddw, select_packed::<Phaddw>, Flow::Next),
    (Mn::Phaddd, select_packed::<Phaddd>, Flow::Next),
    (Mn::Phaddsw, select_packed::<Phaddsw>, Flow::Next),
    (Mn::Phsubw, select_packed::<Phsubw>, Flow::Next),
    (Mn::Phsubd, select_packed::<Phsubd>, Flow::Next),
    (Mn::Phsubsw, select_packed::<Phsubsw>, Flow::Next),
    (Mn::Psignb, select_packed::<Psignb>, Flow::Next),
    (Mn::Psignw, select_packed::<Psignw>, Flow::Next),
    (Mn::Psignd, select_packed::<Psignd>, Flow::Next),
    (Mn::Pabsb, select_packed::<Pabsb>, Flow::Next),
    (Mn::Pabsw, select_packed::<Pabsw>, Flow::Next),
    (Mn::Pabsd, select_packed::<Pabsd>, Flow::Next),
    (Mn::Packsswb, select_packed::<Packsswb>, Flow::Next),
    (Mn::Packssdw, select_packed::<Packssdw>, Flow::Next),
    (Mn::Packuswb, select_packed::<Packuswb>, Flow::Next),
    (Mn::Packusdw, select_packed::<Packusdw>, Flow::Next),
    (Mn::Pmovsxbw, select_packed::<Pmovsxbw>, Flow::Next),
    (Mn::Pmovsxbd, select_packed::<Pmovsxbd>, Flow::Next),
    (Mn::Pmovsxbq, select_packed::<Pmovsxbq>, Flow::Next),
    (Mn::Pmovsxwd, select_packed::<Pmovsxwd>, Flow::Next),
    (Mn::Pmovsxwq, select_packed::<Pmovsxwq>, Flow::Next),
    (Mn::Pmovsxdq, select_packed::<Pmovsxdq>, Flow::Next),
    (Mn::Pmovzxbw, select_packed::<Pmovzxbw>, Flow::Next),
    (Mn::Pmovzxbd, select_packed::<Pmovzxbd>, Flow::Next),
    (Mn::Pmovzxbq, select_packed::<Pmovzxbq>, Flow::Next),
    (Mn::Pmovzxwd, select_packed::<Pmovzxwd>, Flow::Next),
    (Mn::Pmovzxwq, select_packed::<Pmovzxwq>, Flow::Next),
    (Mn::Pmovzxdq, select_packed::<Pmovzxdq>, Flow::Next),
    (Mn::Psllw, select_shift::<Psllw>, Flow::Next),
    (Mn::Pslld, select_shift::<Pslld>, Flow::Next),
    (Mn::Psllq, select_shift::<Psllq>, Flow::Next),
    (Mn::Psrlw, select_shift::<Psrlw>, Flow::Next),
    (Mn::Psrld, select_shift::<Psrld>, Flow::Next),
    (Mn::Psrlq, select_shift::<Psrlq>, Flow::Next),
    (Mn::Psraw, select_shift::<Psraw>, Flow::Next),
    (Mn::Psrad, select_shift::<Psrad>, Flow::Next),
    (Mn::Pslldq, select_shift::<Pslldq>, Flow::Next),
    (Mn::Psrldq, select_shift::<Psrldq>, Flow::Next),
    (Mn::Ptest, select_ptest, Flow::Next),
];
