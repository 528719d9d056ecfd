//! Far transfers, IRET and the fast system calls.

use super::*;
use crate::cpu::exception::vector::*;
use crate::cpu::{CodeSize, R11, RAX, RCX};

const IRETD: &[u8] = &[0xcf];
const IRETQ: &[u8] = &[0x48, 0xcf];
const RETF: &[u8] = &[0xcb];

/// JMP FAR and CALL FAR with a 32-bit offset.
fn far(opcode: u8, selector: u16, offset: u32) -> Vec<u8> {
    let mut code = vec![opcode];
    code.extend(offset.to_le_bytes());
    code.extend(selector.to_le_bytes());
    code
}
const JMP: u8 = 0xea;
const CALL: u8 = 0x9a;

impl Bench {
    fn push<const BYTES: u64>(&mut self, values: &[u64]) {
        for value in values {
            self.cpu.regs[RSP] -= BYTES;
            self.store::<BYTES>(self.cpu.regs[RSP], *value);
        }
    }
}

#[test]
fn far_jumps_stay_at_their_level() {
    let mut bench = Bench::protected();
    bench.run(&far(JMP, CODE0, 0x1_2345));
    assert_eq!((bench.cpu.rip, bench.cpu.seg[CS].selector), (0x1_2345, CODE0));
    let mut bench = Bench::protected();
    assert_eq!(
        bench.fault(&far(JMP, CODE3, 0), GENERAL_PROTECTION),
        CODE3 as u64 & !3
    );
    // Conforming code runs at the caller's level.
    let mut bench = Bench::protected().user();
    bench.run(&far(JMP, CONFORMING, 0x1_2345));
    assert_eq!((bench.cpu.cpl, bench.cpu.seg[CS].selector), (3, CONFORMING | 3));
    let mut bench = Bench::protected();
    bench.descriptor(CONFORMING, 0x0040_9f00_0000_0fff);
    assert_eq!(bench.fault(&far(JMP, CONFORMING, 0x1000), GENERAL_PROTECTION), 0);
}

#[test]
fn a_far_call_comes_back() {
    let mut bench = Bench::protected();
    bench.run(&far(CALL, CODE0, 0x1_2000));
    assert_eq!(bench.stack::<4, 2>(), [CODE + 7, CODE0 as u64]);
    bench.run(RETF);
    assert_eq!((bench.cpu.rip, bench.cpu.regs[RSP]), (CODE + 7, STACK));
}

#[test]
fn a_call_gate_leads_inwards_with_its_parameters() {
    let mut bench = Bench::protected().user();
    // Two parameters, DPL 3, to CODE0:0x1_2000.
    bench.descriptor(CALL_GATE, 0x0001_ec02_0008_2000);
    bench.push::<4>(&[0x11, 0x22]);
    bench.run(&far(CALL, CALL_GATE | 3, 0xdead));
    assert_eq!((bench.cpu.cpl, bench.cpu.rip), (0, 0x1_2000));
    let user = USER_STACK - 8;
    let expected = [CODE + 7, CODE3 as u64, 0x22, 0x11, user, DATA3 as u64];
    assert_eq!(bench.stack::<4, 6>(), expected);
    assert_eq!(bench.cpu.regs[RSP], INNER_STACK - 24);
    // RETF 8 releases them on both stacks.
    bench.run(&[0xca, 8, 0]);
    assert_eq!((bench.cpu.cpl, bench.cpu.rip), (3, CODE + 7));
    assert_eq!(
        (bench.cpu.regs[RSP], bench.cpu.seg[SS].selector),
        (USER_STACK, DATA3)
    );
    assert_eq!(bench.cpu.seg[DS].selector, DATA3);
}

#[test]
fn a_call_gate_of_ia32e_mode_has_16_bytes() {
    let mut bench = Bench::long().user();
    bench.descriptor(CALL_GATE, 0x0001_ec00_0008_2000);
    bench.store::<8>(GDT + CALL_GATE as u64 + 8, 0);
    // CALL FAR [RAX].
    bench.cpu.regs[RAX] = 0xd000;
    bench.store::<8>(0xd000, (CALL_GATE as u64 | 3) << 32);
    bench.run(&[0xff, 0x18]);
    assert_eq!((bench.cpu.cpl, bench.cpu.rip), (0, 0x1_2000));
    let expected = [CODE + 2, CODE3 as u64, USER_STACK, DATA3 as u64];
    assert_eq!(bench.stack::<8, 4>(), expected);
}

#[test]
fn iret_to_an_outer_level_drops_segments_of_inner_ones() {
    let mut bench = Bench::protected();
    let popped = flags::IF | flags::IOPL | flags::TF | flags::ID | 2;
    bench.push::<4>(&[
        DATA3 as u64,
        USER_STACK,
        popped & !flags::TF,
        CODE3 as u64,
        0x1_2000,
    ]);
    bench.run(IRETD);
    assert_eq!(
        (bench.cpu.cpl, bench.cpu.rip, bench.cpu.regs[RSP]),
        (3, 0x1_2000, USER_STACK)
    );
    assert_eq!(bench.cpu.flags.get(), popped & !flags::TF);
    assert_eq!(bench.cpu.seg[DS].selector, 0);
    assert!(!bench.cpu.seg[DS].rights.usable());
}

