//! The entries of the MSR lists that VM entry loads and VM exits store and load (SDM vol. 3, 27.4, 28.4 and
//! 28.6).

/// What a list is for; each forbids other MSRs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MsrListUse {
    EntryLoad,
    ExitStore,
    ExitLoad,
}

const IA32_BIOS_UPDT_TRIG: u32 = 0x79;
const IA32_BIOS_SIGN_ID: u32 = 0x8b;
const IA32_SMM_MONITOR_CTL: u32 = 0x9b;
const IA32_SMBASE: u32 = 0x9e;
const IA32_FS_BASE: u32 = 0xc000_0100;
const IA32_GS_BASE: u32 = 0xc000_0101;

/// What keeps an entry from being processed, whatever its value.
pub struct MsrListRule {
    /// Stable name, such as `msr_list.x2apic`.
    pub id: &'static str,
    /// The lists that it is about.
    pub lists: &'static [MsrListUse],
    /// What must hold.
    pub words: &'static str,
    forbids: fn(&Entry) -> bool,
}

/// An entry, but for the value.
struct Entry {
    index: u32,
    /// Bits 63:32.
    reserved: u32,
    in_smm: bool,
}

use MsrListUse::{EntryLoad, ExitLoad, ExitStore};
const LOADS: &[MsrListUse] = &[EntryLoad, ExitLoad];

/// In the order in which the first that applies is told. A load fails too where WRMSR of the value, a store where
/// RDMSR, would cause #GP.
pub static MSR_LIST: &[MsrListRule] = &[
    MsrListRule {
        id: "msr_list.reserved",
        lists: &[EntryLoad, ExitStore, ExitLoad],
        words: "bits 63:32 of the entry must be 0",
        forbids: |entry| entry.reserved != 0,
    },
    MsrListRule {
        id: "msr_list.fs_gs_base",
        lists: LOADS,
        words: "FS.base and GS.base are loaded from the VMCS itself",
        forbids: |entry| matches!(entry.index, IA32_FS_BASE | IA32_GS_BASE),
    },
    MsrListRule {
        id: "msr_list.bios_updt_trig",
        lists: LOADS,
        words: "a microcode update cannot be started from a list",
        forbids: |entry| entry.index == IA32_BIOS_UPDT_TRIG,
    },
    MsrListRule {
        id: "msr_list.bios_sign_id",
        lists: LOADS,
        words: "IA32_BIOS_SIGN_ID cannot be loaded from a list",
        forbids: |entry| entry.index == IA32_BIOS_SIGN_ID,
    },
    MsrListRule {
        id: "msr_list.x2apic",
        lists: &[EntryLoad, ExitStore, ExitLoad],
        words: "the MSRs of x2APIC mode, 0x800 to 0x8FF, cannot be in a list",
        forbids: |entry| matches!(entry.index, 0x800..=0x8ff),
    },
    MsrListRule {
        id: "msr_list.smm_monitor_ctl",
        lists: LOADS,
        words: "IA32_SMM_MONITOR_CTL can be written only in SMM",
        forbids: |entry| entry.index == IA32_SMM_MONITOR_CTL && !entry.in_smm,
    },
    MsrListRule {
        id: "msr_list.smbase",
        lists: &[ExitStore],
        words: "IA32_SMBASE can be read only in SMM",
        forbids: |entry| entry.index == IA32_SMBASE && !entry.in_smm,
    },
];

/// The rule that the list entry for MSR `index`, with `reserved` in its bits 63:32, breaks.
fn broken(list: MsrListUse, index: u32, reserved: u32, in_smm: bool) -> Option<&'static MsrListRule> {
    let entry = Entry {
        index,
        reserved,
        in_smm,
    };
    MSR_LIST
        .iter()
        .find(|rule| rule.lists.contains(&list) && (rule.forbids)(&entry))
}

/// Why the list entry for MSR `index`, with `reserved` in its bits 63:32, cannot be processed, whatever its
/// value; None if it can be tried.
pub fn msr_list_entry_problem(list: MsrListUse, index: u32, reserved: u32, in_smm: bool) -> Option<String> {
    let rule = broken(list, index, reserved, in_smm)?;
    let found = if reserved != 0 {
        format!("its bits 63:32 are {reserved:#x}")
    } else {
        format!("MSR {index:#x}")
    };
    Some(format!("{found}: {}", rule.words))
}

#[cfg(test)]
mod tests {
    use super::*;

    const IA32_LSTAR: u32 = 0xc000_0082;

    /// An entry that breaks each rule, and the nearest that does not.
    #[test]
    fn each_rule_is_broken_and_just_satisfied() {
        for (id, index, near) in [
            ("msr_list.reserved", (IA32_LSTAR, 1), (IA32_LSTAR, 0)),
            ("msr_list.fs_gs_base", (IA32_FS_BASE, 0), (IA32_FS_BASE - 1, 0)),
            ("msr_list.fs_gs_base", (IA32_GS_BASE, 0), (IA32_GS_BASE + 1, 0)),
            (
                "msr_list.bios_updt_trig",
                (IA32_BIOS_UPDT_TRIG, 0),
                (IA32_BIOS_UPDT_TRIG + 1, 0),
            ),
            (
                "msr_list.bios_sign_id",
                (IA32_BIOS_SIGN_ID, 0),
                (IA32_BIOS_SIGN_ID + 1, 0),
            ),
            ("msr_list.x2apic", (0x800, 0), (0x7ff, 0)),
            ("msr_list.x2apic", (0x8ff, 0), (0x900, 0)),
            (
                "msr_list.smm_monitor_ctl",
                (IA32_SMM_MONITOR_CTL, 0),
                (IA32_SMM_MONITOR_CTL + 1, 0),
            ),
            ("msr_list.smbase", (IA32_SMBASE, 0), (IA32_SMBASE + 1, 0)),
        ] {
            let rule = MSR_LIST.iter().find(|rule| rule.id == id).unwrap();
            for &list in rule.lists {
                let found = broken(list, index.0, index.1, false).map(|rule| rule.id);
                assert_eq!(found, Some(id), "{index:x?}");
                assert_eq!(
                    msr_list_entry_problem(list, near.0, near.1, false),
                    None,
                    "{near:x?}"
                );
            }
        }
        for (id, index) in [
            ("msr_list.smm_monitor_ctl", IA32_SMM_MONITOR_CTL),
            ("msr_list.smbase", IA32_SMBASE),
        ] {
            let rule = MSR_LIST.iter().find(|rule| rule.id == id).unwrap();
            assert_eq!(msr_list_entry_problem(rule.lists[0], index, 0, true), None);
        }
    }

    #[test]
    fn a_store_may_name_what_a_load_may_not() {
        for index in [IA32_GS_BASE, IA32_BIOS_SIGN_ID, IA32_SMM_MONITOR_CTL] {
            assert_eq!(msr_list_entry_problem(ExitStore, index, 0, false), None);
        }
    }
}
