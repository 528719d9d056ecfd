//! IEEE 754 arithmetic as SSE does it: any rounding, all six exceptions, flush-to-zero and denormals-are-zero
//! (SDM vol. 1, 11.5 and appendix E). Values are exact in 128 bits until they are rounded once.

use super::int::Int;

/// The exception flags of MXCSR; the masks are the same bits seven further up.
pub const INVALID: u32 = 1 << 0;
pub const DENORMAL: u32 = 1 << 1;
pub const DIVIDE_BY_ZERO: u32 = 1 << 2;
pub const OVERFLOW: u32 = 1 << 3;
pub const UNDERFLOW: u32 = 1 << 4;
pub const INEXACT: u32 = 1 << 5;
/// Found before anything is computed; unmasked, they keep the others from being found.
pub const BEFORE_COMPUTATION: u32 = INVALID | DENORMAL | DIVIDE_BY_ZERO;

pub const DENORMALS_ARE_ZERO: u32 = 1 << 6;
const MASK_SHIFT: u32 = 7;
pub const FLUSH_TO_ZERO: u32 = 1 << 15;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rounding {
    Nearest,
    Down,
    Up,
    Zero,
}

impl Rounding {
    /// From the two bits of a rounding-control field.
    pub fn from_bits(bits: u32) -> Rounding {
        match bits & 3 {
            0 => Rounding::Nearest,
            1 => Rounding::Down,
            2 => Rounding::Up,
            _ => Rounding::Zero,
        }
    }

    /// Whether a magnitude of which `odd` is the last kept bit, `half` the first lost one and `rest` tells of more, is
    /// rounded up.
    #[inline(always)]
    pub fn away(self, negative: bool, odd: bool, half: bool, rest: bool) -> bool {
        match self {
            Rounding::Nearest => half && (rest || odd),
            Rounding::Down => negative && (half || rest),
            Rounding::Up => !negative && (half || rest),
            Rounding::Zero => false,
        }
    }
}

/// What MXCSR says, and the exceptions found so far.
#[derive(Clone, Copy, Debug)]
pub struct Environment {
    pub rounding: Rounding,
    mxcsr: u32,
    pub found: u32,
}

impl Environment {
    pub fn new(mxcsr: u32) -> Environment {
        Environment {
            rounding: Rounding::from_bits(mxcsr >> 13),
            mxcsr,
            found: 0,
        }
    }

    /// The same with denormals taken and given as they are: conversions from and to halves know neither flush-to-zero nor,
    /// of halves, denormals-are-zero (SDM vol. 1, 14.4.1).
    pub fn without(self, flags: u32) -> Environment {
        Environment {
            mxcsr: self.mxcsr & !flags,
            ..self
        }
    }

    /// Those of `exceptions` that MXCSR does not mask.
    pub fn unmasked(&self, exceptions: u32) -> u32 {
        exceptions & !(self.mxcsr >> MASK_SHIFT)
    }

    fn flushes(&self) -> bool {
        self.mxcsr & FLUSH_TO_ZERO != 0 && self.unmasked(UNDERFLOW) == 0
    }

    /// Rounding to nearest may only be inexact, and that has been noted: nothing is left to find for normal numbers.
    #[inline(always)]
    fn is_plain(&self) -> bool {
        const CARED_FOR: u32 = 3 << 13 | INEXACT << MASK_SHIFT | INEXACT;
        self.mxcsr & CARED_FOR == INEXACT << MASK_SHIFT | INEXACT
    }
}

/// A binary interchange format.
pub trait Format: Copy {
    type Bits: Int;
    const FRACTION: u32;
    const EXPONENT: u32;
    const BIAS: i32 = (1 << (Self::EXPONENT - 1)) - 1;
    /// The exponent field of infinities and NaNs.
    const SPECIAL: u64 = (1 << Self::EXPONENT) - 1;
    const SIGN: u64 = 1 << (Self::FRACTION + Self::EXPONENT);
    const QUIET: u64 = 1 << (Self::FRACTION - 1);
    const INFINITY: u64 = Self::SPECIAL << Self::FRACTION;
    /// The "real indefinite": the NaN that a masked invalid operation gives.
    const DEFAULT_NAN: u64 = Self::SIGN | Self::INFINITY | Self::QUIET;
}

/// A format that is computed with.
pub trait Arithmetic: Format {
    /// The host's own operation, rounded to nearest.
    fn host(operation: Operation, a: u64, b: u64) -> u64;
    /// The same for a product and a sum, rounded once.
    fn host_fused(a: u64, b: u64, c: u64) -> u64;
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    Add,
    Sub,
    Mul,
    Div,
}

