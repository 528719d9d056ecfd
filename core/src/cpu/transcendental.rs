//! The transcendental instructions of the x87, computed in 128 bits and rounded once. Processors are within one unit in
//! the last place of the exact result (SDM vol. 1, 8.3.10), which this is as well.

use super::extended::{self, Environment, Extended, Kind, Value, DIVIDE_BY_ZERO, INEXACT};

/// A number that is not 0: bit 127 of `significand`, which is set, counts two to the `exponent`.
#[derive(Clone, Copy)]
struct Real {
    negative: bool,
    exponent: i32,
    significand: u128,
}

const fn constant(exponent: i32, significand: u128) -> Real {
    Real {
        negative: false,
        exponent,
        significand,
    }
}

const ONE: Real = constant(0, 1 << 127);
const PI: Real = constant(1, 0xc90f_daa2_2168_c234_c4c6_628b_80dc_1cd1);
const LN_2: Real = constant(-1, 0xb172_17f7_d1cf_79ab_c9e3_b398_03f2_f6af);
const LOG2_E: Real = constant(0, 0xb8aa_3b29_5c17_f0bb_be87_fed0_691d_3e89);
/// Quarters up to 1, and their arctangents.
const QUARTERS: [(Real, Real); 4] = [
    (
        constant(-2, 1 << 127),
        constant(-3, 0xfadb_afc9_6406_eb15_6dc7_9ef5_f7a2_17e6),
    ),
    (
        constant(-1, 1 << 127),
        constant(-2, 0xed63_382b_0dda_7b45_6fe4_45ec_bc3a_8d03),
    ),
    (
        constant(-1, 3 << 126),
        constant(-1, 0xa4bc_7d19_34f7_0924_19a8_7f2a_457d_ac9f),
    ),
    (ONE, constant(-1, 0xc90f_daa2_2168_c234_c4c6_628b_80dc_1cd1)),
];

/// The upper half of a product of 256 bits.
fn multiply_high(a: u128, b: u128) -> u128 {
    const LOW: u128 = u64::MAX as u128;
    let (a_high, a_low, b_high, b_low) = (a >> 64, a & LOW, b >> 64, b & LOW);
    let (cross, other) = (a_high * b_low, a_low * b_high);
    let carried = (a_low * b_low >> 64) + (cross & LOW) + (other & LOW);
    a_high * b_high + (cross >> 64) + (other >> 64) + (carried >> 64)
}

impl Real {
    fn of(value: &Value) -> Real {
        Real {
            negative: value.negative,
            exponent: value.exponent,
            significand: (value.significand as u128) << 64,
        }
    }

    fn whole(number: i32) -> Real {
        let magnitude = number.unsigned_abs() as u128;
        let up = magnitude.leading_zeros();
        Real {
            negative: number < 0,
            exponent: 127 - up as i32,
            significand: magnitude << up,
        }
    }

    fn normal(negative: bool, exponent: i32, significand: u128) -> Option<Real> {
        let up = significand.leading_zeros();
        (significand != 0).then(|| Real {
            negative,
            exponent: exponent - up as i32,
            significand: significand << up,
        })
    }

    fn negated(self) -> Real {
        Real {
            negative: !self.negative,
            ..self
        }
    }

    fn magnitude(self) -> Real {
        Real {
            negative: false,
            ..self
        }
    }

    /// Times two to the `by`.
    fn scaled(self, by: i32) -> Real {
        Real {
            exponent: self.exponent + by,
            ..self
        }
    }

    fn multiply(self, other: Real) -> Real {
        let product = multiply_high(self.significand, other.significand);
        let up = product.leading_zeros();
        Real {
            negative: self.negative != other.negative,
            exponent: self.exponent + other.exponent + 1 - up as i32,
            significand: product << up,
        }
    }

    /// `None`: the sum is 0.
    fn add(self, other: Real) -> Option<Real> {
        let (large, small) = if (self.exponent, self.significand) >= (other.exponent, other.significand) {
            (self, other)
        } else {
            (other, self)
        };
        let distance = (large.exponent - small.exponent) as u32;
        let (x, y) = (
            large.significand >> 1,
            (small.significand >> 1).checked_shr(distance).unwrap_or(0),
        );
        let sum = if large.negative == small.negative {
            x + y
        } else {
            x - y
        };
        Real::normal(large.negative, large.exponent + 1, sum)
    }

    /// A sum that cannot be 0.
    fn plus(self, other: Real) -> Real {
        self.add(other).unwrap_or(self)
    }

