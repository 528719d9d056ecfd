//! The debug console at port 0xE9: each byte written is output; reading gives 0xE9, by which guests find it.

use super::ports::PortRange;
use super::Bus;

const PORT: u16 = 0xE9;

#[derive(Clone, Default)]
pub struct DebugConsole {
    pub output: Vec<u8>,
}

pub const PORTS: &[PortRange] = &[PortRange {
    first: PORT,
    last: PORT,
    width: 1,
    read,
    write,
}];

fn read(_: &mut Bus, port: u16, _: u8) -> u32 {
    port.into()
}

fn write(bus: &mut Bus, _: u16, _: u8, value: u32) {
    bus.debugcon.output.push(value as u8);
}

impl Bus {
    /// What the guest wrote to the debug console since the last call.
    pub fn take_debugcon(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.debugcon.output)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn collects_bytes_and_answers_the_probe() {
        let mut bus = Bus::for_test(1);
        assert_eq!(bus.io_read(0, PORT, 1), 0xE9);
        bus.io_write(0, PORT, 1, u32::from(b'!'));
        assert_eq!(bus.take_debugcon(), b"!");
        assert!(bus.take_debugcon().is_empty());
    }
}
