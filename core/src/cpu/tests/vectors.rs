//! VEX-encoded instructions: when there are any, and what a fault leaves.

use super::*;
use crate::cpu::exception::vector;
use crate::cpu::RDI;

/// VXORPS XMM0, XMM0, XMM0
const VXORPS: &[u8] = &[0xc5, 0xf8, 0x57, 0xc0];
/// VMASKMOVPS YMM0, YMM1, [RDI]
const MASKED_LOAD: &[u8] = &[0xc4, 0xe2, 0x75, 0x2c, 0x07];
/// VMASKMOVPS [RDI], YMM1, YMM0
const MASKED_STORE: &[u8] = &[0xc4, 0xe2, 0x75, 0x2e, 0x07];
/// VPGATHERDD YMM0, [RDI + YMM1 * 4], YMM2
const GATHER: &[u8] = &[0xc4, 0xe2, 0x6d, 0x90, 0x04, 0x8f];

/// Nothing is mapped from here on.
const ABSENT_PAGE: u64 = 0x40_0000;
const CHOSEN: u32 = 1 << 31;

fn with_avx() -> Bench {
    let mut bench = Bench::long();
    bench.cpu.cr4 |= CR4_OSXSAVE;
    bench.cpu.xcr0 = 7;
    bench.cpu.refresh();
    bench
}

/// Runs `code` and says that it went on to the next instruction.
fn completes(bench: &mut Bench, code: &[u8]) {
    let rip = bench.cpu.rip;
    bench.run(code);
    assert_eq!(bench.cpu.rip, rip + code.len() as u64, "{code:02x?}");
}

fn register(lanes: [u32; 8]) -> [u64; 4] {
    std::array::from_fn(|n| lanes[2 * n] as u64 | (lanes[2 * n + 1] as u64) << 32)
}

#[test]
fn avx_asks_for_osxsave_its_state_in_xcr0_and_no_task_switch() {
    let refused = |prepare: fn(&mut Cpu), exception: u8| {
        let mut bench = with_avx();
        prepare(&mut bench.cpu);
        bench.run(VXORPS);
        bench.assert_in(exception);
    };
    refused(|cpu| cpu.cr4 &= !CR4_OSXSAVE, vector::INVALID_OPCODE);
    refused(|cpu| cpu.xcr0 = 3, vector::INVALID_OPCODE);
    refused(|cpu| cpu.cr0 |= CR0_TS, vector::DEVICE_NOT_AVAILABLE);
    refused(
        |cpu| {
            cpu.cr0 |= CR0_TS;
            cpu.xcr0 = 1;
        },
        vector::INVALID_OPCODE,
    );
    // What legacy encodings ask for does not matter.
    let mut bench = with_avx();
    bench.cpu.cr0 |= CR0_EM;
    completes(&mut bench, VXORPS);
}

#[test]
fn there_is_no_vex_in_real_address_mode() {
    let mut bench = Bench::real();
    bench.cpu.cr4 |= CR4_OSXSAVE;
    bench.cpu.xcr0 = 7;
    bench.run(VXORPS);
    assert_eq!(bench.cpu.rip, 0x600 + 16 * vector::INVALID_OPCODE as u64);
}

#[test]
fn what_the_encoding_forbids_is_an_invalid_opcode() {
    for code in [
        // 66, LOCK and REX before VEX.
        &[0x66, 0xc5, 0xf8, 0x57, 0xc0][..],
        &[0xf0, 0xc5, 0xf8, 0x57, 0xc0],
        &[0x48, 0xc5, 0xf8, 0x57, 0xc0],
        // VMOVAPS with a register in VEX.vvvv; VMOVD of 256 bits; VPBROADCASTB with VEX.W.
        &[0xc5, 0xf0, 0x28, 0xc1],
        &[0xc5, 0xfd, 0x6e, 0xc0],
        &[0xc4, 0xe2, 0xf9, 0x78, 0xc1],
        // A gather into its own mask.
        &[0xc4, 0xe2, 0x7d, 0x90, 0x04, 0x8f],
        // VXORPS ZMM0, ZMM0, ZMM0, EVEX-encoded.
        &[0x62, 0xf1, 0x7c, 0x48, 0x57, 0xc0],
        // VAESENC YMM0, YMM0, YMM0 asks for VAES.
        &[0xc4, 0xe2, 0x7d, 0xdc, 0xc0],
    ] {
        let mut bench = with_avx();
        bench.run(code);
        bench.assert_in(vector::INVALID_OPCODE);
    }
}

