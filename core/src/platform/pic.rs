//! The pair of 8259A interrupt controllers: ports 0x20–0x21 and 0xA0–0xA1, with their edge/level registers at
//! 0x4D0–0x4D1. The second is cascaded into line 2 of the first.

use super::ports::PortRange;
use super::Bus;

const CASCADE: u8 = 2;
/// Lines that are edge-triggered whatever ELCR says: the timer, the keyboard, the cascade; the RTC and the FPU.
const ALWAYS_EDGE: [u8; 2] = [0b0000_0111, 0b0010_0001];
const SPURIOUS: u8 = 7;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Initialisation {
    #[default]
    Done,
    Icw2,
    Icw3,
    Icw4,
}

#[derive(Clone, Default)]
struct Chip {
    /// Requests, masks and services, one bit a line.
    irr: u8,
    imr: u8,
    isr: u8,
    /// The level of each input.
    lines: u8,
    level_triggered: u8,
    vector_base: u8,
    /// The line that has the highest priority now.
    highest: u8,
    icw4_follows: bool,
    single: bool,
    initialisation: Initialisation,
    auto_eoi: bool,
    rotate_on_auto_eoi: bool,
    special_mask: bool,
    special_fully_nested: bool,
    read_isr: bool,
    poll: bool,
}

impl Chip {
    fn set_line(&mut self, line: u8, level: bool) {
        let bit = 1 << line;
        if level {
            if self.level_triggered & bit != 0 || self.lines & bit == 0 {
                self.irr |= bit;
            }
            self.lines |= bit;
        } else {
            if self.level_triggered & bit != 0 {
                self.irr &= !bit;
            }
            self.lines &= !bit;
        }
    }

    /// How many steps below the highest priority the first set bit lies; 8 where none is set.
    fn priority(&self, bits: u8) -> u8 {
        bits.rotate_right(self.highest.into()).trailing_zeros() as u8
    }

    fn line(&self, priority: u8) -> u8 {
        (self.highest + priority) & 7
    }

    /// The line that INTR is raised for.
    fn request(&self, is_first: bool) -> Option<u8> {
        let requested = self.priority(self.irr & !self.imr);
        // In special mask mode a masked line in service holds nothing back. With special full nesting the cascade may
        // interrupt itself: the second chip has sorted out its own priorities.
        let mut in_service = if self.special_mask {
            self.isr & !self.imr
        } else {
            self.isr
        };
        if self.special_fully_nested && is_first {
            in_service &= !(1 << CASCADE);
        }
        (requested < self.priority(in_service)).then(|| self.line(requested))
    }

    fn acknowledge(&mut self, line: u8) {
        let bit = 1 << line;
        if self.level_triggered & bit == 0 {
            self.irr &= !bit;
        }
        if !self.auto_eoi {
            self.isr |= bit;
        } else if self.rotate_on_auto_eoi {
            self.highest = (line + 1) & 7;
        }
    }

    fn write_command(&mut self, value: u8) {
        if value & 0x10 != 0 {
            // ICW1. The level of the inputs and the edge/level choice are outside the chip and stay.
            *self = Chip {
                lines: self.lines,
                level_triggered: self.level_triggered,
                irr: self.lines & self.level_triggered,
                icw4_follows: value & 1 != 0,
                single: value & 2 != 0,
                initialisation: Initialisation::Icw2,
                ..Chip::default()
            };
        } else if value & 0x08 != 0 {
            self.write_ocw3(value);
        } else {
            self.write_ocw2(value);
        }
    }

    fn write_ocw2(&mut self, value: u8) {
        let named = value & 7;
        let (rotate, specific, eoi) = (value & 0x80 != 0, value & 0x40 != 0, value & 0x20 != 0);
        let in_service = self.priority(self.isr);
        let line = match specific {
            true => Some(named),
            false => (in_service < 8).then(|| self.line(in_service)),
        };
        match (eoi, rotate, specific, line) {
            (true, _, _, Some(line)) => {
                self.isr &= !(1 << line);
                if rotate {
                    self.highest = (line + 1) & 7;
                }
            }
            (false, true, true, _) => self.highest = (named + 1) & 7,
            (false, _, false, _) => self.rotate_on_auto_eoi = rotate,
            _ => {}
        }
    }

    fn write_ocw3(&mut self, value: u8) {
        self.poll = value & 0x04 != 0;
        if value & 0x02 != 0 {
            self.read_isr = value & 1 != 0;
        }
        if value & 0x40 != 0 {
            self.special_mask = value & 0x20 != 0;
        }
    }

