//! The VMX state of a processor.

use super::apic;
use super::cause::Cause;
use super::controls::{exit, primary, secondary};
use super::fields::{field, Field};
use super::reasons::reason;
use super::record::Record;
use super::vmcs::Vmcs;
use crate::cpu::bus_lock::{self, Locked};
use crate::cpu::exception::Event;
use crate::debug::breakpoints::World;

/// What RFLAGS.RF becomes in the guest-state area (SDM vol. 3, 28.3.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SavedRf {
    /// An instruction that exits.
    #[default]
    Clear,
    /// Faults, and exits by accesses to memory.
    Set,
    /// Everything else: as it is.
    Keep,
}

impl SavedRf {
    /// Of an exit by an access to memory; during the delivery of an event, which has RFLAGS as it would be pushed. An
    /// injected event leaves RF as it is, whatever its kind (SDM vol. 3, 27.6.1.1).
    pub fn of_access(vectoring: Option<&Event>) -> SavedRf {
        match vectoring {
            None => SavedRf::Set,
            Some(_) => SavedRf::Keep,
        }
    }
}

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
    /// It left a shadow stack prematurely busy.
    pub busy_shadow_stack: bool,
    pub rf: SavedRf,
    /// What in the VMCS or its tables made it happen.
    pub cause: Cause,
}

impl Exit {
    /// The guest-linear address, where the exit has one.
    #[inline(always)]
    pub fn linear(&self) -> Option<u64> {
        let always = [reason::EPT_VIOLATION, reason::SPP_RELATED_EVENT];
        (self.guest_linear != 0 || always.contains(&(self.reason as u16))).then_some(self.guest_linear)
    }

    /// The guest-physical address, where the exit has one.
    #[inline(always)]
    pub fn physical(&self) -> Option<u64> {
        let always = [
            reason::EPT_VIOLATION,
            reason::EPT_MISCONFIGURATION,
            reason::SPP_RELATED_EVENT,
        ];
        (self.guest_physical != 0 || always.contains(&(self.reason as u16))).then_some(self.guest_physical)
    }
}

/// The control words that are in force in a guest; words that are not activated are 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Controls {
    pub pin: u64,
    pub primary: u64,
    pub secondary: u64,
    pub tertiary: u64,
    pub exit: u64,
    pub secondary_exit: u64,
    pub entry: u64,
}

impl Controls {
    pub fn of(vmcs: &Vmcs) -> Controls {
        let primary = vmcs.get(field::PRIMARY_PROCESSOR_BASED_CONTROLS);
        let exit = vmcs.get(field::EXIT_CONTROLS);
        Controls {
            pin: vmcs.get(field::PIN_BASED_CONTROLS),
            primary,
            secondary: if primary & primary::ACTIVATE_SECONDARY_CONTROLS != 0 {
                vmcs.get(field::SECONDARY_PROCESSOR_BASED_CONTROLS)
            } else {
                0
            },
            tertiary: if primary & primary::ACTIVATE_TERTIARY_CONTROLS != 0 {
                vmcs.get(field::TERTIARY_PROCESSOR_BASED_CONTROLS)
            } else {
                0
            },
            exit,
            secondary_exit: if exit & exit::ACTIVATE_SECONDARY_CONTROLS != 0 {
                vmcs.get(field::SECONDARY_EXIT_CONTROLS)
            } else {
                0
            },
            entry: vmcs.get(field::ENTRY_CONTROLS),
        }
    }

    /// The VPID that translations are tagged with; 0 without VPIDs.
    pub fn vpid(&self, vmcs: &Vmcs) -> u16 {
        if self.secondary & secondary::ENABLE_VPID != 0 {
            vmcs.get(field::VIRTUAL_PROCESSOR_IDENTIFIER) as u16
        } else {
            0
        }
    }

    /// The EPT pointer; `None` without EPT.
    pub fn ept_pointer(&self, vmcs: &Vmcs) -> Option<u64> {
        (self.secondary & secondary::ENABLE_EPT != 0).then(|| vmcs.get(field::EPT_POINTER))
    }
}

/// RAX … R15 in the encoding's order.
pub type Registers = [u64; 16];

