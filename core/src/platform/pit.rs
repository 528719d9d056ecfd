//! The 8254 interval timer at ports 0x40–0x43, and the system control port 0x61 that gates its channel 2.
//!
//! Counters run at 1 193 182 Hz of the machine's time. Nothing ticks: a counter is a moment at which it was loaded, and what
//! it shows follows from the clock. Channel 0 drives IRQ 0; channel 1 drives nothing; channel 2's output is bit 5 of port 0x61.

use super::ports::PortRange;
use super::{Bus, TICKS_PER_SECOND};

const IRQ: u8 = 0;
pub const FREQUENCY: u64 = 1_193_182;

/// The count of the PIT's own clock at a moment of the machine's.
fn pit_clock(clock: u64) -> u64 {
    (u128::from(clock) * u128::from(FREQUENCY) / u128::from(TICKS_PER_SECOND)) as u64
}

/// The first moment of the machine's clock at which the PIT's own has reached `pit`.
fn machine_clock(pit: u64) -> u64 {
    let ticks = (u128::from(pit) * u128::from(TICKS_PER_SECOND)).div_ceil(u128::from(FREQUENCY));
    u64::try_from(ticks).unwrap_or(u64::MAX)
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Access {
    Low,
    High,
    #[default]
    LowThenHigh,
}

/// Bytes that reads of a counter give before it is read live again.
#[derive(Clone, Copy, Default)]
struct Latch {
    bytes: [u8; 2],
    left: u8,
}

#[derive(Clone)]
struct Counter {
    mode: u8,
    bcd: bool,
    access: Access,
    gate: bool,
    /// 1–0x10000 (or 10000 in BCD); None until a count was written after the control word.
    reload: Option<u32>,
    /// The PIT's clock when counting began; None while it waits for its gate (modes 1 and 5) or is held by it.
    started: Option<u64>,
    /// What was left when the gate fell in mode 0 or 4.
    held: Option<u32>,
    first_byte: Option<u8>,
    high_next: bool,
    count_latch: Latch,
    status_latch: Option<u8>,
}

impl Counter {
    fn new(gate: bool) -> Self {
        Counter {
            mode: 0,
            bcd: false,
            access: Access::default(),
            gate,
            reload: None,
            started: None,
            held: None,
            first_byte: None,
            high_next: false,
            count_latch: Latch::default(),
            status_latch: None,
        }
    }

    fn modulus(&self) -> u32 {
        if self.bcd {
            10_000
        } else {
            0x1_0000
        }
    }

    fn elapsed(&self, now: u64) -> Option<u64> {
        Some(now.saturating_sub(self.started?))
    }

    /// The counting element, as a number.
    fn count(&self, now: u64) -> u32 {
        let Some(reload) = self.reload else { return 0 };
        let Some(elapsed) = self.elapsed(now) else {
            return self.held.unwrap_or(reload);
        };
        let (reload, modulus) = (u64::from(reload), u64::from(self.modulus()));
        let count = match self.mode {
            2 => reload - elapsed % reload,
            // Counts down by two, twice a period, over the even part of the count.
            3 => (reload & !1).max(2) - 2 * (elapsed % reload) % (reload & !1).max(2),
            // Goes on through zero from the top.
            _ => (reload + modulus - elapsed % modulus) % modulus,
        };
        count as u32
    }

    fn output(&self, now: u64) -> bool {
        let Some(reload) = self.reload.map(u64::from) else {
            return self.mode != 0;
        };
        let elapsed = self.elapsed(now);
        match (self.mode, elapsed) {
            (0, Some(elapsed)) => elapsed >= reload,
            (0, None) => false,
            (1, Some(elapsed)) => elapsed >= reload,
            (2, Some(elapsed)) => elapsed % reload != reload - 1,
            (3, Some(elapsed)) => elapsed % reload < reload.div_ceil(2),
            (4 | 5, Some(elapsed)) => elapsed != reload,
            _ => true,
        }
    }

    /// The next moment after `now`, on the PIT's clock, at which the output rises.
    fn next_rise(&self, now: u64) -> Option<u64> {
        let started = self.started?;
        let reload = u64::from(self.reload?);
        let once = match self.mode {
            2 | 3 => return Some(started + (now.saturating_sub(started) / reload + 1) * reload),
            4 | 5 => started + reload + 1,
            _ => started + reload,
        };
        (once > now).then_some(once)
    }

    fn write_control(&mut self, value: u8) {
        let mode = value >> 1 & 7;
        self.mode = if mode > 5 { mode - 4 } else { mode };
        self.bcd = value & 1 != 0;
        self.access = match value >> 4 & 3 {
            1 => Access::Low,
            2 => Access::High,
            _ => Access::LowThenHigh,
        };
        self.reload = None;
        self.started = None;
        self.held = None;
        self.first_byte = None;
        self.high_next = false;
        self.count_latch.left = 0;
        self.status_latch = None;
    }

    fn write(&mut self, value: u8, now: u64) {
        let low = match (self.access, self.first_byte.take()) {
            (Access::Low, _) => u16::from(value),
            (Access::High, _) => u16::from(value) << 8,
            (Access::LowThenHigh, Some(low)) => u16::from(low) | u16::from(value) << 8,
            (Access::LowThenHigh, None) => {
                self.first_byte = Some(value);
                if self.mode == 0 {
                    // Half a count stops the counting.
                    self.held = Some(self.count(now));
                    self.started = None;
                }
                return;
            }
        };
        let count = if self.bcd { from_bcd(low) } else { low.into() };
        let running = self.started.is_some();
        self.reload = Some(if count == 0 { self.modulus() } else { count });
        self.held = None;
        match self.mode {
            1 | 5 => {}
            // A periodic counter goes on to the end of its period; from there the new count rules. Starting anew at once
            // differs from that by less than one period.
            _ if self.gate => self.started = Some(now),
            _ if running => self.started = None,
            _ => {}
        }
    }

    fn set_gate(&mut self, gate: bool, now: u64) {
        let rises = gate && !self.gate;
        let falls = !gate && self.gate;
        self.gate = gate;
        if self.reload.is_none() {
            return;
        }
        match self.mode {
            0 | 4 if falls && self.started.is_some() => {
                self.held = Some(self.count(now));
                self.started = None;
            }
            0 | 4 if rises => {
                let reload = self.reload.unwrap_or(0);
                let done = reload - self.held.take().unwrap_or(reload).min(reload);
                self.started = Some(now.saturating_sub(done.into()));
            }
            2 | 3 if falls => self.started = None,
            1 | 2 | 3 | 5 if rises => self.started = Some(now),
            _ => {}
        }
    }

    fn latch_count(&mut self, now: u64) {
        if self.count_latch.left == 0 {
            let count = self.count_bytes(now);
            self.count_latch = match self.access {
                Access::Low => Latch {
                    bytes: [0, count[0]],
                    left: 1,
                },
                Access::High => Latch {
                    bytes: [0, count[1]],
                    left: 1,
                },
                Access::LowThenHigh => Latch {
                    bytes: count,
                    left: 2,
                },
            };
        }
    }

    fn latch_status(&mut self, now: u64) {
        let access = match self.access {
            Access::Low => 1,
            Access::High => 2,
            Access::LowThenHigh => 3,
        };
        let null_count = self.reload.is_none();
        self.status_latch.get_or_insert(
            u8::from(self.output(now)) << 7
                | u8::from(null_count) << 6
                | access << 4
                | self.mode << 1
                | u8::from(self.bcd),
        );
    }

    fn count_bytes(&self, now: u64) -> [u8; 2] {
        let count = self.count(now);
        if self.bcd { to_bcd(count) } else { count as u16 }.to_le_bytes()
    }

    fn read(&mut self, now: u64) -> u8 {
        if let Some(status) = self.status_latch.take() {
            return status;
        }
        if self.count_latch.left > 0 {
            let byte = self.count_latch.bytes[2 - usize::from(self.count_latch.left.min(2))];
            self.count_latch.left -= 1;
            return byte;
        }
        let count = self.count_bytes(now);
        match self.access {
            Access::Low => count[0],
            Access::High => count[1],
            Access::LowThenHigh => {
                self.high_next = !self.high_next;
                count[usize::from(!self.high_next)]
            }
        }
    }
}

fn from_bcd(bcd: u16) -> u32 {
    (0..4)
        .rev()
        .fold(0, |value, digit| value * 10 + u32::from(bcd >> (4 * digit) & 0xF))
}

fn to_bcd(value: u32) -> u16 {
    (0..4).fold(0, |bcd, digit| {
        bcd | ((value / 10u32.pow(digit) % 10) << (4 * digit)) as u16
    })
}

#[derive(Clone)]
pub struct Pit {
    counters: [Counter; 3],
    speaker: bool,
    /// The PIT's clock up to which rises of channel 0 were reported.
    seen: u64,
}

impl Default for Pit {
    fn default() -> Self {
        Pit {
            counters: [Counter::new(true), Counter::new(true), Counter::new(false)],
            speaker: false,
            seen: 0,
        }
    }
}

impl Pit {
    /// When channel 0's output next rises, on the machine's clock.
    pub fn next_deadline(&self) -> Option<u64> {
        self.counters[0].next_rise(self.seen).map(machine_clock)
    }

    /// Whether channel 0's output rose since this was last asked.
    fn rose(&mut self, clock: u64) -> bool {
        let now = pit_clock(clock);
        let rose = self.counters[0]
            .next_rise(self.seen)
            .is_some_and(|rise| rise <= now);
        self.seen = self.seen.max(now);
        rose
    }

    fn read(&mut self, port: u16, clock: u64) -> u8 {
        let now = pit_clock(clock);
        match port {
            SYSTEM_CONTROL_B => {
                let channel2 = &self.counters[2];
                // Bit 4 toggles with each refresh of memory, every 15 µs or so.
                let refresh = (now / 18) & 1;
                u8::from(channel2.gate)
                    | u8::from(self.speaker) << 1
                    | (refresh as u8) << 4
                    | u8::from(channel2.output(now)) << 5
            }
            _ => self
                .counters
                .get_mut(usize::from(port & 3))
                .map_or(0xFF, |counter| counter.read(now)),
        }
    }

    fn write(&mut self, port: u16, value: u8, clock: u64) {
        let now = pit_clock(clock);
        match port {
            SYSTEM_CONTROL_B => {
                self.speaker = value & 2 != 0;
                self.counters[2].set_gate(value & 1 != 0, now);
            }
            CONTROL => self.write_control(value, now),
            _ => {
                if let Some(counter) = self.counters.get_mut(usize::from(port & 3)) {
                    counter.write(value, now);
                }
            }
        }
        if port == BASE {
            // A new course begins; with several processors this one's time may lie before what was reported.
            self.seen = now;
        }
    }

    fn write_control(&mut self, value: u8, now: u64) {
        match self.counters.get_mut(usize::from(value >> 6)) {
            Some(counter) if value & 0x30 == 0 => counter.latch_count(now),
            Some(counter) => counter.write_control(value),
            // The read-back command: bits 1–3 choose counters, bits 4 and 5 clear latch status and count.
            None => {
                for (i, counter) in self.counters.iter_mut().enumerate() {
                    if value & 2 << i != 0 && value & 0x20 == 0 {
                        counter.latch_count(now);
                    }
                    if value & 2 << i != 0 && value & 0x10 == 0 {
                        counter.latch_status(now);
                    }
                }
            }
        }
    }
}

const BASE: u16 = 0x40;
const CONTROL: u16 = 0x43;
const SYSTEM_CONTROL_B: u16 = 0x61;

pub const PORTS: &[PortRange] = &[
    PortRange {
        first: BASE,
        last: CONTROL,
        width: 1,
        read,
        write,
    },
    PortRange {
        first: SYSTEM_CONTROL_B,
        last: SYSTEM_CONTROL_B,
        width: 1,
        read,
        write,
    },
];

fn read(bus: &mut Bus, port: u16, _: u8) -> u32 {
    bus.pit.read(port, bus.clock).into()
}

fn write(bus: &mut Bus, port: u16, _: u8, value: u32) {
    let clock = bus.clock;
    bus.pit.write(port, value as u8, clock);
    if port != SYSTEM_CONTROL_B {
        let output = bus.pit.counters[0].output(pit_clock(clock));
        bus.set_irq(IRQ, output);
    }
    bus.reschedule();
}

impl Bus {
    pub(super) fn fire_pit(&mut self) {
        if self.pit.rose(self.clock) {
            self.set_irq(IRQ, false);
            self.set_irq(IRQ, true);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = TICKS_PER_SECOND / 1000;

    fn program(pit: &mut Pit, channel: u8, mode: u8, count: u16, clock: u64) {
        pit.write(CONTROL, channel << 6 | 0x30 | mode << 1, clock);
        for byte in count.to_le_bytes() {
            pit.write(BASE + u16::from(channel), byte, clock);
        }
    }

    fn read_count(pit: &mut Pit, channel: u8, clock: u64) -> u16 {
        pit.write(CONTROL, channel << 6, clock);
        let port = BASE + u16::from(channel);
        u16::from_le_bytes([pit.read(port, clock), pit.read(port, clock)])
    }

    #[test]
    fn clocks_convert_exactly_both_ways() {
        for pit in [0, 1, 2, 1000, FREQUENCY, FREQUENCY * 86_400 + 7] {
            let clock = machine_clock(pit);
            assert_eq!(pit_clock(clock), pit);
            assert!(clock == 0 || pit_clock(clock - 1) < pit);
        }
    }

    #[test]
    fn mode_0_rises_once() {
        let mut pit = Pit::default();
        program(&mut pit, 0, 0, 1193, 0);
        let due = pit.next_deadline().unwrap();
        assert!((MS - 1000..MS + 1000).contains(&due), "{due}");
        assert!(!pit.rose(due - 1000));
        assert!(pit.rose(due));
        assert_eq!(pit.next_deadline(), None);
        assert_eq!(read_count(&mut pit, 0, due), 0);
    }

    #[test]
    fn mode_2_rises_each_period() {
        let mut pit = Pit::default();
        program(&mut pit, 0, 2, 11932, 5);
        let mut previous = 5;
        for _ in 0..5 {
            let due = pit.next_deadline().unwrap();
            assert!((due - previous).abs_diff(10 * MS) < 2000, "{due} {previous}");
            assert!(pit.rose(due));
            previous = due;
        }
    }

    #[test]
    fn mode_3_counts_by_two_and_is_square() {
        let mut pit = Pit::default();
        program(&mut pit, 2, 3, 1000, 0);
        pit.write(SYSTEM_CONTROL_B, 1, 0);
        assert_eq!(read_count(&mut pit, 2, machine_clock(100)), 800);
        assert_eq!(read_count(&mut pit, 2, machine_clock(600)), 800);
        assert_ne!(pit.read(SYSTEM_CONTROL_B, machine_clock(100)) & 0x20, 0);
        assert_eq!(pit.read(SYSTEM_CONTROL_B, machine_clock(600)) & 0x20, 0);
    }

    #[test]
    fn channel_2_measures_time_by_its_gate() {
        // How operating systems calibrate the TSC.
        let mut pit = Pit::default();
        pit.write(SYSTEM_CONTROL_B, 0, 0);
        program(&mut pit, 2, 0, 11932, 0);
        assert_eq!(read_count(&mut pit, 2, 5 * MS), 11932, "the gate is shut");
        pit.write(SYSTEM_CONTROL_B, 1, 5 * MS);
        assert_eq!(pit.read(SYSTEM_CONTROL_B, 14 * MS) & 0x20, 0);
        assert_eq!(pit.read(SYSTEM_CONTROL_B, 15 * MS + 2000) & 0x20, 0x20);
    }

    #[test]
    fn read_back_latches_status_before_count() {
        let mut pit = Pit::default();
        program(&mut pit, 0, 2, 0, 0);
        pit.write(CONTROL, 0xC2, machine_clock(6));
        assert_eq!(pit.read(BASE, MS), 0x80 | 0x30 | 2 << 1);
        assert_eq!(
            u16::from_le_bytes([pit.read(BASE, MS), pit.read(BASE, MS)]),
            0xFFFA
        );
    }

    #[test]
    fn bcd() {
        let mut pit = Pit::default();
        pit.write(CONTROL, 0x30 | 2 << 1 | 1, 0);
        pit.write(BASE, 0x00, 0);
        pit.write(BASE, 0x10, 0);
        assert_eq!(read_count(&mut pit, 0, machine_clock(1)), 0x0999);
        assert_eq!(to_bcd(from_bcd(0x9876)), 0x9876);
    }
}