    fn write_data(&mut self, value: u8) {
        self.initialisation = match self.initialisation {
            Initialisation::Done => {
                self.imr = value;
                Initialisation::Done
            }
            Initialisation::Icw2 => {
                self.vector_base = value & 0xF8;
                match (self.single, self.icw4_follows) {
                    (false, _) => Initialisation::Icw3,
                    (true, true) => Initialisation::Icw4,
                    (true, false) => Initialisation::Done,
                }
            }
            // The wiring of the cascade is what it is.
            Initialisation::Icw3 if self.icw4_follows => Initialisation::Icw4,
            Initialisation::Icw3 => Initialisation::Done,
            Initialisation::Icw4 => {
                self.auto_eoi = value & 0x02 != 0;
                self.special_fully_nested = value & 0x10 != 0;
                Initialisation::Done
            }
        };
    }
}

#[derive(Clone)]
pub struct Pic {
    chips: [Chip; 2],
}

impl Default for Pic {
    /// As a PC's firmware hands it over, for there is none here: the BIOS's vectors, every line masked but the cascade
    /// and lines 10 and 11, which are those of PCI devices. Nothing here raises these two by itself.
    fn default() -> Self {
        let chip = |vector_base, imr| Chip {
            vector_base,
            imr,
            ..Chip::default()
        };
        Pic {
            chips: [chip(0x08, 0xFB), chip(0x70, 0xF3)],
        }
    }
}

impl Pic {
    pub fn set_irq(&mut self, irq: u8, level: bool) {
        match (irq, irq >> 3) {
            (CASCADE, _) => return,
            (_, 0) => self.chips[0].set_line(irq, level),
            (_, 1) => self.chips[1].set_line(irq & 7, level),
            _ => return,
        }
        self.cascade();
    }

    /// Whether INTR is asserted.
    pub fn intr(&self) -> bool {
        self.chips[0].request(true).is_some()
    }

    /// The INTA cycles: the vector of the request with the highest priority, or a spurious one where it went away.
    pub fn acknowledge(&mut self) -> u8 {
        let vector = match self.take(0) {
            Some(CASCADE) => self.chips[1].vector_base | self.take(1).unwrap_or(SPURIOUS),
            line => self.chips[0].vector_base | line.unwrap_or(SPURIOUS),
        };
        self.cascade();
        vector
    }

    fn take(&mut self, chip: usize) -> Option<u8> {
        let line = self.chips[chip].request(chip == 0)?;
        self.chips[chip].acknowledge(line);
        Some(line)
    }

    /// Carries the second chip's INTR to the first. It falls in each INTA cycle, so each request shows an edge: the
    /// cascade acts like a level-triggered line.
    fn cascade(&mut self) {
        let bit = 1 << CASCADE;
        if self.chips[1].request(false).is_some() {
            self.chips[0].irr |= bit;
        } else {
            self.chips[0].irr &= !bit;
        }
    }

    fn read(&mut self, chip: usize, data: bool) -> u8 {
        let selected = &mut self.chips[chip];
        if !data && std::mem::take(&mut selected.poll) {
            let polled = self.take(chip).map_or(0, |line| 0x80 | line);
            self.cascade();
            return polled;
        }
        match (data, selected.read_isr) {
            (true, _) => selected.imr,
            (false, true) => selected.isr,
            (false, false) => selected.irr,
        }
    }

    fn write(&mut self, chip: usize, data: bool, value: u8) {
        if data {
            self.chips[chip].write_data(value);
        } else {
            self.chips[chip].write_command(value);
        }
        self.cascade();
    }
}

const FIRST: u16 = 0x20;
const SECOND: u16 = 0xA0;
const ELCR: u16 = 0x4D0;

pub const PORTS: &[PortRange] = &[
    PortRange {
        first: FIRST,
        last: FIRST + 1,
        width: 1,
        read,
        write,
    },
    PortRange {
        first: SECOND,
        last: SECOND + 1,
        width: 1,
        read,
        write,
    },
    PortRange {
        first: ELCR,
        last: ELCR + 1,
        width: 1,
        read: |bus, port, _| bus.pic.chips[usize::from(port & 1)].level_triggered.into(),
        write: write_elcr,
    },
];

fn read(bus: &mut Bus, port: u16, _: u8) -> u32 {
    let value = bus.pic.read(usize::from(port >= SECOND), port & 1 != 0);
    bus.pic_changed();
    value.into()
}

