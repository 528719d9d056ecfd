//! The I/O APIC at 0xFEC00000: 24 pins, each with a redirection entry that says which interrupt message the pin sends
//! (Intel 82093AA; version 0x20 adds the EOI register).

use super::interrupts::{Delivery, Message, Target};

pub const BASE: u64 = 0xFEC0_0000;
pub const PINS: u8 = 24;
/// As on every PC since the first with one, the timer (IRQ 0) is on this pin, and the PIC's cascade (IRQ 2) on none.
pub const TIMER_PIN: u8 = 2;
/// The identifier after reset.
pub const ID: u8 = 0;

const SELECT: u64 = 0x00;
const WINDOW: u64 = 0x10;
const EOI: u64 = 0x40;

pub const VERSION: u32 = 0x20 | (PINS as u32 - 1) << 16;
const ID_MASK: u32 = 0x0F00_0000;

const LOGICAL: u64 = 1 << 11;
const REMOTE_IRR: u64 = 1 << 14;
const LEVEL: u64 = 1 << 15;
const MASKED: u64 = 1 << 16;
const DESTINATION_SHIFT: u32 = 56;
/// Vector, delivery mode, destination mode, polarity, trigger mode, mask, destination. Polarity is kept and not acted on:
/// the lines here are levels of "asserted".
const WRITABLE: u64 = 0xFF00_0000_0001_AFFF;

#[derive(Clone)]
pub struct IoApic {
    id: u32,
    select: u8,
    /// The level of each pin, and edges not yet sent.
    lines: u32,
    edges: u32,
    entries: [u64; PINS as usize],
}

impl Default for IoApic {
    fn default() -> Self {
        IoApic {
            id: u32::from(ID) << 24,
            select: 0,
            lines: 0,
            edges: 0,
            entries: [MASKED; PINS as usize],
        }
    }
}

impl IoApic {
    pub fn set_pin(&mut self, pin: u8, level: bool) {
        let bit = 1u32.checked_shl(pin.into()).unwrap_or(0);
        let entry = self.entries.get(usize::from(pin)).copied().unwrap_or(MASKED);
        if !level {
            self.lines &= !bit;
        } else {
            // An edge on a masked pin is lost.
            if self.lines & bit == 0 && entry & (MASKED | LEVEL) == 0 {
                self.edges |= bit;
            }
            self.lines |= bit;
        }
    }

    /// The message that `pin` is to send now. The caller reports with `sent` what became of it.
    pub fn pending(&self, pin: u8) -> Option<Message> {
        let entry = *self.entries.get(usize::from(pin))?;
        let bit = 1 << pin;
        let level = entry & LEVEL != 0;
        let due = if level {
            self.lines & bit != 0 && entry & REMOTE_IRR == 0
        } else {
            self.edges & bit != 0
        };
        if !due || entry & MASKED != 0 {
            return None;
        }
        let destination = (entry >> DESTINATION_SHIFT) as u32;
        Some(Message {
            vector: entry as u8,
            delivery: Delivery::from_bits((entry >> 8 & 7) as u8)?,
            level,
            target: match destination {
                0xFF => Target::All,
                _ if entry & LOGICAL != 0 => Target::Logical(destination),
                _ => Target::Physical(destination),
            },
        })
    }

    /// The message of `pin` was sent; a level-triggered one waits for its EOI if some APIC accepted it.
    pub fn sent(&mut self, pin: u8, accepted: bool) {
        self.edges &= !(1 << pin);
        if let Some(entry) = self.entries.get_mut(usize::from(pin)) {
            if accepted && *entry & LEVEL != 0 {
                *entry |= REMOTE_IRR;
            }
        }
    }

    /// An EOI message: pins whose interrupt this was can send again.
    pub fn eoi(&mut self, vector: u8) {
        for entry in &mut self.entries {
            if *entry as u8 == vector && *entry & LEVEL != 0 {
                *entry &= !REMOTE_IRR;
            }
        }
    }

    pub fn read(&self, offset: u64) -> u32 {
        match offset {
            SELECT => self.select.into(),
            WINDOW => match self.select {
                0 | 2 => self.id,
                1 => VERSION,
                select => self
                    .entry_half(select)
                    .map_or(u32::MAX, |(entry, shift)| (self.entries[entry] >> shift) as u32),
            },
            _ => 0,
        }
    }

