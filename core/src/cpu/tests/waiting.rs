//! MONITOR and MWAIT; UMONITOR, UMWAIT and TPAUSE; random numbers; direct stores.

use super::*;
use crate::cpu::exception::vector;
use crate::cpu::{Activity, RAX, RBX, RCX};

const MONITOR: &[u8] = &[0x0f, 0x01, 0xc8];
const MWAIT: &[u8] = &[0x0f, 0x01, 0xc9];
const LINE: u64 = 0xc000;

/// The line at RAX is monitored, and MWAIT executed.
fn waiting(extensions: u64) -> Bench {
    let mut bench = Bench::long();
    bench.cpu.regs[RAX] = LINE + 8;
    bench.run(MONITOR);
    bench.cpu.regs[RCX] = extensions;
    bench.run(MWAIT);
    bench
}

#[test]
fn mwait_waits_for_a_store_to_the_line() {
    let mut bench = waiting(0);
    let after = bench.cpu.rip;
    for _ in 0..3 {
        bench.step();
        assert_eq!(bench.cpu.rip, after);
    }
    bench.store::<1>(LINE + 64, 1);
    bench.step();
    assert_eq!(bench.cpu.rip, after, "that was the next line");
    bench.store::<1>(LINE + 63, 1);
    bench.run(&[0x90]);
    assert_eq!(bench.cpu.rip, after + 1);
}

#[test]
fn mwait_does_not_wait_where_nothing_is_armed() {
    let mut bench = Bench::long();
    bench.run(MWAIT);
    bench.run(&[0x90]);
    assert_eq!(bench.cpu.rip, CODE + 4);
    // Stored to in between.
    bench.cpu.regs[RAX] = LINE;
    bench.run(MONITOR);
    bench.store::<8>(LINE, 5);
    bench.run(MWAIT);
    bench.run(&[0x90]);
    assert_eq!(bench.cpu.rip, CODE + 11);
}

#[test]
fn events_end_the_wait() {
    let mut bench = waiting(0);
    bench.bus.signals[0].nmi = true;
    bench.step();
    bench.assert_in(vector::NMI);
    assert!(bench.cpu.waiting.is_none() && bench.cpu.activity == Activity::Active);
}

#[test]
fn extensions_that_cpuid_does_not_tell_of_are_refused() {
    let mut bench = Bench::long();
    assert_eq!(bench.cpu.cpuid(5, 0)[2], 0b11);
    bench.cpu.regs[RCX] = 2;
    bench.fault(MWAIT, vector::GENERAL_PROTECTION);
    bench.cpu.regs[RCX] = 1;
    bench.fault(MONITOR, vector::GENERAL_PROTECTION);
}

// UMONITOR RAX; UMWAIT RBX; TPAUSE RBX.
const UMONITOR: &[u8] = &[0xf3, 0x0f, 0xae, 0xf0];
const UMWAIT: &[u8] = &[0xf2, 0x0f, 0xae, 0xf3];
const TPAUSE: &[u8] = &[0x66, 0x0f, 0xae, 0xf3];
const UMWAIT_CONTROL: u32 = 0xe1;

/// Executes UMWAIT or TPAUSE for 1000 counts, and lets 999 pass; whether it has ended, and CF.
fn wait_for_a_thousand(bench: &mut Bench, code: &[u8]) -> (bool, bool) {
    let end = bench.bus.clock + 1000;
    bench.cpu.regs[RBX] = 1;
    bench.cpu.set_halves(end);
    bench.cpu.flags.set(0x8d7);
    bench.run(code);
    bench.bus.clock = end - 1;
    has_ended(bench)
}

fn has_ended(bench: &mut Bench) -> (bool, bool) {
    let after = bench.cpu.rip;
    bench.run(&[0x90]);
    let flags = bench.cpu.flags.get();
    assert_eq!(flags & 0x8d4, 0);
    (bench.cpu.rip != after, flags & flags::CF != 0)
}

#[test]
fn tpause_waits_for_the_time_stamp_counter() {
    let mut bench = Bench::long().user();
    assert_eq!(wait_for_a_thousand(&mut bench, TPAUSE), (false, false));
    assert_eq!(bench.cpu.deadline(), Some(bench.bus.clock + 1));
    bench.bus.clock += 1;
    assert_eq!(has_ended(&mut bench), (true, false));
    // A time that has passed.
    bench.cpu.set_halves(bench.bus.clock);
    bench.run(TPAUSE);
    assert_eq!(has_ended(&mut bench), (true, false));
}

