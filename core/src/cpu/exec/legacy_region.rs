//! The image of x87 and SSE state in memory: what FXSAVE writes, and the legacy region of an XSAVE area (SDM vol. 1,
//! 10.5.1 and 13.4.1).

use crate::cpu::Cpu;
use crate::vmx::cpuid_features::feature;

/// The bits of MXCSR that exist; stored as MXCSR_MASK.
pub const MXCSR_MASK: u32 = 0xffff;

/// Places in the image.
const CONTROL: usize = 0;
const STATUS: usize = 2;
const TAGS: usize = 4;
const OPCODE: usize = 6;
const INSTRUCTION: usize = 8;
const OPERAND: usize = 16;
const MXCSR: usize = 24;
const MASK: usize = 28;
const STACK: usize = 32;
const VECTORS: usize = 160;

pub fn put<const N: usize>(image: &mut [u8], at: usize, bytes: [u8; N]) {
    image[at..at + N].copy_from_slice(&bytes);
}

pub fn take<const N: usize>(image: &[u8], at: usize) -> [u8; N] {
    let mut bytes = [0; N];
    bytes.copy_from_slice(&image[at..at + N]);
    bytes
}

fn word(image: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(take(image, at))
}

pub fn quad(image: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(take(image, at))
}

pub fn mxcsr(image: &[u8]) -> u32 {
    u32::from_le_bytes(take(image, MXCSR))
}

/// The offsets of instruction and operand: 64 bits with REX.W, else 32 bits and a selector, which is 0.
fn pointer_mask(wide: bool) -> u64 {
    if wide {
        !0
    } else {
        0xffff_ffff
    }
}

impl Cpu {
    pub fn put_x87(&self, image: &mut [u8], wide: bool) {
        let x87 = &self.x87;
        put(image, CONTROL, x87.control.to_le_bytes());
        put(image, STATUS, x87.status.to_le_bytes());
        put(image, TAGS, [x87.in_use(), 0]);
        put(image, OPCODE, x87.opcode.to_le_bytes());
        put(
            image,
            INSTRUCTION,
            (x87.instruction & pointer_mask(wide)).to_le_bytes(),
        );
        put(image, OPERAND, (x87.operand & pointer_mask(wide)).to_le_bytes());
        for n in 0..8 {
            let (significand, exponent) = x87.get(n);
            put(image, STACK + 16 * n, significand.to_le_bytes());
            put(image, STACK + 16 * n + 8, (exponent as u64).to_le_bytes());
        }
    }

    pub fn take_x87(&mut self, image: &[u8], wide: bool) {
        // The instruction pointer is held in as many bits as linear addresses have.
        let unused_bits = if self.profile.has(feature::LA57) { 7 } else { 16 };
        let x87 = &mut self.x87;
        x87.status = word(image, STATUS);
        x87.set_control(word(image, CONTROL));
        x87.opcode = word(image, OPCODE) & 0x7ff;
        let instruction = quad(image, INSTRUCTION) & pointer_mask(wide);
        x87.instruction = ((instruction << unused_bits) as i64 >> unused_bits) as u64;
        x87.operand = quad(image, OPERAND) & pointer_mask(wide);
        for n in 0..8 {
            x87.set(n, (quad(image, STACK + 16 * n), word(image, STACK + 16 * n + 8)));
        }
        x87.set_tags(|n| image[TAGS] >> n & 1 == 0);
    }

    pub fn put_mxcsr(&self, image: &mut [u8]) {
        put(image, MXCSR, self.mxcsr.to_le_bytes());
        put(image, MASK, MXCSR_MASK.to_le_bytes());
    }

    pub fn put_vectors(&self, image: &mut [u8], registers: usize) {
        for n in 0..registers {
            let [low, high] = self.xmm(n as u8);
            put(image, VECTORS + 16 * n, low.to_le_bytes());
            put(image, VECTORS + 16 * n + 8, high.to_le_bytes());
        }
    }

    pub fn take_vectors(&mut self, image: &[u8], registers: usize) {
        for n in 0..registers {
            let at = VECTORS + 16 * n;
            self.set_xmm(n as u8, [quad(image, at), quad(image, at + 8)]);
        }
    }

    /// The vector registers of the current mode.
    pub fn vector_registers(&self) -> usize {
        if self.long64() {
            16
        } else {
            8
        }
    }
}
