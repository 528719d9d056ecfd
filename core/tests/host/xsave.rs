//! FXSAVE, FXRSTOR and the XSAVE feature set: on areas that mean something, one at a time and after what brings
//! components into their initial configurations.

use std::arch::is_x86_feature_detected as has;
use std::arch::x86_64::{__cpuid, __cpuid_count};
use std::ops::Range;

use iced_x86::{Instruction, Mnemonic};

use super::generate;
use super::masks;
use super::native;
use super::place::astray;
use super::random::Random;
use super::report;
use super::state::*;

/// The components that both sides have, in the places of the standard format; with AVX state as the only one of the
/// extended region, these are the places of the compacted format, too (SDM vol. 1, 13.4).
const X87: u64 = 1 << 0;
const SSE: u64 = 1 << 1;
const AVX: u64 = 1 << 2;
const COMMON: u64 = X87 | SSE | AVX;
const COMPACTED: u64 = 1 << 63;
const HEADER: usize = 512;
const AREA: usize = 832;
/// The window has room for an area at this many multiples of 64.
const PLACES: u64 = ((WINDOW_BYTES - AREA) / 64) as u64 + 1;

#[derive(Clone, Copy, PartialEq)]
enum Operation {
    Fxsave,
    Fxrstor,
    Xsave,
    Xsaveopt,
    Xsavec,
    Xsaves,
    Xrstor,
    Xrstors,
    /// With ECX = 1.
    Xgetbv,
}
use Operation::*;

impl Operation {
    /// The opcode, and what stands in the reg field of its ModRM.
    fn encoding(self) -> (u8, u8) {
        match self {
            Fxsave => (0xae, 0),
            Fxrstor => (0xae, 1),
            Xsave => (0xae, 4),
            Xrstor => (0xae, 5),
            Xsaveopt => (0xae, 6),
            Xrstors => (0xc7, 3),
            Xsavec => (0xc7, 4),
            Xsaves => (0xc7, 5),
            Xgetbv => (0x01, 2),
        }
    }

    fn has_header(self) -> bool {
        !matches!(self, Fxsave | Fxrstor | Xgetbv)
    }

    /// Whether it may leave out what XRSTOR brought from the same area and nobody has changed since (SDM vol. 1, 13.6).
    fn has_modified_optimization(self) -> bool {
        matches!(self, Xsaveopt | Xsaves)
    }
}

/// What stands before the operation, to get components into their initial configurations or out of them.
#[derive(Clone, Copy, PartialEq)]
enum Before {
    Nothing,
    Restore(Operation),
    Vzeroupper,
    Vzeroall,
    Fninit,
}

pub struct Cases {
    operations: Vec<Operation>,
    /// XCR0, of which a program may not change a bit.
    enabled: u64,
}

/// A case, and what its last instruction does where.
pub struct Saved {
    pub case: Case,
    last: Operation,
    at: u64,
}

impl Cases {
    /// None: the host has no XSAVE, or not AVX state in it, or is not Intel's. Others save the x87 pointers with a pending
    /// exception alone.
    pub fn new() -> Option<Cases> {
        if !has!("xsave") || __cpuid(0).ebx.to_le_bytes() != *b"Genu" {
            return None;
        }
        let enabled = native::xcr0();
        let mut operations = vec![Fxsave, Fxrstor, Xsave, Xrstor];
        for (operation, is_there) in [
            (Xsaveopt, has!("xsaveopt")),
            (Xsavec, has!("xsavec")),
            (Xsaves, has!("xsaves")),
            (Xrstors, has!("xsaves")),
            // CPUID leaf 0DH, subleaf 1.
            (Xgetbv, __cpuid_count(0xd, 1).eax & 4 != 0),
        ] {
            operations.extend(is_there.then_some(operation));
        }
        (enabled & COMMON == COMMON).then_some(Cases { operations, enabled })
    }

