//! NMIs in VMX non-root operation, with and without "NMI exiting" and "virtual NMIs" (SDM vol. 3, 26.3, 28.2.3 and
//! 28.3.2).

use super::*;

const BLOCKING_BY_NMI: u64 = 1 << 3;
const NMI_UNBLOCKING: u64 = 1 << 12;
/// IRETQ from an empty stack at 0, with a #UD after it.
const IRETQ: &[u8] = &[0x48, 0xcf, 0x0f, 0x0b];

/// A guest that begins with blocking by NMI, or by virtual NMI.
fn blocked(code: &[u8], pins: u64) -> Bench {
    let mut bench = Bench::with_guest(code);
    bench.set_bits(field::PIN_BASED_CONTROLS, pins);
    bench.set(field::GUEST_INTERRUPTIBILITY_STATE, BLOCKING_BY_NMI);
    // An NMI that is pending already is the guest's.
    bench.cpu.nmi_blocked = true;
    bench
}

fn interruptibility(bench: &Bench) -> u64 {
    bench.get(field::GUEST_INTERRUPTIBILITY_STATE) & BLOCKING_BY_NMI
}

#[test]
fn an_nmi_waits_for_the_guest_that_blocks_it_unless_only_virtual_nmis_are_blocked() {
    // Neither, and "NMI exiting" alone: the processor's own blocking.
    for pins in [0, pin::NMI_EXITING] {
        let mut bench = blocked(NOPS, pins);
        bench.bus.signals[0].nmi = true;
        bench.execute(VMLAUNCH);
        bench.go(4);
        assert!(bench.cpu.vmx.guest, "pin controls {pins:#x}");
        assert!(bench.bus.signals[0].nmi && bench.cpu.nmi_blocked);
    }
    let mut bench = blocked(NOPS, pin::NMI_EXITING | pin::VIRTUAL_NMIS);
    bench.bus.signals[0].nmi = true;
    assert_eq!(bench.launch(), reason::EXCEPTION_OR_NMI as u64);
    assert_eq!(bench.get(field::EXIT_INTERRUPTION_INFO), 0x8000_0202);
    assert_eq!(interruptibility(&bench), BLOCKING_BY_NMI, "of virtual NMIs");
    assert!(bench.cpu.nmi_blocked, "the NMI that exits blocks the next");
}

#[test]
fn an_iret_that_faults_unblocks_and_the_exit_says_so() {
    for (pins, unblocks) in [
        (0, true),
        (pin::NMI_EXITING, false),
        (pin::NMI_EXITING | pin::VIRTUAL_NMIS, true),
    ] {
        let mut bench = blocked(IRETQ, pins);
        // Nothing is mapped there.
        bench.set(field::GUEST_RSP, 0x4000_0000);
        bench.set(field::EXCEPTION_BITMAP, 1 << 14);
        assert_eq!(bench.launch(), reason::EXCEPTION_OR_NMI as u64);
        let info = bench.get(field::EXIT_INTERRUPTION_INFO);
        assert_eq!(info & 0xff, 14);
        assert_eq!(info & NMI_UNBLOCKING != 0, unblocks, "pin controls {pins:#x}");
        assert_eq!(interruptibility(&bench) == 0, unblocks, "pin controls {pins:#x}");
    }
}

#[test]
fn a_fault_of_another_instruction_or_without_blocking_says_nothing_of_iret() {
    let mut bench = blocked(&[0x0f, 0x0b], pin::NMI_EXITING | pin::VIRTUAL_NMIS);
    bench.set(field::EXCEPTION_BITMAP, 1 << 6);
    assert_eq!(bench.launch(), reason::EXCEPTION_OR_NMI as u64);
    assert_eq!(bench.get(field::EXIT_INTERRUPTION_INFO) & NMI_UNBLOCKING, 0);
    assert_eq!(interruptibility(&bench), BLOCKING_BY_NMI);

    let mut bench = blocked(IRETQ, pin::NMI_EXITING | pin::VIRTUAL_NMIS);
    bench.set(field::GUEST_INTERRUPTIBILITY_STATE, 0);
    bench.set(field::GUEST_RSP, 0x4000_0000);
    bench.set(field::EXCEPTION_BITMAP, 1 << 14);
    assert_eq!(bench.launch(), reason::EXCEPTION_OR_NMI as u64);
    assert_eq!(bench.get(field::EXIT_INTERRUPTION_INFO) & NMI_UNBLOCKING, 0);
}

#[test]
fn other_exits_keep_the_processor_s_blocking_but_not_that_of_virtual_nmis() {
    for (pins, kept) in [(0, true), (pin::NMI_EXITING | pin::VIRTUAL_NMIS, false)] {
        let mut bench = blocked(CPUID, pins);
        assert_eq!(bench.launch(), reason::CPUID as u64);
        assert_eq!(interruptibility(&bench), BLOCKING_BY_NMI);
        assert_eq!(bench.cpu.nmi_blocked, kept, "pin controls {pins:#x}");
    }
}
