//! The x87 state. Its instructions are not executed yet; FNINIT's values are what a task switch or FXSAVE sees.

/// Where an instruction or its operand was: an offset in a segment.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pointer {
    pub selector: u16,
    pub offset: u64,
}

#[derive(Clone, Copy, Debug)]
pub struct X87 {
    pub control: u16,
    pub status: u16,
    /// Two bits a register, 3: empty.
    pub tag: u16,
    /// The last instruction's: its lower eleven bits, its place and its operand's.
    pub opcode: u16,
    pub instruction: Pointer,
    pub operand: Pointer,
    /// The 80-bit registers in physical order: significand, then sign and exponent.
    pub registers: [(u64, u16); 8],
}

impl Default for X87 {
    fn default() -> Self {
        X87 {
            control: 0x37f,
            status: 0,
            tag: 0xffff,
            opcode: 0,
            instruction: Pointer::default(),
            operand: Pointer::default(),
            registers: [(0, 0); 8],
        }
    }
}

impl X87 {
    /// Which of `registers` ST(`n`) is.
    pub fn physical(&self, n: usize) -> usize {
        (n + (self.status >> 11 & 7) as usize) & 7
    }

    /// The tag of a register that is not empty, by its value: valid, zero or special.
    pub fn tag_of((significand, exponent): (u64, u16)) -> u16 {
        match (exponent & 0x7fff, significand) {
            (0, 0) => 1,
            (0 | 0x7fff, _) => 2,
            (_, significand) if significand >> 63 == 0 => 2,
            _ => 0,
        }
    }
}
