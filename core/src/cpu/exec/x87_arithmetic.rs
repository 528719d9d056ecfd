//! x87 arithmetic and comparisons.

use iced_x86::Mnemonic as Mn;

use super::x87::{status::*, REGISTER};
use super::x87_move::{Double, Int16, Int32, Load, Single};
use crate::cpu::decode::{Flow, Form, Group, Operand};
use crate::cpu::extended::{self, Environment, Extended, Kind, Relation, Value, DEFAULT_NAN};
use crate::cpu::extended_parts::{self, Quotient};
use crate::cpu::insn::{Handler, Insn};
use crate::cpu::{flags, Cpu, Done};
use crate::platform::Bus;

/// An instruction that computes its destination from its old value, `a`, and a source, `b`.
pub trait Arithmetic {
    fn compute(environment: &mut Environment, a: &Value, b: &Value) -> Extended;
}

/// Defines instructions that are `Arithmetic`: `Name |environment, a, b| expression;`
macro_rules! arithmetic {
    ($($name:ident |$environment:ident, $a:pat_param, $b:pat_param| $result:expr;)*) => {$(
        struct $name;
        impl super::x87_arithmetic::Arithmetic for $name {
            #[inline(always)]
            fn compute($environment: &mut Environment, $a: &Value, $b: &Value) -> Extended {
                $result
            }
        }
    )*};
}
arithmetic! {
    Add |environment, a, b| extended::add(environment, a, b);
    Subtract |environment, a, b| extended::subtract(environment, a, b);
    SubtractReversed |environment, a, b| extended::subtract(environment, b, a);
    Multiply |environment, a, b| extended::multiply(environment, a, b);
    Divide |environment, a, b| extended::divide(environment, a, b);
    DivideReversed |environment, a, b| extended::divide(environment, b, a);
    Scale |environment, a, b| extended_parts::scale(environment, a, b);
    SquareRoot |environment, a, _| extended::square_root(environment, a);
    RoundToWhole |environment, a, _| extended_parts::round_to_whole(environment, a);
}

/// Between two registers, the first of which is written.
pub fn registers<O: Arithmetic, const POP: bool>(cpu: &mut Cpu, insn: &Insn, to: usize, from: usize) -> Done {
    cpu.check_x87_waiting()?;
    let mut environment = cpu.x87.environment();
    let result = if cpu.x87.is_empty(to) || cpu.x87.is_empty(from) {
        environment.stack_fault(false);
        DEFAULT_NAN
    } else {
        O::compute(&mut environment, &cpu.x87.value(to), &cpu.x87.value(from))
    };
    if cpu.conclude_x87(insn, &environment, REGISTER) {
        cpu.x87.set(to, result);
        if POP {
            cpu.x87.pop();
        }
    }
    Ok(())
}

fn explicit<O: Arithmetic, const POP: bool>(cpu: &mut Cpu, _: &mut Bus, insn: &Insn) -> Done {
    registers::<O, POP>(cpu, insn, insn.r[0] as usize, insn.r[1] as usize)
}

/// ST(0), and ST(0) or ST(1).
pub fn implied<O: Arithmetic, const FROM: usize>(cpu: &mut Cpu, _: &mut Bus, insn: &Insn) -> Done {
    registers::<O, false>(cpu, insn, 0, FROM)
}

fn from_memory<O: Arithmetic, L: Load>(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn) -> Done {
    cpu.check_x87_waiting()?;
    let value = L::load(cpu, bus, insn)?;
    let mut environment = cpu.x87.environment();
    let result = if cpu.x87.is_empty(0) {
        environment.stack_fault(false);
        DEFAULT_NAN
    } else {
        O::compute(&mut environment, &cpu.x87.value(0), &value)
    };
    if cpu.conclude_x87(insn, &environment, REGISTER) {
        cpu.x87.set(0, result);
    }
    Ok(())
}

fn select_real<O: Arithmetic, const POP: bool>(form: &Form) -> Option<Handler> {
    match form.operands[0] {
        Operand::St => Some(explicit::<O, POP>),
        Operand::Memory(4) => Some(from_memory::<O, Single>),
        Operand::Memory(8) => Some(from_memory::<O, Double>),
        _ => None,
    }
}

