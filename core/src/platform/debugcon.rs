//! The debug console at port 0xE9: each byte written is output; reading gives 0xE9, by which guests find it. It is there
//! only if it was asked for.

use super::ports::PortRange;
use super::Bus;

const PORT: u16 = 0xE9;

#[derive(Clone, Default)]
pub struct DebugConsole {
    present: bool,
    pub output: Vec<u8>,
}

pub const PORTS: &[PortRange] = &[PortRange {
    first: PORT,
    last: PORT,
    width: 1,
    read,
    write,
}];

fn read(bus: &mut Bus, port: u16, _: u8) -> u32 {
    if bus.debugcon.present {
        port.into()
    } else {
        u32::MAX
    }
}

fn write(bus: &mut Bus, _: u16, _: u8, value: u32) {
    if bus.debugcon.present {
        bus.debugcon.output.push(value as u8);
    }
}

impl Bus {
    /// Puts the debug console into the machine.
    pub fn add_debugcon(&mut self) {
        self.debugcon.present = true;
    }

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
        bus.io_write(0, PORT, 1, u32::from(b'?'));
        assert_eq!((bus.io_read(0, PORT, 1), bus.take_debugcon()), (0xFF, vec![]));
        bus.add_debugcon();
        assert_eq!(bus.io_read(0, PORT, 1), 0xE9);
        bus.io_write(0, PORT, 1, u32::from(b'!'));
        assert_eq!(bus.take_debugcon(), b"!");
        assert!(bus.take_debugcon().is_empty());
    }
}
