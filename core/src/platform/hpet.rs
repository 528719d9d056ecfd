//! The high-precision event timers at 0xFED00000 (IA-PC HPET 1.0a): a counter of 10 ns, and three timers that compare with
//! it, on pins of the I/O APIC of their own. There is no legacy replacement: the PIT keeps its interrupt.

use super::Bus;

pub const BASE: u64 = 0xFED0_0000;
pub const SIZE: u64 = 0x400;

/// Clock ticks a count.
const PERIOD: u64 = 10;
const FEMTOSECONDS: u64 = PERIOD * 1_000_000;
const TIMERS: usize = 3;
/// The pins that a timer may be routed to.
const PINS: u64 = 0x00F0_0000;

/// Revision, the last timer's number, a counter of 64 bits, the vendor.
pub const IDENTITY: u32 = 1 | (TIMERS as u32 - 1) << 8 | 1 << 13 | 0x8086 << 16;

const CAPABILITIES: u64 = 0x00;
const CONFIGURATION: u64 = 0x10;
const STATUS: u64 = 0x20;
const COUNTER: u64 = 0xF0;
const FIRST_TIMER: u64 = 0x100;
const TIMER_SIZE: u64 = 0x20;

/// Bits of the configuration register.
const ENABLE: u64 = 1 << 0;

/// Bits of a timer's configuration.
const LEVEL: u64 = 1 << 1;
const INTERRUPT: u64 = 1 << 2;
const PERIODIC: u64 = 1 << 3;
const CAN_BE_PERIODIC: u64 = 1 << 4;
const IS_64_BIT: u64 = 1 << 5;
const SET_VALUE: u64 = 1 << 6;
const MODE_32: u64 = 1 << 8;
const ROUTE: u64 = 0x1F << 9;
const WRITABLE: u64 = LEVEL | INTERRUPT | PERIODIC | SET_VALUE | MODE_32 | ROUTE;

#[derive(Clone, Copy, Default)]
struct Timer {
    configuration: u64,
    comparator: u64,
    period: u64,
    /// The clock at which the counter meets the comparator.
    due: Option<u64>,
}

impl Timer {
    fn pin(&self) -> u8 {
        (self.configuration >> 9 & 0x1F) as u8
    }

    /// The counts until the counter, which is `count` now, next meets the comparator.
    fn ahead(&self, count: u64) -> u64 {
        let mask = if self.configuration & MODE_32 != 0 {
            0xFFFF_FFFF
        } else {
            u64::MAX
        };
        match self.comparator.wrapping_sub(count) & mask {
            0 => mask.saturating_add(1),
            ahead => ahead,
        }
    }
}

#[derive(Clone, Copy, Default)]
pub struct Hpet {
    enabled: bool,
    status: u64,
    /// The counter at the clock `since`; it stands still while the timers are not enabled.
    count: u64,
    since: u64,
    timers: [Timer; TIMERS],
}

impl Hpet {
    fn counter(&self, clock: u64) -> u64 {
        if self.enabled {
            self.count.wrapping_add(clock.saturating_sub(self.since) / PERIOD)
        } else {
            self.count
        }
    }

    fn read(&self, offset: u64, clock: u64) -> u64 {
        match offset {
            CAPABILITIES => FEMTOSECONDS << 32 | u64::from(IDENTITY),
            CONFIGURATION => u64::from(self.enabled),
            STATUS => self.status,
            COUNTER => self.counter(clock),
            _ => match (self.timer(offset), offset % TIMER_SIZE) {
                (Some(number), 0) => self.configuration(number),
                (Some(number), 8) => self.timers[number].comparator,
                _ => 0,
            },
        }
    }

    fn timer(&self, offset: u64) -> Option<usize> {
        let number = (offset.checked_sub(FIRST_TIMER)? / TIMER_SIZE) as usize;
        (number < TIMERS).then_some(number)
    }

    fn configuration(&self, number: usize) -> u64 {
        let periodic = if number == 0 { CAN_BE_PERIODIC } else { 0 };
        self.timers[number].configuration | periodic | IS_64_BIT | PINS << 32
    }

    fn write(&mut self, offset: u64, value: u64, clock: u64) {
        match offset {
            CONFIGURATION => {
                self.count = self.counter(clock);
                self.since = clock;
                self.enabled = value & ENABLE != 0;
            }
            STATUS => self.status &= !value,
            COUNTER if !self.enabled => self.count = value,
            _ => match (self.timer(offset), offset % TIMER_SIZE) {
                (Some(number), 0) => self.configure(number, value),
                (Some(number), 8) => self.compare(number, value),
                _ => {}
            },
        }
        for number in 0..TIMERS {
            self.schedule(number, clock);
        }
    }

