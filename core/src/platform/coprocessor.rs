//! What a PC has between the processors' FERR# and IGNNE# and interrupt request 13 (SDM vol. 1, 8.7.2; QEMU's and
//! Bochs's port 0xF0): FERR# requests the interrupt, and a write to port 0xF0 ends the request and asserts IGNNE#, until
//! FERR# is asserted for another exception.

use super::ports::PortRange;
use super::Bus;

const CLEAR_BUSY: u16 = 0xF0;
const IRQ: u8 = 13;

#[derive(Clone, Default)]
pub struct Coprocessor {
    ignne: bool,
}

pub const PORTS: &[PortRange] = &[PortRange {
    first: CLEAR_BUSY,
    last: CLEAR_BUSY,
    width: 1,
    read: |_, _, _| u32::MAX,
    write: |bus, _, _, _| {
        bus.coprocessor.ignne = true;
        bus.set_irq(IRQ, false);
    },
}];

impl Bus {
    /// A processor asserts FERR#, which was inactive.
    pub fn assert_ferr(&mut self) {
        self.coprocessor.ignne = false;
        self.set_irq(IRQ, true);
    }

    pub fn ignne(&self) -> bool {
        self.coprocessor.ignne
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether the second interrupt controller has a request of its line 5.
    fn requested(bus: &mut Bus) -> bool {
        bus.io_write(0, 0xA0, 1, 0x0A);
        bus.io_read(0, 0xA0, 1) & 0x20 != 0
    }

    #[test]
    fn a_write_to_the_port_ends_the_request_and_the_next_exception_begins_anew() {
        let mut bus = Bus::for_test(1);
        bus.io_write(0, 0xA1, 1, 0);
        bus.assert_ferr();
        assert!(requested(&mut bus) && !bus.ignne());
        bus.acknowledge(0);
        bus.assert_ferr();
        assert!(!requested(&mut bus), "the request has not ended yet");
        bus.io_write(0, CLEAR_BUSY, 1, 0);
        assert!(!requested(&mut bus) && bus.ignne());
        bus.assert_ferr();
        assert!(requested(&mut bus) && !bus.ignne());
    }
}
