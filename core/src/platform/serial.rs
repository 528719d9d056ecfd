//! COM1: a 16550A at ports 0x3F8–0x3FF, IRQ 4.
//!
//! The line has no speed: a byte written to the transmitter is sent at once, and a byte of the host's input is in the
//! receiver as soon as the one before it is read. So the receiver never overruns and nothing here needs the clock.

use super::ports::PortRange;
use super::Bus;
use std::collections::VecDeque;

pub const IRQ: u8 = 4;
const FIFO_SIZE: usize = 16;
/// The host's input waits here; what does not fit is refused, so that a guest that never reads costs nothing.
const INPUT_LIMIT: usize = 64 << 10;

const IER_RECEIVED: u8 = 1 << 0;
const IER_TRANSMITTER: u8 = 1 << 1;
const IER_LINE_STATUS: u8 = 1 << 2;
const IER_MODEM_STATUS: u8 = 1 << 3;

const LCR_DLAB: u8 = 1 << 7;
const MCR_OUT2: u8 = 1 << 3;
const MCR_LOOPBACK: u8 = 1 << 4;

const LSR_DATA_READY: u8 = 1 << 0;
const LSR_OVERRUN: u8 = 1 << 1;
const LSR_TRANSMITTER_EMPTY: u8 = 1 << 5 | 1 << 6;

const FCR_ENABLE: u8 = 1 << 0;
const FCR_CLEAR_RECEIVER: u8 = 1 << 1;

const IIR_NONE: u8 = 0x01;
const IIR_MODEM_STATUS: u8 = 0x00;
const IIR_TRANSMITTER: u8 = 0x02;
const IIR_RECEIVED: u8 = 0x04;
const IIR_LINE_STATUS: u8 = 0x06;
const IIR_TIMEOUT: u8 = 0x0C;
const IIR_FIFOS: u8 = 0xC0;

/// The modem at the other end: carrier, data set ready, clear to send.
const MSR_CONNECTED: u8 = 1 << 7 | 1 << 5 | 1 << 4;

#[derive(Clone)]
pub struct Serial {
    divisor: u16,
    ier: u8,
    fcr: u8,
    lcr: u8,
    mcr: u8,
    scratch: u8,
    overrun: bool,
    /// Changes of the modem's lines since MSR was last read (its low half).
    modem_changes: u8,
    /// The transmitter ran empty and IIR has not said so yet.
    transmitter_due: bool,
    receiver: VecDeque<u8>,
    input: VecDeque<u8>,
    output: Vec<u8>,
}

impl Default for Serial {
    fn default() -> Self {
        Serial {
            divisor: 1,
            ier: 0,
            fcr: 0,
            lcr: 0,
            mcr: 0,
            scratch: 0,
            overrun: false,
            modem_changes: 0,
            transmitter_due: false,
            receiver: VecDeque::new(),
            input: VecDeque::new(),
            output: Vec::new(),
        }
    }
}

impl Serial {
    pub fn read(&mut self, register: u16) -> u8 {
        match register {
            0 if self.dlab() => self.divisor.to_le_bytes()[0],
            1 if self.dlab() => self.divisor.to_le_bytes()[1],
            0 => {
                let byte = self.receiver.pop_front().unwrap_or(0);
                self.refill();
                byte
            }
            1 => self.ier,
            2 => {
                let iir = self.iir();
                if iir & 0x0F == IIR_TRANSMITTER {
                    self.transmitter_due = false;
                }
                iir
            }
            3 => self.lcr,
            4 => self.mcr,
            5 => {
                let lsr = self.lsr();
                self.overrun = false;
                lsr
            }
            6 => {
                let msr = self.modem_lines() | self.modem_changes;
                self.modem_changes = 0;
                msr
            }
            _ => self.scratch,
        }
    }

