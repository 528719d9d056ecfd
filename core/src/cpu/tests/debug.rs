//! Single steps and debug registers (SDM vol. 3, chapter 17).

use super::*;
use crate::cpu::exception::vector::*;
use crate::cpu::{RAX, RCX, RDI, RDX};

const NOP: &[u8] = &[0x90];
const BS: u64 = 1 << 14;
const DR6_CLEAR: u64 = 0xffff_0ff0;

#[test]
fn tf_traps_after_the_instruction() {
    let mut bench = Bench::long();
    bench.cpu.flags.set(flags::TF);
    bench.run(NOP);
    bench.step();
    bench.assert_in(DEBUG);
    assert_eq!(
        (bench.stack::<8, 1>(), bench.cpu.dr6),
        ([CODE + 1], DR6_CLEAR | BS)
    );
    assert!(!bench.cpu.flags.has(flags::TF));
}

#[test]
fn a_software_interrupt_takes_no_trap_along() {
    let mut bench = Bench::long();
    bench.cpu.flags.set(flags::TF);
    bench.run(&[0xcd, 0x40]);
    bench.assert_in(0x40);
    assert_eq!(bench.cpu.pending_debug, 0);
}

#[test]
fn a_load_of_ss_makes_no_trap_of_its_own() {
    let mut bench = Bench::long();
    bench.cpu.flags.set(flags::TF);
    bench.cpu.regs[RAX] = DATA0 as u64;
    bench.run(&[0x8e, 0xd0]);
    bench.run(NOP);
    bench.step();
    bench.assert_in(DEBUG);
    assert_eq!(bench.stack::<8, 1>(), [CODE + 3]);
}

#[test]
fn an_instruction_breakpoint_is_a_fault_that_rf_passes() {
    let mut bench = Bench::long();
    bench.cpu.dr[2] = CODE;
    bench.cpu.write_dr7(1 << 5);
    bench.run(NOP);
    bench.assert_in(DEBUG);
    assert_eq!((bench.stack::<8, 1>(), bench.cpu.dr6), ([CODE], DR6_CLEAR | 4));
    let mut bench = Bench::long();
    bench.cpu.dr[2] = CODE;
    bench.cpu.write_dr7(1 << 5);
    bench.cpu.flags.set(flags::RF);
    bench.run(NOP);
    assert_eq!(bench.cpu.rip, CODE + 1);
    assert!(!bench.cpu.flags.has(flags::RF));
}

#[test]
fn data_breakpoints_trap_after_the_access() {
    let mut bench = Bench::long();
    let read = [0x8a, 0x04, 0x25, 0, 0, 0x10, 0];
    let write = [0x88, 0x04, 0x25, 3, 0, 0x10, 0];
    // The page is in the TLB when the breakpoint comes.
    bench.run(&read);
    bench.run(&write);
    bench.cpu.dr[1] = 0x10_0000;
    // Four bytes, writes.
    bench.cpu.write_dr7(1 << 3 | 0xd << 20);
    bench.run(&read);
    bench.run(&write);
    assert_eq!(bench.cpu.rip, CODE + 28);
    bench.step();
    bench.assert_in(DEBUG);
    assert_eq!(
        (bench.stack::<8, 1>(), bench.cpu.dr6),
        ([CODE + 28], DR6_CLEAR | 2)
    );
}

#[test]
fn general_detect_guards_the_debug_registers_once() {
    let mut bench = Bench::long();
    bench.cpu.write_dr7(1 << 13);
    // MOV RAX, DR6.
    bench.run(&[0x0f, 0x21, 0xf0]);
    bench.assert_in(DEBUG);
    assert_eq!(
        (bench.stack::<8, 1>(), bench.cpu.dr6),
        ([CODE], DR6_CLEAR | 1 << 13)
    );
    assert_eq!(bench.cpu.dr7, 0x400);
}

#[test]
fn dr4_is_dr6_unless_debug_extensions_are_on() {
    let mut bench = Bench::long();
    bench.run(&[0x0f, 0x21, 0xe0]);
    assert_eq!(bench.cpu.regs[RAX], DR6_CLEAR);
    bench.cpu.cr4 |= CR4_DE;
    bench.run(&[0x0f, 0x21, 0xe0]);
    bench.assert_in(INVALID_OPCODE);
    let mut bench = Bench::long();
    bench.cpu.regs[RAX] = 1 << 32;
    assert_eq!(bench.fault(&[0x0f, 0x23, 0xf8], GENERAL_PROTECTION), 0);
}

#[test]
fn a_repeated_instruction_traps_after_each_part_with_rf_pushed() {
    let mut bench = Bench::long();
    bench.cpu.flags.set(flags::TF);
    bench.cpu.regs[RCX] = 2;
    bench.cpu.regs[RDI] = 0xd000;
    bench.cpu.regs[RDX] = 0x80;
    // REP INSB.
    bench.run(&[0xf3, 0x6c]);
    bench.step();
    bench.assert_in(DEBUG);
    assert_eq!(bench.cpu.regs[RCX], 1);
    let [ip, _, pushed] = bench.stack::<8, 3>();
    assert_eq!(
        (ip, pushed & (flags::TF | flags::RF)),
        (CODE, flags::TF | flags::RF)
    );
    // IRETQ: the second part is the last.
    bench.run(&[0x48, 0xcf]);
    bench.step();
    bench.step();
    bench.assert_in(DEBUG);
    let [ip, _, pushed] = bench.stack::<8, 3>();
    assert_eq!((ip, pushed & (flags::TF | flags::RF)), (CODE + 2, flags::TF));
}
