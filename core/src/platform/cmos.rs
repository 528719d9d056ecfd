//! The CMOS memory and real-time clock at ports 0x70–0x71 (Motorola MC146818), IRQ 8.
//!
//! The date is that of the machine, not of the host: it starts at a fixed moment and goes by the machine's clock.

use super::calendar::{civil_from_days, days_from_civil, weekday};
use super::ports::PortRange;
use super::{Bus, TICKS_PER_SECOND};

const IRQ: u8 = 8;
/// Each machine starts on 2025-01-01 at 00:00:00.
const START_DAY: (i64, u8, u8) = (2025, 1, 1);
const SECONDS_PER_DAY: i64 = 86_400;
/// UIP is set this long before the registers change.
const UPDATE_TICKS: u64 = 244 * (TICKS_PER_SECOND / 1_000_000);

const SECONDS: u8 = 0x00;
const MINUTES: u8 = 0x02;
const HOURS: u8 = 0x04;
const WEEKDAY: u8 = 0x06;
const DAY: u8 = 0x07;
const MONTH: u8 = 0x08;
const YEAR: u8 = 0x09;
const STATUS_A: u8 = 0x0A;
const STATUS_B: u8 = 0x0B;
const STATUS_C: u8 = 0x0C;
const STATUS_D: u8 = 0x0D;
pub const CENTURY: u8 = 0x32;

const A_UPDATE_IN_PROGRESS: u8 = 1 << 7;
const B_SET: u8 = 1 << 7;
const B_BINARY: u8 = 1 << 2;
const B_24_HOURS: u8 = 1 << 1;
const C_REQUEST: u8 = 1 << 7;
/// The three sources, at the same bits in B (enable) and C (flag).
const PERIODIC: u8 = 1 << 6;
const ALARM: u8 = 1 << 5;
const UPDATE: u8 = 1 << 4;
const D_VALID: u8 = 1 << 7;
const PM: u8 = 1 << 7;
/// An alarm byte from here up matches anything.
const ALARM_ANY: u8 = 0xC0;

#[derive(Clone)]
pub struct Cmos {
    index: u8,
    memory: [u8; 128],
    /// Seconds since 1970-01-01 at the moment `since` of the machine's clock.
    base: i64,
    since: u64,
    /// The clock up to which flags in C were set.
    seen: u64,
}

impl Cmos {
    /// `low` and `high`: bytes of RAM below and above 4 GiB.
    pub fn new(low: u64, high: u64, cpus: usize) -> Self {
        let mut memory = [0; 128];
        memory[usize::from(STATUS_A)] = 0x26;
        memory[usize::from(STATUS_B)] = B_24_HOURS;
        memory[usize::from(STATUS_D)] = D_VALID;
        let mut put = |at: usize, value: u64, bytes: usize| {
            for (place, byte) in memory.iter_mut().skip(at).zip(value.to_le_bytes()).take(bytes) {
                *place = byte;
            }
        };
        let kib = low >> 10;
        put(0x15, 640, 2);
        for at in [0x17, 0x30] {
            put(at, kib.saturating_sub(1 << 10).min(63 << 10), 2);
        }
        put(0x34, (kib.saturating_sub(16 << 10) >> 6).min(0xFFFF), 2);
        put(0x5B, (high >> 16).min(0xFF_FFFF), 3);
        put(0x5F, cpus.saturating_sub(1) as u64, 1);
        let (year, month, day) = START_DAY;
        Cmos {
            index: 0,
            memory,
            base: days_from_civil(year, month, day) * SECONDS_PER_DAY,
            since: 0,
            seen: 0,
        }
    }

    fn status_b(&self) -> u8 {
        self.memory[usize::from(STATUS_B)]
    }

    fn seconds(&self, clock: u64) -> i64 {
        self.base
            .saturating_add((clock.saturating_sub(self.since) / TICKS_PER_SECOND) as i64)
    }

    fn encode(&self, value: u8) -> u8 {
        if self.status_b() & B_BINARY != 0 {
            value
        } else {
            ((value / 10) << 4) | (value % 10)
        }
    }

    fn decode(&self, value: u8) -> u8 {
        if self.status_b() & B_BINARY != 0 {
            value
        } else {
            (value >> 4).wrapping_mul(10).wrapping_add(value & 0xF)
        }
    }

