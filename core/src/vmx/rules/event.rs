//! The event that a VM entry is to inject (SDM vol. 3, 25.8.3).

use super::Context;
use crate::vmx::fields::field;

/// VM-entry interruption information, taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    pub valid: bool,
    pub vector: u8,
    pub kind: u8,
    pub error_code: bool,
}

impl Event {
    pub const EXTERNAL_INTERRUPT: u8 = 0;
    pub const RESERVED: u8 = 1;
    pub const NMI: u8 = 2;
    pub const HARDWARE_EXCEPTION: u8 = 3;
    pub const SOFTWARE_INTERRUPT: u8 = 4;
    pub const PRIVILEGED_SOFTWARE_EXCEPTION: u8 = 5;
    pub const SOFTWARE_EXCEPTION: u8 = 6;
    pub const OTHER: u8 = 7;

    pub const fn from_info(info: u64) -> Event {
        Event {
            valid: info >> 31 & 1 != 0,
            vector: info as u8,
            kind: (info >> 8 & 7) as u8,
            error_code: info >> 11 & 1 != 0,
        }
    }

    /// Whether this event of the given kind is to be injected.
    pub const fn is(&self, kind: u8) -> bool {
        self.valid && self.kind == kind
    }

    /// Whether the event is one that an instruction raises, so that its delivery needs the instruction's
    /// length.
    pub const fn has_length(&self) -> bool {
        matches!(
            self.kind,
            Event::SOFTWARE_INTERRUPT | Event::PRIVILEGED_SOFTWARE_EXCEPTION | Event::SOFTWARE_EXCEPTION
        )
    }
}

impl Context<'_> {
    /// The event that this entry is to inject.
    #[inline(always)]
    pub fn event(&self) -> Event {
        Event::from_info(self.get(field::ENTRY_INTERRUPTION_INFO))
    }
}
