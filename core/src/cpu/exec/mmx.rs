//! MMX: the significands of the x87 registers as vectors (SDM vol. 1, chapter 9). Lanes are computed by the SSE
//! instructions of the same name.

use iced_x86::Mnemonic as Mn;

use super::lanes::{lane, set_lane, Xmm};
use super::vector::{Legacy, Packed};
use super::vector_integer::*;
use super::vector_move::store_chosen;
use super::vector_shuffle::*;
use crate::cpu::decode::{Flow, Form, Group, Operand};
use crate::cpu::float::{self, Double, Environment, Single};
use crate::cpu::insn::{Handler, Insn};
use crate::cpu::int::Int;
use crate::cpu::{Cpu, Done, Stop};
use crate::platform::Bus;

/// The source of an instruction whose destination is an MMX register.
trait Source {
    const IN_MEMORY: bool = true;
    fn read(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn) -> Result<u64, Stop>;
}

struct Register;
struct Memory32;
struct Memory64;

impl Source for Register {
    const IN_MEMORY: bool = false;
    #[inline(always)]
    fn read(cpu: &mut Cpu, _: &mut Bus, insn: &Insn) -> Result<u64, Stop> {
        Ok(cpu.x87.mmx(insn.r[1]))
    }
}

impl Source for Memory32 {
    #[inline(always)]
    fn read(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn) -> Result<u64, Stop> {
        Ok(cpu.read::<u32>(bus, insn.seg, cpu.ea(insn))? as u64)
    }
}

impl Source for Memory64 {
    #[inline(always)]
    fn read(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn) -> Result<u64, Stop> {
        cpu.read::<u64>(bus, insn.seg, cpu.ea(insn))
    }
}

fn packed<O: Packed, S: Source>(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn) -> Done {
    cpu.check_mmx()?;
    let b = S::read(cpu, bus, insn)?;
    let result = O::compute([cpu.x87.mmx(insn.r[0]), 0], [b, 0], insn.imm as u8);
    cpu.x87.enter_mmx();
    cpu.x87.set_mmx(insn.r[0], result[0]);
    Ok(())
}

fn select<O: Packed>(form: &Form) -> Option<Handler> {
    match (form.operands[0], form.operands[1]) {
        (Operand::Mmx, Operand::Mmx) => Some(packed::<O, Register>),
        (Operand::Mmx, Operand::Memory(4)) => Some(packed::<O, Memory32>),
        (Operand::Mmx, Operand::Memory(_)) => Some(packed::<O, Memory64>),
        _ => None,
    }
}

/// The high half of what an SSE instruction makes of the low halves.
struct High<O>(O);
impl<O: Packed> Packed for High<O> {
    fn compute(a: Xmm, b: Xmm, imm: u8) -> Xmm {
        [O::compute(a, b, imm)[1], 0]
    }
}

/// For SSE instructions whose low half comes of all of the destination: the source takes its upper half's place.
struct Joined<O>(O);
impl<O: Packed> Packed for Joined<O> {
    fn compute(a: Xmm, b: Xmm, imm: u8) -> Xmm {
        O::compute([a[0], b[0]], [0; 2], imm)
    }
}

packed! {
    PshufbMmx |a, b, _| Pshufb::compute(a, [b[0] & 0x8787_8787_8787_8787, 0], 0);
    PalignrMmx |a, b, imm| whole_right([b[0], a[0]], imm as u64);
    PshufwMmx |_, b, imm| [shuffle_words(b[0], imm), 0];
    Copy |_, b, _| b;
}

fn shift_by_immediate<O: Shift>(cpu: &mut Cpu, _: &mut Bus, insn: &Insn) -> Done {
    cpu.check_mmx()?;
    let result = O::shift([cpu.x87.mmx(insn.r[0]), 0], insn.imm & 0xff);
    cpu.x87.enter_mmx();
    cpu.x87.set_mmx(insn.r[0], result[0]);
    Ok(())
}