fn write(bus: &mut Bus, port: u16, _: u8, value: u32) {
    bus.pic
        .write(usize::from(port >= SECOND), port & 1 != 0, value as u8);
    bus.pic_changed();
}

fn write_elcr(bus: &mut Bus, port: u16, _: u8, value: u32) {
    let chip = usize::from(port & 1);
    let selected = &mut bus.pic.chips[chip];
    selected.level_triggered = value as u8 & !ALWAYS_EDGE[chip];
    selected.irr |= selected.level_triggered & selected.lines;
    bus.pic.cascade();
    bus.pic_changed();
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Set up as PCs do: vectors 0x20 and 0x28, nothing masked.
    fn ready(icw4: u8) -> Pic {
        let mut pic = Pic::default();
        for (chip, vector) in [(0, 0x20), (1, 0x28)] {
            pic.write(chip, false, 0x11);
            for value in [vector, 4, icw4, 0] {
                pic.write(chip, true, value);
            }
        }
        pic
    }

    fn pulse(pic: &mut Pic, irq: u8) {
        pic.set_irq(irq, false);
        pic.set_irq(irq, true);
    }

    #[test]
    fn priorities_nest_and_eoi_frees() {
        let mut pic = ready(1);
        pulse(&mut pic, 4);
        assert_eq!(pic.acknowledge(), 0x24);
        pulse(&mut pic, 5);
        assert!(!pic.intr(), "5 is below 4, which is in service");
        pulse(&mut pic, 1);
        assert_eq!(pic.acknowledge(), 0x21);
        pic.write(0, false, 0x20);
        assert!(!pic.intr());
        pic.write(0, false, 0x20);
        assert_eq!(pic.acknowledge(), 0x25);
    }

    #[test]
    fn the_second_chip_comes_through_the_cascade() {
        let mut pic = ready(1);
        pulse(&mut pic, 12);
        assert!(pic.intr());
        assert_eq!(pic.acknowledge(), 0x2C);
        pulse(&mut pic, 8);
        assert!(
            !pic.intr(),
            "the cascade is in service and nesting is not special"
        );
        pic.write(1, false, 0x20);
        pic.write(0, false, 0x20);
        assert_eq!(pic.acknowledge(), 0x28);
    }

    #[test]
    fn masks_hold_requests_back() {
        let mut pic = ready(1);
        pic.write(0, true, 0xFF);
        pulse(&mut pic, 3);
        assert!(!pic.intr());
        pic.write(0, true, 0xF7);
        assert!(pic.intr());
        assert_eq!(pic.read(0, true), 0xF7);
    }

    #[test]
    fn a_level_request_goes_away_with_its_line_and_acknowledging_then_is_spurious() {
        let mut pic = ready(1);
        pic.chips[0].level_triggered = 0x20;
        pic.set_irq(5, true);
        assert!(pic.intr());
        pic.set_irq(5, false);
        assert!(!pic.intr());
        assert_eq!(pic.acknowledge(), 0x27);
        pic.write(0, false, 0x0B);
        assert_eq!(pic.read(0, false), 0, "a spurious interrupt is not in service");
    }

    #[test]
    fn auto_eoi_leaves_nothing_in_service() {
        let mut pic = ready(3);
        pulse(&mut pic, 0);
        assert_eq!(pic.acknowledge(), 0x20);
        pulse(&mut pic, 0);
        assert_eq!(pic.acknowledge(), 0x20);
    }

    #[test]
    fn rotation_moves_the_lowest_priority() {
        let mut pic = ready(1);
        pic.write(0, false, 0xC3);
        pulse(&mut pic, 1);
        pulse(&mut pic, 5);
        assert_eq!(pic.acknowledge(), 0x25, "after 3 became lowest, 5 comes before 1");
    }

    #[test]
    fn polling_acknowledges() {
        let mut pic = ready(1);
        pulse(&mut pic, 6);
        pic.write(0, false, 0x0C);
        assert_eq!(pic.read(0, false), 0x86);
        pic.write(0, false, 0x0C);
        assert_eq!(pic.read(0, false), 0x00);
    }

    #[test]
    fn special_mask_lets_lower_lines_through() {
        let mut pic = ready(1);
        pulse(&mut pic, 1);
        pic.acknowledge();
        pulse(&mut pic, 6);
        assert!(!pic.intr());
        pic.write(0, false, 0x68);
        pic.write(0, true, 0x02);
        assert_eq!(pic.acknowledge(), 0x26);
    }
}