    fn encode_hour(&self, hour: u8) -> u8 {
        if self.status_b() & B_24_HOURS != 0 {
            return self.encode(hour);
        }
        let pm = if hour >= 12 { PM } else { 0 };
        self.encode(if hour % 12 == 0 { 12 } else { hour % 12 }) | pm
    }

    fn decode_hour(&self, value: u8) -> u8 {
        if self.status_b() & B_24_HOURS != 0 {
            return self.decode(value);
        }
        self.decode(value & !PM) % 12 + if value & PM != 0 { 12 } else { 0 }
    }

    /// Writes the date into its registers, unless software holds them still.
    fn show(&mut self, clock: u64) {
        if self.status_b() & B_SET != 0 {
            return;
        }
        let seconds = self.seconds(clock);
        let (days, time) = (
            seconds.div_euclid(SECONDS_PER_DAY),
            seconds.rem_euclid(SECONDS_PER_DAY),
        );
        let (year, month, day) = civil_from_days(days);
        for (register, value) in [
            (SECONDS, self.encode((time % 60) as u8)),
            (MINUTES, self.encode((time / 60 % 60) as u8)),
            (HOURS, self.encode_hour((time / 3600) as u8)),
            (WEEKDAY, self.encode(weekday(days) + 1)),
            (DAY, self.encode(day)),
            (MONTH, self.encode(month)),
            (YEAR, self.encode(year.rem_euclid(100) as u8)),
            (CENTURY, self.encode(year.div_euclid(100).rem_euclid(100) as u8)),
        ] {
            self.memory[usize::from(register)] = value;
        }
    }

    /// Takes the date from its registers.
    fn set_from_registers(&mut self, clock: u64) {
        let at = |register: u8| self.decode(self.memory[usize::from(register)]);
        let year = i64::from(at(CENTURY)) * 100 + i64::from(at(YEAR));
        let days = days_from_civil(year, at(MONTH), at(DAY));
        let hour = self.decode_hour(self.memory[usize::from(HOURS)]);
        let time = i64::from(hour) * 3600 + i64::from(at(MINUTES)) * 60 + i64::from(at(SECONDS));
        self.base = days * SECONDS_PER_DAY + time;
        self.since = clock;
    }

    /// The moment of the next change of the seconds after `clock`.
    fn next_update(&self, clock: u64) -> u64 {
        let elapsed = clock.saturating_sub(self.since);
        self.since + (elapsed / TICKS_PER_SECOND + 1) * TICKS_PER_SECOND
    }

    /// Ticks between two periodic interrupts: 32768 Hz shifted down, rates 1 and 2 acting like 8 and 9.
    fn period(&self) -> Option<u64> {
        let rate = match self.memory[usize::from(STATUS_A)] & 0xF {
            0 => return None,
            rate @ 1..=2 => rate + 7,
            rate => rate,
        };
        Some((TICKS_PER_SECOND << (rate - 1)) / 32_768)
    }

    fn next_periodic(&self, clock: u64) -> Option<u64> {
        let period = self.period()?;
        Some((clock / period + 1) * period)
    }

    /// When an enabled interrupt is next due.
    pub fn next_deadline(&self) -> Option<u64> {
        let enabled = self.status_b();
        let periodic = if enabled & PERIODIC != 0 {
            self.next_periodic(self.seen)
        } else {
            None
        };
        let update =
            (enabled & (ALARM | UPDATE) != 0 && enabled & B_SET == 0).then(|| self.next_update(self.seen));
        periodic.into_iter().chain(update).min()
    }

    fn alarm_matches(&self) -> bool {
        // Each alarm byte stands after the register that it is compared with.
        [SECONDS, MINUTES, HOURS]
            .map(usize::from)
            .iter()
            .all(|&register| {
                let alarm = self.memory[register + 1];
                alarm >= ALARM_ANY || alarm == self.memory[register]
            })
    }

