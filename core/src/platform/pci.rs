//! PCI configuration mechanism 1 at ports 0xCF8 (address) and 0xCFC–0xCFF (data), of a bus with nothing on it. The reset
//! control register, port 0xCF9, lies inside the address register and is told from it by the size of the access.

use super::ports::PortRange;
use super::{power, Bus};

const ADDRESS: u16 = 0xCF8;
const DATA: u16 = 0xCFC;

#[derive(Clone, Default)]
pub struct Pci {
    address: u32,
}

pub const PORTS: &[PortRange] = &[
    PortRange {
        first: ADDRESS,
        last: ADDRESS + 3,
        width: 4,
        read: read_address,
        write: write_address,
    },
    PortRange {
        first: DATA,
        last: DATA + 3,
        width: 4,
        read: |_, _, _| u32::MAX,
        write: |_, _, _, _| {},
    },
];

fn read_address(bus: &mut Bus, port: u16, size: u8) -> u32 {
    match (port, size) {
        (ADDRESS, 4) => bus.pci.address,
        (power::RESET_CONTROL, 1) => bus.power.reset_control.into(),
        _ => u32::MAX,
    }
}

fn write_address(bus: &mut Bus, port: u16, size: u8, value: u32) {
    match (port, size) {
        // Bits 30:24 and 1:0 are reserved and read zero.
        (ADDRESS, 4) => bus.pci.address = value & 0x80FF_FFFC,
        (power::RESET_CONTROL, 1) => power::write_reset_control(bus, value as u8),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::super::Request;
    use super::*;

    #[test]
    fn the_mechanism_is_there_and_the_bus_is_empty() {
        let mut bus = Bus::for_test(1);
        bus.io_write(0, ADDRESS, 4, 0x8000_0000);
        assert_eq!(bus.io_read(0, ADDRESS, 4), 0x8000_0000);
        assert_eq!(bus.io_read(0, DATA, 4), u32::MAX);
        assert_eq!(bus.io_read(0, DATA + 2, 2), 0xFFFF);
    }

    #[test]
    fn reset_control_resets_on_the_second_step() {
        let mut bus = Bus::for_test(1);
        bus.io_write(0, power::RESET_CONTROL, 1, 0x02);
        assert_eq!(bus.request, None);
        bus.io_write(0, power::RESET_CONTROL, 1, 0x06);
        assert_eq!(bus.request, Some(Request::Reset));
    }
}
