//! What a case starts from and ends in, and where its memory lies: the same linear addresses on both sides.

/// The page that the code is in.
pub const CODE: u64 = 0x1000_0000;
/// Two pages of data; cases use the window in their middle.
pub const DATA: u64 = CODE + 0x1000;
pub const WINDOW: u64 = DATA + 0xe00;
pub const WINDOW_BYTES: usize = 0x400;
/// Where the native side keeps its context.
pub const CONTEXT: u64 = DATA + 0x2000;
pub const PAGES: u64 = 4;
/// So much further nothing is mapped.
pub const NOWHERE: u64 = 0x1000_0000;

/// Where in the code page the instructions of a case begin, and how many bytes they may have.
pub const ENTRY: u64 = 0x400;
pub const MOST_BYTES: usize = 0x900;

/// CF, PF, AF, ZF, SF and OF.
pub const CF: u64 = 1 << 0;
pub const PF: u64 = 1 << 2;
pub const AF: u64 = 1 << 4;
pub const ZF: u64 = 1 << 6;
pub const SF: u64 = 1 << 7;
pub const OF: u64 = 1 << 11;
pub const ARITHMETIC: u64 = CF | PF | AF | ZF | SF | OF;
pub const DF: u64 = 1 << 10;
pub const NT: u64 = 1 << 14;
pub const AC: u64 = 1 << 18;
pub const ID: u64 = 1 << 21;
/// The flags that a program at privilege level 3 can change, but for TF and RF.
pub const FLAGS: u64 = ARITHMETIC | DF | NT | AC | ID;

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
#[derive(Clone, Copy, Default, PartialEq, Debug)]
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

#[derive(Clone, PartialEq, Debug)]
pub struct Case {
    /// 64, or 32 for compatibility mode.
    pub bitness: u32,
    pub bytes: Vec<u8>,
    pub state: State,
    pub memory: [u8; WINDOW_BYTES],
}

impl Case {
    /// The address that follows the last instruction.
    pub fn end(&self) -> u64 {
        CODE + ENTRY + self.bytes.len() as u64
    }
}

#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Fault {
    pub vector: u8,
    /// Of exceptions that have one.
    pub error: Option<u32>,
    /// CR2 of a page fault.
    pub address: Option<u64>,
    /// What the handler would return to.
    pub rip: u64,
}

impl Fault {
    pub fn new(vector: u8, error: u32, address: u64, rip: u64) -> Fault {
        Fault {
            vector,
            error: matches!(vector, 8 | 10..=14 | 17 | 21).then_some(error),
            address: (vector == 14).then_some(address),
            rip,
        }
    }
}

/// How it ended: all registers and the window, at the end of the instructions or as an exception found them.
#[derive(Clone, PartialEq, Debug)]
pub struct Outcome {
    pub fault: Option<Fault>,
    pub state: State,
    pub memory: [u8; WINDOW_BYTES],
}
