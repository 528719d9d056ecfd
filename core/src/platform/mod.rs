//! All that the processors share: RAM, devices, the clock; and what a debugger adds beside them.

mod calendar;
mod cmos;
mod debugcon;
mod fwcfg;
mod interrupts;
mod ioapic;
mod lapic;
mod lapic_registers;
mod lapic_timer;
mod local;
mod mmio;
mod pci;
mod pic;
mod pit;
mod ports;
mod power;
pub mod ram;
mod serial;
mod testdev;

use crate::debug::Debug;
pub use interrupts::Signals;
pub use lapic::Illegal;
pub use power::Request;
use ram::Ram;

/// The machine's clock: a tick is 1 ns, and the TSC counts ticks.
pub const TICKS_PER_SECOND: u64 = 1_000_000_000;

/// A guest's output beyond this is to be taken before it goes on.
const OUTPUT_LIMIT: usize = 64 << 10;

#[derive(Clone)]
pub struct Bus {
    pub ram: Ram,
    pub debug: Debug,
    /// Machine time in ticks: instructions, and the time skipped while all processors were halted. A tick is 1 ns.
    pub clock: u64,
    /// What is latched for each processor.
    pub signals: Vec<Signals>,
    /// What the guest asks of the machine; the run loop takes it after the instruction.
    pub request: Option<Request>,
    /// RAM offsets of pages that became code during this turn: the other processors' TLBs must forget to write there.
    pub new_code_pages: Vec<u64>,
    /// Whether INTR is asserted to each processor.
    intr: Vec<bool>,
    /// The earliest moment at which a device that the processors share has something to do.
    shared_deadline: Option<u64>,
    lapics: Vec<lapic::Lapic>,
    /// Each processor's TSC less the clock.
    tsc_offsets: Vec<u64>,
    limits: local::ApicLimits,
    ioapic: ioapic::IoApic,
    pic: pic::Pic,
    pic_intr: bool,
    pit: pit::Pit,
    cmos: cmos::Cmos,
    serial: serial::Serial,
    debugcon: debugcon::DebugConsole,
    fwcfg: fwcfg::FwCfg,
    pci: pci::Pci,
    power: power::Power,
    testdev: testdev::TestDevice,
}

impl Bus {
    /// `ram` in bytes.
    pub fn new(ram: u64, cpus: usize) -> Bus {
        let ram = Ram::new(ram);
        let mut sizes = ram.ranges().into_iter().map(|(_, length)| length);
        let (low, high) = (sizes.next().unwrap_or(0), sizes.next().unwrap_or(0));
        Bus {
            ram,
            debug: Debug::default(),
            clock: 0,
            signals: vec![Signals::default(); cpus],
            request: None,
            new_code_pages: Vec::new(),
            intr: vec![false; cpus],
            shared_deadline: None,
            lapics: (0..cpus).map(|id| lapic::Lapic::new(id as u32)).collect(),
            tsc_offsets: vec![0; cpus],
            limits: local::ApicLimits::default(),
            ioapic: ioapic::IoApic::default(),
            pic: pic::Pic::default(),
            pic_intr: false,
            pit: pit::Pit::default(),
            cmos: cmos::Cmos::new(low, high, cpus),
            serial: serial::Serial::default(),
            debugcon: debugcon::DebugConsole::default(),
            fwcfg: fwcfg::FwCfg::default(),
            pci: pci::Pci::default(),
            power: power::Power::default(),
            testdev: testdev::TestDevice::default(),
        }
    }

    pub fn cpu_count(&self) -> usize {
        self.lapics.len()
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

    /// The clock of the next thing that a device will do by itself for `cpu`: its own local APIC's timer, or a device that
    /// the processors share. A register access can bring it nearer.
    #[inline]
    pub fn deadline_for(&self, cpu: usize) -> Option<u64> {
        let timer = self.timer_deadline(cpu);
        match (self.shared_deadline, timer) {
            (Some(shared), Some(timer)) => Some(shared.min(timer)),
            (shared, timer) => shared.or(timer),
        }
    }

    /// The clock of the next thing that a device will do by itself for any processor.
    pub fn deadline(&self) -> Option<u64> {
        (0..self.cpu_count())
            .filter_map(|cpu| self.timer_deadline(cpu))
            .chain(self.shared_deadline)
            .min()
    }

    /// Lets devices do what is due by `clock`, always in the same order. `clock` is the time of `cpu`, and may lie before
    /// that of the processor that ran last: its local APIC's timer goes by it, the shared devices by whoever is first.
    pub fn advance_for(&mut self, cpu: usize) {
        let clock = self.clock;
        if self.shared_deadline.is_some_and(|deadline| deadline <= clock) {
            self.fire_pit();
            self.fire_cmos();
            self.reschedule();
        }
        if self.timer_deadline(cpu).is_some_and(|deadline| deadline <= clock) {
            self.fire_lapic_timer(cpu);
        }
    }

    pub fn advance(&mut self) {
        (0..self.cpu_count()).for_each(|cpu| self.advance_for(cpu));
    }

    /// Recomputes the deadline of the shared devices.
    fn reschedule(&mut self) {
        self.shared_deadline = self
            .pit
            .next_deadline()
            .into_iter()
            .chain(self.cmos.next_deadline())
            .min();
    }

    /// Output waits to be taken and may not grow further.
    pub fn output_full(&self) -> bool {
        self.serial.output_length() + self.debugcon.output.len() >= OUTPUT_LIMIT
    }

    #[cfg(test)]
    fn for_test(cpus: usize) -> Bus {
        Bus::new(1 << 20, cpus)
    }
}
