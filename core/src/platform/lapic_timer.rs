//! The local APIC's timer (SDM vol. 3, "APIC Timer"): one-shot, periodic, TSC deadline.
//!
//! Its input is one count a tick of the machine's clock, before the divider. Nothing ticks here: a running count is what was
//! left at a known moment, and the rest follows from the clock.

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    #[default]
    OneShot,
    Periodic,
    TscDeadline,
    /// The reserved encoding: the timer does nothing.
    None,
}

impl Mode {
    pub fn from_lvt(lvt: u32) -> Self {
        [Mode::OneShot, Mode::Periodic, Mode::TscDeadline, Mode::None][(lvt >> 17 & 3) as usize]
    }
}

#[derive(Clone, Default)]
pub struct Timer {
    mode: Mode,
    divide: u32,
    initial: u32,
    /// Counts left at the moment `since`; 0 where the timer is stopped.
    left: u32,
    since: u64,
    /// IA32_TSC_DEADLINE: 0 is not armed.
    deadline: u64,
}

impl Timer {
    /// The machine's clock when the timer next expires.
    #[inline]
    pub fn next_deadline(&self, tsc_offset: u64) -> Option<u64> {
        // The processors ask all the time, and mostly it is stopped.
        if self.left == 0 && self.deadline == 0 {
            return None;
        }
        match self.mode {
            Mode::OneShot | Mode::Periodic if self.left > 0 => {
                Some(self.since.saturating_add(u64::from(self.left) << self.shift()))
            }
            Mode::TscDeadline if self.deadline > 0 => {
                // The offset is signed: software may have set the TSC back.
                let due = i128::from(self.deadline) - i128::from(tsc_offset as i64);
                Some(due.clamp(0, u64::MAX.into()) as u64)
            }
            _ => None,
        }
    }

    /// Does what is due at `clock`; says whether the timer expired (several periods that went by count once).
    pub fn expire(&mut self, clock: u64, tsc_offset: u64) -> bool {
        let Some(due) = self.next_deadline(tsc_offset).filter(|due| *due <= clock) else {
            return false;
        };
        match self.mode {
            Mode::Periodic if self.initial > 0 => {
                let period = u64::from(self.initial) << self.shift();
                self.since = due + (clock - due) / period * period;
                self.left = self.initial;
            }
            Mode::TscDeadline => self.deadline = 0,
            _ => self.left = 0,
        }
        true
    }

    /// A change to or from TSC-deadline mode disarms the timer.
    pub fn set_mode(&mut self, mode: Mode) {
        let by_tsc = |mode| matches!(mode, Mode::TscDeadline | Mode::None);
        if by_tsc(mode) != by_tsc(self.mode) {
            self.left = 0;
            self.deadline = 0;
        }
        self.mode = mode;
    }

    pub fn initial_count(&self) -> u32 {
        self.initial
    }

    pub fn set_initial_count(&mut self, value: u32, clock: u64) {
        if matches!(self.mode, Mode::OneShot | Mode::Periodic) {
            self.initial = value;
            self.left = value;
            self.since = clock;
        }
    }

    pub fn current_count(&self, clock: u64) -> u32 {
        match self.mode {
            Mode::OneShot | Mode::Periodic => {
                let counted = clock.saturating_sub(self.since) >> self.shift();
                u32::try_from(u64::from(self.left).saturating_sub(counted)).unwrap_or(0)
            }
            _ => 0,
        }
    }

    pub fn divide(&self) -> u32 {
        self.divide
    }

    /// A new divider rules what is left from here on.
    pub fn set_divide(&mut self, value: u32, clock: u64) {
        self.left = self.current_count(clock);
        self.since = clock;
        self.divide = value;
    }

    /// Bits 3, 1 and 0 give 2, 4, 8 … 128, and 1 for 0b111.
    fn shift(&self) -> u32 {
        ((self.divide & 3 | self.divide >> 1 & 4) + 1) & 7
    }

    pub fn tsc_deadline(&self) -> u64 {
        self.deadline
    }

    /// Writes IA32_TSC_DEADLINE: ignored in the other modes.
    pub fn set_tsc_deadline(&mut self, value: u64) {
        if self.mode == Mode::TscDeadline {
            self.deadline = value;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn running(mode: u32, count: u32) -> Timer {
        let mut timer = Timer::default();
        timer.set_mode(Mode::from_lvt(mode << 17));
        timer.set_divide(0xB, 0);
        timer.set_initial_count(count, 100);
        timer
    }

    #[test]
    fn one_shot_expires_once() {
        let mut timer = running(0, 50);
        assert_eq!(timer.next_deadline(0), Some(150));
        assert_eq!(timer.current_count(120), 30);
        assert!(!timer.expire(149, 0));
        assert!(timer.expire(150, 0));
        assert!(!timer.expire(1000, 0));
        assert_eq!((timer.current_count(1000), timer.initial_count()), (0, 50));
    }

    #[test]
    fn periodic_keeps_its_phase() {
        let mut timer = running(1, 50);
        assert!(timer.expire(150, 0));
        assert_eq!(timer.next_deadline(0), Some(200));
        assert!(timer.expire(333, 0), "three periods at once are one interrupt");
        assert_eq!(timer.next_deadline(0), Some(350));
        assert_eq!(timer.current_count(333), 17);
    }

    #[test]
    fn dividers() {
        let mut timer = running(0, 64);
        for (divide, by) in [
            (0, 2),
            (1, 4),
            (2, 8),
            (3, 16),
            (8, 32),
            (9, 64),
            (10, 128),
            (11, 1),
        ] {
            timer.set_divide(divide, 0);
            timer.set_initial_count(64, 0);
            assert_eq!(timer.next_deadline(0), Some(64 * by));
        }
        timer.set_divide(1, 24);
        assert_eq!(
            timer.current_count(24 + 16),
            36,
            "40 were left, 16 ticks are 4 counts"
        );
    }

    #[test]
    fn tsc_deadline_follows_the_tsc() {
        let mut timer = running(2, 50);
        assert_eq!(
            timer.initial_count(),
            0,
            "the initial count is not written in this mode"
        );
        timer.set_tsc_deadline(5000);
        assert_eq!(timer.next_deadline(1000), Some(4000));
        assert!(!timer.expire(3999, 1000));
        assert!(timer.expire(4000, 1000));
        assert_eq!(timer.tsc_deadline(), 0);
        timer.set_tsc_deadline(10);
        assert_eq!(timer.next_deadline(1000), Some(0), "already over");
        assert_eq!(
            timer.next_deadline(0u64.wrapping_sub(50)),
            Some(60),
            "a TSC set back"
        );
    }

    #[test]
    fn changing_to_deadline_mode_disarms_but_periodic_does_not() {
        let mut timer = running(0, 50);
        timer.set_mode(Mode::Periodic);
        assert_eq!(timer.current_count(120), 30);
        timer.set_mode(Mode::TscDeadline);
        assert_eq!(timer.next_deadline(0), None);
        timer.set_mode(Mode::OneShot);
        assert_eq!(timer.next_deadline(0), None);
    }
}
