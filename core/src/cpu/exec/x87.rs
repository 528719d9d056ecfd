//! The x87 registers, and what its instructions share: when they are allowed, the stack, exceptions and what is kept of
//! the last instruction (SDM vol. 1, chapter 8).
//!
//! As on processors that report it in CPUID.7.0:EBX (bits 6 and 13), the operand's place and the opcode are kept at
//! unmasked exceptions only, and the selectors of instruction and operand read as 0.

use crate::cpu::bits::{CR0_EM, CR0_MP, CR0_NE, CR0_TS};
use crate::cpu::exception::vector;
use crate::cpu::extended::{
    Environment, Extended, Value, BEFORE_COMPUTATION, DEFAULT_NAN, EXCEPTIONS, INVALID, STACK_FAULT,
};
use crate::cpu::insn::{flag, Insn};
use crate::cpu::{Cpu, Done, Stop};
use crate::platform::Bus;

/// Bits of the status word, beside the exceptions.
pub mod status {
    /// An exception that is not masked is pending; B mirrors it.
    pub const ES: u16 = 1 << 7;
    pub const C0: u16 = 1 << 8;
    pub const C1: u16 = 1 << 9;
    pub const C2: u16 = 1 << 10;
    pub const TOP: u16 = 7 << 11;
    pub const C3: u16 = 1 << 14;
    pub const B: u16 = 1 << 15;
}
use status::*;

/// How an exception that is pending while CR0.NE is clear was made known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ferr {
    #[default]
    Inactive,
    Active,
    /// IGNNE# is asserted: instructions go on.
    Ignored,
}

/// The tag of an empty register.
const EMPTY: u16 = 3;

#[derive(Clone, Copy, Debug)]
pub struct X87 {
    pub control: u16,
    pub status: u16,
    /// Two bits a register, 3: empty.
    pub tag: u16,
    /// The last instruction's: its lower eleven bits, its offset in the code segment and that of its operand.
    pub opcode: u16,
    pub instruction: u64,
    pub operand: u64,
    /// The 80-bit registers in physical order: significand, then sign and exponent.
    pub registers: [Extended; 8],
    /// The pin, inactive without a pending exception.
    pub ferr: Ferr,
}

/// As FNINIT leaves it, with registers of 0.
impl Default for X87 {
    fn default() -> Self {
        X87 {
            control: 0x37f,
            status: 0,
            tag: 0xffff,
            opcode: 0,
            instruction: 0,
            operand: 0,
            registers: [(0, 0); 8],
            ferr: Ferr::Inactive,
        }
    }
}

impl X87 {
    /// After RESET: no exception is masked, and the registers hold 0 (SDM vol. 3, table 10-1).
    pub fn reset() -> X87 {
        X87 {
            control: 0x40,
            tag: 0x5555,
            ..X87::default()
        }
    }

    /// Which of `registers` ST(`n`) is.
    pub fn physical(&self, n: usize) -> usize {
        (n + (self.status >> 11 & 7) as usize) & 7
    }

    /// The tag of a register that is not empty, by its value: valid, zero or special.
    pub fn tag_of((significand, exponent): Extended) -> u16 {
        match (exponent & 0x7fff, significand) {
            (0, 0) => 1,
            (0 | 0x7fff, _) => 2,
            (_, significand) if significand >> 63 == 0 => 2,
            _ => 0,
        }
    }

    pub fn is_empty(&self, n: usize) -> bool {
        self.tag >> (2 * self.physical(n)) & 3 == EMPTY
    }

    pub fn get(&self, n: usize) -> Extended {
        self.registers[self.physical(n)]
    }

    pub fn value(&self, n: usize) -> Value {
        Value::from_extended(self.get(n))
    }

    fn set_tag(&mut self, physical: usize, tag: u16) {
        self.tag = self.tag & !(3 << (2 * physical)) | tag << (2 * physical);
    }

    pub fn set(&mut self, n: usize, value: Extended) {
        let physical = self.physical(n);
        self.registers[physical] = value;
        self.set_tag(physical, X87::tag_of(value));
    }

    pub fn free(&mut self, n: usize) {
        self.set_tag(self.physical(n), EMPTY);
    }

