//! PCI configuration mechanism 1 at ports 0xCF8 (address) and 0xCFC–0xCFF (data), of a bus with only the host bridge on it, by
//! which software knows that there is a bus. The reset control register, port 0xCF9, lies inside the address register and is
//! told from it by the size of the access.

use super::ports::PortRange;
use super::{power, Bus};

const ADDRESS: u16 = 0xCF8;
const DATA: u16 = 0xCFC;

/// Bit 31 of the address: the data ports reach configuration space.
const ENABLE: u32 = 1 << 31;
/// Bits 30:8 of the address, bus, device and function, less the reserved ones.
const LOCATION: u32 = 0xFF_FF00;
const HOST_BRIDGE: u32 = 0;

/// The registers of the host bridge that are not zero, as those of Intel's 440FX: 82441FX (vendor and device), memory space and
/// bus mastering always on (command), host bridge (class). There is nothing in it to be programmed.
fn host_bridge(register: u32) -> u32 {
    match register {
        0x00 => 0x1237_8086,
        0x04 => 0x0000_0006,
        0x08 => 0x0600_0002,
        _ => 0,
    }
}

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
        read: read_data,
        write: |_, _, _, _| {},
    },
];

fn read_data(bus: &mut Bus, port: u16, _: u8) -> u32 {
    let address = bus.pci.address;
    let value = if address & (ENABLE | LOCATION) == ENABLE | HOST_BRIDGE {
        host_bridge(address & 0xFC)
    } else {
        u32::MAX
    };
    value >> (8 * (port - DATA))
}

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
    fn the_host_bridge_is_alone_on_the_bus() {
        let mut bus = Bus::for_test(1);
        bus.io_write(0, ADDRESS, 4, 0x8000_0008);
        assert_eq!(bus.io_read(0, ADDRESS, 4), 0x8000_0008);
        assert_eq!(bus.io_read(0, DATA, 4), 0x0600_0002);
        assert_eq!(bus.io_read(0, DATA + 2, 2), 0x0600);
        for elsewhere in [0x0000_0000, 0x8000_0100, 0x8000_0800, 0x8001_0000] {
            bus.io_write(0, ADDRESS, 4, elsewhere);
            assert_eq!(bus.io_read(0, DATA, 4), u32::MAX);
            assert_eq!(bus.io_read(0, DATA + 2, 2), 0xFFFF);
        }
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
