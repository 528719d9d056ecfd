//! The host-state area, loaded by VM exit (SDM vol. 3, 28.5).

use super::controls::exit;
use super::errors::abort;
use super::fields::field;
use super::guest_state::{pae_paging, CR0_KEPT};
use crate::cpu::bits::*;
use crate::cpu::segment::TableRegister;
use crate::cpu::{Activity, Cpu, Shadow, RSP};
use crate::platform::Bus;

/// Loads the host's state. The error is the cause of a VMX abort.
pub fn load(cpu: &mut Cpu, bus: &mut Bus) -> Result<(), u32> {
    let fixed = cpu.profile.capabilities().cr0().required;
    let cr4_fixed = cpu.profile.capabilities().cr4().required;
    let vmx = &mut cpu.vmx;
    let Some(vmcs) = vmx.current.and_then(|at| vmx.active.get_mut(at)) else {
        return Ok(());
    };
    let controls = &vmx.controls;
    let long = controls.exit & exit::HOST_ADDRESS_SPACE_SIZE != 0;
    cpu.seg.load(vmcs.host_segments(long));
    let vmcs = &*vmcs;
    let get = |field| vmcs.get(field);
    let kept = CR0_KEPT | fixed & !(CR0_PE | CR0_PG);
    cpu.cr0 = cpu.cr0 & kept | get(field::HOST_CR0) & !kept;
    cpu.cr3 = get(field::HOST_CR3);
    cpu.cr4 = cpu.cr4 & cr4_fixed | get(field::HOST_CR4) & !cr4_fixed;
    if long {
        cpu.cr4 |= CR4_PAE;
    } else {
        cpu.cr4 &= !CR4_PCIDE;
    }
    cpu.dr7 = 0x400;
    cpu.msr.debugctl = 0;
    cpu.msr.sysenter_cs = get(field::HOST_IA32_SYSENTER_CS);
    cpu.msr.sysenter_esp = get(field::HOST_IA32_SYSENTER_ESP);
    cpu.msr.sysenter_eip = get(field::HOST_IA32_SYSENTER_EIP);
    if controls.exit & exit::LOAD_CET_STATE != 0 {
        cpu.cet.supervisor = get(field::HOST_IA32_S_CET);
        cpu.cet.ssp = get(field::HOST_SSP);
        cpu.cet.interrupt_table = get(field::HOST_IA32_INTERRUPT_SSP_TABLE_ADDR);
    }
    let mode = EFER_LME | EFER_LMA;
    cpu.efer = cpu.efer & !mode | if long { mode } else { 0 };
    if controls.exit & exit::LOAD_IA32_EFER != 0 {
        cpu.efer = get(field::HOST_IA32_EFER);
    }
    if controls.exit & exit::LOAD_IA32_PAT != 0 {
        cpu.msr.pat = get(field::HOST_IA32_PAT);
    }
    if controls.exit & exit::LOAD_PKRS != 0 {
        cpu.msr.pkrs = get(field::HOST_IA32_PKRS);
    }
    cpu.gdtr = TableRegister {
        base: get(field::HOST_GDTR_BASE),
        limit: 0xffff,
    };
    cpu.idtr = TableRegister {
        base: get(field::HOST_IDTR_BASE),
        limit: 0xffff,
    };
    cpu.regs[RSP] = get(field::HOST_RSP);
    cpu.rip = get(field::HOST_RIP);
    cpu.flags.set(2);
    cpu.cpl = 0;
    cpu.activity = Activity::Active;
    cpu.shadow = Shadow::None;
    cpu.pending_debug = 0;
    if pae_paging(cpu) {
        return load_pdptes(cpu, bus);
    }
    Ok(())
}

/// The host's PDPTEs. A malformed one is a VMX abort (SDM vol. 3, 28.5.4).
fn load_pdptes(cpu: &mut Cpu, bus: &mut Bus) -> Result<(), u32> {
    const PRESENT: u64 = 1;
    let reserved = 0x1e6 | !((1u64 << cpu.maxphyaddr()) - 1);
    let table = cpu.cr3 & 0xffff_ffe0;
    for at in 0..4 {
        let entry = bus.read_physical(cpu.id, table + at * 8, 8);
        if entry & PRESENT != 0 && entry & reserved != 0 {
            return Err(abort::HOST_PDPTES);
        }
        cpu.pdpte[at as usize] = entry;
    }
    Ok(())
}
