//! x87 loads, stores, exchanges, constants, conversions to and from integers and decimals, conditional moves.

use iced_x86::Mnemonic as Mn;

use super::x87::{MEMORY, REGISTER};
use crate::cpu::decode::{Flow, Form, Group, Operand};
use crate::cpu::extended::{self, Environment, Extended, Value, DEFAULT_NAN, DENORMAL};
use crate::cpu::float::Rounding;
use crate::cpu::insn::{Handler, Insn};
use crate::cpu::{Cpu, Done, Stop};
use crate::platform::Bus;

/// A format of values in memory that are loaded and computed with.
pub trait Load {
    fn load(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn) -> Result<Value, Stop>;
}

pub struct Single;
pub struct Double;
pub struct Int16;
pub struct Int32;
pub struct Int64;
pub struct Decimal;

macro_rules! loads {
    ($($name:ident: $bits:ty, |$value:ident| $result:expr;)*) => {$(
        impl Load for $name {
            #[inline(always)]
            fn load(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn) -> Result<Value, Stop> {
                let $value: $bits = cpu.read(bus, insn.seg, cpu.ea(insn))?;
                Ok($result)
            }
        }
    )*};
}
loads! {
    Single: u32, |value| Value::from_single(value);
    Double: u64, |value| Value::from_double(value);
    Int16: u16, |value| Value::from_integer(value as i16 as i64);
    Int32: u32, |value| Value::from_integer(value as i32 as i64);
    Int64: u64, |value| Value::from_integer(value as i64);
}

impl Load for Decimal {
    fn load(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn) -> Result<Value, Stop> {
        Ok(extended::from_decimal(cpu.read_bytes(
            bus,
            insn.seg,
            cpu.ea(insn),
            false,
        )?))
    }
}

/// FLD, FILD and FBLD. A signaling NaN becomes quiet, which is an invalid operation.
fn load<L: Load>(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn) -> Done {
    cpu.check_x87_waiting()?;
    let value = L::load(cpu, bus, insn)?;
    let mut environment = cpu.x87.environment();
    if value.denormal {
        environment.found |= DENORMAL;
    }
    let loaded = extended::propagate(&mut environment, &value, &value);
    cpu.push_x87(insn, environment, loaded.unwrap_or_else(|| value.to_extended()));
    Ok(())
}

/// All 80 bits as they are.
fn load_extended(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn) -> Done {
    cpu.check_x87_waiting()?;
    let bytes = cpu.read_bytes::<10>(bus, insn.seg, cpu.ea(insn), false)?;
    let value = bytes
        .iter()
        .rev()
        .fold(0u128, |value, byte| value << 8 | *byte as u128);
    cpu.push_x87(insn, cpu.x87.environment(), (value as u64, (value >> 64) as u16));
    Ok(())
}

fn load_register(cpu: &mut Cpu, _: &mut Bus, insn: &Insn) -> Done {
    cpu.check_x87_waiting()?;
    let from = insn.r[0] as usize;
    let mut environment = cpu.x87.environment();
    let mut value = cpu.x87.get(from);
    if cpu.x87.is_empty(from) {
        environment.stack_fault(false);
        value = DEFAULT_NAN;
    }
    cpu.push_x87(insn, environment, value);
    Ok(())
}

fn select_fld(form: &Form) -> Option<Handler> {
    match form.operands[0] {
        Operand::St => Some(load_register),
        Operand::Memory(4) => Some(load::<Single>),
        Operand::Memory(8) => Some(load::<Double>),
        Operand::Memory(10) => Some(load_extended),
        _ => None,
    }
}

fn select_fild(form: &Form) -> Option<Handler> {
    match form.operands[0] {
        Operand::Memory(2) => Some(load::<Int16>),
        Operand::Memory(4) => Some(load::<Int32>),
        Operand::Memory(8) => Some(load::<Int64>),
        _ => None,
    }
}

/// The constants: exponent, the upper 64 bits of the significand, and the 64 below, for they are rounded as RC says.
trait Constant {
    const EXPONENT: i32;
    const HIGH: u64;
    const LOW: u64;
}

