//! What comparisons with other processors (tests/oracle) found wrong here, each by its name.

use super::*;
use crate::cpu::exception::vector::*;
use crate::cpu::{Activity, RAX, RBP, RCX, RDI, RSI};

#[test]
fn every_byte_of_an_instruction_lies_within_the_limit() {
    let mut bench = Bench::protected();
    bench.cpu.seg[CS].limit = CODE as u32 + 3;
    bench.cpu.update_mode();
    // XOR EAX, EAX ends at the limit, the next one behind it.
    bench.run(&[0x31, 0xc0]);
    assert_eq!(bench.cpu.rip, CODE + 2);
    assert_eq!(bench.fault(&[0x83, 0xc0, 1], GENERAL_PROTECTION), 0);
    assert_eq!(bench.stack::<4, 2>(), [0, CODE + 2]);
    assert_eq!(bench.cpu.regs[RAX], 0);
}

#[test]
fn the_limit_comes_before_a_missing_page() {
    let mut bench = Bench::protected();
    bench.store::<4>(PAGE_TABLES, (PAGE_TABLES + 0x1000) | 7);
    for page in 0..0x40 {
        bench.store::<4>(PAGE_TABLES + 0x1000 + 4 * page, page << 12 | 7);
    }
    bench.store::<4>(PAGE_TABLES + 0x1000 + 4 * 0x11, 0);
    bench.cpu.cr3 = PAGE_TABLES;
    bench.cpu.cr0 |= CR0_PG;
    bench.cpu.seg[CS].limit = 0x1_0fff;
    bench.cpu.refresh();
    bench.cpu.update_space();
    bench.cpu.rip = 0x1_0ffe;
    // MOV EAX, imm32
    bench.store::<2>(0x1_0ffe, 0xb8);
    bench.step();
    bench.assert_in(GENERAL_PROTECTION);
}

#[test]
fn vif_and_vip_together_stop_a_program_of_level_3() {
    let both = flags::VIF | flags::VIP;
    let mut bench = Bench::protected().user();
    bench.cpu.flags.set(both);
    bench.run(&[0x90]);
    assert_eq!(bench.cpu.rip, CODE + 1);
    bench.cpu.cr4 |= CR4_PVI;
    assert_eq!(bench.fault(&[0x90], GENERAL_PROTECTION), 0);
    assert_eq!(
        bench.stack::<4, 4>(),
        [0, CODE + 1, CODE3 as u64, both | flags::RF | 2]
    );
}

#[test]
fn a_fault_takes_no_data_breakpoint_along() {
    let mut bench = Bench::protected();
    bench.cpu.dr[0] = STACK;
    bench.cpu.write_dr7(3 << 16 | 2);
    // IRET to a null selector, which reads the frame before it faults.
    assert_eq!(bench.fault(&[0xcf], GENERAL_PROTECTION), 0);
    assert_eq!((bench.cpu.pending_debug, bench.cpu.dr6), (0, 0xffff_0ff0));
}

#[test]
fn extended_numbers_are_aligned_to_eight_bytes() {
    let mut bench = Bench::protected().user();
    bench.cpu.cr0 |= CR0_AM;
    bench.cpu.set_flags(flags::AC);
    bench.cpu.regs[RAX] = 0x5008;
    // FLD m80
    bench.run(&[0xdb, 0x28]);
    assert_eq!(bench.cpu.rip, CODE + 2);
    bench.cpu.regs[RAX] = 0x5004;
    assert_eq!(bench.fault(&[0xdb, 0x28], ALIGNMENT_CHECK), 0);
}

#[test]
fn a_return_that_fails_on_the_stack_leaves_the_code_segment_alone() {
    let mut bench = Bench::protected();
    bench.descriptor(CODE3, 0x00cf_fa00_0000_ffff);
    // RETF to CPL 3 with a stack of level 0.
    for (at, value) in [(0, CODE), (4, CODE3 as u64), (8, 0), (12, DATA0 as u64)] {
        bench.store::<4>(STACK + at, value);
    }
    assert_eq!(bench.fault(&[0xcb], GENERAL_PROTECTION), DATA0 as u64);
    let rights = bench.load::<1>(GDT + (CODE3 & !7) as u64 + 5);
    assert_eq!(rights, 0xfa);
}

