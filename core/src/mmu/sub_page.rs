//! Sub-page write permissions (SDM vol. 3, 29.3.4): tables of their own, which allow writes to some of the 32 sub-pages
//! of a page that EPT does not let be written.

use super::paging::{Step, Tables};

/// A sub-page has 128 bytes.
pub const SUB_PAGE: u64 = 128;

/// Of an EPT PTE: writes to the page may be eligible for sub-page permissions.
pub const ELIGIBLE: u64 = 1 << 61;

const VALID: u64 = 1 << 0;
const RESERVED: u64 = 0xffe;
/// Of a vector: bit 2S is sub-page S's.
const VECTOR_RESERVED: u64 = 0xaaaa_aaaa_aaaa_aaaa;
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;

/// What the tables say to a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Permission {
    Allowed,
    /// The vector's bit is 0: an EPT violation.
    Denied,
    /// An entry is not valid.
    Miss,
    /// A reserved bit of an entry or of the vector is 1.
    Misconfigured,
}

/// Walks from the root table at host-physical `pointer` to the vector of guest-physical `address`. The step is the entry,
/// or the vector, that decided.
pub fn permission<T: Tables>(
    tables: &mut T,
    pointer: u64,
    maxphyaddr: u32,
    address: u64,
) -> Result<(Permission, Step), T::Error> {
    let reserved = RESERVED | !((1 << maxphyaddr) - 1);
    let mut table = pointer & ADDRESS;
    for level in [4, 3, 2] {
        let step = load(tables, table, level, address)?;
        if step.entry & VALID == 0 {
            return Ok((Permission::Miss, step));
        }
        if step.entry & reserved != 0 {
            return Ok((Permission::Misconfigured, step));
        }
        table = step.entry & ADDRESS;
    }
    let step = load(tables, table, 1, address)?;
    let allows = step.entry >> (2 * (address >> 7 & 31)) & 1 != 0;
    let permission = match (step.entry & VECTOR_RESERVED, allows) {
        (0, true) => Permission::Allowed,
        (0, false) => Permission::Denied,
        _ => Permission::Misconfigured,
    };
    Ok((permission, step))
}

/// The entry of `table` that `address` selects.
fn load<T: Tables>(tables: &mut T, table: u64, level: u8, address: u64) -> Result<Step, T::Error> {
    let at = table + (address >> (3 + 9 * u32::from(level)) & 0x1ff) * 8;
    let entry = tables.load(at, 8)?;
    let step = Step {
        level,
        address: at,
        entry,
    };
    tables.step(step);
    Ok(step)
}
