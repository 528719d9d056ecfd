//! Packed integers: arithmetic, comparison, shifts, logic (SSE2, SSSE3, SSE4.1, SSE4.2, PCLMULQDQ).

use super::lanes::{build, halves, lane, map, zip, Xmm};
use super::vector::{read_packed, select_packed, Encoding, Packed, Share, Source};
use crate::cpu::decode::{Form, Group, Operand};
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
    Paddb |a, b, _| zip::<u8>(a, b, u8::wrapping_add);
    Paddw |a, b, _| zip::<u16>(a, b, u16::wrapping_add);
    Paddd |a, b, _| zip::<u32>(a, b, u32::wrapping_add);
    Paddq |a, b, _| halves(a, b, u64::wrapping_add);
    Psubb |a, b, _| zip::<u8>(a, b, u8::wrapping_sub);
    Psubw |a, b, _| zip::<u16>(a, b, u16::wrapping_sub);
    Psubd |a, b, _| zip::<u32>(a, b, u32::wrapping_sub);
    Psubq |a, b, _| halves(a, b, u64::wrapping_sub);
    Paddsb |a, b, _| zip::<u8>(a, b, |a, b| (a as i8).saturating_add(b as i8) as u8);
    Paddsw |a, b, _| zip::<u16>(a, b, |a, b| (a as i16).saturating_add(b as i16) as u16);
    Psubsb |a, b, _| zip::<u8>(a, b, |a, b| (a as i8).saturating_sub(b as i8) as u8);
    Psubsw |a, b, _| zip::<u16>(a, b, |a, b| (a as i16).saturating_sub(b as i16) as u16);
    Paddusb |a, b, _| zip::<u8>(a, b, u8::saturating_add);
    Paddusw |a, b, _| zip::<u16>(a, b, u16::saturating_add);
    Psubusb |a, b, _| zip::<u8>(a, b, u8::saturating_sub);
    Psubusw |a, b, _| zip::<u16>(a, b, u16::saturating_sub);
    Pavgb |a, b, _| zip::<u8>(a, b, |a, b| average(a as u64, b as u64) as u8);
    Pavgw |a, b, _| zip::<u16>(a, b, |a, b| average(a as u64, b as u64) as u16);
    Pmullw |a, b, _| zip::<u16>(a, b, u16::wrapping_mul);
    Pmulhw |a, b, _| zip::<u16>(a, b, |a, b| ((a as i16 as i32 * b as i16 as i32) >> 16) as u16);
    Pmulhuw |a, b, _| zip::<u16>(a, b, |a, b| ((a as u32 * b as u32) >> 16) as u16);
    Pmulhrsw |a, b, _| zip::<u16>(a, b, multiply_high_rounded);
    Pmulld |a, b, _| zip::<u32>(a, b, u32::wrapping_mul);
    Pclmulqdq |a, b, imm| carryless_product(a[(imm & 1) as usize], b[(imm >> 4 & 1) as usize]);
    Pmuludq |a, b, _| halves(a, b, |a, b| (a as u32 as u64) * (b as u32 as u64));
    Pmuldq |a, b, _| halves(a, b, |a, b| (a as i32 as i64 * b as i32 as i64) as u64);
    Pmaddwd |a, b, _| build::<u32>(|n| {
        let product = |n| lane::<u16>(a, n) as i16 as i32 * lane::<u16>(b, n) as i16 as i32;
        product(2 * n).wrapping_add(product(2 * n + 1)) as u32
    });
    Pmaddubsw |a, b, _| build::<u16>(|n| {
        let product = |n| lane::<u8>(a, n) as i32 * lane::<u8>(b, n) as i8 as i32;
        (product(2 * n) + product(2 * n + 1)).clamp(i16::MIN as i32, i16::MAX as i32) as u16
    });
    Psadbw |a, b, _| halves(a, b, sum_of_differences);
    Mpsadbw(Share::Own, 3) |a, b, imm| multiple_sums(a, b, imm);
    Phminposuw |_, b, _| minimum_position(b);
    Pminub |a, b, _| zip::<u8>(a, b, Ord::min);
    Pminuw |a, b, _| zip::<u16>(a, b, Ord::min);
    Pminud |a, b, _| zip::<u32>(a, b, Ord::min);
    Pmaxub |a, b, _| zip::<u8>(a, b, Ord::max);
    Pmaxuw |a, b, _| zip::<u16>(a, b, Ord::max);
    Pmaxud |a, b, _| zip::<u32>(a, b, Ord::max);
    Pminsb |a, b, _| zip::<u8>(a, b, |a, b| (a as i8).min(b as i8) as u8);
    Pminsw |a, b, _| zip::<u16>(a, b, |a, b| (a as i16).min(b as i16) as u16);
    Pminsd |a, b, _| zip::<u32>(a, b, |a, b| (a as i32).min(b as i32) as u32);
    Pmaxsb |a, b, _| zip::<u8>(a, b, |a, b| (a as i8).max(b as i8) as u8);
    Pmaxsw |a, b, _| zip::<u16>(a, b, |a, b| (a as i16).max(b as i16) as u16);
    Pmaxsd |a, b, _| zip::<u32>(a, b, |a, b| (a as i32).max(b as i32) as u32);
    Pcmpeqb |a, b, _| zip::<u8>(a, b, |a, b| all(a == b));
    Pcmpeqw |a, b, _| zip::<u16>(a, b, |a, b| all(a == b));
    Pcmpeqd |a, b, _| zip::<u32>(a, b, |a, b| all(a == b));
    Pcmpeqq |a, b, _| halves(a, b, |a, b| all(a == b));
    Pcmpgtb |a, b, _| zip::<u8>(a, b, |a, b| all(a as i8 > b as i8));
    Pcmpgtw |a, b, _| zip::<u16>(a, b, |a, b| all(a as i16 > b as i16));
    Pcmpgtd |a, b, _| zip::<u32>(a, b, |a, b| all(a as i32 > b as i32));
    Pcmpgtq |a, b, _| halves(a, b, |a, b| all(a as i64 > b as i64));
    And |a, b, _| halves(a, b, |a, b| a & b);
    AndNot |a, b, _| halves(a, b, |a, b| !a & b);
    Or |a, b, _| halves(a, b, |a, b| a | b);
    Xor |a, b, _| halves(a, b, |a, b| a ^ b);
    Phaddw |a, b, _| horizontal::<u16>(a, b, u16::wrapping_add);
    Phaddd |a, b, _| horizontal::<u32>(a, b, u32::wrapping_add);
    Phsubw |a, b, _| horizontal::<u16>(a, b, u16::wrapping_sub);
    Phsubd |a, b, _| horizontal::<u32>(a, b, u32::wrapping_sub);
    Phaddsw |a, b, _| horizontal::<u16>(a, b, |a, b| (a as i16).saturating_add(b as i16) as u16);
    Phsubsw |a, b, _| horizontal::<u16>(a, b, |a, b| (a as i16).saturating_sub(b as i16) as u16);
    Psignb |a, b, _| zip::<u8>(a, b, sign);
    Psignw |a, b, _| zip::<u16>(a, b, sign);
    Psignd |a, b, _| zip::<u32>(a, b, sign);
    Pabsb |_, b, _| map::<u8>(b, absolute);
    Pabsw |_, b, _| map::<u16>(b, absolute);
    Pabsd |_, b, _| map::<u32>(b, absolute);
    Packsswb |a, b, _| pack(a, b, |w: u16| (w as i16).clamp(-128, 127) as u8);
    Packssdw |a, b, _| pack(a, b, |d: u32| (d as i32).clamp(-32768, 32767) as u16);
    Packuswb |a, b, _| pack(a, b, |w: u16| (w as i16).clamp(0, 255) as u8);
    Packusdw |a, b, _| pack(a, b, |d: u32| (d as i32).clamp(0, 65535) as u16);
    Pmovsxbw(Share::Bytes(8)) |_, b, _| extend::<u8, u16>(b, true);
    Pmovsxbd(Share::Bytes(4)) |_, b, _| extend::<u8, u32>(b, true);
    Pmovsxbq(Share::Bytes(2)) |_, b, _| extend::<u8, u64>(b, true);
    Pmovsxwd(Share::Bytes(8)) |_, b, _| extend::<u16, u32>(b, true);
    Pmovsxwq(Share::Bytes(4)) |_, b, _| extend::<u16, u64>(b, true);
    Pmovsxdq(Share::Bytes(8)) |_, b, _| extend::<u32, u64>(b, true);
    Pmovzxbw(Share::Bytes(8)) |_, b, _| extend::<u8, u16>(b, false);
    Pmovzxbd(Share::Bytes(4)) |_, b, _| extend::<u8, u32>(b, false);
    Pmovzxbq(Share::Bytes(2)) |_, b, _| extend::<u8, u64>(b, false);
    Pmovzxwd(Share::Bytes(8)) |_, b, _| extend::<u16, u32>(b, false);
    Pmovzxwq(Share::Bytes(4)) |_, b, _| extend::<u16, u64>(b, false);
    Pmovzxdq(Share::Bytes(8)) |_, b, _| extend::<u32, u64>(b, false);
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
        impl Packed for $name {
            const SHARE: Share = Share::Same;
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

fn shift_by_immediate<O: Shift, E: Encoding>(cpu: &mut Cpu, _: &mut Bus, insn: &Insn) -> Done {
    E::check(cpu)?;
    let result = cpu
        .vector(insn.r[E::FIRST])
        .map(|lane| O::shift(lane, insn.imm & 0xff));
    E::write(cpu, insn.r[0], result);
    Ok(())
}

fn select_shift<O: Shift + Packed>(form: &Form) -> Option<Handler> {
    if form.operands.contains(&Operand::Immediate) {
        by_length!(form, shift_by_immediate, O)
    } else {
        select_packed::<O>(form)
    }
}

/// PTEST, VTESTPS and VTESTPD: ZF and CF say whether `a & b` and `!a & b` are 0.
fn test<L: Looked, E: Encoding, S: Source>(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn) -> Done {
    E::check(cpu)?;
    let (b, a) = (read_packed::<E, S>(cpu, bus, insn)?, cpu.vector(insn.r[0]));
    let is_zero = |f: fn(u64, u64) -> u64| {
        (0..E::LANES).all(|lane| halves(a[lane], b[lane], |a, b| f(a, b) & L::AT) == [0; 2])
    };
    let (zero, carry) = (is_zero(|a, b| a & b), is_zero(|a, b| !a & b));
    cpu.flags.set(cpu.flags.rest);
    cpu.flags.set_zero(zero);
    cpu.flags.set_carry(carry);
    Ok(())
}

fn select_test<L: Looked>(form: &Form) -> Option<Handler> {
    by_encoding!(form, test, L)
}

/// The bits of each quadword that PTEST and its like look at.
trait Looked {
    const AT: u64;
}
struct Bits;
impl Looked for Bits {
    const AT: u64 = !0;
}
struct SignsOfSingles;
impl Looked for SignsOfSingles {
    const AT: u64 = 0x8000_0000_8000_0000;
}
struct SignsOfDoubles;
impl Looked for SignsOfDoubles {
    const AT: u64 = 1 << 63;
}

pub static ROWS: Group = vector_rows! {
    Paddb Vpaddb => select_packed::<Paddb>;
    Paddw Vpaddw => select_packed::<Paddw>;
    Paddd Vpaddd => select_packed::<Paddd>;
    Paddq Vpaddq => select_packed::<Paddq>;
    Psubb Vpsubb => select_packed::<Psubb>;
    Psubw Vpsubw => select_packed::<Psubw>;
    Psubd Vpsubd => select_packed::<Psubd>;
    Psubq Vpsubq => select_packed::<Psubq>;
    Paddsb Vpaddsb => select_packed::<Paddsb>;
    Paddsw Vpaddsw => select_packed::<Paddsw>;
    Psubsb Vpsubsb => select_packed::<Psubsb>;
    Psubsw Vpsubsw => select_packed::<Psubsw>;
    Paddusb Vpaddusb => select_packed::<Paddusb>;
    Paddusw Vpaddusw => select_packed::<Paddusw>;
    Psubusb Vpsubusb => select_packed::<Psubusb>;
    Psubusw Vpsubusw => select_packed::<Psubusw>;
    Pavgb Vpavgb => select_packed::<Pavgb>;
    Pavgw Vpavgw => select_packed::<Pavgw>;
    Pmullw Vpmullw => select_packed::<Pmullw>;
    Pmulhw Vpmulhw => select_packed::<Pmulhw>;
    Pmulhuw Vpmulhuw => select_packed::<Pmulhuw>;
    Pmulhrsw Vpmulhrsw => select_packed::<Pmulhrsw>;
    Pmulld Vpmulld => select_packed::<Pmulld>;
    Pclmulqdq Vpclmulqdq => select_packed::<Pclmulqdq>;
    Pmuludq Vpmuludq => select_packed::<Pmuludq>;
    Pmuldq Vpmuldq => select_packed::<Pmuldq>;
    Pmaddwd Vpmaddwd => select_packed::<Pmaddwd>;
    Pmaddubsw Vpmaddubsw => select_packed::<Pmaddubsw>;
    Psadbw Vpsadbw => select_packed::<Psadbw>;
    Mpsadbw Vmpsadbw => select_packed::<Mpsadbw>;
    Phminposuw Vphminposuw => select_packed::<Phminposuw>;
    Pminub Vpminub => select_packed::<Pminub>;
    Pminuw Vpminuw => select_packed::<Pminuw>;
    Pminud Vpminud => select_packed::<Pminud>;
    Pmaxub Vpmaxub => select_packed::<Pmaxub>;
    Pmaxuw Vpmaxuw => select_packed::<Pmaxuw>;
    Pmaxud Vpmaxud => select_packed::<Pmaxud>;
    Pminsb Vpminsb => select_packed::<Pminsb>;
    Pminsw Vpminsw => select_packed::<Pminsw>;
    Pminsd Vpminsd => select_packed::<Pminsd>;
    Pmaxsb Vpmaxsb => select_packed::<Pmaxsb>;
    Pmaxsw Vpmaxsw => select_packed::<Pmaxsw>;
    Pmaxsd Vpmaxsd => select_packed::<Pmaxsd>;
    Pcmpeqb Vpcmpeqb => select_packed::<Pcmpeqb>;
    Pcmpeqw Vpcmpeqw => select_packed::<Pcmpeqw>;
    Pcmpeqd Vpcmpeqd => select_packed::<Pcmpeqd>;
    Pcmpeqq Vpcmpeqq => select_packed::<Pcmpeqq>;
    Pcmpgtb Vpcmpgtb => select_packed::<Pcmpgtb>;
    Pcmpgtw Vpcmpgtw => select_packed::<Pcmpgtw>;
    Pcmpgtd Vpcmpgtd => select_packed::<Pcmpgtd>;
    Pcmpgtq Vpcmpgtq => select_packed::<Pcmpgtq>;
    Pand Vpand => select_packed::<And>;
    Andps Vandps => select_packed::<And>;
    Andpd Vandpd => select_packed::<And>;
    Pandn Vpandn => select_packed::<AndNot>;
    Andnps Vandnps => select_packed::<AndNot>;
    Andnpd Vandnpd => select_packed::<AndNot>;
    Por Vpor => select_packed::<Or>;
    Orps Vorps => select_packed::<Or>;
    Orpd Vorpd => select_packed::<Or>;
    Pxor Vpxor => select_packed::<Xor>;
    Xorps Vxorps => select_packed::<Xor>;
    Xorpd Vxorpd => select_packed::<Xor>;
    Phaddw Vphaddw => select_packed::<Phaddw>;
    Phaddd Vphaddd => select_packed::<Phaddd>;
    Phaddsw Vphaddsw => select_packed::<Phaddsw>;
    Phsubw Vphsubw => select_packed::<Phsubw>;
    Phsubd Vphsubd => select_packed::<Phsubd>;
    Phsubsw Vphsubsw => select_packed::<Phsubsw>;
    Psignb Vpsignb => select_packed::<Psignb>;
    Psignw Vpsignw => select_packed::<Psignw>;
    Psignd Vpsignd => select_packed::<Psignd>;
    Pabsb Vpabsb => select_packed::<Pabsb>;
    Pabsw Vpabsw => select_packed::<Pabsw>;
    Pabsd Vpabsd => select_packed::<Pabsd>;
    Packsswb Vpacksswb => select_packed::<Packsswb>;
    Packssdw Vpackssdw => select_packed::<Packssdw>;
    Packuswb Vpackuswb => select_packed::<Packuswb>;
    Packusdw Vpackusdw => select_packed::<Packusdw>;
    Pmovsxbw Vpmovsxbw => select_packed::<Pmovsxbw>;
    Pmovsxbd Vpmovsxbd => select_packed::<Pmovsxbd>;
    Pmovsxbq Vpmovsxbq => select_packed::<Pmovsxbq>;
    Pmovsxwd Vpmovsxwd => select_packed::<Pmovsxwd>;
    Pmovsxwq Vpmovsxwq => select_packed::<Pmovsxwq>;
    Pmovsxdq Vpmovsxdq => select_packed::<Pmovsxdq>;
    Pmovzxbw Vpmovzxbw => select_packed::<Pmovzxbw>;
    Pmovzxbd Vpmovzxbd => select_packed::<Pmovzxbd>;
    Pmovzxbq Vpmovzxbq => select_packed::<Pmovzxbq>;
    Pmovzxwd Vpmovzxwd => select_packed::<Pmovzxwd>;
    Pmovzxwq Vpmovzxwq => select_packed::<Pmovzxwq>;
    Pmovzxdq Vpmovzxdq => select_packed::<Pmovzxdq>;
    Psllw Vpsllw => select_shift::<Psllw>;
    Pslld Vpslld => select_shift::<Pslld>;
    Psllq Vpsllq => select_shift::<Psllq>;
    Psrlw Vpsrlw => select_shift::<Psrlw>;
    Psrld Vpsrld => select_shift::<Psrld>;
    Psrlq Vpsrlq => select_shift::<Psrlq>;
    Psraw Vpsraw => select_shift::<Psraw>;
    Psrad Vpsrad => select_shift::<Psrad>;
    Pslldq Vpslldq => select_shift::<Pslldq>;
    Psrldq Vpsrldq => select_shift::<Psrldq>;
    Ptest Vptest => select_test::<Bits>;
    Vtestps => select_test::<SignsOfSingles>;
    Vtestpd => select_test::<SignsOfDoubles>;
};