#[test]
fn a_task_that_cannot_begin_makes_no_debug_trap() {
    let mut bench = Bench::protected();
    bench.descriptor(OTHER_TSS_SELECTOR, 0x0000_8900_3200_0067);
    // T is set, and CS is null.
    bench.store::<2>(OTHER_TSS + 0x64, 1);
    // JMP to the TSS
    bench.run(&[0xea, 0, 0, 0, 0, OTHER_TSS_SELECTOR as u8, 0]);
    assert_eq!(
        bench.cpu.first_fault.map(|fault| fault.event.vector),
        Some(INVALID_TSS)
    );
    assert_eq!(bench.cpu.pending_debug, 0);
}

/// Instructions in user mode with alignment checks on and nothing mapped at 4 MB.
fn user_with_checks() -> Bench {
    let mut bench = Bench::long().user();
    bench.cpu.cr0 |= CR0_AM;
    bench.cpu.set_flags(flags::AC);
    bench
}

const ABSENT_PAGE: u64 = 0x40_0000;

#[test]
fn an_x87_store_that_is_held_back_does_not_look_at_memory() {
    // FISTTP m16, FIST m32, FSTP m64 to [RAX], ST(0) being empty.
    for code in [[0xdf, 0x08], [0xdb, 0x10], [0xdd, 0x18]] {
        for address in [ABSENT_PAGE, 0x8_0001] {
            let mut bench = user_with_checks();
            bench.cpu.regs[RAX] = address;
            // #IA is not masked.
            bench.cpu.x87.control = 0x37e;
            bench.run(&code);
            assert_eq!(bench.cpu.rip, CODE + 2, "{code:x?}");
            // IE, SF, ES and B.
            assert_eq!(bench.cpu.x87.status, 0x80c1);
        }
        // The masked response is stored.
        let mut bench = user_with_checks();
        bench.cpu.regs[RAX] = ABSENT_PAGE;
        bench.run(&code);
        bench.assert_in(PAGE_FAULT);
        assert_eq!(bench.cpu.x87.status, 0);
    }
}

#[test]
fn a_cmpxchg_that_fails_does_not_write_its_register() {
    let mut bench = Bench::long();
    (bench.cpu.regs[RAX], bench.cpu.regs[RCX]) = (1, 0x1234_5678_0000_0002);
    // CMPXCHG ECX, EDX
    bench.run(&[0x0f, 0xb1, 0xd1]);
    assert_eq!(
        (bench.cpu.regs[RAX], bench.cpu.regs[RCX]),
        (2, 0x1234_5678_0000_0002)
    );
}

#[test]
fn cmpxchg16b_is_misaligned_before_its_page_is_missing() {
    let mut bench = user_with_checks();
    bench.cpu.regs[RAX] = ABSENT_PAGE + 8;
    assert_eq!(bench.fault(&[0x48, 0x0f, 0xc7, 0x08], GENERAL_PROTECTION), 0);
}

#[test]
fn maskmovdqu_is_refused_by_its_segment_before_it_is_misaligned() {
    let mut bench = Bench::protected().user();
    bench.cpu.cr0 |= CR0_AM;
    bench.cpu.cr4 |= CR4_OSFXSR;
    bench.cpu.set_flags(flags::AC);
    bench.cpu.regs[RDI] = CODE + 0x101;
    bench.cpu.ymm[1] = [!0; 4];
    // MASKMOVDQU XMM0, XMM1 to CS:[EDI]: a code segment cannot be written.
    let maskmovdqu = [0x2e, 0x66, 0x0f, 0xf7, 0xc1];
    assert_eq!(bench.fault(&maskmovdqu, GENERAL_PROTECTION), 0);
}

#[test]
fn arpl_writes_no_selector_that_it_does_not_change() {
    let mut bench = Bench::protected();
    bench.cpu.regs[RAX] = CODE + 0x100;
    bench.store::<2>(CODE + 0x100, 1);
    // ARPL CS:[EAX], CX: a code segment cannot be written.
    let arpl = [0x2e, 0x63, 0x08];
    bench.cpu.regs[RCX] = 1;
    bench.run(&arpl);
    assert_eq!(bench.cpu.rip, CODE + 3);
    bench.cpu.regs[RCX] = 2;
    assert_eq!(bench.fault(&arpl, GENERAL_PROTECTION), 0);
}

