//! Loading segment registers and looking at descriptors (SDM vol. 3, chapter 5).

use super::*;
use crate::cpu::exception::vector::*;
use crate::cpu::segment::{FS, GS, LDTR};
use crate::cpu::{RAX, RCX, RDX};

const MOV_DS_AX: &[u8] = &[0x8e, 0xd8];
const MOV_SS_AX: &[u8] = &[0x8e, 0xd0];
const LTR_AX: &[u8] = &[0x0f, 0x00, 0xd8];

fn fault_of(mut bench: Bench, selector: u16, code: &[u8], vector: u8) -> u64 {
    bench.cpu.regs[RAX] = selector as u64;
    bench.fault(code, vector)
}

#[test]
fn loading_data_marks_the_descriptor_accessed() {
    let mut bench = Bench::protected();
    bench.descriptor(DATA0, 0x0040_9200_5000_0fff);
    bench.cpu.regs[RAX] = DATA0 as u64;
    bench.run(MOV_DS_AX);
    let segment = bench.cpu.seg[DS];
    assert_eq!(
        (segment.base, segment.limit, segment.rights.0),
        (0x5000, 0xfff, 0x4093)
    );
    assert_eq!(bench.load::<1>(GDT + DATA0 as u64 + 5), 0x93);
}

#[test]
fn loads_are_checked() {
    let wrong = |selector, code, vector| fault_of(Bench::protected(), selector, code, vector);
    assert_eq!(wrong(GDT_BYTES, MOV_DS_AX, GENERAL_PROTECTION), GDT_BYTES as u64);
    assert_eq!(wrong(ABSENT, MOV_DS_AX, SEGMENT_NOT_PRESENT), ABSENT as u64);
    assert_eq!(
        wrong(TSS_SELECTOR, MOV_DS_AX, GENERAL_PROTECTION),
        TSS_SELECTOR as u64
    );
    assert_eq!(wrong(0xc, MOV_DS_AX, GENERAL_PROTECTION), 0xc);
    assert_eq!(wrong(0, MOV_SS_AX, GENERAL_PROTECTION), 0);
    assert_eq!(wrong(CODE0, MOV_SS_AX, GENERAL_PROTECTION), CODE0 as u64);
    assert_eq!(wrong(DATA3, MOV_SS_AX, GENERAL_PROTECTION), DATA3 as u64 & !3);
    assert_eq!(wrong(ABSENT, MOV_SS_AX, STACK_FAULT), ABSENT as u64);
    let user = |selector| fault_of(Bench::protected().user(), selector, MOV_DS_AX, GENERAL_PROTECTION);
    assert_eq!(user(DATA0), DATA0 as u64);
    assert_eq!(user(DATA0 | 3), DATA0 as u64);
}

#[test]
fn a_null_data_segment_loads_and_does_not_serve() {
    let mut bench = Bench::protected();
    bench.run(MOV_DS_AX);
    assert_eq!(bench.cpu.rip, CODE + 2);
    // MOV AL, [0].
    assert_eq!(bench.fault(&[0xa0, 0, 0, 0, 0], GENERAL_PROTECTION), 0);
}

#[test]
fn a_load_of_ss_holds_an_interrupt_back_for_one_instruction() {
    let mut bench = Bench::protected();
    bench.cpu.regs[RAX] = DATA0 as u64;
    bench.run(MOV_SS_AX);
    assert_eq!(bench.cpu.shadow, Shadow::MovSs);
    bench.bus.signals[0].nmi = true;
    bench.run(&[0x90]);
    assert_eq!(bench.cpu.rip, CODE + 3);
    bench.step();
    bench.assert_in(NMI);
}

#[test]
fn an_expand_down_segment_is_what_lies_above_its_limit() {
    let mut bench = Bench::protected();
    bench.descriptor(DATA0, 0x0040_9600_0000_0fff);
    bench.cpu.regs[RAX] = DATA0 as u64;
    bench.run(MOV_DS_AX);
    bench.run(&[0xa0, 0, 0x10, 0, 0]);
    assert_eq!(bench.cpu.rip, CODE + 7);
    assert_eq!(bench.fault(&[0xa0, 0xff, 0x0f, 0, 0], GENERAL_PROTECTION), 0);
}

