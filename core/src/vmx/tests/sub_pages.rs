//! Sub-page write permissions.

use super::*;

/// The page that the guest writes to, and its entry of the EPT page table.
const PAGE: u64 = 0x15_0000;
const PTE: u64 = EPT + 0x3000 + PAGE / 0x1000 * 8;
/// Of the tables of sub-page permissions, one after the other.
const ROOT: u64 = 0x2_8000;
const VECTOR: u64 = ROOT + 0x3000 + PAGE / 0x1000 * 8;
const READ_EXECUTE: u64 = 0x35;
const ELIGIBLE: u64 = 1 << 61;

/// A guest that stores EAX at `PAGE + offset` and then executes CPUID; the page is read-only, and its vector is `vector`.
fn storing(offset: u64, vector: u64) -> Bench {
    let mut code = vec![0x89, 0x04, 0x25];
    code.extend((PAGE.wrapping_add(offset) as u32).to_le_bytes());
    code.extend(CPUID);
    let mut bench = Bench::with_guest(&code);
    add_ept(&mut bench, 7);
    bench.store(EPT + 0x2000, (EPT + 0x3000) | 7);
    for page in 0..512 {
        bench.store(EPT + 0x3000 + page * 8, page << 12 | 0x37);
    }
    bench.store(PTE, PAGE | READ_EXECUTE | ELIGIBLE);
    bench.set_bits(
        field::SECONDARY_PROCESSOR_BASED_CONTROLS,
        secondary::SUB_PAGE_WRITE_PERMISSIONS_FOR_EPT,
    );
    bench.set(field::SUB_PAGE_PERMISSION_TABLE_POINTER, ROOT);
    for level in 0..3 {
        bench.store(ROOT + level * 0x1000, (ROOT + (level + 1) * 0x1000) | 1);
    }
    bench.store(VECTOR, vector);
    bench.cpu.regs[RAX] = 0x1234_5678;
    bench
}

#[test]
fn the_vector_decides_for_each_sub_page() {
    // Sub-page 3 alone may be written.
    let mut bench = storing(3 * 128 + 124, 1 << 6);
    assert_eq!(bench.launch(), reason::CPUID as u64);
    assert_eq!(bench.bus.read_physical(0, PAGE + 3 * 128 + 124, 4), 0x1234_5678);

    let mut bench = storing(2 * 128, 1 << 6);
    assert_eq!(bench.launch(), reason::EPT_VIOLATION as u64);
    assert_eq!(bench.get(field::EXIT_QUALIFICATION) & 0x1bf, 0x1aa);
    assert_eq!(bench.get(field::GUEST_PHYSICAL_ADDRESS), PAGE + 2 * 128);
    let cause = Cause::SubPage {
        level: 1,
        address: VECTOR,
        entry: 1 << 6,
    };
    assert_eq!(bench.cause(), cause);
    let words = bench.words();
    assert!(words.contains("bit 4 of their vector 0x40"), "{words}");
    // Nothing that was allowed is remembered for the page.
    bench.store(VECTOR, 1 << 4);
    assert_eq!(bench.resume(), reason::CPUID as u64);
}

#[test]
fn a_write_to_several_sub_pages_needs_all_of_them() {
    for (vector, expected) in [
        (0b101, reason::CPUID),
        (0b001, reason::EPT_VIOLATION),
        (0b100, reason::EPT_VIOLATION),
    ] {
        let mut bench = storing(126, vector);
        assert_eq!(bench.launch(), expected as u64, "{vector:#b}");
        let written = bench.bus.read_physical(0, PAGE + 126, 4);
        assert_eq!(written != 0, expected == reason::CPUID, "{vector:#b}");
    }
    // The second of two pages.
    for (vector, expected) in [(1, reason::CPUID), (4, reason::EPT_VIOLATION)] {
        let mut bench = storing(0u64.wrapping_sub(2), vector);
        assert_eq!(bench.launch(), expected as u64, "{vector:#b}");
    }
}