fn select_integer<O: Arithmetic>(form: &Form) -> Option<Handler> {
    match form.operands[0] {
        Operand::Memory(2) => Some(from_memory::<O, Int16>),
        Operand::Memory(4) => Some(from_memory::<O, Int32>),
        _ => None,
    }
}

/// FABS and FCHS: the sign of anything.
fn set_sign<const KEEP: u16, const FLIP: u16>(cpu: &mut Cpu, _: &mut Bus, insn: &Insn) -> Done {
    cpu.check_x87_waiting()?;
    let mut environment = cpu.x87.environment();
    let (significand, top) = cpu.x87.get(0);
    let mut result = (significand, top & KEEP ^ FLIP);
    if cpu.x87.is_empty(0) {
        environment.stack_fault(false);
        result = DEFAULT_NAN;
    }
    if cpu.conclude_x87(insn, &environment, REGISTER) {
        cpu.x87.set(0, result);
    }
    Ok(())
}

// Comparisons.

/// C3, C2 and C0 (SDM vol. 2, table 3-21).
fn set_condition(cpu: &mut Cpu, relation: Relation) {
    let bits = match relation {
        Relation::Greater => 0,
        Relation::Less => C0,
        Relation::Equal => C3,
        Relation::Unordered => C0 | C2 | C3,
    };
    cpu.x87.set_condition(C0 | C2 | C3, false);
    cpu.x87.set_condition(bits, true);
}

/// ZF, PF and CF; the other three are cleared.
fn set_flags(cpu: &mut Cpu, relation: Relation) {
    let bits = match relation {
        Relation::Greater => 0,
        Relation::Less => flags::CF,
        Relation::Equal => flags::ZF,
        Relation::Unordered => flags::ZF | flags::PF | flags::CF,
    };
    cpu.flags.set(cpu.flags.rest | bits);
}

/// How ST(0) stands to `other`, which is `None` where it is empty.
fn relation(cpu: &Cpu, environment: &mut Environment, other: Option<Value>, quiet: bool) -> Relation {
    match other {
        Some(other) if !cpu.x87.is_empty(0) => {
            extended::compare(environment, &cpu.x87.value(0), &other, quiet)
        }
        _ => {
            environment.stack_fault(false);
            Relation::Unordered
        }
    }
}

/// Compares and pops `pops` times. The condition codes are set even where an exception is not masked; then nothing is
/// popped.
fn compare(cpu: &mut Cpu, insn: &Insn, other: Option<Value>, quiet: bool, pops: u8) {
    let mut environment = cpu.x87.environment();
    let relation = relation(cpu, &mut environment, other, quiet);
    let concluded = cpu.conclude_x87(insn, &environment, REGISTER);
    set_condition(cpu, relation);
    if concluded {
        pop(cpu, pops);
    }
}

fn pop(cpu: &mut Cpu, times: u8) {
    for _ in 0..times {
        cpu.x87.pop();
    }
}

fn register(cpu: &Cpu, n: usize) -> Option<Value> {
    (!cpu.x87.is_empty(n)).then(|| cpu.x87.value(n))
}

fn compare_register<const QUIET: bool, const POPS: u8>(cpu: &mut Cpu, _: &mut Bus, insn: &Insn) -> Done {
    cpu.check_x87_waiting()?;
    let other = register(cpu, insn.r[1] as usize);
    compare(cpu, insn, other, QUIET, POPS);
    Ok(())
}

/// FCOMPP and FUCOMPP.
fn compare_both<const QUIET: bool>(cpu: &mut Cpu, _: &mut Bus, insn: &Insn) -> Done {
    cpu.check_x87_waiting()?;
    let other = register(cpu, 1);
    compare(cpu, insn, other, QUIET, 2);
    Ok(())
}

fn compare_memory<L: Load, const POPS: u8>(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn) -> Done {
    cpu.check_x87_waiting()?;
    let other = Some(L::load(cpu, bus, insn)?);
    compare(cpu, insn, other, false, POPS);
    Ok(())
}

