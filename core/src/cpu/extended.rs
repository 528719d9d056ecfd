//! The x87's arithmetic: 80-bit values, any rounding and precision, all exceptions (SDM vol. 1, chapters 4.8, 4.9 and
//! 8.5). Values are exact in 128 bits, or have a mark for what was lost below, until they are rounded once.

use super::float::{round_off, Rounding};

/// An 80-bit value as registers and memory hold it: significand, then sign and exponent.
pub type Extended = (u64, u16);

/// The exception flags of the status word; the control word masks them by the same bits.
pub const INVALID: u16 = 1 << 0;
pub const DENORMAL: u16 = 1 << 1;
pub const DIVIDE_BY_ZERO: u16 = 1 << 2;
pub const OVERFLOW: u16 = 1 << 3;
pub const UNDERFLOW: u16 = 1 << 4;
pub const INEXACT: u16 = 1 << 5;
/// An invalid operation was one on the stack.
pub const STACK_FAULT: u16 = 1 << 6;
/// Every exception that can be masked.
pub const EXCEPTIONS: u16 = 0x3f;
/// Found before anything is computed; unmasked, they keep the others from being found.
pub const BEFORE_COMPUTATION: u16 = INVALID | DENORMAL | DIVIDE_BY_ZERO;

const SIGN: u16 = 0x8000;
const SPECIAL: u16 = 0x7fff;
pub(super) const BIAS: i32 = 0x3fff;
const INTEGER_BIT: u64 = 1 << 63;
const QUIET: u64 = 1 << 62;

/// The "real indefinite": what a masked invalid operation gives.
pub const DEFAULT_NAN: Extended = (INTEGER_BIT | QUIET, SIGN | SPECIAL);

/// What the control word says, and what was found so far.
#[derive(Clone, Copy, Debug)]
pub struct Environment {
    pub rounding: Rounding,
    /// Bits of the significand that precision control keeps.
    pub precision: u32,
    masks: u16,
    pub found: u16,
    /// C1: the result was rounded away from zero, or the stack fault is an overflow.
    pub up: bool,
}

impl Environment {
    pub fn new(control: u16) -> Environment {
        Environment {
            rounding: Rounding::from_bits(control as u32 >> 10),
            precision: match control >> 8 & 3 {
                0 => 24,
                2 => 53,
                _ => 64,
            },
            masks: control & EXCEPTIONS,
            found: 0,
            up: false,
        }
    }

    /// Those of `exceptions` that are not masked.
    pub fn unmasked(&self, exceptions: u16) -> u16 {
        exceptions & EXCEPTIONS & !self.masks
    }

    pub fn invalid(&mut self) -> Extended {
        self.found |= INVALID;
        DEFAULT_NAN
    }

    pub fn stack_fault(&mut self, overflow: bool) {
        self.found |= INVALID | STACK_FAULT;
        self.up = overflow;
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Zero,
    Finite,
    Infinite,
    Quiet,
    Signaling,
    /// Encodings that the 387 and later refuse: pseudo-NaNs, pseudo-infinities and unnormals (SDM vol. 1, 8.2.2).
    Unsupported,
}

/// A value taken apart. A finite one has the top bit of its significand set, which counts two to the `exponent`.
#[derive(Clone, Copy, Debug)]
pub struct Value {
    pub kind: Kind,
    pub negative: bool,
    pub exponent: i32,
    pub significand: u64,
    /// Raises the denormal-operand exception.
    pub denormal: bool,
}

impl Value {
    pub fn is_nan(&self) -> bool {
        matches!(self.kind, Kind::Quiet | Kind::Signaling)
    }

    /// A finite value that need not be normal: `significand`, whose top bit counts two to the `exponent`.
    pub(super) fn finite(negative: bool, exponent: i32, significand: u64, denormal: bool) -> Value {
        let up = significand.leading_zeros();
        Value {
            kind: if significand == 0 {
                Kind::Zero
            } else {
                Kind::Finite
            },
            negative,
            exponent: exponent.wrapping_sub(up as i32),
            significand: significand.checked_shl(up).unwrap_or(0),
            denormal: denormal && significand != 0,
        }
    }

