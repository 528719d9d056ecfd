//! Hardware task switches (SDM vol. 3, chapter 7).

use super::*;
use crate::cpu::exception::vector::*;
use crate::cpu::segment::{FS, GS};
use crate::cpu::{RAX, RBX, RDI};

const NEW_CODE: u64 = 0x1_4000;
const NEW_STACK: u64 = 0xc000;

/// A second task, available, that would run at CPL 0 from `NEW_CODE` on.
fn two_tasks() -> Bench {
    let mut bench = Bench::protected();
    bench.descriptor(OTHER_TSS_SELECTOR, 0x0000_8900_3200_0067);
    for (at, value) in [
        (0x20, NEW_CODE),
        (0x24, 2),
        (0x28, 0xaaaa_aaaa),
        (0x38, NEW_STACK),
        (0x48, DATA0 as u64),
        (0x4c, CODE0 as u64),
        (0x50, DATA0 as u64),
        (0x54, DATA0 as u64),
    ] {
        bench.store::<4>(OTHER_TSS + at, value);
    }
    bench
}

fn rights(bench: &mut Bench, selector: u16) -> u64 {
    bench.load::<1>(GDT + selector as u64 + 5)
}

const JMP: &[u8] = &[0xea, 0, 0, 0, 0, OTHER_TSS_SELECTOR as u8, 0];
const CALL: &[u8] = &[0x9a, 0, 0, 0, 0, OTHER_TSS_SELECTOR as u8, 0];

#[test]
fn a_jump_to_a_tss_leaves_the_old_task_available() {
    let mut bench = two_tasks();
    bench.cpu.regs[RBX] = 0xbbbb;
    bench.run(JMP);
    assert_eq!((bench.cpu.rip, bench.cpu.regs[RSP]), (NEW_CODE, NEW_STACK));
    assert_eq!((bench.cpu.regs[RAX], bench.cpu.regs[RBX]), (0xaaaa_aaaa, 0));
    assert_eq!(
        (bench.load::<4>(TSS + 0x20), bench.load::<4>(TSS + 0x34)),
        (CODE + 7, 0xbbbb)
    );
    assert_eq!(rights(&mut bench, TSS_SELECTOR), 0x89);
    assert_eq!(rights(&mut bench, OTHER_TSS_SELECTOR), 0x8b);
    assert_eq!(bench.cpu.seg[TR].selector, OTHER_TSS_SELECTOR);
    assert!(bench.cpu.cr0 & CR0_TS != 0 && !bench.cpu.flags.has(flags::NT));
}

#[test]
fn a_called_task_comes_back_by_iret() {
    let mut bench = two_tasks();
    bench.run(CALL);
    assert!(bench.cpu.flags.has(flags::NT));
    assert_eq!(bench.load::<2>(OTHER_TSS), TSS_SELECTOR as u64);
    assert_eq!(rights(&mut bench, TSS_SELECTOR), 0x8b);
    bench.run(&[0xcf]);
    assert_eq!((bench.cpu.rip, bench.cpu.regs[RSP]), (CODE + 7, STACK));
    assert_eq!(rights(&mut bench, OTHER_TSS_SELECTOR), 0x89);
    assert!(!bench.cpu.flags.has(flags::NT));
}

#[test]
fn a_task_gate_in_the_idt_brings_the_error_code_to_the_new_stack() {
    let mut bench = two_tasks();
    bench.gate_to(GENERAL_PROTECTION as u64, OTHER_TSS_SELECTOR, 0x85, 0);
    // LTR of a null selector: #GP(0).
    bench.run(&[0x0f, 0x00, 0xd8]);
    assert_eq!(bench.cpu.rip, NEW_CODE);
    assert_eq!((bench.cpu.regs[RSP], bench.stack::<4, 1>()), (NEW_STACK - 4, [0]));
    assert_eq!(bench.load::<4>(TSS + 0x20), CODE);
}

