//! Fused multiply-add: a product and a sum, rounded once (SDM vol. 1, 14.5).

use super::lanes::{lane, lanes, set_lane, set_wide_lane, wide_lane, Ymm};
use super::vector::{read_packed, read_scalar, Encoding, Source};
use crate::cpu::decode::{Form, Group};
use crate::cpu::float::{self, Arithmetic, Double, Environment, Signs, Single};
use crate::cpu::insn::{Handler, Insn};
use crate::cpu::int::Int;
use crate::cpu::{Cpu, Done};
use crate::platform::Bus;

/// Which of the three operands (from 0) is multiplicand, multiplier and addend: the digits of the mnemonic.
trait Order {
    const MULTIPLICAND: usize;
    const MULTIPLIER: usize;
    const ADDEND: usize;
}

macro_rules! orders {
    ($($name:ident $multiplicand:literal $multiplier:literal $addend:literal;)*) => {$(
        struct $name;
        impl Order for $name {
            const MULTIPLICAND: usize = $multiplicand;
            const MULTIPLIER: usize = $multiplier;
            const ADDEND: usize = $addend;
        }
    )*};
}
orders! {
    Order132 0 2 1;
    Order213 1 0 2;
    Order231 1 2 0;
}

/// What is negated in lane `number`.
trait Kind {
    fn signs(number: u32) -> Signs;
}

macro_rules! kinds {
    ($($name:ident |$number:pat_param| $product:expr, $addend:expr;)*) => {$(
        struct $name;
        impl Kind for $name {
            #[inline(always)]
            fn signs($number: u32) -> Signs {
                Signs {
                    negate_product: $product,
                    negate_addend: $addend,
                }
            }
        }
    )*};
}
kinds! {
    MultiplyAdd |_| false, false;
    MultiplySub |_| false, true;
    NegatedMultiplyAdd |_| true, false;
    NegatedMultiplySub |_| true, true;
    MultiplyAddSub |number| false, number & 1 == 0;
    MultiplySubAdd |number| false, number & 1 != 0;
}

fn fused<F: Arithmetic, K: Kind, O: Order>(
    environment: &mut Environment,
    number: u32,
    operands: [u64; 3],
) -> F::Bits {
    F::Bits::from_u64(float::fused::<F>(
        environment,
        operands[O::MULTIPLICAND],
        operands[O::MULTIPLIER],
        operands[O::ADDEND],
        K::signs(number),
    ))
}

fn packed<F: Arithmetic, K: Kind, O: Order, E: Encoding, S: Source>(
    cpu: &mut Cpu,
    bus: &mut Bus,
    insn: &Insn,
) -> Done {
    E::check(cpu)?;
    let third = read_packed::<E, S>(cpu, bus, insn)?;
    let operands = [cpu.vector(insn.r[0]), cpu.vector(insn.r[1]), third];
    let mut environment = Environment::new(cpu.mxcsr);
    let mut result = Ymm::default();
    for number in 0..lanes::<F::Bits>() * E::LANES as u32 {
        let operands = operands.map(|operand| wide_lane::<F::Bits>(operand, number).to_u64());
        let value = fused::<F, K, O>(&mut environment, number, operands);
        set_wide_lane(&mut result, number, value);
    }
    cpu.float_exceptions(&environment)?;
    E::write(cpu, insn.r[0], result);
    Ok(())
}

/// What is above the lowest lane stays as it is in the destination.
fn scalar<F: Arithmetic, K: Kind, O: Order, E: Encoding, S: Source>(
    cpu: &mut Cpu,
    bus: &mut Bus,
    insn: &Insn,
) -> Done {
    E::check(cpu)?;
    let third = read_scalar::<F, E, S>(cpu, bus, insn)?;
    let mut result = cpu.vector(insn.r[0]);
    let low = |value: Ymm| lane::<F::Bits>(value[0], 0).to_u64();
    let operands = [low(result), low(cpu.vector(insn.r[1])), third];
    let mut environment = Environment::new(cpu.mxcsr);
    let value = fused::<F, K, O>(&mut environment, 0, operands);
    cpu.float_exceptions(&environment)?;
    set_lane(&mut result[0], 0, value);
    E::write(cpu, insn.r[0], result);
    Ok(())
}

fn select_packed<F: Arithmetic, K: Kind, O: Order>(form: &Form) -> Option<Handler> {
    by_encoding!(form, packed, F, K, O)
}

fn select_scalar<F: Arithmetic, K: Kind, O: Order>(form: &Form) -> Option<Handler> {
    by_narrow_encoding!(form, scalar, F, K, O)
}