/// How many guests' registers are remembered.
const MOST_FROZEN: usize = 64;
/// Active VMCSs beyond this go back to memory, the longest active one first.
const MOST_ACTIVE: usize = 64;

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
    /// In a guest: what its VMCS said at VM entry.
    pub controls: Controls,
    /// In a guest with EPT: the EPT pointer in use.
    pub ept_pointer: Option<u64>,
    pub vpid: u16,
    /// The clock at which the VMX-preemption timer runs out.
    pub timer: Option<u64>,
    /// The virtual APIC.
    pub apic: apic::State,
    /// An MTF VM exit is pending.
    pub mtf_pending: bool,
    /// The guest paging structures of the walk under way lie on pages that EPT lets guest paging write to.
    pub paging_structures_writable: bool,
    /// Exceptions in a row, each raised by the delivery of the one before: there was no instruction boundary since.
    pub serial_exceptions: u64,
    /// The locked access of the last instruction that has asserted a bus lock: a VM exit is pending.
    pub bus_lock: Option<(Locked, bus_lock::Why)>,
    /// A supervisor shadow stack's token was acquired, and the frame on that stack is not pushed yet: the processor is at
    /// it, or a fault has ended it that is about to be delivered.
    pub token_acquired: bool,
    /// IRET has just ended blocking by NMI and has not completed yet.
    pub iret_unblocked: bool,
    /// The clock at the first and at the last PAUSE of a loop, since VM entry.
    pub pauses: Option<(u64, u64)>,
    /// VM entry or exit has gone through a list of MSRs since the run loop asked last.
    pub list_processed: bool,
    /// What happened, for those who ask why.
    pub record: Record,
    /// General-purpose registers, which VM exits and entries do not swap: the host's at the last VM entry, and the guests'
    /// at their last exits, by the address of the VMCS.
    host_registers: Registers,
    guest_registers: Vec<(u64, Registers)>,
}

impl VmxState {
    pub fn current(&self) -> Option<&Vmcs> {
        self.current.and_then(|index| self.active.get(index))
    }

    pub fn current_mut(&mut self) -> Option<&mut Vmcs> {
        self.current.and_then(|index| self.active.get_mut(index))
    }

    /// A field of the current VMCS; 0 without one.
    #[inline]
    pub fn get(&self, field: Field) -> u64 {
        self.current().map_or(0, |vmcs| vmcs.get(field))
    }

    /// The clock at which the VMX-preemption timer runs out, where one runs.
    pub fn deadline(&self) -> Option<u64> {
        self.timer
    }

    /// Whether the guest may run one instruction only before VMX wants to look.
    #[inline]
    pub fn single_steps(&self) -> bool {
        self.guest && self.controls.primary & primary::MONITOR_TRAP_FLAG != 0
    }

    /// Whether bus locks of the guest that runs cause VM exits.
    #[inline]
    pub fn detects_bus_locks(&self) -> bool {
        self.guest && self.controls.secondary & secondary::BUS_LOCK_DETECTION != 0
    }

    /// Whether the guest that runs has sub-page write permissions.
    #[inline]
    pub fn has_sub_pages(&self) -> bool {
        self.guest && self.controls.secondary & secondary::SUB_PAGE_WRITE_PERMISSIONS_FOR_EPT != 0
    }

    /// Removes and gives the active VMCS at `address`.
    pub fn deactivate(&mut self, address: u64) -> Option<Vmcs> {
        let at = self.active.iter().position(|vmcs| vmcs.address == address)?;
        let vmcs = self.active.remove(at);
        self.current = match self.current {
            Some(current) if current == at => None,
            Some(current) if current > at => Some(current - 1),
            other => other,
        };
        Some(vmcs)
    }

    /// Makes a VMCS that is active already the current one.
    pub fn make_current(&mut self, address: u64) -> bool {
        let found = self.active.iter().position(|vmcs| vmcs.address == address);
        if found.is_some() {
            self.current = found;
        }
        found.is_some()
    }

    /// Makes `vmcs` active and current. Gives a VMCS for which there is no more room, to be written to memory.
    pub fn activate(&mut self, vmcs: Vmcs) -> Option<Vmcs> {
        let evicted = (self.active.len() == MOST_ACTIVE).then(|| self.active.remove(0));
        self.current = Some(self.active.len());
        self.active.push(vmcs);
        evicted
    }

    /// Remembers the registers of the host, which stops running now.
    #[inline]
    pub fn freeze_host(&mut self, regs: &[u64; 256]) {
        if let Some(regs) = regs.first_chunk() {
            self.host_registers = *regs;
        }
    }

    /// Remembers the registers of the guest of the VMCS at `vmcs`, which stops running now.
    #[inline]
    pub fn freeze_guest(&mut self, vmcs: u64, regs: &[u64; 256]) {
        let at = self.guest_registers.iter().position(|it| it.0 == vmcs);
        let at = at.unwrap_or_else(|| {
            if self.guest_registers.len() == MOST_FROZEN {
                self.guest_registers.remove(0);
            }
            self.guest_registers.push((vmcs, [0; 16]));
            self.guest_registers.len() - 1
        });
        if let (Some((_, place)), Some(regs)) = (self.guest_registers.get_mut(at), regs.first_chunk()) {
            *place = *regs;
        }
    }

    /// The general-purpose registers of a suspended world as they were when it last ran.
    pub fn saved_registers(&self, world: World) -> Option<&Registers> {
        match world {
            World::Host => self.guest.then_some(&self.host_registers),
            World::Guest(address) => {
                let found = self.guest_registers.iter().find(|it| it.0 == address);
                found.map(|(_, registers)| registers)
            }
        }
    }
}
