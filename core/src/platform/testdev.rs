//! QEMU's pc-testdev, for conformance suites: a register at ports 0xE0–0xE3, ports 0x2000–0x2017 that drive interrupt requests,
//! and 64 KiB of memory at 0xFF000000. (Its second register at 0xE8 would hide the debug console and is left out.)

use super::ports::PortRange;
use super::{ioapic, Bus};

const REGISTER: u16 = 0xE0;
/// Flushes QEMU's mapping of a page, which has no meaning here.
const FLUSH: u16 = 0xE4;
const IRQ_LINES: u16 = 0x2000;

pub const MEMORY: u64 = 0xFF00_0000;
pub const MEMORY_SIZE: u64 = 0x1_0000;

#[derive(Clone, Default)]
pub struct TestDevice {
    register: u32,
    /// Empty until it is first written: most machines never touch it.
    memory: Vec<u8>,
}

impl TestDevice {
    pub fn read_memory(&self, offset: u64, size: u8) -> u64 {
        (0..u64::from(size.min(8))).rev().fold(0, |value, i| {
            let byte = usize::try_from(offset + i)
                .ok()
                .and_then(|at| self.memory.get(at));
            value << 8 | u64::from(byte.copied().unwrap_or(0))
        })
    }

    pub fn write_memory(&mut self, offset: u64, size: u8, value: u64) {
        if self.memory.is_empty() {
            self.memory = vec![0; MEMORY_SIZE as usize];
        }
        let at = offset as usize;
        for (place, byte) in self
            .memory
            .iter_mut()
            .skip(at)
            .zip(value.to_le_bytes())
            .take(size.into())
        {
            *place = byte;
        }
    }
}

pub const PORTS: &[PortRange] = &[
    PortRange {
        first: REGISTER,
        last: REGISTER + 3,
        width: 4,
        read,
        write,
    },
    PortRange {
        first: FLUSH,
        last: FLUSH + 3,
        width: 4,
        read: |_, _, _| 0,
        write: |_, _, _, _| {},
    },
    PortRange {
        first: IRQ_LINES,
        last: IRQ_LINES + ioapic::PINS as u16 - 1,
        width: 1,
        read: |_, _, _| u32::MAX,
        write: |bus, port, _, value| bus.set_irq((port - IRQ_LINES) as u8, value != 0),
    },
];

fn read(bus: &mut Bus, port: u16, _: u8) -> u32 {
    bus.testdev.register >> (8 * (port - REGISTER))
}

fn write(bus: &mut Bus, port: u16, size: u8, value: u32) {
    let shift = 8 * (port - REGISTER);
    let mask = u32::MAX >> (32 - 8 * u32::from(size)) << shift;
    bus.testdev.register = bus.testdev.register & !mask | value << shift & mask;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_register_keeps_parts() {
        let mut bus = Bus::for_test(1);
        bus.io_write(0, 0xE0, 4, 0x1122_3344);
        bus.io_write(0, 0xE1, 2, 0xAABB);
        assert_eq!(bus.io_read(0, 0xE0, 4), 0x11AA_BB44);
        assert_eq!(bus.io_read(0, 0xE3, 1), 0x11);
    }

    #[test]
    fn memory_is_reached_by_mmio_only() {
        let mut bus = Bus::for_test(1);
        assert_eq!(bus.mmio_read(0, MEMORY + 8, 8), 0);
        bus.mmio_write(0, MEMORY + 8, 4, 0x1234_5678);
        assert_eq!(bus.mmio_read(0, MEMORY + 6, 8), 0x1234_5678_0000);
        bus.mmio_write(0, MEMORY + MEMORY_SIZE - 1, 8, !0);
        assert_eq!(bus.mmio_read(0, MEMORY + MEMORY_SIZE - 1, 1), 0xFF);
    }

    #[test]
    fn ports_drive_interrupt_requests() {
        let mut bus = Bus::for_test(1);
        for (port, value) in [(0x20, 0x11), (0x21, 0x20), (0x21, 4), (0x21, 1), (0x21, 0)] {
            bus.io_write(0, port, 1, value);
        }
        bus.io_write(0, IRQ_LINES + 5, 1, 1);
        assert!(bus.interrupt_pending(0));
        assert_eq!(bus.acknowledge(0), 0x25);
        assert!(!bus.interrupt_pending(0));
    }
}
