//! VMX: fields, capabilities and entry rules; instructions, entry and exit.
//!
//! Section numbers are of volume 3 of the SDM as in its editions of 2023 and 2024, where chapters 24 to 31 are on VMX.
//! In older editions each of these chapters has a number one less.

pub mod boundary;
pub mod capability;
pub mod controls;
pub mod cpuid_features;
pub mod describe;
pub mod errors;
pub mod exit;
pub mod fields;
pub mod honoured;
pub mod intercept;
pub mod profile;
pub mod qualification;
pub mod reasons;
pub mod rules;
pub mod state;
pub mod vmcs;

pub use state::{Exit, VmxState};
