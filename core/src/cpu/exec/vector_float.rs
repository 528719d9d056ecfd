//! Arithmetic and comparison of singles and doubles, packed and scalar.

use super::lanes::{lane, lanes, set_lane, set_wide_lane, wide_lane, Ymm};
use super::vector::{read_packed, read_scalar, Encoding, Source};
use crate::cpu::decode::{Form, Group};
use crate::cpu::float::{
    self, Arithmetic, Double, Environment, Format, Operation, Relation, Rounding, Single,
};
use crate::cpu::insn::{Handler, Insn};
use crate::cpu::int::Int;
use crate::cpu::{Cpu, Done, Stop};
use crate::platform::Bus;

/// What becomes of one lane `a` of the destination and `b` of the source.
trait Compute {
    fn compute<F: Arithmetic>(environment: &mut Environment, a: u64, b: u64, imm: u8) -> u64;
}

macro_rules! float {
    ($($name:ident |$environment:ident, $a:pat_param, $b:ident, $imm:pat_param| $result:expr;)*) => {$(
        struct $name;
        impl Compute for $name {
            #[inline(always)]
            fn compute<F: Arithmetic>($environment: &mut Environment, $a: u64, $b: u64, $imm: u8) -> u64 {
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
    Cmp |environment, a, b, imm| if compare::<F>(environment, a, b, imm & 7) { !0 } else { 0 };
    VexCmp |environment, a, b, imm| if compare::<F>(environment, a, b, imm & 31) { !0 } else { 0 };
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

/// The predicates of VCMPPS (SDM vol. 2, CMPPS, table "Comparison predicate for VCMPPS"), of which CMPPS has the first
/// eight: for which relations one holds is told by its lower four bits, and whether quiet NaNs are invalid turns with
/// bit 4.
fn compare<F: Arithmetic>(environment: &mut Environment, a: u64, b: u64, predicate: u8) -> bool {
    const LESS: u8 = 1 << Relation::Less as u8;
    const EQUAL: u8 = 1 << Relation::Equal as u8;
    const GREATER: u8 = 1 << Relation::Greater as u8;
    const UNORDERED: u8 = 1 << Relation::Unordered as u8;
    const ALL: u8 = LESS | EQUAL | GREATER | UNORDERED;
    const HOLDS: [u8; 16] = [
        EQUAL,
        LESS,
        LESS | EQUAL,
        UNORDERED,
        ALL & !EQUAL,
        ALL & !LESS,
        ALL & !(LESS | EQUAL),
        ALL & !UNORDERED,
        EQUAL | UNORDERED,
        ALL & !(GREATER | EQUAL),
        ALL & !GREATER,
        0,
        LESS | GREATER,
        GREATER | EQUAL,
        GREATER,
        ALL,
    ];
    let signaling = matches!(predicate & 3, 1 | 2) != (predicate & 16 != 0);
    let relation = float::compare::<F>(environment, a, b, signaling);
    HOLDS[predicate as usize & 15] >> relation as u8 & 1 != 0
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
fn lanes_of<F: Arithmetic>() -> u32 {
    lanes::<F::Bits>()
}

/// Compiled once, not for each encoding and place of the source.
#[inline(never)]
fn compute<F: Arithmetic, O: Compute>(environment: &mut Environment, a: u64, b: u64, imm: u8) -> u64 {
    O::compute::<F>(environment, a, b, imm)
}

fn packed<F: Arithmetic, O: Compute, E: Encoding, S: Source>(
    cpu: &mut Cpu,
    bus: &mut Bus,
    insn: &Insn,
) -> Done {
    E::check(cpu)?;
    let b = read_packed::<E, S>(cpu, bus, insn)?;
    let a = cpu.vector(insn.r[E::FIRST]);
    let mut environment = Environment::new(cpu.mxcsr);
    let mut result = Ymm::default();
    for number in 0..lanes_of::<F>() * E::LANES as u32 {
        let (a, b) = (wide_lane::<F::Bits>(a, number), wide_lane::<F::Bits>(b, number));
        let value = compute::<F, O>(&mut environment, a.to_u64(), b.to_u64(), insn.imm as u8);
        set_wide_lane(&mut result, number, F::Bits::from_u64(value));
    }
    cpu.float_exceptions(&environment)?;
    E::write(cpu, insn.r[0], result);
    Ok(())
}

/// What is above the lowest lane comes from the first source.
fn scalar<F: Arithmetic, O: Compute, E: Encoding, S: Source>(
    cpu: &mut Cpu,
    bus: &mut Bus,
    insn: &Insn,
) -> Done {
    E::check(cpu)?;
    let b = read_scalar::<F, E, S>(cpu, bus, insn)?;
    let mut result = cpu.vector(insn.r[E::FIRST]);
    let a = lane::<F::Bits>(result[0], 0).to_u64();
    let mut environment = Environment::new(cpu.mxcsr);
    let value = compute::<F, O>(&mut environment, a, b, insn.imm as u8);
    cpu.float_exceptions(&environment)?;
    set_lane(&mut result[0], 0, F::Bits::from_u64(value));
    E::write(cpu, insn.r[0], result);
    Ok(())
}

fn select_packed<F: Arithmetic, O: Compute>(form: &Form) -> Option<Handler> {
    by_encoding!(form, packed, F, O)
}

fn select_scalar<F: Arithmetic, O: Compute>(form: &Form) -> Option<Handler> {
    by_narrow_encoding!(form, scalar, F, O)
}

/// COMISS and UCOMISS: the relation in ZF, PF and CF.
fn compare_to_flags<F: Arithmetic, O: Signaling, E: Encoding, S: Source>(
    cpu: &mut Cpu,
    bus: &mut Bus,
    insn: &Insn,
) -> Done {
    E::check(cpu)?;
    let b = read_scalar::<F, E, S>(cpu, bus, insn)?;
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

fn select_compare<F: Arithmetic, O: Signaling>(form: &Form) -> Option<Handler> {
    by_narrow_encoding!(form, compare_to_flags, F, O)
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

fn combined<F: Arithmetic, O: Combine, E: Encoding, S: Source>(
    cpu: &mut Cpu,
    bus: &mut Bus,
    insn: &Insn,
) -> Done {
    E::check(cpu)?;
    let b = read_packed::<E, S>(cpu, bus, insn)?;
    let a = cpu.vector(insn.r[E::FIRST]);
    let mut environment = Environment::new(cpu.mxcsr);
    let mut result = Ymm::default();
    for half in 0..E::LANES {
        let value = |(source, number): (bool, u32)| {
            lane::<F::Bits>(if source { b[half] } else { a[half] }, number).to_u64()
        };
        for number in 0..lanes_of::<F>() {
            let (operation, x, y) = O::of(number, lanes_of::<F>());
            let sum = float::arithmetic::<F>(&mut environment, operation, value(x), value(y));
            set_lane(&mut result[half], number, F::Bits::from_u64(sum));
        }
    }
    cpu.float_exceptions(&environment)?;
    E::write(cpu, insn.r[0], result);
    Ok(())
}

fn select_combined<F: Arithmetic, O: Combine>(form: &Form) -> Option<Handler> {
    by_encoding!(form, combined, F, O)
}

/// DPPS and DPPD: the products that `imm`'s upper half chooses, summed pair by pair, where its lower half says. Each
/// step rounds and may raise exceptions of its own.
fn dot_product<F: Arithmetic, E: Encoding, S: Source>(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn) -> Done {
    E::check(cpu)?;
    let b = read_packed::<E, S>(cpu, bus, insn)?;
    let (a, imm, lanes) = (cpu.vector(insn.r[E::FIRST]), insn.imm as u8, lanes_of::<F>());
    let step = |cpu: &mut Cpu, operation, values: &[(u64, u64)]| -> Result<Vec<u64>, Stop> {
        let mut environment = Environment::new(cpu.mxcsr);
        let results = values
            .iter()
            .map(|(x, y)| float::arithmetic::<F>(&mut environment, operation, *x, *y))
            .collect();
        cpu.float_exceptions(&environment)?;
        Ok(results)
    };
    let operand = |value: Ymm, number| wide_lane::<F::Bits>(value, number).to_u64();
    let all = 0..lanes * E::LANES as u32;
    let chosen: Vec<u32> = all
        .clone()
        .filter(|number| imm >> (number % lanes + 4) & 1 != 0)
        .collect();
    let factors: Vec<_> = chosen
        .iter()
        .map(|number| (operand(a, *number), operand(b, *number)))
        .collect();
    let mut terms = vec![0; all.len()];
    for (number, product) in chosen.iter().zip(step(cpu, Operation::Mul, &factors)?) {
        terms[*number as usize] = product;
    }
    while terms.len() > E::LANES {
        let pairs: Vec<_> = terms.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect();
        terms = step(cpu, Operation::Add, &pairs)?;
    }
    let mut result = Ymm::default();
    for number in all.filter(|number| imm >> (number % lanes) & 1 != 0) {
        let sum = terms[(number / lanes) as usize];
        set_wide_lane(&mut result, number, F::Bits::from_u64(sum));
    }
    E::write(cpu, insn.r[0], result);
    Ok(())
}

fn select_dot_product<F: Arithmetic>(form: &Form) -> Option<Handler> {
    by_encoding!(form, dot_product, F)
}

pub static ROWS: Group = vector_rows! {
    Addps Vaddps => select_packed::<Single, Add>;
    Addpd Vaddpd => select_packed::<Double, Add>;
    Addss Vaddss => select_scalar::<Single, Add>;
    Addsd Vaddsd => select_scalar::<Double, Add>;
    Subps Vsubps => select_packed::<Single, Sub>;
    Subpd Vsubpd => select_packed::<Double, Sub>;
    Subss Vsubss => select_scalar::<Single, Sub>;
    Subsd Vsubsd => select_scalar::<Double, Sub>;
    Mulps Vmulps => select_packed::<Single, Mul>;
    Mulpd Vmulpd => select_packed::<Double, Mul>;
    Mulss Vmulss => select_scalar::<Single, Mul>;
    Mulsd Vmulsd => select_scalar::<Double, Mul>;
    Divps Vdivps => select_packed::<Single, Div>;
    Divpd Vdivpd => select_packed::<Double, Div>;
    Divss Vdivss => select_scalar::<Single, Div>;
    Divsd Vdivsd => select_scalar::<Double, Div>;
    Minps Vminps => select_packed::<Single, Min>;
    Minpd Vminpd => select_packed::<Double, Min>;
    Minss Vminss => select_scalar::<Single, Min>;
    Minsd Vminsd => select_scalar::<Double, Min>;
    Maxps Vmaxps => select_packed::<Single, Max>;
    Maxpd Vmaxpd => select_packed::<Double, Max>;
    Maxss Vmaxss => select_scalar::<Single, Max>;
    Maxsd Vmaxsd => select_scalar::<Double, Max>;
    Sqrtps Vsqrtps => select_packed::<Single, Sqrt>;
    Sqrtpd Vsqrtpd => select_packed::<Double, Sqrt>;
    Sqrtss Vsqrtss => select_scalar::<Single, Sqrt>;
    Sqrtsd Vsqrtsd => select_scalar::<Double, Sqrt>;
    Rcpps Vrcpps => select_packed::<Single, Rcp>;
    Rcpss Vrcpss => select_scalar::<Single, Rcp>;
    Rsqrtps Vrsqrtps => select_packed::<Single, Rsqrt>;
    Rsqrtss Vrsqrtss => select_scalar::<Single, Rsqrt>;
    Cmpps => select_packed::<Single, Cmp>;
    Vcmpps => select_packed::<Single, VexCmp>;
    Cmppd => select_packed::<Double, Cmp>;
    Vcmppd => select_packed::<Double, VexCmp>;
    Cmpss => select_scalar::<Single, Cmp>;
    Vcmpss => select_scalar::<Single, VexCmp>;
    Cmpsd => select_scalar::<Double, Cmp>;
    Vcmpsd => select_scalar::<Double, VexCmp>;
    Comiss Vcomiss => select_compare::<Single, Ordered>;
    Comisd Vcomisd => select_compare::<Double, Ordered>;
    Ucomiss Vucomiss => select_compare::<Single, Unordered>;
    Ucomisd Vucomisd => select_compare::<Double, Unordered>;
    Roundps Vroundps => select_packed::<Single, Round>;
    Roundpd Vroundpd => select_packed::<Double, Round>;
    Roundss Vroundss => select_scalar::<Single, Round>;
    Roundsd Vroundsd => select_scalar::<Double, Round>;
    Addsubps Vaddsubps => select_combined::<Single, AddSub>;
    Addsubpd Vaddsubpd => select_combined::<Double, AddSub>;
    Haddps Vhaddps => select_combined::<Single, HorizontalAdd>;
    Haddpd Vhaddpd => select_combined::<Double, HorizontalAdd>;
    Hsubps Vhsubps => select_combined::<Single, HorizontalSub>;
    Hsubpd Vhsubpd => select_combined::<Double, HorizontalSub>;
    Dpps Vdpps => select_dot_product::<Single>;
    Dppd Vdppd => select_dot_product::<Double>;
};
