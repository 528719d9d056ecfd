//! Control registers, MSRs and port permissions.

use super::*;
use crate::cpu::exception::vector::*;
use crate::cpu::{CodeSize, RAX, RCX, RDX};

/// MOV CRn, RAX.
fn mov_to(control: u8) -> [u8; 3] {
    [0x0f, 0x22, 0xc0 | control << 3]
}

fn refused(mut bench: Bench, control: u8, value: u64) {
    bench.cpu.regs[RAX] = value;
    let before = (bench.cpu.cr0, bench.cpu.cr3, bench.cpu.cr4);
    assert_eq!(bench.fault(&mov_to(control), GENERAL_PROTECTION), 0);
    assert_eq!((bench.cpu.cr0, bench.cpu.cr3, bench.cpu.cr4), before);
}

#[test]
fn what_cr0_refuses() {
    let cr0 = Bench::long().cpu.cr0;
    refused(Bench::long(), 0, cr0 | 1 << 32);
    refused(Bench::long(), 0, cr0 & !CR0_PG);
    refused(Bench::long(), 0, cr0 & !CR0_PE);
    refused(Bench::long(), 0, cr0 | CR0_NW);
    refused(Bench::protected(), 0, CR0_PG);
    refused(Bench::long().user(), 0, cr0);
    // Paging with LME and without PAE.
    let mut bench = Bench::protected();
    bench.cpu.efer = EFER_LME;
    refused(bench, 0, CR0_PE | CR0_PG);
}

#[test]
fn what_cr3_and_cr4_refuse() {
    refused(Bench::long(), 3, 1 << 52);
    refused(Bench::long(), 4, 0);
    refused(Bench::long(), 4, CR4_PAE | 1 << 31);
    refused(Bench::protected(), 4, CR4_PCIDE | CR4_PAE);
    let mut bench = Bench::long();
    bench.cpu.cr3 |= 0x123;
    refused(bench, 4, CR4_PCIDE | CR4_PAE);
}

#[test]
fn lma_follows_paging_while_lme_is_set() {
    let mut bench = Bench::long();
    let cpu = &mut bench.cpu;
    cpu.cr0 &= !CR0_PG;
    cpu.efer = EFER_LME;
    cpu.seg[CS] = Segment::flat(CODE0, 0xc09b);
    cpu.update_space();
    cpu.update_mode();
    cpu.regs[RAX] = cpu.cr0 | CR0_PG;
    bench.run(&mov_to(0));
    assert_eq!(bench.cpu.efer, EFER_LME | EFER_LMA);
    assert_eq!(bench.cpu.code_size, CodeSize::Bits32);
    bench.cpu.regs[RAX] = bench.cpu.cr0 & !CR0_PG;
    bench.run(&mov_to(0));
    assert_eq!(bench.cpu.efer, EFER_LME);
}

#[test]
fn pae_paging_loads_and_checks_its_pdptes() {
    let mut bench = Bench::protected();
    bench.store::<8>(0x7000, 0x5001);
    bench.cpu.cr4 = CR4_PAE;
    bench.cpu.cr3 = 0x7000;
    bench.store::<8>(0x5000, 0x83);
    bench.cpu.regs[RAX] = bench.cpu.cr0 | CR0_PG;
    bench.run(&mov_to(0));
    assert_eq!(bench.cpu.rip, CODE + 3);
    assert_eq!(bench.cpu.pdpte, [0x5001, 0, 0, 0]);
    // A reserved bit.
    bench.store::<8>(0x7008, 3);
    bench.cpu.regs[RAX] = 0x7000;
    assert_eq!(bench.fault(&mov_to(3), GENERAL_PROTECTION), 0);
}

#[test]
fn a_new_cr3_forgets_the_old_translations() {
    let mut bench = Bench::long();
    let read = [0x8a, 0x04, 0x25, 0, 0, 0x30, 0];
    bench.store::<1>(0x30_0000, 0x55);
    bench.store::<1>(0x10_0000, 0x66);
    bench.run(&read);
    assert_eq!(bench.cpu.regs[RAX] & 0xff, 0x55);
    // The second 2 MB become the first: not seen before MOV CR3, for certain after it.
    bench.store::<8>(PAGE_TABLES + 0x2008, 0x87);
    bench.cpu.regs[RAX] = PAGE_TABLES;
    bench.run(&mov_to(3));
    bench.run(&read);
    assert_eq!(bench.cpu.regs[RAX] & 0xff, 0x66);
}

