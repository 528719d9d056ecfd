//! The VMX state of a processor.

use super::vmcs::Vmcs;
use crate::cpu::exception::Event;
use crate::debug::breakpoints::World;

/// A VM exit that an instruction or event asks for; `Stop::Exit` speaks of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Exit {
    /// Basic exit reason.
    pub reason: u32,
    pub qualification: u64,
    pub instruction_length: u32,
    pub instruction_info: u32,
    pub guest_linear: u64,
    pub guest_physical: u64,
    pub interruption_info: u32,
    pub interruption_error_code: u32,
}

#[derive(Clone, Default)]
pub struct VmxState {
    /// The VMXON region's address, in VMX operation.
    pub vmxon: Option<u64>,
    /// VMX non-root operation.
    pub guest: bool,
    /// Active VMCSs; the processor holds their fields.
    pub active: Vec<Vmcs>,
    /// The current one, as an index into `active`.
    pub current: Option<usize>,
    /// The event that is being delivered: an exit now records it as IDT-vectoring information.
    pub vectoring: Option<Event>,
    /// The exit to take.
    pub exit: Exit,
}

impl VmxState {
    pub fn current(&self) -> Option<&Vmcs> {
        self.current.and_then(|index| self.active.get(index))
    }

    /// The general-purpose registers of a suspended world as they were when it last ran.
    pub fn saved_registers(&self, _world: World) -> Option<&[u64; 16]> {
        None
    }

    /// The clock at which the VMX-preemption timer runs out.
    pub fn deadline(&self) -> Option<u64> {
        None
    }
}
