//! The machine of gdbvmx: an x86-64 processor with VMX and its platform. `python` binds it; nothing else here knows
//! Python.

pub mod cpu;
pub mod debug;
pub mod machine;
pub mod mmu;
pub mod platform;
#[cfg(feature = "python")]
mod python;
pub mod vmx;
