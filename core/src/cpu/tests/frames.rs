//! Stack frames, flags on the stack, and the FXSAVE image.

use super::*;
use crate::cpu::exception::vector;
use crate::cpu::RBP;

#[test]
fn enter_copies_the_outer_frames_pointers() {
    let mut bench = Bench::long();
    bench.cpu.regs[RBP] = 0x7000;
    bench.store::<8>(0x6ff8, 0x1111);
    bench.store::<8>(0x6ff0, 0x2222);
    // ENTER 20h, 3
    bench.run(&[0xc8, 0x20, 0, 3]);
    let frame = STACK - 8;
    assert_eq!(bench.cpu.regs[RBP], frame);
    assert_eq!(bench.cpu.regs[RSP], frame - 3 * 8 - 0x20);
    bench.cpu.regs[RSP] = frame - 24;
    assert_eq!(bench.stack::<8, 4>(), [frame, 0x2222, 0x1111, 0x7000]);
    // LEAVE
    bench.run(&[0xc9]);
    assert_eq!((bench.cpu.regs[RBP], bench.cpu.regs[RSP]), (0x7000, STACK));
}

#[test]
fn enter_that_faults_changes_no_register() {
    let mut bench = Bench::long();
    bench.cpu.regs[RBP] = 0x50_0000;
    // ENTER 0, 2: the first push succeeds, the outer frame's pointer is not mapped.
    bench.run(&[0xc8, 0, 0, 2]);
    bench.assert_in(vector::PAGE_FAULT);
    assert_eq!(bench.cpu.regs[RBP], 0x50_0000);
    let [.., rsp, _] = bench.stack::<8, 6>();
    assert_eq!(rsp, STACK);
}

#[test]
fn popf_changes_what_the_privilege_level_may() {
    let all =
        flags::IOPL | flags::IF | flags::AC | flags::ID | flags::NT | flags::VIF | flags::VIP | flags::CF;
    let popped = |bench: &mut Bench| {
        bench.cpu.regs[RSP] -= 8;
        let top = bench.cpu.regs[RSP];
        bench.store::<8>(top, all | flags::RF | flags::VM);
        bench.run(&[0x9d]);
        bench.cpu.flags.get() & !2
    };
    let supervisor = popped(&mut Bench::long());
    assert_eq!(supervisor, all & !(flags::VIF | flags::VIP));
    let user = popped(&mut Bench::long().user());
    assert_eq!(user, flags::AC | flags::ID | flags::NT | flags::CF);
}

#[test]
fn pushf_hides_rf_and_vm() {
    let mut bench = Bench::long();
    bench.cpu.set_flags(flags::RF | flags::CF);
    bench.run(&[0x9c]);
    assert_eq!(bench.stack::<8, 1>(), [flags::CF | 2]);
}

#[test]
fn pop_into_memory_addresses_by_the_stack_pointer_after_it() {
    let mut bench = Bench::long();
    bench.store::<8>(STACK, 0xabcd);
    // POP [RSP]
    bench.run(&[0x8f, 0x04, 0x24]);
    assert_eq!(bench.cpu.regs[RSP], STACK + 8);
    assert_eq!(bench.stack::<8, 1>(), [0xabcd]);
}

const FXSAVE64: &[u8] = &[0x48, 0x0f, 0xae, 0x07];
const FXRSTOR64: &[u8] = &[0x48, 0x0f, 0xae, 0x0f];
const IMAGE: u64 = 0x20_0000;

fn with_sse() -> Bench {
    let mut bench = Bench::long();
    bench.cpu.cr4 |= CR4_OSFXSR;
    bench.cpu.regs[crate::cpu::RDI] = IMAGE;
    bench
}

#[test]
fn what_fxsave_stores_fxrstor_loads() {
    let mut bench = with_sse();
    for n in 0..16u64 {
        bench.cpu.ymm[n as usize] = [n + 1, !n, 7, 8];
    }
    bench.cpu.mxcsr = 0x3fa0;
    // Two registers of the x87 in use, 1.0 and 0, below a top of 6.
    bench.cpu.x87.status = 6 << 11;
    bench.cpu.x87.registers[6] = (1 << 63, 0x3fff);
    bench.cpu.x87.registers[7] = (0, 0);
    bench.cpu.x87.tag = 0x4fff;
    let before = bench.cpu.clone();
    bench.run(FXSAVE64);
    assert_eq!(bench.load::<4>(IMAGE + 24), 0x3fa0);
    assert_eq!(bench.load::<1>(IMAGE + 4), 0xc0);
    assert_eq!(bench.load::<8>(IMAGE + 32), 1 << 63);
    assert_eq!(bench.load::<8>(IMAGE + 160 + 16 * 15), 16);
    bench.cpu.ymm = [[0, 0, 7, 8]; 16];
    bench.cpu.mxcsr = 0x1f80;
    bench.cpu.x87 = Default::default();
    bench.run(FXRSTOR64);
    assert_eq!(bench.cpu.ymm, before.ymm);
    assert_eq!(bench.cpu.mxcsr, before.mxcsr);
    assert_eq!(bench.cpu.x87.registers, before.x87.registers);
    assert_eq!(
        (bench.cpu.x87.tag, bench.cpu.x87.status),
        (before.x87.tag, before.x87.status)
    );
}

#[test]
fn fxsave_wants_alignment_and_fxrstor_no_reserved_bit_of_mxcsr() {
    let mut bench = with_sse();
    bench.cpu.regs[crate::cpu::RDI] += 8;
    bench.fault(FXSAVE64, vector::GENERAL_PROTECTION);
    let mut bench = with_sse();
    bench.store::<4>(IMAGE + 24, 0x1_1f80);
    bench.fault(FXRSTOR64, vector::GENERAL_PROTECTION);
}

/// XORPS XMM0, XMM0.
const XORPS: &[u8] = &[0x0f, 0x57, 0xc0];

#[test]
fn sse_asks_for_osfxsr_no_emulation_and_no_task_switch() {
    let refused = |cr0: u64, cr4: u64, exception: u8| {
        let mut bench = with_sse();
        bench.cpu.cr0 |= cr0;
        bench.cpu.cr4 &= !cr4;
        bench.run(XORPS);
        bench.assert_in(exception);
    };
    refused(0, CR4_OSFXSR, vector::INVALID_OPCODE);
    refused(CR0_EM, 0, vector::INVALID_OPCODE);
    refused(CR0_EM | CR0_TS, 0, vector::INVALID_OPCODE);
    refused(CR0_TS, 0, vector::DEVICE_NOT_AVAILABLE);
    let mut bench = with_sse();
    bench.run(XORPS);
    assert_eq!(bench.cpu.rip, CODE + 3);
}

#[test]
fn an_unmasked_exception_is_invalid_without_osxmmexcpt() {
    // DIVPS XMM0, XMM0 of zeros
    let divide: &[u8] = &[0x0f, 0x5e, 0xc0];
    let mut bench = with_sse();
    bench.cpu.mxcsr = 0x1f00;
    bench.run(divide);
    bench.assert_in(vector::INVALID_OPCODE);
    let mut bench = with_sse();
    bench.cpu.cr4 |= CR4_OSXMMEXCPT;
    bench.cpu.mxcsr = 0x1f00;
    bench.run(divide);
    bench.assert_in(vector::SIMD);
    assert_eq!(bench.cpu.mxcsr, 0x1f01);
    assert_eq!(bench.cpu.ymm[0], [0; 4]);
}
