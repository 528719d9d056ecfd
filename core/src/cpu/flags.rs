//! RFLAGS. The six arithmetic flags are lazy: an instruction stores its result and its vector of carries, two
//! words, and a flag is computed only when something reads it.

use super::int::Int;

pub const CF: u64 = 1 << 0;
pub const PF: u64 = 1 << 2;
pub const AF: u64 = 1 << 4;
pub const ZF: u64 = 1 << 6;
pub const SF: u64 = 1 << 7;
pub const TF: u64 = 1 << 8;
pub const IF: u64 = 1 << 9;
pub const DF: u64 = 1 << 10;
pub const OF: u64 = 1 << 11;
pub const IOPL: u64 = 3 << 12;
pub const NT: u64 = 1 << 14;
pub const RF: u64 = 1 << 16;
pub const VM: u64 = 1 << 17;
pub const AC: u64 = 1 << 18;
pub const VIF: u64 = 1 << 19;
pub const VIP: u64 = 1 << 20;
pub const ID: u64 = 1 << 21;

/// The flags that arithmetic computes.
pub const ARITHMETIC: u64 = CF | PF | AF | ZF | SF | OF;
/// Every flag that exists; bit 1 reads as 1, all else as 0.
pub const DEFINED: u64 = ARITHMETIC | TF | IF | DF | IOPL | NT | RF | VM | AC | VIF | VIP | ID;

/// In `carries`: bit 63 is CF, bit 62 is CF xor OF, bit 3 is AF.
const CARRY: u64 = 1 << 63;
const CARRY_XOR_OVERFLOW: u64 = 1 << 62;
const ADJUST: u64 = 1 << 3;
const KEPT: u64 = CARRY | CARRY_XOR_OVERFLOW | ADJUST;
/// In `carries`: what SF and PF differ by from what `result` alone would say (a POPF can set any combination).
const SIGN_DELTA: u64 = 1 << 0;
const PARITY_DELTA: u64 = 1 << 8;

#[derive(Clone, Copy, Debug)]
pub struct Flags {
    /// The last result, sign-extended to 64 bits.
    pub result: u64,
    /// The carries out of each bit of it, normalised as above.
    pub carries: u64,
    /// Every flag that is not lazy, and bit 1.
    pub rest: u64,
}

impl Default for Flags {
    fn default() -> Self {
        let mut flags = Flags {
            result: 0,
            carries: 0,
            rest: 2,
        };
        flags.set(2);
        flags
    }
}

impl Flags {
    /// Takes the flags of `result`, whose bit *n* carried out (or borrowed) as bit *n* of `carries` says.
    #[inline(always)]
    pub fn arithmetic<T: Int>(&mut self, result: T, carries: T) {
        self.result = result.sign_extended();
        let carries = carries.to_u64();
        self.carries = if T::BITS == 64 {
            carries & KEPT
        } else {
            (carries << (64 - T::BITS)) & (CARRY | CARRY_XOR_OVERFLOW) | carries & ADJUST
        };
    }

    #[inline(always)]
    pub fn add<T: Int>(&mut self, a: T, b: T, result: T) {
        self.arithmetic(result, (a & b) | ((a | b) & !result));
    }

    /// For `result = a - b` (less a borrow, if there was one).
    #[inline(always)]
    pub fn sub<T: Int>(&mut self, a: T, b: T, result: T) {
        self.arithmetic(result, (!a & b) | ((!a | b) & result));
    }

    /// CF, OF and AF are cleared: the logical instructions.
    #[inline(always)]
    pub fn logic<T: Int>(&mut self, result: T) {
        self.result = result.sign_extended();
        self.carries = 0;
    }

    /// ZF, SF and PF from `result`; CF and OF as given; AF cleared where the SDM leaves it undefined.
    #[inline(always)]
    pub fn result_with<T: Int>(&mut self, result: T, carry: bool, overflow: bool) {
        self.result = result.sign_extended();
        self.carries = (carry as u64) << 63 | ((carry ^ overflow) as u64) << 62;
    }

