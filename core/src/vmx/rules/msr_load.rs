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

/// Why the list entry for MSR `index`, with `reserved` in its bits 63:32, cannot be processed, whatever its
/// value; None if it can be tried. A load fails too where WRMSR of the value, a store where RDMSR, would
/// cause #GP.
pub fn msr_list_entry_problem(list: MsrListUse, index: u32, reserved: u32, in_smm: bool) -> Option<String> {
    if reserved != 0 {
        return Some(format!("bits 63:32 of the entry are {reserved:#x} and must be 0"));
    }
    let loads = list != MsrListUse::ExitStore;
    let why = match index {
        IA32_FS_BASE | IA32_GS_BASE if loads => "FS.base and GS.base are loaded from the VMCS itself",
        IA32_BIOS_UPDT_TRIG if loads => "a microcode update cannot be started from a list",
        IA32_BIOS_SIGN_ID if loads => "IA32_BIOS_SIGN_ID cannot be loaded from a list",
        0x800..=0x8ff => "the MSRs of x2APIC mode cannot be in a list",
        IA32_SMM_MONITOR_CTL if loads && !in_smm => "IA32_SMM_MONITOR_CTL can be written only in SMM",
        IA32_SMBASE if !loads && !in_smm => "IA32_SMBASE can be read only in SMM",
        _ => return None,
    };
    Some(format!("MSR {index:#x}: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_that_no_list_can_have() {
        let problem = |list, index, reserved| msr_list_entry_problem(list, index, reserved, false);
        for index in [
            IA32_FS_BASE,
            IA32_GS_BASE,
            0x808,
            IA32_SMM_MONITOR_CTL,
            IA32_BIOS_UPDT_TRIG,
        ] {
            assert!(
                problem(MsrListUse::EntryLoad, index, 0).is_some_and(|words| words.contains("0x")),
                "{index:#x}"
            );
            assert!(problem(MsrListUse::ExitLoad, index, 0).is_some(), "{index:#x}");
        }
        assert!(problem(MsrListUse::ExitStore, IA32_SMBASE, 0).is_some());
        assert!(problem(MsrListUse::ExitStore, 0x8ff, 0).is_some());
        assert!(problem(MsrListUse::EntryLoad, 0x10, 1).is_some_and(|words| words.contains("63:32")));
    }

    #[test]
    fn entries_that_can_be_tried() {
        for list in [MsrListUse::EntryLoad, MsrListUse::ExitStore, MsrListUse::ExitLoad] {
            assert_eq!(msr_list_entry_problem(list, 0xc000_0082, 0, false), None);
            assert_eq!(msr_list_entry_problem(list, 0x900, 0, false), None);
        }
        assert_eq!(
            msr_list_entry_problem(MsrListUse::ExitStore, IA32_GS_BASE, 0, false),
            None
        );
        assert_eq!(
            msr_list_entry_problem(MsrListUse::EntryLoad, IA32_SMM_MONITOR_CTL, 0, true),
            None
        );
    }
}
