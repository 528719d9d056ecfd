//! Instructions with registers only, in blocks and one by one, outside 64-bit mode.

use super::*;

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