#[test]
fn only_moves_of_aligned_vectors_ask_for_alignment() {
    let misaligned = || {
        let mut bench = with_avx();
        bench.cpu.regs[RDI] = 0x8_0010;
        bench
    };
    // VMOVAPS and VMOVNTDQ of YMM0
    for aligned in [[0xc5, 0xfc, 0x28, 0x07], [0xc5, 0xfd, 0xe7, 0x07]] {
        misaligned().fault(&aligned, vector::GENERAL_PROTECTION);
    }
    // VMOVUPS YMM0, VXORPS YMM0, VMOVAPS XMM0
    for indifferent in [
        [0xc5, 0xfc, 0x10, 0x07],
        [0xc5, 0xfc, 0x57, 0x07],
        [0xc5, 0xf8, 0x28, 0x07],
    ] {
        completes(&mut misaligned(), &indifferent);
    }
}

#[test]
fn a_masked_load_touches_what_is_chosen_only() {
    let mut bench = with_avx();
    bench.cpu.regs[RDI] = ABSENT_PAGE - 16;
    bench.store::<4>(ABSENT_PAGE - 16, 5);
    bench.store::<4>(ABSENT_PAGE - 4, 6);
    bench.cpu.ymm[0] = [7; 4];
    bench.cpu.ymm[1] = register([CHOSEN, 0, 0, CHOSEN, 0, 0, 0, 0]);
    completes(&mut bench, MASKED_LOAD);
    assert_eq!(bench.cpu.ymm[0], register([5, 0, 0, 6, 0, 0, 0, 0]));

    bench.cpu.ymm[1] = register([CHOSEN, 0, 0, 0, 0, CHOSEN, 0, 0]);
    bench.fault(MASKED_LOAD, vector::PAGE_FAULT);
    assert_eq!(bench.cpu.cr2, ABSENT_PAGE + 4);
    assert_eq!(bench.cpu.ymm[0], register([5, 0, 0, 6, 0, 0, 0, 0]));
}

#[test]
fn a_masked_store_writes_all_that_is_chosen_or_nothing() {
    let mut bench = with_avx();
    bench.cpu.regs[RDI] = ABSENT_PAGE - 16;
    bench.cpu.ymm[0] = register([1, 2, 3, 4, 5, 6, 7, 8]);
    bench.cpu.ymm[1] = register([CHOSEN, 0, CHOSEN, 0, 0, 0, 0, CHOSEN]);
    bench.fault(MASKED_STORE, vector::PAGE_FAULT);
    assert_eq!(bench.cpu.cr2, ABSENT_PAGE + 12);
    assert_eq!(bench.load::<8>(ABSENT_PAGE - 16), 0);

    let mut bench = with_avx();
    bench.cpu.regs[RDI] = ABSENT_PAGE - 16;
    bench.cpu.ymm[0] = register([1, 2, 3, 4, 5, 6, 7, 8]);
    bench.cpu.ymm[1] = register([CHOSEN, 0, CHOSEN, 0, 0, 0, 0, 0]);
    completes(&mut bench, MASKED_STORE);
    assert_eq!(bench.load::<8>(ABSENT_PAGE - 16), 1);
    assert_eq!(bench.load::<8>(ABSENT_PAGE - 8), 3);
}

#[test]
fn masked_moves_make_no_alignment_check() {
    let mut bench = with_avx().user();
    bench.cpu.cr0 |= CR0_AM;
    bench.cpu.set_flags(flags::AC | 2);
    bench.cpu.regs[RDI] = 0x8_0001;
    bench.cpu.ymm[1] = [!0; 4];
    completes(&mut bench, MASKED_LOAD);
    completes(&mut bench, MASKED_STORE);
    // VMOVSS XMM0, [RDI] does.
    bench.fault(&[0xc5, 0xfa, 0x10, 0x07], vector::ALIGNMENT_CHECK);
}

