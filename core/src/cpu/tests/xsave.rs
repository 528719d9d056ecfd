//! The XSAVE feature set (SDM vol. 1, chapter 13).

use super::*;
use crate::cpu::exception::vector;
use crate::cpu::xstate::{self, AVX, COMPACTED, SSE, X87};
use crate::cpu::{RAX, RCX, RDX};

const AREA: u64 = 0xc000;
const XSTATE_BV: u64 = AREA + 512;
const XCOMP_BV: u64 = AREA + 520;
const MXCSR: u64 = AREA + 24;
const PKRU: u64 = 1 << 9;

const XSAVE: &[u8] = &[0x0f, 0xae, 0x23];
const XSAVEOPT: &[u8] = &[0x0f, 0xae, 0x33];
const XSAVEC: &[u8] = &[0x0f, 0xc7, 0x23];
const XSAVES: &[u8] = &[0x0f, 0xc7, 0x2b];
const XRSTOR: &[u8] = &[0x0f, 0xae, 0x2b];
const XRSTORS: &[u8] = &[0x0f, 0xc7, 0x1b];
const XGETBV: &[u8] = &[0x0f, 0x01, 0xd0];
const XSETBV: &[u8] = &[0x0f, 0x01, 0xd1];

/// Everything enabled and asked for; the area, full of ones, is at RBX.
fn bench() -> Bench {
    let mut bench = Bench::long();
    for at in 0..4096 / 8 {
        bench.store::<8>(AREA + 8 * at, !0);
    }
    for at in 64..72 {
        bench.store::<8>(AREA + 8 * at, 0);
    }
    let cpu = &mut bench.cpu;
    cpu.cr4 |= CR4_OSXSAVE | CR4_OSFXSR;
    // Whatever the profile offers.
    cpu.xcr0 = X87 | SSE | AVX | PKRU;
    cpu.regs[crate::cpu::RBX] = AREA;
    cpu.regs[RAX] = 0xffff_ffff;
    cpu.regs[RDX] = 0xffff_ffff;
    bench
}

impl Bench {
    fn again(&mut self, code: &[u8]) {
        self.cpu.rip = CODE;
        self.run(code);
        assert_eq!(self.cpu.rip, CODE + code.len() as u64, "it faulted");
    }
}

#[test]
fn the_standard_format_has_each_component_in_its_place() {
    let mut bench = bench();
    bench.cpu.ymm[15] = [1, 2, 3, 4];
    bench.cpu.msr.pkru = 0x55;
    bench.cpu.mxcsr = 0x1fa0;
    bench.cpu.x87.set(2, (1 << 63, 0x3fff));
    bench.again(XSAVE);
    assert_eq!(bench.load::<8>(XSTATE_BV), X87 | SSE | AVX | PKRU);
    assert_eq!(bench.load::<8>(XCOMP_BV), 0);
    assert_eq!(bench.load::<4>(MXCSR), 0x1fa0);
    assert_eq!(bench.load::<8>(AREA + 160 + 15 * 16 + 8), 2);
    assert_eq!(bench.load::<8>(AREA + 576 + 15 * 16), 3);
    assert_eq!(bench.load::<8>(AREA + 2688), 0x55);
    assert_eq!(
        bench.load::<8>(AREA + 416),
        !0,
        "what belongs to no register stays"
    );

    let saved = bench.cpu.clone();
    let cpu = &mut bench.cpu;
    cpu.ymm = [[9; 4]; 16];
    cpu.x87 = Default::default();
    (cpu.msr.pkru, cpu.mxcsr) = (0, 0x1f80);
    bench.again(XRSTOR);
    assert_eq!(bench.cpu.ymm, saved.ymm);
    assert_eq!((bench.cpu.msr.pkru, bench.cpu.mxcsr), (0x55, 0x1fa0));
    assert_eq!(bench.cpu.x87.get(2), (1 << 63, 0x3fff));
    assert!(!bench.cpu.x87.is_empty(2) && bench.cpu.x87.is_empty(3));
}

#[test]
fn only_what_is_asked_for_and_enabled_is_saved_and_restored() {
    let mut bench = bench();
    bench.cpu.ymm = [[7; 4]; 16];
    bench.cpu.regs[RAX] = SSE;
    bench.cpu.regs[RDX] = 0;
    bench.store::<8>(XSTATE_BV, X87 | PKRU);
    bench.again(XSAVE);
    assert_eq!(bench.load::<8>(XSTATE_BV), X87 | SSE | PKRU, "others' bits stay");
    assert_eq!(bench.load::<8>(AREA), !0);
    assert_eq!(bench.load::<8>(AREA + 160), 7);
    assert_eq!(bench.load::<8>(AREA + 576), !0);
    // What was not saved is initial, where it is asked for.
    bench.cpu.regs[RAX] = AVX;
    bench.store::<8>(XSTATE_BV, 0);
    bench.again(XRSTOR);
    assert_eq!(bench.cpu.ymm, [[7, 7, 0, 0]; 16]);
}

