//! Real-address and virtual-8086 mode.

use super::*;
use crate::cpu::cet::control;
use crate::cpu::exception::vector::*;
use crate::cpu::segment::{FS, GS};
use crate::cpu::{CodeSize, RAX, RBX, RCX};

const IRET: &[u8] = &[0xcf];

#[test]
fn real_mode_delivers_through_the_vectors_without_error_codes() {
    let mut bench = Bench::real();
    bench.cpu.flags.set(flags::IF | flags::CF);
    bench.run(&[0xcd, 0x21]);
    assert_eq!((bench.cpu.seg[CS].base, bench.cpu.rip), (0, 0x600 + 16 * 0x21));
    assert_eq!(bench.stack::<2, 3>(), [2, 0x100, flags::IF | flags::CF | 2]);
    assert_eq!(bench.cpu.flags.get(), flags::CF | 2);
    bench.run(IRET);
    assert_eq!(
        (bench.cpu.seg[CS].selector, bench.cpu.rip, bench.cpu.regs[RSP]),
        (0x100, 2, 0x1000)
    );
    assert!(bench.cpu.flags.has(flags::IF));
}

#[test]
fn a_segment_loaded_in_real_mode_keeps_the_limit_of_protected_mode() {
    let mut bench = Bench::real();
    bench.cpu.seg[DS].limit = 0xffff_ffff;
    bench.cpu.update_mode();
    bench.cpu.regs[RAX] = 0x200;
    bench.run(&[0x8e, 0xd8]);
    assert_eq!(
        (bench.cpu.seg[DS].base, bench.cpu.seg[DS].limit),
        (0x2000, 0xffff_ffff)
    );
    // MOV AL, [EAX]: beyond 64 KiB.
    bench.cpu.regs[RAX] = 0x2_0000;
    bench.run(&[0x67, 0x8a, 0x00]);
    assert_eq!(bench.cpu.rip, 5);
}

#[test]
fn the_way_into_protected_mode() {
    let mut bench = Bench::real();
    bench.tables(0x00cf_9b00_0000_ffff);
    bench.cpu.regs[RAX] = bench.cpu.cr0 | CR0_PE;
    // MOV CR0, EAX; JMP FAR CODE0:0x1_0000 with a 32-bit offset.
    bench.run(&[0x0f, 0x22, 0xc0]);
    assert_eq!(bench.cpu.code_size, CodeSize::Bits16);
    bench.run(&[0x66, 0xea, 0, 0, 1, 0, 8, 0]);
    assert_eq!((bench.cpu.code_size, bench.cpu.rip), (CodeSize::Bits32, CODE));
}

/// A virtual-8086 program at 0x1000:0 with its stack at 0x800:0x1000, entered by IRET.
fn virtual_8086(flags: u64) -> Bench {
    let mut bench = to_virtual_8086(flags);
    bench.run(IRET);
    bench
}

/// What an IRET to it finds.
fn to_virtual_8086(flags: u64) -> Bench {
    let mut bench = Bench::protected();
    let frame = [
        0x400,
        0x500,
        0x300,
        0x200,
        0x800,
        0x1000,
        flags | flags::VM | 2,
        0x1000,
        0,
    ];
    for value in frame {
        bench.cpu.regs[RSP] -= 4;
        bench.store::<4>(bench.cpu.regs[RSP], value);
    }
    bench
}

/// SDM vol. 2, IRET.
#[test]
fn there_is_no_way_to_virtual_8086_mode_where_control_flow_is_enforced() {
    for control in [control::SH_STK_EN, control::ENDBR_EN] {
        let mut bench = to_virtual_8086(0);
        bench.cpu.cr4 |= CR4_CET;
        bench.cpu.cet.user = control;
        bench.cpu.update_space();
        assert_eq!(bench.fault(IRET, GENERAL_PROTECTION), 0);
    }
}

/// Nothing was pushed on the way in, so the token is on top (SDM vol. 2, IRET and INT n).
#[test]
fn a_supervisor_leaves_its_shadow_stack_for_virtual_8086_mode_and_comes_back_to_it() {
    const TOKEN: u64 = 0x7ff8;
    let mut bench = to_virtual_8086(0);
    bench.cpu.cr4 |= CR4_CET;
    bench.cpu.cet.supervisor = control::SH_STK_EN;
    bench.cpu.cet.pl_ssp[0] = TOKEN;
    bench.cpu.cet.ssp = TOKEN;
    bench.cpu.update_space();
    bench.store::<8>(TOKEN, TOKEN | 1);
    bench.run(IRET);
    assert_eq!((bench.cpu.cpl, bench.load::<8>(TOKEN)), (3, TOKEN));
    bench.run(&[0x0f, 0x0b]);
    bench.assert_in(INVALID_OPCODE);
    assert_eq!((bench.cpu.cet.ssp, bench.load::<8>(TOKEN)), (TOKEN, TOKEN | 1));
}

