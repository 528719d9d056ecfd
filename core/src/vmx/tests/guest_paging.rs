//! EPT paging-write control and guest-paging verification.

use super::*;
use crate::vmx::controls::tertiary;

const DATA: u64 = 0x15_0000;
/// EPT's page table.
const PAGES: u64 = EPT + 0x3000;
/// The guest's tables, each on a page of its own.
const TABLES: [u64; 3] = [0x1000, 0x2000, 0x3000];
const ALL: u64 = 0x37;
const READ_EXECUTE: u64 = 0x35;
const PAGING_WRITE: u64 = 1 << 58;
const VERIFY: u64 = 1 << 57;

fn map(bench: &mut Bench, page: u64, bits: u64) {
    bench.store(PAGES + (page >> 9), page | bits);
}

/// A guest that executes `code` and then CPUID; EPT has accessed and dirty flags, so that every access to guest paging
/// structures is a paging write.
fn guest(code: &[u8], controls: u64) -> Bench {
    let mut bench = Bench::with_guest(&[code, CPUID].concat());
    add_ept(&mut bench, 7);
    bench.set(field::EPT_POINTER, EPT | 6 | 3 << 3 | 1 << 6);
    bench.store(EPT + 0x2000, PAGES | 7);
    for page in 0..512 {
        map(&mut bench, page << 12, ALL);
    }
    bench.set_bits(
        field::PRIMARY_PROCESSOR_BASED_CONTROLS,
        primary::ACTIVATE_TERTIARY_CONTROLS,
    );
    bench.set(field::TERTIARY_PROCESSOR_BASED_CONTROLS, controls);
    bench
}

/// MOV EAX, [DATA]; MOV [0x1000], EAX.
const LOAD: &[u8] = &[0x8b, 0x04, 0x25, 0, 0, 0x15, 0];
const STORE: &[u8] = &[0x89, 0x04, 0x25, 0, 0x10, 0, 0];

#[test]
fn paging_may_write_where_the_guest_may_not() {
    let with_tables = |code, controls, bits| {
        let mut bench = guest(code, controls);
        for table in TABLES {
            map(&mut bench, table, bits);
        }
        bench
    };
    let control = tertiary::EPT_PAGING_WRITE_CONTROL;
    let mut bench = with_tables(LOAD, control, READ_EXECUTE | PAGING_WRITE);
    assert_eq!(bench.launch(), reason::CPUID as u64);
    for (code, controls, bits) in [
        (LOAD, control, READ_EXECUTE),
        (LOAD, 0, READ_EXECUTE | PAGING_WRITE),
        (STORE, control, READ_EXECUTE | PAGING_WRITE),
    ] {
        let mut bench = with_tables(code, controls, bits);
        assert_eq!(bench.launch(), reason::EPT_VIOLATION as u64);
        assert_eq!(bench.get(field::GUEST_PHYSICAL_ADDRESS), 0x1000);
    }
    // The entries above the one that maps the page must let it be written.
    let mut bench = with_tables(LOAD, control, READ_EXECUTE | PAGING_WRITE);
    bench.store(EPT + 0x2000, PAGES | 5);
    assert_eq!(bench.launch(), reason::EPT_VIOLATION as u64);
    // What may be written must be readable.
    let mut bench = with_tables(LOAD, control, 0x34 | PAGING_WRITE);
    assert_eq!(bench.launch(), reason::EPT_MISCONFIGURATION as u64);
}

#[test]
fn a_page_can_ask_for_paging_structures_that_paging_may_write_to() {
    const GUEST_PAGING: u64 = 1 << 15;
    let both = tertiary::EPT_PAGING_WRITE_CONTROL | tertiary::GUEST_PAGING_VERIFICATION;
    let verifying = |controls| {
        let mut bench = guest(LOAD, controls);
        map(&mut bench, DATA, ALL | VERIFY);
        for table in TABLES {
            map(&mut bench, table, ALL | PAGING_WRITE);
        }
        bench
    };
    assert_eq!(verifying(both).launch(), reason::CPUID as u64);
    for table in TABLES {
        let mut bench = verifying(both);
        map(&mut bench, table, ALL);
        assert_eq!(bench.launch(), reason::EPT_VIOLATION as u64);
        assert_eq!(bench.get(field::GUEST_PHYSICAL_ADDRESS), DATA);
        assert_eq!(
            bench.get(field::EXIT_QUALIFICATION) & 0x81bf,
            GUEST_PAGING | 0x1b9
        );
        assert!(
            bench.words().contains("paging-write access, 0"),
            "{}",
            bench.words()
        );

        let mut bench = verifying(tertiary::GUEST_PAGING_VERIFICATION);
        map(&mut bench, table, ALL);
        assert_eq!(bench.launch(), reason::CPUID as u64);
    }
}