    pub fn write(&mut self, register: u16, value: u8) {
        match register {
            0 if self.dlab() => self.divisor = self.divisor & 0xFF00 | u16::from(value),
            1 if self.dlab() => self.divisor = self.divisor & 0x00FF | u16::from(value) << 8,
            0 => {
                if self.mcr & MCR_LOOPBACK == 0 {
                    self.output.push(value);
                } else if self.receiver.len() < self.receiver_size() {
                    self.receiver.push_back(value);
                } else {
                    self.overrun = true;
                }
                self.transmitter_due = true;
            }
            1 => {
                // Enabling the interrupt of an empty transmitter raises it: drivers start their output so.
                if value & !self.ier & IER_TRANSMITTER != 0 {
                    self.transmitter_due = true;
                }
                self.ier = value & 0x0F;
            }
            2 => {
                if (value ^ self.fcr) & FCR_ENABLE != 0 || value & FCR_CLEAR_RECEIVER != 0 {
                    self.receiver.clear();
                }
                self.fcr = value & 0xC9;
                self.refill();
            }
            3 => self.lcr = value,
            4 => {
                let before = self.modem_lines();
                self.mcr = value & 0x1F;
                let after = self.modem_lines();
                // The ring indicator reports its trailing edge only.
                let changed = (before ^ after) & !(after & 1 << 6);
                self.modem_changes |= changed >> 4;
                self.refill();
            }
            7 => self.scratch = value,
            _ => {}
        }
    }

    /// The level of the interrupt line. On a PC the UART reaches it through OUT2.
    pub fn irq(&self) -> bool {
        self.iir() & IIR_NONE == 0 && self.mcr & (MCR_OUT2 | MCR_LOOPBACK) == MCR_OUT2
    }

    /// Takes what fits of the host's input and says how many bytes that was.
    pub fn input(&mut self, bytes: &[u8]) -> usize {
        let taken = bytes.len().min(INPUT_LIMIT.saturating_sub(self.input.len()));
        self.input.extend(bytes.iter().take(taken));
        self.refill();
        taken
    }

    /// A byte that arrives interrupts.
    fn interrupts_on_input(&self) -> bool {
        self.ier & IER_RECEIVED != 0 && self.mcr & (MCR_OUT2 | MCR_LOOPBACK) == MCR_OUT2
    }

    pub fn take_output(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.output)
    }

    pub fn output_length(&self) -> usize {
        self.output.len()
    }

    fn dlab(&self) -> bool {
        self.lcr & LCR_DLAB != 0
    }

    fn receiver_size(&self) -> usize {
        if self.fcr & FCR_ENABLE != 0 {
            FIFO_SIZE
        } else {
            1
        }
    }

    fn refill(&mut self) {
        while self.mcr & MCR_LOOPBACK == 0 && self.receiver.len() < self.receiver_size() {
            match self.input.pop_front() {
                Some(byte) => self.receiver.push_back(byte),
                None => break,
            }
        }
    }

    fn lsr(&self) -> u8 {
        let ready = if self.receiver.is_empty() {
            0
        } else {
            LSR_DATA_READY
        };
        let overrun = if self.overrun { LSR_OVERRUN } else { 0 };
        LSR_TRANSMITTER_EMPTY | ready | overrun
    }

    /// The high half of MSR. In loopback the four outputs of MCR (DTR, RTS, OUT1, OUT2) come back as DSR, CTS, RI, DCD.
    fn modem_lines(&self) -> u8 {
        if self.mcr & MCR_LOOPBACK == 0 {
            return MSR_CONNECTED;
        }
        (self.mcr & 1) << 5 | (self.mcr >> 1 & 1) << 4 | (self.mcr >> 2 & 1) << 6 | (self.mcr >> 3 & 1) << 7
    }

    fn iir(&self) -> u8 {
        let fifos = if self.fcr & FCR_ENABLE != 0 { IIR_FIFOS } else { 0 };
        let trigger = match self.fcr {
            fcr if fcr & FCR_ENABLE == 0 => 1,
            fcr => [1, 4, 8, 14][usize::from(fcr >> 6)],
        };
        let waiting = self.receiver.len();
        let source = if self.ier & IER_LINE_STATUS != 0 && self.overrun {
            IIR_LINE_STATUS
        } else if self.ier & IER_RECEIVED != 0 && waiting >= trigger {
            IIR_RECEIVED
        } else if self.ier & IER_RECEIVED != 0 && waiting > 0 {
            // Below the trigger level the bytes are reported once the line falls idle. It is idle: all input is in.
            IIR_TIMEOUT
        } else if self.ier & IER_TRANSMITTER != 0 && self.transmitter_due {
            IIR_TRANSMITTER
        } else if self.ier & IER_MODEM_STATUS != 0 && self.modem_changes != 0 {
            IIR_MODEM_STATUS
        } else {
            IIR_NONE
        };
        source | fifos
    }
}

pub const PORTS: &[PortRange] = &[PortRange {
    first: BASE,
    last: BASE + 7,
    width: 1,
    read,
    write,
}];
pub const BASE: u16 = 0x3F8;