#[test]
fn the_system_limits_a_wait_and_cf_tells() {
    let mut bench = Bench::long();
    assert!(bench.cpu.write_msr(&mut bench.bus, UMWAIT_CONTROL, 996 | 1));
    assert_eq!(wait_for_a_thousand(&mut bench, TPAUSE), (true, true));
    assert!(bench.cpu.write_msr(&mut bench.bus, UMWAIT_CONTROL, 1000 | 1));
    assert_eq!(wait_for_a_thousand(&mut bench, TPAUSE), (false, false));
    bench.bus.clock += 1;
    assert_eq!(has_ended(&mut bench), (true, false));
    for reserved in [2, 1 << 32] {
        assert!(!bench.cpu.write_msr(&mut bench.bus, UMWAIT_CONTROL, reserved));
    }
}

#[test]
fn umwait_waits_for_a_store_to_the_line_of_umonitor() {
    let mut bench = Bench::long().user();
    bench.cpu.regs[RAX] = LINE + 8;
    bench.run(UMONITOR);
    assert_eq!(wait_for_a_thousand(&mut bench, UMWAIT), (false, false));
    bench.store::<1>(LINE + 63, 1);
    assert_eq!(has_ended(&mut bench), (true, false));
    assert_eq!(
        wait_for_a_thousand(&mut bench, UMWAIT),
        (true, false),
        "nothing is armed"
    );
}

#[test]
fn the_lines_of_monitor_and_umonitor_are_not_each_others() {
    for (arm, wait) in [(MONITOR, UMWAIT), (UMONITOR, MWAIT)] {
        let mut bench = Bench::long();
        bench.cpu.regs[RAX] = LINE;
        bench.run(arm);
        bench.cpu.set_halves(1000);
        bench.run(wait);
        assert!(bench.cpu.waiting.is_none());
    }
}

#[test]
fn the_line_is_at_an_address_of_the_instructions_address_size() {
    for arm in [&[0x67, 0x0f, 0x01, 0xc8][..], &[0x67, 0xf3, 0x0f, 0xae, 0xf0]] {
        let mut bench = Bench::long();
        bench.cpu.regs[RAX] = LINE | 1 << 32;
        bench.run(arm);
        assert_eq!(bench.cpu.rip, CODE + arm.len() as u64);
    }
}

#[test]
fn events_end_a_timed_wait() {
    let mut bench = Bench::long();
    assert_eq!(wait_for_a_thousand(&mut bench, TPAUSE), (false, false));
    bench.bus.signals[0].nmi = true;
    bench.step();
    bench.assert_in(vector::NMI);
    assert!(bench.cpu.waiting.is_none());
}

#[test]
fn timed_waits_are_refused() {
    for code in [UMWAIT, TPAUSE] {
        let mut bench = Bench::long();
        bench.cpu.regs[RBX] = 2;
        bench.fault(code, vector::GENERAL_PROTECTION);
        let mut bench = Bench::long().user();
        bench.cpu.cr4 |= CR4_TSD;
        bench.fault(code, vector::GENERAL_PROTECTION);
    }
    let mut bench = Bench::long();
    bench.cpu.regs[RAX] = 1 << 63;
    bench.fault(UMONITOR, vector::GENERAL_PROTECTION);
}

#[test]
fn random_numbers_are_the_same_in_each_run_and_others_on_each_processor() {
    let numbers = |id: usize| {
        let mut bench = Bench::long();
        bench.cpu.random = crate::cpu::exec::random::Generator::new(id);
        bench.cpu.regs[RBX] = !0;
        // RDRAND RAX; RDSEED BX.
        bench.run(&[0x48, 0x0f, 0xc7, 0xf0]);
        assert_eq!(bench.cpu.flags.get() & 0x8d5, flags::CF);
        bench.run(&[0x66, 0x0f, 0xc7, 0xfb]);
        assert_eq!(bench.cpu.regs[RBX] >> 16, !0 >> 16);
        (bench.cpu.regs[RAX], bench.cpu.regs[RBX])
    };
    assert_eq!(numbers(0), numbers(0));
    assert_ne!(numbers(0), numbers(1));
}

#[test]
fn direct_stores() {
    let mut bench = Bench::long();
    for at in 0..8 {
        bench.store::<8>(0xc008 + 8 * at, at + 1);
    }
    bench.cpu.regs[RAX] = 0xd000;
    bench.cpu.regs[RBX] = 0xc008;
    // MOVDIR64B RAX, [RBX]; MOVDIRI [RBX], RAX.
    bench.run(&[0x66, 0x0f, 0x38, 0xf8, 0x03]);
    assert_eq!((bench.load::<8>(0xd000), bench.load::<8>(0xd038)), (1, 8));
    bench.run(&[0x48, 0x0f, 0x38, 0xf9, 0x03]);
    assert_eq!(bench.load::<8>(0xc008), 0xd000);
    bench.cpu.regs[RAX] = 0xd008;
    bench.fault(&[0x66, 0x0f, 0x38, 0xf8, 0x03], vector::GENERAL_PROTECTION);
}
