//! Near jumps, calls and returns. Far ones are segment loads, and stand with those.

use iced_x86::{Code, Mnemonic as Mn, OpKind};

use super::select::size;
use crate::cpu::decode::{Flow, Form, Group, Operand};
use crate::cpu::insn::{Handler, Insn, Source, M, R0};
use crate::cpu::int::Int;
use crate::cpu::segment::{CS, SS};
use crate::cpu::{Cpu, Done, BLOCK_RIP, RCX, RSP};
use crate::platform::Bus;

/// The target of a relative branch; `T` is the operand size, which it wraps at.
#[inline(always)]
pub fn target<T: Int>(cpu: &Cpu, insn: &Insn) -> u64 {
    T::from_u64(cpu.regs[BLOCK_RIP].wrapping_add(insn.imm)).to_u64()
}

/// #GP(0) for an instruction pointer that is not canonical, or outside the code segment. An operand size of 64 bits
/// means 64-bit mode.
#[inline(always)]
pub fn check<T: Int>(cpu: &mut Cpu, target: u64) -> Done {
    let allowed = if T::BITS == 64 {
        cpu.canonical(target)
    } else {
        target <= cpu.seg[CS].limit as u64
    };
    if allowed {
        Ok(())
    } else {
        Err(cpu.general_protection(0))
    }
}

#[inline(always)]
fn jump<T: Int>(cpu: &mut Cpu, target: u64) -> Done {
    check::<T>(cpu, target)?;
    cpu.rip = target;
    Ok(())
}

#[inline(always)]
fn fall_through<T: Int>(cpu: &mut Cpu, insn: &Insn) -> Done {
    cpu.rip = if T::BITS == 64 {
        cpu.regs[BLOCK_RIP].wrapping_add(insn.offset as u64 + insn.length as u64)
    } else {
        cpu.next_ip(insn)
    };
    Ok(())
}

fn jcc<T: Int, const CONDITION: u8>(cpu: &mut Cpu, _: &mut Bus, insn: &Insn) -> Done {
    if cpu.flags.condition::<CONDITION>() {
        jump::<T>(cpu, target::<T>(cpu, insn))
    } else {
        fall_through::<T>(cpu, insn)
    }
}

fn jmp<T: Int>(cpu: &mut Cpu, _: &mut Bus, insn: &Insn) -> Done {
    jump::<T>(cpu, target::<T>(cpu, insn))
}

fn jmp_indirect<T: Int, S: Source>(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn) -> Done {
    let target = S::read::<T>(cpu, bus, insn)?;
    jump::<T>(cpu, target.to_u64())
}

#[inline(always)]
fn call_to<T: Int>(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn, target: u64) -> Done {
    check::<T>(cpu, target)?;
    let back = if T::BITS == 64 {
        cpu.regs[BLOCK_RIP].wrapping_add(insn.offset as u64 + insn.length as u64)
    } else {
        cpu.next_ip(insn)
    };
    cpu.push(bus, T::from_u64(back))?;
    cpu.rip = target;
    Ok(())
}

fn call<T: Int>(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn) -> Done {
    call_to::<T>(cpu, bus, insn, target::<T>(cpu, insn))
}

fn call_indirect<T: Int, S: Source>(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn) -> Done {
    let target = S::read::<T>(cpu, bus, insn)?;
    call_to::<T>(cpu, bus, insn, target.to_u64())
}

fn ret<T: Int>(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn) -> Done {
    let mask = if T::BITS == 64 { !0 } else { cpu.stack_mask() };
    let target = cpu.read::<T>(bus, SS as u8, cpu.regs[RSP] & mask)?.to_u64();
    jump::<T>(cpu, target)?;
    release_return::<T>(cpu, insn, mask);
    Ok(())
}

/// Takes the return address off the stack. RET imm16 releases that many bytes more; without one the immediate is 0.
#[inline(always)]
pub fn release_return<T: Int>(cpu: &mut Cpu, insn: &Insn, mask: u64) {
    let top = cpu.regs[RSP]
        .wrapping_add(T::BYTES)
        .wrapping_add(insn.imm & 0xffff);
    cpu.regs[RSP] = cpu.regs[RSP] & !mask | top & mask;
}

/// LOOPcc: `C` is the address size, which says how much of RCX counts. `WANTED`: ZF as a condition, or none.
#[inline(always)]
fn loop_while<T: Int, C: Int>(cpu: &mut Cpu, insn: &Insn, holds: impl Fn(&Cpu) -> bool) -> Done {
    let count = cpu.reg::<C>(RCX as u8).sub(C::from_u64(1));
    if count != C::zero() && holds(cpu) {
        jump::<T>(cpu, target::<T>(cpu, insn))?;
    } else {
        fall_through::<T>(cpu, insn)?;
    }
    cpu.set_reg(RCX as u8, count);
    Ok(())
}

fn loop_always<T: Int, C: Int>(cpu: &mut Cpu, _: &mut Bus, insn: &Insn) -> Done {
    loop_while::<T, C>(cpu, insn, |_| true)
}
fn loop_equal<T: Int, C: Int>(cpu: &mut Cpu, _: &mut Bus, insn: &Insn) -> Done {
    loop_while::<T, C>(cpu, insn, |cpu| cpu.flags.zero())
}
fn loop_not_equal<T: Int, C: Int>(cpu: &mut Cpu, _: &mut Bus, insn: &Insn) -> Done {
    loop_while::<T, C>(cpu, insn, |cpu| !cpu.flags.zero())
}

