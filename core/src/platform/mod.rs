//! All that the processors share: RAM, devices, the clock; and what a debugger adds beside them.

pub mod ram;

use crate::debug::Debug;
use ram::Ram;

/// What a device asks of the run loop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// The exit status `(value << 1) | 1` of a write to port 0xF4.
    Exit(u8),
    PowerOff,
    Reset,
}

/// What other agents latched for one processor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Signals {
    pub nmi: bool,
    pub init: bool,
    /// The vector of a SIPI.
    pub sipi: Option<u8>,
}

#[derive(Clone)]
pub struct Bus {
    pub ram: Ram,
    pub debug: Debug,
    /// Machine time in ticks: instructions, and the time skipped while all processors were halted. A tick is 1 ns.
    pub clock: u64,
    pub signals: Vec<Signals>,
    pub request: Option<Request>,
    /// RAM offsets of pages that became code during this turn: the other processors' TLBs must forget to write there.
    pub new_code_pages: Vec<u64>,
}

impl Bus {
    /// `ram` in bytes.
    pub fn new(ram: u64, cpus: usize) -> Bus {
        Bus {
            ram: Ram::new(ram),
            debug: Debug::default(),
            clock: 0,
            signals: vec![Signals::default(); cpus],
            request: None,
            new_code_pages: Vec::new(),
        }
    }

    /// Reads 1 to 8 bytes at a host-physical address; RAM or a device of processor `cpu`.
    pub fn read_physical(&mut self, cpu: usize, address: u64, bytes: u64) -> u64 {
        match self.ram.offset(address) {
            Some(at) => {
                let mut value = [0; 8];
                if let (Some(from), Some(to)) = (
                    self.ram.slice(at, bytes as usize),
                    value.get_mut(..bytes as usize),
                ) {
                    to.copy_from_slice(from);
                }
                u64::from_le_bytes(value)
            }
            None => self.mmio_read(cpu, address, bytes as u8),
        }
    }

    pub fn write_physical(&mut self, cpu: usize, address: u64, bytes: u64, value: u64) {
        match self.ram.offset(address) {
            Some(at) => self
                .ram
                .write(at, &value.to_le_bytes()[..(bytes as usize).min(8)]),
            None => self.mmio_write(cpu, address, bytes as u8, value),
        }
    }

    pub fn mmio_read(&mut self, _cpu: usize, _address: u64, _bytes: u8) -> u64 {
        !0
    }
    pub fn mmio_write(&mut self, _cpu: usize, _address: u64, _bytes: u8, _value: u64) {}

    /// The clock of the next thing that a device will do by itself.
    pub fn deadline(&self) -> Option<u64> {
        None
    }

    /// Lets devices do what is due by `clock`.
    pub fn advance(&mut self) {}

    /// Whether an INTR is asserted for the processor.
    pub fn interrupt_pending(&self, _cpu: usize) -> bool {
        false
    }

    /// INTA: takes the vector.
    pub fn acknowledge(&mut self, _cpu: usize) -> u8 {
        0xff
    }

    /// Output waits to be taken and may not grow further.
    pub fn output_full(&self) -> bool {
        false
    }
}