#[test]
fn ltr_marks_the_tss_busy_and_refuses_a_busy_one() {
    let mut bench = Bench::protected();
    bench.descriptor(OTHER_TSS_SELECTOR, 0x0000_8900_3200_0067);
    bench.cpu.regs[RAX] = OTHER_TSS_SELECTOR as u64;
    bench.run(LTR_AX);
    assert_eq!(bench.cpu.seg[TR].base, OTHER_TSS);
    assert_eq!(bench.load::<1>(GDT + OTHER_TSS_SELECTOR as u64 + 5), 0x8b);
    let refused = OTHER_TSS_SELECTOR as u64;
    assert_eq!(bench.fault(LTR_AX, GENERAL_PROTECTION), refused);
    assert_eq!(
        fault_of(Bench::protected().user(), 0, LTR_AX, GENERAL_PROTECTION),
        0
    );
}

#[test]
fn system_descriptors_have_16_bytes_in_ia32e_mode() {
    let mut bench = Bench::long();
    bench.descriptor(OTHER_TSS_SELECTOR, 0x0000_8200_3200_0067);
    bench.store::<8>(GDT + OTHER_TSS_SELECTOR as u64 + 8, 0xffff_8000);
    bench.cpu.regs[RAX] = OTHER_TSS_SELECTOR as u64;
    // LLDT AX.
    bench.run(&[0x0f, 0x00, 0xd0]);
    assert_eq!(bench.cpu.seg[LDTR].base, 0xffff_8000_0000_3200);
    bench.run(&[0x0f, 0x00, 0xd0]);
    bench.store::<8>(GDT + OTHER_TSS_SELECTOR as u64 + 8, 0x4000_0000);
    let code = bench.fault(&[0x0f, 0x00, 0xd0], GENERAL_PROTECTION);
    assert_eq!(code, OTHER_TSS_SELECTOR as u64, "a base that is not canonical");
}

#[test]
fn lar_lsl_and_verify_answer_by_zf() {
    let mut bench = Bench::protected();
    bench.cpu.regs[RAX] = DATA0 as u64;
    // LAR ECX, EAX; LSL EDX, EAX.
    bench.run(&[0x0f, 0x02, 0xc8]);
    bench.run(&[0x0f, 0x03, 0xd0]);
    assert!(bench.cpu.flags.zero());
    assert_eq!(
        (bench.cpu.regs[RCX], bench.cpu.regs[RDX]),
        (0x00cf_9300, 0xffff_ffff)
    );
    // VERW of a code segment; VERR of it.
    bench.cpu.regs[RAX] = CODE0 as u64;
    bench.run(&[0x0f, 0x00, 0xe8]);
    assert!(!bench.cpu.flags.zero());
    bench.run(&[0x0f, 0x00, 0xe0]);
    assert!(bench.cpu.flags.zero());
    let mut bench = Bench::protected().user();
    bench.cpu.regs[RAX] = DATA0 as u64;
    bench.run(&[0x0f, 0x02, 0xc8]);
    assert!(!bench.cpu.flags.zero());
}

#[test]
fn arpl_raises_the_rpl() {
    let mut bench = Bench::protected();
    bench.cpu.regs[RAX] = 0x10;
    bench.cpu.regs[RCX] = 3;
    // ARPL AX, CX.
    bench.run(&[0x63, 0xc8]);
    assert!(bench.cpu.flags.zero());
    assert_eq!(bench.cpu.regs[RAX], 0x13);
}

#[test]
fn bases_of_fs_and_gs_are_canonical_and_swap() {
    let mut bench = Bench::long();
    bench.cpu.cr4 |= CR4_FSGSBASE;
    bench.cpu.regs[RAX] = 0xffff_8000_0000_1000;
    // WRGSBASE RAX; SWAPGS; RDGSBASE RCX.
    bench.run(&[0xf3, 0x48, 0x0f, 0xae, 0xd8]);
    bench.run(&[0x0f, 0x01, 0xf8]);
    assert_eq!(
        (bench.cpu.seg[GS].base, bench.cpu.msr.kernel_gs_base),
        (0, 0xffff_8000_0000_1000)
    );
    bench.cpu.regs[RAX] = 1 << 47;
    assert_eq!(
        bench.fault(&[0xf3, 0x48, 0x0f, 0xae, 0xd0], GENERAL_PROTECTION),
        0
    );
    assert_eq!(bench.cpu.seg[FS].base, 0);
}

#[test]
fn umip_hides_tables_from_programs() {
    let mut bench = Bench::long().user();
    // SGDT [0xd000].
    let sgdt = &[0x0f, 0x01, 0x04, 0x25, 0, 0xd0, 0, 0];
    bench.run(sgdt);
    assert_eq!(bench.load::<8>(0xd002), GDT);
    bench.cpu.cr4 |= CR4_UMIP;
    assert_eq!(bench.fault(sgdt, GENERAL_PROTECTION), 0);
}
