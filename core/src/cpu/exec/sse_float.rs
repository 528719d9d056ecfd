//! Arithmetic and comparison of singles and doubles, packed and scalar.

use iced_x86::Mnemonic as Mn;

use super::sse::{lane, set_lane, Source, Xmm};
use crate::cpu::decode::{Flow, Form, Group};
use crate::cpu::float::{self, Double, Environment, Format, Operation, Relation, Rounding, Single};
use crate::cpu::insn::{Handler, Insn};
use crate::cpu::int::Int;
use crate::cpu::{Cpu, Done};
use crate::platform::Bus;

/// What becomes of one lane `a` of the destination and `b` of the source.
trait Compute {
    fn compute<F: Format>(environment: &mut Environment, a: u64, b: u64, imm: u8) -> u64;
}

macro_rules! float {
    ($($name:ident |$environment:ident, $a:pat_param, $b:ident, $imm:pat_param| $result:expr;)*) => {$(
        struct $name;
        impl Compute for $name {
            #[inline(always)]
            fn compute<F: Format>($environment: &mut Environment, $a: u64, $b: u64, $imm: u8) -> u64 {
                $result
            }
        }
    )*};
}

float! {
    Add |environment, a, b, _| float::arithmetic::<F>(environment, Operation::Add, a, b);
    Sub |environment, a, b, _| float::arithmetic::<F>(environment, Operation::Sub, a, b);
    Mul |environment, a, b, _| float::arithmetic::<F>(environment, Operation::Mul, a, b);
    Div |environment, a, b, _| float::arithmetic::<F>(environment, Operation::Div, a, b);
    Min |environment, a, b, _| float::extreme::<F>(environment, a, b, Relation::Less);
    Max |environment, a, b, _| float::extreme::<F>(environment, a, b, Relation::Greater);
    Sqrt |environment, _, b, _| float::square_root::<F>(environment, b);
    Cmp |environment, a, b, imm| if compare::<F>(environment, a, b, imm) { !0 } else { 0 };
    Round |environment, _, b, imm| {
        // SDM vol. 2, ROUNDPD: bits 1:0 the rounding, bit 2 take MXCSR's instead, bit 3 no precision exception.
        let rounding = match imm & 4 {
            0 => Rounding::from_bits(imm as u32),
            _ => environment.rounding,
        };
        float::round_to_whole::<F>(environment, b, rounding, imm & 8 != 0)
    };
    Rcp |_environment, _, b, _| approximate(b as u32, |x| 1.0 / x) as u64;
    Rsqrt |_environment, _, b, _| match f32::from_bits(b as u32) {
        x if x < 0.0 && x.is_normal() || x == f32::NEG_INFINITY => Single::DEFAULT_NAN,
        _ => approximate(b as u32, |x| 1.0 / x.sqrt()) as u64,
    };
}

/// The predicates of CMPPS: three bits, the upper one negates.
fn compare<F: Format>(environment: &mut Environment, a: u64, b: u64, predicate: u8) -> bool {
    let signaling = matches!(predicate & 3, 1 | 2);
    let relation = float::compare::<F>(environment, a, b, signaling);
    let holds = match predicate & 3 {
        0 => relation == Relation::Equal,
        1 => relation == Relation::Less,
        2 => matches!(relation, Relation::Less | Relation::Equal),
        _ => relation == Relation::Unordered,
    };
    holds != (predicate & 4 != 0)
}

/// RCPPS and RSQRTPS: a result to twelve bits, well within the SDM's 1.5 × 2^-12. Denormals count as zeros, tiny
/// results become zeros, and no exception is found.
fn approximate(bits: u32, f: impl Fn(f32) -> f32) -> u32 {
    let x = f32::from_bits(bits);
    if x.is_nan() {
        return bits | Single::QUIET as u32;
    }
    let x = if x.is_subnormal() { x * 0.0 } else { x };
    let result = f(x);
    if result.is_subnormal() {
        return (result * 0.0).to_bits();
    }
    if result.is_infinite() || result == 0.0 {
        return result.to_bits();
    }
    (result.to_bits() + 0x400) & !0x7ff
}