    pub fn case(&self, random: &mut Random) -> Saved {
        let bitness = if random.below(4) == 0 { 32 } else { 64 };
        let flags = generate::flags(random);
        let mut state = generate::state(random, flags);
        initial(random, &mut state);
        let mut memory = generate::memory(random);
        let place = random.below(PLACES);
        self.area(random, &mut memory[place as usize * 64..][..AREA]);

        let last = random.pick(&self.operations);
        let before = random.pick(&[
            Before::Nothing,
            Before::Nothing,
            Before::Restore(Xrstor),
            Before::Restore(Xrstor),
            Before::Restore(Fxrstor),
            Before::Vzeroupper,
            Before::Vzeroall,
            Before::Fninit,
        ]);
        let at = match before {
            Before::Restore(_) if last.has_modified_optimization() => (place + 1) % PLACES,
            _ => [place, random.below(PLACES)][random.below(3) as usize / 2],
        };
        let mut bytes = Vec::new();
        match before {
            Before::Nothing => {}
            Before::Restore(operation) => {
                state.regs[3] = WINDOW + place * 64;
                self.operation(random, bitness, operation, 3, &mut bytes);
            }
            Before::Vzeroupper => bytes.extend([0xc5, 0xf8, 0x77]),
            Before::Vzeroall => bytes.extend([0xc5, 0xfc, 0x77]),
            Before::Fninit => bytes.extend([0xdb, 0xe3]),
        }
        let askew = random.below(64) * (random.below(8) / 7);
        state.regs[7] = WINDOW + at * 64 + askew + astray(flags, random);
        self.operation(random, bitness, last, 7, &mut bytes);
        let case = Case {
            bitness,
            bytes,
            state: generate::in_mode(state, bitness),
            memory,
        };
        Saved { case, last, at }
    }

    /// The operation on what the register `base` points to, with the components that it asks for in EDX:EAX.
    fn operation(
        &self,
        random: &mut Random,
        bitness: u32,
        operation: Operation,
        base: u8,
        bytes: &mut Vec<u8>,
    ) {
        // Also what nobody has, but not what the host alone has.
        let any = random.next();
        let asked = random.pick(&[any, COMMON, !0]) & (COMMON | !self.enabled);
        for (opcode, value) in [(0xb8, asked), (0xba, asked >> 32), (0xb9, 1)] {
            // MOV to EAX, EDX and ECX.
            bytes.push(opcode);
            bytes.extend((value as u32).to_le_bytes());
        }
        if random.below(32) == 0 {
            // LOCK is an invalid opcode before them.
            bytes.push(0xf0);
        }
        if bitness == 64 && operation != Xgetbv && random.below(2) == 0 {
            // REX.W.
            bytes.push(0x48);
        }
        let (opcode, reg) = operation.encoding();
        let operand = if operation == Xgetbv { 0xc0 } else { base };
        bytes.extend([0x0f, opcode, operand | reg << 3]);
    }

    /// Makes an area of what is random: one that can be restored, mostly.
    fn area(&self, random: &mut Random, area: &mut [u8]) {
        let mut put = |at: usize, bytes: &[u8]| area[at..at + bytes.len()].copy_from_slice(bytes);
        let x87 = generate::x87(random);
        let any = random.next() as u16;
        let status = random.pick(&[x87.status, x87.status, any]);
        for (at, word) in [(0, x87.control), (2, status), (4, x87.tags), (6, x87.opcode)] {
            put(at, &word.to_le_bytes());
        }
        if random.below(2) == 0 {
            for (n, [significand, top]) in x87.registers.iter().enumerate() {
                put(32 + n * 16, &significand.to_le_bytes());
                put(40 + n * 16, &top.to_le_bytes());
            }
        }
        let mxcsr = random.pick(&[0xffff, 0xffff, 0xffff, 0xffff, 0xffff, !0]) & random.next() as u32;
        put(24, &random.pick(&[mxcsr, 0x1f80]).to_le_bytes());

        // XSTATE_BV, XCOMP_BV and the rest of the header, with mistakes at times. What only the host has is none there.
        let wrong = 1 << random.below(64) & !(self.enabled & !COMMON);
        let mistake = random.below(16);
        let mut state = random.next() & COMMON;
        let compacted = COMPACTED | state | random.next() & COMMON;
        let mut format = random.pick(&[0, compacted]);
        match mistake {
            0 => state ^= wrong,
            1 => format ^= wrong,
            _ => {}
        }
        area[HEADER..HEADER + 64].fill(0);
        area[HEADER..][..8].copy_from_slice(&state.to_le_bytes());
        area[HEADER + 8..][..8].copy_from_slice(&format.to_le_bytes());
        if mistake == 2 {
            area[HEADER + 16 + random.below(48) as usize] = 1;
        }
        for component in components(64) {
            if random.below(6) == 0 {
                component
                    .places
                    .into_iter()
                    .for_each(|place| area[place.clone()].copy_from_slice(&initial_area()[place]));
            }
        }
    }
}