#[test]
fn lmsw_sets_pe_and_never_clears_it() {
    let mut bench = Bench::protected();
    bench.cpu.regs[RAX] = CR0_TS;
    bench.run(&[0x0f, 0x01, 0xf0]);
    assert_eq!(bench.cpu.cr0, CR0_PE | CR0_ET | CR0_TS);
    // CLTS.
    bench.run(&[0x0f, 0x06]);
    assert_eq!(bench.cpu.cr0, CR0_PE | CR0_ET);
}

#[test]
fn cr8_is_the_task_priority() {
    let mut bench = Bench::long();
    bench.cpu.regs[RAX] = 9;
    // MOV CR8, RAX; MOV RCX, CR8.
    bench.run(&[0x44, 0x0f, 0x22, 0xc0]);
    bench.run(&[0x44, 0x0f, 0x20, 0xc1]);
    assert_eq!((bench.bus.tpr(0), bench.cpu.regs[RCX]), (0x90, 9));
    bench.cpu.regs[RAX] = 16;
    assert_eq!(bench.fault(&[0x44, 0x0f, 0x22, 0xc0], GENERAL_PROTECTION), 0);
}

fn wrmsr(number: u32, value: u64) -> Bench {
    let mut bench = Bench::long();
    bench.cpu.regs[RCX] = number as u64;
    bench.cpu.set_halves(value);
    bench.run(&[0x0f, 0x30]);
    bench
}

#[test]
fn msrs_refuse_what_they_cannot_hold() {
    const GOOD: &[(u32, u64)] = &[
        (0x277, 0x0007_0406_0007_0406),
        (0xc000_0100, 0xffff_8000_0000_0000),
        (0x1d9, 3),
        (0x3a, 5),
        (0x174, 8),
    ];
    const BAD: &[(u32, u64)] = &[
        (0x277, 2),
        (0xc000_0100, 1 << 62),
        (0xc000_0082, 1 << 62),
        (0x1d9, 1 << 20),
        (0xc000_0080, 1 << 1),
        (0xc000_0080, 0),
        (0x480, 0),
        (0xfe, 0),
        (0xdead, 0),
    ];
    for &(number, value) in GOOD {
        let bench = wrmsr(number, value);
        assert_eq!(bench.cpu.rip, CODE + 2, "MSR {number:#x}");
        assert_eq!(bench.cpu.read_msr(&bench.bus, number), Some(value));
    }
    for &(number, value) in BAD {
        let bench = wrmsr(number, value);
        assert_eq!(bench.cpu.rip, handler(GENERAL_PROTECTION), "MSR {number:#x}");
    }
}

#[test]
fn feature_control_is_for_once() {
    let mut bench = wrmsr(0x3a, 5);
    bench.cpu.set_halves(1);
    assert_eq!(bench.fault(&[0x0f, 0x30], GENERAL_PROTECTION), 0);
    assert_eq!(bench.cpu.msr.feature_control, 5);
}

#[test]
fn the_time_stamp_counter_can_be_set() {
    let mut bench = wrmsr(0x10, 1_000_000);
    bench.run(&[0x0f, 0x31]);
    let tsc = bench.cpu.halves();
    assert!((1_000_000..1_000_010).contains(&tsc), "{tsc}");
    let mut bench = Bench::long().user();
    bench.cpu.cr4 |= CR4_TSD;
    assert_eq!(bench.fault(&[0x0f, 0x31], GENERAL_PROTECTION), 0);
}

