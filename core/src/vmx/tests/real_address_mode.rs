//! An unrestricted guest in real-address mode.

use super::*;

const UNUSABLE: u64 = 1 << 16;

/// With its code at 0x1000 and all other segments at 0.
fn real(code: &[u8]) -> Bench {
    const CODE: u64 = 0x1000;
    let mut bench = unrestricted(&[], 0);
    bench.set(field::GUEST_CS_BASE, CODE);
    bench.set(field::GUEST_CS_SELECTOR, CODE >> 4);
    for (limit, rights) in [
        (field::GUEST_CS_LIMIT, field::GUEST_CS_ACCESS_RIGHTS),
        (field::GUEST_SS_LIMIT, field::GUEST_SS_ACCESS_RIGHTS),
        (field::GUEST_DS_LIMIT, field::GUEST_DS_ACCESS_RIGHTS),
    ] {
        bench.set(limit, 0xffff);
        bench.set(rights, 0x93);
    }
    bench.set(field::GUEST_RIP, 0);
    bench.set(field::GUEST_RSP, 0x800);
    bench.set(field::EXCEPTION_BITMAP, 0xffff_ffff);
    bench.write(CODE, code);
    bench
}

/// SDM vol. 3, 28.2.2 and 28.2.4.
#[test]
fn exits_have_no_error_code() {
    // MOV AX, [0xffff]: a word beyond the limit.
    let mut bench = real(&[0xa1, 0xff, 0xff]);
    assert_eq!(bench.launch(), reason::EXCEPTION_OR_NMI as u64);
    assert_eq!(bench.get(field::EXIT_INTERRUPTION_INFO), 0x8000_030d);

    // The #GP that exits comes of delivering another, whose vector lies beyond the limit of the IDT.
    let mut bench = real(&[0xa1, 0xff, 0xff]);
    bench.set(field::GUEST_IDTR_LIMIT, 0x33);
    bench.set(field::EXCEPTION_BITMAP, 1 << 8);
    assert_eq!(bench.launch(), reason::EXCEPTION_OR_NMI as u64);
    assert_eq!(bench.get(field::EXIT_INTERRUPTION_INFO), 0x8000_0308);

    // Its stack cannot be written.
    let mut bench = real(&[0xa1, 0xff, 0xff]);
    bench.set(field::EXCEPTION_BITMAP, 0);
    bench.store(EPT + 0x2000, 0xb5);
    assert_eq!(bench.launch(), reason::EPT_VIOLATION as u64);
    assert_eq!(bench.get(field::IDT_VECTORING_INFO), 0x8000_030d);
}

/// SDM vol. 3, 25.4.1: attempts to use such a segment fault except in 64-bit mode.
#[test]
fn a_segment_that_entry_made_unusable_faults() {
    // MOV AL, [0]; PUSH AX.
    for (code, rights, vector) in [
        (&[0xa0, 0, 0][..], field::GUEST_DS_ACCESS_RIGHTS, 13),
        (&[0x50], field::GUEST_SS_ACCESS_RIGHTS, 12),
    ] {
        let mut bench = real(code);
        bench.set(rights, UNUSABLE);
        assert_eq!(bench.launch(), reason::EXCEPTION_OR_NMI as u64);
        assert_eq!(bench.get(field::EXIT_INTERRUPTION_INFO), 0x8000_0300 | vector);
    }
    let mut bench = real(NOPS);
    bench.set(field::GUEST_SS_ACCESS_RIGHTS, UNUSABLE);
    bench.set(field::ENTRY_INTERRUPTION_INFO, 0x8000_0202);
    assert_eq!(bench.launch(), reason::EXCEPTION_OR_NMI as u64);
    assert_eq!(bench.get(field::EXIT_INTERRUPTION_INFO), 0x8000_030c);
    assert_eq!(bench.get(field::IDT_VECTORING_INFO), 0x8000_0202);
}

/// A segment that is loaded there is usable.
#[test]
fn a_segment_loaded_in_real_address_mode_can_be_used_again() {
    // MOV DS, CX; MOV AL, [0]; VMCALL.
    let mut bench = real(&[0x8e, 0xd9, 0xa0, 0, 0, 0x0f, 0x01, 0xc1]);
    bench.set(field::GUEST_DS_ACCESS_RIGHTS, UNUSABLE);
    bench.cpu.regs[RCX] = 0x300;
    bench.store(0x3000, 0x5a);
    assert_eq!(bench.launch(), reason::VMCALL as u64);
    assert_eq!(bench.cpu.regs[RAX] & 0xff, 0x5a);
}
