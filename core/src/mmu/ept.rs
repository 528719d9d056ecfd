//! Extended page tables (SDM vol. 3, 29.3): the second translation of a guest.

use super::paging::{Kind, Leaf};
use crate::cpu::{Cpu, Stop};
use crate::platform::Bus;

/// A guest-physical page translated, and what the translation allows without a further look.
#[derive(Clone, Copy, Debug)]
pub struct Mapped {
    /// Host-physical.
    pub physical: u64,
    pub read: bool,
    pub write: bool,
    pub fetch: bool,
}

/// Translates the guest-physical address of a final access.
pub fn translate(
    _cpu: &mut Cpu,
    _bus: &mut Bus,
    physical: u64,
    _linear: u64,
    _kind: Kind,
    _leaf: &Leaf,
) -> Result<Mapped, Stop> {
    Ok(Mapped {
        physical,
        read: true,
        write: true,
        fetch: true,
    })
}

/// Translates the guest-physical address of a paging-structure entry.
pub fn translate_table(
    _cpu: &mut Cpu,
    _bus: &mut Bus,
    physical: u64,
    _linear: u64,
    _write: bool,
) -> Result<u64, Stop> {
    Ok(physical)
}
