//! ACPI's tables (ACPI 6.5, chapter 5): how the root leads to the processors, the interrupt controllers and the registers that
//! turn the machine off.

use super::super::{hpet, ioapic, pm, power, serial};
use super::{aml, set_checksum, Tables};
use crate::platform::lapic::DEFAULT_BASE;

/// The root pointer of revision 2.
pub const ROOT_LENGTH: usize = 36;
const ROOT_FIRST_PART: usize = 20;
const HEADER_LENGTH: usize = 36;

const FACS_LENGTH: usize = 64;
const FADT_LENGTH: usize = 244;

/// FADT.
const SCI_INTERRUPT: u16 = pm::SCI as u16;
const NO_C2: u16 = 101;
const NO_C3: u16 = 1001;
const BOOT_LEGACY_DEVICES: u16 = 1 << 0;
const FLAG_WBINVD: u32 = 1 << 0;
const FLAG_PROC_C1: u32 = 1 << 2;
const FLAG_NO_POWER_BUTTON: u32 = 1 << 4;
const FLAG_NO_SLEEP_BUTTON: u32 = 1 << 5;
const FLAG_FIXED_RTC: u32 = 1 << 6;
const FLAG_RESET_REGISTER: u32 = 1 << 10;
const RESET_VALUE: u8 = 0x06;

/// MADT.
const PCAT_COMPATIBLE: u32 = 1;
const ENABLED: u32 = 1;
const ISA_BUS: u8 = 0;
const LEVEL_ACTIVE_HIGH: u16 = 0b1101;
const ALL_PROCESSORS: u8 = 0xFF;
const CONFORMS: u16 = 0;

/// Puts the tables, the root first.
pub fn put(tables: &mut Tables, cpus: usize) {
    let root = tables.reserve(ROOT_LENGTH, 16);
    let facs = tables.put(&facs(), 64);
    let dsdt = tables.put(&table(b"DSDT", 2, &dsdt()), 16);
    let described = [
        tables.put(&table(b"FACP", 3, &fadt(facs, dsdt)), 16),
        tables.put(&table(b"APIC", 4, &madt(cpus)), 16),
        tables.put(&table(b"HPET", 1, &timers()), 16),
    ];
    let narrow: Vec<u8> = described.iter().flat_map(|at| at.to_le_bytes()).collect();
    let wide: Vec<u8> = described
        .iter()
        .flat_map(|&at| u64::from(at).to_le_bytes())
        .collect();
    let rsdt = tables.put(&table(b"RSDT", 1, &narrow), 16);
    let xsdt = tables.put(&table(b"XSDT", 1, &wide), 16);
    tables.fill(root, &root_pointer(rsdt, xsdt));
}

fn root_pointer(rsdt: u32, xsdt: u32) -> Vec<u8> {
    let mut root = b"RSD PTR \0GDBVMX\x02".to_vec();
    root.extend(rsdt.to_le_bytes());
    root.extend((ROOT_LENGTH as u32).to_le_bytes());
    root.extend(u64::from(xsdt).to_le_bytes());
    root.resize(ROOT_LENGTH, 0);
    set_checksum(&mut root[..ROOT_FIRST_PART], 8);
    set_checksum(&mut root, 32);
    root
}

/// A table with its header.
fn table(signature: &[u8; 4], revision: u8, body: &[u8]) -> Vec<u8> {
    let mut table = signature.to_vec();
    table.extend(((HEADER_LENGTH + body.len()) as u32).to_le_bytes());
    table.extend([revision, 0]);
    table.extend(b"GDBVMXGDBVMX  ");
    table.extend(1u32.to_le_bytes());
    table.extend(b"GVMX");
    table.extend(1u32.to_le_bytes());
    table.extend(body);
    set_checksum(&mut table, 9);
    table
}

fn facs() -> Vec<u8> {
    let mut facs = b"FACS".to_vec();
    facs.extend((FACS_LENGTH as u32).to_le_bytes());
    facs.resize(FACS_LENGTH, 0);
    facs[32] = 1; // version
    facs
}

