//! Series of moves, which are done in one go where their operands lie in one page.

use super::*;
use crate::cpu::exception::vector;
use crate::cpu::Activity;

/// PUSH, PUSH, PUSH, PUSH of RBX, RBP, R12, R13; MOV [RDI], [RDI+8], [RDI+10H], [RDI-8] from RAX, RCX, RDX, RSI; to
/// RBX, RBP, R8, R9 from [RDI], [RDI+10H], [RDI-8], [RDI+8]; to R10, R11, R14, R15 from [RDI], [RDI+3], [RDI+0BH], [RDI+13H];
/// to RAX and RDI itself from [RDI], [RDI+8]; POP of R13, R12, RBP, RBX.
#[rustfmt::skip]
const CODE_BYTES: [u8; 72] = [
    0x53, 0x55, 0x41, 0x54, 0x41, 0x55,
    0x48, 0x89, 0x07, 0x48, 0x89, 0x4f, 0x08, 0x48, 0x89, 0x57, 0x10, 0x48, 0x89, 0x77, 0xf8,
    0x48, 0x8b, 0x1f, 0x48, 0x8b, 0x6f, 0x10, 0x4c, 0x8b, 0x47, 0xf8, 0x4c, 0x8b, 0x4f, 0x08,
    0x4c, 0x8b, 0x17, 0x4c, 0x8b, 0x5f, 0x03, 0x4c, 0x8b, 0x77, 0x0b, 0x4c, 0x8b, 0x7f, 0x13,
    0x48, 0x8b, 0x07, 0x48, 0x8b, 0x7f, 0x08,
    0x41, 0x5d, 0x41, 0x5c, 0x5d, 0x5b,
    0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90,
];
const INSTRUCTIONS: u64 = 22;
const RDI: usize = 7;
/// The end of what is mapped.
const END: u64 = 4 << 20;
/// What is compared of memory on either side of an address.
const AROUND: u64 = 0x40;

/// A machine whose registers differ from each other, at the start of the code.
fn ready(bench: &mut Bench, stack: u64, data: u64) {
    for (number, register) in bench.cpu.regs.iter_mut().take(16).enumerate() {
        *register = 0x0101_0101_0101_0101 * (number as u64 + 1);
    }
    bench.cpu.regs[RSP] = stack;
    bench.cpu.regs[RDI] = data;
    bench.cpu.rip = CODE;
}

fn with_code() -> Bench {
    let mut bench = Bench::long();
    for (at, byte) in CODE_BYTES.iter().enumerate() {
        bench.store::<1>(CODE + at as u64, *byte as u64);
    }
    bench
}

fn around(bench: &mut Bench, places: &[u64]) -> Vec<u64> {
    let memory = places.iter().flat_map(|at| at - AROUND..at + AROUND);
    memory.map(|at| bench.load::<1>(at)).collect()
}

/// Runs the code twice, the second time with its pages known, `stride` instructions at a time, and gives what is left of it.
fn run(stack: u64, data: u64, stride: u64) -> (Vec<u64>, Vec<u64>) {
    let mut bench = with_code();
    for _ in 0..2 {
        ready(&mut bench, stack, data);
        let end = bench.cpu.icount + INSTRUCTIONS;
        bench.advance(INSTRUCTIONS, stride);
        assert_eq!((bench.cpu.icount, bench.cpu.rip), (end, CODE + 64));
    }
    let memory = around(&mut bench, &[stack, data]);
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

/// The same with operands of which some lie behind the end of what is mapped: how far it got, at which address it failed,
/// and what is left of it. The page before that is known from the second round on.
fn fail(stack: u64, data: u64, stride: u64) -> (u64, u64, Vec<u64>, Vec<u64>) {
    const HLT: u64 = 0xf4;
    let mut bench = with_code();
    bench.store::<1>(handler(vector::PAGE_FAULT), HLT);
    let mut retired = 0;
    for _ in 0..2 {
        ready(&mut bench, stack, data);
        let before = bench.cpu.icount;
        while bench.cpu.activity == Activity::Active {
            bench.turn(bench.cpu.icount + stride);
        }
        retired = bench.cpu.icount - before;
        bench.cpu.activity = Activity::Active;
    }
    // What has failed pushes a frame: it is told apart by what lies there.
    let memory = around(&mut bench, &[stack, END - AROUND]);
    (retired, bench.cpu.cr2, bench.cpu.regs[..16].to_vec(), memory)
}

#[test]
fn a_series_faults_where_its_instructions_do() {
    for mapped in [1, 8, 9, 16, 20, 24, 26] {
        let data = END - mapped;
        let alone = fail(STACK, data, 1);
        assert!(alone.0 < INSTRUCTIONS && alone.1 >= END - 8, "{alone:?}");
        assert_eq!(fail(STACK, data, INSTRUCTIONS), alone, "{data:#x}");
        assert_eq!(fail(STACK, data, 3), alone, "{data:#x}");
    }
}