    /// Sets the flags in C of what happened since they were last looked at.
    fn catch_up(&mut self, clock: u64) {
        let mut flags = 0;
        if self.next_periodic(self.seen).is_some_and(|due| due <= clock) {
            flags |= PERIODIC;
        }
        if self.status_b() & B_SET == 0 && self.next_update(self.seen) <= clock {
            flags |= UPDATE;
            self.show(clock);
            if self.alarm_matches() {
                flags |= ALARM;
            }
        }
        self.seen = self.seen.max(clock);
        let status_c = &mut self.memory[usize::from(STATUS_C)];
        *status_c |= flags;
        if *status_c & self.memory[usize::from(STATUS_B)] & (PERIODIC | ALARM | UPDATE) != 0 {
            self.memory[usize::from(STATUS_C)] |= C_REQUEST;
        }
    }

    fn irq(&self) -> bool {
        self.memory[usize::from(STATUS_C)] & C_REQUEST != 0
    }

    fn read(&mut self, clock: u64) -> u8 {
        self.catch_up(clock);
        self.show(clock);
        let place = &mut self.memory[usize::from(self.index)];
        match self.index {
            STATUS_A => {
                let soon = self.next_update(clock) - clock <= UPDATE_TICKS && self.status_b() & B_SET == 0;
                self.memory[usize::from(STATUS_A)] | if soon { A_UPDATE_IN_PROGRESS } else { 0 }
            }
            STATUS_C => std::mem::take(place),
            _ => *place,
        }
    }

    fn write(&mut self, value: u8, clock: u64) {
        self.catch_up(clock);
        self.show(clock);
        let index = self.index;
        let held = self.status_b() & B_SET != 0;
        match index {
            STATUS_A => self.memory[usize::from(STATUS_A)] = value & !A_UPDATE_IN_PROGRESS,
            STATUS_B => {
                self.memory[usize::from(STATUS_B)] = value;
                if held && value & B_SET == 0 {
                    self.set_from_registers(clock);
                }
                self.catch_up(clock);
            }
            STATUS_C | STATUS_D => {}
            _ => {
                self.memory[usize::from(index)] = value;
                let date = matches!(index, SECONDS | MINUTES | HOURS | DAY | MONTH | YEAR | CENTURY);
                if date && !held {
                    self.set_from_registers(clock);
                }
            }
        }
    }
}

const INDEX: u16 = 0x70;
const DATA: u16 = 0x71;

pub const PORTS: &[PortRange] = &[PortRange {
    first: INDEX,
    last: DATA,
    width: 1,
    read,
    write,
}];

fn read(bus: &mut Bus, port: u16, _: u8) -> u32 {
    if port == INDEX {
        return 0xFF;
    }
    let value = bus.cmos.read(bus.clock);
    bus.set_irq(IRQ, bus.cmos.irq());
    value.into()
}

fn write(bus: &mut Bus, port: u16, _: u8, value: u32) {
    if port == INDEX {
        // Bit 7 gates NMI, and the machine has no source of NMIs outside the local APICs.
        bus.cmos.index = value as u8 & 0x7F;
        return;
    }
    bus.cmos.write(value as u8, bus.clock);
    bus.set_irq(IRQ, bus.cmos.irq());
    bus.reschedule();
}