fn select_shift<O: Shift + Packed>(form: &Form) -> Option<Handler> {
    match (form.operands[0], form.operands[1]) {
        (Operand::Mmx, Operand::Immediate) => Some(shift_by_immediate::<O>),
        _ => select::<O>(form),
    }
}

// Moves.

fn from_general<T: Int>(cpu: &mut Cpu, _: &mut Bus, insn: &Insn) -> Done {
    cpu.check_mmx()?;
    let value = cpu.reg::<T>(insn.r[1]).to_u64();
    cpu.x87.enter_mmx();
    cpu.x87.set_mmx(insn.r[0], value);
    Ok(())
}

fn to_general<T: Int>(cpu: &mut Cpu, _: &mut Bus, insn: &Insn) -> Done {
    cpu.check_mmx()?;
    let value = T::from_u64(cpu.x87.mmx(insn.r[1]));
    cpu.x87.enter_mmx();
    cpu.set_reg(insn.r[0], value);
    Ok(())
}

fn store<T: Int>(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn) -> Done {
    cpu.check_mmx()?;
    let value = T::from_u64(cpu.x87.mmx(insn.r[0]));
    cpu.x87.turn_to_0();
    cpu.write(bus, insn.seg, cpu.ea(insn), value)?;
    cpu.x87.enter_mmx();
    Ok(())
}

fn copy(cpu: &mut Cpu, _: &mut Bus, insn: &Insn) -> Done {
    cpu.check_mmx()?;
    cpu.x87.enter_mmx();
    cpu.x87.set_mmx(insn.r[0], cpu.x87.mmx(insn.r[1]));
    Ok(())
}

/// MOVD, MOVQ and MOVNTQ.
fn select_move<T: Int>(form: &Form) -> Option<Handler> {
    match (form.operands[0], form.operands[1]) {
        (Operand::Mmx, Operand::Mmx) => Some(copy),
        (Operand::Mmx, Operand::Gpr(_)) => Some(from_general::<T>),
        (Operand::Gpr(_), Operand::Mmx) => Some(to_general::<T>),
        (Operand::Memory(_), Operand::Mmx) => Some(store::<T>),
        _ => select::<Copy>(form),
    }
}

/// MOVQ2DQ and MOVDQ2Q.
fn to_xmm(cpu: &mut Cpu, _: &mut Bus, insn: &Insn) -> Done {
    cpu.check_sse()?;
    cpu.check_mmx()?;
    cpu.x87.enter_mmx();
    cpu.set_xmm(insn.r[0], [cpu.x87.mmx(insn.r[1]), 0]);
    Ok(())
}

fn from_xmm(cpu: &mut Cpu, _: &mut Bus, insn: &Insn) -> Done {
    cpu.check_sse()?;
    cpu.check_mmx()?;
    cpu.x87.enter_mmx();
    cpu.x87.set_mmx(insn.r[0], cpu.xmm(insn.r[1])[0]);
    Ok(())
}

fn insert<const MEMORY: bool>(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn) -> Done {
    cpu.check_mmx()?;
    let word = if MEMORY {
        cpu.read::<u16>(bus, insn.seg, cpu.ea(insn))?
    } else {
        cpu.reg::<u16>(insn.r[1])
    };
    let mut value = [cpu.x87.mmx(insn.r[0]), 0];
    set_lane(&mut value, insn.imm as u32 & 3, word);
    cpu.x87.enter_mmx();
    cpu.x87.set_mmx(insn.r[0], value[0]);
    Ok(())
}

fn select_insert(form: &Form) -> Option<Handler> {
    match (form.operands[0], form.operands[1]) {
        (Operand::Mmx, Operand::Memory(_)) => Some(insert::<true>),
        (Operand::Mmx, _) => Some(insert::<false>),
        _ => None,
    }
}

