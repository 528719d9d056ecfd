//! All that the processors share: RAM, devices, the clock; and what a debugger adds beside them.

mod calendar;
mod cmos;
mod coprocessor;
mod debugcon;
pub mod firmware;
mod fwcfg;
mod hpet;
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
mod pm;
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
    /// RAM offsets of pages that became code or paging structures during this turn: the other processors' TLBs must
    /// forget to write there.
    pub newly_guarded: Vec<u64>,
    /// Those that became paging structures in the walk under way.
    pub new_tables: Vec<u64>,
    /// Whether INTR is asserted to each processor.
    intr: Vec<bool>,
    /// The earliest moment at which a device that the processors share has something to do.
    shared_deadline: Option<u64>,
    lapics: Vec<lapic::Lapic>,
    /// Each processor's TSC less the clock.
    tsc_offsets: Vec<u64>,
    limits: local::ApicLimits,
    /// Some local APIC's page lies over RAM.
    apic_over_ram: bool,
    ioapic: ioapic::IoApic,
    hpet: hpet::Hpet,
    pic: pic::Pic,
    pic_intr: bool,
    pit: pit::Pit,
    cmos: cmos::Cmos,
    coprocessor: coprocessor::Coprocessor,
    serial: serial::Serial,
    debugcon: debugcon::DebugConsole,
    fwcfg: fwcfg::FwCfg,
    pci: pci::Pci,
    pm: pm::PowerManagement,
    power: power::Power,
    testdev: testdev::TestDevice,
}

impl Bus {
    /// `ram` in bytes.
    pub fn new(ram: u64, cpus: usize) -> Bus {
        let mut ram = Ram::new(ram);
        firmware::install(&mut ram, cpus);
        let mut sizes = ram.ranges().into_iter().map(|(_, length)| length);
        let (low, high) = (sizes.next().unwrap_or(0), sizes.next().unwrap_or(0));
        Bus {
            ram,
            debug: Debug::default(),
            clock: 0,
            signals: vec![Signals::default(); cpus],
            request: None,
            newly_guarded: Vec::new(),
            new_tables: Vec::new(),
            intr: vec![false; cpus],
            shared_deadline: None,
            lapics: (0..cpus).map(|id| lapic::Lapic::new(id as u32)).collect(),
            tsc_offsets: vec![0; cpus],
            limits: local::ApicLimits::default(),
            apic_over_ram: false,
            ioapic: ioapic::IoApic::default(),
            hpet: hpet::Hpet::default(),
            pic: pic::Pic::default(),
            pic_intr: false,
            pit: pit::Pit::default(),
            cmos: cmos::Cmos::new(low, high, cpus),
            coprocessor: coprocessor::Coprocessor::default(),
            serial: serial::Serial::default(),
            debugcon: debugcon::DebugConsole::default(),
            fwcfg: fwcfg::FwCfg::default(),
            pci: pci::Pci::default(),
            pm: pm::PowerManagement::default(),
            power: power::Power::default(),
            testdev: testdev::TestDevice::default(),
        }
    }

    pub fn cpu_count(&self) -> usize {
        self.lapics.len()
    }

