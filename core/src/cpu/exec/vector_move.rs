//! Moves between vector registers, general-purpose registers and memory.

use super::lanes::{build, lane, lanes, set_lane, Xmm};
use super::vector::{select_packed, Encoding, Share};
use super::vector_select::Encoded;
use crate::cpu::decode::{Form, Group, Operand};
use crate::cpu::insn::{Handler, Insn};
use crate::cpu::int::Int;
use crate::cpu::{Cpu, Done, RDI};
use crate::platform::Bus;

/// Whether #GP(0) keeps a memory operand at multiples of its size.
trait Alignment {
    const ASKED_FOR: bool;
}
struct Aligned;
impl Alignment for Aligned {
    const ASKED_FOR: bool = true;
}
struct Anywhere;
impl Alignment for Anywhere {
    const ASKED_FOR: bool = false;
}

fn load<A: Alignment, E: Encoding>(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn) -> Done {
    E::check(cpu)?;
    let value = cpu.read_vector::<E>(bus, insn, A::ASKED_FOR)?;
    E::write(cpu, insn.r[0], value);
    Ok(())
}

fn store<A: Alignment, E: Encoding>(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn) -> Done {
    E::check(cpu)?;
    cpu.write_vector::<E>(bus, insn, A::ASKED_FOR, cpu.vector(insn.r[0]))
}

fn copy<E: Encoding>(cpu: &mut Cpu, _: &mut Bus, insn: &Insn) -> Done {
    E::check(cpu)?;
    E::write(cpu, insn.r[0], cpu.vector(insn.r[1]));
    Ok(())
}

fn select_whole<A: Alignment>(form: &Form) -> Option<Handler> {
    match (form.operands[0], form.operands[1]) {
        (_, Operand::Memory(_)) => by_length!(form, load, A),
        (Operand::Memory(_), _) => by_length!(form, store, A),
        _ => by_length!(form, copy),
    }
}

/// MOVSS and MOVSD, MOVD and MOVQ: what comes from memory or a general-purpose register is zero-extended.
fn load_low<T: Int, E: Encoding>(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn) -> Done {
    E::check(cpu)?;
    let value = cpu.read::<T>(bus, insn.seg, cpu.ea(insn))?;
    E::write(cpu, insn.r[0], [[value.to_u64(), 0], [0; 2]]);
    Ok(())
}

fn store_low<T: Int, E: Encoding>(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn) -> Done {
    E::check(cpu)?;
    let value = T::from_u64(cpu.xmm(insn.r[0])[0]);
    cpu.write(bus, insn.seg, cpu.ea(insn), value)
}

/// Between registers, MOVSS and MOVSD take the upper part from the first source, MOVQ clears it.
fn merge_low<T: Int, E: Encoding>(cpu: &mut Cpu, _: &mut Bus, insn: &Insn) -> Done {
    E::check(cpu)?;
    let mut result = cpu.vector(insn.r[E::FIRST]);
    set_lane::<T>(&mut result[0], 0, lane(cpu.xmm(insn.r[2]), 0));
    E::write(cpu, insn.r[0], result);
    Ok(())
}

fn copy_low<E: Encoding>(cpu: &mut Cpu, _: &mut Bus, insn: &Insn) -> Done {
    E::check(cpu)?;
    E::write(cpu, insn.r[0], [[cpu.xmm(insn.r[1])[0], 0], [0; 2]]);
    Ok(())
}

fn from_general<T: Int, E: Encoding>(cpu: &mut Cpu, _: &mut Bus, insn: &Insn) -> Done {
    E::check(cpu)?;
    let value = cpu.reg::<T>(insn.r[1]).to_u64();
    E::write(cpu, insn.r[0], [[value, 0], [0; 2]]);
    Ok(())
}

fn to_general<T: Int, E: Encoding>(cpu: &mut Cpu, _: &mut Bus, insn: &Insn) -> Done {
    E::check(cpu)?;
    let value = T::from_u64(cpu.xmm(insn.r[1])[0]);
    cpu.set_reg(insn.r[0], value);
    Ok(())
}

fn select_scalar<T: Int>(form: &Form) -> Option<Handler> {
    match (form.operands[0], form.operands[1]) {
        (Operand::Xmm, Operand::Xmm) => by_length!(form, merge_low, T),
        (Operand::Xmm, Operand::Memory(_)) => by_length!(form, load_low, T),
        (Operand::Memory(_), Operand::Xmm) => by_length!(form, store_low, T),
        _ => None,
    }
}

fn select_word<T: Int>(form: &Form) -> Option<Handler> {
    match (form.operands[0], form.operands[1]) {
        (Operand::Xmm, Operand::Xmm) => by_length!(form, copy_low),
        (Operand::Xmm, Operand::Gpr(_)) => by_length!(form, from_general, T),
        (Operand::Gpr(_), Operand::Xmm) => by_length!(form, to_general, T),
        _ => select_scalar::<T>(form),
    }
}

/// Which half MOVLPS and MOVHPS, MOVLPD and MOVHPD move from and to memory; a load takes the other from the first source.
trait Half {
    const NUMBER: usize;
}
struct Low;
impl Half for Low {
    const NUMBER: usize = 0;
}
struct High;
impl Half for High {
    const NUMBER: usize = 1;
}

fn load_half<H: Half, E: Encoding>(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn) -> Done {
    E::check(cpu)?;
    let half = cpu.read::<u64>(bus, insn.seg, cpu.ea(insn))?;
    let mut result = cpu.vector(insn.r[E::FIRST]);
    result[0][H::NUMBER] = half;
    E::write(cpu, insn.r[0], result);
    Ok(())
}