#[derive(Clone, Copy)]
pub struct Single;
#[derive(Clone, Copy)]
pub struct Double;
/// Values of 16 bits, which are only converted.
#[derive(Clone, Copy)]
pub struct Half;

macro_rules! format {
    ($name:ty, $bits:ty, $float:ty, $fraction:literal, $exponent:literal) => {
        impl Format for $name {
            type Bits = $bits;
            const FRACTION: u32 = $fraction;
            const EXPONENT: u32 = $exponent;
        }

        impl Arithmetic for $name {
            #[inline(always)]
            fn host(operation: Operation, a: u64, b: u64) -> u64 {
                let (a, b) = (
                    <$float>::from_bits(a as $bits),
                    <$float>::from_bits(b as $bits),
                );
                let result = match operation {
                    Operation::Add => a + b,
                    Operation::Sub => a - b,
                    Operation::Mul => a * b,
                    Operation::Div => a / b,
                };
                result.to_bits() as u64
            }

            #[inline(always)]
            fn host_fused(a: u64, b: u64, c: u64) -> u64 {
                let [a, b, c] = [a, b, c].map(|bits| <$float>::from_bits(bits as $bits));
                a.mul_add(b, c).to_bits() as u64
            }
        }
    };
}
format!(Single, u32, f32, 23, 8);
format!(Double, u64, f64, 52, 11);

impl Format for Half {
    type Bits = u16;
    const FRACTION: u32 = 10;
    const EXPONENT: u32 = 5;
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Zero,
    Finite,
    Infinite,
    Quiet,
    Signaling,
}

/// A value taken apart: a finite one is `mantissa` times two to the `exponent`.
#[derive(Clone, Copy, Debug)]
struct Parts {
    kind: Kind,
    negative: bool,
    exponent: i32,
    mantissa: u64,
    denormal: bool,
    bits: u64,
}

impl Parts {
    fn is_nan(&self) -> bool {
        matches!(self.kind, Kind::Quiet | Kind::Signaling)
    }

    /// 0 for what counts as zero, denormals that are zeros among it.
    fn magnitude(&self) -> u128 {
        match self.kind {
            Kind::Zero => 0,
            _ => self.mantissa as u128,
        }
    }

    fn exact(&self) -> Exact {
        Exact {
            exponent: self.exponent,
            mantissa: self.magnitude(),
            negative: self.negative,
        }
    }
}

/// Takes `bits` apart, with denormals as zeros where MXCSR asks for it.
fn parts<F: Format>(environment: &Environment, bits: u64) -> Parts {
    let negative = bits & F::SIGN != 0;
    let field = bits >> F::FRACTION & F::SPECIAL;
    let fraction = bits & ((1 << F::FRACTION) - 1);
    let denormal = field == 0 && fraction != 0;
    let zeroed = denormal && environment.mxcsr & DENORMALS_ARE_ZERO != 0;
    let kind = match (field, fraction) {
        (0, 0) => Kind::Zero,
        (0, _) if zeroed => Kind::Zero,
        (field, 0) if field == F::SPECIAL => Kind::Infinite,
        (field, _) if field != F::SPECIAL => Kind::Finite,
        (_, fraction) if fraction & F::QUIET != 0 => Kind::Quiet,
        _ => Kind::Signaling,
    };
    Parts {
        kind,
        negative,
        exponent: field.max(1) as i32 - F::BIAS - F::FRACTION as i32,
        mantissa: fraction | if field == 0 { 0 } else { 1 << F::FRACTION },
        denormal: denormal && !zeroed,
        bits: if zeroed { bits & F::SIGN } else { bits },
    }
}

fn signed<F: Format>(negative: bool, magnitude: u64) -> u64 {
    magnitude | if negative { F::SIGN } else { 0 }
}

/// `value` to the right by `count`; what falls off leaves a mark in the lowest bit.
fn shift_right_sticky(value: u128, count: u32) -> u128 {
    match count {
        0 => value,
        1..=127 => value >> count | (value << (128 - count) != 0) as u128,
        _ => (value != 0) as u128,
    }
}