#[test]
fn a_busy_or_short_tss_is_refused() {
    let mut bench = two_tasks();
    bench.descriptor(OTHER_TSS_SELECTOR, 0x0000_8b00_3200_0067);
    assert_eq!(bench.fault(JMP, GENERAL_PROTECTION), OTHER_TSS_SELECTOR as u64);
    let mut bench = two_tasks();
    bench.descriptor(OTHER_TSS_SELECTOR, 0x0000_8900_3200_0066);
    assert_eq!(bench.fault(JMP, INVALID_TSS), OTHER_TSS_SELECTOR as u64);
}

#[test]
fn what_is_wrong_with_the_new_state_is_a_fault_of_the_new_task() {
    let mut bench = two_tasks();
    bench.store::<4>(OTHER_TSS + 0x54, ABSENT as u64);
    bench.run(JMP);
    bench.step();
    bench.assert_in(SEGMENT_NOT_PRESENT);
    assert_eq!(bench.stack::<4, 2>(), [ABSENT as u64, NEW_CODE]);
    assert_eq!(bench.cpu.seg[TR].selector, OTHER_TSS_SELECTOR);
}

#[test]
fn the_t_flag_traps_before_the_first_instruction() {
    let mut bench = two_tasks();
    bench.store::<2>(OTHER_TSS + 0x64, 1);
    bench.run(JMP);
    bench.step();
    bench.assert_in(DEBUG);
    assert_eq!((bench.stack::<4, 1>(), bench.cpu.dr6), ([NEW_CODE], 0xffff_8ff0));
}

/// The upper halves of registers are "modified and not maintained", those of EIP and EFLAGS are lost (SDM vol. 3, 7.6).
#[test]
fn a_tss_of_16_bits_neither_keeps_nor_saves_upper_halves() {
    let mut bench = Bench::protected();
    bench.descriptor(OTHER_TSS_SELECTOR, 0x0000_8100_3200_002b);
    for (at, value) in [
        (0xe, 0x4000),
        (0x10, 2),
        (0x12, 0x1111),
        (0x1a, 0xc000),
        (0x20, 0x2222),
        (0x22, DATA0 as u64),
        (0x24, CODE0 as u64),
        (0x26, DATA0 as u64),
        (0x28, DATA0 as u64),
    ] {
        bench.store::<2>(OTHER_TSS + at, value);
    }
    bench.cpu.set_flags(flags::ID | flags::AC);
    (bench.cpu.regs[RAX], bench.cpu.regs[RDI]) = (0x1234_5678, 0x8765_4321);
    bench.run(JMP);
    assert_eq!((bench.cpu.rip, bench.cpu.flags.get()), (0x4000, 2));
    assert_eq!(
        (bench.cpu.regs[RAX], bench.cpu.regs[RSP], bench.cpu.regs[RDI]),
        (0xffff_1111, 0xffff_c000, 0xffff_2222)
    );
    assert!(!bench.cpu.seg[FS].rights.usable() && !bench.cpu.seg[GS].rights.usable());
    // Back by a jump: now the lower halves alone are saved.
    bench.run(&[0xea, 0, 0, 0, 0, TSS_SELECTOR as u8, 0]);
    assert_eq!(bench.cpu.regs[RAX], 0x1234_5678);
    assert_eq!(
        [0xe, 0x12, 0x1a].map(|at| bench.load::<2>(OTHER_TSS + at)),
        [0x4007, 0x1111, 0xc000]
    );
    assert_eq!(
        bench.load::<2>(OTHER_TSS + 0x2a),
        0,
        "the entry after DS is LDTR's"
    );
}

#[test]
fn an_error_code_is_pushed_before_the_new_instruction_pointer_is_looked_at() {
    let mut bench = two_tasks();
    bench.descriptor(CODE3, 0x0040_9b00_0000_0fff);
    bench.store::<4>(OTHER_TSS + 0x4c, (CODE3 & !3) as u64);
    bench.gate_to(GENERAL_PROTECTION as u64, OTHER_TSS_SELECTOR, 0x85, 0);
    // LTR of a null selector: #GP(0), and EIP of the task that takes it is beyond the limit, which makes it #DF.
    bench.store::<4>(NEW_STACK - 4, 0xffff_ffff);
    bench.run(&[0x0f, 0x00, 0xd8]);
    bench.assert_in(DOUBLE_FAULT);
    assert_eq!(bench.load::<4>(NEW_STACK - 4), 0);
}