fn read(bus: &mut Bus, port: u16, _: u8) -> u32 {
    let value = bus.serial.read(port - BASE);
    bus.set_irq(IRQ, bus.serial.irq());
    value.into()
}

fn write(bus: &mut Bus, port: u16, _: u8, value: u32) {
    bus.serial.write(port - BASE, value as u8);
    bus.set_irq(IRQ, bus.serial.irq());
}

impl Bus {
    /// Puts bytes on COM1's line, as if they arrived now; returns how many were taken (the rest did not fit).
    pub fn serial_input(&mut self, bytes: &[u8]) -> usize {
        let taken = self.serial.input(bytes);
        self.set_irq(IRQ, self.serial.irq());
        taken
    }

    /// The guest has asked COM1 for an interrupt when a byte arrives.
    pub fn serial_interrupts_on_input(&self) -> bool {
        self.serial.interrupts_on_input()
    }

    /// What the guest sent on COM1 since the last call.
    pub fn take_serial(&mut self) -> Vec<u8> {
        self.serial.take_output()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn iir(serial: &mut Serial) -> u8 {
        serial.read(2) & 0x0F
    }

    #[test]
    fn transmits_at_once_and_is_always_ready() {
        let mut serial = Serial::default();
        for &byte in b"hi" {
            assert_eq!(serial.read(5) & LSR_TRANSMITTER_EMPTY, LSR_TRANSMITTER_EMPTY);
            serial.write(0, byte);
        }
        assert_eq!(serial.take_output(), b"hi");
        assert_eq!(serial.output_length(), 0);
    }

    #[test]
    fn the_divisor_hides_behind_dlab() {
        let mut serial = Serial::default();
        serial.write(3, LCR_DLAB | 3);
        serial.write(0, 0x34);
        serial.write(1, 0x12);
        assert_eq!((serial.read(0), serial.read(1)), (0x34, 0x12));
        serial.write(3, 3);
        assert_eq!(serial.read(1), 0);
        assert!(serial.take_output().is_empty());
    }

    #[test]
    fn transmitter_interrupt_is_raised_by_enabling_and_cleared_by_reading_iir() {
        let mut serial = Serial::default();
        serial.write(4, MCR_OUT2);
        serial.write(1, IER_TRANSMITTER);
        assert!(serial.irq());
        assert_eq!(iir(&mut serial), IIR_TRANSMITTER);
        assert!(!serial.irq());
        assert_eq!(iir(&mut serial), IIR_NONE);
        serial.write(0, b'x');
        assert!(serial.irq());
        serial.write(4, 0);
        assert!(!serial.irq(), "without OUT2 the line is cut");
    }

    #[test]
    fn receiver_keeps_order_through_the_fifo() {
        let mut serial = Serial::default();
        serial.write(2, FCR_ENABLE | 0xC0);
        serial.write(1, IER_RECEIVED);
        let text: Vec<u8> = (0..40).collect();
        assert_eq!(serial.input(&text), 40);
        assert_eq!(iir(&mut serial), IIR_RECEIVED);
        let mut seen = Vec::new();
        while serial.read(5) & LSR_DATA_READY != 0 {
            seen.push(serial.read(0));
            if seen.len() == 30 {
                assert_eq!(
                    iir(&mut serial),
                    IIR_TIMEOUT,
                    "10 bytes are left, the trigger is 14"
                );
            }
        }
        assert_eq!(seen, text);
        assert_eq!(iir(&mut serial), IIR_NONE);
    }

    #[test]
    fn input_is_bounded() {
        let mut serial = Serial::default();
        let much = vec![b'a'; INPUT_LIMIT];
        assert_eq!(serial.input(&much), INPUT_LIMIT);
        let more = serial.input(&much);
        assert!(more <= FIFO_SIZE);
    }

    #[test]
    fn loopback_returns_data_and_modem_lines() {
        let mut serial = Serial::default();
        serial.write(4, MCR_LOOPBACK | 0x0A);
        assert_eq!(serial.read(6) & 0xF0, 0x90, "RTS comes back as CTS, OUT2 as DCD");
        serial.write(0, 0x55);
        assert_eq!(serial.read(5) & LSR_DATA_READY, LSR_DATA_READY);
        serial.write(0, 0x66);
        assert_eq!(
            serial.read(5) & LSR_OVERRUN,
            LSR_OVERRUN,
            "no FIFO: one byte only"
        );
        assert_eq!(serial.read(0), 0x55);
        assert!(serial.take_output().is_empty());
    }
}