/// Drops `count` bits of `value` by rounding; whether anything was lost, and whether it was rounded up.
pub(super) fn round_off(rounding: Rounding, negative: bool, value: u128, count: u32) -> (u128, bool, bool) {
    let (kept, half, rest) = match count {
        0 => return (value, false, false),
        1..=127 => {
            let half = 1 << (count - 1);
            (value >> count, value & half != 0, value & (half - 1) != 0)
        }
        128 => (0, value >> 127 != 0, value << 1 != 0),
        _ => (0, false, value != 0),
    };
    let up = rounding.away(negative, kept & 1 != 0, half, rest);
    (kept + up as u128, half || rest, up)
}

/// Rounds `mantissa` (not 0) times two to the `exponent` to the format.
fn pack<F: Format>(environment: &mut Environment, negative: bool, exponent: i32, mantissa: u128) -> u64 {
    // With its top bit at 126 there is room to round, and every shift is to the right.
    let up = mantissa.leading_zeros() as i32 - 1;
    let mantissa = if up < 0 {
        shift_right_sticky(mantissa, 1)
    } else {
        mantissa << up
    };
    // The exponent field that the value asks for.
    let field = exponent - up + 126 + F::BIAS;
    let drop = 126 - F::FRACTION;
    let rounding = environment.rounding;
    let (normal, lost, _) = round_off(rounding, negative, mantissa, drop);
    let carried = normal >> (F::FRACTION + 1) != 0;
    // Tiny: below the smallest normal number even after rounding as if the exponent had no bound.
    if field < 0 || field == 0 && !carried {
        if environment.flushes() {
            environment.found |= UNDERFLOW | INEXACT;
            return signed::<F>(negative, 0);
        }
        let (denormal, denormal_lost, _) = round_off(rounding, negative, mantissa, drop + (1 - field) as u32);
        // An underflow that is taken would be handed the normal mantissa, exact or not.
        let taken = environment.unmasked(UNDERFLOW) != 0;
        if taken || denormal_lost {
            environment.found |= UNDERFLOW;
        }
        let inexact = if taken { lost } else { denormal_lost };
        if inexact {
            environment.found |= INEXACT;
        }
        return signed::<F>(negative, denormal as u64);
    }
    if lost {
        environment.found |= INEXACT;
    }
    if field + carried as i32 >= F::SPECIAL as i32 {
        environment.found |= OVERFLOW;
        if environment.unmasked(OVERFLOW) == 0 {
            environment.found |= INEXACT;
        }
        let to_infinity = match rounding {
            Rounding::Nearest => true,
            Rounding::Down => negative,
            Rounding::Up => !negative,
            Rounding::Zero => false,
        };
        return signed::<F>(negative, F::INFINITY - !to_infinity as u64);
    }
    // The leading one adds to the field; so does a carry.
    if field == 0 {
        return signed::<F>(negative, 1 << F::FRACTION);
    }
    signed::<F>(negative, ((field as u64 - 1) << F::FRACTION) + normal as u64)
}

/// The result where an operand is a NaN: the first one, made quiet (SDM vol. 1, table 4-7).
fn propagate<F: Format>(environment: &mut Environment, a: &Parts, b: &Parts) -> u64 {
    if a.kind == Kind::Signaling || b.kind == Kind::Signaling {
        environment.found |= INVALID;
    }
    F::QUIET | if a.is_nan() { a.bits } else { b.bits }
}

fn invalid<F: Format>(environment: &mut Environment) -> u64 {
    environment.found |= INVALID;
    F::DEFAULT_NAN
}

fn note_denormals(environment: &mut Environment, a: &Parts, b: &Parts) {
    if a.denormal || b.denormal {
        environment.found |= DENORMAL;
    }
}

/// Addition, subtraction, multiplication or division.
#[inline(always)]
pub fn arithmetic<F: Arithmetic>(environment: &mut Environment, operation: Operation, a: u64, b: u64) -> u64 {
    if environment.is_plain() && is_normal::<F>(a) && is_normal::<F>(b) {
        let result = F::host(operation, a, b);
        if is_inner::<F>(result) {
            return result;
        }
    }
    exact::<F>(environment, operation, a, b)
}

#[inline(always)]
fn is_normal<F: Format>(bits: u64) -> bool {
    (bits >> F::FRACTION & F::SPECIAL).wrapping_sub(1) < F::SPECIAL - 1
}

/// Not next to the ends of the range, where there may have been an overflow or an underflow.
#[inline(always)]
fn is_inner<F: Format>(bits: u64) -> bool {
    (bits >> F::FRACTION & F::SPECIAL).wrapping_sub(2) < F::SPECIAL - 3
}

/// What of a fused operation is negated.
#[derive(Clone, Copy, Debug)]
pub struct Signs {
    pub negate_product: bool,
    pub negate_addend: bool,
}

