//! Extended page tables: violations, misconfigurations, #VE, five levels.

use super::*;
use crate::vmx::controls::exit;

/// EPT with one page of 2 MB, identity-mapped, with `rights`.
pub(super) fn add_ept(bench: &mut Bench, rights: u64) {
    bench.set_bits(
        field::PRIMARY_PROCESSOR_BASED_CONTROLS,
        primary::ACTIVATE_SECONDARY_CONTROLS,
    );
    bench.set_bits(field::SECONDARY_PROCESSOR_BASED_CONTROLS, secondary::ENABLE_EPT);
    bench.set(field::EPT_POINTER, EPT | 6 | 3 << 3);
    bench.store(EPT, (EPT + 0x1000) | 7);
    bench.store(EPT + 0x1000, (EPT + 0x2000) | 7);
    bench.store(EPT + 0x2000, 0xb0 | rights);
}

#[test]
fn ept_violations_and_misconfigurations() {
    // MOV EAX, [0x200010]
    let mut bench = Bench::with_guest(&[0x8b, 0x04, 0x25, 0x10, 0x00, 0x20, 0x00]);
    add_ept(&mut bench, 7);
    assert_eq!(bench.launch(), reason::EPT_VIOLATION as u64);
    assert_eq!(bench.get(field::EXIT_QUALIFICATION), 0x781);
    assert_eq!(bench.get(field::GUEST_PHYSICAL_ADDRESS), 0x20_0010);
    assert_eq!(bench.get(field::GUEST_LINEAR_ADDRESS), 0x20_0010);
    assert_eq!(bench.get(field::GUEST_RFLAGS) & flags::RF, flags::RF);
    let (address, entry) = (EPT + 0x2008, 0);
    assert_eq!(
        bench.cause(),
        Cause::Ept {
            level: 2,
            address,
            entry
        }
    );
    // Writable and not readable.
    bench.store(EPT + 0x2008, 0x20_0000 | 0xb2);
    assert_eq!(bench.resume(), reason::EPT_MISCONFIGURATION as u64);
    bench.store(EPT + 0x2008, 0x20_0000 | 0xb1);
    bench.write(0x20_0010, &[0x78, 0x56, 0x34, 0x12]);
    bench.write(GUEST + 7, CPUID);
    assert_eq!(bench.resume(), reason::CPUID as u64);
    assert_eq!(bench.cpu.regs[RAX], 0x1234_5678);
}

#[test]
fn rf_is_as_pushed_where_an_ept_violation_comes_of_event_delivery() {
    // An NMI and #UD, both injected: neither changes RF.
    for info in [0x8000_0202, 0x8000_0306] {
        let mut bench = Bench::with_guest(NOPS);
        add_ept(&mut bench, 5);
        handle(&mut bench, info & 0xff);
        bench.set(field::ENTRY_INTERRUPTION_INFO, info);
        assert_eq!(bench.launch(), reason::EPT_VIOLATION as u64);
        assert_eq!(bench.get(field::IDT_VECTORING_INFO), info);
        assert_eq!(bench.get(field::GUEST_RFLAGS), 2);
    }
}

/// A stack and a 64-bit handler for `vector` in the guest: the handler is CPUID.
pub(super) fn handle(bench: &mut Bench, vector: u64) {
    const IDT: u64 = 0x5000;
    const GDT: u64 = 0x6000;
    const HANDLER: u64 = GUEST + 0x800;
    bench.write(HANDLER, CPUID);
    bench.store(
        IDT + 16 * vector,
        HANDLER & 0xffff | 0x8 << 16 | 0x8e << 40 | HANDLER >> 16 << 48,
    );
    bench.store(IDT + 16 * vector + 8, 0);
    bench.store(GDT + 8, 0x00af_9b00_0000_ffff);
    bench.set(field::GUEST_IDTR_BASE, IDT);
    bench.set(field::GUEST_GDTR_BASE, GDT);
    bench.set(field::GUEST_RSP, 0x9000);
}

const VE_AREA: u64 = 0x1_3000;
/// MOV EAX, [0x200010]
const LOAD: &[u8] = &[0x8b, 0x04, 0x25, 0x10, 0x00, 0x20, 0x00];

fn with_virtualization_exceptions() -> Bench {
    let mut bench = Bench::with_guest(LOAD);
    add_ept(&mut bench, 7);
    handle(&mut bench, 20);
    bench.set_bits(
        field::SECONDARY_PROCESSOR_BASED_CONTROLS,
        secondary::EPT_VIOLATION_VE,
    );
    bench.set(field::VIRTUALIZATION_EXCEPTION_INFORMATION_ADDRESS, VE_AREA);
    bench.set(field::EPTP_INDEX, 0x123);
    bench
}