    /// Reads 1 to 8 bytes at a host-physical address; RAM or a device of processor `cpu`.
    pub fn read_physical(&mut self, cpu: usize, address: u64, bytes: u64) -> u64 {
        match self.ram_at(cpu, address) {
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
        match self.ram_at(cpu, address) {
            Some(at) => self
                .ram
                .write(at, &value.to_le_bytes()[..(bytes as usize).min(8)]),
            None => self.mmio_write(cpu, address, bytes as u8, value),
        }
    }

    /// Reads an entry of a paging structure at a host-physical address, and sees to it that writes to it are noticed.
    pub fn read_table(&mut self, cpu: usize, address: u64, bytes: u64) -> u64 {
        if let Some(at) = self.ram.offset(address) {
            if self.ram.mark_table(at) {
                self.new_tables.push(at as u64 & !0xfff);
            }
        }
        self.read_physical(cpu, address, bytes)
    }

    /// Sets accessed and dirty flags of an entry.
    pub fn write_table_flags(&mut self, cpu: usize, address: u64, bytes: u64, entry: u64) {
        match self.ram.offset(address) {
            Some(at) => self
                .ram
                .write_flags(at, &entry.to_le_bytes()[..(bytes as usize).min(8)]),
            None => self.mmio_write(cpu, address, bytes as u8, entry),
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

    /// Lets devices do what is due by `clock`, always in the same order. To be called whenever time has passed. `clock` is the time of `cpu`, and may lie before
    /// that of the processor that ran last: its local APIC's timer goes by it, the shared devices by whoever is first.
    pub fn advance(&mut self, cpu: usize) {
        let clock = self.clock;
        if self.shared_deadline.is_some_and(|deadline| deadline <= clock) {
            self.fire_pit();
            self.fire_cmos();
            self.fire_pm();
            self.fire_hpet();
            self.reschedule();
        }
        if self.timer_deadline(cpu).is_some_and(|deadline| deadline <= clock) {
            self.fire_lapic_timer(cpu);
        }
    }

    /// Recomputes the deadline of the shared devices.
    fn reschedule(&mut self) {
        self.shared_deadline = self
            .pit
            .next_deadline()
            .into_iter()
            .chain(self.cmos.next_deadline())
            .chain(self.pm.next_deadline(self.clock))
            .chain(self.hpet.next_deadline())
            .min();
    }

    /// Output waits to be taken and may not grow further.
    pub fn output_full(&self) -> bool {
        self.serial.output_length() + self.debugcon.output.len() >= OUTPUT_LIMIT
    }
}

#[cfg(test)]
impl Bus {
    fn for_test(cpus: usize) -> Bus {
        Bus::new(1 << 20, cpus)
    }

    /// What devices ask of the machine after writes of (port, size, value).
    fn request_after(writes: &[(u16, u8, u32)]) -> Option<Request> {
        let mut bus = Bus::for_test(1);
        for &(port, size, value) in writes {
            bus.io_write(0, port, size, value);
        }
        bus.request
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A sequence of numbers that is the same in each run (xorshift).
    struct Sequence(u64);

    impl Sequence {
        fn next(&mut self) -> u64 {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            self.0
        }

        /// Values that tend to matter: small, all ones, a single bit, anything.
        fn value(&mut self) -> u64 {
            let any = self.next();
            match any >> 61 {
                0 | 1 => any & 0xFF,
                2 => u64::MAX,
                3 => 1 << (any & 63),
                4 => 0,
                _ => any,
            }
        }
    }

    /// One access of a random kind to a place where a device is.
    fn poke(bus: &mut Bus, random: &mut Sequence) {
        const PORTS: [u16; 12] = [
            0x20, 0x40, 0x61, 0x70, 0xA0, 0xE0, 0x3F8, 0x4D0, 0x510, 0x604, 0xCF8, 0x2000,
        ];
        const PAGES: [u64; 4] = [0xFEE0_0000, 0xFEC0_0000, 0xFF00_0000, 0xFED0_0000];
        let cpu = (random.next() % 2) as usize;
        let port = PORTS[(random.next() % 12) as usize].wrapping_add((random.next() & 7) as u16);
        let address = PAGES[(random.next() & 3) as usize] + (random.next() & 0xFFF);
        let size = 1 << (random.next() % 3);
        let msr = 0x800 + (random.next() & 0x3F) as u32;
        let value = random.value();
        match random.next() % 12 {
            0 | 1 => bus.io_write(cpu, port, size, value as u32),
            2 => {
                bus.io_read(cpu, port, size);
            }
            3 | 4 => bus.mmio_write(cpu, address & !0xF, 4, value),
            5 => bus.mmio_write(cpu, address, size, value),
            6 => {
                bus.mmio_read(cpu, address, size << 1);
            }
            7 => {
                let _ = (
                    bus.x2apic_read(cpu, msr),
                    bus.x2apic_write(cpu, msr, value & 0xFFFF_FFFF),
                );
            }
            8 => {
                let _ = bus.set_apic_base(cpu, 0xFEE0_0000 | value & 0xC00);
            }
            9 => {
                bus.set_tsc_offset(cpu, random.value());
                bus.set_tsc_deadline(cpu, value);
            }
            10 => {
                bus.set_tpr(cpu, value as u8);
                if bus.interrupt_pending(cpu) {
                    bus.acknowledge(cpu);
                }
            }
            _ => {
                bus.serial_input(&value.to_le_bytes());
            }
        }
    }

    /// Devices take whatever a guest does to them, whenever; and the deadline is always ahead once time was given.
    #[test]
    fn nothing_a_guest_does_panics_or_stops_time() {
        let mut bus = Bus::for_test(2);
        let mut random = Sequence(0x9E37_79B9_7F4A_7C15);
        for step in 0..400_000u32 {
            poke(&mut bus, &mut random);
            let leap = if step % 1000 == 0 {
                1 << 45
            } else {
                1 << (random.next() % 24)
            };
            bus.clock = bus.clock.saturating_add(random.next() % leap);
            (0..2).for_each(|cpu| bus.advance(cpu));
            assert!(
                bus.deadline().is_none_or(|deadline| deadline > bus.clock),
                "step {step}"
            );
            if step % 64 == 0 {
                bus.clock -= bus.clock.min(1000);
                let _ = (bus.take_serial(), bus.take_debugcon());
            }
        }
    }

    #[test]
    fn a_copy_goes_the_same_way() {
        let mut bus = Bus::for_test(2);
        let mut random = Sequence(42);
        for _ in 0..2000 {
            poke(&mut bus, &mut random);
        }
        let mut copy = bus.clone();
        let run = |bus: &mut Bus| {
            let mut random = Sequence(7);
            let mut seen = Vec::new();
            for _ in 0..2000 {
                poke(bus, &mut random);
                bus.clock += 1000;
                (0..2).for_each(|cpu| bus.advance(cpu));
                seen.push((
                    bus.deadline(),
                    bus.interrupt_pending(0),
                    bus.io_read(0, 0x40, 1),
                    bus.signals.clone(),
                ));
            }
            (seen, bus.take_serial())
        };
        assert!(run(&mut bus) == run(&mut copy));
    }

    #[test]
    fn output_is_full_before_it_is_large() {
        let mut bus = Bus::for_test(1);
        while !bus.output_full() {
            bus.io_write(0, 0x3F8, 1, u32::from(b'x'));
        }
        assert_eq!(bus.take_serial().len(), OUTPUT_LIMIT);
        assert!(!bus.output_full());
    }
}
