//! Control and debug registers, and the instructions that manage translation.

use iced_x86::{Mnemonic as Mn, Register};

use super::segments::check_umip;
use crate::cpu::bits::*;
use crate::cpu::control::PCID;
use crate::cpu::debug_registers::{DR6_ACCESS_DETECTED, DR7_GENERAL_DETECT};
use crate::cpu::decode::{Flow, Form, Group, Operand};
use crate::cpu::flags;
use crate::cpu::insn::{Handler, Insn, Source, M, R0};
use crate::cpu::int::Int;
use crate::cpu::{Cpu, Done, Stop, RAX, RCX, RDX};
use crate::platform::Bus;
use crate::vmx::intercept::{self, Optional};

/// What only CPL 0 may do: #GP(0) elsewhere.
pub fn check_supervisor(cpu: &mut Cpu) -> Done {
    if cpu.cpl != 0 {
        return Err(cpu.general_protection(0));
    }
    Ok(())
}

// MOV to and from control registers.

fn write_control<T: Int>(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn) -> Done {
    check_supervisor(cpu)?;
    let (control, gpr) = (insn.r[0], insn.r[1]);
    let value = cpu.reg::<T>(gpr).to_u64();
    match control {
        2 => cpu.cr2 = value,
        8 => return write_task_priority(cpu, bus, insn, gpr, value),
        _ => {
            let value = intercept::write_cr(cpu, insn, control, gpr, value)?;
            return match control {
                0 => cpu.write_cr0(bus, value),
                3 => cpu.write_cr3(bus, value),
                _ => cpu.write_cr4(bus, value),
            };
        }
    }
    Ok(())
}

fn read_control<T: Int>(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn) -> Done {
    check_supervisor(cpu)?;
    let (gpr, control) = (insn.r[0], insn.r[1]);
    let value = match control {
        0 => intercept::read_cr(cpu, insn, 0, gpr, cpu.cr0)?,
        2 => cpu.cr2,
        3 => intercept::read_cr(cpu, insn, 3, gpr, cpu.cr3)?,
        4 => intercept::read_cr(cpu, insn, 4, gpr, cpu.cr4)?,
        _ => match intercept::read_cr8(cpu, bus, insn, gpr)? {
            Some(shadow) => shadow,
            None => (bus.tpr(cpu.id) >> 4) as u64,
        },
    };
    cpu.set_reg(gpr, T::from_u64(value));
    Ok(())
}

fn write_task_priority(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn, gpr: u8, value: u64) -> Done {
    if value > 15 {
        return Err(cpu.general_protection(0));
    }
    if !intercept::write_cr8(cpu, bus, insn, gpr, value)? {
        bus.set_tpr(cpu.id, (value << 4) as u8);
    }
    Ok(())
}

fn select_mov(form: &Form) -> Option<Handler> {
    let known = |register| {
        matches!(
            register,
            Register::CR0 | Register::CR2 | Register::CR3 | Register::CR4 | Register::CR8
        )
    };
    match (form.operands[0], form.operands[1]) {
        (Operand::Control, Operand::Gpr(bytes)) if known(form.insn.op0_register()) => {
            by_wide_size!(bytes, T => write_control::<T>)
        }
        (Operand::Gpr(bytes), Operand::Control) if known(form.insn.op1_register()) => {
            by_wide_size!(bytes, T => read_control::<T>)
        }
        (Operand::Debug, Operand::Gpr(bytes)) if form.insn.op0_register() <= Register::DR7 => {
            by_wide_size!(bytes, T => write_debug::<T>)
        }
        (Operand::Gpr(bytes), Operand::Debug) if form.insn.op1_register() <= Register::DR7 => {
            by_wide_size!(bytes, T => read_debug::<T>)
        }
        _ => None,
    }
}

fn clts(cpu: &mut Cpu, _: &mut Bus, insn: &Insn) -> Done {
    check_supervisor(cpu)?;
    if intercept::clts(cpu, insn)? {
        cpu.cr0 &= !CR0_TS;
    }
    Ok(())
}