    fn special(negative: bool, significand: u64) -> Value {
        Value {
            kind: match significand << 1 {
                0 => Kind::Infinite,
                _ if significand & QUIET != 0 => Kind::Quiet,
                _ => Kind::Signaling,
            },
            negative,
            exponent: BIAS + 1,
            significand,
            denormal: false,
        }
    }

    pub fn from_extended((significand, top): Extended) -> Value {
        let (negative, field) = (top & SIGN != 0, top & SPECIAL);
        let integer = significand & INTEGER_BIT != 0;
        match field {
            // Denormals, and pseudo-denormals, which have the integer bit.
            0 => Value::finite(negative, 1 - BIAS, significand, true),
            _ if !integer => Value {
                kind: Kind::Unsupported,
                ..Value::special(negative, significand)
            },
            SPECIAL => Value::special(negative, significand),
            _ => Value::finite(negative, field as i32 - BIAS, significand, false),
        }
    }

    /// From the fields of a binary interchange format: `fraction` with its top bit at 62.
    fn from_fields(negative: bool, field: i32, fraction: u64, special: i32) -> Value {
        let bias = special / 2;
        match field {
            0 => Value::finite(negative, 1 - bias, fraction, true),
            field if field == special => Value::special(negative, fraction | INTEGER_BIT),
            _ => Value::finite(negative, field - bias, fraction | INTEGER_BIT, false),
        }
    }

    pub fn from_single(bits: u32) -> Value {
        let fraction = (bits as u64 & 0x7f_ffff) << 40;
        Value::from_fields(bits >> 31 != 0, (bits >> 23 & 0xff) as i32, fraction, 0xff)
    }

    pub fn from_double(bits: u64) -> Value {
        let fraction = (bits & 0xf_ffff_ffff_ffff) << 11;
        Value::from_fields(bits >> 63 != 0, (bits >> 52 & 0x7ff) as i32, fraction, 0x7ff)
    }

    pub fn from_integer(value: i64) -> Value {
        Value::finite(value < 0, 63, value.unsigned_abs(), false)
    }

    /// The same value in a register, exactly; a signaling NaN as it is.
    pub fn to_extended(self) -> Extended {
        match self.kind {
            Kind::Zero => zero(self.negative),
            Kind::Finite if self.exponent <= -BIAS => (
                self.significand >> (1 - BIAS - self.exponent),
                sign(self.negative),
            ),
            Kind::Finite => (
                self.significand,
                sign(self.negative) | (self.exponent + BIAS) as u16,
            ),
            _ => (self.significand, sign(self.negative) | SPECIAL),
        }
    }