#[inline(always)]
fn lanes_of<F: Format>() -> u32 {
    super::sse::lanes::<F::Bits>()
}

fn packed<F: Format, O: Compute, S: Source>(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn) -> Done {
    cpu.check_sse()?;
    let b = S::read::<16>(cpu, bus, insn)?;
    let a = cpu.xmm(insn.r[0]);
    let mut environment = Environment::new(cpu.mxcsr);
    let mut result = [0; 2];
    for number in 0..lanes_of::<F>() {
        let (a, b) = (lane::<F::Bits>(a, number), lane::<F::Bits>(b, number));
        let value = O::compute::<F>(&mut environment, a.to_u64(), b.to_u64(), insn.imm as u8);
        set_lane(&mut result, number, F::Bits::from_u64(value));
    }
    cpu.float_exceptions(&environment)?;
    cpu.set_xmm(insn.r[0], result);
    Ok(())
}

fn read_scalar<F: Format, S: Source>(
    cpu: &mut Cpu,
    bus: &mut Bus,
    insn: &Insn,
) -> Result<u64, crate::cpu::Stop> {
    Ok(match F::Bits::BITS {
        32 => S::read::<4>(cpu, bus, insn)?[0] & 0xffff_ffff,
        _ => S::read::<8>(cpu, bus, insn)?[0],
    })
}

fn scalar<F: Format, O: Compute, S: Source>(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn) -> Done {
    cpu.check_sse()?;
    let b = read_scalar::<F, S>(cpu, bus, insn)?;
    let a = lane::<F::Bits>(cpu.xmm(insn.r[0]), 0).to_u64();
    let mut environment = Environment::new(cpu.mxcsr);
    let result = O::compute::<F>(&mut environment, a, b, insn.imm as u8);
    cpu.float_exceptions(&environment)?;
    cpu.set_xmm_low(insn.r[0], F::Bits::from_u64(result));
    Ok(())
}

fn select_packed<F: Format, O: Compute>(form: &Form) -> Option<Handler> {
    by_source!(form, packed, F, O)
}

fn select_scalar<F: Format, O: Compute>(form: &Form) -> Option<Handler> {
    by_source!(form, scalar, F, O)
}

/// COMISS and UCOMISS: the relation in ZF, PF and CF.
fn compare_to_flags<F: Format, O: Signaling, S: Source>(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn) -> Done {
    cpu.check_sse()?;
    let b = read_scalar::<F, S>(cpu, bus, insn)?;
    let a = lane::<F::Bits>(cpu.xmm(insn.r[0]), 0).to_u64();
    let mut environment = Environment::new(cpu.mxcsr);
    let relation = float::compare::<F>(&mut environment, a, b, O::QUIET_NAN_IS_INVALID);
    cpu.float_exceptions(&environment)?;
    use crate::cpu::flags::{CF, PF, ZF};
    let flags = match relation {
        Relation::Greater => 0,
        Relation::Less => CF,
        Relation::Equal => ZF,
        Relation::Unordered => ZF | PF | CF,
    };
    cpu.flags.set(cpu.flags.rest | flags);
    Ok(())
}

trait Signaling {
    const QUIET_NAN_IS_INVALID: bool;
}
struct Ordered;
impl Signaling for Ordered {
    const QUIET_NAN_IS_INVALID: bool = true;
}
struct Unordered;
impl Signaling for Unordered {
    const QUIET_NAN_IS_INVALID: bool = false;
}

fn select_compare<F: Format, O: Signaling>(form: &Form) -> Option<Handler> {
    by_source!(form, compare_to_flags, F, O)
}

/// Instructions that combine lanes: each result lane is an addition or subtraction of two lanes.
trait Combine {
    /// For lane `number` of `lanes`: the operation and its operands as (from the source, lane).
    fn of(number: u32, lanes: u32) -> (Operation, (bool, u32), (bool, u32));
}

/// ADDSUBPS: even lanes subtract, odd ones add.
struct AddSub;
impl Combine for AddSub {
    fn of(number: u32, _: u32) -> (Operation, (bool, u32), (bool, u32)) {
        let operation = if number & 1 == 0 {
            Operation::Sub
        } else {
            Operation::Add
        };
        (operation, (false, number), (true, number))
    }
}