    fn configure(&mut self, number: usize, value: u64) {
        let mut value = value & WRITABLE;
        if number != 0 {
            value &= !(PERIODIC | SET_VALUE);
        }
        // A route that there is none of stays what it was.
        if PINS >> (value >> 9 & 0x1F) & 1 == 0 {
            value = value & !ROUTE | self.timers[number].configuration & ROUTE;
        }
        self.timers[number].configuration = value;
    }

    /// A periodic timer takes its period here, and where it begins only if it was told so before.
    fn compare(&mut self, number: usize, value: u64) {
        let timer = &mut self.timers[number];
        let periodic = timer.configuration & PERIODIC != 0;
        if !periodic || timer.configuration & SET_VALUE != 0 {
            timer.comparator = value;
        }
        if periodic {
            timer.period = value;
            timer.configuration &= !SET_VALUE;
        }
    }

    fn schedule(&mut self, number: usize, clock: u64) {
        let count = self.counter(clock);
        let (enabled, since, begun) = (self.enabled, self.since, self.count);
        let timer = &mut self.timers[number];
        let counts = count.wrapping_sub(begun).checked_add(timer.ahead(count));
        timer.due = counts
            .filter(|_| enabled)
            .and_then(|counts| counts.checked_mul(PERIOD)?.checked_add(since));
    }

    /// When the next timer that interrupts is due.
    pub fn next_deadline(&self) -> Option<u64> {
        let interrupting = self
            .timers
            .iter()
            .filter(|timer| timer.configuration & INTERRUPT != 0);
        interrupting.filter_map(|timer| timer.due).min()
    }
}

/// The bits of a register of 64 that an access of `bytes` bytes at `offset` covers, shifted into place.
fn covered(offset: u64, bytes: u8) -> u64 {
    (u64::MAX >> (64 - 8 * u32::from(bytes.clamp(1, 8)))) << (8 * (offset & 7))
}

impl Bus {
    pub(super) fn hpet_read(&self, offset: u64) -> u64 {
        self.hpet.read(offset & !7, self.clock) >> (8 * (offset & 7))
    }

    /// Writes are of 32 or 64 bits; others do nothing.
    pub(super) fn hpet_write(&mut self, offset: u64, bytes: u8, value: u64) {
        if bytes < 4 || offset % u64::from(bytes) != 0 {
            return;
        }
        let (register, clock) = (offset & !7, self.clock);
        let covered = covered(offset, bytes);
        let value = value << (8 * (offset & 7)) & covered;
        // Of the status only what is written as 1 matters.
        let kept = match register {
            STATUS => 0,
            _ => self.hpet.read(register, clock) & !covered,
        };
        self.hpet.write(register, kept | value, clock);
        self.drive_levels();
        self.reschedule();
    }

    /// Lets timers that are due interrupt.
    pub(super) fn fire_hpet(&mut self) {
        let clock = self.clock;
        for number in 0..TIMERS {
            let timer = &mut self.hpet.timers[number];
            let Some(due) = timer.due.filter(|&due| due <= clock) else {
                continue;
            };
            let (configuration, pin) = (timer.configuration, timer.pin());
            if configuration & PERIODIC != 0 && timer.period != 0 {
                // Periods that have passed since are one interrupt.
                let missed = (clock - due) / PERIOD / timer.period;
                let counts = timer.period.saturating_mul(missed + 1);
                timer.comparator = timer.comparator.wrapping_add(counts);
            }
            self.hpet.schedule(number, clock);
            if configuration & INTERRUPT == 0 {
                continue;
            }
            if configuration & LEVEL != 0 {
                self.hpet.status |= 1 << number;
            } else {
                self.set_irq(pin, true);
                self.set_irq(pin, false);
            }
        }
        self.drive_levels();
    }

