//! What all SSE instructions share: when they are allowed, where their operands are, lanes.

use crate::cpu::bits::{CR0_EM, CR0_TS, CR4_OSFXSR, CR4_OSXMMEXCPT};
use crate::cpu::decode::{Form, Operand};
use crate::cpu::exception::vector;
use crate::cpu::float::{Environment, BEFORE_COMPUTATION};
use crate::cpu::insn::{Handler, Insn};
use crate::cpu::int::Int;
use crate::cpu::{Cpu, Done, Stop};
use crate::platform::Bus;

/// The value of an XMM register, low quadword first.
pub type Xmm = [u64; 2];

impl Cpu {
    /// #UD and #NM as SDM vol. 3, table 13-1 has them.
    #[inline(always)]
    pub fn check_sse(&mut self) -> Done {
        if self.cr0 & (CR0_EM | CR0_TS) != 0 || self.cr4 & CR4_OSFXSR == 0 {
            return Err(self.refuse_sse());
        }
        Ok(())
    }

    #[cold]
    fn refuse_sse(&mut self) -> Stop {
        if self.cr0 & CR0_EM != 0 || self.cr4 & CR4_OSFXSR == 0 {
            self.invalid_opcode()
        } else {
            self.device_not_available()
        }
    }

    #[inline(always)]
    pub fn xmm(&self, number: u8) -> Xmm {
        let ymm = &self.ymm[(number & 15) as usize];
        [ymm[0], ymm[1]]
    }

    /// The upper half of the YMM register stays.
    #[inline(always)]
    pub fn set_xmm(&mut self, number: u8, value: Xmm) {
        let ymm = &mut self.ymm[(number & 15) as usize];
        [ymm[0], ymm[1]] = value;
    }

    /// Writes the lowest lane only.
    #[inline(always)]
    pub fn set_xmm_low<T: Int>(&mut self, number: u8, value: T) {
        let low = &mut self.ymm[(number & 15) as usize][0];
        *low = if T::BITS == 64 {
            value.to_u64()
        } else {
            *low >> T::BITS << T::BITS | value.to_u64()
        };
    }

    pub fn read_xmm(&mut self, bus: &mut Bus, insn: &Insn, aligned: bool) -> Result<Xmm, Stop> {
        let bytes = self.read_bytes::<16>(bus, insn.seg, self.ea(insn), aligned)?;
        let all = u128::from_le_bytes(bytes);
        Ok([all as u64, (all >> 64) as u64])
    }

    pub fn write_xmm(&mut self, bus: &mut Bus, insn: &Insn, aligned: bool, value: Xmm) -> Done {
        let all = value[0] as u128 | (value[1] as u128) << 64;
        self.write_bytes(bus, insn.seg, self.ea(insn), aligned, all.to_le_bytes())
    }

    /// Notes the exceptions that an instruction found in MXCSR; those that are not masked are taken, and its result is
    /// not written (SDM vol. 1, 11.5.2).
    #[inline(always)]
    pub fn float_exceptions(&mut self, environment: &Environment) -> Done {
        if environment.found & !self.mxcsr != 0 || environment.unmasked(environment.found) != 0 {
            return self.note_float_exceptions(environment);
        }
        Ok(())
    }

    fn note_float_exceptions(&mut self, environment: &Environment) -> Done {
        let before = environment.found & BEFORE_COMPUTATION;
        let found = if environment.unmasked(before) != 0 {
            before
        } else {
            environment.found
        };
        self.mxcsr |= found;
        if environment.unmasked(found) == 0 {
            Ok(())
        } else if self.cr4 & CR4_OSXMMEXCPT != 0 {
            Err(self.raise(vector::SIMD, None, 0))
        } else {
            Err(self.invalid_opcode())
        }
    }
}

/// The source of an SSE instruction whose destination is the first register operand.
pub trait Source {
    const IN_MEMORY: bool;
    /// `BYTES` bytes, zero-extended. 16 in memory must be aligned.
    fn read<const BYTES: usize>(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn) -> Result<Xmm, Stop>;
}

/// The second register operand.
pub struct Register;
pub struct Memory;

impl Source for Register {
    const IN_MEMORY: bool = false;
    #[inline(always)]
    fn read<const BYTES: usize>(cpu: &mut Cpu, _: &mut Bus, insn: &Insn) -> Result<Xmm, Stop> {
        Ok(cpu.xmm(insn.r[1]))
    }
}

