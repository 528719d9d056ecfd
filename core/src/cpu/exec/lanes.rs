//! Lanes of vectors. Loops of a constant number of rounds, for the compiler to unroll.

use crate::cpu::int::Int;

/// 128 bits, low quadword first: an XMM register, or half of a YMM register.
pub type Xmm = [u64; 2];
/// A YMM register, low half first.
pub type Ymm = [Xmm; 2];

#[inline(always)]
pub fn lane<T: Int>(value: Xmm, number: u32) -> T {
    let per_half = 64 / T::BITS;
    T::from_u64(value[(number / per_half) as usize & 1] >> (number % per_half * T::BITS))
}

#[inline(always)]
pub fn set_lane<T: Int>(value: &mut Xmm, number: u32, to: T) {
    let per_half = 64 / T::BITS;
    let shift = number % per_half * T::BITS;
    let half = &mut value[(number / per_half) as usize & 1];
    *half = *half & !(T::from_u64(!0).to_u64() << shift) | to.to_u64() << shift;
}

/// How many lanes of `T` 128 bits have.
pub const fn lanes<T: Int>() -> u32 {
    128 / T::BITS
}

/// A vector of which lane `n` is `f(n)`.
#[inline(always)]
pub fn build<T: Int>(f: impl Fn(u32) -> T) -> Xmm {
    let mut result = [0; 2];
    for number in 0..lanes::<T>() {
        set_lane(&mut result, number, f(number));
    }
    result
}

#[inline(always)]
pub fn map<T: Int>(a: Xmm, f: impl Fn(T) -> T) -> Xmm {
    build(|number| f(lane(a, number)))
}

#[inline(always)]
pub fn zip<T: Int>(a: Xmm, b: Xmm, f: impl Fn(T, T) -> T) -> Xmm {
    build(|number| f(lane(a, number), lane(b, number)))
}

#[inline(always)]
pub fn halves(a: Xmm, b: Xmm, f: impl Fn(u64, u64) -> u64) -> Xmm {
    [f(a[0], b[0]), f(a[1], b[1])]
}

/// Lane `number` of all that a YMM register has.
#[inline(always)]
pub fn wide_lane<T: Int>(value: Ymm, number: u32) -> T {
    lane(value[(number / lanes::<T>()) as usize & 1], number % lanes::<T>())
}

#[inline(always)]
pub fn set_wide_lane<T: Int>(value: &mut Ymm, number: u32, to: T) {
    let half = &mut value[(number / lanes::<T>()) as usize & 1];
    set_lane(half, number % lanes::<T>(), to);
}