/// LMSW sets and clears MP, EM and TS; PE it can only set.
const LMSW_BITS: u64 = CR0_PE | CR0_MP | CR0_EM | CR0_TS;

fn lmsw<S: Source, const MEMORY: bool>(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn) -> Done {
    check_supervisor(cpu)?;
    let source = S::read::<u16>(cpu, bus, insn)?;
    let linear = if MEMORY {
        let ea = cpu.ea(insn);
        Some(cpu.linear(insn.seg, ea, 2, false)?)
    } else {
        None
    };
    let value = cpu.cr0 & (!LMSW_BITS | CR0_PE) | source as u64 & LMSW_BITS;
    let value = intercept::lmsw(cpu, insn, source, linear, value)?;
    cpu.write_cr0(bus, value)
}

fn select_lmsw(form: &Form) -> Option<Handler> {
    Some(if form.has_memory() {
        lmsw::<M, true>
    } else {
        lmsw::<R0, false>
    })
}

/// SMSW: the whole of CR0 that fits a register, 16 bits to memory.
fn smsw<T: Int, const MEMORY: bool>(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn) -> Done {
    check_umip(cpu)?;
    let value = intercept::visible_cr0(cpu);
    if MEMORY {
        let ea = cpu.ea(insn);
        return cpu.write(bus, insn.seg, ea, value as u16);
    }
    cpu.set_reg(insn.r[0], T::from_u64(value));
    Ok(())
}

fn select_smsw(form: &Form) -> Option<Handler> {
    match form.operands[0] {
        Operand::Gpr(bytes) => by_wide_size!(bytes, T => smsw::<T, false>),
        _ => Some(smsw::<u16, true>),
    }
}

// Debug registers (SDM vol. 3, 17.2).

/// The checks of every access, and the number that it is for: DR4 and DR5 are other names of DR6 and DR7.
fn check_debug(cpu: &mut Cpu, insn: &Insn, number: u8, gpr: u8, read: bool) -> Result<u8, Stop> {
    // This exit comes before even #UD and #GP (SDM vol. 3, 26.1.3).
    intercept::mov_dr(cpu, insn, number, gpr, read)?;
    let alias = matches!(number, 4 | 5);
    if alias && cpu.cr4 & CR4_DE != 0 {
        return Err(cpu.invalid_opcode());
    }
    check_supervisor(cpu)?;
    if cpu.dr7 & DR7_GENERAL_DETECT != 0 {
        return Err(cpu.debug_exception(DR6_ACCESS_DETECTED));
    }
    Ok(if alias { number + 2 } else { number })
}

fn write_debug<T: Int>(cpu: &mut Cpu, _: &mut Bus, insn: &Insn) -> Done {
    let number = check_debug(cpu, insn, insn.r[0], insn.r[1], false)?;
    let value = cpu.reg::<T>(insn.r[1]).to_u64();
    if number >= 6 && value >> 32 != 0 {
        return Err(cpu.general_protection(0));
    }
    match number {
        6 => cpu.write_dr6(value),
        7 => cpu.write_dr7(value),
        _ => {
            cpu.dr[number as usize & 3] = value;
            cpu.breakpoints_changed();
        }
    }
    Ok(())
}

fn read_debug<T: Int>(cpu: &mut Cpu, _: &mut Bus, insn: &Insn) -> Done {
    let value = match check_debug(cpu, insn, insn.r[1], insn.r[0], true)? {
        6 => cpu.dr6,
        7 => cpu.dr7,
        number => cpu.dr[number as usize & 3],
    };
    cpu.set_reg(insn.r[0], T::from_u64(value));
    Ok(())
}

// Translations.

fn invlpg(cpu: &mut Cpu, _: &mut Bus, insn: &Insn) -> Done {
    check_supervisor(cpu)?;
    let linear = cpu.ea(insn).wrapping_add(cpu.window[insn.seg as usize & 7].base) & cpu.linear_mask;
    intercept::invlpg(cpu, insn, linear)?;
    if cpu.canonical(linear) {
        cpu.forget_page(linear, cpu.tlb.space().owner.vpid());
    }
    Ok(())
}

