//! VM-instruction error numbers (SDM vol. 3, 31.4) and the causes of a VMX abort (28.7).

/// A row of the table of VM-instruction errors or of VMX aborts.
#[derive(Debug)]
pub struct NumberedError {
    pub number: u32,
    pub text: &'static str,
}

macro_rules! numbered {
    ($(#[$doc:meta])* $module:ident $table:ident { $($number:literal $constant:ident $text:literal;)* }) => {
        $(#[$doc])*
        pub mod $module {
            $(#[doc = $text] pub const $constant: u32 = $number;)*
        }

        $(#[$doc])*
        pub static $table: &[NumberedError] = &[$(NumberedError { number: $number, text: $text }),*];
    };
}

numbered! {
    /// VM-instruction error numbers: the value that VMfailValid leaves in the VM-instruction error field.
    instruction_error INSTRUCTION_ERRORS {
        1 VMCALL_IN_ROOT "VMCALL executed in VMX root operation";
        2 VMCLEAR_INVALID_ADDRESS "VMCLEAR with invalid physical address";
        3 VMCLEAR_VMXON_POINTER "VMCLEAR with VMXON pointer";
        4 VMLAUNCH_NON_CLEAR "VMLAUNCH with a VMCS whose launch state is not clear";
        5 VMRESUME_NON_LAUNCHED "VMRESUME with a VMCS whose launch state is not launched";
        6 VMRESUME_AFTER_VMXOFF "VMRESUME after VMXOFF";
        7 ENTRY_INVALID_CONTROLS "VM entry with invalid control fields";
        8 ENTRY_INVALID_HOST_STATE "VM entry with invalid host-state fields";
        9 VMPTRLD_INVALID_ADDRESS "VMPTRLD with invalid physical address";
        10 VMPTRLD_VMXON_POINTER "VMPTRLD with VMXON pointer";
        11 VMPTRLD_WRONG_REVISION "VMPTRLD with incorrect VMCS revision identifier";
        12 UNSUPPORTED_FIELD "VMREAD or VMWRITE from or to an unsupported VMCS component";
        13 VMWRITE_READ_ONLY "VMWRITE to a read-only VMCS component";
        15 VMXON_IN_ROOT "VMXON executed in VMX root operation";
        16 ENTRY_INVALID_EXECUTIVE_VMCS "VM entry with invalid executive-VMCS pointer";
        17 ENTRY_EXECUTIVE_NON_LAUNCHED "VM entry with an executive VMCS that was not launched";
        18 ENTRY_EXECUTIVE_NOT_VMXON_POINTER
           "VM entry with executive-VMCS pointer not VMXON pointer, deactivating the dual-monitor treatment";
        19 VMCALL_NON_CLEAR "VMCALL with a VMCS whose launch state is not clear, activating the dual-monitor treatment";
        20 VMCALL_INVALID_EXIT_CONTROLS "VMCALL with invalid VM-exit control fields";
        22 VMCALL_WRONG_MSEG_REVISION "VMCALL with incorrect MSEG revision identifier";
        23 VMXOFF_DUAL_MONITOR "VMXOFF under dual-monitor treatment of SMIs and SMM";
        24 VMCALL_INVALID_SMM_MONITOR "VMCALL with invalid SMM-monitor features";
        25 ENTRY_INVALID_EXECUTIVE_CONTROLS
           "VM entry with invalid VM-execution control fields in the executive VMCS, returning from SMM";
        26 ENTRY_BLOCKED_BY_MOV_SS "VM entry with events blocked by MOV SS";
        28 INVEPT_INVVPID_INVALID_OPERAND "invalid operand to INVEPT or INVVPID";
    }
}

numbered! {
    /// VMX aborts: the value that the processor writes to offset 4 of the VMCS region before it shuts down.
    abort ABORTS {
        1 SAVING_GUEST_MSRS "a guest MSR could not be saved";
        2 HOST_PDPTES "the host's PDPTEs could not be loaded";
        3 CURRENT_VMCS_CORRUPT "the current VMCS was corrupted, so that the VM exit could not complete";
        4 LOADING_HOST_MSRS "a host MSR could not be loaded";
        5 MACHINE_CHECK "a machine-check event happened during the VM exit";
        6 FROM_64_BIT_TO_32_BIT
          "the logical processor was in IA-32e mode before the VM exit and the “host address-space size” \
           VM-exit control is 0";
    }
}

fn find(table: &'static [NumberedError], number: u64) -> Option<&'static str> {
    table
        .iter()
        .find(|row| u64::from(row.number) == number)
        .map(|row| row.text)
}

/// What a VM-instruction error number means.
pub fn instruction_error_text(number: u64) -> Option<&'static str> {
    find(INSTRUCTION_ERRORS, number)
}

/// What a VMX-abort indicator means.
pub fn abort_text(number: u64) -> Option<&'static str> {
    find(ABORTS, number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_texts_where_the_sdm_defines_them() {
        let defined: Vec<u64> = (0..40).filter(|&n| instruction_error_text(n).is_some()).collect();
        let gaps: Vec<u64> = (1..=28).filter(|n| !defined.contains(n)).collect();
        assert_eq!((gaps, defined.len()), (vec![14, 21, 27], 25));
        assert_eq!(
            instruction_error_text(7),
            Some("VM entry with invalid control fields")
        );
        assert_eq!((1..10).filter(|&n| abort_text(n).is_some()).count(), 6);
    }
}