#[test]
fn misses_and_misconfigurations_exit() {
    const MISS: u64 = 1 << 11;
    for (at, entry, qualification, words) in [
        (ROOT, ROOT + 0x1000, MISS, "SPPL4 entry"),
        (ROOT + 0x1000, 0, MISS, "SPPL3 entry"),
        (ROOT + 0x2000, 0xffff_ffff_ffff_fffe, MISS, "SPPL2 entry"),
        (ROOT, (ROOT + 0x1000) | 3, 0, "reserved bit"),
        (ROOT + 0x2000, 1 << 51 | 1, 0, "reserved bit"),
        (VECTOR, 1 | 1 << 63, 0, "odd bit"),
    ] {
        let mut bench = storing(0x10, 1);
        bench.store(at, entry);
        assert_eq!(bench.launch(), reason::SPP_RELATED_EVENT as u64);
        assert_eq!(bench.get(field::EXIT_QUALIFICATION), qualification);
        assert_eq!(bench.get(field::GUEST_PHYSICAL_ADDRESS), PAGE + 0x10);
        assert_eq!(bench.get(field::GUEST_LINEAR_ADDRESS), PAGE + 0x10);
        assert_eq!(bench.get(field::GUEST_RFLAGS) & flags::RF, flags::RF);
        assert!(bench.words().contains(words), "{}", bench.words());
    }
}

#[test]
fn what_is_not_eligible_is_an_ept_violation() {
    type Change = fn(&mut Bench);
    let changes: [Change; 3] = [
        |bench| bench.store(PTE, PAGE | READ_EXECUTE),
        // A large page.
        |bench| bench.store(EPT + 0x2000, READ_EXECUTE | 0x80 | ELIGIBLE),
        |bench| {
            let controls = bench.get(field::SECONDARY_PROCESSOR_BASED_CONTROLS);
            let without = controls & !secondary::SUB_PAGE_WRITE_PERMISSIONS_FOR_EPT;
            bench.set(field::SECONDARY_PROCESSOR_BASED_CONTROLS, without);
        },
    ];
    for change in changes {
        let mut bench = storing(0, 1);
        change(&mut bench);
        assert_eq!(bench.launch(), reason::EPT_VIOLATION as u64);
    }
    // The guest's page tables, whose reads are writes with accessed and dirty flags.
    let mut bench = storing(0, 1);
    bench.set(field::EPT_POINTER, EPT | 6 | 3 << 3 | 1 << 6);
    bench.store(EPT + 0x3000 + 8, 0x1000 | READ_EXECUTE | ELIGIBLE);
    bench.store(ROOT + 0x3000 + 8, 0x5555_5555_5555_5555);
    assert_eq!(bench.launch(), reason::EPT_VIOLATION as u64);
    assert_eq!(bench.get(field::GUEST_PHYSICAL_ADDRESS), 0x1000);
}

#[test]
fn reads_and_pages_that_may_be_written_do_not_ask() {
    // MOV EAX, [PAGE] with a malformed vector.
    let mut bench = storing(0, !0);
    bench.write(GUEST, &[0x8b]);
    assert_eq!(bench.launch(), reason::CPUID as u64);
    let mut bench = storing(0, !0);
    bench.store(PTE, PAGE | 0x37 | ELIGIBLE);
    assert_eq!(bench.launch(), reason::CPUID as u64);
}

#[test]
fn what_sub_page_permissions_allow_makes_the_page_dirty() {
    const DIRTY: u64 = 1 << 9;
    let mut bench = storing(0, 1);
    bench.set(field::EPT_POINTER, EPT | 6 | 3 << 3 | 1 << 6);
    assert_eq!(bench.launch(), reason::CPUID as u64);
    assert_eq!(bench.bus.read_physical(0, PTE, 8) & DIRTY, DIRTY);
}
