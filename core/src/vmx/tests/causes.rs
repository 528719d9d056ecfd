//! What an exit remembers of its cause, and what is counted beside it.

use super::*;

fn with_secondary(guest: &[u8], bits: u64) -> Bench {
    let mut bench = Bench::with_guest(guest);
    bench.set_bits(
        field::PRIMARY_PROCESSOR_BASED_CONTROLS,
        primary::ACTIVATE_SECONDARY_CONTROLS,
    );
    bench.set_bits(field::SECONDARY_PROCESSOR_BASED_CONTROLS, bits);
    bench
}

#[test]
fn vmread_and_vmwrite_by_their_bitmaps() {
    for (code, write) in [(VMREAD, false), (VMWRITE, true)] {
        let mut bench = with_secondary(code, secondary::VMCS_SHADOWING);
        bench.set(field::VMREAD_BITMAP, BITMAP);
        bench.set(field::VMWRITE_BITMAP, BITMAP + 0x1000);
        // Both have GUEST_RIP's encoding, 0x681e, in RAX.
        bench.cpu.regs[RAX] = 0x681e;
        bench.cpu.regs[RBX] = 0x681e;
        let byte = BITMAP + u64::from(write) * 0x1000 + 0x681e / 8;
        bench.bus.write_physical(0, byte, 1, 1 << 6);
        let expected = if write { reason::VMWRITE } else { reason::VMREAD };
        assert_eq!(bench.launch(), expected as u64);
        assert_eq!(
            bench.cause(),
            Cause::VmcsBitmap {
                byte,
                bit: 6,
                encoding: 0x681e,
                write
            }
        );
        assert!(bench.words().contains("0x681e"), "{}", bench.words());
    }
}

#[test]
fn a_full_page_modification_log() {
    // MOV [0x1000], EAX
    let mut bench = with_secondary(&[0x89, 0x04, 0x25, 0, 0x10, 0, 0], secondary::ENABLE_PML);
    add_ept(&mut bench, 7);
    bench.set(field::EPT_POINTER, EPT | 6 | 3 << 3 | 1 << 6);
    bench.set(field::PML_ADDRESS, BITMAP);
    bench.set(field::GUEST_PML_INDEX, 0xffff);
    assert_eq!(bench.launch(), reason::PAGE_MODIFICATION_LOG_FULL as u64);
    assert_eq!(bench.cause(), Cause::PageLogFull { index: 0xffff });
    assert!(bench.words().contains("PML index is 0xffff"), "{}", bench.words());
}

#[test]
fn entries_that_lead_nowhere_are_counted() {
    let mut bench = Bench::with_guest(&[0x0f, 0xa2, 0x90, 0x0f, 0xa2]);
    assert_eq!(bench.launch(), reason::CPUID as u64);
    for repeats in 1..4 {
        assert_eq!(bench.resume(), reason::CPUID as u64);
        assert_eq!(bench.cpu.vmx.record.repeats, repeats);
    }
    bench.set(field::GUEST_RIP, GUEST + 2);
    assert_eq!(bench.resume(), reason::CPUID as u64);
    assert_eq!(bench.cpu.vmx.record.repeats, 0);
}
