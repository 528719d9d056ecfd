//! Moves between XMM registers, general-purpose registers and memory.

use iced_x86::Mnemonic as Mn;

use super::sse::{lane, lanes, Xmm};
use crate::cpu::decode::{Flow, Form, Group, Operand};
use crate::cpu::insn::{Handler, Insn};
use crate::cpu::int::Int;
use crate::cpu::{Cpu, Done, RDI};
use crate::platform::Bus;

fn load<const ALIGNED: bool>(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn) -> Done {
    cpu.check_sse()?;
    let value = cpu.read_xmm(bus, insn, ALIGNED)?;
    cpu.set_xmm(insn.r[0], value);
    Ok(())
}

fn store<const ALIGNED: bool>(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn) -> Done {
    cpu.check_sse()?;
    cpu.write_xmm(bus, insn, ALIGNED, cpu.xmm(insn.r[0]))
}

fn copy(cpu: &mut Cpu, _: &mut Bus, insn: &Insn) -> Done {
    cpu.check_sse()?;
    cpu.set_xmm(insn.r[0], cpu.xmm(insn.r[1]));
    Ok(())
}

fn select_whole<const ALIGNED: bool>(form: &Form) -> Option<Handler> {
    match (form.operands[0], form.operands[1]) {
        (Operand::Xmm, Operand::Xmm) => Some(copy),
        (Operand::Xmm, Operand::Memory(_)) => Some(load::<ALIGNED>),
        (Operand::Memory(_), Operand::Xmm) => Some(store::<ALIGNED>),
        _ => None,
    }
}

/// MOVSS and MOVSD, MOVD and MOVQ: what comes from memory or a general-purpose register is zero-extended.
fn load_low<T: Int>(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn) -> Done {
    cpu.check_sse()?;
    let value = cpu.read::<T>(bus, insn.seg, cpu.ea(insn))?;
    cpu.set_xmm(insn.r[0], [value.to_u64(), 0]);
    Ok(())
}

fn store_low<T: Int>(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn) -> Done {
    cpu.check_sse()?;
    let value = T::from_u64(cpu.xmm(insn.r[0])[0]);
    cpu.write(bus, insn.seg, cpu.ea(insn), value)
}

/// Between registers, MOVSS and MOVSD leave the destination's upper part, MOVQ clears it.
fn merge_low<T: Int>(cpu: &mut Cpu, _: &mut Bus, insn: &Insn) -> Done {
    cpu.check_sse()?;
    let value = T::from_u64(cpu.xmm(insn.r[1])[0]);
    cpu.set_xmm_low(insn.r[0], value);
    Ok(())
}

fn copy_low(cpu: &mut Cpu, _: &mut Bus, insn: &Insn) -> Done {
    cpu.check_sse()?;
    cpu.set_xmm(insn.r[0], [cpu.xmm(insn.r[1])[0], 0]);
    Ok(())
}

fn from_general<T: Int>(cpu: &mut Cpu, _: &mut Bus, insn: &Insn) -> Done {
    cpu.check_sse()?;
    let value = cpu.reg::<T>(insn.r[1]).to_u64();
    cpu.set_xmm(insn.r[0], [value, 0]);
    Ok(())
}

fn to_general<T: Int>(cpu: &mut Cpu, _: &mut Bus, insn: &Insn) -> Done {
    cpu.check_sse()?;
    let value = T::from_u64(cpu.xmm(insn.r[1])[0]);
    cpu.set_reg(insn.r[0], value);
    Ok(())
}

fn select_scalar<T: Int>(form: &Form) -> Option<Handler> {
    match (form.operands[0], form.operands[1]) {
        (Operand::Xmm, Operand::Xmm) => Some(merge_low::<T>),
        (Operand::Xmm, Operand::Memory(_)) => Some(load_low::<T>),
        (Operand::Memory(_), Operand::Xmm) => Some(store_low::<T>),
        _ => None,
    }
}

fn select_word<T: Int>(form: &Form) -> Option<Handler> {
    match (form.operands[0], form.operands[1]) {
        (Operand::Xmm, Operand::Xmm) => Some(copy_low),
        (Operand::Xmm, Operand::Gpr(_)) => Some(from_general::<T>),
        (Operand::Gpr(_), Operand::Xmm) => Some(to_general::<T>),
        _ => select_scalar::<T>(form),
    }
}

/// MOVLPS and MOVHPS, MOVLPD and MOVHPD: one half, from and to memory.
fn load_half<const HIGH: usize>(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn) -> Done {
    cpu.check_sse()?;
    let half = cpu.read::<u64>(bus, insn.seg, cpu.ea(insn))?;
    cpu.ymm[(insn.r[0] & 15) as usize][HIGH] = half;
    Ok(())
}

