//! Shadow stacks in task switches (SDM vol. 1, 17.2.4; vol. 3, 7.3).

use super::*;
use crate::cpu::cet::control::{ENDBR_EN, SH_STK_EN, TRACKER};
use crate::cpu::exception::control_protection::FAR_RETURN;
use crate::cpu::exception::vector::*;
use crate::cpu::segment::{FS, GS};

const NEW_CODE: u64 = 0x1_4000;
const NEW_STACK: u64 = 0xc000;
const SSP_AT: u64 = OTHER_TSS + 0x68;

/// Pages of shadow stacks: RAM from 0 on, read-only and dirty, a user's and a supervisor's.
const USER: u64 = 0x40_0000;
const SUPERVISOR: u64 = 0x80_0000;
/// Where in them the running task's SSP is, and the token of the other one.
const HERE: u64 = 0x20_1000;
const TOKEN: u64 = 0x20_1ff8;

const JMP: &[u8] = &[0xea, 0, 0, 0, 0, OTHER_TSS_SELECTOR as u8, 0];
const CALL: &[u8] = &[0x9a, 0, 0, 0, 0, OTHER_TSS_SELECTOR as u8, 0];
const IRET: &[u8] = &[0xcf];

/// 32-bit protected mode with paging and a second task, which runs at the same privilege level, as the first does.
fn tasks(user: bool) -> Bench {
    let mut bench = Bench::protected();
    for (entry, value) in [(0, 0xe7), (4, 0xe5), (8, 0xe1)] {
        bench.store::<4>(PAGE_TABLES + entry, value);
    }
    let (code, data, pages) = if user {
        bench = bench.user();
        (CODE3, DATA3, USER)
    } else {
        (CODE0, DATA0, SUPERVISOR)
    };
    bench.descriptor(OTHER_TSS_SELECTOR, 0x0000_e900_3200_006b);
    for (at, value) in [
        (4, INNER_STACK),
        (8, DATA0 as u64),
        (0x1c, PAGE_TABLES),
        (0x20, NEW_CODE),
        (0x24, 2),
        (0x38, NEW_STACK),
        (0x48, data as u64),
        (0x4c, code as u64),
        (0x50, data as u64),
        (0x54, data as u64),
        (0x68, pages + TOKEN),
    ] {
        bench.store::<4>(OTHER_TSS + at, value);
    }
    bench.store::<4>(TSS + 0x1c, PAGE_TABLES);
    bench.descriptor(TSS_SELECTOR, 0x0000_8b00_3000_006b);
    bench.store::<8>(TOKEN, pages + TOKEN);
    let cpu = &mut bench.cpu;
    for segment in [FS, GS] {
        cpu.seg[segment] = Segment::unusable(0);
    }
    cpu.cr3 = PAGE_TABLES;
    cpu.cr4 = CR4_PSE | CR4_CET;
    cpu.cr0 |= CR0_PG | CR0_WP;
    (cpu.cet.user, cpu.cet.supervisor) = if user { (SH_STK_EN, 0) } else { (0, SH_STK_EN) };
    cpu.cet.ssp = pages + HERE;
    cpu.update_space();
    bench
}

#[test]
fn a_jump_takes_the_new_tasks_shadow_stack() {
    for user in [true, false] {
        let mut bench = tasks(user);
        let ssp = bench.load::<4>(SSP_AT);
        bench.run(JMP);
        assert_eq!((bench.cpu.rip, bench.cpu.cet.ssp), (NEW_CODE, ssp));
        assert_eq!(bench.load::<8>(TOKEN), ssp | 1, "the token is busy");
        assert_eq!(bench.load::<4>(TSS + 0x68), 0, "the old SSP is not saved");
    }
}

#[test]
fn a_called_task_has_a_frame_for_the_way_back() {
    for user in [true, false] {
        let mut bench = tasks(user);
        let (old, new) = (bench.cpu.cet.ssp, bench.load::<4>(SSP_AT));
        let selector = bench.cpu.seg[CS].selector as u64;
        bench.run(CALL);
        assert_eq!((bench.cpu.rip, bench.cpu.cet.ssp), (NEW_CODE, new - 24));
        let frame = [8, 16, 24].map(|below| bench.load::<8>(TOKEN - below));
        assert_eq!(frame, [selector, CODE + 7, old]);
        bench.run(IRET);
        assert_eq!((bench.cpu.rip, bench.cpu.cet.ssp), (CODE + 7, old));
        assert_eq!(bench.load::<8>(TOKEN), new, "the token is free");
    }
}