/// `x` times `y` plus `z`.
pub fn fused<F: Arithmetic>(environment: &mut Environment, x: u64, y: u64, z: u64, signs: Signs) -> u64 {
    if environment.is_plain() && [x, y, z].into_iter().all(is_normal::<F>) {
        let turned = |bits: u64, negate: bool| if negate { bits ^ F::SIGN } else { bits };
        let result = F::host_fused(turned(x, signs.negate_product), y, turned(z, signs.negate_addend));
        if is_inner::<F>(result) {
            return result;
        }
    }
    exact_fused::<F>(environment, [x, y, z], signs)
}

#[inline(never)]
fn exact_fused<F: Format>(environment: &mut Environment, operands: [u64; 3], signs: Signs) -> u64 {
    let operands = operands.map(|bits| parts::<F>(environment, bits));
    // The first NaN, whatever else there is (SDM vol. 1, table 14-17).
    if let Some(nan) = operands.iter().find(|operand| operand.is_nan()) {
        return match operands.iter().find(|operand| operand.kind == Kind::Signaling) {
            Some(signaling) => propagate::<F>(environment, nan, signaling),
            None => propagate::<F>(environment, nan, nan),
        };
    }
    let [x, y, mut z] = operands;
    let negative = (x.negative != y.negative) != signs.negate_product;
    z.negative ^= signs.negate_addend;
    let kinds = [x.kind, y.kind];
    let opposed = z.kind == Kind::Infinite && z.negative != negative;
    if kinds.contains(&Kind::Infinite) && (kinds.contains(&Kind::Zero) || opposed) {
        return invalid::<F>(environment);
    }
    if operands.iter().any(|operand| operand.denormal) {
        environment.found |= DENORMAL;
    }
    if kinds.contains(&Kind::Infinite) {
        return signed::<F>(negative, F::INFINITY);
    }
    if z.kind == Kind::Infinite {
        return signed::<F>(z.negative, F::INFINITY);
    }
    let product = Exact {
        exponent: x.exponent + y.exponent,
        mantissa: x.magnitude() * y.magnitude(),
        negative,
    };
    product
        .plus(z.exact(), environment.rounding)
        .pack::<F>(environment)
}

/// A finite value with room for a product: `mantissa` times two to the `exponent`. Ordered by magnitude where the
/// mantissas have their top bits at one place.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Exact {
    exponent: i32,
    mantissa: u128,
    negative: bool,
}

impl Exact {
    fn pack<F: Format>(self, environment: &mut Environment) -> u64 {
        match self.mantissa {
            0 => signed::<F>(self.negative, 0),
            _ => pack::<F>(environment, self.negative, self.exponent, self.mantissa),
        }
    }

    fn plus(self, other: Exact, rounding: Rounding) -> Exact {
        match (self.mantissa, other.mantissa) {
            (0, 0) if self.negative == other.negative => return self,
            (0, 0) => {}
            (0, _) => return other,
            (_, 0) => return self,
            _ => {}
        }
        let (a, b) = (self.normalized(), other.normalized());
        let (large, small) = if a >= b { (a, b) } else { (b, a) };
        let shifted = shift_right_sticky(small.mantissa, (large.exponent - small.exponent) as u32);
        if large.negative == small.negative {
            let mantissa = large.mantissa + shifted;
            return Exact { mantissa, ..large };
        }
        let mantissa = large.mantissa - shifted;
        // What cancels out is positive, unless rounding goes down.
        let negative = if mantissa == 0 {
            rounding == Rounding::Down
        } else {
            large.negative
        };
        Exact {
            mantissa,
            negative,
            ..large
        }
    }

    /// With the top bit at 125 there is room for a carry, and no bit of a product is near the mark at the bottom.
    fn normalized(self) -> Exact {
        if self.mantissa == 0 {
            return self;
        }
        let up = self.mantissa.leading_zeros() as i32 - 2;
        Exact {
            exponent: self.exponent - up,
            mantissa: self.mantissa << up,
            ..self
        }
    }
}

#[inline(never)]
fn exact<F: Format>(environment: &mut Environment, operation: Operation, a: u64, b: u64) -> u64 {
    let (a, mut b) = (parts::<F>(environment, a), parts::<F>(environment, b));
    if a.is_nan() || b.is_nan() {
        return propagate::<F>(environment, &a, &b);
    }
    match operation {
        Operation::Add => add::<F>(environment, &a, &b),
        Operation::Sub => {
            b.negative = !b.negative;
            b.bits ^= F::SIGN;
            add::<F>(environment, &a, &b)
        }
        Operation::Mul => multiply::<F>(environment, &a, &b),
        Operation::Div => divide::<F>(environment, &a, &b),
    }
}