    pub fn write(&mut self, offset: u64, value: u32) {
        match offset {
            SELECT => self.select = value as u8,
            WINDOW if self.select == 0 => self.id = value & ID_MASK,
            WINDOW => {
                if let Some((entry, shift)) = self.entry_half(self.select) {
                    self.write_entry(entry, shift, value);
                }
            }
            EOI => self.eoi(value as u8),
            _ => {}
        }
    }

    fn entry_half(&self, select: u8) -> Option<(usize, u32)> {
        let index = select.checked_sub(0x10).filter(|index| *index < 2 * PINS)?;
        Some((usize::from(index / 2), if index % 2 == 0 { 0 } else { 32 }))
    }

    fn write_entry(&mut self, index: usize, shift: u32, value: u32) {
        let writable = WRITABLE & 0xFFFF_FFFF << shift;
        let entry = &mut self.entries[index];
        *entry = *entry & !writable | u64::from(value) << shift & writable;
        if *entry & LEVEL == 0 {
            *entry &= !REMOTE_IRR;
        } else {
            self.edges &= !(1 << index);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_entry(pin: u8, entry: u64) -> IoApic {
        let mut ioapic = IoApic::default();
        for half in 0..2 {
            ioapic.write(SELECT, u32::from(0x10 + 2 * pin + half));
            ioapic.write(WINDOW, (entry >> (32 * half)) as u32);
        }
        ioapic
    }

    fn entry(ioapic: &mut IoApic, pin: u8) -> u32 {
        ioapic.write(SELECT, u32::from(0x10 + 2 * pin));
        ioapic.read(WINDOW)
    }

    #[test]
    fn an_edge_is_sent_once() {
        let mut ioapic = with_entry(14, 0x0100_0000_0000_0076);
        ioapic.set_pin(14, true);
        let message = ioapic.pending(14).unwrap();
        assert_eq!(
            (message.vector, message.level, message.target),
            (0x76, false, Target::Physical(1))
        );
        ioapic.sent(14, true);
        assert_eq!(ioapic.pending(14), None);
        ioapic.set_pin(14, true);
        assert_eq!(ioapic.pending(14), None, "no new edge");
        ioapic.set_pin(14, false);
        ioapic.set_pin(14, true);
        assert!(ioapic.pending(14).is_some());
    }

    #[test]
    fn an_edge_on_a_masked_pin_is_lost() {
        let mut ioapic = with_entry(3, MASKED | 0x33);
        ioapic.set_pin(3, true);
        ioapic.set_pin(3, false);
        ioapic.write(SELECT, 0x16);
        ioapic.write(WINDOW, 0x33);
        assert_eq!(ioapic.pending(3), None);
    }

    #[test]
    fn a_level_waits_for_its_eoi() {
        let mut ioapic = with_entry(14, LEVEL | 0x77);
        ioapic.set_pin(14, true);
        assert!(ioapic.pending(14).is_some());
        ioapic.sent(14, true);
        assert_eq!(ioapic.pending(14), None);
        assert_eq!(entry(&mut ioapic, 14), (LEVEL | REMOTE_IRR | 0x77) as u32);
        ioapic.eoi(0x76);
        assert_eq!(ioapic.pending(14), None);
        ioapic.eoi(0x77);
        assert!(ioapic.pending(14).is_some(), "the line is still asserted");
        ioapic.set_pin(14, false);
        assert_eq!(ioapic.pending(14), None);
    }

    #[test]
    fn identification() {
        let mut ioapic = IoApic::default();
        ioapic.write(SELECT, 1);
        assert_eq!(ioapic.read(WINDOW), 0x0017_0020);
        ioapic.write(SELECT, 0);
        ioapic.write(WINDOW, u32::MAX);
        assert_eq!(ioapic.read(WINDOW), 0x0F00_0000);
        ioapic.write(SELECT, 2);
        assert_eq!(ioapic.read(WINDOW), 0x0F00_0000);
        ioapic.write(SELECT, 0xFF);
        assert_eq!(ioapic.read(WINDOW), u32::MAX);
    }
}
