//! Random numbers, and values of which the interesting ones come often.

/// SplitMix64.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }
    pub fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }
    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize]
    }
    /// A value of which edges are as likely as anything else.
    pub fn value(&mut self) -> u64 {
        match self.below(8) {
            0 => self.below(4),
            1 => self.next() >> 32,
            2 => self.next() & 0xff,
            3 => 0u64.wrapping_sub(self.below(4)),
            4 => (1u64 << self.below(64)).wrapping_sub(self.below(2)),
            5 => self.pick(&[
                0x8000_0000,
                0x7fff_ffff,
                1 << 63,
                i64::MAX as u64,
                0xffff_ffff,
                0x8080_8080_8080_8080,
            ]),
            _ => self.next(),
        }
    }
    pub fn single(&mut self) -> u32 {
        match self.below(6) {
            0 => self.pick(&[
                0,
                0x8000_0000,
                0x3f80_0000,
                0xbf80_0000,
                0x7f80_0000,
                0xff80_0000,
                0x7fc0_0000,
                0x7f80_0001,
                0xffc1_2345,
                1,
                0x807f_ffff,
                0x0080_0000,
                0x7f7f_ffff,
                0x4f00_0000,
                0xcf00_0000,
                0x4eff_ffff,
                0x5f00_0000,
                0x3f00_0000,
                0x3fc0_0000,
                0x4020_0000,
            ]),
            1 => ((self.below(2000) as i64 - 1000) as f32 / 4.0).to_bits(),
            2 => (self.next() as u32) & 0x807f_ffff | (self.below(3) as u32) << 23,
            3 => (self.next() as u32) & 0x80ff_ffff | 0x3f00_0000,
            4 => (self.next() as u32) & 0x83ff_ffff | 0x4c00_0000,
            _ => self.next() as u32,
        }
    }
    pub fn double(&mut self) -> u64 {
        match self.below(6) {
            0 => (f32::from_bits(self.single()) as f64).to_bits(),
            1 => ((self.below(2000) as i64 - 1000) as f64 / 4.0).to_bits(),
            2 => self.next() & 0x800f_ffff_ffff_ffff | self.below(3) << 52,
            3 => self.next() & 0x801f_ffff_ffff_ffff | 0x3fe0_0000_0000_0000,
            4 => self.next() & 0x80ff_ffff_ffff_ffff | 0x4300_0000_0000_0000,
            _ => self.pick(&[
                0,
                1 << 63,
                1,
                0x7ff0 << 48,
                0xfff0 << 48,
                0x7ff8 << 48,
                0x7ff0_0000_0000_0001,
                0xfff8_0000_1234_5678,
                0x41e0_0000_0000_0000,
                0xc1e0_0000_0000_0000,
                0x43e0_0000_0000_0000,
                0x000f_ffff_ffff_ffff,
                0x0010 << 48,
                0x7fef_ffff_ffff_ffff,
                0x36a0_0000_0000_0000,
                0x3690_0000_0000_0000,
                0x47ef_ffff_f000_0000,
            ]),
        }
    }
    /// An 80-bit value: near others, at the ends of the range, special, unsupported, a single, a double, an integer.
    pub fn extended(&mut self) -> [u64; 2] {
        let sign = self.next() & 0x8000;
        let significand = match self.below(4) {
            0 => 1 << 63 | self.next() & !0 << self.below(64),
            1 => self.pick(&[
                1 << 63,
                3 << 62,
                !0,
                (1 << 63) + 1,
                (1 << 62) + 5,
                (1 << 63) - 1,
                1,
                0,
            ]),
            _ => 1 << 63 | self.next(),
        };
        let exponent = match self.below(12) {
            0 => 0,
            1 => 0x7fff,
            2 => 0x7ffe - self.below(70),
            3 => 1 + self.below(70),
            4 => self.next() & 0x7fff,
            5 => 0x3fff + 63 + self.below(4) - 2,
            6 => 0x3fff - 1022 - self.below(60),
            7 => 0x3fff - 126 - self.below(30),
            8 => 0x3fff + self.pick(&[127, 128, 1023, 1024]),
            _ => 0x3fff + self.below(140) - 70,
        };
        if self.below(10) == 0 {
            return [0, sign];
        }
        [significand, sign | exponent]
    }
    /// A vector register's half: packed integers, singles or doubles.
    pub fn vector(&mut self) -> [u64; 2] {
        let kind = self.below(3);
        [(); 2].map(|()| match kind {
            0 => self.value(),
            1 => (self.single() as u64) << 32 | self.single() as u64,
            _ => self.double(),
        })
    }
}
