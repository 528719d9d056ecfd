//! Conversions between integers, halves, singles and doubles.

use super::lanes::{set_lane, set_wide_lane, wide_lane, Ymm};
use super::vector::{read_scalar, Encoding, Source, Unaligned, Vex};
use super::vector_select::Encoded;
use crate::cpu::decode::{Form, Group, Operand};
use crate::cpu::float::{self, Double, Environment, Format, Half, Rounding, Single};
use crate::cpu::float::{DENORMAL, DENORMALS_ARE_ZERO, FLUSH_TO_ZERO, INEXACT, UNDERFLOW};
use crate::cpu::insn::{Handler, Insn};
use crate::cpu::int::Int;
use crate::cpu::{Cpu, Done};
use crate::platform::Bus;

/// One lane to one lane.
trait Convert {
    type From: Int;
    type To: Int;
    fn convert(environment: &mut Environment, value: u64) -> u64;
}

macro_rules! conversions {
    ($($name:ident: $from:ty, $to:ty, |$environment:ident, $value:ident| $result:expr;)*) => {$(
        struct $name;
        impl Convert for $name {
            type From = $from;
            type To = $to;
            #[inline(always)]
            fn convert($environment: &mut Environment, $value: u64) -> u64 {
                $result
            }
        }
    )*};
}

conversions! {
    IntToSingle: u32, u32, |e, v| float::from_integer::<Single>(e, v as i32 as i64);
    IntToDouble: u32, u64, |e, v| float::from_integer::<Double>(e, v as i32 as i64);
    SingleToInt: u32, u32, |e, v| float::to_integer::<Single>(e, v, 32, false);
    SingleToIntTruncated: u32, u32, |e, v| float::to_integer::<Single>(e, v, 32, true);
    DoubleToInt: u64, u32, |e, v| float::to_integer::<Double>(e, v, 32, false);
    DoubleToIntTruncated: u64, u32, |e, v| float::to_integer::<Double>(e, v, 32, true);
    SingleToDouble: u32, u64, |e, v| float::convert::<Single, Double>(e, v);
    HalfToSingle: u16, u32, |e, v| half_to_single(e, v);
    DoubleToSingle: u64, u32, |e, v| float::convert::<Double, Single>(e, v);
}

/// Denormal halves are values like others, and no exception.
fn half_to_single(environment: &mut Environment, value: u64) -> u64 {
    let mut taken = environment.without(DENORMALS_ARE_ZERO);
    let result = float::convert::<Half, Single>(&mut taken, value);
    environment.found |= taken.found & !DENORMAL;
    result
}

/// VCVTPS2PH: rounded as the immediate or MXCSR says, tiny results kept.
fn to_halves<E: Encoding, D: Source>(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn) -> Done {
    E::check(cpu)?;
    let source = cpu.vector(if D::IN_MEMORY { insn.r[0] } else { insn.r[1] });
    let mut environment = Environment::new(cpu.mxcsr).without(FLUSH_TO_ZERO);
    if insn.imm & 4 == 0 {
        environment.rounding = Rounding::from_bits(insn.imm as u32);
    }
    let mut result = Ymm::default();
    for number in 0..E::LANES as u32 * 4 {
        let value = wide_lane::<u32>(source, number).to_u64();
        let half = float::convert::<Single, Half>(&mut environment, value);
        set_wide_lane(&mut result, number, half as u16);
    }
    // A denormal single is far below all halves, and found so whatever its digits are (SDM vol. 1, 14.4.1).
    if environment.found & DENORMAL != 0 {
        environment.found |= UNDERFLOW | INEXACT;
    }
    // MXCSR tells of them even if the store faults.
    cpu.float_exceptions(&environment)?;
    if !D::IN_MEMORY {
        E::write(cpu, insn.r[0], result);
        return Ok(());
    }
    match E::LANES {
        1 => cpu.write_unaligned(bus, insn.seg, cpu.ea(insn), result[0][0]),
        _ => cpu.write_vector::<Vex<1>>(bus, insn, false, result),
    }
}

/// The conversions of halves have no alignment check (SDM vol. 2, exceptions type 11).
fn select_from_halves(form: &Form) -> Option<Handler> {
    match (form.encoded(), form.has_memory()) {
        (Some(Encoded::Vex128), true) => Some(packed::<HalfToSingle, Vex<1>, Unaligned>),
        _ => select_packed::<HalfToSingle>(form),
    }
}

/// As many lanes as the wider of the two has; what is left of the destination becomes 0.
fn packed<C: Convert, E: Encoding, S: Source>(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn) -> Done {
    E::check(cpu)?;
    let widest = C::From::BITS.max(C::To::BITS);
    let source = match E::LANES as u32 * 16 * C::From::BITS / widest {
        8 => S::read::<E, 8>(cpu, bus, insn)?,
        16 => S::read::<E, 16>(cpu, bus, insn)?,
        _ => S::read::<E, 32>(cpu, bus, insn)?,
    };
    let mut environment = Environment::new(cpu.mxcsr);
    let mut result = Ymm::default();
    for number in 0..E::LANES as u32 * 128 / widest {
        let value = wide_lane::<C::From>(source, number).to_u64();
        let value = C::convert(&mut environment, value);
        set_wide_lane(&mut result, number, C::To::from_u64(value));
    }
    cpu.float_exceptions(&environment)?;
    E::write(cpu, insn.r[0], result);
    Ok(())
}

