//! Checks that serve several rules. Their subject is the rule's first field.

use super::{found, Check};

/// The address of a 4-KByte structure.
pub const PAGE_ALIGNED: Check = Check {
    holds: |c, f| c.get(f[0]) & 0xfff == 0,
    words: |c, f| {
        format!(
            "{}; bits 11:0 must be 0, as the structure is aligned to 4 KBytes",
            found(c, f[0])
        )
    },
};

/// The address of a list of 16-byte entries.
pub const ALIGNED_16: Check = Check {
    holds: |c, f| c.get(f[0]) & 15 == 0,
    words: |c, f| {
        format!(
            "{}; bits 3:0 must be 0, as the list is aligned to 16 bytes",
            found(c, f[0])
        )
    },
};

/// The address of a structure in physical memory.
pub const IN_PHYSICAL_WIDTH: Check = Check {
    holds: |c, f| c.get(f[0]) & c.address_reserved() == 0,
    words: |c, f| {
        let width = c.address_reserved().trailing_zeros();
        format!(
            "{}; bits 63:{width} must be 0, as physical addresses have {width} bits",
            found(c, f[0])
        )
    },
};

/// The last byte of a list of 16-byte entries; the fields are its address and its count. An address that is
/// itself too high has a rule of its own.
pub const LIST_IN_PHYSICAL_WIDTH: Check = Check {
    holds: |c, f| {
        let last = u128::from(c.get(f[0])) + u128::from(c.get(f[1])) * 16 - 1;
        last >> c.address_reserved().trailing_zeros() == 0 || c.get(f[0]) & c.address_reserved() != 0
    },
    words: |c, f| {
        let last = u128::from(c.get(f[0])) + u128::from(c.get(f[1])) * 16 - 1;
        let width = c.address_reserved().trailing_zeros();
        format!(
            "{} and {}, so the list ends at {last:#x}; physical addresses have {width} bits",
            found(c, f[0]),
            found(c, f[1])
        )
    },
};

/// A linear address.
pub const CANONICAL: Check = Check {
    holds: |c, f| c.is_canonical(c.get(f[0])),
    words: |c, f| {
        let top = c.environment.linear_address_width - 1;
        format!(
            "{}; it must be canonical: bits 63:{top} all 0 or all 1",
            found(c, f[0])
        )
    },
};

/// A linear address that may have gone one past the lower half: bit N-1 may differ from those above it, where linear
/// addresses have N bits.
pub const CANONICAL_OR_NEXT: Check = Check {
    holds: |c, f| matches!((c.get(f[0]) as i64) >> c.environment.linear_address_width, 0 | -1),
    words: |c, f| {
        let width = c.environment.linear_address_width;
        format!(
            "{}; bits 63:{width} must be all 0 or all 1, as linear addresses have {width} bits",
            found(c, f[0])
        )
    },
};

/// CR3: nothing beyond the physical-address width.
pub const CR3_IN_WIDTH: Check = Check {
    holds: |c, f| c.get(f[0]) & c.beyond_width() == 0,
    words: |c, f| {
        let width = c.environment.physical_address_width;
        format!(
            "{}; bits 63:{width} must be 0, as physical addresses have {width} bits",
            found(c, f[0])
        )
    },
};

/// Bits 63:32.
pub const UPPER_HALF_CLEAR: Check = Check {
    holds: |c, f| c.get(f[0]) >> 32 == 0,
    words: |c, f| format!("{}; bits 63:32 must be 0", found(c, f[0])),
};

/// IA32_PAT.
pub const PAT_TYPES: Check = Check {
    holds: |c, f| {
        c.get(f[0])
            .to_le_bytes()
            .iter()
            .all(|&entry| PAT_ENTRY_VALUES >> entry.min(63) & 1 != 0)
    },
    words: |c, f| {
        let entries = c.get(f[0]).to_le_bytes();
        let bad = entries
            .iter()
            .enumerate()
            .filter(|(_, &entry)| PAT_ENTRY_VALUES >> entry.min(63) & 1 == 0);
        let bad: Vec<String> = bad.map(|(i, entry)| format!("PA{i} is {entry:#x}")).collect();
        format!(
            "{}; each byte must be 0, 1, 4, 5, 6 or 7, but {}",
            found(c, f[0]),
            bad.join(", ")
        )
    },
};

/// A bit for each memory type that an entry of IA32_PAT may hold: UC, WC, WT, WP, WB and UC-.
const PAT_ENTRY_VALUES: u64 = 0b1111_0011;

/// IA32_EFER, but for LMA and LME.
pub const EFER_RESERVED: Check = Check {
    holds: |c, f| c.get(f[0]) & c.environment.efer_reserved == 0,
    words: |c, f| {
        let bad = c.get(f[0]) & c.environment.efer_reserved;
        format!(
            "{}; the bits {bad:#x} are reserved on this processor and must be 0",
            found(c, f[0])
        )
    },
};

/// IA32_PERF_GLOBAL_CTRL.
pub const PERF_GLOBAL_CTRL_RESERVED: Check = Check {
    holds: |c, f| c.get(f[0]) & c.environment.perf_global_ctrl_reserved == 0,
    words: |c, f| {
        let bad = c.get(f[0]) & c.environment.perf_global_ctrl_reserved;
        format!(
            "{}; the bits {bad:#x} belong to no counter of this processor and must be 0",
            found(c, f[0])
        )
    },
};

/// IA32_S_CET: reserved bits, and TRACKER with SUPPRESS.
pub const S_CET_RESERVED: Check = Check {
    holds: |c, f| {
        let value = c.get(f[0]);
        value & 0x3c0 == 0 && value >> 10 & 3 != 3
    },
    words: |c, f| {
        format!(
            "{}; bits 9:6 must be 0, and bits 10 and 11 must not both be 1",
            found(c, f[0])
        )
    },
};

/// A shadow-stack pointer.
pub const SSP_ALIGNED: Check = Check {
    holds: |c, f| c.get(f[0]) & 3 == 0,
    words: |c, f| format!("{}; bits 1:0 must be 0", found(c, f[0])),
};

/// CR4.CET with CR0.WP; the fields are CR4 and CR0.
pub const CET_NEEDS_WP: Check = Check {
    holds: |c, f| c.get(f[0]) >> 23 & 1 == 0 || c.get(f[1]) >> 16 & 1 != 0,
    words: |c, f| {
        format!(
            "{} and {}; CET (bit 23 of CR4) may be 1 only if WP (bit 16 of CR0) is",
            found(c, f[0]),
            found(c, f[1])
        )
    },
};