    #[inline(always)]
    pub fn carry(&self) -> bool {
        self.carries >> 63 != 0
    }
    #[inline(always)]
    pub fn overflow(&self) -> bool {
        (self.carries ^ (self.carries << 1)) >> 63 != 0
    }
    #[inline(always)]
    pub fn zero(&self) -> bool {
        self.result == 0
    }
    #[inline(always)]
    pub fn sign(&self) -> bool {
        (self.result >> 63) ^ (self.carries & SIGN_DELTA) != 0
    }
    #[inline(always)]
    pub fn parity(&self) -> bool {
        ((self.result as u8) ^ ((self.carries / PARITY_DELTA) as u8)).count_ones() & 1 == 0
    }
    #[inline(always)]
    pub fn adjust(&self) -> bool {
        self.carries & ADJUST != 0
    }

    #[inline(always)]
    pub fn set_carry(&mut self, carry: bool) {
        self.set_carry_overflow(carry, self.overflow());
    }
    #[inline(always)]
    pub fn set_carry_overflow(&mut self, carry: bool, overflow: bool) {
        self.carries = self.carries & !(CARRY | CARRY_XOR_OVERFLOW)
            | (carry as u64) << 63
            | ((carry ^ overflow) as u64) << 62;
    }
    /// Sets ZF and leaves the other five as they are.
    pub fn set_zero(&mut self, zero: bool) {
        let flags = self.get();
        self.set(if zero { flags | ZF } else { flags & !ZF });
    }

    /// RFLAGS as software sees it.
    pub fn get(&self) -> u64 {
        self.rest
            | self.carry() as u64
            | (self.parity() as u64) << 2
            | (self.adjust() as u64) << 4
            | (self.zero() as u64) << 6
            | (self.sign() as u64) << 7
            | (self.overflow() as u64) << 11
    }

    /// Sets all of RFLAGS; bits that do not exist are dropped.
    pub fn set(&mut self, value: u64) {
        self.rest = value & DEFINED & !ARITHMETIC | 2;
        let bit = |flag: u64| value & flag != 0;
        self.result = !bit(ZF) as u64;
        // What `result` (0: even parity, 1: odd parity; positive) says of itself, against what is wanted.
        let parity_of_result = bit(ZF);
        self.carries = (bit(CF) as u64) << 63
            | ((bit(CF) ^ bit(OF)) as u64) << 62
            | (bit(AF) as u64) << 3
            | ((bit(PF) != parity_of_result) as u64) << 8
            | bit(SF) as u64;
    }

    #[inline(always)]
    pub fn has(&self, flag: u64) -> bool {
        self.rest & flag != 0
    }
    #[inline(always)]
    pub fn iopl(&self) -> u8 {
        (self.rest >> 12 & 3) as u8
    }

    /// The condition of Jcc, SETcc and CMOVcc (SDM vol. 1, appendix B), `CONDITION` being the opcode's low nibble.
    #[inline(always)]
    pub fn condition<const CONDITION: u8>(&self) -> bool {
        let holds = match CONDITION >> 1 {
            0 => self.overflow(),
            1 => self.carry(),
            2 => self.zero(),
            3 => self.carry() || self.zero(),
            4 => self.sign(),
            5 => self.parity(),
            6 => self.sign() != self.overflow(),
            _ => self.zero() || self.sign() != self.overflow(),
        };
        holds != (CONDITION & 1 != 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_combination_survives_a_round_trip() {
        for bits in 0..64u64 {
            let value = [CF, PF, AF, ZF, SF, OF]
                .iter()
                .enumerate()
                .filter(|(i, _)| bits >> i & 1 != 0)
                .fold(2, |all, (_, flag)| all | flag);
            let mut flags = Flags::default();
            flags.set(value);
            assert_eq!(flags.get(), value);
        }
    }

    #[test]
    fn addition_and_subtraction_of_bytes_agree_with_wide_arithmetic() {
        for a in 0..=255u8 {
            for b in 0..=255u8 {
                let mut flags = Flags::default();
                flags.add(a, b, a.wrapping_add(b));
                assert_eq!(flags.carry(), a as u16 + b as u16 > 255);
                assert_eq!(flags.overflow(), (a as i8).checked_add(b as i8).is_none());
                assert_eq!(flags.adjust(), (a & 15) + (b & 15) > 15);
                flags.sub(a, b, a.wrapping_sub(b));
                assert_eq!(flags.carry(), a < b);
                assert_eq!(flags.overflow(), (a as i8).checked_sub(b as i8).is_none());
                assert_eq!(flags.adjust(), a & 15 < b & 15);
                assert_eq!(flags.sign(), (a.wrapping_sub(b) as i8) < 0);
            }
        }
    }
}