#[test]
fn a_convertible_ept_violation_becomes_a_virtualization_exception() {
    let mut bench = with_virtualization_exceptions();
    assert_eq!(bench.launch(), reason::CPUID as u64);
    assert_eq!(bench.get(field::GUEST_RIP), GUEST + 0x800);
    let mut area = |offset| bench.bus.read_physical(0, VE_AREA + offset, 8);
    assert_eq!(area(0), 48 | 0xffff_ffff << 32);
    let qualification = area(8);
    assert_eq!(qualification & 0x1ff, 0x181);
    assert_eq!((area(16), area(24), area(32)), (0x20_0010, 0x20_0010, 0x123));
    // The frame's RIP is that of the access.
    assert_eq!(bench.bus.read_physical(0, 0x9000 - 40, 8), GUEST);
}

#[test]
fn what_keeps_an_ept_violation_an_exit() {
    // The area is in use.
    let mut bench = with_virtualization_exceptions();
    bench.store(VE_AREA, 1 << 32);
    assert_eq!(bench.launch(), reason::EPT_VIOLATION as u64);
    // The entry suppresses it, not present or present.
    for (entry, code) in [
        (1 << 63, LOAD),
        (1 << 63 | 0x20_0000 | 0xb1, &[0x89, 0x04, 0x25, 0x10, 0, 0x20, 0]),
    ] {
        let mut bench = with_virtualization_exceptions();
        bench.write(GUEST, code);
        bench.store(EPT + 0x2008, entry);
        assert_eq!(bench.launch(), reason::EPT_VIOLATION as u64);
    }
    // It comes of event delivery.
    let mut bench = with_virtualization_exceptions();
    bench.set(field::GUEST_RSP, 0x20_1000);
    bench.set(field::ENTRY_INTERRUPTION_INFO, 0x8000_0314);
    assert_eq!(bench.launch(), reason::EPT_VIOLATION as u64);
    // The exception bitmap wants the #VE itself.
    let mut bench = with_virtualization_exceptions();
    bench.set(field::EXCEPTION_BITMAP, 1 << 20);
    assert_eq!(bench.launch(), reason::EXCEPTION_OR_NMI as u64);
    assert_eq!(bench.get(field::EXIT_INTERRUPTION_INFO), 0x8000_0314);
    assert_eq!(bench.bus.read_physical(0, VE_AREA + 4, 4), 0xffff_ffff);
}

#[test]
fn five_levels_reach_what_four_do_not() {
    let mut bench = Bench::with_guest(LOAD);
    add_ept(&mut bench, 7);
    bench.store(EPT + 0x2008, 0x20_0000 | 0xb7);
    bench.store(EPT + 0x3000, EPT | 7);
    bench.write(GUEST + LOAD.len() as u64, CPUID);
    bench.set(field::EPT_POINTER, (EPT + 0x3000) | 6 | 4 << 3);
    assert_eq!(bench.launch(), reason::CPUID as u64);
    bench.store(EPT + 0x3000, 0);
    bench.set(field::GUEST_RIP, GUEST);
    assert_eq!(bench.resume(), reason::EPT_VIOLATION as u64);
    let (address, entry) = (EPT + 0x3000, 0);
    assert_eq!(
        bench.cause(),
        Cause::Ept {
            level: 5,
            address,
            entry
        }
    );
}

#[test]
fn violations_tell_the_rights_of_the_linear_address() {
    // The linear page is for the supervisor, read-only, and executable.
    let mut bench = Bench::with_guest(LOAD);
    add_ept(&mut bench, 7);
    bench.store(0x3008, 0x20_0000 | 0x81);
    assert_eq!(bench.launch(), reason::EPT_VIOLATION as u64);
    assert_eq!(bench.get(field::EXIT_QUALIFICATION), 0x181);
    bench.store(0x3008, 0x20_0000 | 0x87);
    bench.store(0x1000, 0x2007);
    bench.store(0x2000, 0x3007);
    assert_eq!(bench.resume(), reason::EPT_VIOLATION as u64);
    assert_eq!(bench.get(field::EXIT_QUALIFICATION), 0x781);
}

#[test]
fn pkrs_is_loaded_and_saved() {
    let mut bench = Bench::with_guest(CPUID);
    bench.cpu.msr.pkrs = 0x11;
    bench.set(field::GUEST_IA32_PKRS, 0x22);
    assert_eq!(bench.launch(), reason::CPUID as u64);
    assert_eq!(bench.get(field::GUEST_IA32_PKRS), 0x11);
    bench.set(field::GUEST_IA32_PKRS, 0x22);
    bench.set(field::HOST_IA32_PKRS, 0x33);
    bench.set_bits(field::ENTRY_CONTROLS, entry::LOAD_PKRS);
    bench.set_bits(field::EXIT_CONTROLS, exit::LOAD_PKRS);
    assert_eq!(bench.resume(), reason::CPUID as u64);
    assert_eq!(bench.get(field::GUEST_IA32_PKRS), 0x22);
    assert_eq!(bench.cpu.msr.pkrs, 0x33);
}
