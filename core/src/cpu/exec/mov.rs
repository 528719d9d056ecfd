//! Moves and conversions between general-purpose registers and memory.

use iced_x86::Mnemonic as Mn;

use super::select::{binary, size, Binary};
use crate::cpu::decode::{Flow, Form, Group, Operand};
use crate::cpu::flags;
use crate::cpu::insn::{Handler, Insn, Place, Source, M, R0, R1};
use crate::cpu::int::Int;
use crate::cpu::{Cpu, Done, RAX, RBX, RDX};
use crate::platform::Bus;

struct Mov;
impl Binary for Mov {
    fn run<T: Int, D: Place, S: Source>(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn) -> Done {
        let value = S::read::<T>(cpu, bus, insn)?;
        D::write::<T>(cpu, bus, insn, value)
    }
}

/// MOVZX, MOVSX and MOVSXD.
fn extend<From: Int, To: Int, S: Source, const SIGNED: bool>(
    cpu: &mut Cpu,
    bus: &mut Bus,
    insn: &Insn,
) -> Done {
    let value = S::read::<From>(cpu, bus, insn)?;
    let wide = if SIGNED {
        value.sign_extended()
    } else {
        value.to_u64()
    };
    cpu.set_reg(insn.r[0], To::from_u64(wide));
    Ok(())
}

fn select_extend<const SIGNED: bool>(form: &Form) -> Option<Handler> {
    fn to<From: Int, const SIGNED: bool>(form: &Form) -> Option<Handler> {
        let bytes = size(form.operands[0]);
        if form.has_memory() {
            by_wide_size!(bytes, To => extend::<From, To, M, SIGNED>)
        } else {
            by_wide_size!(bytes, To => extend::<From, To, R1, SIGNED>)
        }
    }
    match size(form.operands[1]) {
        1 => to::<u8, SIGNED>(form),
        2 => to::<u16, SIGNED>(form),
        4 => to::<u32, SIGNED>(form),
        _ => None,
    }
}

/// MOVDIR64B: 64 bytes to an aligned place in ES.
fn movdir64b(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn) -> Done {
    let value = cpu.read_bytes::<64>(bus, insn.seg, cpu.ea(insn), false)?;
    let target = cpu.reg::<u64>(insn.r[0]) & insn.address_mask();
    cpu.write_bytes(bus, Cpu::STRING_DESTINATION, target, true, value)
}

fn lea<T: Int>(cpu: &mut Cpu, _: &mut Bus, insn: &Insn) -> Done {
    let address = cpu.ea(insn);
    cpu.set_reg(insn.r[0], T::from_u64(address));
    Ok(())
}

fn select_lea(form: &Form) -> Option<Handler> {
    by_wide_size!(size(form.operands[0]), T => lea::<T>)
}

/// `r[S]` is the register operand that is exchanged.
fn xchg<T: Int, D: Place, const S: usize>(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn) -> Done {
    let new = cpu.reg::<T>(insn.r[S]);
    D::update::<T>(cpu, bus, insn, |cpu, old| {
        cpu.set_reg(insn.r[S], old);
        new
    })
}

fn select_xchg(form: &Form) -> Option<Handler> {
    let bytes = form.operands[..2]
        .iter()
        .map(|operand| size(*operand))
        .max()
        .unwrap_or(0);
    if form.has_memory() {
        by_size!(bytes, T => xchg::<T, M, 0>)
    } else {
        by_size!(bytes, T => xchg::<T, R0, 1>)
    }
}

fn swapped<T: Int>(value: T) -> T {
    T::from_u64(value.to_u64().swap_bytes() >> (64 - T::BITS))
}

/// With a 16-bit operand the SDM leaves the result undefined; processors give 0.
fn bswap<T: Int>(cpu: &mut Cpu, _: &mut Bus, insn: &Insn) -> Done {
    let result = if T::BITS == 16 {
        T::zero()
    } else {
        swapped(cpu.reg::<T>(insn.r[0]))
    };
    cpu.set_reg(insn.r[0], result);
    Ok(())
}

fn select_bswap(form: &Form) -> Option<Handler> {
    by_wide_size!(size(form.operands[0]), T => bswap::<T>)
}

struct MovBe;
impl Binary for MovBe {
    fn run<T: Int, D: Place, S: Source>(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn) -> Done {
        let value = S::read::<T>(cpu, bus, insn)?;
        D::write::<T>(cpu, bus, insn, swapped(value))
    }
}

/// The source is read, and the upper half of a 32-bit destination cleared, even where the condition is false.
fn cmov<T: Int, S: Source, const CONDITION: u8>(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn) -> Done {
    let (old, new) = (cpu.reg::<T>(insn.r[0]), S::read::<T>(cpu, bus, insn)?);
    let value = if cpu.flags.condition::<CONDITION>() {
        new
    } else {
        old
    };
    cpu.set_reg(insn.r[0], value);
    Ok(())
}

fn select_cmov<const CONDITION: u8>(form: &Form) -> Option<Handler> {
    match form.operands[1] {
        Operand::Gpr(bytes) => by_wide_size!(bytes, T => cmov::<T, R1, CONDITION>),
        Operand::Memory(bytes) => by_wide_size!(bytes, T => cmov::<T, M, CONDITION>),
        _ => None,
    }
}

fn setcc<D: Place, const CONDITION: u8>(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn) -> Done {
    let value = cpu.flags.condition::<CONDITION>() as u8;
    D::write::<u8>(cpu, bus, insn, value)
}

fn select_setcc<const CONDITION: u8>(form: &Form) -> Option<Handler> {
    Some(if form.has_memory() {
        setcc::<M, CONDITION>
    } else {
        setcc::<R0, CONDITION>
    })
}