#[test]
fn iret_at_level_3_changes_neither_iopl_nor_if() {
    let mut bench = Bench::protected().user();
    let popped = flags::IF | flags::IOPL | flags::CF | 2;
    bench.push::<4>(&[popped, CODE3 as u64, 0x1_2000]);
    bench.run(IRETD);
    assert_eq!(bench.cpu.flags.get(), flags::CF | 2);
}

#[test]
fn iret_may_not_go_inwards() {
    let mut bench = Bench::protected().user();
    bench.push::<4>(&[2, CODE0 as u64, 0x1_2000]);
    assert_eq!(bench.fault(IRETD, GENERAL_PROTECTION), CODE0 as u64);
}

#[test]
fn iretq_pops_the_stack_pointer_always() {
    let mut bench = Bench::long();
    bench.push::<8>(&[0, 0x7770, 2, CODE0 as u64, 0x1_2000]);
    bench.run(IRETQ);
    assert_eq!(
        (bench.cpu.rip, bench.cpu.regs[RSP], bench.cpu.seg[SS].selector),
        (0x1_2000, 0x7770, 0)
    );
    let mut bench = Bench::long();
    bench.push::<8>(&[0, 0x7770, 2, CODE0 as u64, 1 << 47]);
    assert_eq!(bench.fault(IRETQ, GENERAL_PROTECTION), 0);
}

#[test]
fn iretq_enters_compatibility_mode() {
    let mut bench = Bench::long();
    bench.push::<8>(&[DATA3 as u64, USER_STACK, 2, COMPATIBILITY as u64, 0x1_2000]);
    bench.run(IRETQ);
    assert_eq!((bench.cpu.code_size, bench.cpu.cpl), (CodeSize::Bits32, 3));
    bench.run(&[0x0f, 0x0b]);
    bench.assert_in(INVALID_OPCODE);
    assert_eq!(bench.cpu.code_size, CodeSize::Bits64);
}

#[test]
fn nt_in_ia32e_mode_is_a_general_protection_fault() {
    let mut bench = Bench::long();
    bench.cpu.flags.set(flags::NT);
    assert_eq!(bench.fault(IRETQ, GENERAL_PROTECTION), 0);
}

#[test]
fn syscall_and_sysret() {
    let mut bench = Bench::long().user();
    bench.cpu.efer |= EFER_SCE;
    bench.cpu.msr.star = 0x0013_0008 << 32;
    bench.cpu.msr.lstar = 0x1_3000;
    bench.cpu.msr.fmask = flags::IF | flags::TF;
    bench.cpu.flags.set(flags::IF | flags::CF);
    bench.run(&[0x0f, 0x05]);
    assert_eq!((bench.cpu.cpl, bench.cpu.rip), (0, 0x1_3000));
    assert_eq!(
        (bench.cpu.regs[RCX], bench.cpu.regs[R11]),
        (CODE + 2, flags::IF | flags::CF | 2)
    );
    assert_eq!(bench.cpu.flags.get(), flags::CF | 2);
    assert_eq!(
        (bench.cpu.seg[CS].selector, bench.cpu.seg[SS].selector),
        (8, 0x10)
    );
    bench.run(&[0x48, 0x0f, 0x07]);
    assert_eq!((bench.cpu.cpl, bench.cpu.rip), (3, CODE + 2));
    assert_eq!(
        (bench.cpu.seg[CS].selector, bench.cpu.seg[SS].selector),
        (0x23, 0x1b)
    );
    assert_eq!(bench.cpu.flags.get(), flags::IF | flags::CF | 2);
    bench.cpu.efer &= !EFER_SCE;
    bench.run(&[0x0f, 0x05]);
    bench.assert_in(INVALID_OPCODE);
}

#[test]
fn sysenter_and_sysexit() {
    let mut bench = Bench::protected().user();
    assert_eq!(bench.fault(&[0x0f, 0x34], GENERAL_PROTECTION), 0);
    let mut bench = Bench::protected().user();
    bench.cpu.msr.sysenter_cs = 8;
    bench.cpu.msr.sysenter_eip = 0x1_3000;
    bench.cpu.msr.sysenter_esp = 0x7000;
    bench.run(&[0x0f, 0x34]);
    assert_eq!(
        (bench.cpu.cpl, bench.cpu.rip, bench.cpu.regs[RSP]),
        (0, 0x1_3000, 0x7000)
    );
    bench.cpu.regs[RCX] = USER_STACK;
    bench.cpu.regs[crate::cpu::RDX] = CODE;
    bench.run(&[0x0f, 0x35]);
    assert_eq!(
        (bench.cpu.cpl, bench.cpu.rip, bench.cpu.regs[RSP]),
        (3, CODE, USER_STACK)
    );
    assert_eq!(
        (bench.cpu.seg[CS].selector, bench.cpu.seg[SS].selector),
        (0x1b, 0x23)
    );
}
