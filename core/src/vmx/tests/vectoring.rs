//! VM exits that end the delivery of an event.

use super::*;

const HALTED: u64 = 1;
const SHUTDOWN: u64 = 2;
const HALT: &[u8] = &[0xf4];

/// SDM vol. 3, 27.7.2: into HLT and shutdown an event is injected, but the processor is active.
#[test]
fn a_guest_that_gets_an_event_at_entry_is_active() {
    for state in [HALTED, SHUTDOWN] {
        let mut bench = Bench::with_guest(NOPS);
        bench.set(field::GUEST_ACTIVITY_STATE, state);
        bench.set(field::GUEST_IDTR_LIMIT, 0);
        bench.set(field::EXCEPTION_BITMAP, 1 << 13);
        bench.set(field::ENTRY_INTERRUPTION_INFO, 0x8000_0202);
        assert_eq!(bench.launch(), reason::EXCEPTION_OR_NMI as u64);
        assert_eq!(bench.get(field::IDT_VECTORING_INFO), 0x8000_0202);
        assert_eq!(bench.get(field::GUEST_ACTIVITY_STATE), 0);
    }
}

/// SDM vol. 3, 28.1: it comes back before an exit that the event causes indirectly, after one that it causes itself.
#[test]
fn an_event_wakes_a_halted_guest_before_its_delivery_exits() {
    for (pins, state) in [(0, 0), (pin::NMI_EXITING, HALTED)] {
        let mut bench = Bench::with_guest(HALT);
        bench.set_bits(field::PIN_BASED_CONTROLS, pins);
        bench.set(field::GUEST_IDTR_LIMIT, 0);
        bench.set(field::EXCEPTION_BITMAP, 1 << 13);
        bench.execute(VMLAUNCH);
        bench.go(2);
        bench.bus.signals[0].nmi = true;
        assert_eq!(bench.settle(), reason::EXCEPTION_OR_NMI as u64);
        let vectoring = if pins == 0 { 0x8000_0202 } else { 0 };
        assert_eq!(bench.get(field::IDT_VECTORING_INFO), vectoring);
        assert_eq!(
            bench.get(field::GUEST_ACTIVITY_STATE),
            state,
            "pin controls {pins:#x}"
        );
    }
}
