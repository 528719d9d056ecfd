//! What depends on the model and on time: CPUID, model-specific registers, the time-stamp counter.

use iced_x86::Mnemonic as Mn;

use super::control::check_supervisor;
use crate::cpu::bits::*;
use crate::cpu::decode::{Flow, Group};
use crate::cpu::insn::Insn;
use crate::cpu::{Cpu, Done, RAX, RBX, RCX, RDX};
use crate::platform::Bus;
use crate::vmx::intercept::{self, Optional, Plain};

/// IA32_APIC_BASE.EN, and CPUID.1:EDX's bit that follows it.
const APIC_ENABLED: u64 = 1 << 11;
const CPUID_APIC: u32 = 1 << 9;

fn cpuid(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn) -> Done {
    intercept::plain(cpu, insn, Plain::Cpuid)?;
    let leaf = cpu.regs[RAX] as u32;
    let mut result = cpu.cpuid(leaf, cpu.regs[RCX] as u32);
    if leaf == 1 && bus.apic_base(cpu.id) & APIC_ENABLED == 0 {
        result[3] &= !CPUID_APIC;
    }
    for (register, value) in [RAX, RBX, RCX, RDX].into_iter().zip(result) {
        cpu.regs[register] = value as u64;
    }
    Ok(())
}

impl Cpu {
    /// CR4.TSD keeps the time-stamp counter for CPL 0.
    pub fn check_time_stamp(&mut self) -> Done {
        if self.cpl != 0 && self.cr4 & CR4_TSD != 0 {
            return Err(self.general_protection(0));
        }
        Ok(())
    }
}

fn rdtsc(cpu: &mut Cpu, _: &mut Bus, insn: &Insn) -> Done {
    cpu.check_time_stamp()?;
    intercept::plain(cpu, insn, Plain::Rdtsc)?;
    cpu.set_halves(cpu.visible_tsc(cpu.clock_at(insn)));
    Ok(())
}

fn rdtscp(cpu: &mut Cpu, _: &mut Bus, insn: &Insn) -> Done {
    if !intercept::offered(cpu, Optional::Rdtscp) {
        return Err(cpu.invalid_opcode());
    }
    cpu.check_time_stamp()?;
    intercept::plain(cpu, insn, Plain::Rdtscp)?;
    cpu.set_halves(cpu.visible_tsc(cpu.clock_at(insn)));
    cpu.regs[RCX] = cpu.msr.tsc_aux & 0xffff_ffff;
    Ok(())
}

fn rdpid(cpu: &mut Cpu, _: &mut Bus, insn: &Insn) -> Done {
    if !intercept::offered(cpu, Optional::Rdpid) {
        return Err(cpu.invalid_opcode());
    }
    cpu.set_reg(insn.r[0], cpu.msr.tsc_aux & 0xffff_ffff);
    Ok(())
}

/// There are no performance counters: each number is #GP.
fn rdpmc(cpu: &mut Cpu, _: &mut Bus, insn: &Insn) -> Done {
    if cpu.cpl != 0 && cpu.cr4 & CR4_PCE == 0 {
        return Err(cpu.general_protection(0));
    }
    intercept::plain(cpu, insn, Plain::Rdpmc)?;
    Err(cpu.general_protection(0))
}

fn rdmsr(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn) -> Done {
    check_supervisor(cpu)?;
    let number = cpu.regs[RCX] as u32;
    let value = match intercept::rdmsr(cpu, bus, insn, number)? {
        Some(value) => Some(value),
        None => cpu.read_msr(bus, number),
    };
    match value {
        Some(value) => {
            cpu.set_halves(value);
            Ok(())
        }
        None => Err(cpu.general_protection(0)),
    }
}

fn wrmsr(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn) -> Done {
    check_supervisor(cpu)?;
    let (number, value) = (cpu.regs[RCX] as u32, cpu.halves());
    if intercept::wrmsr(cpu, bus, insn, number, value)? || cpu.write_msr(bus, number, value) {
        Ok(())
    } else {
        Err(cpu.general_protection(0))
    }
}

pub static ROWS: Group = &[
    (Mn::Cpuid, |_| Some(cpuid), Flow::Next),
    (Mn::Rdtsc, |_| Some(rdtsc), Flow::Next),
    (Mn::Rdtscp, |_| Some(rdtscp), Flow::Next),
    (Mn::Rdpid, |_| Some(rdpid), Flow::Next),
    (Mn::Rdpmc, |_| Some(rdpmc), Flow::Next),
    (Mn::Rdmsr, |_| Some(rdmsr), Flow::Alone),
    (Mn::Wrmsr, |_| Some(wrmsr), Flow::Alone),
];
