//! The tables of Intel's MultiProcessor Specification 1.4 (chapter 4), for software from before ACPI.

use super::super::{ioapic, lapic};
use super::{set_checksum, Tables};

const FLOATING_LENGTH: usize = 16;
const HEADER_LENGTH: usize = 44;
const REVISION: u8 = 4;
/// The processors' family, model and stepping, of which only CPUID.1:EAX tells more; and their features: an x87 and an APIC.
const SIGNATURE: u32 = 0x600;
const FEATURES: u32 = 1 << 9 | 1;

const PROCESSOR: u8 = 0;
const BUS: u8 = 1;
const IO_APIC: u8 = 2;
const IO_INTERRUPT: u8 = 3;
const LOCAL_INTERRUPT: u8 = 4;

const ENABLED: u8 = 1;
const BOOT_PROCESSOR: u8 = 2;
const ISA_BUS: u8 = 0;
const INT: u8 = 0;
const NMI: u8 = 1;
const EXT_INT: u8 = 3;
const ALL_APICS: u8 = 0xFF;

pub fn put(tables: &mut Tables, cpus: usize) {
    let floating = tables.reserve(FLOATING_LENGTH, 16);
    let table = tables.put(&configuration(cpus), 16);
    let mut pointer = b"_MP_".to_vec();
    pointer.extend(table.to_le_bytes());
    pointer.extend([1, REVISION]);
    pointer.resize(FLOATING_LENGTH, 0);
    set_checksum(&mut pointer, 10);
    tables.fill(floating, &pointer);
}

fn configuration(cpus: usize) -> Vec<u8> {
    let entries = entries(cpus);
    let body = entries.concat();
    let mut table = b"PCMP".to_vec();
    table.extend(((HEADER_LENGTH + body.len()) as u16).to_le_bytes());
    table.extend([REVISION, 0]);
    table.extend(b"GDBVMX  GDBVMX      ");
    table.extend([0; 6]); // no table of the OEM's
    table.extend((entries.len() as u16).to_le_bytes());
    table.extend((lapic::DEFAULT_BASE as u32).to_le_bytes());
    table.extend([0; 4]); // no extension
    table.extend(body);
    set_checksum(&mut table, 7);
    table
}

fn entries(cpus: usize) -> Vec<Vec<u8>> {
    let mut entries = Vec::new();
    for id in 0..cpus as u8 {
        let flags = if id == 0 {
            ENABLED | BOOT_PROCESSOR
        } else {
            ENABLED
        };
        let mut entry = vec![PROCESSOR, id, lapic::VERSION as u8, flags];
        entry.extend(SIGNATURE.to_le_bytes());
        entry.extend(FEATURES.to_le_bytes());
        entry.resize(20, 0);
        entries.push(entry);
    }
    entries.push([&[BUS, ISA_BUS], b"ISA   ".as_slice()].concat());
    let mut io_apic = vec![IO_APIC, ioapic::ID, ioapic::VERSION as u8, ENABLED];
    io_apic.extend((ioapic::BASE as u32).to_le_bytes());
    entries.push(io_apic);
    // The bus's polarity and trigger mode; the PIC's cascade has no pin.
    let interrupt = |kind, irq, pin| vec![IO_INTERRUPT, kind, 0, 0, ISA_BUS, irq, ioapic::ID, pin];
    for irq in (0..16).filter(|irq| *irq != 2) {
        let pin = if irq == 0 { ioapic::TIMER_PIN } else { irq };
        entries.push(interrupt(INT, irq, pin));
    }
    for (kind, pin) in [(EXT_INT, 0), (NMI, 1)] {
        entries.push(vec![LOCAL_INTERRUPT, kind, 0, 0, ISA_BUS, 0, ALL_APICS, pin]);
    }
    entries
}

#[cfg(test)]
mod tests {
    use super::super::{build, tests::sums_to_zero, BASE};

    #[test]
    fn the_floating_pointer_leads_to_the_table() {
        let bytes = build(2);
        let at = (0..bytes.len())
            .step_by(16)
            .find(|&at| bytes[at..].starts_with(b"_MP_"));
        let floating = &bytes[at.unwrap()..][..16];
        assert!(sums_to_zero(floating));
        let address = u32::from_le_bytes(floating[4..8].try_into().unwrap());
        let table = &bytes[(u64::from(address) - BASE) as usize..];
        let length = u16::from_le_bytes(table[4..6].try_into().unwrap()) as usize;
        assert!(table.starts_with(b"PCMP") && sums_to_zero(&table[..length]));

        let (mut at, mut entries, mut processors) = (44, 0, 0);
        while at < length {
            processors += u16::from(table[at] == 0);
            entries += 1;
            at += if table[at] == 0 { 20 } else { 8 };
        }
        assert_eq!(at, length);
        assert_eq!(u16::from_le_bytes(table[34..36].try_into().unwrap()), entries);
        assert_eq!(processors, 2);
    }
}