fn extract(cpu: &mut Cpu, _: &mut Bus, insn: &Insn) -> Done {
    cpu.check_mmx()?;
    let word: u16 = lane([cpu.x87.mmx(insn.r[1]), 0], insn.imm as u32 & 3);
    cpu.x87.enter_mmx();
    cpu.set_reg(insn.r[0], word as u64);
    Ok(())
}

fn move_mask(cpu: &mut Cpu, _: &mut Bus, insn: &Insn) -> Done {
    cpu.check_mmx()?;
    let bytes = cpu.x87.mmx(insn.r[1]).to_le_bytes();
    let signs = bytes
        .iter()
        .rev()
        .fold(0, |all, byte| all << 1 | (byte >> 7) as u64);
    cpu.x87.enter_mmx();
    cpu.set_reg(insn.r[0], signs);
    Ok(())
}

fn if_mmx_source(form: &Form, handler: Handler) -> Option<Handler> {
    (form.operands[1] == Operand::Mmx).then_some(handler)
}

/// MASKMOVQ: the bytes of the first operand whose mask in the second has its top bit, to DS:rDI.
fn masked_store(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn) -> Done {
    cpu.check_mmx()?;
    let (value, mask) = (cpu.x87.mmx(insn.r[0]), cpu.x87.mmx(insn.r[1]));
    cpu.x87.turn_to_0();
    store_chosen::<8>(cpu, bus, insn, [value, 0], [mask, 0])?;
    cpu.x87.enter_mmx();
    Ok(())
}

fn emms(cpu: &mut Cpu, _: &mut Bus, _: &Insn) -> Done {
    cpu.check_mmx()?;
    cpu.x87.enter_mmx();
    cpu.x87.tag = 0xffff;
    Ok(())
}

// Conversions between MMX integers and XMM floating point.

/// CVTPI2PS and CVTPI2PD: only a source that is an MMX register makes them MMX instructions.
fn to_floats<const DOUBLE: bool, S: Source>(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn) -> Done {
    cpu.check_sse()?;
    if !S::IN_MEMORY {
        cpu.check_mmx()?;
        cpu.x87.enter_mmx();
    }
    let value = S::read(cpu, bus, insn)?;
    let mut environment = Environment::new(cpu.mxcsr);
    let integers = [value as u32, (value >> 32) as u32].map(|lane| lane as i32 as i64);
    if DOUBLE {
        let result = integers.map(|lane| float::from_integer::<Double>(&mut environment, lane));
        cpu.set_xmm(insn.r[0], result);
    } else {
        let [low, high] = integers.map(|lane| float::from_integer::<Single>(&mut environment, lane));
        cpu.float_exceptions(&environment)?;
        let [_, kept] = cpu.xmm(insn.r[0]);
        cpu.set_xmm(insn.r[0], [low | high << 32, kept]);
    }
    Ok(())
}

fn select_to_floats<const DOUBLE: bool>(form: &Form) -> Option<Handler> {
    match form.operands[1] {
        Operand::Mmx => Some(to_floats::<DOUBLE, Register>),
        _ => Some(to_floats::<DOUBLE, Memory64>),
    }
}

fn to_integers<const DOUBLE: bool, const TRUNCATE: bool, S: super::vector::Source>(
    cpu: &mut Cpu,
    bus: &mut Bus,
    insn: &Insn,
) -> Done {
    cpu.check_sse()?;
    cpu.check_mmx()?;
    let mut environment = Environment::new(cpu.mxcsr);
    let [low, high] = if DOUBLE {
        S::read::<Legacy, 16>(cpu, bus, insn)?[0]
            .map(|lane| float::to_integer::<Double>(&mut environment, lane, 32, TRUNCATE))
    } else {
        let value = S::read::<Legacy, 8>(cpu, bus, insn)?[0][0];
        [value & 0xffff_ffff, value >> 32]
            .map(|lane| float::to_integer::<Single>(&mut environment, lane, 32, TRUNCATE))
    };
    cpu.x87.enter_mmx();
    cpu.float_exceptions(&environment)?;
    cpu.x87.set_mmx(insn.r[0], low | high << 32);
    Ok(())
}