    fn divide(self, other: Real) -> Real {
        let negative = self.negative != other.negative;
        let less = self.significand < other.significand;
        // Bit by bit; the rest stays below the divisor, and what is shifted out of it counts.
        let (mut quotient, mut rest) = (!less as u128, self.significand);
        if !less {
            rest -= other.significand;
        }
        for _ in 0..127 + less as u32 {
            let out = rest >> 127 != 0;
            rest <<= 1;
            let fits = out || rest >= other.significand;
            if fits {
                rest = rest.wrapping_sub(other.significand);
            }
            quotient = quotient << 1 | fits as u128;
        }
        Real {
            negative,
            exponent: self.exponent - other.exponent - less as i32,
            significand: quotient,
        }
    }

    /// Divided by a small number.
    fn over(self, by: u32) -> Real {
        let exponent = self.exponent;
        let quotient = self.significand / by as u128;
        let up = quotient.leading_zeros();
        // The bits that come up are the remainder's.
        let rest = ((self.significand % by as u128) << up) / by as u128;
        Real {
            exponent: exponent - up as i32,
            significand: quotient << up | rest,
            ..self
        }
    }

    /// The result of an instruction: never exact.
    fn round(self, environment: &mut Environment) -> Extended {
        extended::pack_full(environment, self.negative, self.exponent, self.significand | 1)
    }
}

/// 1 + x/d0 · (1 + x/d1 · (…)), the divisors given last first.
fn series(x: Real, divisors: impl Iterator<Item = u32>) -> Real {
    divisors.fold(ONE, |sum, divisor| ONE.plus(x.multiply(sum).over(divisor)))
}

/// Terms that leave an error below two to the -120 for arguments up to 1.
const TERMS: u32 = 34;

/// sin x, 0 < x <= π/4: x · (1 - x²/(2·3) · (1 - x²/(4·5) · (…))).
fn sine_of(x: Real) -> Real {
    let square = x.multiply(x).negated();
    x.multiply(series(square, (1..TERMS / 2).rev().map(|n| 2 * n * (2 * n + 1))))
}

fn cosine_of(x: Real) -> Real {
    let square = x.multiply(x).negated();
    series(square, (1..TERMS / 2).rev().map(|n| (2 * n - 1) * 2 * n))
}

/// The sum of x^(2n) / (2n + 1), with alternating signs where `square` is negative.
fn odd_series(square: Real, terms: i32) -> Real {
    let reciprocal = |n: i32| ONE.over(2 * n as u32 + 1);
    (0..terms).rev().fold(reciprocal(terms), |sum, n| {
        reciprocal(n).plus(square.multiply(sum))
    })
}

/// arctan of a positive number up to 1.
fn arctangent_of(x: Real) -> Real {
    let near = |c: Real| {
        let difference = x.add(c.negated())?;
        Some(difference.divide(ONE.plus(x.multiply(c))))
    };
    let of_small = |u: Real| u.multiply(odd_series(u.multiply(u).negated(), 22));
    // To the nearest quarter.
    let eighths = x.significand.checked_shr((124 - x.exponent) as u32).unwrap_or(0);
    match eighths.div_ceil(2) {
        0 => of_small(x),
        quarter => {
            let (c, arctangent) = QUARTERS[(quarter as usize - 1).min(3)];
            match near(c) {
                Some(u) => arctangent.plus(of_small(u)),
                None => arctangent,
            }
        }
    }
}

/// The base-2 logarithm of the positive number (1 + x)·2^k or, where `k` is 0, of 1 + x; `None`: it is 0.
fn logarithm_of_one_plus(x: Option<Real>, k: i32) -> Option<Real> {
    let fraction = x.map(|x| {
        let z = x.divide(Real::whole(2).plus(x));
        z.multiply(odd_series(z.multiply(z), 26))
            .multiply(LOG2_E)
            .scaled(1)
    });
    match (fraction, k) {
        (None, 0) => None,
        (None, k) => Some(Real::whole(k)),
        (fraction, 0) => fraction,
        (Some(fraction), k) => Real::whole(k).add(fraction),
    }
}

/// The base-2 logarithm of a positive number.
fn logarithm_of(value: Real) -> Option<Real> {
    // A significand between the square roots of a half and of two.
    const ROOT: u128 = 0xb504_f333_f9de_6484_597d_89b3_754a_be9f;
    let up = value.significand > ROOT;
    let k = value.exponent + up as i32;
    let m = Real {
        exponent: -(up as i32),
        ..value
    };
    logarithm_of_one_plus(m.add(ONE.negated()), k)
}

/// What a trigonometric instruction makes of its operand: an argument from 0 to π/4 and how to use it.
struct Reduced {
    /// `None`: 0.
    argument: Option<Real>,
    /// Which quarter of the circle.
    quadrant: u32,
    /// The argument is what is missing to the next quarter.
    mirrored: bool,
}

