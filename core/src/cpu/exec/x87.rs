//! The x87 state. Its instructions are not executed yet; FNINIT's values are what a task switch or FXSAVE sees.

#[derive(Clone, Copy, Debug)]
pub struct X87 {
    pub control: u16,
    pub status: u16,
    /// Two bits a register, 3: empty.
    pub tag: u16,
    /// The 80-bit registers in physical order: significand, then sign and exponent.
    pub registers: [(u64, u16); 8],
}

impl Default for X87 {
    fn default() -> Self {
        X87 {
            control: 0x37f,
            status: 0,
            tag: 0xffff,
            registers: [(0, 0); 8],
        }
    }
}

impl X87 {
    /// Which of `registers` ST(`n`) is.
    pub fn physical(&self, n: usize) -> usize {
        (n + (self.status >> 11 & 7) as usize) & 7
    }
}
