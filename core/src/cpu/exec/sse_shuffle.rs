//! Shuffles, unpacking, blends, and single lanes put in and taken out.

use iced_x86::Mnemonic as Mn;

use super::sse::{build, lane, lanes, select_packed, set_lane, Source, Xmm};
use crate::cpu::decode::{Flow, Form, Group, Operand};
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
    Pshufd(16) |_, b, imm| build::<u32>(|n| lane(b, choice(imm, n)));
    Pshuflw(16) |_, b, imm| [shuffle_words(b[0], imm), b[1]];
    Pshufhw(16) |_, b, imm| [b[0], shuffle_words(b[1], imm)];
    Shufps(16) |a, b, imm| build::<u32>(|n| lane(if n < 2 { a } else { b }, choice(imm, n)));
    Shufpd(16) |a, b, imm| [a[(imm & 1) as usize], b[(imm >> 1 & 1) as usize]];
    Unpcklps(16) |a, b, _| interleave::<u32>(a, b, false);
    Unpckhps(16) |a, b, _| interleave::<u32>(a, b, true);
    Unpcklpd(16) |a, b, _| [a[0], b[0]];
    Unpckhpd(16) |a, b, _| [a[1], b[1]];
    Punpcklbw(16) |a, b, _| interleave::<u8>(a, b, false);
    Punpckhbw(16) |a, b, _| interleave::<u8>(a, b, true);
    Punpcklwd(16) |a, b, _| interleave::<u16>(a, b, false);
    Punpckhwd(16) |a, b, _| interleave::<u16>(a, b, true);
    Pshufb(16) |a, b, _| shuffle_bytes(a, b);
    Palignr(16) |a, b, imm| align(a, b, imm);
    Blendps(16) |a, b, imm| blend::<u32>(a, b, imm);
    Blendpd(16) |a, b, imm| blend::<u64>(a, b, imm);
    Pblendw(16) |a, b, imm| blend::<u16>(a, b, imm);
}

/// BLENDVPS, BLENDVPD and PBLENDVB: chosen by the top bits of XMM0's lanes.
fn blend_by_register<T: Int, S: Source>(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn) -> Done {
    cpu.check_sse()?;
    let b = S::read::<16>(cpu, bus, insn)?;
    let (a, mask) = (cpu.xmm(insn.r[0]), cpu.xmm(0));
    let chosen = |number| lane(if lane::<T>(mask, number).sign() { b } else { a }, number);
    cpu.set_xmm(insn.r[0], build::<T>(chosen));
    Ok(())
}

fn select_blend_by_register<T: Int>(form: &Form) -> Option<Handler> {
    by_source!(form, blend_by_register, T)
}

/// INSERTPS: from memory there is but one single to choose from.
fn insertps<S: Source>(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn) -> Done {
    cpu.check_sse()?;
    let (b, imm) = (S::read::<4>(cpu, bus, insn)?, insn.imm as u8);
    let from = if S::IN_MEMORY { 0 } else { (imm >> 6) as u32 };
    let result = insert_single(cpu.xmm(insn.r[0]), lane(b, from), imm);
    cpu.set_xmm(insn.r[0], result);
    Ok(())
}

fn select_insertps(form: &Form) -> Option<Handler> {
    by_source!(form, insertps)
}

/// PINSRB, PINSRW, PINSRD and PINSRQ, from a general-purpose register or memory.
fn insert<T: Int, const MEMORY: bool>(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn) -> Done {
    cpu.check_sse()?;
    let value = if MEMORY {
        cpu.read::<T>(bus, insn.seg, cpu.ea(insn))?
    } else {
        T::from_u64(cpu.regs[(insn.r[1] & 15) as usize])
    };
    let mut result = cpu.xmm(insn.r[0]);
    set_lane(&mut result, insn.imm as u32 & (lanes::<T>() - 1), value);
    cpu.set_xmm(insn.r[0], result);
    Ok(())
}

fn select_insert<T: Int>(form: &Form) -> Option<Handler> {
    match (form.operands[0], form.has_memory()) {
        (Operand::Xmm, true) => Some(insert::<T, true>),
        (Operand::Xmm, false) => Some(insert::<T, false>),
        _ => None,
    }
}

