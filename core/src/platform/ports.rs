//! The I/O address space: which device answers at which port.

use super::{cmos, coprocessor, debugcon, fwcfg, pci, pic, pit, pm, power, serial, testdev, Bus};

/// Ports `first..=last` of a device. Accesses of up to `width` bytes that stay inside the range reach it whole; others
/// are split into bytes, each to the device of its own port.
pub struct PortRange {
    pub first: u16,
    pub last: u16,
    pub width: u8,
    pub read: fn(&mut Bus, port: u16, size: u8) -> u32,
    pub write: fn(&mut Bus, port: u16, size: u8, value: u32),
}

const DEVICES: &[&[PortRange]] = &[
    serial::PORTS,
    pic::PORTS,
    pit::PORTS,
    cmos::PORTS,
    debugcon::PORTS,
    power::PORTS,
    pm::PORTS,
    fwcfg::PORTS,
    pci::PORTS,
    testdev::PORTS,
    coprocessor::PORTS,
];

fn find(port: u16) -> Option<&'static PortRange> {
    DEVICES
        .iter()
        .copied()
        .flatten()
        .find(|range| (range.first..=range.last).contains(&port))
}

fn takes_whole(range: &PortRange, port: u16, size: u8) -> bool {
    size <= range.width && range.last - port >= u16::from(size) - 1
}

fn mask(size: u8) -> u32 {
    u32::MAX >> (32 - 8 * u32::from(size.clamp(1, 4)))
}

impl Bus {
    /// IN of `size` bytes (1, 2 or 4). A port that no device claims reads all ones. No device cares which processor asks.
    pub fn io_read(&mut self, _cpu: usize, port: u16, size: u8) -> u32 {
        match find(port).filter(|range| takes_whole(range, port, size)) {
            Some(range) => (range.read)(self, port, size) & mask(size),
            None => (0..size).fold(0, |value, i| {
                value | self.read_byte(port.wrapping_add(i.into())) << (8 * i)
            }),
        }
    }

    /// OUT of the low `size` bytes (1, 2 or 4) of `value`. A port that no device claims swallows it.
    pub fn io_write(&mut self, _cpu: usize, port: u16, size: u8, value: u32) {
        match find(port).filter(|range| takes_whole(range, port, size)) {
            Some(range) => (range.write)(self, port, size, value & mask(size)),
            None => (0..size).for_each(|i| self.write_byte(port.wrapping_add(i.into()), value >> (8 * i))),
        }
    }

    fn read_byte(&mut self, port: u16) -> u32 {
        find(port).map_or(mask(1), |range| (range.read)(self, port, 1) & mask(1))
    }

    fn write_byte(&mut self, port: u16, value: u32) {
        if let Some(range) = find(port) {
            (range.write)(self, port, 1, value & mask(1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_devices_claim_a_port() {
        let mut ranges: Vec<_> = DEVICES
            .iter()
            .copied()
            .flatten()
            .map(|r| (r.first, r.last))
            .collect();
        ranges.sort_unstable();
        for pair in ranges.windows(2) {
            assert!(pair[0].0 <= pair[0].1 && pair[0].1 < pair[1].0, "{pair:x?}");
        }
    }

    #[test]
    fn unclaimed_ports_read_all_ones() {
        let mut bus = Bus::for_test(1);
        assert_eq!(bus.io_read(0, 0x300, 1), 0xFF);
        assert_eq!(bus.io_read(0, 0x300, 2), 0xFFFF);
        assert_eq!(bus.io_read(0, 0xFFFE, 4) & 0xFFFF, 0xFFFF);
        bus.io_write(0, 0x300, 4, 0);
    }

    #[test]
    fn wide_accesses_are_split_for_byte_devices() {
        let mut bus = Bus::for_test(1);
        bus.io_write(0, 0x3FF, 1, 0x5A);
        assert_eq!(bus.io_read(0, 0x3FF, 2), 0xFF5A, "the second byte is nobody's");
        bus.io_write(0, 0x3F8, 1, b'a'.into());
        assert_eq!(bus.take_serial(), b"a");
    }
}
