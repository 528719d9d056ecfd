//! Delivery through the IDT (SDM vol. 3, chapter 6).

use super::*;
use crate::cpu::exception::vector::*;
use crate::cpu::Activity;

const UD2: &[u8] = &[0x0f, 0x0b];
const INT3: &[u8] = &[0xcc];
const INT_40: &[u8] = &[0xcd, 0x40];
/// LTR of the null selector in AX: #GP(0).
const LTR_NULL: &[u8] = &[0x0f, 0x00, 0xd8];

#[test]
fn a_fault_at_the_same_level_pushes_flags_cs_and_ip() {
    let mut bench = Bench::protected();
    bench.cpu.flags.set(flags::IF | flags::CF | flags::AC);
    bench.run(UD2);
    bench.assert_in(INVALID_OPCODE);
    let expected = flags::IF | flags::CF | flags::AC | flags::RF | 2;
    assert_eq!(bench.stack::<4, 3>(), [CODE, CODE0 as u64, expected]);
    assert_eq!(bench.cpu.regs[RSP], STACK - 12);
    // IF and RF are cleared, AC is not.
    assert_eq!(bench.cpu.flags.get(), flags::CF | flags::AC | 2);
}

#[test]
fn a_trap_gate_leaves_if_set() {
    let mut bench = Bench::protected();
    bench.gate(INVALID_OPCODE as u64, TRAP_GATE);
    bench.cpu.flags.set(flags::IF);
    bench.run(UD2);
    assert!(bench.cpu.flags.has(flags::IF));
}

#[test]
fn a_fault_at_level_3_switches_to_the_stack_of_the_tss() {
    let mut bench = Bench::protected().user();
    bench.run(UD2);
    bench.assert_in(INVALID_OPCODE);
    assert_eq!(bench.cpu.cpl, 0);
    assert_eq!(bench.cpu.seg[SS].selector, DATA0);
    assert_eq!(bench.cpu.regs[RSP], INNER_STACK - 20);
    let expected = [CODE, CODE3 as u64, flags::RF | 2, USER_STACK, DATA3 as u64];
    assert_eq!(bench.stack::<4, 5>(), expected);
}

#[test]
fn a_16_bit_gate_pushes_words() {
    let mut bench = Bench::protected();
    bench.gate(INVALID_OPCODE as u64, 0x86);
    bench.run(UD2);
    assert_eq!(bench.cpu.rip, handler(INVALID_OPCODE) & 0xffff);
    assert_eq!(bench.cpu.regs[RSP], STACK - 6);
}

#[test]
fn a_software_interrupt_returns_behind_itself_and_needs_the_gates_leave() {
    let mut bench = Bench::protected().user();
    // Vector 0x40's gate has DPL 0.
    assert_eq!(bench.fault(INT_40, GENERAL_PROTECTION), 0x40 * 8 + 2);
    let mut bench = Bench::protected().user();
    bench.gate(0x40, USER_GATE);
    bench.run(INT_40);
    bench.assert_in(0x40);
    assert_eq!(bench.stack::<4, 1>(), [CODE + 2]);
    let mut bench = Bench::protected().user();
    bench.gate(BREAKPOINT as u64, USER_GATE);
    bench.run(INT3);
    bench.assert_in(BREAKPOINT);
    assert_eq!(bench.stack::<4, 1>(), [CODE + 1]);
    // INT1 asks no gate.
    let mut bench = Bench::protected().user();
    bench.run(&[0xf1]);
    bench.assert_in(DEBUG);
}

#[test]
fn what_is_wrong_with_a_gate_names_it() {
    let mut bench = Bench::protected();
    bench.gate(INVALID_OPCODE as u64, 0x0e);
    assert_eq!(bench.fault(UD2, SEGMENT_NOT_PRESENT), 6 * 8 + 3);
    let mut bench = Bench::protected();
    bench.gate(INVALID_OPCODE as u64, 0x8c);
    assert_eq!(bench.fault(UD2, GENERAL_PROTECTION), 6 * 8 + 3);
    let mut bench = Bench::protected();
    bench.gate_to(INVALID_OPCODE as u64, DATA0, INTERRUPT_GATE, 0);
    assert_eq!(bench.fault(UD2, GENERAL_PROTECTION), DATA0 as u64 | 1);
    let mut bench = Bench::protected();
    bench.gate_to(INVALID_OPCODE as u64, 0, INTERRUPT_GATE, 0);
    assert_eq!(bench.fault(UD2, GENERAL_PROTECTION), 1);
    // EXT stays clear for INT n.
    let mut bench = Bench::protected();
    bench.gate_to(0x40, DATA0, INTERRUPT_GATE, 0);
    assert_eq!(bench.fault(INT_40, GENERAL_PROTECTION), DATA0 as u64);
}