/// CBW, CWDE and CDQE: the lower half of the accumulator sign-extends into `To`.
fn widen<From: Int, To: Int>(cpu: &mut Cpu, _: &mut Bus, _: &Insn) -> Done {
    let value = cpu.reg::<From>(RAX as u8).sign_extended();
    cpu.set_reg(RAX as u8, To::from_u64(value));
    Ok(())
}

/// CWD, CDQ and CQO: the accumulator's sign fills xDX.
fn spread_sign<T: Int>(cpu: &mut Cpu, _: &mut Bus, _: &Insn) -> Done {
    let sign = cpu.reg::<T>(RAX as u8).sign();
    cpu.set_reg(RDX as u8, T::from_u64(if sign { !0 } else { 0 }));
    Ok(())
}

fn xlat(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn) -> Done {
    let index = cpu.reg::<u8>(RAX as u8) as u64;
    let address = cpu.regs[RBX].wrapping_add(index) & insn.address_mask();
    let value = cpu.read::<u8>(bus, insn.seg, address)?;
    cpu.set_reg(RAX as u8, value);
    Ok(())
}

/// AH as a byte register.
const AH: u8 = crate::cpu::insn::HIGH_BYTE;
/// The flags that AH has room for.
const IN_AH: u64 = flags::ARITHMETIC & 0xff;

fn lahf(cpu: &mut Cpu, _: &mut Bus, _: &Insn) -> Done {
    let value = cpu.flags.get() as u8;
    cpu.set_reg(AH, value);
    Ok(())
}

fn sahf(cpu: &mut Cpu, _: &mut Bus, _: &Insn) -> Done {
    let value = cpu.reg::<u8>(AH) as u64;
    let kept = cpu.flags.get() & !IN_AH;
    cpu.flags.set(kept | value & IN_AH);
    Ok(())
}

pub static ROWS: Group = &[
    (Mn::Mov, binary::<Mov>, Flow::Next),
    (Mn::Movnti, binary::<Mov>, Flow::Next),
    (Mn::Movdiri, binary::<Mov>, Flow::Next),
    (Mn::Movdir64b, |_| Some(movdir64b), Flow::Next),
    (Mn::Movzx, select_extend::<false>, Flow::Next),
    (Mn::Movsx, select_extend::<true>, Flow::Next),
    (Mn::Movsxd, select_extend::<true>, Flow::Next),
    (Mn::Lea, select_lea, Flow::Next),
    (Mn::Xchg, select_xchg, Flow::Next),
    (Mn::Bswap, select_bswap, Flow::Next),
    (Mn::Movbe, binary::<MovBe>, Flow::Next),
    (Mn::Cbw, |_| Some(widen::<u8, u16>), Flow::Next),
    (Mn::Cwde, |_| Some(widen::<u16, u32>), Flow::Next),
    (Mn::Cdqe, |_| Some(widen::<u32, u64>), Flow::Next),
    (Mn::Cwd, |_| Some(spread_sign::<u16>), Flow::Next),
    (Mn::Cdq, |_| Some(spread_sign::<u32>), Flow::Next),
    (Mn::Cqo, |_| Some(spread_sign::<u64>), Flow::Next),
    (Mn::Xlatb, |_| Some(xlat), Flow::Next),
    (Mn::Lahf, |_| Some(lahf), Flow::Next),
    (Mn::Sahf, |_| Some(sahf), Flow::Next),
    (Mn::Cmovo, select_cmov::<0>, Flow::Next),
    (Mn::Cmovno, select_cmov::<1>, Flow::Next),
    (Mn::Cmovb, select_cmov::<2>, Flow::Next),
    (Mn::Cmovae, select_cmov::<3>, Flow::Next),
    (Mn::Cmove, select_cmov::<4>, Flow::Next),
    (Mn::Cmovne, select_cmov::<5>, Flow::Next),
    (Mn::Cmovbe, select_cmov::<6>, Flow::Next),
    (Mn::Cmova, select_cmov::<7>, Flow::Next),
    (Mn::Cmovs, select_cmov::<8>, Flow::Next),
    (Mn::Cmovns, select_cmov::<9>, Flow::Next),
    (Mn::Cmovp, select_cmov::<10>, Flow::Next),
    (Mn::Cmovnp, select_cmov::<11>, Flow::Next),
    (Mn::Cmovl, select_cmov::<12>, Flow::Next),
    (Mn::Cmovge, select_cmov::<13>, Flow::Next),
    (Mn::Cmovle, select_cmov::<14>, Flow::Next),
    (Mn::Cmovg, select_cmov::<15>, Flow::Next),
    (Mn::Seto, select_setcc::<0>, Flow::Next),
    (Mn::Setno, select_setcc::<1>, Flow::Next),
    (Mn::Setb, select_setcc::<2>, Flow::Next),
    (Mn::Setae, select_setcc::<3>, Flow::Next),
    (Mn::Sete, select_setcc::<4>, Flow::Next),
    (Mn::Setne, select_setcc::<5>, Flow::Next),
    (Mn::Setbe, select_setcc::<6>, Flow::Next),
    (Mn::Seta, select_setcc::<7>, Flow::Next),
    (Mn::Sets, select_setcc::<8>, Flow::Next),
    (Mn::Setns, select_setcc::<9>, Flow::Next),
    (Mn::Setp, select_setcc::<10>, Flow::Next),
    (Mn::Setnp, select_setcc::<11>, Flow::Next),
    (Mn::Setl, select_setcc::<12>, Flow::Next),
    (Mn::Setge, select_setcc::<13>, Flow::Next),
    (Mn::Setle, select_setcc::<14>, Flow::Next),
    (Mn::Setg, select_setcc::<15>, Flow::Next),
];
