//! Shuffles, unpacking, blends, and single lanes put in and taken out.

use super::lanes::{build, lane, lanes, set_lane, Xmm, Ymm};
use super::vector::{read_packed, select_packed, Encoding, Share, Source};
use crate::cpu::decode::{Form, Group};
use crate::cpu::insn::{Handler, Insn};
use crate::cpu::int::Int;
use crate::cpu::{Cpu, Done};
use crate::platform::Bus;

/// Two bits of `imm` for each of four lanes.
fn choice(imm: u8, number: u32) -> u32 {
    (imm >> (number * 2) & 3) as u32
}

/// Four words of one half, chosen by `imm`.
pub fn shuffle_words(half: u64, imm: u8) -> u64 {
    let shuffled = build::<u16>(|number| lane([half, 0], choice(imm, number & 3)));
    shuffled[0]
}

/// Lanes of `a` and `b` in turn, from their low halves or their high ones.
fn interleave<T: Int>(a: Xmm, b: Xmm, high: bool) -> Xmm {
    let first = if high { lanes::<T>() / 2 } else { 0 };
    build::<T>(|number| lane(if number & 1 == 0 { a } else { b }, first + number / 2))
}

fn shuffle_bytes(a: Xmm, b: Xmm) -> Xmm {
    build::<u8>(|number| match lane::<u8>(b, number) {
        control if control & 0x80 != 0 => 0,
        control => lane(a, (control & 15) as u32),
    })
}

/// PALIGNR: the sixteen bytes from byte `imm` of `a` above `b` on.
fn align(a: Xmm, b: Xmm, imm: u8) -> Xmm {
    build(|number| match number + imm as u32 {
        at @ 0..=15 => lane::<u8>(b, at),
        at @ 16..=31 => lane(a, at - 16),
        _ => 0,
    })
}

/// A lane of `b` where the bit of `imm` is set, else of `a`.
fn blend<T: Int>(a: Xmm, b: Xmm, imm: u8) -> Xmm {
    build::<T>(|number| lane(if imm >> number & 1 != 0 { b } else { a }, number))
}

fn insert_single(a: Xmm, single: u32, imm: u8) -> Xmm {
    let mut result = a;
    set_lane(&mut result, (imm >> 4 & 3) as u32, single);
    for number in (0..4).filter(|number| imm >> number & 1 != 0) {
        set_lane(&mut result, number, 0u32);
    }
    result
}

packed! {
    Pshufd |_, b, imm| build::<u32>(|n| lane(b, choice(imm, n)));
    Pshuflw |_, b, imm| [shuffle_words(b[0], imm), b[1]];
    Pshufhw |_, b, imm| [b[0], shuffle_words(b[1], imm)];
    Shufps |a, b, imm| build::<u32>(|n| lane(if n < 2 { a } else { b }, choice(imm, n)));
    Shufpd(Share::Own, 2) |a, b, imm| [a[(imm & 1) as usize], b[(imm >> 1 & 1) as usize]];
    Unpcklps |a, b, _| interleave::<u32>(a, b, false);
    Unpckhps |a, b, _| interleave::<u32>(a, b, true);
    Unpcklpd |a, b, _| [a[0], b[0]];
    Unpckhpd |a, b, _| [a[1], b[1]];
    Punpcklbw |a, b, _| interleave::<u8>(a, b, false);
    Punpckhbw |a, b, _| interleave::<u8>(a, b, true);
    Punpcklwd |a, b, _| interleave::<u16>(a, b, false);
    Punpckhwd |a, b, _| interleave::<u16>(a, b, true);
    Pshufb |a, b, _| shuffle_bytes(a, b);
    Palignr |a, b, imm| align(a, b, imm);
    Blendps(Share::Own, 4) |a, b, imm| blend::<u32>(a, b, imm);
    Blendpd(Share::Own, 2) |a, b, imm| blend::<u64>(a, b, imm);
    Pblendw |a, b, imm| blend::<u16>(a, b, imm);
}

/// BLENDVPS, BLENDVPD and PBLENDVB: chosen by the top bits of a mask's lanes, which is XMM0 or, VEX-encoded, a fourth
/// register.
fn blend_by_register<T: Int, E: Encoding, S: Source>(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn) -> Done {
    E::check(cpu)?;
    let b = read_packed::<E, S>(cpu, bus, insn)?;
    let a = cpu.vector(insn.r[E::FIRST]);
    let mask = cpu.vector(if E::VEX { insn.imm as u8 } else { 0 });
    let mut result = Ymm::default();
    for half in 0..E::LANES {
        result[half] = build::<T>(|number| {
            let chosen = lane::<T>(mask[half], number).sign();
            lane(if chosen { b[half] } else { a[half] }, number)
        });
    }
    E::write(cpu, insn.r[0], result);
    Ok(())
}

fn select_blend_by_register<T: Int>(form: &Form) -> Option<Handler> {
    by_encoding!(form, blend_by_register, T)
}