fn select_to_integers<const DOUBLE: bool, const TRUNCATE: bool>(form: &Form) -> Option<Handler> {
    match form.operands[1] {
        Operand::Xmm => Some(to_integers::<DOUBLE, TRUNCATE, super::vector::Register>),
        _ => Some(to_integers::<DOUBLE, TRUNCATE, super::vector::Memory>),
    }
}

pub static ROWS: Group = &[
    (Mn::Emms, |_| Some(emms), Flow::Next),
    (Mn::Movd, select_move::<u32>, Flow::Next),
    (Mn::Movq, select_move::<u64>, Flow::Next),
    (Mn::Movntq, select_move::<u64>, Flow::Next),
    (Mn::Movq2dq, |_| Some(to_xmm), Flow::Next),
    (Mn::Movdq2q, |_| Some(from_xmm), Flow::Next),
    (Mn::Maskmovq, |_| Some(masked_store), Flow::Next),
    (Mn::Pinsrw, select_insert, Flow::Next),
    (Mn::Pextrw, |form| if_mmx_source(form, extract), Flow::Next),
    (Mn::Pmovmskb, |form| if_mmx_source(form, move_mask), Flow::Next),
    (Mn::Cvtpi2ps, select_to_floats::<false>, Flow::Next),
    (Mn::Cvtpi2pd, select_to_floats::<true>, Flow::Next),
    (Mn::Cvtps2pi, select_to_integers::<false, false>, Flow::Next),
    (Mn::Cvttps2pi, select_to_integers::<false, true>, Flow::Next),
    (Mn::Cvtpd2pi, select_to_integers::<true, false>, Flow::Next),
    (Mn::Cvttpd2pi, select_to_integers::<true, true>, Flow::Next),
    (Mn::Pshufw, select::<PshufwMmx>, Flow::Next),
    (Mn::Pshufb, select::<PshufbMmx>, Flow::Next),
    (Mn::Palignr, select::<PalignrMmx>, Flow::Next),
    (Mn::Punpcklbw, select::<Punpcklbw>, Flow::Next),
    (Mn::Punpcklwd, select::<Punpcklwd>, Flow::Next),
    (Mn::Punpckldq, select::<Unpcklps>, Flow::Next),
    (Mn::Punpckhbw, select::<High<Punpcklbw>>, Flow::Next),
    (Mn::Punpckhwd, select::<High<Punpcklwd>>, Flow::Next),
    (Mn::Punpckhdq, select::<High<Unpcklps>>, Flow::Next),
    (Mn::Packsswb, select::<Joined<Packsswb>>, Flow::Next),
    (Mn::Packssdw, select::<Joined<Packssdw>>, Flow::Next),
    (Mn::Packuswb, select::<Joined<Packuswb>>, Flow::Next),
    (Mn::Phaddw, select::<Joined<Phaddw>>, Flow::Next),
    (Mn::Phaddd, select::<Joined<Phaddd>>, Flow::Next),
    (Mn::Phaddsw, select::<Joined<Phaddsw>>, Flow::Next),
    (Mn::Phsubw, select::<Joined<Phsubw>>, Flow::Next),
    (Mn::Phsubd, select::<Joined<Phsubd>>, Flow::Next),
    (Mn::Phsubsw, select::<Joined<Phsubsw>>, Flow::Next),
    (Mn::Pand, select::<And>, Flow::Next),
    (Mn::Pandn, select::<AndNot>, Flow::Next),
    (Mn::Por, select::<Or>, Flow::Next),
    (Mn::Pxor, select::<Xor>, Flow::Next),
    (Mn::Paddb, select::<Paddb>, Flow::Next),
    (Mn::Paddw, select::<Paddw>, Flow::Next),
    (Mn::Paddd, select::<Paddd>, Flow::Next),
    (Mn::Paddq, select::<Paddq>, Flow::Next),
    (Mn::Psubb, select::<Psubb>, Flow::Next),
    (Mn::Psubw, select::<Psubw>, Flow::Next),
    (Mn::Psubd, select::<Psubd>, Flow::Next),
    (Mn::Psubq, select::<Psubq>, Flow::Next),
    (Mn::Paddsb, select::<Paddsb>, Flow::Next),
    (Mn::Paddsw, select::<Paddsw>, Flow::Next),
    (Mn::Psubsb, select::<Psubsb>, Flow::Next),
    (Mn::Psubsw, select::<Psubsw>, Flow::Next),
    (Mn::Paddusb, select::<Paddusb>, Flow::Next),
    (Mn::Paddusw, select::<Paddusw>, Flow::Next),
    (Mn::Psubusb, select::<Psubusb>, Flow::Next),
    (Mn::Psubusw, select::<Psubusw>, Flow::Next),
    (Mn::Pavgb, select::<Pavgb>, Flow::Next),
    (Mn::Pavgw, select::<Pavgw>, Flow::Next),
    (Mn::Pmullw, select::<Pmullw>, Flow::Next),
    (Mn::Pmulhw, select::<Pmulhw>, Flow::Next),
    (Mn::Pmulhuw, select::<Pmulhuw>, Flow::Next),
    (Mn::Pmulhrsw, select::<Pmulhrsw>, Flow::Next),
    (Mn::Pmuludq, select::<Pmuludq>, Flow::Next),
    (Mn::Pmaddwd, select::<Pmaddwd>, Flow::Next),
    (Mn::Pmaddubsw, select::<Pmaddubsw>, Flow::Next),
    (Mn::Psadbw, select::<Psadbw>, Flow::Next),
    (Mn::Pminub, select::<Pminub>, Flow::Next),
    (Mn::Pminsw, select::<Pminsw>, Flow::Next),
    (Mn::Pmaxub, select::<Pmaxub>, Flow::Next),
    (Mn::Pmaxsw, select::<Pmaxsw>, Flow::Next),
    (Mn::Pcmpeqb, select::<Pcmpeqb>, Flow::Next),
    (Mn::Pcmpeqw, select::<Pcmpeqw>, Flow::Next),
    (Mn::Pcmpeqd, select::<Pcmpeqd>, Flow::Next),
    (Mn::Pcmpgtb, select::<Pcmpgtb>, Flow::Next),
    (Mn::Pcmpgtw, select::<Pcmpgtw>, Flow::Next),
    (Mn::Pcmpgtd, select::<Pcmpgtd>, Flow::Next),
    (Mn::Psignb, select::<Psignb>, Flow::Next),
    (Mn::Psignw, select::<Psignw>, Flow::Next),
    (Mn::Psignd, select::<Psignd>, Flow::Next),
    (Mn::Pabsb, select::<Pabsb>, Flow::Next),
    (Mn::Pabsw, select::<Pabsw>, Flow::Next),
    (Mn::Pabsd, select::<Pabsd>, Flow::Next),
    (Mn::Psllw, select_shift::<Psllw>, Flow::Next),
    (Mn::Pslld, select_shift::<Pslld>, Flow::Next),
    (Mn::Psllq, select_shift::<Psllq>, Flow::Next),
    (Mn::Psrlw, select_shift::<Psrlw>, Flow::Next),
    (Mn::Psrld, select_shift::<Psrld>, Flow::Next),
    (Mn::Psrlq, select_shift::<Psrlq>, Flow::Next),
    (Mn::Psraw, select_shift::<Psraw>, Flow::Next),
    (Mn::Psrad, select_shift::<Psrad>, Flow::Next),
];
