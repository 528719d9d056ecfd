//! What a VM entry that injects an event leaves of the guest's state (SDM vol. 3, 27.6).

use super::*;

const BLOCKING_BY_MOV_SS: u64 = 1 << 1;
/// #UD, a hardware exception.
const UNDEFINED: u64 = 0x8000_0306;

const IDT: u64 = 0x4_0000;
const GDT: u64 = 0x4_1000;
const CODE: u64 = 8;

/// A guest in the shadow of a load of SS, whose first instruction exits.
fn shadowed() -> Bench {
    let mut bench = Bench::with_guest(CPUID);
    bench.set(field::GUEST_INTERRUPTIBILITY_STATE, BLOCKING_BY_MOV_SS);
    bench
}

#[test]
fn an_injected_event_ends_the_shadow_of_mov_ss() {
    // Nothing is injected: the instruction that exits was in the shadow.
    let mut bench = shadowed();
    assert_eq!(bench.launch(), reason::CPUID as u64);
    assert_eq!(bench.get(field::GUEST_INTERRUPTIBILITY_STATE), BLOCKING_BY_MOV_SS);
    // The handler's first instruction is the same one.
    let mut bench = shadowed();
    bench.set(field::GUEST_IDTR_BASE, IDT);
    bench.set(field::GUEST_IDTR_LIMIT, 0xfff);
    bench.set(field::GUEST_GDTR_BASE, GDT);
    bench.set(field::GUEST_GDTR_LIMIT, 0xff);
    bench.set(field::GUEST_RSP, 0x20_0000);
    bench.store(
        IDT + 6 * 16,
        GUEST & 0xffff | CODE << 16 | 0x8e << 40 | (GUEST >> 16) << 48,
    );
    bench.store(GDT + CODE, 0x00af_9b00_0000_ffff);
    bench.set(field::ENTRY_INTERRUPTION_INFO, UNDEFINED);
    assert_eq!(bench.launch(), reason::CPUID as u64);
    assert_eq!(bench.get(field::GUEST_INTERRUPTIBILITY_STATE), 0);
}

/// SDM vol. 3, 27.7.1.
#[test]
fn an_exit_during_the_delivery_of_an_injected_event_finds_no_shadow() {
    let mut bench = shadowed();
    bench.set(field::GUEST_IDTR_LIMIT, 0);
    bench.set(field::EXCEPTION_BITMAP, 1 << 13);
    bench.set(field::ENTRY_INTERRUPTION_INFO, UNDEFINED);
    assert_eq!(bench.launch(), reason::EXCEPTION_OR_NMI as u64);
    assert_eq!(bench.get(field::IDT_VECTORING_INFO), UNDEFINED);
    assert_eq!(bench.get(field::GUEST_INTERRUPTIBILITY_STATE), 0);
}