fn add<F: Format>(environment: &mut Environment, a: &Parts, b: &Parts) -> u64 {
    match (a.kind, b.kind) {
        (Kind::Infinite, Kind::Infinite) if a.negative != b.negative => return invalid::<F>(environment),
        (Kind::Infinite, _) | (_, Kind::Infinite) => {
            note_denormals(environment, a, b);
            return if a.kind == Kind::Infinite { a.bits } else { b.bits };
        }
        _ => note_denormals(environment, a, b),
    }
    a.exact()
        .plus(b.exact(), environment.rounding)
        .pack::<F>(environment)
}

fn multiply<F: Format>(environment: &mut Environment, a: &Parts, b: &Parts) -> u64 {
    let negative = a.negative != b.negative;
    match (a.kind, b.kind) {
        (Kind::Infinite, Kind::Zero) | (Kind::Zero, Kind::Infinite) => return invalid::<F>(environment),
        _ => note_denormals(environment, a, b),
    }
    match (a.kind, b.kind) {
        (Kind::Infinite, _) | (_, Kind::Infinite) => signed::<F>(negative, F::INFINITY),
        (Kind::Zero, _) | (_, Kind::Zero) => signed::<F>(negative, 0),
        _ => {
            let product = a.mantissa as u128 * b.mantissa as u128;
            pack::<F>(environment, negative, a.exponent + b.exponent, product)
        }
    }
}

fn divide<F: Format>(environment: &mut Environment, a: &Parts, b: &Parts) -> u64 {
    let negative = a.negative != b.negative;
    match (a.kind, b.kind) {
        (Kind::Infinite, Kind::Infinite) | (Kind::Zero, Kind::Zero) => return invalid::<F>(environment),
        (Kind::Finite, Kind::Zero) => {
            environment.found |= DIVIDE_BY_ZERO;
            return signed::<F>(negative, F::INFINITY);
        }
        _ => note_denormals(environment, a, b),
    }
    match (a.kind, b.kind) {
        (Kind::Infinite, _) => signed::<F>(negative, F::INFINITY),
        (Kind::Zero, _) | (_, Kind::Infinite) => signed::<F>(negative, 0),
        _ => {
            // As many bits as there is room for; the remainder leaves its mark.
            let up = (a.mantissa as u128).leading_zeros();
            let dividend = (a.mantissa as u128) << up;
            let divisor = b.mantissa as u128;
            let inexact = dividend % divisor != 0;
            let quotient = (dividend / divisor) | inexact as u128;
            pack::<F>(
                environment,
                negative,
                a.exponent - b.exponent - up as i32,
                quotient,
            )
        }
    }
}

pub fn square_root<F: Format>(environment: &mut Environment, a: u64) -> u64 {
    let a = parts::<F>(environment, a);
    if a.is_nan() {
        return propagate::<F>(environment, &a, &a);
    }
    if a.kind == Kind::Zero {
        return a.bits;
    }
    if a.negative {
        return invalid::<F>(environment);
    }
    note_denormals(environment, &a, &a);
    if a.kind == Kind::Infinite {
        return a.bits;
    }
    // An even exponent, and as many bits as there is room for.
    let mut up = (a.mantissa as u128).leading_zeros();
    if (a.exponent - up as i32) % 2 != 0 {
        up -= 1;
    }
    let radicand = (a.mantissa as u128) << up;
    let root = radicand.isqrt();
    let inexact = root * root != radicand;
    pack::<F>(
        environment,
        false,
        (a.exponent - up as i32) / 2 - 1,
        root << 1 | inexact as u128,
    )
}

/// How two values stand to one another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relation {
    Less,
    Equal,
    Greater,
    Unordered,
}

/// `signaling`: a quiet NaN, too, is an invalid operand.
pub fn compare<F: Format>(environment: &mut Environment, a: u64, b: u64, signaling: bool) -> Relation {
    let (a, b) = (parts::<F>(environment, a), parts::<F>(environment, b));
    relation::<F>(environment, &a, &b, signaling)
}

