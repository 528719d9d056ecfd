//! What a PC's firmware leaves in memory: ACPI's tables and the MultiProcessor Specification's, in the segment of the BIOS.

mod acpi;
mod aml;
mod multiprocessor;

use super::ram::Ram;

/// Where the tables begin; loaders look for both roots from here up to 1 MiB, at multiples of 16.
const BASE: u64 = 0xF_0000;

/// Tables that follow each other in memory.
struct Tables {
    bytes: Vec<u8>,
}

impl Tables {
    /// Room for `length` bytes at a multiple of `alignment`; gives their guest-physical address.
    fn reserve(&mut self, length: usize, alignment: usize) -> u32 {
        let start = self.bytes.len().next_multiple_of(alignment);
        self.bytes.resize(start + length, 0);
        BASE as u32 + start as u32
    }

    fn put(&mut self, data: &[u8], alignment: usize) -> u32 {
        let address = self.reserve(data.len(), alignment);
        self.fill(address, data);
        address
    }

    /// Writes into room that was reserved.
    fn fill(&mut self, address: u32, data: &[u8]) {
        let start = (u64::from(address) - BASE) as usize;
        if let Some(place) = self.bytes.get_mut(start..start + data.len()) {
            place.copy_from_slice(data);
        }
    }
}

/// Sets the byte at `at` so that all bytes add up to 0.
fn set_checksum(table: &mut [u8], at: usize) {
    if let Some(byte) = table.get_mut(at) {
        *byte = 0;
    }
    let sum = table.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte));
    if let Some(byte) = table.get_mut(at) {
        *byte = sum.wrapping_neg();
    }
}

/// All tables for this many processors, from `BASE` on.
fn build(cpus: usize) -> Vec<u8> {
    let mut tables = Tables { bytes: Vec::new() };
    acpi::put(&mut tables, cpus);
    multiprocessor::put(&mut tables, cpus);
    tables.bytes
}

/// Writes the tables into RAM, as far as there is RAM.
pub fn install(ram: &mut Ram, cpus: usize) {
    for (number, page) in build(cpus).chunks(0x1000).enumerate() {
        if let Some(at) = ram.offset(BASE + 0x1000 * number as u64) {
            ram.write(at, page);
        }
    }
}

/// The guest-physical address of ACPI's root pointer, and its bytes.
pub fn acpi_root(cpus: usize) -> (u64, Vec<u8>) {
    let mut tables = build(cpus);
    tables.truncate(acpi::ROOT_LENGTH);
    (BASE, tables)
}

#[cfg(test)]
mod tests {
    use super::*;

    pub fn sums_to_zero(bytes: &[u8]) -> bool {
        bytes.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte)) == 0
    }

    #[test]
    fn they_stay_in_the_segment_of_the_bios() {
        assert!(build(64).len() < 0x1_0000);
    }

    #[test]
    fn memory_without_that_segment_gets_none() {
        let mut ram = Ram::new(0x8_0000);
        install(&mut ram, 1);
        assert!(ram
            .slice(0, 0x8_0000)
            .is_some_and(|bytes| bytes.iter().all(|&byte| byte == 0)));
    }
}
