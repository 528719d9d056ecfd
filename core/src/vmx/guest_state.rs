//! The guest-state area: loaded by VM entry (SDM vol. 3, 27.3.2), saved by VM exit (28.3).

use super::controls::{entry, exit, Word};
use super::fields::{field, Field};
use super::state::{Controls, SavedRf};
use super::vmcs::Vmcs;
use crate::cpu::bits::*;
use crate::cpu::segment::{TableRegister, SS};
use crate::cpu::{flags, Activity, Cpu, Shadow, RSP};

pub static PDPTES: [Field; 4] = [
    field::GUEST_PDPTE0,
    field::GUEST_PDPTE1,
    field::GUEST_PDPTE2,
    field::GUEST_PDPTE3,
];

/// Bits of CR0 that VM entries and exits leave alone: ET, CD, NW and the reserved ones.
pub const CR0_KEPT: u64 = CR0_ET | CR0_CD | CR0_NW | 0xffff_ffff_0000_0000 | 0x1ff8_0000 | 1 << 17 | 0xffc0;

/// Bits of the interruptibility state.
const BLOCKING_BY_STI: u64 = 1 << 0;
const BLOCKING_BY_MOV_SS: u64 = 1 << 1;
const BLOCKING_BY_NMI: u64 = 1 << 3;

/// Bits of the pending debug exceptions: B3 to B0, enabled breakpoint, BS.
const PENDING_CONDITIONS: u64 = 0xf;
pub const PENDING_ENABLED: u64 = 1 << 12;
const PENDING_SINGLE_STEP: u64 = 1 << 14;
const PENDING_ANY: u64 = PENDING_ENABLED | PENDING_SINGLE_STEP | 1 << 16 | 1 << 11;

const DR7_ALWAYS: u64 = 1 << 10;
const DR7_NEVER: u64 = 1 << 12 | 1 << 14 | 1 << 15;

/// Loads registers and non-register state, but for the PDPTEs and what an injected event decides.
pub fn load(cpu: &mut Cpu) {
    let vmx = &mut cpu.vmx;
    let Some(vmcs) = vmx.current.and_then(|at| vmx.active.get_mut(at)) else {
        return;
    };
    let controls = &vmx.controls;
    cpu.seg.load(vmcs.guest_segments());
    let vmcs = &*vmcs;
    let get = |field| vmcs.get(field);
    cpu.cr0 = cpu.cr0 & CR0_KEPT | get(field::GUEST_CR0) & !CR0_KEPT;
    cpu.cr3 = get(field::GUEST_CR3);
    cpu.cr4 = get(field::GUEST_CR4);
    if controls.entry & entry::LOAD_DEBUG_CONTROLS != 0 {
        cpu.dr7 = get(field::GUEST_DR7) & 0xffff_ffff & !DR7_NEVER | DR7_ALWAYS;
        cpu.msr.debugctl = get(field::GUEST_IA32_DEBUGCTL);
    }
    cpu.msr.sysenter_cs = get(field::GUEST_IA32_SYSENTER_CS);
    cpu.msr.sysenter_esp = get(field::GUEST_IA32_SYSENTER_ESP);
    cpu.msr.sysenter_eip = get(field::GUEST_IA32_SYSENTER_EIP);
    if controls.entry & entry::LOAD_CET_STATE != 0 {
        cpu.cet.supervisor = get(field::GUEST_IA32_S_CET);
        cpu.cet.ssp = get(field::GUEST_SSP);
        cpu.cet.interrupt_table = get(field::GUEST_IA32_INTERRUPT_SSP_TABLE_ADDR);
    }
    cpu.efer = efer(cpu.efer, vmcs, controls);
    if controls.entry & entry::LOAD_IA32_PAT != 0 {
        cpu.msr.pat = get(field::GUEST_IA32_PAT);
    }
    if controls.entry & entry::LOAD_PKRS != 0 {
        cpu.msr.pkrs = get(field::GUEST_IA32_PKRS);
    }
    cpu.cpl = cpu.seg[SS].rights.dpl();
    cpu.gdtr = TableRegister {
        base: get(field::GUEST_GDTR_BASE),
        limit: get(field::GUEST_GDTR_LIMIT) as u16,
    };
    cpu.idtr = TableRegister {
        base: get(field::GUEST_IDTR_BASE),
        limit: get(field::GUEST_IDTR_LIMIT) as u16,
    };
    cpu.regs[RSP] = get(field::GUEST_RSP);
    cpu.rip = get(field::GUEST_RIP);
    cpu.flags.set(get(field::GUEST_RFLAGS));

    cpu.activity = match get(field::GUEST_ACTIVITY_STATE) {
        1 => Activity::Halted,
        2 => Activity::Shutdown,
        3 => Activity::WaitForSipi,
        _ => Activity::Active,
    };
    let interruptibility = get(field::GUEST_INTERRUPTIBILITY_STATE);
    cpu.shadow = if interruptibility & BLOCKING_BY_MOV_SS != 0 {
        Shadow::MovSs
    } else if interruptibility & BLOCKING_BY_STI != 0 {
        Shadow::Sti
    } else {
        Shadow::None
    };
    cpu.nmi_blocked = interruptibility & BLOCKING_BY_NMI != 0;
    let pending = get(field::GUEST_PENDING_DEBUG_EXCEPTIONS);
    cpu.pending_debug = if pending & PENDING_ANY != 0 { pending } else { 0 };
}

