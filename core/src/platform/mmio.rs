//! The physical addresses that are not RAM: which device answers there.

use super::{hpet, ioapic, testdev, Bus};

const PAGE: u64 = 0x1000;

/// A 32-bit register every 16 bytes; the bytes between are reserved.
fn in_register(offset: u64) -> bool {
    offset & 0xC == 0
}

impl Bus {
    /// Reads 1 to 8 bytes at a host-physical address that is not RAM. Where no device answers, all ones.
    pub fn mmio_read(&mut self, cpu: usize, address: u64, bytes: u8) -> u64 {
        let value = if self.lapic_page(cpu) == Some(address & !(PAGE - 1)) {
            let offset = address & (PAGE - 1);
            if in_register(offset) {
                u64::from(self.lapic_read(cpu, offset)) >> (8 * (offset & 3))
            } else {
                0
            }
        } else if address & !(PAGE - 1) == ioapic::BASE {
            u64::from(self.ioapic.read(address & 0xFF & !3)) >> (8 * (address & 3))
        } else if address.wrapping_sub(hpet::BASE) < hpet::SIZE {
            self.hpet_read(address - hpet::BASE)
        } else if address.wrapping_sub(testdev::MEMORY) < testdev::MEMORY_SIZE {
            self.testdev.read_memory(address - testdev::MEMORY, bytes)
        } else {
            u64::MAX
        };
        value & u64::MAX >> (64 - 8 * u32::from(bytes.clamp(1, 8)))
    }

    /// Writes 1 to 8 bytes at a host-physical address that is not RAM. APIC registers take aligned writes of 32 bits or
    /// more (of which the low 32 count); others are undefined by the SDM and do nothing.
    pub fn mmio_write(&mut self, cpu: usize, address: u64, bytes: u8, value: u64) {
        let offset = address & (PAGE - 1);
        if self.lapic_page(cpu) == Some(address - offset) {
            if offset & 0xF == 0 && bytes >= 4 {
                self.lapic_write(cpu, offset, value as u32);
            }
        } else if address - offset == ioapic::BASE {
            if offset & 0xF == 0 {
                self.ioapic.write(offset, value as u32);
                self.service_ioapic();
            }
        } else if address.wrapping_sub(hpet::BASE) < hpet::SIZE {
            self.hpet_write(address - hpet::BASE, bytes, value);
        } else if address.wrapping_sub(testdev::MEMORY) < testdev::MEMORY_SIZE {
            self.testdev.write_memory(address - testdev::MEMORY, bytes, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LAPIC: u64 = 0xFEE0_0000;

    #[test]
    fn nobody_answers_with_all_ones() {
        let mut bus = Bus::for_test(1);
        assert_eq!(bus.mmio_read(0, 0xFD00_0000, 4), 0xFFFF_FFFF);
        assert_eq!(bus.mmio_read(0, u64::MAX, 8), u64::MAX);
        bus.mmio_write(0, 0xFD00_0000, 8, 0);
    }

    #[test]
    fn each_processor_sees_its_own_lapic() {
        let mut bus = Bus::for_test(2);
        assert_eq!(bus.mmio_read(0, LAPIC + 0x20, 4), 0);
        assert_eq!(bus.mmio_read(1, LAPIC + 0x20, 4), 1 << 24);
        assert_eq!(bus.mmio_read(1, LAPIC + 0x23, 1), 1);
        bus.mmio_write(1, LAPIC + 0x80, 4, 0x50);
        assert_eq!((bus.tpr(0), bus.tpr(1)), (0, 0x50));
    }

    #[test]
    fn the_lapic_moves_with_its_base() {
        let mut bus = Bus::for_test(1);
        let version = bus.mmio_read(0, LAPIC + 0x30, 4);
        bus.set_apic_base(0, 0xFED4_0900).unwrap();
        assert_eq!(bus.mmio_read(0, 0xFED4_0030, 4), version);
        assert_eq!(bus.mmio_read(0, LAPIC + 0x30, 4), 0xFFFF_FFFF);
        bus.set_apic_base(0, 0x5900).unwrap();
        bus.ram.write(0x5030, &[0x77]);
        assert_eq!(
            bus.read_physical(0, 0x5030, 4),
            version,
            "it lies in front of RAM"
        );
        bus.set_apic_base(0, 0xFED4_0100).unwrap();
        assert_eq!(bus.read_physical(0, 0x5030, 4), 0x77);
        assert_eq!(bus.mmio_read(0, 0xFED4_0030, 4), 0xFFFF_FFFF);
    }
}
