//! PUSH and POP of general-purpose registers, memory, immediates and flags; stack frames.

use iced_x86::{Code, Mnemonic as Mn};

use crate::cpu::bits::CR4_VME;
use crate::cpu::decode::{Flow, Form, Group, Operand};
use crate::cpu::flags::{AC, DEFINED, ID, IF, IOPL, NT, RF, TF, VIF, VIP, VM};
use crate::cpu::insn::{Handler, Imm, Insn, Place, Source, M, R0};
use crate::cpu::int::Int;
use crate::cpu::segment::SS;
use crate::cpu::{Cpu, Done, Stop, RBP, RSP};
use crate::platform::Bus;

fn push<T: Int, S: Source>(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn) -> Done {
    let value = S::read::<T>(cpu, bus, insn)?;
    cpu.push(bus, value)
}

fn pop_register<T: Int>(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn) -> Done {
    let value = cpu.pop::<T>(bus)?;
    cpu.set_reg(insn.r[0], value);
    Ok(())
}

/// An address that uses the stack pointer sees it as it is after the POP.
fn pop_memory<T: Int>(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn) -> Done {
    let old = cpu.regs[RSP];
    let value = cpu.pop::<T>(bus)?;
    M::write(cpu, bus, insn, value).inspect_err(|_| cpu.regs[RSP] = old)
}

fn select_push(form: &Form) -> Option<Handler> {
    // The operand size: what the instruction takes the stack pointer down by.
    let bytes = -form.insn.stack_pointer_increment();
    match form.operands[0] {
        Operand::Gpr(_) => by_wide_size!(bytes, T => push::<T, R0>),
        Operand::Memory(_) => by_wide_size!(bytes, T => push::<T, M>),
        Operand::Immediate => by_wide_size!(bytes, T => push::<T, Imm>),
        _ => None,
    }
}

fn select_pop(form: &Form) -> Option<Handler> {
    match form.operands[0] {
        Operand::Gpr(bytes) => by_wide_size!(bytes, T => pop_register::<T>),
        Operand::Memory(bytes) => by_wide_size!(bytes, T => pop_memory::<T>),
        _ => None,
    }
}

/// PUSHA and PUSHAD: RAX to RDI, RSP as it was.
fn push_all<T: Int>(cpu: &mut Cpu, bus: &mut Bus, _: &Insn) -> Done {
    let old = cpu.regs[RSP];
    for register in 0..8 {
        let value = if register == RSP {
            T::from_u64(old)
        } else {
            cpu.reg::<T>(register as u8)
        };
        cpu.push(bus, value).inspect_err(|_| cpu.regs[RSP] = old)?;
    }
    Ok(())
}

/// POPA and POPAD: the stack's RSP is passed over.
fn pop_all<T: Int>(cpu: &mut Cpu, bus: &mut Bus, _: &Insn) -> Done {
    let old = cpu.regs[RSP];
    let mut values = [T::zero(); 8];
    for value in values.iter_mut().rev() {
        *value = cpu.pop(bus).inspect_err(|_| cpu.regs[RSP] = old)?;
    }
    for (register, value) in values.into_iter().enumerate().filter(|(n, _)| *n != RSP) {
        cpu.set_reg(register as u8, value);
    }
    Ok(())
}

/// ENTER. `imm` holds the bytes of locals and, from bit 16 on, the nesting level.
fn enter<T: Int>(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn) -> Done {
    let (old, level) = (cpu.regs[RSP], insn.imm >> 16 & 31);
    // It may read what it pushed: it cannot begin twice.
    if level > 1 && !cpu.solo {
        return Err(Stop::Solo);
    }
    let done = build_frame::<T>(cpu, bus, insn.imm & 0xffff, level);
    match done {
        Ok(frame) => {
            cpu.set_reg(RBP as u8, T::from_u64(frame));
            Ok(())
        }
        Err(stop) => {
            cpu.regs[RSP] = old;
            Err(stop)
        }
    }
}

/// Pushes what ENTER pushes, makes room for the locals and gives the new frame pointer.
fn build_frame<T: Int>(cpu: &mut Cpu, bus: &mut Bus, locals: u64, level: u64) -> Result<u64, Stop> {
    let mask = cpu.stack_mask();
    cpu.push(bus, cpu.reg::<T>(RBP as u8))?;
    let frame = cpu.regs[RSP];
    for outer in 1..level {
        let at = cpu.regs[RBP].wrapping_sub(outer * T::BYTES) & mask;
        let pointer = cpu.read::<T>(bus, SS as u8, at)?;
        cpu.push(bus, pointer)?;
    }
    if level > 0 {
        cpu.push(bus, T::from_u64(frame))?;
    }
    cpu.release_stack(locals.wrapping_neg());
    // The new top of the stack must be writable, though nothing is written there (SDM vol. 2, ENTER).
    cpu.probe_write(bus, SS as u8, cpu.regs[RSP] & mask, T::BYTES)?;
    Ok(frame)
}