impl Bus {
    pub(super) fn fire_cmos(&mut self) {
        self.cmos.catch_up(self.clock);
        self.set_irq(IRQ, self.cmos.irq());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn get(cmos: &mut Cmos, register: u8, clock: u64) -> u8 {
        cmos.index = register;
        cmos.read(clock)
    }

    fn put(cmos: &mut Cmos, register: u8, value: u8, clock: u64) {
        cmos.index = register;
        cmos.write(value, clock);
    }

    fn date(cmos: &mut Cmos, clock: u64) -> [u8; 8] {
        [CENTURY, YEAR, MONTH, DAY, WEEKDAY, HOURS, MINUTES, SECONDS]
            .map(|register| get(cmos, register, clock))
    }

    fn new() -> Cmos {
        Cmos::new(512 << 20, 0, 1)
    }

    #[test]
    fn the_date_starts_fixed_and_follows_the_clock() {
        let mut cmos = new();
        assert_eq!(
            date(&mut cmos, 0),
            [0x20, 0x25, 0x01, 0x01, 0x04, 0, 0, 0],
            "a Wednesday"
        );
        let day_and_a_bit = (86_400 + 3600 * 13 + 61) * TICKS_PER_SECOND;
        assert_eq!(
            date(&mut cmos, day_and_a_bit),
            [0x20, 0x25, 0x01, 0x02, 0x05, 0x13, 0x01, 0x01]
        );
    }

    #[test]
    fn setting_the_date_in_binary_12_hour_mode() {
        let mut cmos = new();
        put(&mut cmos, STATUS_B, B_SET | B_BINARY, 7);
        for (register, value) in [
            (CENTURY, 19),
            (YEAR, 99),
            (MONTH, 12),
            (DAY, 31),
            (HOURS, PM | 11),
            (MINUTES, 59),
            (SECONDS, 59),
        ] {
            put(&mut cmos, register, value, 7);
        }
        put(&mut cmos, STATUS_B, B_BINARY, 1000);
        assert_eq!(get(&mut cmos, HOURS, 1001), PM | 11);
        assert_eq!(
            date(&mut cmos, 1000 + TICKS_PER_SECOND),
            [20, 0, 1, 1, 7, 12, 0, 0]
        );
    }

    #[test]
    fn garbage_in_the_date_is_harmless() {
        let mut cmos = new();
        put(&mut cmos, STATUS_B, B_SET, 0);
        for register in [CENTURY, YEAR, MONTH, DAY, HOURS, MINUTES, SECONDS] {
            put(&mut cmos, register, 0xFF, 0);
        }
        put(&mut cmos, STATUS_B, 0, 0);
        date(&mut cmos, 0);
        put(&mut cmos, MONTH, 0, 0);
        date(&mut cmos, u64::MAX / 2);
    }

    #[test]
    fn update_in_progress_precedes_the_second() {
        let mut cmos = new();
        assert_eq!(
            get(&mut cmos, STATUS_A, TICKS_PER_SECOND - UPDATE_TICKS - 1) & 0x80,
            0
        );
        assert_eq!(get(&mut cmos, STATUS_A, TICKS_PER_SECOND - 5) & 0x80, 0x80);
        assert_eq!(get(&mut cmos, STATUS_A, TICKS_PER_SECOND) & 0x80, 0);
    }

    #[test]
    fn periodic_and_update_interrupts() {
        let mut cmos = new();
        assert_eq!(cmos.next_deadline(), None);
        put(&mut cmos, STATUS_B, B_24_HOURS | PERIODIC, 0);
        let due = cmos.next_deadline().unwrap();
        assert_eq!(due, TICKS_PER_SECOND / 1024);
        cmos.catch_up(due);
        assert!(cmos.irq());
        assert_eq!(get(&mut cmos, STATUS_C, due), C_REQUEST | PERIODIC);
        assert!(!cmos.irq());
        put(&mut cmos, STATUS_B, B_24_HOURS | UPDATE, due);
        get(&mut cmos, STATUS_C, due);
        assert_eq!(cmos.next_deadline(), Some(TICKS_PER_SECOND));
        cmos.catch_up(TICKS_PER_SECOND);
        assert!(cmos.irq());
    }

    #[test]
    fn the_alarm_goes_off_at_its_second() {
        let mut cmos = new();
        for (register, value) in [
            (1, 0x03),
            (3, ALARM_ANY),
            (5, ALARM_ANY),
            (STATUS_B, B_24_HOURS | ALARM),
        ] {
            put(&mut cmos, register, value, 0);
        }
        for second in 1..=3 {
            assert!(!cmos.irq());
            let due = cmos.next_deadline().unwrap();
            assert_eq!(due, second * TICKS_PER_SECOND);
            cmos.catch_up(due);
        }
        assert!(cmos.irq());
    }

    #[test]
    fn memory_sizes() {
        let mut cmos = Cmos::new(3 << 30, 1 << 30, 4);
        let word = |cmos: &mut Cmos, at| u16::from_le_bytes([get(cmos, at, 0), get(cmos, at + 1, 0)]);
        assert_eq!(word(&mut cmos, 0x15), 640);
        assert_eq!(word(&mut cmos, 0x30), 0xFC00);
        assert_eq!(word(&mut cmos, 0x34), 0xBF00, "3 GiB less 16 MiB");
        assert_eq!(word(&mut cmos, 0x5B), 0x4000);
        assert_eq!(get(&mut cmos, 0x5F, 0), 3);
    }
}
