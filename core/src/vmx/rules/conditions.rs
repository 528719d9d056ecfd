//! The conditions under which rules apply.

use super::{Condition, Context};
use crate::vmx::controls::{exit, secondary};
use crate::vmx::fields::field::*;
use crate::vmx::fields::Field;

const SECONDARY: &[Field] = &[
    SECONDARY_PROCESSOR_BASED_CONTROLS,
    PRIMARY_PROCESSOR_BASED_CONTROLS,
];

fn pin<const BITS: u64>(context: &Context) -> bool {
    context.pin(BITS)
}

fn primary<const BITS: u64>(context: &Context) -> bool {
    context.primary(BITS)
}

fn secondary<const BITS: u64>(context: &Context) -> bool {
    context.secondary(BITS)
}

fn tertiary<const BITS: u64>(context: &Context) -> bool {
    context.tertiary(BITS)
}

fn entry<const BITS: u64>(context: &Context) -> bool {
    context.entry(BITS)
}

fn exit<const BITS: u64>(context: &Context) -> bool {
    context.exit(BITS)
}

/// A pin-based control is 1.
pub const fn if_pin<const BITS: u64>() -> Condition {
    Condition {
        fields: &[PIN_BASED_CONTROLS],
        holds: pin::<BITS>,
    }
}

/// A primary processor-based control is 1.
pub const fn if_primary<const BITS: u64>() -> Condition {
    Condition {
        fields: &[PRIMARY_PROCESSOR_BASED_CONTROLS],
        holds: primary::<BITS>,
    }
}

/// A secondary processor-based control is 1 and the secondary controls are activated.
pub const fn if_secondary<const BITS: u64>() -> Condition {
    Condition {
        fields: SECONDARY,
        holds: secondary::<BITS>,
    }
}

/// A tertiary processor-based control is 1 and the tertiary controls are activated.
pub const fn if_tertiary<const BITS: u64>() -> Condition {
    Condition {
        fields: &[
            TERTIARY_PROCESSOR_BASED_CONTROLS,
            PRIMARY_PROCESSOR_BASED_CONTROLS,
        ],
        holds: tertiary::<BITS>,
    }
}

/// A VM-entry control is 1.
pub const fn if_entry<const BITS: u64>() -> Condition {
    Condition {
        fields: &[ENTRY_CONTROLS],
        holds: entry::<BITS>,
    }
}

/// A VM-exit control is 1.
pub const fn if_exit<const BITS: u64>() -> Condition {
    Condition {
        fields: &[EXIT_CONTROLS],
        holds: exit::<BITS>,
    }
}

/// VM functions are enabled, EPTP switching among them.
pub const IF_EPTP_SWITCHING: Condition = Condition {
    fields: &[
        VM_FUNCTION_CONTROLS,
        SECONDARY_PROCESSOR_BASED_CONTROLS,
        PRIMARY_PROCESSOR_BASED_CONTROLS,
    ],
    holds: |c| c.secondary(secondary::ENABLE_VM_FUNCTIONS) && c.get(VM_FUNCTION_CONTROLS) & 1 != 0,
};

/// The guest will be in IA-32e mode.
pub const IF_IA32E_GUEST: Condition = Condition {
    fields: &[ENTRY_CONTROLS],
    holds: |c| c.ia32e_guest(),
};

/// The guest will not be in IA-32e mode.
pub const IF_NOT_IA32E_GUEST: Condition = Condition {
    fields: &[ENTRY_CONTROLS],
    holds: |c| !c.ia32e_guest(),
};

/// The host will be in 64-bit mode.
pub const IF_HOST_64: Condition = if_exit::<{ exit::HOST_ADDRESS_SPACE_SIZE }>();

/// The host will be in legacy protected mode.
pub const IF_HOST_32: Condition = Condition {
    fields: &[EXIT_CONTROLS],
    holds: |c| !c.host_64(),
};

/// The host will be in 64-bit mode, and its CET state is loaded.
pub const IF_HOST_64_WITH_CET: Condition =
    if_exit::<{ exit::LOAD_CET_STATE | exit::HOST_ADDRESS_SPACE_SIZE }>();

/// The host will be in legacy protected mode, and its CET state is loaded.
pub const IF_HOST_32_WITH_CET: Condition = Condition {
    fields: &[EXIT_CONTROLS],
    holds: |c| c.exit(exit::LOAD_CET_STATE) && !c.host_64(),
};

/// The guest will be in virtual-8086 mode.
pub const IF_VIRTUAL_8086: Condition = Condition {
    fields: &[GUEST_RFLAGS],
    holds: |c| c.virtual_8086(),
};

/// An event is to be injected.
pub const IF_EVENT: Condition = Condition {
    fields: &[ENTRY_INTERRUPTION_INFO],
    holds: |c| c.event().valid,
};

/// An event is to be injected with an error code.
pub const IF_ERROR_CODE: Condition = Condition {
    fields: &[ENTRY_INTERRUPTION_INFO],
    holds: |c| c.event().valid && c.event().error_code,
};