fn leave<T: Int>(cpu: &mut Cpu, bus: &mut Bus, _: &Insn) -> Done {
    let mask = if T::BITS == 64 { !0 } else { cpu.stack_mask() };
    let frame = cpu.regs[RBP] & mask;
    let outer = cpu.read::<T>(bus, SS as u8, frame)?;
    cpu.regs[RSP] = cpu.regs[RSP] & !mask | frame.wrapping_add(T::BYTES) & mask;
    cpu.set_reg(RBP as u8, outer);
    Ok(())
}

/// How PUSHF and POPF find their rights in virtual-8086 mode (SDM vol. 3, 21.2.8 and 21.3).
#[derive(PartialEq)]
enum FlagAccess {
    Plain,
    /// VME with IOPL below 3: IF stands for VIF.
    Virtual,
}

fn flag_access<T: Int>(cpu: &mut Cpu) -> Result<FlagAccess, Stop> {
    if !cpu.virtual_8086() || cpu.flags.iopl() == 3 {
        return Ok(FlagAccess::Plain);
    }
    if cpu.cr4 & CR4_VME != 0 && T::BITS == 16 {
        return Ok(FlagAccess::Virtual);
    }
    Err(cpu.general_protection(0))
}

fn pushf<T: Int>(cpu: &mut Cpu, bus: &mut Bus, _: &Insn) -> Done {
    let access = flag_access::<T>(cpu)?;
    let mut image = cpu.flags.get() & !(VM | RF);
    if access == FlagAccess::Virtual {
        let virtual_if = if image & VIF != 0 { IF } else { 0 };
        image = image & !IF | virtual_if | IOPL;
    }
    cpu.push(bus, T::from_u64(image))
}

/// What POPF may change depends on privilege (SDM vol. 2, table "Effect of POPF/POPFD on the EFLAGS Register").
fn popf<T: Int>(cpu: &mut Cpu, bus: &mut Bus, _: &Insn) -> Done {
    let access = flag_access::<T>(cpu)?;
    let old = cpu.flags.get();
    let top = cpu.regs[RSP];
    let value = cpu.pop::<T>(bus)?.to_u64();
    let mut changed = DEFINED & !(VM | RF | VIP | VIF | IOPL | IF | if T::BITS == 16 { AC | ID } else { 0 });
    let mut value = value;
    if access == FlagAccess::Virtual {
        if value & TF != 0 || value & IF != 0 && old & VIP != 0 {
            cpu.regs[RSP] = top;
            return Err(cpu.general_protection(0));
        }
        value = value & !VIF | if value & IF != 0 { VIF } else { 0 };
        changed |= VIF;
    } else {
        if cpu.cpl <= cpu.flags.iopl() {
            changed |= IF;
        }
        if cpu.cpl == 0 {
            changed |= IOPL;
        }
    }
    let new = (old & !changed | value & changed) & !RF;
    cpu.set_flags(new);
    // Interrupts, traps and the rights of memory accesses may look different from here on.
    if (old ^ new) & (TF | IF | AC | VIF | NT | RF) != 0 {
        Err(Stop::Sync)
    } else {
        Ok(())
    }
}

/// The operand size of those mnemonics that carry it in their name.
fn named_size(form: &Form) -> u16 {
    match form.code {
        Code::Pushaw | Code::Popaw | Code::Pushfw | Code::Popfw | Code::Enterw_imm16_imm8 | Code::Leavew => 2,
        Code::Pushad | Code::Popad | Code::Pushfd | Code::Popfd | Code::Enterd_imm16_imm8 | Code::Leaved => 4,
        Code::Pushfq | Code::Popfq | Code::Enterq_imm16_imm8 | Code::Leaveq => 8,
        _ => 0,
    }
}

macro_rules! by_name {
    ($handler:ident) => {
        |form| by_wide_size!(named_size(form), T => $handler::<T>)
    };
}

pub static ROWS: Group = &[
    (Mn::Push, select_push, Flow::Next),
    (Mn::Pop, select_pop, Flow::Next),
    (Mn::Pusha, by_name!(push_all), Flow::Next),
    (Mn::Pushad, by_name!(push_all), Flow::Next),
    (Mn::Popa, by_name!(pop_all), Flow::Next),
    (Mn::Popad, by_name!(pop_all), Flow::Next),
    (Mn::Enter, by_name!(enter), Flow::Next),
    (Mn::Leave, by_name!(leave), Flow::Next),
    (Mn::Pushf, by_name!(pushf), Flow::Next),
    (Mn::Pushfd, by_name!(pushf), Flow::Next),
    (Mn::Pushfq, by_name!(pushf), Flow::Next),
    (Mn::Popf, by_name!(popf), Flow::Next),
    (Mn::Popfd, by_name!(popf), Flow::Next),
    (Mn::Popfq, by_name!(popf), Flow::Next),
];
