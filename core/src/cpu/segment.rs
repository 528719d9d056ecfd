//! Segment registers: the visible selector and the hidden descriptor, in the form the VMCS has them.

use std::ops::{Deref, DerefMut};

/// Access rights in the VMCS's format (SDM vol. 3, 26.4.1): type 3:0, S 4, DPL 6:5, P 7, AVL 12, L 13, D/B 14,
/// G 15, unusable 16.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub struct Rights(pub u32);

impl Rights {
    pub const UNUSABLE: Rights = Rights(1 << 16);

    /// From the second doubleword of a descriptor.
    pub fn from_descriptor(high: u32) -> Rights {
        Rights(high >> 8 & 0xf0ff)
    }
    pub fn kind(self) -> u32 {
        self.0 & 15
    }
    /// S = 1: a code or data segment, not a system descriptor.
    pub fn is_code_or_data(self) -> bool {
        self.0 >> 4 & 1 != 0
    }
    pub fn is_code(self) -> bool {
        self.is_code_or_data() && self.0 & 8 != 0
    }
    pub fn is_conforming(self) -> bool {
        self.is_code() && self.0 & 4 != 0
    }
    pub fn is_expand_down(self) -> bool {
        self.is_code_or_data() && self.0 & 12 == 4
    }
    pub fn is_readable(self) -> bool {
        self.is_code_or_data() && self.0 & 10 != 8
    }
    pub fn is_writable(self) -> bool {
        self.is_code_or_data() && self.0 & 10 == 2
    }
    pub fn dpl(self) -> u8 {
        (self.0 >> 5 & 3) as u8
    }
    pub fn present(self) -> bool {
        self.0 >> 7 & 1 != 0
    }
    pub fn long(self) -> bool {
        self.0 >> 13 & 1 != 0
    }
    /// D or B: 32-bit default operand size, stack or upper bound.
    pub fn big(self) -> bool {
        self.0 >> 14 & 1 != 0
    }
    pub fn granular(self) -> bool {
        self.0 >> 15 & 1 != 0
    }
    pub fn usable(self) -> bool {
        self.0 >> 16 & 1 == 0
    }
}

/// The segment registers, and whether one may have been written since `load`: VM exit saves them only then.
#[derive(Clone, Debug)]
pub struct Segments {
    registers: [Segment; 8],
    written: bool,
}

impl Segments {
    pub fn new(registers: [Segment; 8]) -> Segments {
        Segments {
            registers,
            written: true,
        }
    }

    /// Takes all of them from `segments`.
    #[inline(always)]
    pub fn load(&mut self, segments: &[Segment; 8]) {
        self.registers = *segments;
        self.written = false;
    }

    pub fn were_written(&self) -> bool {
        self.written
    }
}

impl Deref for Segments {
    type Target = [Segment; 8];

    #[inline(always)]
    fn deref(&self) -> &[Segment; 8] {
        &self.registers
    }
}

impl DerefMut for Segments {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut [Segment; 8] {
        self.written = true;
        &mut self.registers
    }
}

/// Indices into `Cpu::seg`, in the encoding's order; LDTR and TR follow.
pub const ES: usize = 0;
pub const CS: usize = 1;
pub const SS: usize = 2;
pub const DS: usize = 3;
pub const FS: usize = 4;
pub const GS: usize = 5;
pub const LDTR: usize = 6;
pub const TR: usize = 7;

#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub struct Segment {
    pub selector: u16,
    pub rights: Rights,
    /// In bytes, the last valid offset (granularity already applied).
    pub limit: u32,
    /// Linear address.
    pub base: u64,
}

impl Segment {
    /// What the hidden part becomes from an 8-byte descriptor.
    pub fn from_descriptor(selector: u16, descriptor: u64) -> Segment {
        let (low, high) = (descriptor as u32, (descriptor >> 32) as u32);
        let rights = Rights::from_descriptor(high);
        let raw = low & 0xffff | high & 0xf0000;
        Segment {
            selector,
            rights,
            limit: if rights.granular() { raw << 12 | 0xfff } else { raw },
            base: (low >> 16 | high & 0xff00_0000 | (high & 0xff) << 16) as u64,
        }
    }

    /// A segment of real-address mode.
    pub fn real(selector: u16) -> Segment {
        Segment {
            selector,
            rights: Rights(0x93),
            limit: 0xffff,
            base: (selector as u64) << 4,
        }
    }

    /// A segment of virtual-8086 mode.
    pub fn virtual_8086(selector: u16) -> Segment {
        Segment {
            rights: Rights(0xf3),
            ..Segment::real(selector)
        }
    }

    /// SS with a null selector, as 64-bit mode allows it: its DPL stays CPL, which is the selector's RPL.
    pub fn null_stack(selector: u16) -> Segment {
        Segment {
            rights: Rights(Rights::UNUSABLE.0 | (selector as u32 & 3) << 5),
            ..Segment::unusable(selector)
        }
    }

    /// A flat segment, such as SYSCALL and SYSENTER load without looking at a descriptor.
    pub fn flat(selector: u16, rights: u32) -> Segment {
        Segment {
            selector,
            rights: Rights(rights),
            limit: 0xffff_ffff,
            base: 0,
        }
    }

    /// Whether the bytes at offsets `first` to `last` lie within the limit (SDM vol. 3, 5.3).
    pub fn holds(&self, first: u64, last: u64) -> bool {
        if self.rights.is_expand_down() {
            let top = if self.rights.big() { 0xffff_ffff } else { 0xffff };
            first > self.limit as u64 && last <= top
        } else {
            last <= self.limit as u64
        }
    }

    pub fn unusable(selector: u16) -> Segment {
        Segment {
            selector,
            rights: Rights::UNUSABLE,
            limit: 0,
            base: 0,
        }
    }
}

/// GDTR or IDTR.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub struct TableRegister {
    /// Linear address.
    pub base: u64,
    pub limit: u16,
}
