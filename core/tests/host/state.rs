//! What a case starts from and ends in, and where its memory lies: the same linear addresses on both sides.

/// The page that the instruction is in.
pub const CODE: u64 = 0x1000_0000;
/// Two pages of data; cases use the window in their middle.
pub const DATA: u64 = CODE + 0x1000;
pub const WINDOW: u64 = DATA + 0xe00;
pub const WINDOW_BYTES: usize = 0x400;
/// Where the native side keeps its context.
pub const CONTEXT: u64 = DATA + 0x2000;
pub const PAGES: u64 = 4;

/// Where in the code page the instruction is.
pub const ENTRY: u64 = 0x400;

/// The registers that user-mode instructions compute with. The layout is what the native trampoline expects.
#[derive(Clone, Copy, PartialEq, Debug)]
#[repr(C, align(16))]
pub struct State {
    /// In the encoding's order.
    pub regs: [u64; 16],
    pub ymm: [[u64; 4]; 16],
    pub flags: u64,
    pub mxcsr: u64,
    pub x87: X87,
}

/// The x87 state, as FXSAVE64 lays it out.
#[derive(Clone, Copy, PartialEq, Debug)]
#[repr(C, align(16))]
pub struct X87 {
    pub control: u16,
    pub status: u16,
    /// One bit a register, in physical order: not empty.
    pub tags: u16,
    pub opcode: u16,
    pub instruction: u64,
    pub operand: u64,
    /// MXCSR and its mask; not looked at.
    pub unused: u64,
    /// ST(0) to ST(7): significand, then sign and exponent.
    pub registers: [[u64; 2]; 8],
}

#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Case {
    /// 64, or 32 for compatibility mode.
    pub bitness: u32,
    pub bytes: [u8; 15],
    pub length: usize,
    pub state: State,
    pub memory: [u8; WINDOW_BYTES],
}

/// How it ended: the state and the window afterwards, or the exception's vector and MXCSR.
#[derive(Clone, PartialEq, Debug)]
pub enum Outcome {
    Completed(Box<End>),
    Fault(u8, u64),
}

#[derive(Clone, Copy, PartialEq, Debug)]
pub struct End {
    pub state: State,
    pub memory: [u8; WINDOW_BYTES],
}