/// Puts some of the components into their initial configurations, by value.
fn initial(random: &mut Random, state: &mut State) {
    let [x87, sse, mxcsr, avx, low] = [(); 5].map(|()| random.below(3) == 0);
    if x87 {
        state.x87 = super::state::X87 {
            control: 0x37f,
            unused: state.x87.unused,
            ..Default::default()
        };
    }
    if mxcsr {
        state.mxcsr = 0x1f80;
    }
    // All registers, or those that exist outside 64-bit mode.
    let count = if low { 8 } else { 16 };
    for ymm in &mut state.ymm[..count] {
        if sse {
            ymm[..2].fill(0);
        }
        if avx {
            ymm[2..].fill(0);
        }
    }
}

struct Component {
    bit: u64,
    places: Vec<Range<usize>>,
}

/// As far as the mode has registers.
fn components(bitness: u32) -> [Component; 3] {
    let vectors = if bitness == 64 { 256 } else { 128 };
    // Offset and length.
    let component = |bit, places: &[(usize, usize)]| Component {
        bit,
        places: places.iter().map(|(at, length)| *at..at + length).collect(),
    };
    [
        component(X87, &[(0, 24), (32, 128)]),
        component(SSE, &[(160, vectors)]),
        component(AVX, &[(576, vectors)]),
    ]
}

/// All components initial (SDM vol. 1, 13.6), MXCSR and MXCSR_MASK.
fn initial_area() -> [u8; AREA] {
    let mut area = [0; AREA];
    area[..2].copy_from_slice(&0x37fu16.to_le_bytes());
    area[24..28].copy_from_slice(&0x1f80u32.to_le_bytes());
    area[28..32].copy_from_slice(&0xffffu32.to_le_bytes());
    area
}

/// What the SDM leaves open of these instructions becomes the host's.
pub fn forgive(saved: &Saved, ours: &mut Outcome, theirs: &mut Outcome) {
    match theirs.fault {
        Some(fault) => {
            let insn = report::instruction(&saved.case, fault.rip);
            masks::forgive_details(&insn, ours, theirs);
            forgive_loaded(saved, &insn, ours, theirs);
        }
        None if saved.last == Xgetbv => {
            theirs.state.regs[0] &= COMMON;
            ours.state.regs[0] |= theirs.state.regs[0];
        }
        None if saved.last.has_header() && ours.fault.is_none() => forgive_in_use(saved, ours, theirs),
        None => {}
    }
}

/// Vol. 2, XRSTOR: x87 state is loaded before MXCSR is, which may be refused. Of the other components nothing is said.
fn forgive_loaded(saved: &Saved, insn: &Instruction, ours: &mut Outcome, theirs: &Outcome) {
    let area = saved.case.state.regs[insn.memory_base().number()].wrapping_sub(WINDOW) as usize;
    let restores = matches!(insn.mnemonic(), Mnemonic::Xrstor | Mnemonic::Xrstor64);
    let mxcsr = saved.case.memory.get(area + 24..area + 28);
    if restores
        && ours.fault.is_some_and(|fault| fault.vector == 13)
        && mxcsr.is_some_and(|bytes| bytes[2..] != [0, 0])
    {
        ours.state.x87 = theirs.state.x87;
        ours.state.ymm = theirs.state.ymm;
    }
}

/// Vol. 1, 13.6: a component may count as in use although it is in its initial configuration. Where the host says so, and
/// what it saved is that configuration, it becomes ours.
fn forgive_in_use(saved: &Saved, ours: &mut Outcome, theirs: &Outcome) {
    let at = saved.at as usize * 64;
    let is_compacted = matches!(saved.last, Xsavec | Xsaves);
    let initial = initial_area();
    for Component { bit, mut places } in components(saved.case.bitness) {
        if bit == SSE && is_compacted {
            places.push(24..32);
        }
        let [our, their] = [&ours.memory, &theirs.memory].map(|memory| memory[at + HEADER] as u64 & bit != 0);
        let is_initial = |place: &Range<usize>| theirs.memory[at..][place.clone()] == initial[place.clone()];
        if !our && their && places.iter().all(is_initial) {
            ours.memory[at + HEADER] |= bit as u8;
            for place in places {
                ours.memory[at..][place.clone()].copy_from_slice(&theirs.memory[at..][place]);
            }
        }
    }
}