#[test]
fn ports_above_iopl_are_for_the_bitmap_to_allow() {
    // IN AL, DX.
    let input = |limit, bits| {
        let mut bench = Bench::protected().user();
        bench.cpu.seg[TR].limit = limit;
        bench.store::<2>(TSS + 0x66, 0x68);
        bench.store::<2>(TSS + 0x68 + 0x10, bits);
        bench.cpu.regs[RDX] = 0x81;
        bench.run(&[0xec]);
        bench.cpu.rip
    };
    assert_eq!(input(0x100, 0xfffd), CODE + 1);
    assert_eq!(input(0x100, 2), handler(GENERAL_PROTECTION));
    assert_eq!(
        input(0x68 + 0x10, 0),
        handler(GENERAL_PROTECTION),
        "the second byte is out"
    );
    let mut bench = Bench::protected().user();
    bench.cpu.flags.set(flags::IOPL);
    bench.run(&[0xec]);
    assert_eq!(bench.cpu.rip, CODE + 1);
}

#[test]
fn invpcid_looks_at_all_of_its_type_and_descriptor() {
    const OPERAND: u64 = 0xd000;
    // INVPCID RCX, [RAX]
    let outcome = |kind: u64, pcid: u64, linear: u64, cr4: u64| {
        let mut bench = Bench::long();
        bench.cpu.cr4 |= cr4;
        bench.cpu.update_space();
        // Clear of the paging structures.
        bench.store::<8>(OPERAND, pcid);
        bench.store::<8>(OPERAND + 8, linear);
        (bench.cpu.regs[RAX], bench.cpu.regs[RCX]) = (OPERAND, kind);
        bench.run(&[0x66, 0x0f, 0x38, 0x82, 0x08]);
        bench.cpu.rip
    };
    for kind in 0..4 {
        assert_eq!(outcome(kind, 0, 0x1000, 0), CODE + 5, "type {kind}");
        assert_eq!(outcome(kind, 5, 0x1000, CR4_PCIDE), CODE + 5, "type {kind}");
        assert_eq!(
            outcome(kind, 1 << 12, 0x1000, CR4_PCIDE),
            handler(GENERAL_PROTECTION),
            "type {kind}"
        );
    }
    for (kind, pcid, linear) in [(4, 0, 0), (1 << 32, 0, 0), (0, 5, 0), (1, 5, 0), (0, 0, 1 << 62)] {
        assert_eq!(
            outcome(kind, pcid, linear, 0),
            handler(GENERAL_PROTECTION),
            "type {kind:#x}, PCID {pcid}, address {linear:#x}"
        );
    }
}

#[test]
fn tsc_aux_has_no_upper_half() {
    let mut bench = Bench::long();
    (bench.cpu.regs[RCX], bench.cpu.regs[RAX], bench.cpu.regs[RDX]) = (0xc000_0103, 7, 0);
    bench.run(&[0x0f, 0x30]);
    assert_eq!(bench.cpu.msr.tsc_aux, 7);
    bench.cpu.regs[RDX] = 1;
    assert_eq!(bench.fault(&[0x0f, 0x30], GENERAL_PROTECTION), 0);
    assert_eq!(bench.cpu.msr.tsc_aux, 7);
}

/// PKRU is about user-mode addresses, whoever accesses them (SDM vol. 3, 4.6.2).
#[test]
fn protection_keys_go_by_the_page_and_not_by_who_accesses_it() {
    // The second 2 MB have key 1, for supervisors or for all. MOV EAX, [RAX]
    let read = |mut bench: Bench, user: u64| {
        bench.store::<8>(PAGE_TABLES + 0x2008, 0x20_0083 | user | 1 << 59);
        bench.cpu.cr4 |= CR4_PKE;
        bench.cpu.msr.pkru = 0b01 << 2;
        bench.cpu.update_space();
        bench.cpu.regs[RAX] = 0x20_0000;
        bench.run(&[0x8b, 0x00]);
        if bench.cpu.rip == CODE + 2 {
            None
        } else {
            bench.assert_in(PAGE_FAULT);
            Some(bench.load::<8>(bench.cpu.regs[RSP]))
        }
    };
    // Present, by a program, by a key.
    assert_eq!(read(Bench::long(), 0), None);
    assert_eq!(read(Bench::long(), 4), Some(0x21));
    assert_eq!(read(Bench::long().user(), 4), Some(0x25));
    assert_eq!(read(Bench::long().user(), 0), Some(0x05));
}