#[test]
fn a_gather_goes_on_where_a_fault_stopped_it() {
    let mut bench = with_avx();
    let (near, absent) = (0x8_0000, (ABSENT_PAGE - 0x8_0000) as u32 / 4);
    for n in 0..8 {
        bench.store::<4>(near + 4 * n, 100 + n);
    }
    bench.cpu.regs[RDI] = near;
    bench.cpu.ymm[0] = register([9; 8]);
    bench.cpu.ymm[1] = register([0, 1, absent + 2, 3, 4, absent, 6, 7]);
    bench.cpu.ymm[2] = register([CHOSEN, CHOSEN, 0, CHOSEN, CHOSEN, CHOSEN, CHOSEN, 0]);
    let rip = bench.cpu.rip;
    bench.fault(GATHER, vector::PAGE_FAULT);
    assert_eq!(bench.cpu.cr2, ABSENT_PAGE);
    assert_eq!(bench.cpu.ymm[0], register([100, 101, 9, 103, 104, 9, 9, 9]));
    let left = bench.cpu.ymm[2].map(|pair| pair & 0x8000_0000_8000_0000);
    assert_eq!(left, register([0, 0, 0, 0, 0, CHOSEN, CHOSEN, 0]));

    // The page comes in; what was read already is not read again.
    bench.store::<8>(PAGE_TABLES + 0x2010, 0x87);
    bench.store::<4>(0, 55);
    bench.store::<4>(near, 0);
    bench.cpu.rip = rip;
    completes(&mut bench, GATHER);
    assert_eq!(bench.cpu.ymm[0], register([100, 101, 9, 103, 104, 55, 106, 9]));
    assert_eq!(bench.cpu.ymm[2], [0; 4]);
}

#[test]
fn outside_64_bit_mode_vzeroall_has_eight_registers() {
    let mut bench = Bench::protected();
    bench.cpu.cr4 |= CR4_OSXSAVE;
    bench.cpu.xcr0 = 7;
    bench.cpu.ymm = [[1; 4]; 16];
    completes(&mut bench, &[0xc5, 0xfc, 0x77]);
    assert_eq!(bench.cpu.ymm[7], [0; 4]);
    assert_eq!(bench.cpu.ymm[8], [1; 4]);
}

#[test]
fn gathers_and_halves_make_no_alignment_check() {
    let mut bench = with_avx().user();
    bench.cpu.cr0 |= CR0_AM;
    bench.cpu.set_flags(flags::AC | 2);
    bench.cpu.regs[RDI] = 0x8_0001;
    bench.cpu.ymm[2] = [!0; 4];
    completes(&mut bench, GATHER);
    // VCVTPH2PS XMM0, [RDI] and VCVTPS2PH [RDI], XMM0, 0
    completes(&mut bench, &[0xc4, 0xe2, 0x79, 0x13, 0x07]);
    completes(&mut bench, &[0xc4, 0xe3, 0x79, 0x1d, 0x07, 0]);
}

#[test]
fn a_gather_that_faults_leaves_the_mask_as_whole_lanes() {
    let mut bench = with_avx();
    bench.cpu.regs[RDI] = ABSENT_PAGE;
    bench.cpu.ymm[1] = [0; 4];
    bench.cpu.ymm[2] = register([1, CHOSEN, 0, 0x7fff_ffff, CHOSEN | 1, 0, 0, 0]);
    bench.fault(GATHER, vector::PAGE_FAULT);
    assert_eq!(bench.cpu.ymm[2], register([0, !0, 0, 0, !0, 0, 0, 0]));
}

#[test]
fn a_store_of_halves_that_faults_has_noted_its_exceptions() {
    let mut bench = with_avx();
    bench.cpu.regs[RDI] = ABSENT_PAGE;
    bench.cpu.ymm[0] = [1, 0, 0, 0];
    // VCVTPS2PH [RDI], XMM0, 0
    bench.fault(&[0xc4, 0xe3, 0x79, 0x1d, 0x07, 0], vector::PAGE_FAULT);
    // DE, UE and PE.
    assert_eq!(bench.cpu.mxcsr, 0x1fb2);
}

#[test]
fn maskmovdqu_writes_nothing_if_one_byte_faults() {
    let mut bench = with_avx();
    bench.cpu.regs[RDI] = ABSENT_PAGE - 8;
    bench.cpu.ymm[0] = [!0; 4];
    bench.cpu.ymm[1] = [!0; 4];
    // VMASKMOVDQU XMM0, XMM1
    let maskmovdqu = [0xc5, 0xf9, 0xf7, 0xc1];
    bench.fault(&maskmovdqu, vector::PAGE_FAULT);
    assert_eq!(bench.load::<8>(ABSENT_PAGE - 8), 0);

    let mut bench = with_avx().user();
    bench.cpu.cr0 |= CR0_AM;
    bench.cpu.set_flags(flags::AC | 2);
    bench.cpu.regs[RDI] = 0x8_0008;
    completes(&mut bench, &maskmovdqu);
    bench.cpu.regs[RDI] = 0x8_0004;
    bench.fault(&maskmovdqu, vector::ALIGNMENT_CHECK);
}