pub static ROWS: Group = vector_rows! {
    Vfmadd132ps => select_packed::<Single, MultiplyAdd, Order132>;
    Vfmadd132pd => select_packed::<Double, MultiplyAdd, Order132>;
    Vfmadd132ss => select_scalar::<Single, MultiplyAdd, Order132>;
    Vfmadd132sd => select_scalar::<Double, MultiplyAdd, Order132>;
    Vfmadd213ps => select_packed::<Single, MultiplyAdd, Order213>;
    Vfmadd213pd => select_packed::<Double, MultiplyAdd, Order213>;
    Vfmadd213ss => select_scalar::<Single, MultiplyAdd, Order213>;
    Vfmadd213sd => select_scalar::<Double, MultiplyAdd, Order213>;
    Vfmadd231ps => select_packed::<Single, MultiplyAdd, Order231>;
    Vfmadd231pd => select_packed::<Double, MultiplyAdd, Order231>;
    Vfmadd231ss => select_scalar::<Single, MultiplyAdd, Order231>;
    Vfmadd231sd => select_scalar::<Double, MultiplyAdd, Order231>;
    Vfmsub132ps => select_packed::<Single, MultiplySub, Order132>;
    Vfmsub132pd => select_packed::<Double, MultiplySub, Order132>;
    Vfmsub132ss => select_scalar::<Single, MultiplySub, Order132>;
    Vfmsub132sd => select_scalar::<Double, MultiplySub, Order132>;
    Vfmsub213ps => select_packed::<Single, MultiplySub, Order213>;
    Vfmsub213pd => select_packed::<Double, MultiplySub, Order213>;
    Vfmsub213ss => select_scalar::<Single, MultiplySub, Order213>;
    Vfmsub213sd => select_scalar::<Double, MultiplySub, Order213>;
    Vfmsub231ps => select_packed::<Single, MultiplySub, Order231>;
    Vfmsub231pd => select_packed::<Double, MultiplySub, Order231>;
    Vfmsub231ss => select_scalar::<Single, MultiplySub, Order231>;
    Vfmsub231sd => select_scalar::<Double, MultiplySub, Order231>;
    Vfnmadd132ps => select_packed::<Single, NegatedMultiplyAdd, Order132>;
    Vfnmadd132pd => select_packed::<Double, NegatedMultiplyAdd, Order132>;
    Vfnmadd132ss => select_scalar::<Single, NegatedMultiplyAdd, Order132>;
    Vfnmadd132sd => select_scalar::<Double, NegatedMultiplyAdd, Order132>;
    Vfnmadd213ps => select_packed::<Single, NegatedMultiplyAdd, Order213>;
    Vfnmadd213pd => select_packed::<Double, NegatedMultiplyAdd, Order213>;
    Vfnmadd213ss => select_scalar::<Single, NegatedMultiplyAdd, Order213>;
    Vfnmadd213sd => select_scalar::<Double, NegatedMultiplyAdd, Order213>;
    Vfnmadd231ps => select_packed::<Single, NegatedMultiplyAdd, Order231>;
    Vfnmadd231pd => select_packed::<Double, NegatedMultiplyAdd, Order231>;
    Vfnmadd231ss => select_scalar::<Single, NegatedMultiplyAdd, Order231>;
    Vfnmadd231sd => select_scalar::<Double, NegatedMultiplyAdd, Order231>;
    Vfnmsub132ps => select_packed::<Single, NegatedMultiplySub, Order132>;
    Vfnmsub132pd => select_packed::<Double, NegatedMultiplySub, Order132>;
    Vfnmsub132ss => select_scalar::<Single, NegatedMultiplySub, Order132>;
    Vfnmsub132sd => select_scalar::<Double, NegatedMultiplySub, Order132>;
    Vfnmsub213ps => select_packed::<Single, NegatedMultiplySub, Order213>;
    Vfnmsub213pd => select_packed::<Double, NegatedMultiplySub, Order213>;
    Vfnmsub213ss => select_scalar::<Single, NegatedMultiplySub, Order213>;
    Vfnmsub213sd => select_scalar::<Double, NegatedMultiplySub, Order213>;
    Vfnmsub231ps => select_packed::<Single, NegatedMultiplySub, Order231>;
    Vfnmsub231pd => select_packed::<Double, NegatedMultiplySub, Order231>;
    Vfnmsub231ss => select_scalar::<Single, NegatedMultiplySub, Order231>;
    Vfnmsub231sd => select_scalar::<Double, NegatedMultiplySub, Order231>;
    Vfmaddsub132ps => select_packed::<Single, MultiplyAddSub, Order132>;
    Vfmaddsub132pd => select_packed::<Double, MultiplyAddSub, Order132>;
    Vfmaddsub213ps => select_packed::<Single, MultiplyAddSub, Order213>;
    Vfmaddsub213pd => select_packed::<Double, MultiplyAddSub, Order213>;
    Vfmaddsub231ps => select_packed::<Single, MultiplyAddSub, Order231>;
    Vfmaddsub231pd => select_packed::<Double, MultiplyAddSub, Order231>;
    Vfmsubadd132ps => select_packed::<Single, MultiplySubAdd, Order132>;
    Vfmsubadd132pd => select_packed::<Double, MultiplySubAdd, Order132>;
    Vfmsubadd213ps => select_packed::<Single, MultiplySubAdd, Order213>;
    Vfmsubadd213pd => select_packed::<Double, MultiplySubAdd, Order213>;
    Vfmsubadd231ps => select_packed::<Single, MultiplySubAdd, Order231>;
    Vfmsubadd231pd => select_packed::<Double, MultiplySubAdd, Order231>;
};