fn store_half<const HIGH: usize>(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn) -> Done {
    cpu.check_sse()?;
    let half = cpu.xmm(insn.r[0])[HIGH];
    cpu.write(bus, insn.seg, cpu.ea(insn), half)
}

fn select_half<const HIGH: usize>(form: &Form) -> Option<Handler> {
    match form.operands[0] {
        Operand::Xmm => Some(load_half::<HIGH>),
        Operand::Memory(_) => Some(store_half::<HIGH>),
        _ => None,
    }
}

/// The sign bits of `T`'s lanes, as a number.
fn signs<T: Int>(value: Xmm) -> u64 {
    (0..lanes::<T>()).fold(0, |all, number| {
        all | (lane::<T>(value, number).sign() as u64) << number
    })
}

fn move_mask<T: Int>(cpu: &mut Cpu, _: &mut Bus, insn: &Insn) -> Done {
    cpu.check_sse()?;
    cpu.regs[(insn.r[0] & 15) as usize] = signs::<T>(cpu.xmm(insn.r[1]));
    Ok(())
}

fn select_mask<T: Int>(form: &Form) -> Option<Handler> {
    (form.operands[1] == Operand::Xmm).then_some(move_mask::<T>)
}

/// MASKMOVDQU: the bytes of the first operand whose mask in the second has its top bit, to DS:rDI.
fn masked_store(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn) -> Done {
    cpu.check_sse()?;
    let (value, mask) = (cpu.xmm(insn.r[0]), cpu.xmm(insn.r[1]));
    let address = cpu.regs[RDI] & insn.address_mask();
    for number in (0..16).filter(|number| lane::<u8>(mask, *number).sign()) {
        let at = address.wrapping_add(number as u64) & insn.address_mask();
        cpu.write::<u8>(bus, insn.seg, at, lane(value, number))?;
    }
    Ok(())
}

packed! {
    Movhlps(16) |a, b, _| [b[1], a[1]];
    Movlhps(16) |a, b, _| [a[0], b[0]];
    Movddup(8) |_, b, _| [b[0], b[0]];
    Movsldup(16) |_, b, _| super::sse::build::<u32>(|n| lane(b, n & !1));
    Movshdup(16) |_, b, _| super::sse::build::<u32>(|n| lane(b, n | 1));
}

pub static ROWS: Group = &[
    (Mn::Movaps, select_whole::<true>, Flow::Next),
    (Mn::Movapd, select_whole::<true>, Flow::Next),
    (Mn::Movdqa, select_whole::<true>, Flow::Next),
    (Mn::Movntps, select_whole::<true>, Flow::Next),
    (Mn::Movntpd, select_whole::<true>, Flow::Next),
    (Mn::Movntdq, select_whole::<true>, Flow::Next),
    (Mn::Movntdqa, select_whole::<true>, Flow::Next),
    (Mn::Movups, select_whole::<false>, Flow::Next),
    (Mn::Movupd, select_whole::<false>, Flow::Next),
    (Mn::Movdqu, select_whole::<false>, Flow::Next),
    (Mn::Lddqu, select_whole::<false>, Flow::Next),
    (Mn::Movss, select_scalar::<u32>, Flow::Next),
    (Mn::Movsd, select_scalar::<u64>, Flow::Next),
    (Mn::Movd, select_word::<u32>, Flow::Next),
    (Mn::Movq, select_word::<u64>, Flow::Next),
    (Mn::Movlps, select_half::<0>, Flow::Next),
    (Mn::Movlpd, select_half::<0>, Flow::Next),
    (Mn::Movhps, select_half::<1>, Flow::Next),
    (Mn::Movhpd, select_half::<1>, Flow::Next),
    (Mn::Movhlps, super::sse::select_packed::<Movhlps>, Flow::Next),
    (Mn::Movlhps, super::sse::select_packed::<Movlhps>, Flow::Next),
    (Mn::Movddup, super::sse::select_packed::<Movddup>, Flow::Next),
    (Mn::Movsldup, super::sse::select_packed::<Movsldup>, Flow::Next),
    (Mn::Movshdup, super::sse::select_packed::<Movshdup>, Flow::Next),
    (Mn::Movmskps, select_mask::<u32>, Flow::Next),
    (Mn::Movmskpd, select_mask::<u64>, Flow::Next),
    (Mn::Pmovmskb, select_mask::<u8>, Flow::Next),
    (Mn::Maskmovdqu, |_| Some(masked_store), Flow::Next),
];
