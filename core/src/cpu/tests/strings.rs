//! Repeated string instructions: chunks, faults in the middle, single steps.

use super::*;
use crate::cpu::exception::vector;
use crate::cpu::{RAX, RCX, RDI, RSI};
use crate::platform::ram::Ram;

const REP_MOVSB: &[u8] = &[0xf3, 0xa4];
const REP_STOSB: &[u8] = &[0xf3, 0xaa];
const REPE_CMPSB: &[u8] = &[0xf3, 0xa6];
const PAGE: u64 = 0x1000;
/// The end of what is mapped.
const END: u64 = 4 << 20;

fn ready(source: u64, destination: u64, count: u64) -> Bench {
    let mut bench = Bench::long();
    bench.cpu.regs[RSI] = source;
    bench.cpu.regs[RDI] = destination;
    bench.cpu.regs[RCX] = count;
    bench
}

fn bytes(ram: &Ram, at: u64, count: usize) -> &[u8] {
    ram.slice(at as usize, count).expect("RAM")
}

#[test]
fn a_chunk_ends_at_the_end_of_a_page_and_counts_as_an_instruction() {
    let mut bench = ready(0x20_0000, 0x30_0800, 2 * PAGE);
    for at in 0..2 * PAGE {
        bench.store::<1>(0x20_0000 + at, at * 7 & 0xff);
    }
    let before = bench.cpu.icount;
    bench.run(REP_MOVSB);
    assert_eq!(bench.cpu.regs[RCX], 2 * PAGE - 0x800);
    assert_eq!(bench.cpu.regs[RDI], 0x30_1000);
    assert_eq!(bench.cpu.rip, CODE);
    for _ in 0..2 {
        bench.step();
    }
    assert_eq!(bench.cpu.regs[RCX], 0x800);
    bench.step();
    assert_eq!(bench.cpu.regs[RCX], 0);
    assert_eq!(bench.cpu.rip, CODE + 2);
    assert_eq!(bench.cpu.icount - before, 4);
    let ram = &bench.bus.ram;
    let length = 2 * PAGE as usize;
    assert_eq!(bytes(ram, 0x20_0000, length), bytes(ram, 0x30_0800, length));
}

#[test]
fn a_fault_in_the_middle_leaves_the_registers_at_its_element() {
    let mut bench = ready(0, END - 5, 100);
    bench.cpu.regs[RAX] = 0x5a;
    bench.run(REP_STOSB);
    assert_eq!(bench.cpu.regs[RCX], 95);
    bench.step();
    bench.assert_in(vector::PAGE_FAULT);
    assert_eq!(bench.cpu.cr2, END);
    assert_eq!((bench.cpu.regs[RDI], bench.cpu.regs[RCX]), (END, 95));
    let [_, rip] = bench.stack::<8, 2>();
    assert_eq!(rip, CODE);
    assert_eq!(bytes(&bench.bus.ram, END - 5, 5), [0x5a; 5]);
}

#[test]
fn a_single_step_is_one_element() {
    let mut bench = ready(0x20_0000, 0x30_0000, 3);
    bench.cpu.set_flags(flags::TF);
    bench.run(REP_MOVSB);
    assert_eq!(bench.cpu.regs[RCX], 2);
    bench.step();
    bench.assert_in(vector::DEBUG);
    let [rip, ..] = bench.stack::<8, 3>();
    assert_eq!(rip, CODE);
}

#[test]
fn a_move_onto_its_own_source_repeats_a_pattern() {
    let mut bench = ready(0x20_0000, 0x20_0002, 8);
    bench.store::<2>(0x20_0000, 0x2211);
    bench.run(REP_MOVSB);
    assert_eq!(bytes(&bench.bus.ram, 0x20_0000, 4), [0x11, 0x22, 0x11, 0x22]);
    assert_eq!(bytes(&bench.bus.ram, 0x20_0006, 4), [0x11, 0x22, 0x11, 0x22]);
}

#[test]
fn downwards_a_chunk_ends_at_the_start_of_a_page() {
    let mut bench = ready(0x20_1001, 0x30_1801, 0x100);
    bench.cpu.set_flags(flags::DF);
    bench.store::<2>(0x20_1000, 0xbbaa);
    bench.run(REP_MOVSB);
    assert_eq!(bench.cpu.regs[RSI], 0x20_0fff);
    assert_eq!(bench.cpu.regs[RCX], 0xfe);
    assert_eq!(bytes(&bench.bus.ram, 0x30_1800, 2), [0xaa, 0xbb]);
}

#[test]
fn a_comparison_ends_after_the_first_difference() {
    let mut bench = ready(0x20_0000, 0x30_0000, 10);
    bench.store::<1>(0x20_0003, 1);
    bench.run(REPE_CMPSB);
    assert_eq!((bench.cpu.regs[RCX], bench.cpu.regs[RSI]), (6, 0x20_0004));
    assert_eq!(bench.cpu.rip, CODE + 2);
    assert!(!bench.cpu.flags.zero());
}

#[test]
fn a_count_of_zero_touches_nothing() {
    let mut bench = ready(END, END, 0);
    bench.run(REP_MOVSB);
    assert_eq!(bench.cpu.rip, CODE + 2);
    assert_eq!(bench.cpu.regs[RSI], END);
}

/// A store into code runs alone from its element on; the count of chunks may not show it.
#[test]
fn time_is_the_same_in_a_block_and_alone() {
    // MOV ECX, 200h; REP STOSB; NOP, which the stores reach; NOP.
    let code = [0xb9, 0, 2, 0, 0, 0xf3, 0xaa, 0x90, 0x90];
    let run = |stride: u64| {
        let mut bench = ready(0, CODE - 0x100, 0);
        bench.cpu.regs[RAX] = 0x90;
        for (at, byte) in code.iter().enumerate() {
            bench.store::<1>(CODE + at as u64, *byte as u64);
        }
        let end = bench.cpu.icount + 4;
        bench.advance(4, stride);
        assert_eq!(bench.cpu.icount, end);
        (bench.cpu.rip, bench.cpu.regs[RDI])
    };
    assert_eq!(run(1), (CODE + 8, CODE + 0x100));
    assert_eq!(run(2), run(1));
    assert_eq!(run(4), run(1));
}