macro_rules! constants {
    ($($name:ident $exponent:tt $high:literal $low:literal;)*) => {$(
        struct $name;
        impl Constant for $name {
            const EXPONENT: i32 = $exponent;
            const HIGH: u64 = $high;
            const LOW: u64 = $low;
        }
    )*};
}
constants! {
    One 0 0x8000_0000_0000_0000 0;
    Log2Of10 1 0xd49a_784b_cd1b_8afe 0x492b_f6ff_4daf_db4d;
    Log2OfE 0 0xb8aa_3b29_5c17_f0bb 0xbe87_fed0_691d_3e89;
    Pi 1 0xc90f_daa2_2168_c234 0xc4c6_628b_80dc_1cd1;
    Log10Of2 (-2) 0x9a20_9a84_fbcf_f798 0x8f89_59ac_0b7c_9178;
    LnOf2 (-1) 0xb172_17f7_d1cf_79ab 0xc9e3_b398_03f2_f6af;
}

/// Being inexact is no exception here.
fn constant<C: Constant>(cpu: &mut Cpu, _: &mut Bus, insn: &Insn) -> Done {
    cpu.check_x87_waiting()?;
    let environment = cpu.x87.environment();
    let significand = (C::HIGH as u128) << 64 | C::LOW as u128;
    let value = extended::pack_full(&mut environment.clone(), false, C::EXPONENT, significand);
    cpu.push_x87(insn, environment, value);
    Ok(())
}

fn load_zero(cpu: &mut Cpu, _: &mut Bus, insn: &Insn) -> Done {
    cpu.check_x87_waiting()?;
    cpu.push_x87(insn, cpu.x87.environment(), extended::zero(false));
    Ok(())
}

/// A format that values are stored in.
trait Store {
    type Bytes: AsRef<[u8]>;
    fn convert(environment: &mut Environment, value: Extended) -> Self::Bytes;
    fn indefinite() -> Self::Bytes;
    fn write(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn, bytes: Self::Bytes) -> Done;
}

struct Whole;
/// FISTTP: an integer, by truncation.
struct Truncated<S>(S);

macro_rules! stores {
    ($($name:ty: $bits:ty, $indefinite:expr, |$environment:ident, $value:ident| $result:expr;)*) => {$(
        impl Store for $name {
            type Bytes = [u8; (<$bits>::BITS / 8) as usize];
            fn convert($environment: &mut Environment, $value: Extended) -> Self::Bytes {
                let $value = Value::from_extended($value);
                (($result) as $bits).to_le_bytes()
            }
            fn indefinite() -> Self::Bytes {
                (($indefinite) as $bits).to_le_bytes()
            }
            fn write(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn, bytes: Self::Bytes) -> Done {
                cpu.write(bus, insn.seg, cpu.ea(insn), <$bits>::from_le_bytes(bytes))
            }
        }
    )*};
}
stores! {
    Single: u32, 0xffc0_0000u32, |e, value| extended::to_single(e, &value);
    Double: u64, 0xfff8u64 << 48, |e, value| extended::to_double(e, &value);
    Int16: u16, 1u16 << 15, |e, value| extended::to_integer(e, &value, 16, e.rounding);
    Int32: u32, 1u32 << 31, |e, value| extended::to_integer(e, &value, 32, e.rounding);
    Int64: u64, 1u64 << 63, |e, value| extended::to_integer(e, &value, 64, e.rounding);
    Truncated<Int16>: u16, 1u16 << 15, |e, value| extended::to_integer(e, &value, 16, Rounding::Zero);
    Truncated<Int32>: u32, 1u32 << 31, |e, value| extended::to_integer(e, &value, 32, Rounding::Zero);
    Truncated<Int64>: u64, 1u64 << 63, |e, value| extended::to_integer(e, &value, 64, Rounding::Zero);
}

