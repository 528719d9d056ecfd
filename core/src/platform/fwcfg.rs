//! QEMU's firmware configuration interface at ports 0x510 (selector) and 0x511 (data), as far as bare-metal guests ask:
//! how many processors and how much RAM.

use super::ports::PortRange;
use super::Bus;

const SELECTOR: u16 = 0x510;
const DATA: u16 = 0x511;

const KEY_SIGNATURE: u16 = 0x00;
const KEY_ID: u16 = 0x01;
const KEY_RAM_SIZE: u16 = 0x03;
const KEY_CPU_COUNT: u16 = 0x05;
const KEY_MAX_CPUS: u16 = 0x0F;
/// In an ID: the interface of ports, without DMA.
const TRADITIONAL: u32 = 1;

#[derive(Clone, Default)]
pub struct FwCfg {
    key: u16,
    offset: usize,
}

/// The value of a key, little-endian. Past its end, and for keys that do not exist, zeros are read.
fn item(bus: &Bus, key: u16) -> Vec<u8> {
    let cpus = bus.cpu_count() as u16;
    match key {
        KEY_SIGNATURE => b"QEMU".to_vec(),
        KEY_ID => TRADITIONAL.to_le_bytes().to_vec(),
        KEY_RAM_SIZE => bus.ram.size().to_le_bytes().to_vec(),
        KEY_CPU_COUNT | KEY_MAX_CPUS => cpus.to_le_bytes().to_vec(),
        _ => Vec::new(),
    }
}

pub const PORTS: &[PortRange] = &[PortRange {
    first: SELECTOR,
    last: DATA,
    width: 2,
    read,
    write,
}];

fn read(bus: &mut Bus, port: u16, size: u8) -> u32 {
    if (port, size) != (DATA, 1) {
        return 0;
    }
    let byte = item(bus, bus.fwcfg.key).get(bus.fwcfg.offset).copied();
    bus.fwcfg.offset = bus.fwcfg.offset.saturating_add(1);
    byte.unwrap_or(0).into()
}

fn write(bus: &mut Bus, port: u16, size: u8, value: u32) {
    if (port, size) == (SELECTOR, 2) {
        bus.fwcfg = FwCfg {
            key: value as u16,
            offset: 0,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn get(bus: &mut Bus, key: u16, length: usize) -> Vec<u8> {
        bus.io_write(0, SELECTOR, 2, key.into());
        (0..length).map(|_| bus.io_read(0, DATA, 1) as u8).collect()
    }

    #[test]
    fn tells_processors_and_ram() {
        let mut bus = Bus::for_test(3);
        assert_eq!(get(&mut bus, KEY_SIGNATURE, 4), b"QEMU");
        assert_eq!(get(&mut bus, KEY_CPU_COUNT, 2), [3, 0]);
        assert_eq!(get(&mut bus, KEY_MAX_CPUS, 3), [3, 0, 0]);
        assert_eq!(get(&mut bus, KEY_RAM_SIZE, 8), bus.ram.size().to_le_bytes());
    }

    #[test]
    fn unknown_keys_read_zero() {
        let mut bus = Bus::for_test(1);
        assert_eq!(get(&mut bus, 0x11, 8), [0; 8]);
        assert_eq!(get(&mut bus, 0xFFFF, 4), [0; 4]);
    }
}