/// PEXTRB, PEXTRW, PEXTRD, PEXTRQ and EXTRACTPS, to memory or, zero-extended, to a general-purpose register.
fn extract<T: Int, const MEMORY: bool>(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn) -> Done {
    cpu.check_sse()?;
    let number = insn.imm as u32 & (lanes::<T>() - 1);
    if MEMORY {
        let value = lane::<T>(cpu.xmm(insn.r[0]), number);
        return cpu.write(bus, insn.seg, cpu.ea(insn), value);
    }
    let value = lane::<T>(cpu.xmm(insn.r[1]), number);
    cpu.regs[(insn.r[0] & 15) as usize] = value.to_u64();
    Ok(())
}

fn select_extract<T: Int>(form: &Form) -> Option<Handler> {
    match (form.operands[1], form.has_memory()) {
        (Operand::Xmm, true) => Some(extract::<T, true>),
        (Operand::Xmm, false) => Some(extract::<T, false>),
        _ => None,
    }
}

pub static ROWS: Group = &[
    (Mn::Pshufd, select_packed::<Pshufd>, Flow::Next),
    (Mn::Pshuflw, select_packed::<Pshuflw>, Flow::Next),
    (Mn::Pshufhw, select_packed::<Pshufhw>, Flow::Next),
    (Mn::Shufps, select_packed::<Shufps>, Flow::Next),
    (Mn::Shufpd, select_packed::<Shufpd>, Flow::Next),
    (Mn::Unpcklps, select_packed::<Unpcklps>, Flow::Next),
    (Mn::Unpckhps, select_packed::<Unpckhps>, Flow::Next),
    (Mn::Unpcklpd, select_packed::<Unpcklpd>, Flow::Next),
    (Mn::Unpckhpd, select_packed::<Unpckhpd>, Flow::Next),
    (Mn::Punpcklbw, select_packed::<Punpcklbw>, Flow::Next),
    (Mn::Punpckhbw, select_packed::<Punpckhbw>, Flow::Next),
    (Mn::Punpcklwd, select_packed::<Punpcklwd>, Flow::Next),
    (Mn::Punpckhwd, select_packed::<Punpckhwd>, Flow::Next),
    (Mn::Punpckldq, select_packed::<Unpcklps>, Flow::Next),
    (Mn::Punpckhdq, select_packed::<Unpckhps>, Flow::Next),
    (Mn::Punpcklqdq, select_packed::<Unpcklpd>, Flow::Next),
    (Mn::Punpckhqdq, select_packed::<Unpckhpd>, Flow::Next),
    (Mn::Pshufb, select_packed::<Pshufb>, Flow::Next),
    (Mn::Palignr, select_packed::<Palignr>, Flow::Next),
    (Mn::Blendps, select_packed::<Blendps>, Flow::Next),
    (Mn::Blendpd, select_packed::<Blendpd>, Flow::Next),
    (Mn::Pblendw, select_packed::<Pblendw>, Flow::Next),
    (Mn::Blendvps, select_blend_by_register::<u32>, Flow::Next),
    (Mn::Blendvpd, select_blend_by_register::<u64>, Flow::Next),
    (Mn::Pblendvb, select_blend_by_register::<u8>, Flow::Next),
    (Mn::Insertps, select_insertps, Flow::Next),
    (Mn::Pinsrb, select_insert::<u8>, Flow::Next),
    (Mn::Pinsrw, select_insert::<u16>, Flow::Next),
    (Mn::Pinsrd, select_insert::<u32>, Flow::Next),
    (Mn::Pinsrq, select_insert::<u64>, Flow::Next),
    (Mn::Pextrb, select_extract::<u8>, Flow::Next),
    (Mn::Pextrw, select_extract::<u16>, Flow::Next),
    (Mn::Pextrd, select_extract::<u32>, Flow::Next),
    (Mn::Pextrq, select_extract::<u64>, Flow::Next),
    (Mn::Extractps, select_extract::<u32>, Flow::Next),
];
