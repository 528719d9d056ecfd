//! x87 exceptions with CR0.NE clear: FERR#, interrupt request 13 and IGNNE# (SDM vol. 1, 8.7.2).

use super::*;
use crate::cpu::exception::vector;

const FWAIT: &[u8] = &[0x9b];
const FNOP: &[u8] = &[0xd9, 0xd0];
const FNCLEX: &[u8] = &[0xdb, 0xe2];
/// OUT F0H, AL
const CLEAR_BUSY: &[u8] = &[0xe6, 0xf0];
const IRET: &[u8] = &[0xcf];

/// Real-address mode with the interrupt controllers as a BIOS leaves them, and a division by zero pending.
fn pending() -> Bench {
    let mut bench = Bench::real();
    for (port, values) in [(0x20, [0x11, 8, 4, 1, 0]), (0xa0, [0x11, 0x70, 2, 1, 0])] {
        bench.bus.io_write(0, port, 1, values[0]);
        for value in &values[1..] {
            bench.bus.io_write(0, port + 1, 1, *value);
        }
    }
    bench.cpu.set_flags(flags::IF);
    bench.cpu.x87.control = 0x37b;
    // FLD1; FLDZ; FDIVP: an instruction does not see its own exception.
    for code in [[0xd9, 0xe8], [0xd9, 0xee], [0xde, 0xf9]] {
        bench.run(&code);
    }
    assert_eq!((bench.cpu.rip, bench.cpu.x87.status & 0x80), (6, 0x80));
    bench
}

/// Where the handler of interrupt 75H is.
const HANDLER: u64 = 0x600 + 16 * 0x75;

#[test]
fn the_next_waiting_instruction_stands_still_until_the_interrupt() {
    let mut bench = pending();
    bench.run(FNOP);
    assert_eq!(bench.cpu.rip, 6, "it waits");
    bench.step();
    assert_eq!(bench.cpu.code_linear(), HANDLER);
    assert_eq!(
        bench.stack::<2, 1>(),
        [6],
        "the interrupt comes before the instruction"
    );
    for code in [CLEAR_BUSY, FNCLEX, IRET] {
        bench.run(code);
    }
    assert_eq!(bench.cpu.rip, 6);
    bench.run(FNOP);
    assert_eq!(bench.cpu.rip, 8);
}

#[test]
fn without_interrupts_it_stands_still_and_the_port_lets_it_go_on() {
    let mut bench = pending();
    bench.cpu.set_flags(0);
    for _ in 0..3 {
        bench.run(FWAIT);
        assert_eq!(bench.cpu.rip, 6);
    }
    // As if another processor wrote to it: IGNNE# is asserted, and looked at.
    bench.bus.io_write(0, 0xf0, 1, 0);
    bench.step();
    bench.step();
    assert_eq!(bench.cpu.rip, 7);
    // FSQRT; the exception is still pending and ignored.
    bench.run(&[0xd9, 0xfa]);
    assert_eq!((bench.cpu.rip, bench.cpu.x87.status & 0x80), (9, 0x80));
}

#[test]
fn the_next_exception_is_told_again() {
    let mut bench = pending();
    bench.cpu.set_flags(0);
    bench.run(FWAIT);
    bench.run(CLEAR_BUSY);
    bench.run(FNCLEX);
    let rip = bench.cpu.rip;
    // FDIVP
    bench.run(&[0xde, 0xf9]);
    for _ in 0..3 {
        bench.run(FWAIT);
        assert_eq!(bench.cpu.rip, rip + 2);
    }
}

#[test]
fn instructions_that_do_not_wait_go_on_and_ne_makes_it_an_exception() {
    let mut bench = pending();
    // FNSTSW AX
    bench.run(&[0xdf, 0xe0]);
    assert_eq!(bench.cpu.rip, 8);
    bench.cpu.cr0 |= CR0_NE;
    bench.run(FWAIT);
    assert_eq!(bench.cpu.code_linear(), 0x600 + 16 * vector::MATH_FAULT as u64);
}

#[test]
fn a_single_step_does_not_end_before_the_instruction() {
    let mut bench = pending();
    bench.cpu.set_flags(flags::TF);
    bench.run(FWAIT);
    bench.step();
    assert_eq!((bench.cpu.rip, bench.cpu.pending_debug), (6, 0));
}
