//! Conversions between integers, singles and doubles.

use iced_x86::Mnemonic as Mn;

use super::sse::{lane, set_lane, Source, Xmm};
use crate::cpu::decode::{Flow, Form, Group, Operand};
use crate::cpu::float::{self, Double, Environment, Format, Single};
use crate::cpu::insn::{self, Handler, Insn, M, R1};
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
    DoubleToSingle: u64, u32, |e, v| float::convert::<Double, Single>(e, v);
}

/// As many lanes as the wider of the two has; what is left of the destination becomes 0.
fn packed<C: Convert, S: Source>(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn) -> Done {
    cpu.check_sse()?;
    let widening = C::To::BITS > C::From::BITS;
    let source = if widening {
        S::read::<8>(cpu, bus, insn)?
    } else {
        S::read::<16>(cpu, bus, insn)?
    };
    let mut environment = Environment::new(cpu.mxcsr);
    let mut result: Xmm = [0; 2];
    for number in 0..128 / C::From::BITS.max(C::To::BITS) {
        let value = C::convert(&mut environment, lane::<C::From>(source, number).to_u64());
        set_lane(&mut result, number, C::To::from_u64(value));
    }
    cpu.float_exceptions(&environment)?;
    cpu.set_xmm(insn.r[0], result);
    Ok(())
}

fn select_packed<C: Convert>(form: &Form) -> Option<Handler> {
    match form.operands[0] {
        Operand::Xmm => by_source!(form, packed, C),
        _ => None,
    }
}

/// CVTSS2SD and CVTSD2SS.
fn scalar<C: Convert, S: Source>(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn) -> Done {
    cpu.check_sse()?;
    let value = match C::From::BITS {
        32 => S::read::<4>(cpu, bus, insn)?[0] & 0xffff_ffff,
        _ => S::read::<8>(cpu, bus, insn)?[0],
    };
    let mut environment = Environment::new(cpu.mxcsr);
    let result = C::convert(&mut environment, value);
    cpu.float_exceptions(&environment)?;
    cpu.set_xmm_low(insn.r[0], C::To::from_u64(result));
    Ok(())
}

fn select_scalar<C: Convert>(form: &Form) -> Option<Handler> {
    by_source!(form, scalar, C)
}

/// CVTSI2SS and CVTSI2SD.
fn from_general<F: Format, T: Int, S: insn::Source>(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn) -> Done {
    cpu.check_sse()?;
    let value = S::read::<T>(cpu, bus, insn)?.sign_extended() as i64;
    let mut environment = Environment::new(cpu.mxcsr);
    let result = float::from_integer::<F>(&mut environment, value);
    cpu.float_exceptions(&environment)?;
    cpu.set_xmm_low(insn.r[0], F::Bits::from_u64(result));
    Ok(())
}

fn select_from_general<F: Format>(form: &Form) -> Option<Handler> {
    match form.operands[1] {
        Operand::Gpr(4) => Some(from_general::<F, u32, R1>),
        Operand::Gpr(8) => Some(from_general::<F, u64, R1>),
        Operand::Memory(4) => Some(from_general::<F, u32, M>),
        Operand::Memory(8) => Some(from_general::<F, u64, M>),
        _ => None,
    }
}

/// CVTSS2SI and its like.
fn to_general<F: Format, T: Int, K: Truncation, S: Source>(
    cpu: &mut Cpu,
    bus: &mut Bus,
    insn: &Insn,
) -> Done {
    cpu.check_sse()?;
    let value = match F::Bits::BITS {
        32 => S::read::<4>(cpu, bus, insn)?[0] & 0xffff_ffff,
        _ => S::read::<8>(cpu, bus, insn)?[0],
    };
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
        Operand::Gpr(4) => by_source!(form, to_general, F, u32, K),
        Operand::Gpr(8) => by_source!(form, to_general, F, u64, K),
        _ => None,
    }
}

pub static ROWS: Group = &[
    (Mn::Cvtdq2ps, select_packed::<IntToSingle>, Flow::Next),
    (Mn::Cvtdq2pd, select_packed::<IntToDouble>, Flow::Next),
    (Mn::Cvtps2dq, select_packed::<SingleToInt>, Flow::Next),
    (Mn::Cvttps2dq, select_packed::<SingleToIntTruncated>, Flow::Next),
    (Mn::Cvtpd2dq, select_packed::<DoubleToInt>, Flow::Next),
    (Mn::Cvttpd2dq, select_packed::<DoubleToIntTruncated>, Flow::Next),
    (Mn::Cvtps2pd, select_packed::<SingleToDouble>, Flow::Next),
    (Mn::Cvtpd2ps, select_packed::<DoubleToSingle>, Flow::Next),
    (Mn::Cvtss2sd, select_scalar::<SingleToDouble>, Flow::Next),
    (Mn::Cvtsd2ss, select_scalar::<DoubleToSingle>, Flow::Next),
    (Mn::Cvtsi2ss, select_from_general::<Single>, Flow::Next),
    (Mn::Cvtsi2sd, select_from_general::<Double>, Flow::Next),
    (Mn::Cvtss2si, select_to_general::<Single, Rounded>, Flow::Next),
    (Mn::Cvttss2si, select_to_general::<Single, Truncated>, Flow::Next),
    (Mn::Cvtsd2si, select_to_general::<Double, Rounded>, Flow::Next),
    (Mn::Cvttsd2si, select_to_general::<Double, Truncated>, Flow::Next),
];