/// Reduces a magnitude below 2^63 by quarters of the circle, with the 66 bits of π that processors have (SDM vol. 1,
/// 8.3.8).
fn reduce(x: &Value) -> Reduced {
    /// π/2 in units of two to the -67.
    const QUARTER: u128 = 0xc_90fd_aa22_168c_234c;
    let unit = -67;
    if x.exponent < -4 {
        return Reduced {
            argument: Some(Real::of(x).magnitude()),
            quadrant: 0,
            mirrored: false,
        };
    }
    let mut rest = x.significand as u128;
    let mut quadrant = 0;
    for _ in 0..x.exponent + 4 {
        rest <<= 1;
        quadrant <<= 1;
        if rest >= QUARTER {
            rest -= QUARTER;
            quadrant |= 1;
        }
    }
    let mirrored = rest << 1 > QUARTER;
    if mirrored {
        rest = QUARTER - rest;
    }
    Reduced {
        argument: Real::normal(false, unit + 127, rest),
        quadrant: quadrant & 3,
        mirrored,
    }
}

impl Reduced {
    fn sine(&self) -> Option<Real> {
        let odd = (self.quadrant & 1 != 0) != self.mirrored;
        let value = match (odd, self.argument) {
            (false, None) => return None,
            (false, Some(x)) => sine_of(x),
            (true, None) => ONE,
            (true, Some(x)) => cosine_of(x),
        };
        Some(Real {
            negative: self.quadrant & 2 != 0,
            ..value
        })
    }

    fn cosine(&self) -> Option<Real> {
        let further = Reduced {
            quadrant: (self.quadrant + 1) & 3,
            ..*self
        };
        further.sine()
    }
}

/// What a trigonometric instruction gives: `None` for an operand that it cannot reduce, which stays as it is.
type Trigonometric = Option<Extended>;

/// Deals with operands that are not finite or too large; else computes from the reduced argument.
fn trigonometric(
    environment: &mut Environment,
    x: &Value,
    of_zero: Extended,
    of_reduced: impl FnOnce(&Reduced) -> Option<Real>,
) -> Trigonometric {
    if let Some(nan) = extended::propagate(environment, x, x) {
        return Some(nan);
    }
    match x.kind {
        Kind::Infinite => return Some(environment.invalid()),
        Kind::Zero => return Some(of_zero),
        _ if x.exponent >= 63 => return None,
        _ => extended::note_denormals(environment, x, x),
    }
    Some(match of_reduced(&reduce(x)) {
        Some(result) => result.round(environment),
        None => extended::zero(x.negative),
    })
}

pub fn sine(environment: &mut Environment, x: &Value) -> Trigonometric {
    trigonometric(environment, x, extended::zero(x.negative), |reduced| {
        let sine = reduced.sine()?;
        Some(if x.negative { sine.negated() } else { sine })
    })
}

pub fn cosine(environment: &mut Environment, x: &Value) -> Trigonometric {
    trigonometric(environment, x, extended::one(false), Reduced::cosine)
}

pub fn tangent(environment: &mut Environment, x: &Value) -> Trigonometric {
    trigonometric(environment, x, extended::zero(x.negative), |reduced| {
        let tangent = reduced.sine()?.divide(reduced.cosine()?);
        Some(if x.negative { tangent.negated() } else { tangent })
    })
}

/// FPATAN: the angle of the point (`x`, `y`) (SDM vol. 2, table 3-28).
pub fn arctangent(environment: &mut Environment, y: &Value, x: &Value) -> Extended {
    if let Some(nan) = extended::propagate(environment, y, x) {
        return nan;
    }
    extended::note_denormals(environment, y, x);
    let angle = match (y.kind, x.kind) {
        (Kind::Zero, _) if !x.negative => None,
        (Kind::Zero, _) => Some(PI),
        (Kind::Infinite, Kind::Infinite) if x.negative => Some(PI.multiply(constant(-1, 3 << 126))),
        (Kind::Infinite, Kind::Infinite) => Some(PI.scaled(-2)),
        (Kind::Infinite, _) | (_, Kind::Zero) => Some(PI.scaled(-1)),
        (_, Kind::Infinite) if x.negative => Some(PI),
        (_, Kind::Infinite) => None,
        _ => Some(finite_angle(Real::of(y).magnitude(), Real::of(x))),
    };
    match angle {
        None => extended::zero(y.negative),
        Some(angle) => Real {
            negative: y.negative,
            ..angle
        }
        .round(environment),
    }
}