    pub fn negated(self) -> Value {
        Value {
            negative: !self.negative,
            ..self
        }
    }
}

pub(super) fn sign(negative: bool) -> u16 {
    if negative {
        SIGN
    } else {
        0
    }
}

pub fn zero(negative: bool) -> Extended {
    (0, sign(negative))
}

pub fn infinity(negative: bool) -> Extended {
    (INTEGER_BIT, sign(negative) | SPECIAL)
}

pub fn one(negative: bool) -> Extended {
    (INTEGER_BIT, sign(negative) | BIAS as u16)
}

/// Where a rounded value goes.
#[derive(Clone, Copy)]
struct Target {
    /// Bits of the significand, and the exponents of normal numbers.
    bits: u32,
    least: i32,
    most: i32,
    /// A register: an overflow or underflow that is taken leaves a value whose exponent is off by 24576.
    register: bool,
}

const REGISTER: Target = Target {
    bits: 64,
    least: 1 - BIAS,
    most: BIAS,
    register: true,
};
const SINGLE: Target = Target {
    bits: 24,
    least: -126,
    most: 127,
    register: false,
};
const DOUBLE: Target = Target {
    bits: 53,
    least: -1022,
    most: 1023,
    register: false,
};
/// SDM vol. 1, 8.5.4 and 8.5.5.
const BIAS_ADJUSTMENT: i32 = 24576;

enum Rounded {
    /// The significand with the top bit of a normal number at 63, and the exponent of that bit.
    Finite(u64, i32),
    Infinite,
    /// An overflow or underflow that is taken: nothing is stored, and nothing was found inexact.
    Nothing,
}

/// `value` to the right by `count`; what falls off leaves a mark in the lowest bit.
fn shift_right_sticky(value: u128, count: u32) -> u128 {
    match count {
        0 => value,
        1..=127 => value >> count | (value << (128 - count) != 0) as u128,
        _ => (value != 0) as u128,
    }
}

/// Rounds `significand` (not 0), whose bit 127 counts two to the `exponent`.
fn round(
    environment: &mut Environment,
    negative: bool,
    exponent: i32,
    significand: u128,
    target: Target,
) -> Rounded {
    let normal = significand.leading_zeros();
    let (significand, exponent) = (significand << normal, exponent - normal as i32);
    let (drop, rounding) = (128 - target.bits, environment.rounding);
    let (mut kept, mut lost, mut up) = round_off(rounding, negative, significand, drop);
    let carried = kept >> target.bits != 0;
    let mut result = exponent + carried as i32;
    if carried {
        kept >>= 1;
    }
    if result < target.least {
        if environment.unmasked(UNDERFLOW) != 0 {
            environment.found |= UNDERFLOW;
            if !target.register {
                return Rounded::Nothing;
            }
            result += BIAS_ADJUSTMENT;
        } else {
            // Tiny: rounded again, where a denormal number ends.
            let further = (target.least - exponent) as u32;
            (kept, lost, up) = round_off(rounding, negative, significand, drop + further);
            result = target.least;
            if lost {
                environment.found |= UNDERFLOW;
            }
        }
    } else if result > target.most {
        environment.found |= OVERFLOW;
        if environment.unmasked(OVERFLOW) == 0 {
            environment.found |= INEXACT;
            let away = rounding.away(negative, true, true, true);
            environment.up = away;
            return if away {
                Rounded::Infinite
            } else {
                Rounded::Finite(!0 << (64 - target.bits), target.most)
            };
        }
        if !target.register {
            return Rounded::Nothing;
        }
        result -= BIAS_ADJUSTMENT;
    }
    if lost {
        environment.found |= INEXACT;
        environment.up = up;
    }
    Rounded::Finite((kept << (64 - target.bits)) as u64, result)
}

fn pack(
    environment: &mut Environment,
    negative: bool,
    exponent: i32,
    significand: u128,
    bits: u32,
) -> Extended {
    match round(
        environment,
        negative,
        exponent,
        significand,
        Target { bits, ..REGISTER },
    ) {
        Rounded::Infinite => infinity(negative),
        Rounded::Nothing => DEFAULT_NAN,
        Rounded::Finite(significand, exponent) => {
            let field = exponent + BIAS;
            // Further out than the adjustment of the exponent reaches (SDM vol. 1, 8.5.4 and 8.5.5).
            if field <= 0 || field >= SPECIAL as i32 {
                environment.found |= INEXACT;
                environment.up = field > 0;
                return if field > 0 {
                    infinity(negative)
                } else {
                    zero(negative)
                };
            }
            match significand & INTEGER_BIT {
                0 => (significand, sign(negative)),
                _ => (significand, sign(negative) | field as u16),
            }
        }
    }
}

/// Rounds to what the control word asks for.
fn pack_controlled(
    environment: &mut Environment,
    negative: bool,
    exponent: i32,
    significand: u128,
) -> Extended {
    pack(
        environment,
        negative,
        exponent,
        significand,
        environment.precision,
    )
}

/// Rounds to 64 bits, whatever precision control says.
pub fn pack_full(
    environment: &mut Environment,
    negative: bool,
    exponent: i32,
    significand: u128,
) -> Extended {
    pack(environment, negative, exponent, significand, 64)
}

/// To the format of `target`, whose exponent field has `exponent_bits` bits.
fn store(environment: &mut Environment, a: &Value, target: Target, exponent_bits: u32) -> u64 {
    let fraction_bits = target.bits - 1;
    let special = (1u64 << exponent_bits) - 1;
    let put = |field: u64, significand: u64| {
        let fraction = (significand & !INTEGER_BIT) >> (63 - fraction_bits);
        (a.negative as u64) << (fraction_bits + exponent_bits) | field << fraction_bits | fraction
    };
    let indefinite =
        1 << (fraction_bits + exponent_bits) | special << fraction_bits | 1 << (fraction_bits - 1);
    match a.kind {
        Kind::Zero => put(0, 0),
        Kind::Infinite => put(special, 0),
        Kind::Unsupported => {
            environment.found |= INVALID;
            indefinite
        }
        Kind::Quiet | Kind::Signaling => {
            if a.kind == Kind::Signaling {
                environment.found |= INVALID;
            }
            put(special, a.significand | QUIET)
        }
        Kind::Finite => match round(
            environment,
            a.negative,
            a.exponent,
            (a.significand as u128) << 64,
            target,
        ) {
            Rounded::Infinite => put(special, 0),
            Rounded::Nothing => indefinite,
            Rounded::Finite(significand, _) if significand & INTEGER_BIT == 0 => put(0, significand),
            Rounded::Finite(significand, exponent) => {
                put((exponent + target.most) as u64 & special, significand)
            }
        },
    }
}

pub fn to_single(environment: &mut Environment, a: &Value) -> u32 {
    store(environment, a, SINGLE, 8) as u32
}

pub fn to_double(environment: &mut Environment, a: &Value) -> u64 {
    store(environment, a, DOUBLE, 11)
}

/// The magnitude of a finite value as a whole number, if it has less than 128 bits.
pub(super) fn whole(environment: &mut Environment, a: &Value, rounding: Rounding) -> Option<u128> {
    let significand = a.significand as u128;
    match a.exponent {
        ..=62 => {
            let (kept, lost, up) = round_off(rounding, a.negative, significand, (63 - a.exponent) as u32);
            if lost {
                environment.found |= INEXACT;
                environment.up = up;
            }
            Some(kept)
        }
        63..=126 => Some(significand << (a.exponent - 63)),
        _ => None,
    }
}

/// To a signed integer of `bits` bits, or to the "integer indefinite" where it does not fit.
pub fn to_integer(environment: &mut Environment, a: &Value, bits: u32, rounding: Rounding) -> u64 {
    let before = *environment;
    let magnitude = match a.kind {
        Kind::Zero => Some(0),
        Kind::Finite => whole(environment, a, rounding),
        _ => None,
    };
    let limit = 1u128 << (bits - 1);
    match magnitude {
        Some(magnitude) if magnitude < limit || magnitude == limit && a.negative => {
            let magnitude = magnitude as u64;
            if a.negative {
                magnitude.wrapping_neg()
            } else {
                magnitude
            }
        }
        _ => {
            *environment = before;
            environment.found |= INVALID;
            limit as u64
        }
    }
}

/// To 18 decimal digits, two a byte, and a sign; or the "packed decimal indefinite".
pub fn to_decimal(environment: &mut Environment, a: &Value) -> [u8; 10] {
    let before = *environment;
    let magnitude = match a.kind {
        Kind::Zero => Some(0),
        Kind::Finite => whole(environment, a, environment.rounding),
        _ => None,
    };
    match magnitude {
        Some(mut rest) if rest < 10u128.pow(18) => {
            let mut bytes = [0; 10];
            for byte in &mut bytes[..9] {
                *byte = (rest % 10) as u8 | ((rest / 10 % 10) as u8) << 4;
                rest /= 100;
            }
            bytes[9] = (a.negative as u8) << 7;
            bytes
        }
        _ => {
            *environment = before;
            environment.found |= INVALID;
            DECIMAL_INDEFINITE
        }
    }
}

pub const DECIMAL_INDEFINITE: [u8; 10] = [0, 0, 0, 0, 0, 0, 0, 0xc0, 0xff, 0xff];

/// Digits above nine count what they are.
pub fn from_decimal(bytes: [u8; 10]) -> Value {
    let digits = bytes[..9].iter().rev();
    let magnitude = digits.fold(0u64, |value, byte| {
        value * 100 + (byte >> 4) as u64 * 10 + (byte & 15) as u64
    });
    Value {
        negative: bytes[9] >> 7 != 0,
        ..Value::finite(false, 63, magnitude, false)
    }
}

/// The result where an operand is a NaN or an unsupported encoding (SDM vol. 1, table 4-7).
pub fn propagate(environment: &mut Environment, a: &Value, b: &Value) -> Option<Extended> {
    let any = |kind| a.kind == kind || b.kind == kind;
    if any(Kind::Unsupported) {
        return Some(environment.invalid());
    }
    if any(Kind::Signaling) {
        environment.found |= INVALID;
    }
    let chosen = match (a.is_nan(), b.is_nan()) {
        (false, false) => return None,
        (true, false) => a,
        (false, true) => b,
        // A quiet NaN goes before a signaling one; of two alike the one with the larger significand, or else the
        // positive one.
        (true, true) if a.kind != b.kind => {
            if a.kind == Kind::Quiet {
                a
            } else {
                b
            }
        }
        (true, true) if (a.significand, !a.negative) >= (b.significand, !b.negative) => a,
        (true, true) => b,
    };
    Some((chosen.significand | QUIET, sign(chosen.negative) | SPECIAL))
}

pub fn note_denormals(environment: &mut Environment, a: &Value, b: &Value) {
    if a.denormal || b.denormal {
        environment.found |= DENORMAL;
    }
}

pub fn add(environment: &mut Environment, a: &Value, b: &Value) -> Extended {
    if let Some(nan) = propagate(environment, a, b) {
        return nan;
    }
    if a.kind == Kind::Infinite && b.kind == Kind::Infinite && a.negative != b.negative {
        return environment.invalid();
    }
    note_denormals(environment, a, b);
    let zero_is_negative = if a.negative == b.negative {
        a.negative
    } else {
        environment.rounding == Rounding::Down
    };
    let alone = |environment: &mut Environment, a: &Value| {
        pack_controlled(environment, a.negative, a.exponent, (a.significand as u128) << 64)
    };
    match (a.kind, b.kind) {
        (Kind::Infinite, _) => return infinity(a.negative),
        (_, Kind::Infinite) => return infinity(b.negative),
        (Kind::Zero, Kind::Zero) => return zero(zero_is_negative),
        (Kind::Zero, _) => return alone(environment, b),
        (_, Kind::Zero) => return alone(environment, a),
        _ => {}
    }
    let (large, small) = if (a.exponent, a.significand) >= (b.exponent, b.significand) {
        (a, b)
    } else {
        (b, a)
    };
    let distance = (large.exponent - small.exponent) as u32;
    let (x, y) = (
        (large.significand as u128) << 63,
        shift_right_sticky((small.significand as u128) << 63, distance),
    );
    if a.negative == b.negative {
        return pack_controlled(environment, a.negative, large.exponent + 1, x + y);
    }
    match x - y {
        0 => zero(zero_is_negative),
        difference => pack_controlled(environment, large.negative, large.exponent + 1, difference),
    }
}

pub fn subtract(environment: &mut Environment, a: &Value, b: &Value) -> Extended {
    // A NaN keeps its sign.
    if b.is_nan() {
        return add(environment, a, b);
    }
    add(environment, a, &b.negated())
}

pub fn multiply(environment: &mut Environment, a: &Value, b: &Value) -> Extended {
    if let Some(nan) = propagate(environment, a, b) {
        return nan;
    }
    let negative = a.negative != b.negative;
    if matches!(
        (a.kind, b.kind),
        (Kind::Infinite, Kind::Zero) | (Kind::Zero, Kind::Infinite)
    ) {
        return environment.invalid();
    }
    note_denormals(environment, a, b);
    match (a.kind, b.kind) {
        (Kind::Infinite, _) | (_, Kind::Infinite) => infinity(negative),
        (Kind::Zero, _) | (_, Kind::Zero) => zero(negative),
        _ => {
            let product = a.significand as u128 * b.significand as u128;
            pack_controlled(environment, negative, a.exponent + b.exponent + 1, product)
        }
    }
}

/// `a / b`, both top bits set, with bit 126 counting two to the difference of the exponents.
fn quotient(a: u64, b: u64) -> u128 {
    let (dividend, divisor) = ((a as u128) << 63, b as u128);
    let rest = (dividend % divisor) << 63;
    (dividend / divisor) << 63 | rest / divisor | (rest % divisor != 0) as u128
}

pub fn divide(environment: &mut Environment, a: &Value, b: &Value) -> Extended {
    if let Some(nan) = propagate(environment, a, b) {
        return nan;
    }
    let negative = a.negative != b.negative;
    match (a.kind, b.kind) {
        (Kind::Infinite, Kind::Infinite) | (Kind::Zero, Kind::Zero) => return environment.invalid(),
        (Kind::Finite, Kind::Zero) => {
            environment.found |= DIVIDE_BY_ZERO;
            return infinity(negative);
        }
        _ => note_denormals(environment, a, b),
    }
    match (a.kind, b.kind) {
        (Kind::Infinite, _) => infinity(negative),
        (Kind::Zero, _) | (_, Kind::Infinite) => zero(negative),
        _ => {
            let quotient = quotient(a.significand, b.significand);
            pack_controlled(environment, negative, a.exponent - b.exponent + 1, quotient)
        }
    }
}

pub fn square_root(environment: &mut Environment, a: &Value) -> Extended {
    if let Some(nan) = propagate(environment, a, a) {
        return nan;
    }
    if a.kind == Kind::Zero {
        return zero(a.negative);
    }
    if a.negative {
        return environment.invalid();
    }
    note_denormals(environment, a, a);
    if a.kind == Kind::Infinite {
        return infinity(false);
    }
    // An even exponent.
    let odd = a.exponent & 1;
    let radicand = (a.significand as u128) << (63 + odd);
    let root = radicand.isqrt();
    let rest = radicand - root * root;
    // Below the root's 64 bits: whether it is nearer to the next, and whether it is exact.
    let significand = root << 64 | ((rest > root) as u128) << 63 | (rest != 0) as u128;
    pack_controlled(environment, false, (a.exponent - odd) / 2, significand)
}

/// How two values stand to one another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relation {
    Less,
    Equal,
    Greater,
    Unordered,
}