#[test]
fn cmps_reads_its_destination_first() {
    let mut bench = Bench::long();
    (bench.cpu.regs[RSI], bench.cpu.regs[RDI]) = (ABSENT_PAGE, ABSENT_PAGE + 0x1000);
    bench.fault(&[0xa6], PAGE_FAULT);
    assert_eq!(bench.cpu.cr2, ABSENT_PAGE + 0x1000);
}

#[test]
fn images_of_x87_state_are_aligned_as_their_operand_size_says() {
    // FNSAVE [RAX] of 94 bytes, of 108, and FXSAVE.
    for (code, address) in [
        (&[0x66, 0xdd, 0x30][..], 0x8_0001),
        (&[0xdd, 0x30], 0x8_0002),
        (&[0x0f, 0xae, 0x00], 0x8_0002),
    ] {
        let mut bench = user_with_checks();
        bench.cpu.regs[RAX] = address;
        assert_eq!(bench.fault(code, ALIGNMENT_CHECK), 0, "{code:x?}");
    }
    let mut bench = user_with_checks();
    bench.cpu.regs[RAX] = 0x8_0004;
    bench.fault(&[0x0f, 0xae, 0x00], GENERAL_PROTECTION);
}

#[test]
fn a_store_of_mmx_turns_the_stack_even_if_it_faults() {
    let mut bench = Bench::long();
    bench.cpu.x87.status = 3 << 11;
    bench.cpu.regs[RAX] = ABSENT_PAGE;
    // MOVQ [RAX], MM0
    bench.fault(&[0x0f, 0x7f, 0x00], PAGE_FAULT);
    assert_eq!((bench.cpu.x87.status, bench.cpu.x87.tag), (0, 0xffff));
}

#[test]
fn enter_does_not_begin_twice_where_the_new_top_of_the_stack_is_code() {
    const TOP: u64 = CODE + 0x9000;
    let mut bench = Bench::long();
    (bench.cpu.regs[RSP], bench.cpu.regs[RBP]) = (TOP + 13, TOP + 10);
    bench.store::<4>(TOP + 6, 0x4433_2211);
    // NOP; ENTER of 16 bits with level 3, in one block, which the frame ends in.
    let locals = (TOP + 5 - CODE) as u16;
    let [low, high] = locals.to_le_bytes().map(u64::from);
    for (n, byte) in [0x90, 0x66, 0xc8, low, high, 3u64].into_iter().enumerate() {
        bench.store::<1>(CODE + n as u64, byte);
    }
    bench.turn(bench.cpu.icount + 2);
    assert_eq!(bench.load::<4>(TOP + 7), 0x4433_2211);
}

#[test]
fn a_far_call_that_cannot_push_leaves_its_descriptor_alone() {
    let mut bench = Bench::protected().user();
    bench.descriptor(CODE3, 0x00cf_fa00_0000_ffff);
    bench.cpu.seg[SS].limit = 0xff;
    bench.cpu.update_mode();
    let call = &[0x9a, 0, 0, 2, 0, CODE3 as u8, 0];
    assert_eq!(bench.fault(call, STACK_FAULT), 0);
    assert_eq!(bench.load::<1>(GDT + 0x18 + 5), 0xfa);
}

#[test]
fn a_return_outwards_looks_at_the_stack_before_the_instruction_pointer() {
    const EMPTY: u16 = 0x7b;
    for (stack, error) in [(EMPTY, EMPTY as u64 & !3), (DATA3, 0)] {
        // RETF, IRET
        for (code, flags) in [(0xcb, None), (0xcf, Some(2))] {
            let mut bench = Bench::protected();
            bench.descriptor(CODE3, 0x0040_fb00_0000_0fff);
            bench.descriptor(DATA3, 0x00cf_f200_0000_ffff);
            let frame = [
                Some(0x1000),
                Some(CODE3 as u64),
                flags,
                Some(USER_STACK),
                Some(stack as u64),
            ];
            for (value, n) in frame.into_iter().flatten().zip(0..) {
                bench.store::<4>(STACK + 4 * n, value);
            }
            assert_eq!(bench.fault(&[code], GENERAL_PROTECTION), error);
            // The stack segment was not loaded: it is not accessed.
            assert_eq!(bench.load::<1>(GDT + (DATA3 & !7) as u64 + 5), 0xf2);
        }
    }
}

