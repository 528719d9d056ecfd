//! Random instructions on random operands, and streams of them.

use std::collections::HashSet;

use iced_x86::{Code, Decoder, DecoderOptions, Instruction, Mnemonic, OpKind};

use super::masks;
use super::opcodes::{self, Opcode};
use super::place::{address_registers, astray, is_fixed, place, target};
use super::random::Random;
use super::state::*;

/// Makes instructions of some forms.
pub struct Generator {
    /// By code, whether it is asked for.
    wanted: Vec<bool>,
    /// What leads there in 32-bit and in 64-bit mode.
    opcodes: [Vec<Opcode>; 2],
}

/// All opcodes of both modes, with what they can be.
pub struct Encodings([Vec<(Opcode, HashSet<Code>)>; 2]);

impl Encodings {
    pub fn new() -> Encodings {
        Encodings([opcodes::all(32), opcodes::all(64)])
    }
}

impl Generator {
    /// None: there is no encoding of any of `wanted`.
    pub fn new(encodings: &Encodings, wanted: &HashSet<Code>) -> Option<Generator> {
        let leading = |all: &Vec<(Opcode, HashSet<Code>)>| {
            all.iter()
                .filter(|(_, codes)| !codes.is_disjoint(wanted))
                .map(|(opcode, _)| *opcode)
                .collect::<Vec<Opcode>>()
        };
        let opcodes = encodings.0.each_ref().map(leading);
        (!opcodes[1].is_empty()).then(|| Generator {
            wanted: Code::values().map(|code| wanted.contains(&code)).collect(),
            opcodes,
        })
    }

    /// 32 one time in four, where there is such an instruction.
    pub fn bitness(&self, random: &mut Random) -> u32 {
        if random.below(4) == 0 && !self.opcodes[0].is_empty() {
            32
        } else {
            64
        }
    }

    /// An instruction that begins at `ip`, and its bytes.
    fn instruction(&self, random: &mut Random, bitness: u32, ip: u64) -> (Vec<u8>, Instruction) {
        let opcodes = &self.opcodes[(bitness == 64) as usize];
        loop {
            let mut bytes = opcodes[random.below(opcodes.len() as u64) as usize].bytes(random, bitness);
            let mut decoder = Decoder::with_ip(bitness, &bytes, ip, DecoderOptions::NONE);
            let mut insn = decoder.decode();
            if !self.wanted[insn.code() as usize] || is_elsewhere(&insn) {
                continue;
            }
            let offsets = decoder.get_constant_offsets(&insn);
            if is_fixed(&insn) && offsets.displacement_size() >= 4 {
                let mut displacement = target(random);
                if insn.memory_base().is_ip() {
                    displacement = displacement.wrapping_sub(insn.next_ip());
                }
                let size = offsets.displacement_size();
                bytes[offsets.displacement_offset()..][..size]
                    .copy_from_slice(&displacement.to_le_bytes()[..size]);
                insn = Decoder::with_ip(bitness, &bytes, ip, DecoderOptions::NONE).decode();
            }
            bytes.truncate(insn.len());
            // LOCK is an invalid opcode before most instructions. It moves what RIP-relative addresses count from.
            if random.below(16) == 0 && bytes.len() < 15 && !insn.memory_base().is_ip() {
                bytes.insert(0, 0xf0);
            }
            return (bytes, insn);
        }
    }

    /// An instruction whose memory accesses lie within the window.
    pub fn case(&self, random: &mut Random, bitness: u32) -> (Case, Instruction) {
        loop {
            let (bytes, insn) = self.instruction(random, bitness, CODE + ENTRY);
            let flags = flags(random);
            let mut state = state(random, flags);
            if random.below(4) == 0 {
                state.flags |= DF;
            }
            if !place(&insn, &mut state, random) {
                continue;
            }
            let mut memory = memory(random);
            if matches!(
                insn.mnemonic(),
                Mnemonic::Popf | Mnemonic::Popfd | Mnemonic::Popfq
            ) {
                // Not TF.
                let flags = random.next() & FLAGS;
                let top = (state.regs[4] - WINDOW) as usize;
                if let Some(stack) = memory.get_mut(top..top + 8) {
                    stack.copy_from_slice(&flags.to_le_bytes());
                }
            }
            let case = Case {
                bitness,
                bytes,
                state: in_mode(state, bitness),
                memory,
            };
            return (case, insn);
        }
    }