/// FCOMI, FCOMIP, FUCOMI and FUCOMIP.
fn compare_flags<const QUIET: bool, const POPS: u8>(cpu: &mut Cpu, _: &mut Bus, insn: &Insn) -> Done {
    cpu.check_x87_waiting()?;
    let other = register(cpu, insn.r[1] as usize);
    let mut environment = cpu.x87.environment();
    let relation = relation(cpu, &mut environment, other, QUIET);
    let concluded = cpu.conclude_x87_keeping_c1(insn, &environment);
    set_flags(cpu, relation);
    if concluded {
        pop(cpu, POPS);
    }
    Ok(())
}

fn ftst(cpu: &mut Cpu, _: &mut Bus, insn: &Insn) -> Done {
    cpu.check_x87_waiting()?;
    compare(cpu, insn, Some(Value::from_integer(0)), false, 0);
    Ok(())
}

fn select_fcom<const POPS: u8>(form: &Form) -> Option<Handler> {
    match form.operands[0] {
        Operand::St => Some(compare_register::<false, POPS>),
        Operand::Memory(4) => Some(compare_memory::<Single, POPS>),
        Operand::Memory(8) => Some(compare_memory::<Double, POPS>),
        _ => None,
    }
}

fn select_ficom<const POPS: u8>(form: &Form) -> Option<Handler> {
    match form.operands[0] {
        Operand::Memory(2) => Some(compare_memory::<Int16, POPS>),
        Operand::Memory(4) => Some(compare_memory::<Int32, POPS>),
        _ => None,
    }
}

/// FXAM: C1 is the sign, of an empty register too; C3, C2 and C0 the class (SDM vol. 2, table 3-39).
fn fxam(cpu: &mut Cpu, _: &mut Bus, insn: &Insn) -> Done {
    cpu.check_x87_waiting()?;
    cpu.conclude_x87(insn, &cpu.x87.environment(), REGISTER);
    let value = cpu.x87.value(0);
    let class = match value.kind {
        _ if cpu.x87.is_empty(0) => C3 | C0,
        Kind::Unsupported => 0,
        Kind::Quiet | Kind::Signaling => C0,
        Kind::Infinite => C2 | C0,
        Kind::Zero => C3,
        Kind::Finite if value.denormal => C3 | C2,
        Kind::Finite => C2,
    };
    cpu.x87.set_condition(C0 | C1 | C2 | C3, false);
    cpu.x87
        .set_condition(class | if value.negative { C1 } else { 0 }, true);
    Ok(())
}

/// FPREM and FPREM1: C2 says that there is more to do; else C0, C3 and C1 are the quotient's low bits.
fn partial_remainder<const NEAREST: bool>(cpu: &mut Cpu, _: &mut Bus, insn: &Insn) -> Done {
    cpu.check_x87_waiting()?;
    let mut environment = cpu.x87.environment();
    if cpu.x87.is_empty(0) || cpu.x87.is_empty(1) {
        environment.stack_fault(false);
        if cpu.conclude_x87(insn, &environment, REGISTER) {
            cpu.x87.set(0, DEFAULT_NAN);
        }
        cpu.x87.set_condition(C2, false);
        return Ok(());
    }
    let remainder =
        extended_parts::remainder(&mut environment, &cpu.x87.value(0), &cpu.x87.value(1), NEAREST);
    let written = cpu.conclude_x87(insn, &environment, REGISTER);
    cpu.x87.set_condition(C2, false);
    if !written {
        return Ok(());
    }
    cpu.x87.set(0, remainder.value);
    match remainder.quotient {
        Quotient::Nothing => {}
        Quotient::Partial => {
            cpu.x87.set_condition(C0 | C3, false);
            cpu.x87.set_condition(C2, true);
        }
        Quotient::Complete(quotient) => {
            cpu.x87.set_condition(C0, quotient & 4 != 0);
            cpu.x87.set_condition(C3, quotient & 2 != 0);
            cpu.x87.set_condition(C1, quotient & 1 != 0);
        }
    }
    Ok(())
}

