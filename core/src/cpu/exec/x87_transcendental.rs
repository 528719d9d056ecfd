//! FSIN, FCOS, FSINCOS, FPTAN, FPATAN, F2XM1, FYL2X, FYL2XP1.

use iced_x86::Mnemonic as Mn;

use super::x87::{status::C2, REGISTER};
use super::x87_arithmetic::{implied, registers, Arithmetic};
use crate::cpu::decode::{Flow, Group};
use crate::cpu::extended::{self, Environment, Extended, Value, DEFAULT_NAN};
use crate::cpu::insn::Insn;
use crate::cpu::transcendental;
use crate::cpu::{Cpu, Done};
use crate::platform::Bus;

arithmetic! {
    PowerLessOne |environment, a, _| transcendental::power_less_one(environment, a);
    Arctangent |environment, a, b| transcendental::arctangent(environment, a, b);
    YLogX |environment, a, b| transcendental::y_log_x(environment, a, b);
    YLogXPlusOne |environment, a, b| transcendental::y_log_x_plus_one(environment, a, b);
}

/// ST(1) from itself and ST(0), which is popped.
fn popping<O: Arithmetic>(cpu: &mut Cpu, _: &mut Bus, insn: &Insn) -> Done {
    registers::<O, true>(cpu, insn, 1, 0)
}

/// A function of ST(0); C2 says that the operand is too large, and then it stays.
type Function = fn(&mut Environment, &Value) -> Option<Extended>;

/// FSIN and FCOS.
fn single(cpu: &mut Cpu, insn: &Insn, function: Function) -> Done {
    cpu.check_x87_waiting()?;
    let mut environment = cpu.x87.environment();
    let result = if cpu.x87.is_empty(0) {
        environment.stack_fault(false);
        Some(DEFAULT_NAN)
    } else {
        function(&mut environment, &cpu.x87.value(0))
    };
    let written = cpu.conclude_x87(insn, &environment, REGISTER);
    cpu.x87.set_condition(C2, result.is_none());
    if let (true, Some(value)) = (written, result) {
        cpu.x87.set(0, value);
    }
    Ok(())
}

/// FSINCOS and FPTAN: `function` replaces ST(0), what `second` makes of it is put on the stack.
fn double(cpu: &mut Cpu, insn: &Insn, function: Function, second: Function) -> Done {
    cpu.check_x87_waiting()?;
    let mut environment = cpu.x87.environment();
    let results = if cpu.x87.is_empty(0) || !cpu.x87.is_empty(7) {
        environment.stack_fault(!cpu.x87.is_empty(0));
        Some((DEFAULT_NAN, DEFAULT_NAN))
    } else {
        let value = cpu.x87.value(0);
        let pushed = second(&mut environment, &value);
        function(&mut environment, &value).zip(pushed)
    };
    let written = cpu.conclude_x87(insn, &environment, REGISTER);
    cpu.x87.set_condition(C2, results.is_none());
    if let (true, Some((value, pushed))) = (written, results) {
        cpu.x87.set(0, value);
        cpu.x87.push(pushed);
    }
    Ok(())
}

fn fsin(cpu: &mut Cpu, _: &mut Bus, insn: &Insn) -> Done {
    single(cpu, insn, transcendental::sine)
}

fn fcos(cpu: &mut Cpu, _: &mut Bus, insn: &Insn) -> Done {
    single(cpu, insn, transcendental::cosine)
}

fn fsincos(cpu: &mut Cpu, _: &mut Bus, insn: &Insn) -> Done {
    double(cpu, insn, transcendental::sine, transcendental::cosine)
}

/// FPTAN's second result is 1, or the NaN that the first one is.
fn one_or_nan(environment: &mut Environment, x: &Value) -> Option<Extended> {
    if x.kind == extended::Kind::Infinite {
        return Some(environment.invalid());
    }
    extended::propagate(environment, x, x).or(Some(extended::one(false)))
}

fn fptan(cpu: &mut Cpu, _: &mut Bus, insn: &Insn) -> Done {
    double(cpu, insn, transcendental::tangent, one_or_nan)
}

pub static ROWS: Group = &[
    (Mn::Fsin, |_| Some(fsin), Flow::Next),
    (Mn::Fcos, |_| Some(fcos), Flow::Next),
    (Mn::Fsincos, |_| Some(fsincos), Flow::Next),
    (Mn::Fptan, |_| Some(fptan), Flow::Next),
    (Mn::Fpatan, |_| Some(popping::<Arctangent>), Flow::Next),
    (Mn::F2xm1, |_| Some(implied::<PowerLessOne, 0>), Flow::Next),
    (Mn::Fyl2x, |_| Some(popping::<YLogX>), Flow::Next),
    (Mn::Fyl2xp1, |_| Some(popping::<YLogXPlusOne>), Flow::Next),
];