#[test]
fn initial_components_are_not_written_where_the_init_optimisation_applies() {
    for (code, format) in [(XSAVEOPT, 0), (XSAVEC, COMPACTED), (XSAVES, COMPACTED)] {
        let mut bench = bench();
        bench.cpu.msr.pkru = 0x55;
        bench.again(code);
        let format = if format == 0 {
            0
        } else {
            format | X87 | SSE | AVX | PKRU
        };
        assert_eq!(bench.load::<8>(XSTATE_BV), PKRU);
        assert_eq!(bench.load::<8>(XCOMP_BV), format);
        assert_eq!(bench.load::<8>(AREA), !0);
        assert_eq!(bench.load::<8>(AREA + 160), !0);
        // XSAVEOPT writes MXCSR all the same; the others leave it out with SSE state.
        let mxcsr = if format == 0 { 0x1f80 } else { 0xffff_ffff };
        assert_eq!(bench.load::<4>(MXCSR), mxcsr);
        let place = if format == 0 { 2688 } else { 576 + 256 };
        assert_eq!(bench.load::<8>(AREA + place), 0x55);
        bench.cpu.msr.pkru = 0;
        bench.cpu.ymm[1] = [1; 4];
        bench.cpu.mxcsr = 0x1fa0;
        bench.again(XRSTOR);
        assert_eq!((bench.cpu.msr.pkru, bench.cpu.ymm[1]), (0x55, [0; 4]));
        let mxcsr = bench.cpu.mxcsr;
        assert_eq!(mxcsr, 0x1f80);
    }
}

#[test]
fn mxcsr_alone_makes_compacting_instructions_save_sse_state() {
    let mut bench = bench();
    bench.cpu.mxcsr = 0x1fa0;
    bench.again(XSAVEC);
    assert_eq!(bench.load::<8>(XSTATE_BV), SSE);
    assert_eq!((bench.load::<4>(MXCSR), bench.load::<8>(AREA + 160)), (0x1fa0, 0));
    bench.cpu.regs[RCX] = 1;
    bench.again(XGETBV);
    assert_eq!(bench.cpu.regs[RAX], SSE);
}

#[test]
fn headers_are_checked() {
    let all = X87 | SSE | AVX | PKRU;
    // XSTATE_BV, XCOMP_BV, the next word; whether XRSTOR and XRSTORS take it.
    for (state, format, next, user, supervisor) in [
        (all, 0, 0, true, false),
        (all | 1 << 5, 0, 0, false, false),
        (all, 1, 0, false, false),
        (all, 0, 1, false, false),
        (all, COMPACTED | all, 0, true, true),
        (0, COMPACTED, 0, true, true),
        (SSE, COMPACTED | X87, 0, false, false),
        (SSE, COMPACTED | SSE | 1 << 5, 0, false, false),
        (SSE, COMPACTED | SSE, 1, false, false),
        (COMPACTED | SSE, COMPACTED | SSE, 0, false, false),
    ] {
        for (code, good) in [(XRSTOR, user), (XRSTORS, supervisor)] {
            let mut bench = bench();
            bench.store::<4>(MXCSR, 0x1f80);
            for (at, value) in [(0, state), (8, format), (16, next)] {
                bench.store::<8>(XSTATE_BV + at, value);
            }
            bench.run(code);
            if good {
                assert_eq!(bench.cpu.rip, CODE + 3, "{state:#x} {format:#x} {next:#x}");
            } else {
                bench.assert_in(vector::GENERAL_PROTECTION);
            }
        }
    }
}

#[test]
fn faults_come_in_their_order() {
    for code in [XSAVE, XSAVEOPT, XSAVEC, XSAVES, XRSTOR, XRSTORS] {
        let mut bench = bench();
        bench.cpu.regs[crate::cpu::RBX] = AREA + 32;
        bench.fault(code, vector::GENERAL_PROTECTION);
        bench.cpu.cr0 |= CR0_TS;
        bench.fault(code, vector::DEVICE_NOT_AVAILABLE);
        bench.cpu.cr4 &= !CR4_OSXSAVE;
        bench.fault(code, vector::INVALID_OPCODE);
    }
    let mut bench = bench();
    bench.store::<4>(MXCSR, 0x1_0000);
    bench.fault(XRSTOR, vector::GENERAL_PROTECTION);
    for code in [XSAVES, XRSTORS, XSETBV] {
        let mut bench = self::bench().user();
        bench.fault(code, vector::GENERAL_PROTECTION);
    }
}

/// The second page is not there: nothing is written to the first.
#[test]
fn an_area_that_cannot_be_written_whole_is_not_written() {
    let mut bench = bench();
    bench.cpu.ymm = [[5; 4]; 16];
    bench.cpu.regs[crate::cpu::RBX] = 0x40_0000 - 640;
    bench.run(XSAVE);
    bench.assert_in(vector::PAGE_FAULT);
    assert_eq!(bench.load::<8>(0x40_0000 - 640 + 160), 0);
}

#[test]
fn xcr0_takes_what_leaf_0dh_offers() {
    let mut bench = bench();
    let offered = bench.cpu.profile.xcr0_allowed();
    bench.cpu.regs[RDX] = 0;
    bench.cpu.regs[RCX] = 0;
    for (value, good) in [
        (X87, true),
        (X87 | SSE, true),
        (offered, true),
        (SSE, false),
        (X87 | AVX, false),
        (X87 | 1 << 5, false),
        (0, false),
    ] {
        bench.cpu.rip = CODE;
        bench.cpu.regs[RAX] = value;
        bench.run(XSETBV);
        if good {
            assert_eq!(bench.cpu.xcr0, value);
            let [_, size, all, _] = bench.cpu.cpuid(0xd, 0);
            assert_eq!(size as usize, xstate::size(0, value));
            assert_eq!(all as usize, xstate::size(0, offered));
        } else {
            bench.assert_in(vector::GENERAL_PROTECTION);
        }
    }
}