/// FXTRACT: ST(0) becomes the exponent, and the significand is put on the stack.
fn fxtract(cpu: &mut Cpu, _: &mut Bus, insn: &Insn) -> Done {
    cpu.check_x87_waiting()?;
    let mut environment = cpu.x87.environment();
    let (exponent, significand) = if cpu.x87.is_empty(0) || !cpu.x87.is_empty(7) {
        environment.stack_fault(!cpu.x87.is_empty(0));
        (DEFAULT_NAN, DEFAULT_NAN)
    } else {
        extended_parts::extract(&mut environment, &cpu.x87.value(0))
    };
    if cpu.conclude_x87(insn, &environment, REGISTER) {
        cpu.x87.set(0, exponent);
        cpu.x87.push(significand);
    }
    Ok(())
}

pub static ROWS: Group = &[
    (Mn::Fadd, select_real::<Add, false>, Flow::Next),
    (Mn::Faddp, select_real::<Add, true>, Flow::Next),
    (Mn::Fiadd, select_integer::<Add>, Flow::Next),
    (Mn::Fsub, select_real::<Subtract, false>, Flow::Next),
    (Mn::Fsubp, select_real::<Subtract, true>, Flow::Next),
    (Mn::Fisub, select_integer::<Subtract>, Flow::Next),
    (Mn::Fsubr, select_real::<SubtractReversed, false>, Flow::Next),
    (Mn::Fsubrp, select_real::<SubtractReversed, true>, Flow::Next),
    (Mn::Fisubr, select_integer::<SubtractReversed>, Flow::Next),
    (Mn::Fmul, select_real::<Multiply, false>, Flow::Next),
    (Mn::Fmulp, select_real::<Multiply, true>, Flow::Next),
    (Mn::Fimul, select_integer::<Multiply>, Flow::Next),
    (Mn::Fdiv, select_real::<Divide, false>, Flow::Next),
    (Mn::Fdivp, select_real::<Divide, true>, Flow::Next),
    (Mn::Fidiv, select_integer::<Divide>, Flow::Next),
    (Mn::Fdivr, select_real::<DivideReversed, false>, Flow::Next),
    (Mn::Fdivrp, select_real::<DivideReversed, true>, Flow::Next),
    (Mn::Fidivr, select_integer::<DivideReversed>, Flow::Next),
    (Mn::Fsqrt, |_| Some(implied::<SquareRoot, 0>), Flow::Next),
    (Mn::Frndint, |_| Some(implied::<RoundToWhole, 0>), Flow::Next),
    (Mn::Fscale, |_| Some(implied::<Scale, 1>), Flow::Next),
    (Mn::Fabs, |_| Some(set_sign::<0x7fff, 0>), Flow::Next),
    (Mn::Fchs, |_| Some(set_sign::<0xffff, 0x8000>), Flow::Next),
    (Mn::Fprem, |_| Some(partial_remainder::<false>), Flow::Next),
    (Mn::Fprem1, |_| Some(partial_remainder::<true>), Flow::Next),
    (Mn::Fxtract, |_| Some(fxtract), Flow::Next),
    (Mn::Fxam, |_| Some(fxam), Flow::Next),
    (Mn::Ftst, |_| Some(ftst), Flow::Next),
    (Mn::Fcom, select_fcom::<0>, Flow::Next),
    (Mn::Fcomp, select_fcom::<1>, Flow::Next),
    (Mn::Fcompp, |_| Some(compare_both::<false>), Flow::Next),
    (Mn::Ficom, select_ficom::<0>, Flow::Next),
    (Mn::Ficomp, select_ficom::<1>, Flow::Next),
    (Mn::Fucom, |_| Some(compare_register::<true, 0>), Flow::Next),
    (Mn::Fucomp, |_| Some(compare_register::<true, 1>), Flow::Next),
    (Mn::Fucompp, |_| Some(compare_both::<true>), Flow::Next),
    (Mn::Fcomi, |_| Some(compare_flags::<false, 0>), Flow::Next),
    (Mn::Fcomip, |_| Some(compare_flags::<false, 1>), Flow::Next),
    (Mn::Fucomi, |_| Some(compare_flags::<true, 0>), Flow::Next),
    (Mn::Fucomip, |_| Some(compare_flags::<true, 1>), Flow::Next),
];
