//! Series of moves, which are done in one go where their operands lie in one page.

use super::*;

/// PUSH, PUSH, PUSH, PUSH of RBX, RBP, R12, R13; MOV [RDI], [RDI+8], [RDI+10H], [RDI-8] from RAX, RCX, RDX, RSI; to
/// RBX, RBP, R8, R9 from [RDI], [RDI+10H], [RDI-8], [RDI+8]; to RAX and RDI itself from [RDI], [RDI+8]; POP of R13, R12,
/// RBP, RBX.
#[rustfmt::skip]
const CODE_BYTES: [u8; 57] = [
    0x53, 0x55, 0x41, 0x54, 0x41, 0x55,
    0x48, 0x89, 0x07, 0x48, 0x89, 0x4f, 0x08, 0x48, 0x89, 0x57, 0x10, 0x48, 0x89, 0x77, 0xf8,
    0x48, 0x8b, 0x1f, 0x48, 0x8b, 0x6f, 0x10, 0x4c, 0x8b, 0x47, 0xf8, 0x4c, 0x8b, 0x4f, 0x08,
    0x48, 0x8b, 0x07, 0x48, 0x8b, 0x7f, 0x08,
    0x41, 0x5d, 0x41, 0x5c, 0x5d, 0x5b,
    0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90,
];
const INSTRUCTIONS: u64 = 18;
const RDI: usize = 7;
/// What is compared of memory on either side of an address.
const AROUND: u64 = 0x40;

/// Runs the code twice, the second time with its pages known, `stride` instructions at a time, and gives what is left of it.
fn run(stack: u64, data: u64, stride: u64) -> (Vec<u64>, Vec<u64>) {
    let mut bench = Bench::long();
    for (at, byte) in CODE_BYTES.iter().enumerate() {
        bench.store::<1>(CODE + at as u64, *byte as u64);
    }
    for _ in 0..2 {
        for (number, register) in bench.cpu.regs.iter_mut().take(16).enumerate() {
            *register = 0x0101_0101_0101_0101 * (number as u64 + 1);
        }
        bench.cpu.regs[RSP] = stack;
        bench.cpu.regs[RDI] = data;
        bench.cpu.rip = CODE;
        let end = bench.cpu.icount + INSTRUCTIONS;
        bench.advance(INSTRUCTIONS, stride);
        assert_eq!((bench.cpu.icount, bench.cpu.rip), (end, CODE + 49));
    }
    let memory = [stack, data].into_iter().flat_map(|at| at - AROUND..at + AROUND);
    let memory = memory.map(|at| bench.load::<1>(at)).collect();
    (bench.cpu.regs[..16].to_vec(), memory)
}

/// Also across the end of a page, and into a page of code.
#[test]
fn a_series_is_its_instructions() {
    let pages = [STACK + 0x800, STACK, STACK + 4, STACK + 12, STACK + 28];
    let data = [USER_STACK + 0x800, CODE + 0x800];
    let ends = (0..8).map(|n| USER_STACK - 24 + 5 * n);
    for stack in pages {
        for data in data.into_iter().chain(ends.clone()) {
            let alone = run(stack, data, 1);
            assert_eq!(run(stack, data, INSTRUCTIONS), alone, "{stack:#x}, {data:#x}");
            assert_eq!(run(stack, data, 5), alone, "{stack:#x}, {data:#x}");
        }
    }
}
