//! The x87's operations on the parts of a value: rounding to whole numbers, scaling, taking apart, remainders.

use super::extended::{
    infinity, note_denormals, pack_full, propagate, sign, whole, zero, Environment, Extended, Kind, Value,
    BIAS, DIVIDE_BY_ZERO,
};

pub fn round_to_whole(environment: &mut Environment, a: &Value) -> Extended {
    if let Some(nan) = propagate(environment, a, a) {
        return nan;
    }
    note_denormals(environment, a, a);
    if a.kind != Kind::Finite || a.exponent >= 63 {
        return a.to_extended();
    }
    match whole(environment, a, environment.rounding) {
        Some(magnitude) if magnitude != 0 => {
            Value::finite(a.negative, 63, magnitude as u64, false).to_extended()
        }
        _ => zero(a.negative),
    }
}

/// FSCALE: `a` times two to the whole part of `b` (SDM vol. 2, table 3-31).
pub fn scale(environment: &mut Environment, a: &Value, b: &Value) -> Extended {
    if let Some(nan) = propagate(environment, a, b) {
        return nan;
    }
    match (a.kind, b.kind) {
        (Kind::Zero, Kind::Infinite) if !b.negative => return environment.invalid(),
        (Kind::Infinite, Kind::Infinite) if b.negative => return environment.invalid(),
        _ => note_denormals(environment, a, b),
    }
    match (a.kind, b.kind) {
        (Kind::Zero, _) => zero(a.negative),
        (Kind::Infinite, _) => infinity(a.negative),
        (_, Kind::Infinite) if b.negative => zero(a.negative),
        (_, Kind::Infinite) => infinity(a.negative),
        _ => {
            let by = match b.exponent {
                _ if b.kind == Kind::Zero => 0,
                // Out of any range.
                17.. => 1 << 17,
                exponent if exponent < 0 => 0,
                exponent => (b.significand >> (63 - exponent)) as i32,
            };
            let by = if b.negative { -by } else { by };
            pack_full(
                environment,
                a.negative,
                a.exponent + by,
                (a.significand as u128) << 64,
            )
        }
    }
}

/// FXTRACT: the exponent as a value, and the significand as one between 1 and 2.
pub fn extract(environment: &mut Environment, a: &Value) -> (Extended, Extended) {
    if let Some(nan) = propagate(environment, a, a) {
        return (nan, nan);
    }
    note_denormals(environment, a, a);
    match a.kind {
        Kind::Infinite => (infinity(false), infinity(a.negative)),
        Kind::Zero => {
            environment.found |= DIVIDE_BY_ZERO;
            (infinity(true), zero(a.negative))
        }
        _ => (
            Value::from_integer(a.exponent as i64).to_extended(),
            (a.significand, sign(a.negative) | BIAS as u16),
        ),
    }
}

/// What FPREM and FPREM1 give.
pub struct Remainder {
    pub value: Extended,
    pub quotient: Quotient,
}

pub enum Quotient {
    /// Its low bits.
    Complete(u64),
    /// There is more to do.
    Partial,
    /// A NaN has none.
    Nothing,
}

/// FPREM truncates the quotient, FPREM1 (`nearest`) rounds it (SDM vol. 2).
pub fn remainder(environment: &mut Environment, a: &Value, b: &Value, nearest: bool) -> Remainder {
    let complete = |value| Remainder {
        value,
        quotient: Quotient::Complete(0),
    };
    let nothing = |value| Remainder {
        value,
        quotient: Quotient::Nothing,
    };
    if let Some(nan) = propagate(environment, a, b) {
        return nothing(nan);
    }
    if a.kind == Kind::Infinite || b.kind == Kind::Zero {
        return nothing(environment.invalid());
    }
    note_denormals(environment, a, b);
    if a.kind == Kind::Zero {
        return complete(zero(a.negative));
    }
    let exact = |environment: &mut Environment, negative, exponent, significand: u128| match significand {
        0 => zero(negative),
        _ => pack_full(environment, negative, exponent, significand),
    };
    let distance = a.exponent - b.exponent;
    if b.kind == Kind::Infinite || distance < -1 {
        return complete(exact(
            environment,
            a.negative,
            a.exponent,
            (a.significand as u128) << 64,
        ));
    }
    let divisor = b.significand as u128;
    if distance >= 64 {
        // A part of the work: the exponent becomes smaller by 32 to 63.
        let by = (distance & 31 | 32) as u32;
        let rest = (0..by).fold(a.significand as u128 % divisor, |rest, _| (rest << 1) % divisor);
        let exponent = a.exponent - by as i32 + 64;
        return Remainder {
            value: exact(environment, a.negative, exponent, rest),
            quotient: Quotient::Partial,
        };
    }
    // In units of half the divisor's last bit, for `a` may be the smaller one.
    let divisor = divisor << 1;
    let (mut rest, mut quotient) = (a.significand as u128, 0u64);
    let mut steps = distance;
    if steps >= 0 {
        rest <<= 1;
        loop {
            quotient = quotient << 1 | (rest >= divisor) as u64;
            rest %= divisor;
            if steps == 0 {
                break;
            }
            rest <<= 1;
            steps -= 1;
        }
    }
    let mut negative = a.negative;
    if nearest && (rest << 1 > divisor || rest << 1 == divisor && quotient & 1 != 0) {
        rest = divisor - rest;
        quotient = quotient.wrapping_add(1);
        negative = !negative;
    }
    if rest == 0 {
        negative = a.negative;
    }
    Remainder {
        value: exact(environment, negative, b.exponent - 1 + 64, rest),
        quotient: Quotient::Complete(quotient),
    }
}
