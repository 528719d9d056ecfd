//! From the form of an instruction to the one handler that is compiled for it: by operand size and by where the
//! operands are. Handlers have no such choice left to make at run time.

use crate::cpu::decode::{Form, Operand};
use crate::cpu::insn::{Handler, Imm, Insn, Place, Source, M, R0, R1};
use crate::cpu::int::Int;
use crate::cpu::{Cpu, Done};
use crate::platform::Bus;

/// `by_size!(bytes, T => handler::<T>)`: the handler for an operand of that many bytes.
macro_rules! by_size {
    ($bytes:expr, $T:ident => $handler:expr) => {
        match $bytes {
            1 => {
                type $T = u8;
                Some($handler as crate::cpu::insn::Handler)
            }
            _ => by_wide_size!($bytes, $T => $handler),
        }
    };
}

/// The same for instructions that have no byte form.
macro_rules! by_wide_size {
    ($bytes:expr, $T:ident => $handler:expr) => {
        match $bytes {
            2 => {
                type $T = u16;
                Some($handler as crate::cpu::insn::Handler)
            }
            4 => {
                type $T = u32;
                Some($handler as crate::cpu::insn::Handler)
            }
            8 => {
                type $T = u64;
                Some($handler as crate::cpu::insn::Handler)
            }
            _ => None,
        }
    };
}

/// An instruction on one operand, which is a general-purpose register or memory. A further operand is implied or an
/// immediate.
pub trait Unary {
    fn run<T: Int, D: Place>(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn) -> Done;
}

/// An instruction on two operands of one size, the first of which is written.
pub trait Binary {
    fn run<T: Int, D: Place, S: Source>(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn) -> Done;
}

/// An instruction that computes `r[0]` from its second operand.
pub trait Reader {
    fn run<T: Int, S: Source>(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn) -> Done;
}

/// The size in bytes of an operand that is a general-purpose register or memory.
pub fn size(operand: Operand) -> u16 {
    match operand {
        Operand::Gpr(bytes) => bytes as u16,
        Operand::Memory(bytes) => bytes,
        _ => 0,
    }
}

pub fn unary<O: Unary>(form: &Form) -> Option<Handler> {
    match form.operands[0] {
        Operand::Gpr(bytes) => by_size!(bytes, T => O::run::<T, R0>),
        Operand::Memory(bytes) => by_size!(bytes, T => O::run::<T, M>),
        _ => None,
    }
}

pub fn binary<O: Binary>(form: &Form) -> Option<Handler> {
    let bytes = size(form.operands[0]);
    match (form.operands[0], form.operands[1]) {
        (Operand::Gpr(_), Operand::Gpr(_)) => by_size!(bytes, T => O::run::<T, R0, R1>),
        (Operand::Gpr(_), Operand::Memory(_)) => by_size!(bytes, T => O::run::<T, R0, M>),
        (Operand::Gpr(_), Operand::Immediate) => by_size!(bytes, T => O::run::<T, R0, Imm>),
        (Operand::Memory(_), Operand::Gpr(_)) => by_size!(bytes, T => O::run::<T, M, R0>),
        (Operand::Memory(_), Operand::Immediate) => by_size!(bytes, T => O::run::<T, M, Imm>),
        _ => None,
    }
}

pub fn reader<O: Reader>(form: &Form) -> Option<Handler> {
    let bytes = size(form.operands[1]);
    match form.operands[1] {
        Operand::Gpr(_) => by_wide_size!(bytes, T => O::run::<T, R1>),
        Operand::Memory(_) => by_wide_size!(bytes, T => O::run::<T, M>),
        _ => None,
    }
}