fn invpcid<T: Int>(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn) -> Done {
    if !intercept::offered(cpu, Optional::Invpcid) {
        return Err(cpu.invalid_opcode());
    }
    check_supervisor(cpu)?;
    intercept::invpcid(cpu, insn)?;
    let kind = cpu.reg::<T>(insn.r[0]).to_u64();
    let ea = cpu.ea(insn);
    let pcid: u64 = cpu.read(bus, insn.seg, ea)?;
    let linear: u64 = cpu.read(bus, insn.seg, ea.wrapping_add(8) & insn.address_mask())?;
    let names_pcid = kind <= 1;
    let bad = kind > 3
        || pcid & !PCID != 0
        || names_pcid && pcid != 0 && cpu.cr4 & CR4_PCIDE == 0
        || kind == 0 && !cpu.canonical_base(linear);
    if bad {
        return Err(cpu.general_protection(0));
    }
    if kind == 0 {
        cpu.forget_page(linear, cpu.tlb.space().owner.vpid());
    } else {
        cpu.flush_translations(bus, names_pcid.then_some(pcid as u16));
    }
    Ok(())
}

fn select_invpcid(form: &Form) -> Option<Handler> {
    match form.operands[0] {
        Operand::Gpr(bytes) => by_wide_size!(bytes, T => invpcid::<T>),
        _ => None,
    }
}

// SMAP, protection keys.

fn access_flag<const SET: bool>(cpu: &mut Cpu, _: &mut Bus, _: &Insn) -> Done {
    if cpu.cpl != 0 {
        return Err(cpu.invalid_opcode());
    }
    if SET {
        cpu.flags.rest |= flags::AC;
    } else {
        cpu.flags.rest &= !flags::AC;
    }
    cpu.update_privilege();
    Ok(())
}

fn check_pkru(cpu: &mut Cpu) -> Done {
    if cpu.cr4 & CR4_PKE == 0 {
        return Err(cpu.invalid_opcode());
    }
    if cpu.regs[RCX] as u32 != 0 {
        return Err(cpu.general_protection(0));
    }
    Ok(())
}

fn rdpkru(cpu: &mut Cpu, _: &mut Bus, _: &Insn) -> Done {
    check_pkru(cpu)?;
    cpu.set_halves(cpu.msr.pkru as u64);
    Ok(())
}

fn wrpkru(cpu: &mut Cpu, _: &mut Bus, _: &Insn) -> Done {
    check_pkru(cpu)?;
    if cpu.regs[RDX] as u32 != 0 {
        return Err(cpu.general_protection(0));
    }
    cpu.msr.pkru = cpu.regs[RAX] as u32;
    cpu.update_space();
    Ok(())
}

impl Cpu {
    /// EDX:EAX.
    pub fn halves(&self) -> u64 {
        self.regs[RAX] & 0xffff_ffff | self.regs[RDX] << 32
    }

    pub fn set_halves(&mut self, value: u64) {
        self.regs[RAX] = value & 0xffff_ffff;
        self.regs[RDX] = value >> 32;
    }
}

pub static ROWS: Group = &[
    (Mn::Mov, select_mov, Flow::Alone),
    (Mn::Clts, |_| Some(clts), Flow::Next),
    (Mn::Lmsw, select_lmsw, Flow::Alone),
    (Mn::Smsw, select_smsw, Flow::Next),
    (Mn::Invlpg, |_| Some(invlpg), Flow::Alone),
    (Mn::Invpcid, select_invpcid, Flow::Alone),
    (Mn::Clac, |_| Some(access_flag::<false>), Flow::Next),
    (Mn::Stac, |_| Some(access_flag::<true>), Flow::Next),
    (Mn::Rdpkru, |_| Some(rdpkru), Flow::Next),
    (Mn::Wrpkru, |_| Some(wrpkru), Flow::Next),
];