fn ten_bytes((significand, top): Extended) -> [u8; 10] {
    let mut bytes = [0; 10];
    bytes[..8].copy_from_slice(&significand.to_le_bytes());
    bytes[8..].copy_from_slice(&top.to_le_bytes());
    bytes
}

macro_rules! ten_byte_stores {
    ($($name:ty: $indefinite:expr, |$environment:pat_param, $value:ident| $result:expr;)*) => {$(
        impl Store for $name {
            type Bytes = [u8; 10];
            fn convert($environment: &mut Environment, $value: Extended) -> [u8; 10] {
                $result
            }
            fn indefinite() -> [u8; 10] {
                $indefinite
            }
            fn write(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn, bytes: [u8; 10]) -> Done {
                cpu.write_bytes(bus, insn.seg, cpu.ea(insn), false, bytes)
            }
        }
    )*};
}
ten_byte_stores! {
    Whole: ten_bytes(DEFAULT_NAN), |_, value| ten_bytes(value);
    Decimal: extended::DECIMAL_INDEFINITE, |e, value| extended::to_decimal(e, &Value::from_extended(value));
}

/// FST, FSTP, FIST, FISTP, FISTTP and FBSTP to memory. The status changes after memory was written, for that may fault.
fn store<S: Store, const POP: bool>(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn) -> Done {
    cpu.check_x87_waiting()?;
    let mut environment = cpu.x87.environment();
    let bytes = if cpu.x87.is_empty(0) {
        environment.stack_fault(false);
        S::indefinite()
    } else {
        S::convert(&mut environment, cpu.x87.get(0))
    };
    // What is not stored is not looked at: neither segment nor page can fault.
    if environment.unmasked(environment.found) & MEMORY == 0 {
        S::write(cpu, bus, insn, bytes)?;
    }
    if cpu.conclude_x87(insn, &environment, MEMORY) && POP {
        cpu.x87.pop();
    }
    Ok(())
}

fn store_register<const POP: bool>(cpu: &mut Cpu, _: &mut Bus, insn: &Insn) -> Done {
    cpu.check_x87_waiting()?;
    let mut environment = cpu.x87.environment();
    let mut value = cpu.x87.get(0);
    if cpu.x87.is_empty(0) {
        environment.stack_fault(false);
        value = DEFAULT_NAN;
    }
    if cpu.conclude_x87(insn, &environment, REGISTER) {
        cpu.x87.set(insn.r[0] as usize, value);
        if POP {
            cpu.x87.pop();
        }
    }
    Ok(())
}

/// FSTPNCE: an FSTP that does not mind an empty register, and copies nothing from it.
fn store_unchecked(cpu: &mut Cpu, _: &mut Bus, insn: &Insn) -> Done {
    cpu.check_x87_waiting()?;
    cpu.conclude_x87(insn, &cpu.x87.environment(), REGISTER);
    if !cpu.x87.is_empty(0) {
        cpu.x87.set(insn.r[0] as usize, cpu.x87.get(0));
    }
    cpu.x87.pop();
    Ok(())
}

fn select_fst<const POP: bool>(form: &Form) -> Option<Handler> {
    match form.operands[0] {
        Operand::St => Some(store_register::<POP>),
        Operand::Memory(4) => Some(store::<Single, POP>),
        Operand::Memory(8) => Some(store::<Double, POP>),
        Operand::Memory(10) => Some(store::<Whole, POP>),
        _ => None,
    }
}

fn select_fist<const POP: bool>(form: &Form) -> Option<Handler> {
    match form.operands[0] {
        Operand::Memory(2) => Some(store::<Int16, POP>),
        Operand::Memory(4) => Some(store::<Int32, POP>),
        Operand::Memory(8) => Some(store::<Int64, POP>),
        _ => None,
    }
}

fn select_fisttp(form: &Form) -> Option<Handler> {
    match form.operands[0] {
        Operand::Memory(2) => Some(store::<Truncated<Int16>, true>),
        Operand::Memory(4) => Some(store::<Truncated<Int32>, true>),
        Operand::Memory(8) => Some(store::<Truncated<Int64>, true>),
        _ => None,
    }
}

