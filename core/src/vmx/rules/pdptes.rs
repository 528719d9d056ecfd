//! Checks on the page-directory-pointer-table entries of a guest with PAE paging (SDM vol. 3, 27.3.1.6).

use super::guest::uses_ept;
use super::{found, rules, Check, Condition, Context, Outcome};
use crate::vmx::fields::{field::*, Field};

const OUTCOME: Outcome = Outcome::EntryFailure(2);

const CR0_PG: u64 = 1 << 31;
const CR4_PAE: u64 = 1 << 5;

/// Fields that say whether the guest will use PAE paging, and with EPT.
const PAGING: &[Field] = &[
    GUEST_CR0,
    GUEST_CR4,
    ENTRY_CONTROLS,
    SECONDARY_PROCESSOR_BASED_CONTROLS,
    PRIMARY_PROCESSOR_BASED_CONTROLS,
];

fn uses_pae_paging(c: &Context) -> bool {
    !c.ia32e_guest() && c.get(GUEST_CR0) & CR0_PG != 0 && c.get(GUEST_CR4) & CR4_PAE != 0
}

/// With EPT, VM entry takes the entries from the guest-state area.
const IF_IN_FIELDS: Condition = Condition {
    fields: PAGING,
    holds: |c| uses_pae_paging(c) && uses_ept(c),
};

/// Without EPT, it takes them from the table that CR3 points to.
const IF_IN_MEMORY: Condition = Condition {
    fields: PAGING,
    holds: |c| uses_pae_paging(c) && !uses_ept(c),
};

/// The bits of an entry that must be 0 if it is present: 2:1, 8:5 and those beyond the physical-address width
/// (SDM vol. 3, 4.4.1).
fn reserved(c: &Context) -> u64 {
    0x1e6 | c.beyond_width()
}

fn valid(c: &Context, entry: u64) -> bool {
    entry & 1 == 0 || entry & reserved(c) == 0
}

const ENTRY: Check = Check {
    holds: |c, f| valid(c, c.get(f[0])),
    words: |c, f| {
        format!(
            "{}; in a present entry (bit 0) bits 2:1, 8:5 and 63:{} must be 0",
            found(c, f[0]),
            c.environment.physical_address_width
        )
    },
};

/// The table that CR3 points to. Memory that is not there reads as all 1.
fn in_memory(c: &Context) -> [u64; 4] {
    let table = c.get(GUEST_CR3) & 0xffff_ffe0;
    [0, 8, 16, 24].map(|offset| (c.environment.read_physical)(table + offset).unwrap_or(u64::MAX))
}

rules! {
    /// The entries in the guest-state area.
    IN_FIELDS "27.3.1.6" OUTCOME;
    "guest.pdpte0.reserved", [GUEST_PDPTE0] if IF_IN_FIELDS, ENTRY;
    "guest.pdpte1.reserved", [GUEST_PDPTE1] if IF_IN_FIELDS, ENTRY;
    "guest.pdpte2.reserved", [GUEST_PDPTE2] if IF_IN_FIELDS, ENTRY;
    "guest.pdpte3.reserved", [GUEST_PDPTE3] if IF_IN_FIELDS, ENTRY;
}

rules! {
    /// The entries in memory.
    IN_MEMORY "27.3.1.6" OUTCOME;
    "guest.cr3.pdptes", [GUEST_CR3] if IF_IN_MEMORY, Check {
        holds: |c, _| in_memory(c).iter().all(|&entry| valid(c, entry)),
        words: |c, f| {
            let entries = in_memory(c);
            let bad = entries.iter().enumerate().filter(|(_, &entry)| !valid(c, entry));
            let bad: Vec<String> = bad.map(|(i, entry)| format!("PDPTE{i} is {entry:#x}")).collect();
            format!(
                "{}, and in the table there {}; in a present entry (bit 0) bits 2:1, 8:5 and 63:{} must be 0",
                found(c, f[0]), bad.join(", "), c.environment.physical_address_width
            )
        },
    };
}