#[test]
fn a_return_to_elsewhere_is_a_fault_of_the_outer_task() {
    // CS, and the linear instruction pointer.
    for below in [8, 16] {
        let mut bench = tasks(true);
        bench.run(CALL);
        bench.store::<8>(TOKEN - below, 0x1234);
        bench.run(IRET);
        bench.step();
        bench.assert_in(CONTROL_PROTECTION);
        assert_eq!(bench.stack::<4, 2>(), [FAR_RETURN as u64, CODE + 7]);
        assert_eq!(bench.cpu.seg[TR].selector, TSS_SELECTOR);
    }
}

#[test]
fn a_supervisors_task_leaves_the_users_ssp_in_its_msr() {
    let mut bench = tasks(true);
    bench.cpu.cet.supervisor = SH_STK_EN;
    for (at, value) in [(0x48, DATA0), (0x4c, CODE0), (0x50, DATA0), (0x54, DATA0)] {
        bench.store::<4>(OTHER_TSS + at, value as u64);
    }
    bench.store::<4>(SSP_AT, SUPERVISOR + TOKEN);
    bench.store::<8>(TOKEN, SUPERVISOR + TOKEN);
    bench.run(CALL);
    assert_eq!((bench.cpu.cpl, bench.cpu.cet.ssp), (0, SUPERVISOR + TOKEN));
    assert_eq!(bench.cpu.cet.pl_ssp[3], USER + HERE);
    bench.run(IRET);
    assert_eq!((bench.cpu.cpl, bench.cpu.cet.ssp), (3, USER + HERE));
    assert_eq!(bench.load::<8>(TOKEN), SUPERVISOR + TOKEN);
}

#[test]
fn a_tss_without_room_for_ssp_is_refused_before_the_switch() {
    // One byte short, and the 16-bit format.
    for descriptor in [0x0000_e900_3200_006a, 0x0000_e100_3200_006b] {
        let mut bench = tasks(true);
        bench.descriptor(OTHER_TSS_SELECTOR, descriptor);
        assert_eq!(bench.fault(JMP, INVALID_TSS), OTHER_TSS_SELECTOR as u64);
        assert_eq!(bench.cpu.seg[TR].selector, TSS_SELECTOR);
    }
    // IRET pops from an aligned shadow stack.
    let mut bench = tasks(true);
    bench.run(CALL);
    bench.cpu.cet.ssp += 4;
    assert_eq!(bench.fault(IRET, INVALID_TSS), OTHER_TSS_SELECTOR as u64);
    assert_eq!(bench.cpu.seg[TR].selector, OTHER_TSS_SELECTOR);
    // A shadow stack that is not there: the nested task goes on, and its TSS stays busy.
    let mut bench = tasks(true);
    bench.run(CALL);
    bench.cpu.cet.ssp = 0x10;
    let absent = bench.fault(IRET, PAGE_FAULT);
    assert_eq!(
        absent, 0x45,
        "a user's read of a shadow stack, in a page that is none"
    );
    assert_eq!(bench.load::<1>(GDT + OTHER_TSS_SELECTOR as u64 + 5), 0xeb);
}

#[test]
fn a_bad_shadow_stack_is_a_fault_of_the_new_task() {
    // SSP, and the token there: misaligned, busy, another's.
    for (ssp, token) in [
        (USER + TOKEN + 4, USER + TOKEN + 4),
        (USER + TOKEN, USER + TOKEN + 1),
        (USER + TOKEN, USER + HERE),
    ] {
        let mut bench = tasks(true);
        bench.store::<4>(SSP_AT, ssp);
        bench.store::<8>(TOKEN, token);
        bench.run(JMP);
        bench.step();
        bench.assert_in(INVALID_TSS);
        assert_eq!(bench.stack::<4, 2>(), [OTHER_TSS_SELECTOR as u64, NEW_CODE]);
        assert_eq!(bench.load::<8>(TOKEN), token);
    }
    // Virtual-8086 mode has neither shadow stacks nor branch tracking.
    for control in [SH_STK_EN, ENDBR_EN] {
        let mut bench = tasks(true);
        bench.cpu.cet.user = control;
        bench.store::<4>(OTHER_TSS + 0x24, flags::VM | 2);
        bench.run(JMP);
        bench.step();
        bench.assert_in(INVALID_TSS);
    }
}

#[test]
fn a_new_task_begins_with_an_endbranch_and_an_outer_one_goes_on() {
    let mut bench = tasks(true);
    bench.cpu.cet.user = ENDBR_EN;
    bench.run(CALL);
    assert_eq!(bench.cpu.cet.user, ENDBR_EN | TRACKER);
    // ENDBR32.
    bench.run(&[0xf3, 0x0f, 0x1e, 0xfb]);
    assert_eq!(bench.cpu.cet.user, ENDBR_EN);
    bench.run(IRET);
    assert_eq!((bench.cpu.rip, bench.cpu.cet.user), (CODE + 7, ENDBR_EN));
}
