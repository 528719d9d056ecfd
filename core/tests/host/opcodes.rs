//! The encodings that lead to comparable instructions.

use std::collections::HashSet;

use iced_x86::{Code, Decoder, DecoderOptions, EncodingKind};

use super::random::Random;

/// Prefixes, map and opcode: what stands before ModRM.
#[derive(Clone, Copy, Debug)]
pub struct Opcode {
    vex: bool,
    /// 0: none, else 66, F3 or F2, which a VEX prefix holds as number.
    prefix: u8,
    wide: bool,
    /// VEX.L.
    long: bool,
    /// 0: one byte, 1: 0F, 2: 0F 38, 3: 0F 3A.
    map: u8,
    byte: u8,
}

const PREFIXES: [u8; 4] = [0, 0x66, 0xf3, 0xf2];
const MAPS: [&[u8]; 4] = [&[], &[0x0f], &[0x0f, 0x38], &[0x0f, 0x3a]];

impl Opcode {
    fn legacy() -> impl Iterator<Item = Opcode> {
        // Prefixes, escapes, and what begins a VEX prefix.
        let is_other = |map: u8, byte: u8| match map {
            0 => matches!(
                byte,
                0x0f | 0x26 | 0x2e | 0x36 | 0x3e | 0x64..=0x67 | 0xc4 | 0xc5 | 0xf0 | 0xf2 | 0xf3
            ),
            1 => matches!(byte, 0x38 | 0x3a),
            _ => false,
        };
        (0..4u16 << 11).filter_map(move |number| {
            let opcode = Opcode {
                vex: false,
                prefix: PREFIXES[(number & 3) as usize],
                wide: number & 4 != 0,
                long: false,
                map: (number >> 3 & 3) as u8,
                byte: (number >> 5) as u8,
            };
            (!is_other(opcode.map, opcode.byte)).then_some(opcode)
        })
    }

    fn vex() -> impl Iterator<Item = Opcode> {
        (0..3u16 << 12).map(|number| Opcode {
            vex: true,
            prefix: PREFIXES[(number & 3) as usize],
            wide: number & 4 != 0,
            long: number & 8 != 0,
            map: 1 + (number >> 12) as u8,
            byte: (number >> 4) as u8,
        })
    }

    /// Puts prefixes and opcode into `bytes`. `extension`: REX.R, X and B; `unused`: VEX.vvvv as it is encoded.
    fn put(&self, bytes: &mut Vec<u8>, bitness: u32, extension: u8, unused: u8) {
        if self.vex {
            let number = PREFIXES
                .iter()
                .position(|prefix| *prefix == self.prefix)
                .unwrap_or(0) as u8;
            let last = unused << 3 | (self.long as u8) << 2 | number;
            // The short form has map 1, no VEX.W and one extension.
            if extension & 8 != 0 && self.map == 1 && !self.wide {
                bytes.extend([0xc5, last | (!extension & 4) << 5, self.byte]);
            } else {
                let first = !extension << 5 | self.map;
                bytes.extend([0xc4, first, last | (self.wide as u8) << 7, self.byte]);
            }
            return;
        }
        if self.prefix != 0 {
            bytes.push(self.prefix);
        }
        if bitness == 64 && (self.wide || extension & 8 != 0) {
            bytes.push(0x40 | (self.wide as u8) << 3 | extension & 7);
        }
        bytes.extend(MAPS[self.map as usize]);
        bytes.push(self.byte);
    }

    /// An instruction with this opcode, if it is one, in 15 bytes.
    pub fn bytes(&self, random: &mut Random, bitness: u32) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(15);
        let unlikely = |random: &mut Random| random.below(24) == 0;
        if unlikely(random) {
            // Segments that are flat, and addresses of 32 bits in 64-bit mode.
            let last = if bitness == 64 { 0x67 } else { 0x3e };
            bytes.push(random.pick(&[0x26, 0x2e, 0x36, 0x3e, last]));
        }
        let mut extension = random.next() as u8 & 15;
        if self.vex && bitness == 32 {
            // They are part of the opcode of LDS and LES.
            extension &= 9;
        }
        let mut unused = random.pick(&[15, random.0 as u8 & 15]);
        if self.vex && bitness == 32 {
            unused |= 8;
        }
        self.put(&mut bytes, bitness, extension, unused);
        let modrm = random.next() as u8;
        bytes.push(match random.below(2) {
            0 => modrm | 0xc0,
            _ => modrm & 0x7f,
        });
        bytes.resize_with(15, || random.next() as u8);
        if self.map == 0 && self.byte == 0xc8 {
            // ENTER: a frame that the window has room for.
            let immediate = bytes.iter().position(|byte| *byte == 0xc8).unwrap_or(0) + 1;
            bytes[immediate + 1] = 0;
            bytes[immediate + 2] &= 0xe7;
        }
        bytes
    }

    /// The instructions that it can be, by its ModRM.
    fn codes(&self, bitness: u32) -> HashSet<Code> {
        let decoded = |modrm: u8, unused: u8| {
            let mut bytes = Vec::with_capacity(16);
            self.put(&mut bytes, bitness, 0, unused);
            // A memory operand may want a vector as index.
            bytes.extend([modrm, 0x8f, 0, 0, 0, 0, 0, 0]);
            let code = Decoder::new(bitness, &bytes, DecoderOptions::NONE)
                .decode()
                .code();
            let is_vex = code.encoding() == EncodingKind::VEX;
            (is_vex == self.vex).then_some(code)
        };
        let memory = (0..8).map(|reg| reg << 3 | 4);
        if self.vex {
            let registers = (0..8).map(|reg| reg << 3 | 0xc3);
            let modrms = memory.chain(registers);
            modrms
                .flat_map(|modrm| [15, 13].map(|unused| decoded(modrm, unused)))
                .flatten()
                .collect()
        } else {
            memory
                .chain(0xc0..=0xff)
                .filter_map(|modrm| decoded(modrm, 15))
                .collect()
        }
    }
}

/// All opcodes with what they can be.
pub fn all(bitness: u32) -> Vec<(Opcode, HashSet<Code>)> {
    Opcode::legacy()
        .filter(|opcode| bitness == 64 || !opcode.wide)
        .chain(Opcode::vex())
        .map(|opcode| (opcode, opcode.codes(bitness)))
        .collect()
}