fn select_packed<C: Convert>(form: &Form) -> Option<Handler> {
    by_encoding!(form, packed, C)
}

/// CVTSS2SD and CVTSD2SS.
fn scalar<From: Format, To: Format, E: Encoding, S: Source>(
    cpu: &mut Cpu,
    bus: &mut Bus,
    insn: &Insn,
) -> Done {
    E::check(cpu)?;
    let value = read_scalar::<From, E, S>(cpu, bus, insn)?;
    let mut environment = Environment::new(cpu.mxcsr);
    let converted = float::convert::<From, To>(&mut environment, value);
    cpu.float_exceptions(&environment)?;
    put_low::<To, E>(cpu, insn, converted);
    Ok(())
}

/// Writes the lowest lane; the others come from the first source.
fn put_low<F: Format, E: Encoding>(cpu: &mut Cpu, insn: &Insn, value: u64) {
    let mut result = cpu.vector(insn.r[E::FIRST]);
    set_lane(&mut result[0], 0, F::Bits::from_u64(value));
    E::write(cpu, insn.r[0], result);
}

fn select_scalar<From: Format, To: Format>(form: &Form) -> Option<Handler> {
    by_narrow_encoding!(form, scalar, From, To)
}

/// CVTSI2SS and CVTSI2SD.
fn from_general<F: Format, T: Int, E: Encoding, S: Source>(
    cpu: &mut Cpu,
    bus: &mut Bus,
    insn: &Insn,
) -> Done {
    E::check(cpu)?;
    let value = if S::IN_MEMORY {
        cpu.read::<T>(bus, insn.seg, cpu.ea(insn))?
    } else {
        cpu.reg::<T>(insn.r[2])
    };
    let mut environment = Environment::new(cpu.mxcsr);
    let result = float::from_integer::<F>(&mut environment, value.sign_extended() as i64);
    cpu.float_exceptions(&environment)?;
    put_low::<F, E>(cpu, insn, result);
    Ok(())
}

fn select_from_general<F: Format>(form: &Form) -> Option<Handler> {
    let wide = |operand: &Operand| matches!(operand, Operand::Gpr(8) | Operand::Memory(8));
    if form.operands.iter().any(wide) {
        by_narrow_encoding!(form, from_general, F, u64)
    } else {
        by_narrow_encoding!(form, from_general, F, u32)
    }
}

/// CVTSS2SI and its like.
fn to_general<F: Format, T: Int, K: Truncation, E: Encoding, S: Source>(
    cpu: &mut Cpu,
    bus: &mut Bus,
    insn: &Insn,
) -> Done {
    E::check(cpu)?;
    let value = read_scalar::<F, E, S>(cpu, bus, insn)?;
    let mut environment = Environment::new(cpu.mxcsr);
    let result = float::to_integer::<F>(&mut environment, value, T::BITS, K::TRUNCATES);
    cpu.float_exceptions(&environment)?;
    cpu.set_reg(insn.r[0], T::from_u64(result));
    Ok(())
}

trait Truncation {
    const TRUNCATES: bool;
}
struct Rounded;
impl Truncation for Rounded {
    const TRUNCATES: bool = false;
}
struct Truncated;
impl Truncation for Truncated {
    const TRUNCATES: bool = true;
}

fn select_to_general<F: Format, K: Truncation>(form: &Form) -> Option<Handler> {
    match form.operands[0] {
        Operand::Gpr(4) => by_narrow_encoding!(form, to_general, F, u32, K),
        Operand::Gpr(8) => by_narrow_encoding!(form, to_general, F, u64, K),
        _ => None,
    }
}

pub static ROWS: Group = vector_rows! {
    Cvtdq2ps Vcvtdq2ps => select_packed::<IntToSingle>;
    Cvtdq2pd Vcvtdq2pd => select_packed::<IntToDouble>;
    Cvtps2dq Vcvtps2dq => select_packed::<SingleToInt>;
    Cvttps2dq Vcvttps2dq => select_packed::<SingleToIntTruncated>;
    Cvtpd2dq Vcvtpd2dq => select_packed::<DoubleToInt>;
    Cvttpd2dq Vcvttpd2dq => select_packed::<DoubleToIntTruncated>;
    Cvtps2pd Vcvtps2pd => select_packed::<SingleToDouble>;
    Cvtpd2ps Vcvtpd2ps => select_packed::<DoubleToSingle>;
    Vcvtph2ps => select_from_halves;
    Vcvtps2ph => |form| by_encoding!(form, to_halves);
    Cvtss2sd Vcvtss2sd => select_scalar::<Single, Double>;
    Cvtsd2ss Vcvtsd2ss => select_scalar::<Double, Single>;
    Cvtsi2ss Vcvtsi2ss => select_from_general::<Single>;
    Cvtsi2sd Vcvtsi2sd => select_from_general::<Double>;
    Cvtss2si Vcvtss2si => select_to_general::<Single, Rounded>;
    Cvttss2si Vcvttss2si => select_to_general::<Single, Truncated>;
    Cvtsd2si Vcvtsd2si => select_to_general::<Double, Rounded>;
    Cvttsd2si Vcvttsd2si => select_to_general::<Double, Truncated>;
};