fn neighbours(number: u32, lanes: u32) -> ((bool, u32), (bool, u32)) {
    let (source, pair) = (number >= lanes / 2, number % (lanes / 2));
    ((source, pair * 2), (source, pair * 2 + 1))
}

struct HorizontalAdd;
impl Combine for HorizontalAdd {
    fn of(number: u32, lanes: u32) -> (Operation, (bool, u32), (bool, u32)) {
        let (first, second) = neighbours(number, lanes);
        (Operation::Add, first, second)
    }
}

struct HorizontalSub;
impl Combine for HorizontalSub {
    fn of(number: u32, lanes: u32) -> (Operation, (bool, u32), (bool, u32)) {
        let (first, second) = neighbours(number, lanes);
        (Operation::Sub, first, second)
    }
}

fn combined<F: Format, O: Combine, S: Source>(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn) -> Done {
    cpu.check_sse()?;
    let b = S::read::<16>(cpu, bus, insn)?;
    let a = cpu.xmm(insn.r[0]);
    let value = |(source, number): (bool, u32)| lane::<F::Bits>(if source { b } else { a }, number).to_u64();
    let mut environment = Environment::new(cpu.mxcsr);
    let mut result = [0; 2];
    for number in 0..lanes_of::<F>() {
        let (operation, x, y) = O::of(number, lanes_of::<F>());
        let sum = float::arithmetic::<F>(&mut environment, operation, value(x), value(y));
        set_lane(&mut result, number, F::Bits::from_u64(sum));
    }
    cpu.float_exceptions(&environment)?;
    cpu.set_xmm(insn.r[0], result);
    Ok(())
}

fn select_combined<F: Format, O: Combine>(form: &Form) -> Option<Handler> {
    by_source!(form, combined, F, O)
}

/// DPPS and DPPD: the products that `imm`'s upper half chooses, summed pair by pair, where its lower half says. Each
/// step rounds and may raise exceptions of its own.
fn dot_product<F: Format, S: Source>(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn) -> Done {
    cpu.check_sse()?;
    let b = S::read::<16>(cpu, bus, insn)?;
    let (a, imm, lanes) = (cpu.xmm(insn.r[0]), insn.imm as u8, lanes_of::<F>());
    let step = |cpu: &mut Cpu, operation, values: &[(u64, u64)]| -> Result<Vec<u64>, crate::cpu::Stop> {
        let mut environment = Environment::new(cpu.mxcsr);
        let results = values
            .iter()
            .map(|(x, y)| float::arithmetic::<F>(&mut environment, operation, *x, *y))
            .collect();
        cpu.float_exceptions(&environment)?;
        Ok(results)
    };
    let operand = |value: Xmm, number| lane::<F::Bits>(value, number).to_u64();
    let chosen: Vec<u32> = (0..lanes).filter(|number| imm >> (number + 4) & 1 != 0).collect();
    let factors: Vec<_> = chosen
        .iter()
        .map(|number| (operand(a, *number), operand(b, *number)))
        .collect();
    let mut terms = vec![0; lanes as usize];
    for (number, product) in chosen.iter().zip(step(cpu, Operation::Mul, &factors)?) {
        terms[*number as usize] = product;
    }
    while terms.len() > 1 {
        let pairs: Vec<_> = terms.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect();
        terms = step(cpu, Operation::Add, &pairs)?;
    }
    let mut result: Xmm = [0; 2];
    for number in (0..lanes).filter(|number| imm >> number & 1 != 0) {
        set_lane(&mut result, number, F::Bits::from_u64(terms[0]));
    }
    cpu.set_xmm(insn.r[0], result);
    Ok(())
}

fn select_dot_product<F: Format>(form: &Form) -> Option<Handler> {
    by_source!(form, dot_product, F)
}

