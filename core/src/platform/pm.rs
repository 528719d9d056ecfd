//! ACPI's fixed registers, where QEMU's PIIX4 has them: PM1a events, PM1a control, the power management timer (ACPI 6.5, 4.8).
//! The timer's overflow is the only event that happens: there is no button, no global lock of a firmware to be released, and no
//! sleep that the clock could end.

use super::ports::PortRange;
use super::power::Request;
use super::{Bus, TICKS_PER_SECOND};

pub const EVENT: u16 = 0x600;
pub const EVENT_LENGTH: u8 = 4;
pub const CONTROL: u16 = 0x604;
pub const CONTROL_LENGTH: u8 = 2;
pub const TIMER: u16 = 0x608;
pub const TIMER_LENGTH: u8 = 4;
/// The interrupt request of the system control interrupt.
pub const SCI: u8 = 9;
/// SLP_TYP of S5, for the DSDT.
pub const SLEEP_TYPE_OFF: u8 = 0;

/// TMR_STS and TMR_EN.
const TIMER_EVENT: u16 = 1 << 0;
/// TMR_EN, GBL_EN, PWRBTN_EN, SLPBTN_EN, RTC_EN.
const ENABLES: u16 = 1 << 0 | 1 << 5 | 1 << 8 | 1 << 9 | 1 << 10;

const SCI_ENABLE: u16 = 1 << 0;
const SLEEP_TYPE: u16 = 7 << 10;
const SLEEP_ENABLE: u16 = 1 << 13;

const TIMER_HZ: u64 = 3_579_545;
/// The timer has 24 bits; its highest bit's changes are what TMR_STS reports.
const TIMER_MASK: u64 = 0xFF_FFFF;
const OVERFLOW: u32 = 23;

#[derive(Clone, Default)]
pub struct PowerManagement {
    enable: u16,
    control: u16,
    /// How often the timer's highest bit had changed when TMR_STS was last cleared.
    acknowledged: u64,
}

fn count(clock: u64) -> u64 {
    (u128::from(clock) * u128::from(TIMER_HZ) / u128::from(TICKS_PER_SECOND)) as u64
}

impl PowerManagement {
    fn status(&self, clock: u64) -> u16 {
        u16::from(count(clock) >> OVERFLOW > self.acknowledged) * TIMER_EVENT
    }

    /// The clock at which TMR_STS will be set, if that is to interrupt.
    pub fn next_deadline(&self, clock: u64) -> Option<u64> {
        let due = (u128::from(self.acknowledged) + 1) << OVERFLOW;
        let at = (due * u128::from(TICKS_PER_SECOND)).div_ceil(u128::from(TIMER_HZ)) as u64;
        (self.enable & TIMER_EVENT != 0 && at > clock).then_some(at)
    }
}

impl Bus {
    pub(super) fn fire_pm(&mut self) {
        if self.pm.enable != 0 {
            self.update_sci();
        }
    }

    /// Drives the SCI by what the event register says now.
    fn update_sci(&mut self) {
        let asserted = self.pm.status(self.clock) & self.pm.enable != 0;
        self.set_irq(SCI, asserted);
    }
}

pub const PORTS: &[PortRange] = &[
    PortRange {
        first: EVENT,
        last: EVENT + 3,
        width: 4,
        read: read_event,
        write: write_event,
    },
    PortRange {
        first: CONTROL,
        last: CONTROL + 1,
        width: 2,
        read: |bus, port, _| u32::from(bus.pm.control | SCI_ENABLE) >> (8 * (port - CONTROL)),
        write: write_control,
    },
    PortRange {
        first: TIMER,
        last: TIMER + 3,
        width: 4,
        read: |bus, port, _| ((count(bus.clock) & TIMER_MASK) >> (8 * (port - TIMER))) as u32,
        write: |_, _, _, _| {},
    },
];

fn read_event(bus: &mut Bus, port: u16, _: u8) -> u32 {
    let both = u32::from(bus.pm.status(bus.clock)) | u32::from(bus.pm.enable) << 16;
    both >> (8 * (port - EVENT))
}

fn write_event(bus: &mut Bus, port: u16, size: u8, value: u32) {
    let shift = 8 * (port - EVENT);
    let written = (u32::MAX >> (32 - 8 * u32::from(size))) << shift;
    let value = value << shift;
    if value & u32::from(TIMER_EVENT) != 0 {
        bus.pm.acknowledged = count(bus.clock) >> OVERFLOW;
    }
    let (written, value) = ((written >> 16) as u16, (value >> 16) as u16);
    bus.pm.enable = bus.pm.enable & !written | value & written & ENABLES;
    bus.update_sci();
    bus.reschedule();
}

fn write_control(bus: &mut Bus, port: u16, size: u8, value: u32) {
    let shift = 8 * (port - CONTROL);
    let mask = if size == 2 { 0xFFFF } else { 0xFF << shift };
    let control = bus.pm.control & !mask | (value as u16) << shift & mask;
    if control & SLEEP_ENABLE != 0 && control & SLEEP_TYPE == u16::from(SLEEP_TYPE_OFF) << 10 {
        bus.request = Some(Request::PowerOff);
    }
    bus.pm.control = control & !SLEEP_ENABLE;
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The upper half of the event register.
    const ENABLE: u16 = EVENT + 2;

    #[test]
    fn sleep_type_zero_is_power_off() {
        assert_eq!(
            Bus::request_after(&[(CONTROL, 2, 0x2000)]),
            Some(Request::PowerOff)
        );
        assert_eq!(
            Bus::request_after(&[(CONTROL + 1, 1, 0x20)]),
            Some(Request::PowerOff)
        );
        assert_eq!(
            Bus::request_after(&[(CONTROL, 2, 0x2400)]),
            None,
            "suspend is not offered"
        );
    }

    #[test]
    fn acpi_mode_is_always_on() {
        let mut bus = Bus::for_test(1);
        bus.io_write(0, CONTROL, 2, 0);
        assert_eq!(bus.io_read(0, CONTROL, 2), 1);
    }

    #[test]
    fn the_timer_counts_at_its_rate_in_24_bits() {
        let mut bus = Bus::for_test(1);
        bus.clock = TICKS_PER_SECOND;
        assert_eq!(bus.io_read(0, TIMER, 4), 3_579_545);
        bus.clock = 10 * TICKS_PER_SECOND;
        assert_eq!(bus.io_read(0, TIMER, 4), 35_795_450 & 0xFF_FFFF);
    }

    /// The highest bit of 24 changes every 2.34 s.
    #[test]
    fn its_overflow_interrupts_where_enabled() {
        let mut bus = Bus::for_test(1);
        bus.clock = 3 * TICKS_PER_SECOND;
        assert_eq!(bus.io_read(0, EVENT, 2), 1);
        assert_eq!(bus.deadline(), None);
        bus.io_write(0, EVENT, 2, 1);
        assert_eq!(bus.io_read(0, EVENT, 2), 0);
        bus.io_write(0, ENABLE, 2, 0xFFFF);
        assert_eq!(bus.io_read(0, EVENT, 4), 0x721 << 16);
        bus.io_write(0, ENABLE + 1, 1, 0);
        assert_eq!(bus.io_read(0, ENABLE, 2), 0x21);
        let due = bus.deadline().unwrap();
        assert_eq!(count(due), 2 << OVERFLOW);
        bus.clock = due;
        bus.advance(0);
        assert_eq!(bus.io_read(0, EVENT, 2), 1);
        assert_eq!(bus.deadline(), None, "until it is acknowledged");
    }
}