fn store_half<H: Half, E: Encoding>(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn) -> Done {
    E::check(cpu)?;
    let half = cpu.xmm(insn.r[0])[H::NUMBER];
    cpu.write(bus, insn.seg, cpu.ea(insn), half)
}

fn select_half<H: Half>(form: &Form) -> Option<Handler> {
    match form.operands[0] {
        Operand::Xmm => by_length!(form, load_half, H),
        _ => by_length!(form, store_half, H),
    }
}

/// The sign bits of `T`'s lanes, as a number.
fn signs<T: Int>(value: Xmm) -> u64 {
    (0..lanes::<T>()).fold(0, |all, number| {
        all | (lane::<T>(value, number).sign() as u64) << number
    })
}

fn move_mask<T: Int, E: Encoding>(cpu: &mut Cpu, _: &mut Bus, insn: &Insn) -> Done {
    E::check(cpu)?;
    let value = cpu.vector(insn.r[1]);
    let mask = (0..E::LANES).fold(0, |all, half| {
        all | signs::<T>(value[half]) << (half as u32 * lanes::<T>())
    });
    cpu.regs[(insn.r[0] & 15) as usize] = mask;
    Ok(())
}

fn select_mask<T: Int>(form: &Form) -> Option<Handler> {
    by_length!(form, move_mask, T)
}

/// VZEROALL, or VZEROUPPER, which keeps the lower halves: of the registers that the mode has.
fn zero(cpu: &mut Cpu, keep: usize) -> Done {
    cpu.check_avx()?;
    let registers = if cpu.long64() { 16 } else { 8 };
    for ymm in &mut cpu.ymm[..registers] {
        ymm[keep..].fill(0);
    }
    Ok(())
}

/// MASKMOVDQU: the bytes of the first operand whose mask in the second has its top bit, to DS:rDI.
fn masked_store<E: Encoding>(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn) -> Done {
    E::check(cpu)?;
    let (value, mask) = (cpu.xmm(insn.r[0]), cpu.xmm(insn.r[1]));
    store_chosen::<16>(cpu, bus, insn, value, mask)
}

/// MASKMOVQ and MASKMOVDQU. No byte is written where one faults, and #AC goes by eight bytes, as processors have
/// it.
pub fn store_chosen<const BYTES: u32>(
    cpu: &mut Cpu,
    bus: &mut Bus,
    insn: &Insn,
    value: Xmm,
    mask: Xmm,
) -> Done {
    let address = cpu.regs[RDI] & insn.address_mask();
    let place = |number: u32| address.wrapping_add(number as u64) & insn.address_mask();
    let chosen = || (0..BYTES).filter(|number| lane::<u8>(mask, *number).sign());
    for number in chosen() {
        cpu.linear(insn.seg, place(number), 1, true)?;
    }
    cpu.probe_alignment(insn.seg, address, 8)?;
    for number in chosen() {
        cpu.probe_write(bus, insn.seg, place(number), 1)?;
    }
    for number in chosen() {
        cpu.write::<u8>(bus, insn.seg, place(number), lane(value, number))?;
    }
    Ok(())
}

packed! {
    Movhlps |a, b, _| [b[1], a[1]];
    Movlhps |a, b, _| [a[0], b[0]];
    Movddup |_, b, _| [b[0], b[0]];
    NarrowMovddup(Share::Bytes(8)) |_, b, _| [b[0], b[0]];
    Movsldup |_, b, _| build::<u32>(|n| lane(b, n & !1));
    Movshdup |_, b, _| build::<u32>(|n| lane(b, n | 1));
}

/// MOVDDUP of 128 bits reads no more than it needs.
fn select_movddup(form: &Form) -> Option<Handler> {
    match form.encoded() {
        Some(Encoded::Vex256) => select_packed::<Movddup>(form),
        _ => select_packed::<NarrowMovddup>(form),
    }
}

pub static ROWS: Group = vector_rows! {
    Movaps Vmovaps => select_whole::<Aligned>;
    Movapd Vmovapd => select_whole::<Aligned>;
    Movdqa Vmovdqa => select_whole::<Aligned>;
    Movntps Vmovntps => select_whole::<Aligned>;
    Movntpd Vmovntpd => select_whole::<Aligned>;
    Movntdq Vmovntdq => select_whole::<Aligned>;
    Movntdqa Vmovntdqa => select_whole::<Aligned>;
    Movups Vmovups => select_whole::<Anywhere>;
    Movupd Vmovupd => select_whole::<Anywhere>;
    Movdqu Vmovdqu => select_whole::<Anywhere>;
    Lddqu Vlddqu => select_whole::<Anywhere>;
    Movss Vmovss => select_scalar::<u32>;
    Movsd Vmovsd => select_scalar::<u64>;
    Movd Vmovd => select_word::<u32>;
    Movq Vmovq => select_word::<u64>;
    Movlps Vmovlps => select_half::<Low>;
    Movlpd Vmovlpd => select_half::<Low>;
    Movhps Vmovhps => select_half::<High>;
    Movhpd Vmovhpd => select_half::<High>;
    Movhlps Vmovhlps => select_packed::<Movhlps>;
    Movlhps Vmovlhps => select_packed::<Movlhps>;
    Movddup Vmovddup => select_movddup;
    Movsldup Vmovsldup => select_packed::<Movsldup>;
    Movshdup Vmovshdup => select_packed::<Movshdup>;
    Movmskps Vmovmskps => select_mask::<u32>;
    Movmskpd Vmovmskpd => select_mask::<u64>;
    Pmovmskb Vpmovmskb => select_mask::<u8>;
    Vzeroall => |_| Some(|cpu, _, _| zero(cpu, 0));
    Vzeroupper => |_| Some(|cpu, _, _| zero(cpu, 2));
    Maskmovdqu Vmaskmovdqu => |form| by_length!(form, masked_store);
};
