//! Software interrupts, the interrupt flag, and waiting.

use iced_x86::Mnemonic as Mn;

use crate::cpu::bits::*;
use crate::cpu::decode::{Flow, Form, Group, Operand};
use crate::cpu::exception::{vector, EventKind};
use crate::cpu::flags;
use crate::cpu::insn::{Handler, Insn};
use crate::cpu::int::Int;
use crate::cpu::{Activity, Cpu, Done, Shadow, Stop};
use crate::platform::Bus;
use crate::vmx::intercept::{self, Plain};

// INT n and its kin. Delivery checks the gate, and IOPL in virtual-8086 mode.

fn int(cpu: &mut Cpu, _: &mut Bus, insn: &Insn) -> Done {
    Err(cpu.software_event(EventKind::SoftwareInterrupt, insn.imm as u8, insn.length))
}

fn int3(cpu: &mut Cpu, _: &mut Bus, insn: &Insn) -> Done {
    Err(cpu.software_event(EventKind::SoftwareException, vector::BREAKPOINT, insn.length))
}

fn into(cpu: &mut Cpu, _: &mut Bus, insn: &Insn) -> Done {
    if !cpu.flags.overflow() {
        return Ok(());
    }
    Err(cpu.software_event(EventKind::SoftwareException, vector::OVERFLOW, insn.length))
}

fn int1(cpu: &mut Cpu, _: &mut Bus, insn: &Insn) -> Done {
    Err(cpu.software_event(EventKind::PrivilegedSoftwareException, vector::DEBUG, insn.length))
}

/// BOUND: #BR unless the signed index lies between the two bounds in memory.
fn bound<T: Int>(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn) -> Done {
    let ea = cpu.ea(insn);
    let lower = cpu.read::<T>(bus, insn.seg, ea)?.sign_extended() as i64;
    let upper = ea.wrapping_add(T::BYTES) & insn.address_mask();
    let upper = cpu.read::<T>(bus, insn.seg, upper)?.sign_extended() as i64;
    let index = cpu.reg::<T>(insn.r[0]).sign_extended() as i64;
    if index < lower || index > upper {
        return Err(cpu.raise(vector::BOUND, None, 0));
    }
    Ok(())
}

fn select_bound(form: &Form) -> Option<Handler> {
    match form.operands[0] {
        Operand::Gpr(bytes) => by_wide_size!(bytes, T => bound::<T>),
        _ => None,
    }
}

// CLI, STI.

/// Which flag CLI and STI are about (SDM vol. 2, CLI, table 3-7).
#[derive(PartialEq)]
enum InterruptFlag {
    Real,
    Virtual,
}

fn interrupt_flag(cpu: &mut Cpu) -> Result<InterruptFlag, Stop> {
    if cpu.cpl <= cpu.flags.iopl() {
        return Ok(InterruptFlag::Real);
    }
    let virtual_flag = if cpu.virtual_8086() { CR4_VME } else { CR4_PVI };
    if cpu.cpl == 3 && cpu.cr4 & virtual_flag != 0 {
        Ok(InterruptFlag::Virtual)
    } else {
        Err(cpu.general_protection(0))
    }
}

fn cli(cpu: &mut Cpu, _: &mut Bus, _: &Insn) -> Done {
    cpu.flags.rest &= match interrupt_flag(cpu)? {
        InterruptFlag::Real => !flags::IF,
        InterruptFlag::Virtual => !flags::VIF,
    };
    Ok(())
}

fn sti(cpu: &mut Cpu, _: &mut Bus, _: &Insn) -> Done {
    match interrupt_flag(cpu)? {
        InterruptFlag::Virtual if cpu.flags.has(flags::VIP) => return Err(cpu.general_protection(0)),
        InterruptFlag::Virtual => cpu.flags.rest |= flags::VIF,
        InterruptFlag::Real => {
            if !cpu.flags.has(flags::IF) {
                cpu.shadow = Shadow::Sti;
            }
            cpu.flags.rest |= flags::IF;
        }
    }
    Ok(())
}

// Waiting.

fn hlt(cpu: &mut Cpu, _: &mut Bus, insn: &Insn) -> Done {
    if cpu.cpl != 0 {
        return Err(cpu.general_protection(0));
    }
    intercept::plain(cpu, insn, Plain::Hlt)?;
    cpu.activity = Activity::Halted;
    Ok(())
}

fn pause(cpu: &mut Cpu, _: &mut Bus, insn: &Insn) -> Done {
    intercept::pause(cpu, insn)
}

pub static ROWS: Group = &[
    (Mn::Int, |_| Some(int), Flow::Branch),
    (Mn::Int3, |_| Some(int3), Flow::Branch),
    (Mn::Into, |_| Some(into), Flow::Next),
    (Mn::Int1, |_| Some(int1), Flow::Branch),
    (Mn::Bound, select_bound, Flow::Next),
    (Mn::Cli, |_| Some(cli), Flow::Next),
    (Mn::Sti, |_| Some(sti), Flow::Alone),
    (Mn::Hlt, |_| Some(hlt), Flow::Alone),
    (Mn::Pause, |_| Some(pause), Flow::Next),
];