/// A generic address: `bits` of I/O space.
fn io_register(port: u16, bits: u8) -> [u8; 12] {
    const IO_SPACE: u8 = 1;
    let mut address = [0; 12];
    address[0] = IO_SPACE;
    address[1] = bits;
    address[4..6].copy_from_slice(&port.to_le_bytes());
    address
}

fn fadt(facs: u32, dsdt: u32) -> Vec<u8> {
    let mut fadt = vec![0; FADT_LENGTH - HEADER_LENGTH];
    // By their offsets in the table. There is no SMI command port: the machine is in ACPI mode from the start.
    let mut put = |at: usize, data: &[u8]| {
        fadt[at - HEADER_LENGTH..at - HEADER_LENGTH + data.len()].copy_from_slice(data);
    };
    let flags = FLAG_WBINVD
        | FLAG_PROC_C1
        | FLAG_NO_POWER_BUTTON
        | FLAG_NO_SLEEP_BUTTON
        | FLAG_FIXED_RTC
        | FLAG_RESET_REGISTER;
    put(36, &facs.to_le_bytes());
    put(40, &dsdt.to_le_bytes());
    put(46, &SCI_INTERRUPT.to_le_bytes());
    put(56, &u32::from(pm::EVENT).to_le_bytes());
    put(64, &u32::from(pm::CONTROL).to_le_bytes());
    put(76, &u32::from(pm::TIMER).to_le_bytes());
    put(88, &[pm::EVENT_LENGTH, pm::CONTROL_LENGTH, 0, pm::TIMER_LENGTH]);
    put(96, &NO_C2.to_le_bytes());
    put(98, &NO_C3.to_le_bytes());
    put(108, &[super::super::cmos::CENTURY]);
    put(109, &BOOT_LEGACY_DEVICES.to_le_bytes());
    put(112, &flags.to_le_bytes());
    put(116, &io_register(power::RESET_CONTROL, 8));
    put(128, &[RESET_VALUE]);
    put(132, &u64::from(facs).to_le_bytes());
    put(140, &u64::from(dsdt).to_le_bytes());
    put(148, &io_register(pm::EVENT, 8 * pm::EVENT_LENGTH));
    put(172, &io_register(pm::CONTROL, 8 * pm::CONTROL_LENGTH));
    put(208, &io_register(pm::TIMER, 8 * pm::TIMER_LENGTH));
    fadt
}

fn madt(cpus: usize) -> Vec<u8> {
    let mut madt = Vec::new();
    madt.extend((DEFAULT_BASE as u32).to_le_bytes());
    madt.extend(PCAT_COMPATIBLE.to_le_bytes());
    for id in 0..cpus as u8 {
        madt.extend([0, 8, id, id]);
        madt.extend(ENABLED.to_le_bytes());
    }
    madt.extend([1, 12, ioapic::ID, 0]);
    madt.extend((ioapic::BASE as u32).to_le_bytes());
    madt.extend(0u32.to_le_bytes());
    for (irq, pin, flags) in [
        (0, ioapic::TIMER_PIN, CONFORMS),
        (pm::SCI, pm::SCI, LEVEL_ACTIVE_HIGH),
    ] {
        madt.extend([2, 10, ISA_BUS, irq]);
        madt.extend(u32::from(pin).to_le_bytes());
        madt.extend(flags.to_le_bytes());
    }
    madt.extend([4, 6, ALL_PROCESSORS]);
    madt.extend(CONFORMS.to_le_bytes());
    madt.extend([1]); // NMI at LINT1
    madt
}

/// The high-precision event timers (IA-PC HPET 1.0a, 3.2.4).
fn timers() -> Vec<u8> {
    const MEMORY_SPACE: u8 = 0;
    const MINIMUM_COUNTS: u16 = 100;
    let mut timers = hpet::IDENTITY.to_le_bytes().to_vec();
    timers.extend([MEMORY_SPACE, 64, 0, 0]);
    timers.extend(hpet::BASE.to_le_bytes());
    timers.push(0); // its number
    timers.extend(MINIMUM_COUNTS.to_le_bytes());
    timers.push(0); // no page protection
    timers
}

