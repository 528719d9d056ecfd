//! Instructions of 32- and 16-bit code, in blocks and one by one.

use super::*;
use crate::cpu::exception::vector;
use crate::cpu::Activity;

/// ADD EAX, ECX; SUB EDX, EBX; XOR EAX, EDX; SHL EAX, 3; ROR EDX, CL; DEC ESI; NEG EDI; ADC EBX, EAX; MOVZX ECX, DL; MOV AH, CL;
/// ADD CX, DX; IMUL EAX, EDX; NOT EDX; CMP EAX, EDX; SETB BL; CMOVG ESI, EDI; TEST EDI, ESI; then a JNZ to the next; INC EBP.
#[rustfmt::skip]
const CODE_BYTES: [u8; 46] = [
    0x01, 0xc8, 0x29, 0xda, 0x31, 0xd0, 0xc1, 0xe0, 0x03, 0xd3, 0xca, 0x4e, 0xf7, 0xdf, 0x11, 0xc3,
    0x0f, 0xb6, 0xca, 0x88, 0xcc, 0x66, 0x01, 0xd1, 0x0f, 0xaf, 0xc2, 0xf7, 0xd2, 0x39, 0xd0,
    0x0f, 0x92, 0xc3, 0x0f, 0x4f, 0xf7, 0x85, 0xf7, 0x75, 0x00, 0x45, 0x90, 0x90, 0x90, 0x90,
];
const INSTRUCTIONS: u64 = 19;

/// What is left after as many turns of `stride` instructions as it takes.
fn run(code_rights: u32, seed: u64, stride: u64) -> (Vec<u64>, u64, u64) {
    let mut bench = Bench::protected();
    bench.cpu.seg[CS].rights = Rights(code_rights);
    (bench.cpu.seg[CS].base, bench.cpu.rip) = (CODE, 0);
    bench.cpu.update_mode();
    for (at, byte) in CODE_BYTES.iter().enumerate() {
        bench.store::<1>(CODE + at as u64, *byte as u64);
    }
    for (number, register) in bench.cpu.regs.iter_mut().take(8).enumerate() {
        *register = seed.rotate_left(9 * number as u32) & 0xffff_ffff;
    }
    bench.cpu.set_flags(seed & flags::ARITHMETIC);
    bench.advance(INSTRUCTIONS, stride);
    (
        bench.cpu.regs[..16].to_vec(),
        bench.cpu.flags.get(),
        bench.cpu.rip,
    )
}

/// With code of 32 and of 16 bits, in which the same bytes name registers half as wide.
#[test]
fn blocks_are_their_instructions() {
    for rights in [0xc09b, 0x809b] {
        for n in 1..200u64 {
            let seed = n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let alone = run(rights, seed, 1);
            assert_eq!(run(rights, seed, INSTRUCTIONS), alone, "{rights:#x}, {seed:#x}");
            assert_eq!(run(rights, seed, 7), alone, "{rights:#x}, {seed:#x}");
        }
    }
}

/// MOV EAX, [EBX]; MOV [EBX+ECX*4+8], EAX; MOV DL, [EBX+3]; MOV [EBX-1], DH; MOV DWORD [EBX+16], 11223344H; MOV BYTE [EBX+5], 5AH;
/// MOV EAX, ES:[EBX+9]; MOV [BP+SI+2], EAX, of 16-bit addresses and behind SS; MOV EAX, [210CH]; MOV SI, [EBX]; HLT.
#[rustfmt::skip]
const MOVES: [u8; 43] = [
    0x8b, 0x03, 0x89, 0x44, 0x8b, 0x08, 0x8a, 0x53, 0x03, 0x88, 0x73, 0xff,
    0xc7, 0x43, 0x10, 0x44, 0x33, 0x22, 0x11, 0xc6, 0x43, 0x05, 0x5a,
    0x26, 0x8b, 0x43, 0x09, 0x67, 0x89, 0x42, 0x02, 0xa1, 0x0c, 0x21, 0x00, 0x00,
    0x66, 0x8b, 0x33, 0xf4, 0x90, 0x90, 0x90,
];

/// What is left when the moves are done, or one has failed: how far it came, the registers, the memory.
fn move_around(base: u64, limit: u32, rights: u32, ebx: u64, stride: u64) -> (u64, Vec<u64>, Vec<u8>) {
    const HLT: u64 = 0xf4;
    const RBX: usize = 3;
    let mut bench = Bench::protected();
    for (at, byte) in MOVES.iter().enumerate() {
        bench.store::<1>(CODE + at as u64, *byte as u64);
    }
    for vector in [vector::GENERAL_PROTECTION, vector::STACK_FAULT] {
        bench.store::<1>(handler(vector), HLT);
    }
    for at in 0x800..0xc00 {
        bench.store::<4>(base + 4 * at, at.wrapping_mul(0x9e37_79b9));
    }
    let mut retired = 0;
    // The second time with its pages known.
    for _ in 0..2 {
        for (number, register) in bench.cpu.regs.iter_mut().take(8).enumerate() {
            *register = 2 + number as u64;
        }
        (bench.cpu.regs[RBX], bench.cpu.regs[RSP], bench.cpu.regs[5]) = (ebx, STACK, 0x7000);
        bench.cpu.seg[DS] = Segment {
            selector: DATA0,
            rights: Rights(rights),
            limit,
            base,
        };
        bench.cpu.rip = CODE;
        bench.cpu.update_mode();
        let before = bench.cpu.icount;
        while bench.cpu.activity == Activity::Active {
            bench.turn(bench.cpu.icount + stride);
        }
        retired = bench.cpu.icount - before;
        bench.cpu.activity = Activity::Active;
    }
    let memory = bench.bus.ram.slice(0, 0x4_0000).expect("RAM").to_vec();
    (retired, bench.cpu.regs[..16].to_vec(), memory)
}

#[test]
fn moves_in_segments_are_their_instructions() {
    const READ_WRITE: u32 = 0xc093;
    const READ_ONLY: u32 = 0xc091;
    const DOWNWARDS: u32 = 0xc097;
    let segments = [
        (0, !0, READ_WRITE),
        (0x3_0004, !0, READ_WRITE),
        (0x3_0000, 0x2107, READ_WRITE),
        (0, !0, READ_ONLY),
        (0, 0x2100, DOWNWARDS),
    ];
    let mut retired = std::collections::BTreeSet::new();
    for (base, limit, rights) in segments {
        for ebx in (0x20e0..0x2110).chain(0x2ff0..0x3004) {
            let alone = move_around(base, limit, rights, ebx, 1);
            for stride in [4, 100] {
                let block = move_around(base, limit, rights, ebx, stride);
                assert!(
                    block == alone,
                    "{base:#x}, {limit:#x}, {rights:#x}, {ebx:#x}, {stride}"
                );
            }
            retired.insert(alone.0);
        }
    }
    assert!(retired.len() > 3, "all fail at once: {retired:?}");
}