/// IA32_EFER as VM entry leaves it (SDM vol. 3, 27.3.2.1).
fn efer(old: u64, vmcs: &Vmcs, controls: &Controls) -> u64 {
    if controls.entry & entry::LOAD_IA32_EFER != 0 {
        return vmcs.get(field::GUEST_IA32_EFER);
    }
    let long = controls.entry & entry::IA32E_MODE_GUEST != 0;
    let mut bits = EFER_LMA;
    // Without paging LME stays as it was.
    if vmcs.get(field::GUEST_CR0) & CR0_PG != 0 {
        bits |= EFER_LME;
    }
    old & !bits | if long { bits } else { 0 }
}

/// Saves registers and non-register state. `timer`: what is left of the VMX-preemption timer, where it is saved.
pub fn save(cpu: &mut Cpu, timer: Option<u64>) {
    let mut rflags = cpu.flags.get();
    match cpu.vmx.exit.rf {
        SavedRf::Clear => rflags &= !flags::RF,
        SavedRf::Set => rflags |= flags::RF,
        SavedRf::Keep => {}
    }
    let pae = pae_paging(cpu);
    // Whether or not this entry loaded it (SDM vol. 3, 28.3.1).
    let save_pkrs = cpu.profile.capabilities().allows(Word::Entry, entry::LOAD_PKRS);
    let store_lma = cpu.profile.capabilities().misc() & super::capability::misc::STORE_LMA != 0;
    let cet = cpu
        .profile
        .capabilities()
        .allows(Word::Entry, entry::LOAD_CET_STATE);
    let controls = &cpu.vmx.controls;
    let Some(vmcs) = cpu.vmx.current.and_then(|at| cpu.vmx.active.get_mut(at)) else {
        return;
    };
    vmcs.set(field::GUEST_CR0, cpu.cr0);
    vmcs.set(field::GUEST_CR3, cpu.cr3);
    vmcs.set(field::GUEST_CR4, cpu.cr4);
    if controls.exit & exit::SAVE_DEBUG_CONTROLS != 0 {
        vmcs.set(field::GUEST_DR7, cpu.dr7);
        vmcs.set(field::GUEST_IA32_DEBUGCTL, cpu.msr.debugctl);
    }
    vmcs.set(field::GUEST_IA32_SYSENTER_CS, cpu.msr.sysenter_cs);
    vmcs.set(field::GUEST_IA32_SYSENTER_ESP, cpu.msr.sysenter_esp);
    vmcs.set(field::GUEST_IA32_SYSENTER_EIP, cpu.msr.sysenter_eip);
    // Not by a control: where VM entry can load it (SDM vol. 3, 28.3.1).
    if cet {
        vmcs.set(field::GUEST_IA32_S_CET, cpu.cet.supervisor);
        vmcs.set(field::GUEST_SSP, cpu.cet.ssp);
        vmcs.set(
            field::GUEST_IA32_INTERRUPT_SSP_TABLE_ADDR,
            cpu.cet.interrupt_table,
        );
    }
    if controls.exit & exit::SAVE_IA32_PAT != 0 {
        vmcs.set(field::GUEST_IA32_PAT, cpu.msr.pat);
    }
    if controls.exit & exit::SAVE_IA32_EFER != 0 {
        vmcs.set(field::GUEST_IA32_EFER, cpu.efer);
    }
    if save_pkrs {
        vmcs.set(field::GUEST_IA32_PKRS, cpu.msr.pkrs);
    }
    if store_lma {
        let controls = vmcs.get(field::ENTRY_CONTROLS) & !entry::IA32E_MODE_GUEST;
        let long = cpu.efer & EFER_LMA != 0;
        vmcs.set(
            field::ENTRY_CONTROLS,
            controls | if long { entry::IA32E_MODE_GUEST } else { 0 },
        );
    }
    // Most exits find the segments as the entry has loaded them.
    if cpu.seg.were_written() || !vmcs.has_guest_segments() {
        vmcs.set_guest_segments(&cpu.seg);
    }
    vmcs.set(field::GUEST_GDTR_BASE, cpu.gdtr.base);
    vmcs.set(field::GUEST_GDTR_LIMIT, cpu.gdtr.limit as u64);
    vmcs.set(field::GUEST_IDTR_BASE, cpu.idtr.base);
    vmcs.set(field::GUEST_IDTR_LIMIT, cpu.idtr.limit as u64);
    vmcs.set(field::GUEST_RSP, cpu.regs[RSP]);
    vmcs.set(field::GUEST_RIP, cpu.rip);
    vmcs.set(field::GUEST_RFLAGS, rflags);

    vmcs.set(field::GUEST_ACTIVITY_STATE, cpu.activity as u64);
    let shadow = match cpu.shadow {
        Shadow::None => 0,
        Shadow::Sti => BLOCKING_BY_STI,
        Shadow::MovSs => BLOCKING_BY_MOV_SS,
    };
    let nmi = if cpu.nmi_blocked { BLOCKING_BY_NMI } else { 0 };
    vmcs.set(field::GUEST_INTERRUPTIBILITY_STATE, shadow | nmi);
    let enabled = breakpoint_enabled(cpu.pending_debug & PENDING_CONDITIONS, cpu.dr7);
    vmcs.set(
        field::GUEST_PENDING_DEBUG_EXCEPTIONS,
        cpu.pending_debug | if enabled { PENDING_ENABLED } else { 0 },
    );
    if let Some(left) = timer {
        vmcs.set(field::GUEST_PREEMPTION_TIMER_VALUE, left);
    }
    if cpu.vmx.ept_pointer.is_some() && pae {
        for (field, entry) in PDPTES.iter().zip(&cpu.pdpte) {
            vmcs.set(*field, *entry);
        }
    }
}

/// Whether one of the breakpoints that `conditions` names is enabled in DR7.
fn breakpoint_enabled(conditions: u64, dr7: u64) -> bool {
    conditions != 0 && (0..4).any(|n| conditions >> n & 1 != 0 && dr7 >> (2 * n) & 3 != 0)
}

/// PAE paging, with its four entries in the processor.
pub fn pae_paging(cpu: &Cpu) -> bool {
    cpu.cr0 & CR0_PG != 0 && cpu.cr4 & CR4_PAE != 0 && cpu.efer & EFER_LMA == 0
}