#[test]
fn iret_enters_virtual_8086_mode() {
    let bench = virtual_8086(flags::IF);
    let cpu = &bench.cpu;
    assert!(cpu.virtual_8086());
    assert_eq!((cpu.cpl, cpu.code_size, cpu.rip), (3, CodeSize::Bits16, 0));
    let selectors = [CS, SS, ES, DS, FS, GS].map(|index| cpu.seg[index].selector);
    assert_eq!(selectors, [0x1000, 0x800, 0x200, 0x300, 0x500, 0x400]);
    assert_eq!(cpu.seg[DS].base, 0x3000);
}

#[test]
fn an_exception_leaves_virtual_8086_mode_with_every_segment_on_the_stack() {
    let mut bench = virtual_8086(0);
    bench.run(&[0x0f, 0x0b]);
    bench.assert_in(INVALID_OPCODE);
    assert_eq!(bench.cpu.regs[RSP], INNER_STACK - 36);
    let expected = [
        0,
        0x1000,
        flags::VM | flags::RF | 2,
        0x1000,
        0x800,
        0x200,
        0x300,
        0x500,
        0x400,
    ];
    assert_eq!(bench.stack::<4, 9>(), expected);
    assert!(!bench.cpu.virtual_8086());
    assert_eq!(bench.cpu.seg[DS].selector, 0);
}

#[test]
fn virtual_8086_programs_need_iopl_3_for_int_n() {
    let mut bench = virtual_8086(0);
    assert_eq!(bench.fault(&[0xcd, 0x40], GENERAL_PROTECTION), 0);
    let mut bench = virtual_8086(flags::IOPL);
    bench.gate(0x40, USER_GATE);
    bench.run(&[0xcd, 0x40]);
    bench.assert_in(0x40);
    // CLI, too.
    let mut bench = virtual_8086(0);
    assert_eq!(bench.fault(&[0xfa], GENERAL_PROTECTION), 0);
}

#[test]
fn vme_redirects_int_n_to_the_program_with_vif_as_its_if() {
    let mut bench = virtual_8086(flags::VIF);
    bench.cpu.cr4 |= CR4_VME;
    bench.cpu.seg[TR].limit = 0x200;
    bench.store::<2>(TSS + 0x66, 0x100);
    bench.store::<4>(0x40 * 4, 0x1234_5678);
    bench.run(&[0xcd, 0x40]);
    assert_eq!((bench.cpu.seg[CS].selector, bench.cpu.rip), (0x1234, 0x5678));
    assert!(bench.cpu.virtual_8086() && !bench.cpu.flags.has(flags::VIF));
    assert_eq!(bench.stack::<2, 3>(), [2, 0x1000, flags::IOPL | flags::IF | 2]);
    // NT stays: SDM vol. 3, table 21-2.
    let mut bench = virtual_8086(flags::NT);
    bench.cpu.cr4 |= CR4_VME;
    bench.cpu.seg[TR].limit = 0x200;
    bench.store::<2>(TSS + 0x66, 0x100);
    bench.run(&[0xcd, 0x40]);
    assert!(bench.cpu.virtual_8086() && bench.cpu.flags.has(flags::NT));
    // The redirection bit set: the monitor's, by #GP.
    let mut bench = virtual_8086(0);
    bench.cpu.cr4 |= CR4_VME;
    bench.cpu.seg[TR].limit = 0x200;
    bench.store::<2>(TSS + 0x66, 0x100);
    bench.store::<1>(TSS + 0x100 - 32 + 8, 1);
    assert_eq!(bench.fault(&[0xcd, 0x40], GENERAL_PROTECTION), 0);
}

#[test]
fn code_of_16_bits_may_go_on_beyond_64_kib_where_the_limit_lets_it() {
    let mut bench = Bench::real();
    bench.cpu.rip = 0xffff;
    bench.cpu.idtr.base = 0;
    bench.run(&[0x90]);
    assert_eq!(bench.cpu.rip, 0x1_0000);
    bench.step();
    assert_eq!(bench.cpu.rip, 0x600 + 16 * GENERAL_PROTECTION as u64);
    let mut bench = Bench::real();
    bench.cpu.rip = 0xffff;
    bench.cpu.seg[CS].limit = 0xffff_ffff;
    bench.cpu.update_mode();
    bench.run(&[0x90]);
    bench.run(&[0x90]);
    assert_eq!(bench.cpu.rip, 0x1_0001);
}