/// JCXZ, JECXZ and JRCXZ.
fn jump_if_none_left<T: Int, C: Int>(cpu: &mut Cpu, _: &mut Bus, insn: &Insn) -> Done {
    if cpu.reg::<C>(RCX as u8) == C::zero() {
        jump::<T>(cpu, target::<T>(cpu, insn))
    } else {
        fall_through::<T>(cpu, insn)
    }
}

/// The operand size in bytes of a relative near branch, 0 for any other form.
pub fn relative_size(form: &Form) -> u16 {
    match form.insn.op0_kind() {
        OpKind::NearBranch16 => 2,
        OpKind::NearBranch32 => 4,
        OpKind::NearBranch64 => 8,
        _ => 0,
    }
}

fn select_jcc<const CONDITION: u8>(form: &Form) -> Option<Handler> {
    by_wide_size!(relative_size(form), T => jcc::<T, CONDITION>)
}

fn select_jmp(form: &Form) -> Option<Handler> {
    match form.operands[0] {
        Operand::NearBranch => by_wide_size!(relative_size(form), T => jmp::<T>),
        operand if !form.insn.is_jmp_near_indirect() => {
            debug_assert!(!matches!(operand, Operand::Gpr(_)));
            None
        }
        Operand::Gpr(bytes) => by_wide_size!(bytes, T => jmp_indirect::<T, R0>),
        operand => by_wide_size!(size(operand), T => jmp_indirect::<T, M>),
    }
}

fn select_call(form: &Form) -> Option<Handler> {
    match form.operands[0] {
        Operand::NearBranch => by_wide_size!(relative_size(form), T => call::<T>),
        _ if !form.insn.is_call_near_indirect() => None,
        Operand::Gpr(bytes) => by_wide_size!(bytes, T => call_indirect::<T, R0>),
        operand => by_wide_size!(size(operand), T => call_indirect::<T, M>),
    }
}

fn select_ret(form: &Form) -> Option<Handler> {
    by_wide_size!(return_size(form), T => ret::<T>)
}

/// The operand size in bytes of a near return.
pub fn return_size(form: &Form) -> u16 {
    match form.code {
        Code::Retnw | Code::Retnw_imm16 => 2,
        Code::Retnd | Code::Retnd_imm16 => 4,
        _ => 8,
    }
}

/// The bytes of rCX that a LOOPcc or JrCXZ counts by.
fn counter_size(form: &Form) -> u16 {
    match form.code {
        Code::Loop_rel8_16_CX
        | Code::Loop_rel8_32_CX
        | Code::Loope_rel8_16_CX
        | Code::Loope_rel8_32_CX
        | Code::Loopne_rel8_16_CX
        | Code::Loopne_rel8_32_CX
        | Code::Jcxz_rel8_16
        | Code::Jcxz_rel8_32 => 2,
        Code::Loop_rel8_16_RCX
        | Code::Loop_rel8_64_RCX
        | Code::Loope_rel8_16_RCX
        | Code::Loope_rel8_64_RCX
        | Code::Loopne_rel8_16_RCX
        | Code::Loopne_rel8_64_RCX
        | Code::Jrcxz_rel8_16
        | Code::Jrcxz_rel8_64 => 8,
        _ => 4,
    }
}

/// Both sizes: the operand's, and the counter's.
macro_rules! counted {
    ($form:expr, $handler:ident) => {
        match counter_size($form) {
            2 => by_wide_size!(relative_size($form), T => $handler::<T, u16>),
            4 => by_wide_size!(relative_size($form), T => $handler::<T, u32>),
            _ => by_wide_size!(relative_size($form), T => $handler::<T, u64>),
        }
    };
}

fn select_counted(form: &Form) -> Option<Handler> {
    match form.insn.mnemonic() {
        Mn::Loop => counted!(form, loop_always),
        Mn::Loope => counted!(form, loop_equal),
        Mn::Loopne => counted!(form, loop_not_equal),
        _ => counted!(form, jump_if_none_left),
    }
}

pub static ROWS: Group = &[
    (Mn::Jmp, select_jmp, Flow::Branch),
    (Mn::Call, select_call, Flow::Branch),
    (Mn::Ret, select_ret, Flow::Branch),
    (Mn::Loop, select_counted, Flow::Branch),
    (Mn::Loope, select_counted, Flow::Branch),
    (Mn::Loopne, select_counted, Flow::Branch),
    (Mn::Jcxz, select_counted, Flow::Branch),
    (Mn::Jecxz, select_counted, Flow::Branch),
    (Mn::Jrcxz, select_counted, Flow::Branch),
    (Mn::Jo, select_jcc::<0>, Flow::Branch),
    (Mn::Jno, select_jcc::<1>, Flow::Branch),
    (Mn::Jb, select_jcc::<2>, Flow::Branch),
    (Mn::Jae, select_jcc::<3>, Flow::Branch),
    (Mn::Je, select_jcc::<4>, Flow::Branch),
    (Mn::Jne, select_jcc::<5>, Flow::Branch),
    (Mn::Jbe, select_jcc::<6>, Flow::Branch),
    (Mn::Ja, select_jcc::<7>, Flow::Branch),
    (Mn::Js, select_jcc::<8>, Flow::Branch),
    (Mn::Jns, select_jcc::<9>, Flow::Branch),
    (Mn::Jp, select_jcc::<10>, Flow::Branch),
    (Mn::Jnp, select_jcc::<11>, Flow::Branch),
    (Mn::Jl, select_jcc::<12>, Flow::Branch),
    (Mn::Jge, select_jcc::<13>, Flow::Branch),
    (Mn::Jle, select_jcc::<14>, Flow::Branch),
    (Mn::Jg, select_jcc::<15>, Flow::Branch),
];