    /// A level-triggered timer holds its pin until its status bit is cleared.
    fn drive_levels(&mut self) {
        for number in 0..TIMERS {
            let timer = self.hpet.timers[number];
            let (pin, level) = (timer.pin(), timer.configuration & LEVEL != 0);
            if level && PINS >> pin & 1 != 0 {
                let asserted = timer.configuration & INTERRUPT != 0 && self.hpet.status >> number & 1 != 0;
                self.set_irq(pin, asserted);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::ioapic;

    fn bus() -> Bus {
        Bus::for_test(1)
    }

    fn write(bus: &mut Bus, offset: u64, value: u64) {
        bus.mmio_write(0, BASE + offset, 8, value);
    }

    fn read(bus: &mut Bus, offset: u64) -> u64 {
        bus.mmio_read(0, BASE + offset, 8)
    }

    /// A masked-off pin of the I/O APIC sends vector 0x41 to processor 0, whose local APIC is on.
    fn unmask(bus: &mut Bus, pin: u64, level: bool) {
        let low = 0x41 | u32::from(level) << 15;
        for (select, value) in [(0x10 + 2 * pin, low), (0x11 + 2 * pin, 0)] {
            bus.mmio_write(0, ioapic::BASE, 4, select);
            bus.mmio_write(0, ioapic::BASE + 0x10, 4, value.into());
        }
        bus.mmio_write(0, 0xFEE0_00F0, 4, 0x1FF);
    }

    fn run_to(bus: &mut Bus, clock: u64) {
        bus.clock = clock;
        bus.advance(0);
    }

    #[test]
    fn the_counter_runs_while_it_is_enabled() {
        let mut bus = bus();
        assert_eq!(read(&mut bus, CAPABILITIES), 0x0098_9680_8086_2201);
        bus.clock = 1000;
        assert_eq!(read(&mut bus, COUNTER), 0);
        write(&mut bus, COUNTER, 7);
        write(&mut bus, CONFIGURATION, 3);
        assert_eq!(read(&mut bus, CONFIGURATION), 1, "no legacy replacement");
        bus.clock = 1259;
        assert_eq!(read(&mut bus, COUNTER), 7 + 25);
        assert_eq!(bus.mmio_read(0, BASE + COUNTER + 4, 4), 0);
        write(&mut bus, COUNTER, 0);
        write(&mut bus, CONFIGURATION, 0);
        bus.clock = 5000;
        assert_eq!(
            read(&mut bus, COUNTER),
            32,
            "it is written while it stands still only"
        );
        bus.mmio_write(0, BASE + COUNTER + 4, 4, 1);
        assert_eq!(read(&mut bus, COUNTER), 1 << 32 | 32);
        assert_eq!(bus.mmio_read(0, BASE + SIZE, 4), 0xFFFF_FFFF);
    }

    #[test]
    fn a_timer_interrupts_once() {
        let mut bus = bus();
        unmask(&mut bus, 21, false);
        write(&mut bus, FIRST_TIMER + TIMER_SIZE, INTERRUPT | PERIODIC | 21 << 9);
        write(&mut bus, FIRST_TIMER + TIMER_SIZE + 8, 100);
        assert_eq!(bus.deadline(), None);
        write(&mut bus, CONFIGURATION, ENABLE);
        assert_eq!(bus.deadline(), Some(1000));
        run_to(&mut bus, 1005);
        assert!(bus.interrupt_pending(0));
        assert_eq!(bus.acknowledge(0), 0x41);
        assert!(bus.deadline().is_none_or(|deadline| deadline > 1 << 60));
        // In a comparison of 32 bits the counter comes round.
        write(&mut bus, FIRST_TIMER + TIMER_SIZE, INTERRUPT | MODE_32 | 21 << 9);
        assert_eq!(bus.deadline(), Some(1000 + (10 << 32)));
    }

    #[test]
    fn the_first_timer_can_be_periodic() {
        let mut bus = bus();
        unmask(&mut bus, 20, true);
        write(&mut bus, CONFIGURATION, ENABLE);
        write(
            &mut bus,
            FIRST_TIMER,
            INTERRUPT | PERIODIC | SET_VALUE | LEVEL | 20 << 9,
        );
        write(&mut bus, FIRST_TIMER + 8, 50);
        write(&mut bus, FIRST_TIMER + 8, 30);
        assert_eq!(bus.deadline(), Some(500));
        run_to(&mut bus, 500);
        assert_eq!((read(&mut bus, STATUS), bus.deadline()), (1, Some(800)));
        assert!(bus.interrupt_pending(0));
        bus.acknowledge(0);
        bus.eoi(0);
        assert!(bus.interrupt_pending(0), "the line is still asserted");
        write(&mut bus, STATUS, 1);
        bus.acknowledge(0);
        bus.eoi(0);
        assert!(!bus.interrupt_pending(0));
        // Late: what was missed is one interrupt, and the rhythm stays.
        run_to(&mut bus, 1450);
        assert_eq!((read(&mut bus, STATUS), bus.deadline()), (1, Some(1700)));
    }

    #[test]
    fn only_pins_that_are_its_own_are_taken() {
        let mut bus = bus();
        write(&mut bus, FIRST_TIMER, 22 << 9);
        write(&mut bus, FIRST_TIMER, 9 << 9 | LEVEL);
        let found = read(&mut bus, FIRST_TIMER);
        assert_eq!(found & ROUTE, 22 << 9);
        assert_eq!(found >> 32, PINS);
    }
}