#[test]
fn a_bad_inner_stack_is_an_invalid_tss() {
    let mut bench = Bench::protected().user();
    bench.task_stack(0, DATA3, INNER_STACK as u32);
    // The handler of #TS meets the same TSS: a double fault, and then the end.
    bench.run(UD2);
    assert_eq!(bench.cpu.activity, Activity::Shutdown);
    let mut bench = Bench::protected().user();
    bench.task_stack(0, DATA3, INNER_STACK as u32);
    bench.gate_to(INVALID_TSS as u64, CONFORMING, INTERRUPT_GATE, 0);
    assert_eq!(bench.fault(UD2, INVALID_TSS), DATA3 as u64 & !3 | 1);
}

#[test]
fn contributory_faults_make_a_double_fault_and_the_third_a_shutdown() {
    let mut bench = Bench::protected();
    bench.gate(GENERAL_PROTECTION as u64, 0);
    // #GP raised by the instruction, #GP raised by its gate: both contributory.
    assert_eq!(bench.fault(LTR_NULL, DOUBLE_FAULT), 0);
    let mut bench = Bench::protected();
    bench.gate(GENERAL_PROTECTION as u64, 0);
    bench.gate(DOUBLE_FAULT as u64, 0);
    bench.run(LTR_NULL);
    assert_eq!(bench.cpu.activity, Activity::Shutdown);
}

#[test]
fn a_benign_fault_first_does_not_make_a_double_fault() {
    let mut bench = Bench::protected();
    bench.gate(INVALID_OPCODE as u64, 0);
    assert_eq!(bench.fault(UD2, GENERAL_PROTECTION), 6 * 8 + 3);
}

#[test]
fn a_64_bit_frame_always_has_the_stack_pointer_and_is_aligned() {
    let mut bench = Bench::long();
    bench.cpu.regs[RSP] = STACK + 5;
    bench.run(UD2);
    bench.assert_in(INVALID_OPCODE);
    assert_eq!(bench.cpu.regs[RSP], STACK - 40);
    let expected = [CODE, CODE0 as u64, flags::RF | 2, STACK + 5, DATA0 as u64];
    assert_eq!(bench.stack::<8, 5>(), expected);
}

#[test]
fn level_3_enters_64_bit_handlers_with_a_null_stack_segment() {
    let mut bench = Bench::long().user();
    bench.run(UD2);
    assert_eq!(bench.cpu.regs[RSP], INNER_STACK - 40);
    assert_eq!(bench.cpu.seg[SS].selector, 0);
    assert_eq!(bench.cpu.cpl, 0);
}

#[test]
fn an_ist_stack_is_taken_whatever_the_level() {
    let mut bench = Bench::long();
    bench.gate_to(INVALID_OPCODE as u64, CODE0, INTERRUPT_GATE, 1);
    bench.run(UD2);
    assert_eq!(bench.cpu.regs[RSP], IST_STACK - 40);
}

#[test]
fn a_page_fault_leaves_its_address_in_cr2_and_bits_in_its_code() {
    let mut bench = Bench::long().user();
    // MOV [0x40_0000], AL: not mapped.
    let code = bench.fault(&[0x88, 0x04, 0x25, 0, 0, 0x40, 0], PAGE_FAULT);
    assert_eq!((code, bench.cpu.cr2), (0b110, 0x40_0000));
}

#[test]
fn a_page_fault_while_a_page_fault_is_delivered_is_a_double_fault() {
    let mut bench = Bench::long();
    bench.cpu.regs[RSP] = 0x50_0000;
    bench.gate_to(DOUBLE_FAULT as u64, CODE0, INTERRUPT_GATE, 1);
    let code = bench.fault(&[0x88, 0x04, 0x25, 0, 0, 0x40, 0], DOUBLE_FAULT);
    assert_eq!((code, bench.cpu.cr2), (0, 0x50_0000 - 8));
}

#[test]
fn handlers_of_ia32e_mode_are_64_bit_code() {
    let mut bench = Bench::long();
    bench.gate_to(INVALID_OPCODE as u64, COMPATIBILITY & !3, INTERRUPT_GATE, 0);
    let code = bench.fault(UD2, GENERAL_PROTECTION);
    assert_eq!(code, (COMPATIBILITY & !3) as u64 | 1);
}

#[test]
fn an_nmi_blocks_the_next_until_iret() {
    let mut bench = Bench::long();
    bench.bus.signals[0].nmi = true;
    bench.run(&[0x90]);
    bench.assert_in(NMI);
    bench.bus.signals[0].nmi = true;
    bench.run(&[0x90]);
    assert_eq!(bench.cpu.rip, handler(NMI) + 1);
    // IRETQ ends the blocking: the second comes before the interrupted program goes on.
    bench.run(&[0x48, 0xcf]);
    assert_eq!(bench.cpu.rip, CODE);
    bench.step();
    bench.assert_in(NMI);
}

#[test]
fn time_passes_even_where_every_instruction_faults() {
    let mut bench = Bench::protected();
    let before = bench.cpu.icount;
    bench.run(UD2);
    assert_eq!(bench.cpu.icount, before + 1);
}