/// FXCH: empty registers count as the indefinite.
fn fxch(cpu: &mut Cpu, _: &mut Bus, insn: &Insn) -> Done {
    cpu.check_x87_waiting()?;
    let other = insn.r[1] as usize;
    let mut environment = cpu.x87.environment();
    let mut take = |n| {
        if cpu.x87.is_empty(n) {
            environment.stack_fault(false);
            return DEFAULT_NAN;
        }
        cpu.x87.get(n)
    };
    let (top, value) = (take(0), take(other));
    if cpu.conclude_x87(insn, &environment, REGISTER) {
        cpu.x87.set(0, value);
        cpu.x87.set(other, top);
    }
    Ok(())
}

/// FCMOVcc by CF, ZF, CF or ZF, and PF.
fn fcmov<const CONDITION: u8, const WANTED: bool>(cpu: &mut Cpu, _: &mut Bus, insn: &Insn) -> Done {
    cpu.check_x87_waiting()?;
    let from = insn.r[1] as usize;
    let mut environment = cpu.x87.environment();
    let mut value = cpu.x87.get(from);
    let empty = cpu.x87.is_empty(0) || cpu.x87.is_empty(from);
    if empty {
        environment.stack_fault(false);
        value = DEFAULT_NAN;
    }
    let holds = match CONDITION {
        0 => cpu.flags.carry(),
        1 => cpu.flags.zero(),
        2 => cpu.flags.carry() || cpu.flags.zero(),
        _ => cpu.flags.parity(),
    };
    if cpu.conclude_x87_keeping_c1(insn, &environment) && (empty || holds == WANTED) {
        cpu.x87.set(0, value);
    }
    Ok(())
}

pub static ROWS: Group = &[
    (Mn::Fld, select_fld, Flow::Next),
    (Mn::Fild, select_fild, Flow::Next),
    (Mn::Fbld, |_| Some(load::<Decimal>), Flow::Next),
    (Mn::Fld1, |_| Some(constant::<One>), Flow::Next),
    (Mn::Fldl2t, |_| Some(constant::<Log2Of10>), Flow::Next),
    (Mn::Fldl2e, |_| Some(constant::<Log2OfE>), Flow::Next),
    (Mn::Fldpi, |_| Some(constant::<Pi>), Flow::Next),
    (Mn::Fldlg2, |_| Some(constant::<Log10Of2>), Flow::Next),
    (Mn::Fldln2, |_| Some(constant::<LnOf2>), Flow::Next),
    (Mn::Fldz, |_| Some(load_zero), Flow::Next),
    (Mn::Fst, select_fst::<false>, Flow::Next),
    (Mn::Fstp, select_fst::<true>, Flow::Next),
    (Mn::Fstpnce, |_| Some(store_unchecked), Flow::Next),
    (Mn::Fist, select_fist::<false>, Flow::Next),
    (Mn::Fistp, select_fist::<true>, Flow::Next),
    (Mn::Fisttp, select_fisttp, Flow::Next),
    (Mn::Fbstp, |_| Some(store::<Decimal, true>), Flow::Next),
    (Mn::Fxch, |_| Some(fxch), Flow::Next),
    (Mn::Fcmovb, |_| Some(fcmov::<0, true>), Flow::Next),
    (Mn::Fcmovnb, |_| Some(fcmov::<0, false>), Flow::Next),
    (Mn::Fcmove, |_| Some(fcmov::<1, true>), Flow::Next),
    (Mn::Fcmovne, |_| Some(fcmov::<1, false>), Flow::Next),
    (Mn::Fcmovbe, |_| Some(fcmov::<2, true>), Flow::Next),
    (Mn::Fcmovnbe, |_| Some(fcmov::<2, false>), Flow::Next),
    (Mn::Fcmovu, |_| Some(fcmov::<3, true>), Flow::Next),
    (Mn::Fcmovnu, |_| Some(fcmov::<3, false>), Flow::Next),
];
