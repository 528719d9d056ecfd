//! VMX: fields, capabilities and entry rules; instructions, entry and exit.
//!
//! Section numbers are of volume 3 of the SDM as in its editions of 2023 and 2024, where chapters 24 to 31
//! are on VMX. In older editions each of these chapters has a number one less.

pub mod adopt;
pub mod apic;
pub mod boundary;
pub mod capability;
pub mod cause;
pub mod controls;
pub mod cpuid_features;
pub mod describe;
pub mod entry;
pub mod errors;
pub mod exit;
pub mod explain;
pub mod fail;
pub mod field_access;
pub mod fields;
pub mod force;
pub mod guest_state;
pub mod honoured;
pub mod host_state;
mod inferred;
pub mod instructions;
pub mod intercept;
pub mod invalidate;
pub mod msr_list;
pub mod operand;
pub mod page_log;
pub mod profile;
pub mod qualification;
pub mod reasons;
pub mod record;
pub mod rules;
pub mod segments;
pub mod shadow;
pub mod state;
#[cfg(test)]
mod tests;
pub mod vmcs;
pub mod vmfunc;

pub use state::{Exit, VmxState};