/// INSERTPS: from memory there is but one single to choose from.
fn insertps<E: Encoding, S: Source>(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn) -> Done {
    E::check(cpu)?;
    let (b, imm) = (S::read::<E, 4>(cpu, bus, insn)?, insn.imm as u8);
    let from = if S::IN_MEMORY { 0 } else { (imm >> 6) as u32 };
    let result = insert_single(cpu.xmm(insn.r[E::FIRST]), lane(b[0], from), imm);
    E::write(cpu, insn.r[0], [result, [0; 2]]);
    Ok(())
}

fn select_insertps(form: &Form) -> Option<Handler> {
    by_narrow_encoding!(form, insertps)
}

/// PINSRB, PINSRW, PINSRD and PINSRQ, from a general-purpose register or memory.
fn insert<T: Int, E: Encoding, S: Source>(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn) -> Done {
    E::check(cpu)?;
    let value = if S::IN_MEMORY {
        cpu.read::<T>(bus, insn.seg, cpu.ea(insn))?
    } else {
        T::from_u64(cpu.regs[(insn.r[2] & 15) as usize])
    };
    let mut result = cpu.xmm(insn.r[E::FIRST]);
    set_lane(&mut result, insn.imm as u32 & (lanes::<T>() - 1), value);
    E::write(cpu, insn.r[0], [result, [0; 2]]);
    Ok(())
}

fn select_insert<T: Int>(form: &Form) -> Option<Handler> {
    by_narrow_encoding!(form, insert, T)
}

/// PEXTRB, PEXTRW, PEXTRD, PEXTRQ and EXTRACTPS, to memory or, zero-extended, to a general-purpose register.
fn extract<T: Int, E: Encoding, D: Source>(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn) -> Done {
    E::check(cpu)?;
    let number = insn.imm as u32 & (lanes::<T>() - 1);
    if D::IN_MEMORY {
        let value = lane::<T>(cpu.xmm(insn.r[0]), number);
        return cpu.write(bus, insn.seg, cpu.ea(insn), value);
    }
    let value = lane::<T>(cpu.xmm(insn.r[1]), number);
    cpu.regs[(insn.r[0] & 15) as usize] = value.to_u64();
    Ok(())
}

fn select_extract<T: Int>(form: &Form) -> Option<Handler> {
    by_narrow_encoding!(form, extract, T)
}

pub static ROWS: Group = vector_rows! {
    Pshufd Vpshufd => select_packed::<Pshufd>;
    Pshuflw Vpshuflw => select_packed::<Pshuflw>;
    Pshufhw Vpshufhw => select_packed::<Pshufhw>;
    Shufps Vshufps => select_packed::<Shufps>;
    Shufpd Vshufpd => select_packed::<Shufpd>;
    Unpcklps Vunpcklps => select_packed::<Unpcklps>;
    Unpckhps Vunpckhps => select_packed::<Unpckhps>;
    Unpcklpd Vunpcklpd => select_packed::<Unpcklpd>;
    Unpckhpd Vunpckhpd => select_packed::<Unpckhpd>;
    Punpcklbw Vpunpcklbw => select_packed::<Punpcklbw>;
    Punpckhbw Vpunpckhbw => select_packed::<Punpckhbw>;
    Punpcklwd Vpunpcklwd => select_packed::<Punpcklwd>;
    Punpckhwd Vpunpckhwd => select_packed::<Punpckhwd>;
    Punpckldq Vpunpckldq => select_packed::<Unpcklps>;
    Punpckhdq Vpunpckhdq => select_packed::<Unpckhps>;
    Punpcklqdq Vpunpcklqdq => select_packed::<Unpcklpd>;
    Punpckhqdq Vpunpckhqdq => select_packed::<Unpckhpd>;
    Pshufb Vpshufb => select_packed::<Pshufb>;
    Palignr Vpalignr => select_packed::<Palignr>;
    Blendps Vblendps => select_packed::<Blendps>;
    Blendpd Vblendpd => select_packed::<Blendpd>;
    Pblendw Vpblendw => select_packed::<Pblendw>;
    Blendvps Vblendvps => select_blend_by_register::<u32>;
    Blendvpd Vblendvpd => select_blend_by_register::<u64>;
    Pblendvb Vpblendvb => select_blend_by_register::<u8>;
    Insertps Vinsertps => select_insertps;
    Pinsrb Vpinsrb => select_insert::<u8>;
    Pinsrw Vpinsrw => select_insert::<u16>;
    Pinsrd Vpinsrd => select_insert::<u32>;
    Pinsrq Vpinsrq => select_insert::<u64>;
    Pextrb Vpextrb => select_extract::<u8>;
    Pextrw Vpextrw => select_extract::<u16>;
    Pextrd Vpextrd => select_extract::<u32>;
    Pextrq Vpextrq => select_extract::<u64>;
    Extractps Vextractps => select_extract::<u32>;
};