impl Source for Memory {
    const IN_MEMORY: bool = true;
    #[inline(always)]
    fn read<const BYTES: usize>(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn) -> Result<Xmm, Stop> {
        let address = cpu.ea(insn);
        Ok(match BYTES {
            1 => [cpu.read::<u8>(bus, insn.seg, address)? as u64, 0],
            2 => [cpu.read::<u16>(bus, insn.seg, address)? as u64, 0],
            4 => [cpu.read::<u32>(bus, insn.seg, address)? as u64, 0],
            8 => [cpu.read::<u64>(bus, insn.seg, address)?, 0],
            _ => cpu.read_xmm(bus, insn, true)?,
        })
    }
}

/// An instruction that computes its destination from the destination's old value, a source and an immediate, and
/// touches nothing else.
pub trait Packed {
    /// What of the source is read where it is in memory.
    const BYTES: usize = 16;
    fn compute(a: Xmm, b: Xmm, imm: u8) -> Xmm;
}

fn packed<O: Packed, S: Source>(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn) -> Done {
    cpu.check_sse()?;
    let b = match O::BYTES {
        2 => S::read::<2>(cpu, bus, insn)?,
        4 => S::read::<4>(cpu, bus, insn)?,
        8 => S::read::<8>(cpu, bus, insn)?,
        _ => S::read::<16>(cpu, bus, insn)?,
    };
    let result = O::compute(cpu.xmm(insn.r[0]), b, insn.imm as u8);
    cpu.set_xmm(insn.r[0], result);
    Ok(())
}

pub fn select_packed<O: Packed>(form: &Form) -> Option<Handler> {
    match (form.operands[0], form.operands[1]) {
        (Operand::Xmm, Operand::Xmm) => Some(packed::<O, Register>),
        (Operand::Xmm, Operand::Memory(_)) => Some(packed::<O, Memory>),
        _ => None,
    }
}

/// `by_source!(form, f, …)`: the handler `f::<…, S>`, `S` being where the second operand is.
macro_rules! by_source {
    ($form:expr, $handler:ident $(, $parameter:ty)*) => {
        match $form.operands[1] {
            crate::cpu::decode::Operand::Xmm => {
                Some($handler::<$($parameter,)* super::sse::Register> as crate::cpu::insn::Handler)
            }
            crate::cpu::decode::Operand::Memory(_) => {
                Some($handler::<$($parameter,)* super::sse::Memory> as crate::cpu::insn::Handler)
            }
            _ => None,
        }
    };
}

/// Defines instructions that are `Packed`, each by an expression of `a` (the destination), `b` (the source) and `imm`:
/// `Name(bytes of the source) |a, b, imm| expression;`
macro_rules! packed {
    ($($name:ident($bytes:literal) |$a:pat_param, $b:pat_param, $imm:pat_param| $result:expr;)*) => {$(
        pub struct $name;
        impl super::sse::Packed for $name {
            const BYTES: usize = $bytes;
            #[inline(always)]
            fn compute($a: super::sse::Xmm, $b: super::sse::Xmm, $imm: u8) -> super::sse::Xmm {
                $result
            }
        }
    )*};
}

// Lanes. Loops of a constant number of rounds, for the compiler to unroll.

#[inline(always)]
pub fn lane<T: Int>(value: Xmm, number: u32) -> T {
    let per_half = 64 / T::BITS;
    T::from_u64(value[(number / per_half) as usize & 1] >> (number % per_half * T::BITS))
}

#[inline(always)]
pub fn set_lane<T: Int>(value: &mut Xmm, number: u32, to: T) {
    let per_half = 64 / T::BITS;
    let shift = number % per_half * T::BITS;
    let half = &mut value[(number / per_half) as usize & 1];
    *half = *half & !(T::from_u64(!0).to_u64() << shift) | to.to_u64() << shift;
}

/// How many lanes of `T` there are.
pub const fn lanes<T: Int>() -> u32 {
    128 / T::BITS
}

/// A vector of which lane `n` is `f(n)`.
#[inline(always)]
pub fn build<T: Int>(f: impl Fn(u32) -> T) -> Xmm {
    let mut result = [0; 2];
    for number in 0..lanes::<T>() {
        set_lane(&mut result, number, f(number));
    }
    result
}

#[inline(always)]
pub fn map<T: Int>(a: Xmm, f: impl Fn(T) -> T) -> Xmm {
    build(|number| f(lane(a, number)))
}

#[inline(always)]
pub fn zip<T: Int>(a: Xmm, b: Xmm, f: impl Fn(T, T) -> T) -> Xmm {
    build(|number| f(lane(a, number), lane(b, number)))
}

#[inline(always)]
pub fn halves(a: Xmm, b: Xmm, f: impl Fn(u64, u64) -> u64) -> Xmm {
    [f(a[0], b[0]), f(a[1], b[1])]
}
