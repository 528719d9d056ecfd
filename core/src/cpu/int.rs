//! The four widths of an integer operand.

use std::fmt::Debug;
use std::ops::{BitAnd, BitOr, BitXor, Not};

/// An unsigned integer of 8, 16, 32 or 64 bits: what a general-purpose operand can be.
pub trait Int:
    Copy
    + Default
    + Debug
    + Eq
    + Ord
    + BitAnd<Output = Self>
    + BitOr<Output = Self>
    + BitXor<Output = Self>
    + Not<Output = Self>
    + 'static
{
    const BITS: u32;
    const BYTES: u64;

    fn to_u64(self) -> u64;
    /// Keeps the low bits.
    fn from_u64(value: u64) -> Self;
    fn sign_extended(self) -> u64;
    fn add(self, other: Self) -> Self;
    fn sub(self, other: Self) -> Self;
    /// `bytes` holds at least `BYTES` bytes from `at` on, or the answer is `None`.
    fn load(bytes: &[u8], at: usize) -> Option<Self>;
    /// False, and nothing is written, where `bytes` ends too early.
    fn store(self, bytes: &mut [u8], at: usize) -> bool;

    #[inline(always)]
    fn sign(self) -> bool {
        (self.sign_extended() as i64) < 0
    }
    #[inline(always)]
    fn zero() -> Self {
        Self::default()
    }
}

macro_rules! int {
    ($($unsigned:ty, $signed:ty;)*) => {$(
        impl Int for $unsigned {
            const BITS: u32 = <$unsigned>::BITS;
            const BYTES: u64 = (<$unsigned>::BITS / 8) as u64;

            #[inline(always)]
            fn to_u64(self) -> u64 {
                self as u64
            }
            #[inline(always)]
            fn from_u64(value: u64) -> Self {
                value as Self
            }
            #[inline(always)]
            fn sign_extended(self) -> u64 {
                self as $signed as i64 as u64
            }
            #[inline(always)]
            fn add(self, other: Self) -> Self {
                self.wrapping_add(other)
            }
            #[inline(always)]
            fn sub(self, other: Self) -> Self {
                self.wrapping_sub(other)
            }
            #[inline(always)]
            fn load(bytes: &[u8], at: usize) -> Option<Self> {
                let taken = bytes.get(at..)?.first_chunk()?;
                Some(Self::from_le_bytes(*taken))
            }
            #[inline(always)]
            fn store(self, bytes: &mut [u8], at: usize) -> bool {
                match bytes.get_mut(at..).and_then(|rest| rest.first_chunk_mut()) {
                    Some(place) => {
                        *place = self.to_le_bytes();
                        true
                    }
                    None => false,
                }
            }
        }
    )*};
}

int! {
    u8, i8;
    u16, i16;
    u32, i32;
    u64, i64;
}
