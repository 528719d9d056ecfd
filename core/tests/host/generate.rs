//! Random instructions on random operands.

use std::collections::HashSet;

use _core::cpu::decode::Flow;
use _core::cpu::exec::GROUPS;
use iced_x86::{Code, Decoder, DecoderOptions, Instruction, Mnemonic, OpKind, Register};

use super::feature_names;
use super::state::*;

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
    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize]
    }
    /// A value of which edges are as likely as anything else.
    fn value(&mut self) -> u64 {
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
    fn single(&mut self) -> u32 {
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
    fn double(&mut self) -> u64 {
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
    fn extended(&mut self) -> [u64; 2] {
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
    fn vector(&mut self) -> [u64; 2] {
        let kind = self.below(3);
        [(); 2].map(|()| match kind {
            0 => self.value(),
            1 => (self.single() as u64) << 32 | self.single() as u64,
            _ => self.double(),
        })
    }
}

/// Any rounding and precision, at times exceptions that are not masked, noted already or pending, empty registers.
fn x87(random: &mut Random) -> X87 {
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

/// Which instructions are asked for.
pub struct Generator {
    known: HashSet<Code>,
    /// The VEX-encoded ones among them, as `vex_opcodes` gives them.
    vex: Vec<[u8; 3]>,
}

/// Not comparable in user mode, or not with random operands; they have tests of their own.
const LEFT_OUT: &[Mnemonic] = &[
    // Any flag that software may set, TF among them; any amount of stack.
    Mnemonic::Popf,
    Mnemonic::Popfd,
    Mnemonic::Popfq,
    Mnemonic::Enter,
    // Depend on the processor's make: approximations, time, random numbers, identity, system registers.
    Mnemonic::Rcpps,
    Mnemonic::Rcpss,
    Mnemonic::Rsqrtps,
    Mnemonic::Rsqrtss,
    Mnemonic::Vrcpps,
    Mnemonic::Vrcpss,
    Mnemonic::Vrsqrtps,
    Mnemonic::Vrsqrtss,
    Mnemonic::Rdtsc,
    Mnemonic::Rdtscp,
    Mnemonic::Rdrand,
    Mnemonic::Rdseed,
    Mnemonic::Rdpid,
    Mnemonic::Cpuid,
    Mnemonic::Sgdt,
    Mnemonic::Sidt,
    Mnemonic::Sldt,
    Mnemonic::Str,
    Mnemonic::Smsw,
    Mnemonic::Lar,
    Mnemonic::Lsl,
    Mnemonic::Verr,
    Mnemonic::Verw,
    Mnemonic::Rdfsbase,
    Mnemonic::Rdgsbase,
    Mnemonic::Wrfsbase,
    Mnemonic::Wrgsbase,
    Mnemonic::Lds,
    Mnemonic::Les,
    Mnemonic::Bound,
    Mnemonic::Into,
    Mnemonic::Xgetbv,
    Mnemonic::Rdpmc,
    Mnemonic::Lfs,
    Mnemonic::Lgs,
    Mnemonic::Lss,
    Mnemonic::Arpl,
    // All of the extended state, in images that random bytes are not.
    Mnemonic::Xsave,
    Mnemonic::Xsave64,
    Mnemonic::Xsaveopt,
    Mnemonic::Xsaveopt64,
    Mnemonic::Xsavec,
    Mnemonic::Xsavec64,
    Mnemonic::Xsaves,
    Mnemonic::Xsaves64,
    Mnemonic::Xrstor,
    Mnemonic::Xrstor64,
    Mnemonic::Xrstors,
    Mnemonic::Xrstors64,
];

impl Generator {
    /// `only`: names of mnemonics or features, between commas; none means all.
    pub fn new(only: &str) -> Generator {
        let mnemonics: HashSet<Mnemonic> = GROUPS
            .iter()
            .flat_map(|group| group.iter())
            .filter(|(mnemonic, _, flow)| *flow == Flow::Next && !LEFT_OUT.contains(mnemonic))
            .map(|(mnemonic, ..)| *mnemonic)
            .collect();
        let wanted: Vec<&str> = only.split(',').filter(|name| !name.is_empty()).collect();
        let is_wanted = |code: &Code| {
            let mnemonic = format!("{:?}", code.mnemonic());
            let features = feature_names(*code);
            let mut names = features.split(" + ").chain([mnemonic.as_str()]);
            wanted.is_empty() || names.any(|name| wanted.iter().any(|one| one.eq_ignore_ascii_case(name)))
        };
        let known: HashSet<Code> = Code::values()
            .filter(|code| mnemonics.contains(&code.mnemonic()) && is_wanted(code))
            .collect();
        assert!(!known.is_empty(), "nothing that can be compared is called {only}");
        Generator {
            vex: vex_opcodes(&known),
            known,
        }
    }

    /// Some forms are so few among all opcodes that they would hardly ever come: PCMPESTRM to PCMPISTRI, AES, PCLMULQDQ,
    /// SHA.
    fn rare(&self, random: &mut Random) -> Vec<u8> {
        const OPCODES: [(&[u8], u8, u8, u64); 6] = [
            (&[0x66], 0x38, 0xdb, 5),
            (&[0x66], 0x3a, 0x60, 4),
            (&[0x66], 0x3a, 0x44, 1),
            (&[0x66], 0x3a, 0xdf, 1),
            (&[], 0x38, 0xc8, 6),
            (&[], 0x3a, 0xcc, 1),
        ];
        let (prefix, map, first, count) = random.pick(&OPCODES);
        let rex = 0x40 | random.next() as u8 & 15;
        [prefix, &[rex, 0x0f, map, first + random.below(count) as u8]].concat()
    }

    fn x87_bytes(&self, random: &mut Random) -> Vec<u8> {
        let mut bytes = vec![0xd8 | random.next() as u8 & 7];
        let modrm = random.next() as u8;
        bytes.push(if random.below(2) == 0 {
            modrm | 0xc0
        } else {
            modrm & 0x7f
        });
        bytes.resize_with(15, || random.next() as u8);
        bytes
    }

    /// A VEX prefix and an opcode. The register that is often unused is so half of the time.
    fn vex_bytes(&self, random: &mut Random) -> Vec<u8> {
        let [map, last, opcode] = random.pick(&self.vex);
        let unused = match random.below(2) {
            0 => 0x78,
            _ => random.next() as u8 & 0x78,
        };
        // The short form has map 1, no VEX.W and no register beyond 7 but one.
        if map == 1 && last & 0x80 == 0 && random.below(4) == 0 {
            return vec![0xc5, last | unused | random.next() as u8 & 0x80, opcode];
        }
        vec![0xc4, random.next() as u8 & 0xe0 | map, last | unused, opcode]
    }

    fn bytes(&self, random: &mut Random, bitness: u32) -> Vec<u8> {
        let mut bytes = Vec::new();
        match random.below(16) {
            0..=3 => return self.x87_bytes(random),
            4..=7 if !self.vex.is_empty() => bytes = self.vex_bytes(random),
            8 if bitness == 64 && random.below(4) == 0 => bytes = self.rare(random),
            _ => {
                match random.below(8) {
                    0..=1 => bytes.push(0x66),
                    2 => bytes.push(0xf3),
                    3 => bytes.push(0xf2),
                    _ => {}
                }
                if bitness == 64 && random.below(2) == 0 {
                    bytes.push(0x40 | random.next() as u8 & 15);
                }
                match random.below(10) {
                    0..=3 => {}
                    4..=7 => bytes.push(0x0f),
                    8 => bytes.extend([0x0f, 0x38]),
                    _ => bytes.extend([0x0f, 0x3a]),
                }
                bytes.push(random.next() as u8);
            }
        }
        let modrm = random.next() as u8;
        bytes.push(if random.below(2) == 0 {
            modrm | 0xc0
        } else {
            modrm & 0x7f
        });
        while bytes.len() < 15 {
            bytes.push(random.next() as u8);
        }
        bytes
    }

    /// A case whose memory accesses lie within the window.
    pub fn case(&self, random: &mut Random, bitness: u32) -> (Case, Instruction) {
        loop {
            let bytes = self.bytes(random, bitness);
            let mut insn = Instruction::default();
            Decoder::with_ip(bitness, &bytes, CODE + ENTRY, DecoderOptions::NONE).decode_out(&mut insn);
            if !self.known.contains(&insn.code()) || is_elsewhere(&insn) {
                continue;
            }
            let mut case = Case {
                bitness,
                bytes: [0; 15],
                length: insn.len(),
                state: self.state(random),
                memory: [0; WINDOW_BYTES],
            };
            case.bytes.copy_from_slice(&bytes);
            for chunk in case.memory.chunks_mut(16) {
                for (word, value) in chunk.chunks_mut(8).zip(random.vector()) {
                    word.copy_from_slice(&value.to_le_bytes());
                }
            }
            let placed = self.place(&insn, &mut case.state, random);
            if bitness == 32 {
                case.state.regs = case.state.regs.map(|value| value & 0xffff_ffff);
            }
            if placed {
                // LOCK is an invalid opcode before most instructions.
                if random.below(16) == 0 && case.length < 15 {
                    case.bytes.rotate_right(1);
                    case.bytes[0] = 0xf0;
                    case.length += 1;
                }
                return (case, insn);
            }
        }
    }

    fn state(&self, random: &mut Random) -> State {
        let arithmetic = 0x8d5;
        let mut regs = [0; 16];
        regs.fill_with(|| random.value());
        // A stack in the window.
        regs[4] = WINDOW + 0x200 + random.below(16);
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
            flags: 0x202 | random.next() & arithmetic,
            // Any rounding, at times FTZ and DAZ, at times exceptions that are noted already or not masked.
            mxcsr: 0x1f80 & !unmasked
                | random.below(4) << 13
                | random.pick(&[0, 0, 0, 0x40, 0x8000, 0x8040])
                | noted,
            x87: x87(random),
        }
    }

    /// Sets the registers that addresses are made of. False: this instruction cannot be placed.
    fn place(&self, insn: &Instruction, state: &mut State, random: &mut Random) -> bool {
        let is_string = insn.op_kinds().any(|kind| {
            matches!(
                kind,
                OpKind::MemoryESRDI
                    | OpKind::MemorySegRSI
                    | OpKind::MemorySegEDI
                    | OpKind::MemorySegESI
                    | OpKind::MemoryESEDI
            )
        });
        if is_string {
            if insn.has_rep_prefix() || insn.has_repne_prefix() {
                state.regs[1] = random.below(12);
            }
            if random.below(4) == 0 {
                state.flags |= 0x400;
            }
            state.regs[6] = WINDOW + 0x200 + random.below(32);
            state.regs[7] = WINDOW + 0x200 + random.below(32);
            return insn.segment_prefix() != Register::FS && insn.segment_prefix() != Register::GS;
        }
        if matches!(insn.mnemonic(), Mnemonic::Leave) {
            state.regs[5] = WINDOW + 0x200 + random.below(32);
            return true;
        }
        if matches!(
            insn.mnemonic(),
            Mnemonic::Maskmovq | Mnemonic::Maskmovdqu | Mnemonic::Vmaskmovdqu
        ) {
            state.regs[7] = WINDOW + 0x200 + random.below(32);
            return insn.segment_prefix() == Register::None;
        }
        let has_memory = insn.op_kinds().any(|kind| kind == OpKind::Memory);
        if !has_memory {
            // RSP as an operand would take the stack away.
            return true;
        }
        if matches!(insn.segment_prefix(), Register::FS | Register::GS) {
            return false;
        }
        // Bit strings reach far from their address.
        let reaches = matches!(
            insn.mnemonic(),
            Mnemonic::Bt | Mnemonic::Bts | Mnemonic::Btr | Mnemonic::Btc
        ) && insn.op1_kind() == OpKind::Register;
        if reaches {
            let number = insn.op1_register().number();
            if number == 4 {
                return false;
            }
            state.regs[number] = random.below(1024).wrapping_sub(512);
        }
        if insn.mnemonic() == Mnemonic::Lea {
            return true;
        }
        let (base, index) = (insn.memory_base(), insn.memory_index());
        if base == Register::None || base.is_ip() || insn.is_ip_rel_memory_operand() {
            return false;
        }
        if insn.is_vsib() {
            return self.place_gather(insn, state, random);
        }
        let bit_number = |register: Register| reaches && register.number() == insn.op1_register().number();
        if index != Register::None && index.number() != 4 && !bit_number(index) {
            state.regs[index.number()] = random.below(16);
        }
        let size = insn.memory_size().size() as u64;
        let mut target = WINDOW + 0x180 + random.below(128);
        if random.below(4) != 0 {
            target &= !15;
        }
        if base.number() != 4 && !bit_number(base) {
            let scaled = if index == Register::None {
                0
            } else {
                state.regs[index.number()].wrapping_mul(insn.memory_index_scale() as u64)
            };
            let wanted = target
                .wrapping_sub(scaled)
                .wrapping_sub(insn.memory_displacement64());
            state.regs[base.number()] = if base.size() == 4 {
                wanted & 0xffff_ffff
            } else {
                wanted
            };
        }
        // XLAT's index is a part of RAX.
        if insn.code() == Code::Xlat_m8 {
            state.regs[3] = WINDOW + 0x100;
            return true;
        }
        let address = insn
            .virtual_address(memory_operand(insn), 0, |register, _, _| {
                Some(match register {
                    _ if register.is_segment_register() => 0,
                    _ if register.size() == 4 => state.regs[register.number()] & 0xffff_ffff,
                    _ => state.regs[register.number()],
                })
            })
            .unwrap_or(0);
        let slack = if reaches { 0x80 } else { 0x10 };
        (WINDOW + slack..WINDOW + WINDOW_BYTES as u64 - slack - size).contains(&address)
    }

    /// Each lane near the base; at times one where nothing is mapped.
    fn place_gather(&self, insn: &Instruction, state: &mut State, random: &mut Random) -> bool {
        let base = insn.memory_base();
        let target = WINDOW + 0x200 + random.below(16);
        if base.number() != 4 {
            state.regs[base.number()] = target.wrapping_sub(insn.memory_displacement64());
        }
        let start = state.regs[base.number()].wrapping_add(insn.memory_displacement64());
        let scale = insn.memory_index_scale() as u64;
        let far = random.below(8) == 0;
        let mut index = || match random.below(8) {
            0 if far => 0x10000 / scale,
            _ => (random.below(0x200) / scale).wrapping_sub(0x100 / scale),
        };
        for indices in &mut state.ymm[insn.memory_index().number()] {
            *indices = if insn.is_vsib64() {
                index()
            } else {
                index() << 32 | index() & 0xffff_ffff
            };
        }
        (WINDOW + 0x100..WINDOW + 0x300).contains(&start)
    }
}

/// What VEX prefixes and opcodes lead to `known` instructions: map, the last byte of the prefix without VEX.vvvv, opcode.
fn vex_opcodes(known: &HashSet<Code>) -> Vec<[u8; 3]> {
    let mut opcodes = Vec::new();
    for map in 1..=3 {
        for last in (0..=255).filter(|last| last & 0x78 == 0) {
            opcodes.extend((0..=255).map(|opcode| [map, last, opcode]));
        }
    }
    opcodes.retain(|[map, last, opcode]| {
        // Registers or memory, which may want a vector as index; VEX.vvvv used or not; an opcode's extension in between.
        (0..=31).any(|variant| {
            let modrm = (variant & 7) << 3 | if variant & 8 == 0 { 0xc3 } else { 0x04 };
            let unused = if variant & 16 == 0 { 0x78 } else { 0x68 };
            let bytes = [0xc4, 0xe0 | map, last | unused, *opcode, modrm, 0x8f, 0, 0, 0, 0];
            known.contains(&Decoder::new(64, &bytes, DecoderOptions::NONE).decode().code())
        })
    });
    opcodes
}

fn memory_operand(insn: &Instruction) -> u32 {
    insn.op_kinds()
        .position(|kind| kind == OpKind::Memory)
        .unwrap_or(0) as u32
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