fn relation<F: Format>(environment: &mut Environment, a: &Parts, b: &Parts, signaling: bool) -> Relation {
    if a.is_nan() || b.is_nan() {
        if signaling || a.kind == Kind::Signaling || b.kind == Kind::Signaling {
            environment.found |= INVALID;
        }
        return Relation::Unordered;
    }
    note_denormals(environment, a, b);
    // In the order of their values; the two zeros are one.
    let key = |parts: &Parts| {
        let magnitude = (parts.bits & !F::SIGN) as i64;
        if parts.negative {
            -magnitude
        } else {
            magnitude
        }
    };
    match key(a).cmp(&key(b)) {
        std::cmp::Ordering::Less => Relation::Less,
        std::cmp::Ordering::Equal => Relation::Equal,
        std::cmp::Ordering::Greater => Relation::Greater,
    }
}

/// MIN and MAX: the second operand where either is a NaN or both are zeros (SDM vol. 2, MINPS).
pub fn extreme<F: Format>(environment: &mut Environment, a: u64, b: u64, wanted: Relation) -> u64 {
    let (a, b) = (parts::<F>(environment, a), parts::<F>(environment, b));
    if relation::<F>(environment, &a, &b, true) == wanted {
        a.bits
    } else {
        b.bits
    }
}

/// To a signed integer of `bits` bits, or to the "integer indefinite" where it does not fit.
pub fn to_integer<F: Format>(environment: &mut Environment, a: u64, bits: u32, truncate: bool) -> u64 {
    let a = parts::<F>(environment, a);
    let indefinite = !0 << (bits - 1) & (!0 >> (64 - bits));
    let rounding = if truncate {
        Rounding::Zero
    } else {
        environment.rounding
    };
    let (magnitude, lost) = match a.kind {
        Kind::Zero => return 0,
        // Far outside in any case.
        Kind::Finite if a.exponent > 64 => (u128::MAX, false),
        Kind::Finite if a.exponent >= 0 => ((a.mantissa as u128) << a.exponent, false),
        Kind::Finite => {
            let (kept, lost, _) = round_off(rounding, a.negative, a.mantissa as u128, -a.exponent as u32);
            (kept, lost)
        }
        _ => (u128::MAX, false),
    };
    let limit = 1u128 << (bits - 1);
    if magnitude > limit || magnitude == limit && !a.negative {
        environment.found |= INVALID;
        return indefinite;
    }
    if lost {
        environment.found |= INEXACT;
    }
    let value = if a.negative {
        (magnitude as u64).wrapping_neg()
    } else {
        magnitude as u64
    };
    value & (!0 >> (64 - bits))
}

pub fn from_integer<F: Format>(environment: &mut Environment, value: i64) -> u64 {
    match value {
        0 => 0,
        _ => pack::<F>(environment, value < 0, 0, value.unsigned_abs() as u128),
    }
}

/// From one format to another.
pub fn convert<From: Format, To: Format>(environment: &mut Environment, a: u64) -> u64 {
    let a = parts::<From>(environment, a);
    match a.kind {
        Kind::Zero => signed::<To>(a.negative, 0),
        Kind::Infinite => signed::<To>(a.negative, To::INFINITY),
        Kind::Quiet | Kind::Signaling => {
            if a.kind == Kind::Signaling {
                environment.found |= INVALID;
            }
            let fraction = a.bits & ((1 << From::FRACTION) - 1);
            let fraction = if To::FRACTION > From::FRACTION {
                fraction << (To::FRACTION - From::FRACTION)
            } else {
                fraction >> (From::FRACTION - To::FRACTION)
            };
            signed::<To>(a.negative, To::INFINITY | To::QUIET | fraction)
        }
        Kind::Finite => {
            note_denormals(environment, &a, &a);
            pack::<To>(environment, a.negative, a.exponent, a.mantissa as u128)
        }
    }
}

/// To a whole number of the same format. `quietly`: being inexact is no exception.
pub fn round_to_whole<F: Format>(
    environment: &mut Environment,
    a: u64,
    rounding: Rounding,
    quietly: bool,
) -> u64 {
    let a = parts::<F>(environment, a);
    if a.is_nan() {
        return propagate::<F>(environment, &a, &a);
    }
    if a.kind != Kind::Finite || a.exponent >= 0 {
        return a.bits;
    }
    let (whole, lost, _) = round_off(rounding, a.negative, a.mantissa as u128, -a.exponent as u32);
    if lost && !quietly {
        environment.found |= INEXACT;
    }
    match whole {
        0 => signed::<F>(a.negative, 0),
        // A whole number of no more bits than the mantissa: exact.
        _ => pack::<F>(&mut environment.clone(), a.negative, 0, whole),
    }
}
