//! Instructions on single flags; NOP; those that are never valid.

use iced_x86::Mnemonic as Mn;

use super::undefined;
use crate::cpu::decode::{Flow, Group};
use crate::cpu::flags::DF;
use crate::cpu::insn::Insn;
use crate::cpu::{Cpu, Done};
use crate::platform::Bus;

fn set_carry<const TO: bool>(cpu: &mut Cpu, _: &mut Bus, _: &Insn) -> Done {
    cpu.flags.set_carry(TO);
    Ok(())
}

fn cmc(cpu: &mut Cpu, _: &mut Bus, _: &Insn) -> Done {
    let carry = cpu.flags.carry();
    cpu.flags.set_carry(!carry);
    Ok(())
}

fn cld(cpu: &mut Cpu, _: &mut Bus, _: &Insn) -> Done {
    cpu.flags.rest &= !DF;
    Ok(())
}

fn std(cpu: &mut Cpu, _: &mut Bus, _: &Insn) -> Done {
    cpu.flags.rest |= DF;
    Ok(())
}

/// SALC, which the SDM does not list: AL is filled with CF.
fn salc(cpu: &mut Cpu, _: &mut Bus, _: &Insn) -> Done {
    let value = if cpu.flags.carry() { 0xff } else { 0 };
    cpu.set_reg::<u8>(crate::cpu::RAX as u8, value);
    Ok(())
}

fn nop(_: &mut Cpu, _: &mut Bus, _: &Insn) -> Done {
    Ok(())
}

pub static ROWS: Group = &[
    (Mn::Clc, |_| Some(set_carry::<false>), Flow::Next),
    (Mn::Stc, |_| Some(set_carry::<true>), Flow::Next),
    (Mn::Cmc, |_| Some(cmc), Flow::Next),
    (Mn::Cld, |_| Some(cld), Flow::Next),
    (Mn::Std, |_| Some(std), Flow::Next),
    (Mn::Salc, |_| Some(salc), Flow::Next),
    (Mn::Nop, |_| Some(nop), Flow::Next),
    (Mn::Reservednop, |_| Some(nop), Flow::Next),
    // All is in program order already; lines stay where they are.
    (Mn::Serialize, |_| Some(nop), Flow::Next),
    (Mn::Cldemote, |_| Some(nop), Flow::Next),
    // ENDBR without control-flow enforcement.
    (Mn::Endbr32, |_| Some(nop), Flow::Next),
    (Mn::Endbr64, |_| Some(nop), Flow::Next),
    (Mn::Ud0, |_| Some(undefined), Flow::Branch),
    (Mn::Ud1, |_| Some(undefined), Flow::Branch),
    (Mn::Ud2, |_| Some(undefined), Flow::Branch),
];