    /// Turns the stack: ST(`by`) becomes ST(0).
    pub fn rotate(&mut self, by: u16) {
        self.status = self.status & !TOP | self.status.wrapping_add(by << 11) & TOP;
    }

    pub fn push(&mut self, value: Extended) {
        self.rotate(7);
        self.set(0, value);
    }

    pub fn pop(&mut self) {
        self.free(0);
        self.rotate(1);
    }

    /// As FNINIT leaves it, and the registers 0 (SDM vol. 1, 13.6).
    pub fn is_initial(&self) -> bool {
        let X87 {
            control,
            status,
            tag,
            opcode,
            instruction,
            operand,
            registers,
            ferr: _,
        } = self;
        (*control, *status, *tag, *opcode) == (0x37f, 0, 0xffff, 0)
            && (*instruction, *operand) == (0, 0)
            && registers.iter().all(|register| *register == (0, 0))
    }

    /// What processors do before the store of an MMX instruction, so that it is done even if that faults.
    pub fn turn_to_0(&mut self) {
        self.status &= !TOP;
    }

    /// What every MMX instruction but EMMS does: TOP becomes 0 and no register is empty.
    #[inline(always)]
    pub fn enter_mmx(&mut self) {
        self.turn_to_0();
        if (self.tag & self.tag >> 1) & 0x5555 != 0 {
            self.set_tags(|_| false);
        }
    }

    /// MM`n` is a significand; writing it makes the exponent all ones.
    #[inline(always)]
    pub fn set_mmx(&mut self, n: u8, value: u64) {
        let physical = (n & 7) as usize;
        self.registers[physical] = (value, 0xffff);
        self.set_tag(physical, X87::tag_of((value, 0xffff)));
    }

    #[inline(always)]
    pub fn mmx(&self, n: u8) -> u64 {
        self.registers[(n & 7) as usize].0
    }

    /// One bit a register, in physical order: not empty.
    pub fn in_use(&self) -> u8 {
        (0..8).fold(0, |bits, n| {
            bits | ((self.tag >> (2 * n) & 3 != EMPTY) as u8) << n
        })
    }

    /// Tags that a tag word of one bit a register, or of two, leaves: software says which are empty, the registers
    /// themselves what else they are.
    pub fn set_tags(&mut self, is_empty: impl Fn(usize) -> bool) {
        for n in 0..8 {
            let tag = if is_empty(n) {
                EMPTY
            } else {
                X87::tag_of(self.registers[n])
            };
            self.set_tag(n, tag);
        }
    }

    /// Only the bits that exist; bit 6 always reads as 1.
    pub fn set_control(&mut self, value: u16) {
        self.control = value & 0x1f3f | 0x40;
        self.summarise();
    }

    /// ES and B follow from flags and masks.
    fn summarise(&mut self) {
        self.status &= !(ES | B);
        if self.status & !self.control & EXCEPTIONS != 0 {
            self.status |= ES | B;
        } else {
            self.ferr = Ferr::Inactive;
        }
    }

    /// FNCLEX.
    pub fn clear_exceptions(&mut self) {
        self.status &= C0 | C1 | C2 | C3 | TOP;
        self.ferr = Ferr::Inactive;
    }

    pub fn environment(&self) -> Environment {
        Environment::new(self.control)
    }

    pub fn set_condition(&mut self, bits: u16, on: bool) {
        self.status = self.status & !bits | if on { bits } else { 0 };
    }
}

/// Which unmasked exceptions keep a result from being written: those found before anything is computed for a register,
/// all but the inexact result for memory (SDM vol. 1, 8.5).
pub const REGISTER: u16 = BEFORE_COMPUTATION;
pub const MEMORY: u16 = EXCEPTIONS & !crate::cpu::extended::INEXACT;

impl Cpu {
    /// Instructions that do not look at pending exceptions.
    #[inline(always)]
    pub fn check_x87(&mut self) -> Done {
        if self.cr0 & (CR0_EM | CR0_TS) != 0 {
            return Err(self.device_not_available());
        }
        Ok(())
    }