fn finite_angle(y: Real, x: Real) -> Real {
    let magnitude = x.magnitude();
    let steep = (y.exponent, y.significand) > (magnitude.exponent, magnitude.significand);
    let acute = if steep {
        PI.scaled(-1).plus(arctangent_of(magnitude.divide(y)).negated())
    } else {
        arctangent_of(y.divide(magnitude))
    };
    if x.negative {
        PI.plus(acute.negated())
    } else {
        acute
    }
}

/// F2XM1: defined from -1 to 1; what lies outside stays as it is.
pub fn power_less_one(environment: &mut Environment, x: &Value) -> Extended {
    if let Some(nan) = extended::propagate(environment, x, x) {
        return nan;
    }
    extended::note_denormals(environment, x, x);
    match x.kind {
        Kind::Zero => return extended::zero(x.negative),
        Kind::Infinite if x.negative => return extended::one(true),
        Kind::Infinite => return extended::infinity(false),
        _ if x.exponent >= 0 && x.negative && x.exponent == 0 && x.significand << 1 == 0 => {
            return Value::from_double((-0.5f64).to_bits()).to_extended();
        }
        _ if x.exponent >= 0 => return x.to_extended(),
        _ => {}
    }
    // y · (1 + y/2 · (1 + y/3 · (…))) for y = x · ln 2.
    let y = Real::of(x).multiply(LN_2);
    y.multiply(series(y, (2..TERMS).rev())).round(environment)
}

/// The product of `y` and a logarithm that is not 0.
fn product(environment: &mut Environment, y: &Value, logarithm: Real) -> Extended {
    let negative = y.negative != logarithm.negative;
    match y.kind {
        Kind::Zero => extended::zero(negative),
        Kind::Infinite => extended::infinity(negative),
        _ => Real::of(y).multiply(logarithm).round(environment),
    }
}

/// FYL2X: `y` times the base-2 logarithm of `x` (SDM vol. 2, table 3-49).
pub fn y_log_x(environment: &mut Environment, y: &Value, x: &Value) -> Extended {
    if let Some(nan) = extended::propagate(environment, y, x) {
        return nan;
    }
    match (y.kind, x.kind) {
        (Kind::Zero, Kind::Zero | Kind::Infinite) => return environment.invalid(),
        (Kind::Infinite, Kind::Zero) => return extended::infinity(!y.negative),
        (_, Kind::Zero) => {
            environment.found |= DIVIDE_BY_ZERO;
            return extended::infinity(!y.negative);
        }
        _ if x.negative => return environment.invalid(),
        (_, Kind::Infinite) => {
            extended::note_denormals(environment, y, x);
            return extended::infinity(y.negative);
        }
        _ => {}
    }
    let logarithm = logarithm_of(Real::of(x));
    match logarithm {
        None if y.kind == Kind::Infinite => environment.invalid(),
        None => {
            extended::note_denormals(environment, y, x);
            extended::zero(y.negative)
        }
        // A power of two: the product may be exact, but is never taken for it.
        Some(logarithm) if x.significand << 1 == 0 && y.kind == Kind::Finite => {
            extended::note_denormals(environment, y, x);
            let exact = Real::of(y).multiply(logarithm);
            environment.found |= INEXACT;
            extended::pack_full(environment, exact.negative, exact.exponent, exact.significand)
        }
        Some(logarithm) => {
            extended::note_denormals(environment, y, x);
            product(environment, y, logarithm)
        }
    }
}

/// FYL2XP1: `y` times the base-2 logarithm of `x + 1` (SDM vol. 2, table 3-50); defined near 0.
pub fn y_log_x_plus_one(environment: &mut Environment, y: &Value, x: &Value) -> Extended {
    if let Some(nan) = extended::propagate(environment, y, x) {
        return nan;
    }
    match (y.kind, x.kind) {
        (Kind::Infinite, Kind::Zero) | (Kind::Zero, Kind::Infinite) => return environment.invalid(),
        (_, Kind::Infinite) if x.negative => return environment.invalid(),
        _ => extended::note_denormals(environment, y, x),
    }
    let negative = y.negative != x.negative;
    match x.kind {
        Kind::Zero => extended::zero(negative),
        Kind::Infinite => extended::infinity(negative),
        // Minus one and below has no logarithm.
        _ if x.negative && x.exponent >= 0 => environment.invalid(),
        _ if x.exponent >= -1 => {
            let sum = Real::of(x).plus(ONE);
            logarithm_of(sum).map_or(extended::zero(negative), |logarithm| {
                product(environment, y, logarithm)
            })
        }
        _ => logarithm_of_one_plus(Some(Real::of(x)), 0).map_or(extended::zero(negative), |logarithm| {
            product(environment, y, logarithm)
        }),
    }
}
