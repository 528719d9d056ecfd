//! The ways in which a guest ends the machine or asks for a reset.
//!
//! | port | what | effect |
//! |---|---|---|
//! | 0xF4 | QEMU's isa-debug-exit | ends with status `(value << 1) \| 1` |
//! | 0x8900 | Bochs's and QEMU's `Shutdown` string | power-off |
//! | 0x604 | ACPI's PM1a control, in `pm` | power-off |
//! | 0x64 | keyboard controller, command 0xF0–0xFF with bit 0 clear | reset |
//! | 0x92 | system control port A, bit 0 | reset |
//! | 0xCF9 | reset control register (reached through `pci`) | reset |

use super::ports::PortRange;
use super::Bus;

/// What the guest asked of the machine as a whole; the run loop acts on it after the instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// End the run with this status of the process.
    Exit(u8),
    PowerOff,
    Reset,
}

const DEBUG_EXIT: u16 = 0xF4;
const SHUTDOWN: u16 = 0x8900;
const SHUTDOWN_WORD: &[u8] = b"Shutdown";
const KEYBOARD_COMMAND: u16 = 0x64;
const SYSTEM_CONTROL_A: u16 = 0x92;
pub const RESET_CONTROL: u16 = 0xCF9;
const RESET_CONTROL_RESET: u8 = 1 << 2;

#[derive(Clone, Default)]
pub struct Power {
    /// How much of `Shutdown` was written so far.
    shutdown_matched: usize,
    system_control_a: u8,
    pub reset_control: u8,
}

pub const PORTS: &[PortRange] = &[
    PortRange {
        first: DEBUG_EXIT,
        last: DEBUG_EXIT + 3,
        width: 4,
        read: |_, _, _| 0,
        write: write_debug_exit,
    },
    PortRange {
        first: SHUTDOWN,
        last: SHUTDOWN,
        width: 1,
        read: |_, _, _| u32::MAX,
        write: write_shutdown,
    },
    PortRange {
        first: KEYBOARD_COMMAND,
        last: KEYBOARD_COMMAND,
        width: 1,
        // No keyboard is there: the controller has nothing to say and is always ready for a command.
        read: |_, _, _| 0,
        write: write_keyboard_command,
    },
    PortRange {
        first: SYSTEM_CONTROL_A,
        last: SYSTEM_CONTROL_A,
        width: 1,
        read: |bus, _, _| bus.power.system_control_a.into(),
        write: write_system_control_a,
    },
];

fn write_debug_exit(bus: &mut Bus, _: u16, _: u8, value: u32) {
    bus.request = Some(Request::Exit((value << 1 | 1) as u8));
}

fn write_shutdown(bus: &mut Bus, _: u16, _: u8, value: u32) {
    let matched = &mut bus.power.shutdown_matched;
    let byte = value as u8;
    *matched = match SHUTDOWN_WORD.get(*matched) {
        Some(&expected) if expected == byte => *matched + 1,
        _ => usize::from(SHUTDOWN_WORD.first() == Some(&byte)),
    };
    if *matched == SHUTDOWN_WORD.len() {
        *matched = 0;
        bus.request = Some(Request::PowerOff);
    }
}

fn write_keyboard_command(bus: &mut Bus, _: u16, _: u8, value: u32) {
    // Pulse output lines: bit n clear pulses line n, and line 0 is the processor's reset.
    if value & 0xF1 == 0xF0 {
        bus.request = Some(Request::Reset);
    }
}

fn write_system_control_a(bus: &mut Bus, _: u16, _: u8, value: u32) {
    if value & !u32::from(bus.power.system_control_a) & 1 != 0 {
        bus.request = Some(Request::Reset);
    }
    bus.power.system_control_a = value as u8 & !1;
}

pub fn write_reset_control(bus: &mut Bus, value: u8) {
    if value & !bus.power.reset_control & RESET_CONTROL_RESET != 0 {
        bus.request = Some(Request::Reset);
    }
    bus.power.reset_control = value & !RESET_CONTROL_RESET;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_exit_gives_odd_statuses() {
        assert_eq!(Bus::request_after(&[(0xF4, 1, 0)]), Some(Request::Exit(1)));
        assert_eq!(Bus::request_after(&[(0xF4, 4, 77)]), Some(Request::Exit(155)));
        assert_eq!(
            Bus::request_after(&[(0xF4, 4, 0xFFFF_FFFF)]),
            Some(Request::Exit(255))
        );
    }

    #[test]
    fn shutdown_needs_the_whole_word() {
        let word = |text: &[u8]| -> Vec<_> { text.iter().map(|&b| (0x8900, 1, u32::from(b))).collect() };
        assert_eq!(Bus::request_after(&word(b"Shutdown")), Some(Request::PowerOff));
        assert_eq!(Bus::request_after(&word(b"Shutdow")), None);
        assert_eq!(
            Bus::request_after(&word(b"ShutShutdown")),
            Some(Request::PowerOff)
        );
        assert_eq!(Bus::request_after(&word(b"Shut down")), None);
    }

    #[test]
    fn resets() {
        assert_eq!(Bus::request_after(&[(0x64, 1, 0xFE)]), Some(Request::Reset));
        assert_eq!(Bus::request_after(&[(0x64, 1, 0xD1)]), None);
        assert_eq!(Bus::request_after(&[(0x92, 1, 0x02)]), None);
        assert_eq!(Bus::request_after(&[(0x92, 1, 0x03)]), Some(Request::Reset));
    }
}
