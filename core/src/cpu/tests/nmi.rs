//! Blocking by NMI outside of VMX non-root operation (SDM vol. 3, 6.7.1).

use super::*;
use crate::cpu::exception::vector;

const NOP: &[u8] = &[0x90];
/// IRETQ
const IRET: &[u8] = &[0x48, 0xcf];

/// In the NMI handler, with another NMI pending.
fn twice() -> Bench {
    let mut bench = Bench::long();
    bench.bus.signals[0].nmi = true;
    bench.step();
    bench.assert_in(vector::NMI);
    bench.bus.signals[0].nmi = true;
    bench
}

#[test]
fn an_nmi_waits_until_the_handler_of_the_one_before_has_returned() {
    let mut bench = twice();
    let rip = bench.cpu.rip;
    bench.run(NOP);
    assert_eq!(bench.cpu.rip, rip + 1);
    assert!(bench.bus.signals[0].nmi, "it is held pending");
    // A third one is the same: only one is held.
    bench.bus.signals[0].nmi = true;
    bench.run(IRET);
    assert_eq!((bench.cpu.rip, bench.cpu.nmi_blocked), (CODE, false));
    bench.step();
    bench.assert_in(vector::NMI);
    assert!(bench.cpu.nmi_blocked && !bench.bus.signals[0].nmi);
    bench.run(IRET);
    bench.run(NOP);
    assert_eq!(bench.cpu.rip, CODE + 1);
}

#[test]
fn an_iret_that_faults_ends_blocking_too() {
    let mut bench = twice();
    // No code segment to return to.
    bench.store::<8>(bench.cpu.regs[RSP] + 8, 0);
    assert_eq!(bench.fault(IRET, vector::GENERAL_PROTECTION), 0);
    assert!(!bench.cpu.nmi_blocked);
    bench.step();
    bench.assert_in(vector::NMI);
}

#[test]
fn an_iret_that_is_no_return_from_an_nmi_ends_blocking_as_well() {
    let mut bench = twice();
    // INT 30H; its handler returns.
    bench.run(&[0xcd, 0x30]);
    bench.assert_in(0x30);
    assert!(bench.cpu.nmi_blocked);
    bench.run(IRET);
    bench.step();
    bench.assert_in(vector::NMI);
}

#[test]
fn an_nmi_comes_after_the_instruction_that_follows_a_load_of_ss_and_ends_a_halt() {
    let mut bench = Bench::protected();
    // MOV SS, AX
    bench.cpu.regs[crate::cpu::RAX] = DATA0 as u64;
    bench.run(&[0x8e, 0xd0]);
    bench.bus.signals[0].nmi = true;
    bench.run(NOP);
    assert_eq!(bench.cpu.rip, CODE + 3);
    bench.step();
    bench.assert_in(vector::NMI);

    let mut bench = Bench::protected();
    bench.run(&[0xf4]);
    bench.bus.signals[0].nmi = true;
    bench.step();
    bench.assert_in(vector::NMI);
}

#[test]
fn init_ends_blocking() {
    let mut bench = twice();
    bench.cpu.init();
    assert!(!bench.cpu.nmi_blocked);
}
