//! VM functions (SDM vol. 3, 26.5.6): EPTP switching.

use super::cause::Cause;
use super::controls::{secondary, vm_function};
use super::fail::refuse;
use super::fields::field;
use super::reasons::reason;
use super::record::Refusal;
use super::state::Exit;
use crate::cpu::insn::Insn;
use crate::cpu::{Cpu, Done, Stop, RAX, RCX};
use crate::mmu::ept;
use crate::platform::Bus;

/// Entries of an EPTP list.
const LIST_LENGTH: u32 = 512;

/// VMFUNC in a guest.
pub fn run(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn) -> Done {
    let (function, parameter) = (cpu.regs[RAX] as u32, cpu.regs[RCX] as u32);
    if cpu.vmx.controls.secondary & secondary::ENABLE_VM_FUNCTIONS == 0 || function >= 64 {
        return Err(refuse(cpu, bus, insn, "VMFUNC", Refusal::NotOffered));
    }
    let enabled = cpu.vmx.get(field::VM_FUNCTION_CONTROLS) >> function & 1 != 0;
    if enabled && 1 << function == vm_function::EPTP_SWITCHING && switch(cpu, bus, parameter) {
        return Err(Stop::Sync);
    }
    cpu.vmx.exit = Exit {
        reason: reason::VMFUNC as u32,
        instruction_length: insn.length as u32,
        cause: Cause::VmFunction { function, parameter },
        ..Exit::default()
    };
    Err(Stop::Exit)
}

/// False where there is no such entry or it is no valid EPT pointer.
fn switch(cpu: &mut Cpu, bus: &mut Bus, index: u32) -> bool {
    if index >= LIST_LENGTH {
        return false;
    }
    let list = cpu.vmx.get(field::EPTP_LIST_ADDRESS);
    let pointer = bus.read_physical(cpu.id, list + index as u64 * 8, 8);
    if !ept::pointer_is_valid(cpu.profile.capabilities(), cpu.maxphyaddr(), pointer) {
        return false;
    }
    let exceptions = cpu.vmx.controls.secondary & secondary::EPT_VIOLATION_VE != 0;
    if let Some(vmcs) = cpu.vmx.current_mut() {
        vmcs.set(field::EPT_POINTER, pointer);
        if exceptions {
            vmcs.set(field::EPTP_INDEX, index as u64);
        }
    }
    cpu.vmx.ept_pointer = Some(pointer);
    cpu.update_space();
    true
}