pub static ROWS: Group = &[
    (Mn::Addps, select_packed::<Single, Add>, Flow::Next),
    (Mn::Addpd, select_packed::<Double, Add>, Flow::Next),
    (Mn::Addss, select_scalar::<Single, Add>, Flow::Next),
    (Mn::Addsd, select_scalar::<Double, Add>, Flow::Next),
    (Mn::Subps, select_packed::<Single, Sub>, Flow::Next),
    (Mn::Subpd, select_packed::<Double, Sub>, Flow::Next),
    (Mn::Subss, select_scalar::<Single, Sub>, Flow::Next),
    (Mn::Subsd, select_scalar::<Double, Sub>, Flow::Next),
    (Mn::Mulps, select_packed::<Single, Mul>, Flow::Next),
    (Mn::Mulpd, select_packed::<Double, Mul>, Flow::Next),
    (Mn::Mulss, select_scalar::<Single, Mul>, Flow::Next),
    (Mn::Mulsd, select_scalar::<Double, Mul>, Flow::Next),
    (Mn::Divps, select_packed::<Single, Div>, Flow::Next),
    (Mn::Divpd, select_packed::<Double, Div>, Flow::Next),
    (Mn::Divss, select_scalar::<Single, Div>, Flow::Next),
    (Mn::Divsd, select_scalar::<Double, Div>, Flow::Next),
    (Mn::Minps, select_packed::<Single, Min>, Flow::Next),
    (Mn::Minpd, select_packed::<Double, Min>, Flow::Next),
    (Mn::Minss, select_scalar::<Single, Min>, Flow::Next),
    (Mn::Minsd, select_scalar::<Double, Min>, Flow::Next),
    (Mn::Maxps, select_packed::<Single, Max>, Flow::Next),
    (Mn::Maxpd, select_packed::<Double, Max>, Flow::Next),
    (Mn::Maxss, select_scalar::<Single, Max>, Flow::Next),
    (Mn::Maxsd, select_scalar::<Double, Max>, Flow::Next),
    (Mn::Sqrtps, select_packed::<Single, Sqrt>, Flow::Next),
    (Mn::Sqrtpd, select_packed::<Double, Sqrt>, Flow::Next),
    (Mn::Sqrtss, select_scalar::<Single, Sqrt>, Flow::Next),
    (Mn::Sqrtsd, select_scalar::<Double, Sqrt>, Flow::Next),
    (Mn::Rcpps, select_packed::<Single, Rcp>, Flow::Next),
    (Mn::Rcpss, select_scalar::<Single, Rcp>, Flow::Next),
    (Mn::Rsqrtps, select_packed::<Single, Rsqrt>, Flow::Next),
    (Mn::Rsqrtss, select_scalar::<Single, Rsqrt>, Flow::Next),
    (Mn::Cmpps, select_packed::<Single, Cmp>, Flow::Next),
    (Mn::Cmppd, select_packed::<Double, Cmp>, Flow::Next),
    (Mn::Cmpss, select_scalar::<Single, Cmp>, Flow::Next),
    (Mn::Cmpsd, select_scalar::<Double, Cmp>, Flow::Next),
    (Mn::Comiss, select_compare::<Single, Ordered>, Flow::Next),
    (Mn::Comisd, select_compare::<Double, Ordered>, Flow::Next),
    (Mn::Ucomiss, select_compare::<Single, Unordered>, Flow::Next),
    (Mn::Ucomisd, select_compare::<Double, Unordered>, Flow::Next),
    (Mn::Roundps, select_packed::<Single, Round>, Flow::Next),
    (Mn::Roundpd, select_packed::<Double, Round>, Flow::Next),
    (Mn::Roundss, select_scalar::<Single, Round>, Flow::Next),
    (Mn::Roundsd, select_scalar::<Double, Round>, Flow::Next),
    (Mn::Addsubps, select_combined::<Single, AddSub>, Flow::Next),
    (Mn::Addsubpd, select_combined::<Double, AddSub>, Flow::Next),
    (Mn::Haddps, select_combined::<Single, HorizontalAdd>, Flow::Next),
    (Mn::Haddpd, select_combined::<Double, HorizontalAdd>, Flow::Next),
    (Mn::Hsubps, select_combined::<Single, HorizontalSub>, Flow::Next),
    (Mn::Hsubpd, select_combined::<Double, HorizontalSub>, Flow::Next),
    (Mn::Dpps, select_dot_product::<Single>, Flow::Next),
    (Mn::Dppd, select_dot_product::<Double>, Flow::Next),
];