/// What cannot be found by looking: the sleep type of power-off, the root of PCI, and the devices of an ISA bus.
fn dsdt() -> Vec<u8> {
    let off = aml::byte(pm::SLEEP_TYPE_OFF);
    let bridge = aml::device(
        b"PCI0",
        &[
            aml::name(b"_HID", &aml::eisa_id(b"PNP0A03")),
            aml::name(
                b"_CRS",
                &aml::resources(&[aml::buses(0, 0), aml::ports(0xCF8, 8)]),
            ),
        ],
    );
    let console = aml::device(
        b"COM1",
        &[
            aml::name(b"_HID", &aml::eisa_id(b"PNP0501")),
            aml::name(b"_UID", &aml::byte(1)),
            aml::name(
                b"_CRS",
                &aml::resources(&[aml::ports(serial::BASE, 8), aml::interrupt(serial::IRQ)]),
            ),
        ],
    );
    let clock = aml::device(
        b"RTC0",
        &[
            aml::name(b"_HID", &aml::eisa_id(b"PNP0B00")),
            aml::name(
                b"_CRS",
                &aml::resources(&[aml::ports(0x70, 2), aml::interrupt(8)]),
            ),
        ],
    );
    [
        aml::name(
            b"_S5_",
            &aml::package(&[off.clone(), off, aml::byte(0), aml::byte(0)]),
        ),
        aml::scope(b"_SB_", &[bridge, console, clock]),
    ]
    .concat()
}

#[cfg(test)]
mod tests {
    use super::super::{build, tests::sums_to_zero, BASE};

    fn word(bytes: &[u8], at: usize) -> u32 {
        u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
    }

    /// Every table that the roots lead to, by signature.
    fn walk(bytes: &[u8]) -> Vec<(&[u8], &[u8])> {
        let table = |address: u32| {
            let at = (u64::from(address) - BASE) as usize;
            &bytes[at..at + word(bytes, at + 4) as usize]
        };
        let (rsdt, xsdt) = (table(word(bytes, 16)), table(word(bytes, 24)));
        let narrow: Vec<u32> = rsdt[36..].chunks(4).map(|entry| word(entry, 0)).collect();
        let wide: Vec<u32> = xsdt[36..].chunks(8).map(|entry| word(entry, 0)).collect();
        assert_eq!(narrow, wide);
        let mut found: Vec<_> = [rsdt, xsdt]
            .into_iter()
            .chain(narrow.into_iter().map(table))
            .collect();
        let fadt = *found.iter().find(|table| table.starts_with(b"FACP")).unwrap();
        found.push(table(word(fadt, 40)));
        found.iter().map(|table| (&table[..4], *table)).collect()
    }

    #[test]
    fn the_root_leads_to_tables_that_add_up() {
        let bytes = build(2);
        assert!(bytes.starts_with(b"RSD PTR "));
        assert!(sums_to_zero(&bytes[..20]) && sums_to_zero(&bytes[..36]));
        let tables = walk(&bytes);
        let names: Vec<_> = tables.iter().map(|(name, _)| *name).collect();
        assert_eq!(names, [b"RSDT", b"XSDT", b"FACP", b"APIC", b"HPET", b"DSDT"]);
        assert!(tables.iter().all(|(_, table)| sums_to_zero(table)));
    }

    #[test]
    fn the_facs_is_aligned() {
        let bytes = build(1);
        let fadt = walk(&bytes)[2].1.to_vec();
        assert_eq!(word(&fadt, 36) % 64, 0);
        let at = (u64::from(word(&fadt, 36)) - BASE) as usize;
        assert!(bytes[at..].starts_with(b"FACS"));
    }

    #[test]
    fn each_processor_is_told() {
        for cpus in [1, 3, 64] {
            let bytes = build(cpus);
            let madt = walk(&bytes)[3].1.to_vec();
            let mut at = 44;
            let mut found = 0;
            while at < madt.len() {
                found += usize::from(madt[at] == 0);
                at += usize::from(madt[at + 1]);
            }
            assert_eq!((at, found), (madt.len(), cpus));
        }
    }
}