    /// All others: #MF for an exception that an earlier instruction left. With CR0.NE clear the processor asserts FERR#
    /// and stands still before this instruction, until an interrupt comes or IGNNE# is asserted (SDM vol. 1, 8.7.2).
    #[inline(always)]
    pub fn check_x87_waiting(&mut self) -> Done {
        self.check_x87()?;
        self.check_math_fault()
    }

    /// MMX instructions: #UD where there is no x87 (SDM vol. 2, table 2-27 and vol. 3, 12.1).
    #[inline(always)]
    pub fn check_mmx(&mut self) -> Done {
        if self.cr0 & CR0_EM != 0 {
            return Err(self.invalid_opcode());
        }
        self.check_x87_waiting()
    }

    #[inline(always)]
    pub fn check_math_fault(&mut self) -> Done {
        if self.x87.status & ES != 0 {
            return self.math_fault();
        }
        Ok(())
    }

    #[cold]
    fn math_fault(&mut self) -> Done {
        if self.cr0 & CR0_NE != 0 {
            return Err(self.raise(vector::MATH_FAULT, None, 0));
        }
        match self.x87.ferr {
            Ferr::Ignored => Ok(()),
            _ => Err(Stop::Frozen),
        }
    }

    /// Drives FERR# for the pending exception, and looks at IGNNE#.
    pub fn report_float_error(&mut self, bus: &mut Bus) {
        if self.x87.ferr == Ferr::Inactive {
            bus.assert_ferr();
            self.x87.ferr = Ferr::Active;
        } else if bus.ignne() {
            self.x87.ferr = Ferr::Ignored;
        }
    }

    /// Ends an instruction that is no control instruction: notes its exceptions. True: its result may be written.
    #[inline(always)]
    pub fn conclude_x87(&mut self, insn: &Insn, environment: &Environment, blocking: u16) -> bool {
        self.x87.instruction = self.ip(insn);
        self.x87.status &= !C1;
        environment.found == 0 || self.note_x87(insn, environment, blocking)
    }

    /// The same for an instruction that leaves C1 as it is unless the stack is at fault.
    pub fn conclude_x87_keeping_c1(&mut self, insn: &Insn, environment: &Environment) -> bool {
        let old = self.x87.status & C1;
        let written = self.conclude_x87(insn, environment, REGISTER);
        if environment.found & STACK_FAULT == 0 {
            self.x87.status |= old;
        }
        written
    }

    fn note_x87(&mut self, insn: &Insn, environment: &Environment, blocking: u16) -> bool {
        let mut found = environment.found;
        let before = environment.unmasked(found & BEFORE_COMPUTATION) != 0;
        if before {
            found &= BEFORE_COMPUTATION | STACK_FAULT;
        }
        let (up, unmasked) = (environment.up, environment.unmasked(found));
        let x87 = &mut self.x87;
        x87.status |= found;
        x87.set_condition(C1, up && (!before || found & STACK_FAULT != 0));
        if unmasked != 0 {
            x87.status |= ES | B;
            x87.opcode = insn.imm as u16 & 0x7ff;
            if insn.has(flag::MEMORY) {
                self.x87.operand = self.ea(insn);
            }
        }
        unmasked & blocking == 0
    }

    /// Ends an instruction that puts something on the stack: `value` unless the stack is full. An operand that is denormal
    /// is loaded even where that exception is not masked, as processors do it.
    pub fn push_x87(&mut self, insn: &Insn, mut environment: Environment, mut value: Extended) {
        if !self.x87.is_empty(7) && environment.found & STACK_FAULT == 0 {
            environment.found = 0;
            environment.stack_fault(true);
            value = DEFAULT_NAN;
        }
        if self.conclude_x87(insn, &environment, INVALID) {
            self.x87.push(value);
        }
    }
}

/// FWAIT: CR0.MP says whether CR0.TS counts (SDM vol. 3, 2.5).
pub fn wait(cpu: &mut Cpu, _: &mut Bus, _: &Insn) -> Done {
    if cpu.cr0 & (CR0_MP | CR0_TS) == CR0_MP | CR0_TS {
        return Err(cpu.device_not_available());
    }
    cpu.check_math_fault()
}