    /// About `length` instructions in a row, with near branches forward among them. What an instruction addresses is set
    /// up by MOVs before it, and flags that it may leave undefined are set by a CMP after it.
    pub fn stream(&self, random: &mut Random, bitness: u32, length: usize) -> Case {
        let mut bytes = Vec::new();
        let flags = flags(random);
        for _ in 0..length {
            if random.below(5) == 0 {
                self.skip(random, bitness, flags, &mut bytes);
            }
            self.item(random, bitness, flags, &mut bytes);
        }
        assert!(bytes.len() <= MOST_BYTES);
        Case {
            bitness,
            bytes,
            state: in_mode(state(random, flags), bitness),
            memory: memory(random),
        }
    }

    fn item(&self, random: &mut Random, bitness: u32, flags: u64, bytes: &mut Vec<u8>) {
        loop {
            // MOVs of 64 bits have ten bytes, so the address is not known yet: it is that of the last try.
            let mut setting = Vec::new();
            let seed = random.next();
            for _ in 0..2 {
                let ip = CODE + ENTRY + (bytes.len() + setting.len()) as u64;
                let mut random = Random(seed);
                let (instruction, insn) = self.instruction(&mut random, bitness, ip);
                let mut state = state(&mut random, flags);
                let is_invalid = Decoder::new(bitness, &instruction, DecoderOptions::NONE)
                    .decode()
                    .is_invalid();
                // Few streams are to end early.
                if is_invalid
                    || insn.is_privileged()
                    || is_open(&insn)
                    || !place(&insn, &mut state, &mut random)
                {
                    break;
                }
                let addresses = address_registers(&insn);
                let moves = addresses.len() * move_immediate(0, 0, bitness).len();
                if moves != setting.len() {
                    setting.resize(moves, 0);
                    continue;
                }
                for register in addresses {
                    bytes.extend(move_immediate(register, state.regs[register], bitness));
                }
                bytes.extend(instruction);
                if masks::may_leave_flags_undefined(&insn) {
                    bytes.extend(COMPARE_AL_AH);
                }
                return;
            }
        }
    }

    /// A branch over an item, or into the place where it would be anyway.
    fn skip(&self, random: &mut Random, bitness: u32, flags: u64, bytes: &mut Vec<u8>) {
        const STACK: usize = 4;
        let kind = random.below(8);
        let condition = random.next() as u8 & 15;
        if kind >= 6 {
            bytes.extend(move_immediate(STACK, WINDOW + 0x200, bitness));
        }
        let (opcode, wide): (&[u8], bool) = match kind {
            0 | 1 => (&[0x70 | condition], false),
            2 => (&[0x0f, 0x80 | condition], true),
            // LOOPNE, LOOPE, LOOP, JRCXZ.
            3 => (&[0xe0 | condition & 3], false),
            4 => (&[0xeb], false),
            5 => (&[0xe9], true),
            6 => (&[0xe8], true),
            // PUSH of the address, RET.
            _ => (&[0x68], true),
        };
        let is_return = opcode == [0x68];
        let start = bytes.len();
        bytes.extend(opcode);
        bytes.extend(&[0; 4][..if wide { 4 } else { 1 }]);
        if is_return {
            bytes.push(0xc3);
        }
        let after = bytes.len();
        self.item(random, bitness, flags, bytes);
        let distance = (bytes.len() - after) as u32;
        let place = &mut bytes[start + opcode.len()..];
        if is_return {
            let target = (CODE + ENTRY) as u32 + after as u32 + distance;
            place[..4].copy_from_slice(&target.to_le_bytes());
        } else if wide {
            place[..4].copy_from_slice(&distance.to_le_bytes());
        } else {
            place[0] = distance as u8;
        }
    }
}

/// It changes no register.
const COMPARE_AL_AH: [u8; 2] = [0x38, 0xe0];