/// All bytes of an instruction must lie within the limit, whatever it would do, and with one that does not none is done
/// (SDM vol. 3, 5.3).
#[test]
fn an_instruction_across_the_limit_faults_at_its_start() {
    for limit in [0x2f, 0x30, 0x31, 0x32, 0x33, 0x34] {
        // MOV EAX, imm32, of six bytes: the last is at 34H. In real-address mode the limit is one of big real mode.
        let code: &[u8] = &[0x66, 0xb8, 0x78, 0x56, 0x34, 0x12];
        let mut bench = Bench::real();
        bench.cpu.rip = 0x2f;
        bench.cpu.seg[CS].limit = limit;
        bench.cpu.update_mode();
        bench.run(code);
        if limit == 0x34 {
            assert_eq!((bench.cpu.rip, bench.cpu.regs[RAX]), (0x35, 0x1234_5678));
        } else {
            assert_eq!(
                bench.cpu.rip,
                0x600 + 16 * GENERAL_PROTECTION as u64,
                "limit {limit:#x}"
            );
            assert_eq!((bench.stack::<2, 1>(), bench.cpu.regs[RAX]), ([0x2f], 0));
        }
        // The same in 32-bit code, where it is MOV AX, imm16 and a byte that the limit does not hold back.
        let mut bench = Bench::protected();
        bench.cpu.rip = 0x2f;
        bench.cpu.seg[CS].base = CODE;
        bench.cpu.seg[CS].limit = limit;
        bench.cpu.update_mode();
        if limit >= 0x32 {
            bench.run(code);
            assert_eq!((bench.cpu.rip, bench.cpu.regs[RAX]), (0x33, 0x5678));
        } else {
            assert_eq!(bench.fault(code, GENERAL_PROTECTION), 0, "limit {limit:#x}");
            assert_eq!(bench.stack::<4, 2>(), [0, 0x2f]);
        }
    }
}

#[test]
fn nothing_wraps_at_64_kib_in_the_middle_of_an_instruction() {
    // MOV AX, imm16 at FFFFH and two below it, where there is room but for the last byte.
    for start in [0xffff, 0xfffe] {
        let mut bench = Bench::real();
        bench.cpu.rip = start;
        bench.run(&[0xb8, 0x34, 0x12]);
        assert_eq!(bench.cpu.rip, 0x600 + 16 * GENERAL_PROTECTION as u64);
        assert_eq!((bench.stack::<2, 1>(), bench.cpu.regs[RAX]), ([start], 0));
    }
    let mut bench = Bench::real();
    bench.cpu.rip = 0xfffd;
    bench.run(&[0xb8, 0x34, 0x12]);
    assert_eq!((bench.cpu.rip, bench.cpu.regs[RAX]), (0x1_0000, 0x1234));
    // A short branch forward from there wraps: its operand size is 16 bits.
    let mut bench = Bench::real();
    bench.cpu.rip = 0xfffe;
    bench.run(&[0xeb, 0x10]);
    assert_eq!(bench.cpu.rip, 0x10);
}

/// Also where it stands in a block that ran as a whole before, when the limit was higher.
#[test]
fn a_block_ends_where_the_limit_is_now() {
    let mut bench = Bench::real();
    // INC AX and INC BX, MOV CX, imm16 with its last byte at 34H, JMP to itself.
    for (at, byte) in [0x40, 0x43, 0xb9, 0x34, 0x12, 0xeb, 0xfe].into_iter().enumerate() {
        bench.store::<1>(0x1030 + at as u64, byte);
    }
    for (limit, end) in [(0xffff, 0x35), (0x34, 0x35), (0x33, 0x32), (0x32, 0x32)] {
        let cpu = &mut bench.cpu;
        cpu.seg[CS] = Segment::real(0x100);
        cpu.seg[CS].limit = limit;
        cpu.rip = 0x30;
        cpu.regs[RSP] = 0x1000;
        (cpu.regs[RAX], cpu.regs[RBX], cpu.regs[RCX]) = (0, 0, 0);
        cpu.update_mode();
        let until = bench.cpu.icount + 3;
        let turn = Turn {
            until,
            leave_breakpoint: false,
            mask_interrupts: false,
        };
        run::turn(&mut bench.cpu, &mut bench.bus, &mut bench.code, turn);
        assert_eq!((bench.cpu.regs[RAX], bench.cpu.regs[RBX]), (1, 1));
        if end == 0x35 {
            assert_eq!(
                (bench.cpu.rip, bench.cpu.regs[RCX]),
                (end, 0x1234),
                "limit {limit:#x}"
            );
        } else {
            assert_eq!(
                bench.cpu.rip,
                0x600 + 16 * GENERAL_PROTECTION as u64,
                "limit {limit:#x}"
            );
            assert_eq!((bench.stack::<2, 1>(), bench.cpu.regs[RCX]), ([end], 0));
        }
    }
}