#[test]
fn sgdt_aligns_a_word_and_then_the_base() {
    let aligned = |address: u8| {
        let mut bench = Bench::protected().user();
        bench.cpu.cr0 |= CR0_AM;
        bench.cpu.flags.set(flags::AC);
        bench.cpu.refresh();
        bench.run(&[0x0f, 0x01, 0x05, address, 0xd0, 0, 0]);
        bench.cpu.rip == CODE + 7
    };
    assert_eq!([0, 1, 2, 4, 6].map(aligned), [false, false, true, false, true]);
}

#[test]
fn long_mode_does_not_begin_with_a_tss_of_16_bits() {
    for (rights, begins) in [(0x83, false), (0x8b, true)] {
        let mut bench = Bench::protected();
        bench.cpu.seg[TR].rights = Rights(rights);
        bench.cpu.efer = EFER_LME;
        bench.cpu.cr4 = CR4_PAE;
        bench.cpu.cr3 = PAGE_TABLES;
        let done = bench.cpu.write_cr0(&mut bench.bus, CR0_PE | CR0_ET | CR0_PG);
        assert_eq!(done.is_ok(), begins);
        assert_eq!(bench.cpu.efer & EFER_LMA != 0, begins);
    }
}

#[test]
fn a_data_breakpoint_stops_a_repeated_instruction_at_its_element() {
    let mut bench = Bench::protected();
    bench.cpu.dr[0] = STACK + 2;
    bench.cpu.write_dr7(1 << 16 | 2);
    bench.cpu.regs[RCX] = 8;
    bench.cpu.regs[crate::cpu::RDI] = STACK;
    // REP STOSB
    bench.run(&[0xf3, 0xaa]);
    bench.step();
    bench.assert_in(DEBUG);
    assert_eq!(bench.cpu.regs[RCX], 5);
}

#[test]
fn real_address_mode_reads_the_vector_when_all_is_pushed() {
    let mut bench = Bench::real();
    // The vector is where CS:IP is pushed.
    let top = bench.cpu.seg[SS].base + bench.cpu.regs[RSP];
    bench.cpu.idtr.base = top - 6 - 4 * 0x40;
    bench.run(&[0xcd, 0x40]);
    assert_eq!((bench.cpu.seg[CS].selector, bench.cpu.rip), (0x100, 2));
}

#[test]
fn a_task_that_switches_to_itself_goes_on() {
    let mut bench = Bench::protected();
    bench.descriptor(OTHER_TSS_SELECTOR, 0x0000_8900_0000_0067 | TSS << 16);
    bench.cpu.regs[RAX] = 0x1234_5678;
    // JMP FAR, which comes back behind itself
    bench.run(&[0xea, 0, 0, 0, 0, OTHER_TSS_SELECTOR as u8, 0]);
    assert_eq!((bench.cpu.rip, bench.cpu.regs[RAX]), (CODE + 7, 0x1234_5678));
    assert_eq!(bench.cpu.seg[TR].selector, OTHER_TSS_SELECTOR);
}

#[test]
fn an_interrupt_looks_at_its_stack_before_where_its_handler_begins() {
    let mut bench = Bench::protected().user();
    // Code of level 1 with room for one byte, and a stack of level 0.
    bench.descriptor(ABSENT, 0x0040_bb00_0000_0000);
    bench.gate_to(0x20, ABSENT, USER_GATE, 0);
    bench.task_stack(1, DATA0, INNER_STACK as u32);
    assert_eq!(bench.fault(&[0xcd, 0x20], INVALID_TSS), DATA0 as u64);
}

#[test]
fn an_interrupt_that_fails_on_the_stack_leaves_the_code_segment_alone() {
    for (mut bench, limit) in [(Bench::protected(), 0), (Bench::long(), 0)] {
        // Not yet accessed; the stack has no room, or no page.
        let code = bench.load::<8>(GDT + CODE0 as u64) & !(1 << 40);
        bench.descriptor(CODE0, code);
        bench.cpu.seg[SS].limit = limit;
        bench.cpu.regs[RSP] = 0x4000_0000;
        // INT 0x20, and #SS or #PF end in #DF, through the same segment.
        bench.run(&[0xcd, 0x20]);
        assert_eq!(bench.cpu.activity, Activity::Shutdown);
        assert_eq!(bench.load::<8>(GDT + CODE0 as u64), code);
    }
}