/// MOV of an immediate to a whole register.
fn move_immediate(register: usize, value: u64, bitness: u32) -> Vec<u8> {
    let opcode = 0xb8 | register as u8 & 7;
    if bitness == 32 {
        return [&[opcode], &value.to_le_bytes()[..4]].concat();
    }
    [&[0x48 | register as u8 >> 3, opcode], &value.to_le_bytes()[..]].concat()
}

/// What a stream cannot have: results that the SDM leaves open, vectors of addresses, any flags from the stack.
fn is_open(insn: &Instruction) -> bool {
    use Mnemonic::*;
    masks::has_open_result(insn) || insn.is_vsib() || matches!(insn.mnemonic(), Popf | Popfd | Popfq)
}

/// What works on state that the cases do not have: segments, control registers.
fn is_elsewhere(insn: &Instruction) -> bool {
    let elsewhere = |operand| {
        let register = insn.op_register(operand);
        insn.op_kind(operand) == OpKind::Register
            && (register.is_segment_register() || register.is_cr() || register.is_dr())
    };
    (0..insn.op_count()).any(elsewhere)
}

pub fn in_mode(mut state: State, bitness: u32) -> State {
    if bitness == 32 {
        state.regs = state.regs.map(|value| value & 0xffff_ffff);
    }
    state
}

pub fn memory(random: &mut Random) -> [u8; WINDOW_BYTES] {
    let mut memory = [0; WINDOW_BYTES];
    for chunk in memory.chunks_mut(16) {
        for (word, value) in chunk.chunks_mut(8).zip(random.vector()) {
            word.copy_from_slice(&value.to_le_bytes());
        }
    }
    memory
}

/// At times misaligned accesses are exceptions.
pub fn flags(random: &mut Random) -> u64 {
    0x202 | random.next() & ARITHMETIC | random.pick(&[AC, 0, 0, 0, 0, 0, 0, 0])
}

pub fn state(random: &mut Random, flags: u64) -> State {
    let mut regs = [0; 16];
    regs.fill_with(|| random.value());
    // A stack in the window.
    regs[4] = WINDOW + 0x200 + random.below(16) + astray(flags, random);
    let mut ymm = [[0; 4]; 16];
    ymm.fill_with(|| {
        let (low, high) = (random.vector(), random.vector());
        [low[0], low[1], high[0], high[1]]
    });
    let (any_masks, any_flags) = (random.next() & 0x1f80, random.next() & 0x3f);
    let (unmasked, noted) = (
        random.pick(&[0, 0, 0, any_masks]),
        random.pick(&[0, 0, 0x20, any_flags]),
    );
    State {
        regs,
        ymm,
        flags,
        // Any rounding, at times FTZ and DAZ, at times exceptions that are noted already or not masked.
        mxcsr: 0x1f80 & !unmasked
            | random.below(4) << 13
            | random.pick(&[0, 0, 0, 0x40, 0x8000, 0x8040])
            | noted,
        x87: x87(random),
    }
}

/// Any rounding and precision, at times exceptions that are not masked, noted already or pending, empty registers.
pub fn x87(random: &mut Random) -> X87 {
    let any_masks = random.next() as u16 & 0x3f;
    let control = 0x40 | random.pick(&[0x3f, 0x3f, any_masks]) | (random.next() as u16 & 0xf00);
    let any_flags = random.next() as u16 & 0x7f;
    let mut status = random.next() as u16 & 0x7f00 | random.pick(&[0, 0, 0, any_flags]);
    if random.below(8) != 0 {
        // Not pending.
        status &= control | !0x3f;
    }
    if status & !control & 0x3f != 0 {
        status |= 0x8080;
    }
    let any_tags = random.next() as u16 & 0xff;
    let mut registers = [[0; 2]; 8];
    for register in &mut registers {
        *register = random.extended();
    }
    X87 {
        control,
        status,
        tags: random.pick(&[0xff, 0xff, 0x7f, any_tags]),
        opcode: random.next() as u16 & 0x7ff,
        instruction: 0x1234_5678,
        operand: 0x8765_4321,
        unused: 0xffff_0000_1f80,
        registers,
    }
}
