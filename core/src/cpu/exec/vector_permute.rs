//! What AVX and AVX2 add to SSE's shuffles: broadcasts, permutations, halves put in and taken out, a count for each lane
//! of a shift.

use super::lanes::{build, lane, set_wide_lane, wide_lane, zip, Ymm};
use super::vector::{read_packed, select_packed, Encoding, Packed, Share, Source, Vex};
use super::vector_shuffle::{Blendps, Pshufd};
use crate::cpu::decode::{Form, Group, Operand};
use crate::cpu::insn::{Handler, Insn};
use crate::cpu::int::Int;
use crate::cpu::{Cpu, Done};
use crate::platform::Bus;

/// All lanes are the lowest of the source.
fn broadcast<T: Int, E: Encoding, S: Source>(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn) -> Done {
    E::check(cpu)?;
    let [source, _] = match T::BYTES {
        1 => S::read::<E, 1>(cpu, bus, insn)?,
        2 => S::read::<E, 2>(cpu, bus, insn)?,
        4 => S::read::<E, 4>(cpu, bus, insn)?,
        _ => S::read::<E, 8>(cpu, bus, insn)?,
    };
    let filled = build::<T>(|_| lane(source, 0));
    E::write(cpu, insn.r[0], [filled; 2]);
    Ok(())
}

fn select_broadcast<T: Int>(form: &Form) -> Option<Handler> {
    by_encoding!(form, broadcast, T)
}

packed! {
    BroadcastHalf(Share::Same) |_, b, _| b;
    PermilpsByRegister |a, b, _| build::<u32>(|n| lane(a, lane::<u32>(b, n) & 3));
    PermilpdByRegister |a, b, _| [0, 1].map(|n: usize| a[(b[n] >> 1 & 1) as usize]);
    Permilpd(Share::Own, 2) |_, b, imm| [b[(imm & 1) as usize], b[(imm >> 1 & 1) as usize]];
    Psllvd |a, b, _| zip::<u32>(a, b, |a, count| a.checked_shl(count).unwrap_or(0));
    Psllvq |a, b, _| zip::<u64>(a, b, |a, count| if count < 64 { a << count } else { 0 });
    Psrlvd |a, b, _| zip::<u32>(a, b, |a, count| a.checked_shr(count).unwrap_or(0));
    Psrlvq |a, b, _| zip::<u64>(a, b, |a, count| if count < 64 { a >> count } else { 0 });
    Psravd |a, b, _| zip::<u32>(a, b, |a, count| (a as i32 >> count.min(31)) as u32);
}

/// The same mnemonic has its choices in an immediate or in a register.
fn by_immediate<Immediate: Packed, Variable: Packed>(form: &Form) -> Option<Handler> {
    if form.operands.contains(&Operand::Immediate) {
        select_packed::<Immediate>(form)
    } else {
        select_packed::<Variable>(form)
    }
}

/// An instruction whose lanes may come from anywhere in its sources.
trait Crossing {
    fn compute(a: Ymm, b: Ymm, imm: u8) -> Ymm;
}

/// VPERMD and VPERMPS: lanes of `b` by the numbers in `a`.
struct ByNumbers;
impl Crossing for ByNumbers {
    fn compute(a: Ymm, b: Ymm, _: u8) -> Ymm {
        let mut result = Ymm::default();
        for number in 0..8 {
            let from: u32 = wide_lane(a, number);
            set_wide_lane::<u32>(&mut result, number, wide_lane(b, from & 7));
        }
        result
    }
}

/// VPERMQ and VPERMPD: lanes of `b` by the immediate.
struct ByImmediate;
impl Crossing for ByImmediate {
    fn compute(_: Ymm, b: Ymm, imm: u8) -> Ymm {
        let mut result = Ymm::default();
        for number in 0..4 {
            let from = (imm >> (2 * number) & 3) as u32;
            set_wide_lane::<u64>(&mut result, number, wide_lane(b, from));
        }
        result
    }
}

/// VPERM2F128 and VPERM2I128: halves of both sources, or zeros.
struct Halves;
impl Crossing for Halves {
    fn compute(a: Ymm, b: Ymm, imm: u8) -> Ymm {
        let half = |control: u8| match control & 15 {
            control if control & 8 != 0 => [0; 2],
            control if control & 2 != 0 => b[(control & 1) as usize],
            control => a[(control & 1) as usize],
        };
        [half(imm), half(imm >> 4)]
    }
}

fn crossing<O: Crossing, E: Encoding, S: Source>(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn) -> Done {
    E::check(cpu)?;
    let b = read_packed::<E, S>(cpu, bus, insn)?;
    let result = O::compute(cpu.vector(insn.r[E::FIRST]), b, insn.imm as u8);
    E::write(cpu, insn.r[0], result);
    Ok(())
}

fn select_crossing<O: Crossing>(form: &Form) -> Option<Handler> {
    by_source!(form, crossing, O, Vex<2>)
}

/// VINSERTF128 and VINSERTI128.
fn insert_half<E: Encoding, S: Source>(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn) -> Done {
    E::check(cpu)?;
    let [half, _] = S::read::<E, 16>(cpu, bus, insn)?;
    let mut result = cpu.vector(insn.r[E::FIRST]);
    result[(insn.imm & 1) as usize] = half;
    E::write(cpu, insn.r[0], result);
    Ok(())
}

/// VEXTRACTF128 and VEXTRACTI128, to memory or to the lower half of a register.
fn extract_half<E: Encoding, D: Source>(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn) -> Done {
    E::check(cpu)?;
    let source = if D::IN_MEMORY { insn.r[0] } else { insn.r[1] };
    let half = [cpu.vector(source)[(insn.imm & 1) as usize], [0; 2]];
    if D::IN_MEMORY {
        return cpu.write_vector::<Vex<1>>(bus, insn, false, half);
    }
    E::write(cpu, insn.r[0], half);
    Ok(())
}

pub static ROWS: Group = vector_rows! {
    Vbroadcastss Vpbroadcastd => select_broadcast::<u32>;
    Vbroadcastsd Vpbroadcastq => select_broadcast::<u64>;
    Vpbroadcastb => select_broadcast::<u8>;
    Vpbroadcastw => select_broadcast::<u16>;
    Vbroadcastf128 Vbroadcasti128 => select_packed::<BroadcastHalf>;
    Vinsertf128 Vinserti128 => |form| by_source!(form, insert_half, Vex<2>);
    Vextractf128 Vextracti128 => |form| by_source!(form, extract_half, Vex<2>);
    Vperm2f128 Vperm2i128 => select_crossing::<Halves>;
    Vpermd Vpermps => select_crossing::<ByNumbers>;
    Vpermq Vpermpd => select_crossing::<ByImmediate>;
    Vpermilps => by_immediate::<Pshufd, PermilpsByRegister>;
    Vpermilpd => by_immediate::<Permilpd, PermilpdByRegister>;
    Vpblendd => select_packed::<Blendps>;
    Vpsllvd => select_packed::<Psllvd>;
    Vpsllvq => select_packed::<Psllvq>;
    Vpsrlvd => select_packed::<Psrlvd>;
    Vpsrlvq => select_packed::<Psrlvq>;
    Vpsravd => select_packed::<Psravd>;
};
