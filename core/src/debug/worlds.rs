//! Worlds: the host of a processor and each of its guests, whether they run or are suspended in a VMCS.

use std::borrow::Cow;

use super::breakpoints::World;
use super::registers::{Register, TABLE};
use crate::cpu::bits::{EFER_LMA, EFER_LME};
use crate::cpu::segment::{self, Rights};
use crate::cpu::Cpu;
use crate::machine::Machine;
use crate::vmx::controls::{entry, exit};
use crate::vmx::fields::field;
use crate::vmx::state::Controls;
use crate::vmx::vmcs::Vmcs;

/// Rights that a VM exit gives to the host's segments (SDM vol. 3, 28.5.2).
const HOST_CODE: u32 = 0xa09b;
const HOST_CODE_32: u32 = 0xc09b;
const HOST_DATA: u32 = 0xc093;
const HOST_TASK: u32 = 0x8b;

impl Machine {
    /// The worlds of a processor: its host, and each guest that was launched.
    pub fn worlds(&self, cpu: usize) -> Vec<World> {
        let guests = self.cpus[cpu].vmx.active.iter().filter(|vmcs| vmcs.launched);
        std::iter::once(World::Host)
            .chain(guests.map(|vmcs| World::Guest(vmcs.address)))
            .collect()
    }

    /// The processor as it is, or would be, in `world`; `None` if it has no such world.
    pub fn view(&self, cpu: usize, world: World) -> Option<Cow<'_, Cpu>> {
        let cpu = self.cpus.get(cpu)?;
        if cpu.world() == world {
            return Some(Cow::Borrowed(cpu));
        }
        let vmcs = match world {
            World::Host => cpu.vmx.current()?,
            World::Guest(address) => cpu.vmx.active.iter().find(|vmcs| vmcs.address == address)?,
        };
        let mut view = cpu.clone();
        let host = world == World::Host;
        for register in TABLE.iter() {
            let source = if host { register.host } else { register.guest };
            if let Some(field) = source {
                register.set(&mut view, vmcs.get(field) as u128);
            }
        }
        if let Some(regs) = cpu.vmx.saved_registers(world) {
            let rsp = view.regs[crate::cpu::RSP];
            view.regs[..16].copy_from_slice(regs);
            view.regs[crate::cpu::RSP] = rsp;
        }
        complete(&mut view, vmcs, host);
        Some(Cow::Owned(view))
    }

    /// Sets a register of a world: the processor's own, or the VMCS field that holds it. False where a suspended world
    /// has no place for it.
    pub fn set_register(&mut self, id: usize, world: World, register: &Register, value: u128) -> bool {
        let cpu = &mut self.cpus[id];
        if cpu.world() == world {
            register.set(cpu, value);
            cpu.refresh();
            return true;
        }
        let (address, source) = match world {
            World::Host => (cpu.vmx.current().map(|vmcs| vmcs.address), register.host),
            World::Guest(address) => (Some(address), register.guest),
        };
        let vmcs = cpu
            .vmx
            .active
            .iter_mut()
            .find(|vmcs| Some(vmcs.address) == address);
        match (vmcs, source) {
            (Some(vmcs), Some(field)) => {
                vmcs.set(field, value as u64);
                true
            }
            _ => false,
        }
    }
}

/// What a suspended world's VMCS does not hold as a field of its own.
fn complete(view: &mut Cpu, vmcs: &Vmcs, host: bool) {
    if host {
        let long = vmcs.get(field::EXIT_CONTROLS) & exit::HOST_ADDRESS_SPACE_SIZE != 0;
        view.efer = if long {
            view.efer | EFER_LMA | EFER_LME
        } else {
            view.efer & !(EFER_LMA | EFER_LME)
        };
        view.flags.set(2);
        for (index, slot) in view.seg.iter_mut().enumerate() {
            let rights = match index {
                segment::CS if long => HOST_CODE,
                segment::CS => HOST_CODE_32,
                segment::TR => HOST_TASK,
                segment::LDTR => Rights::UNUSABLE.0,
                _ if slot.selector == 0 => Rights::UNUSABLE.0,
                _ => HOST_DATA,
            };
            slot.rights = Rights(rights);
            slot.limit = if index == segment::TR { 0x67 } else { !0 };
        }
        view.vmx.guest = false;
        view.vmx.ept_pointer = None;
        view.cpl = 0;
    } else {
        let long = vmcs.get(field::ENTRY_CONTROLS) & entry::IA32E_MODE_GUEST != 0;
        view.efer = if long {
            view.efer | EFER_LMA | EFER_LME
        } else {
            view.efer & !EFER_LMA
        };
        view.vmx.guest = true;
        view.vmx.controls = Controls::of(vmcs);
        view.vmx.ept_pointer = view.vmx.controls.ept_pointer(vmcs);
        view.vmx.current = view.vmx.active.iter().position(|it| it.address == vmcs.address);
        view.cpl = view.seg[segment::SS].rights.dpl();
        for (entry, source) in [
            field::GUEST_PDPTE0,
            field::GUEST_PDPTE1,
            field::GUEST_PDPTE2,
            field::GUEST_PDPTE3,
        ]
        .into_iter()
        .enumerate()
        {
            view.pdpte[entry] = vmcs.get(source);
        }
    }
    view.update_mode();
}