/// `quiet`: a quiet NaN is no invalid operand.
pub fn compare(environment: &mut Environment, a: &Value, b: &Value, quiet: bool) -> Relation {
    let any = |kind| a.kind == kind || b.kind == kind;
    if any(Kind::Unsupported) || any(Kind::Signaling) || any(Kind::Quiet) {
        if !quiet || any(Kind::Unsupported) || any(Kind::Signaling) {
            environment.found |= INVALID;
        }
        return Relation::Unordered;
    }
    note_denormals(environment, a, b);
    let key = |value: &Value| {
        let magnitude = match value.kind {
            Kind::Zero => (0, 0),
            Kind::Finite => (value.exponent + 0x8000, value.significand),
            _ => (i32::MAX, 0),
        };
        (value.negative && value.kind != Kind::Zero, magnitude)
    };
    let ((a_negative, a), (b_negative, b)) = (key(a), key(b));
    let order = match (a_negative, b_negative) {
        (false, false) => a.cmp(&b),
        (true, true) => b.cmp(&a),
        (true, false) => std::cmp::Ordering::Less,
        (false, true) => std::cmp::Ordering::Greater,
    };
    match order {
        std::cmp::Ordering::Less => Relation::Less,
        std::cmp::Ordering::Equal => Relation::Equal,
        std::cmp::Ordering::Greater => Relation::Greater,
    }
}
