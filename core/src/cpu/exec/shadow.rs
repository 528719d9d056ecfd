//! The instructions on shadow stacks (SDM vol. 2, CLRSSBSY to WRUSS).

use iced_x86::Mnemonic as Mn;

use super::control::check_supervisor;
use crate::cpu::bits::CR4_CET;
use crate::cpu::decode::{Flow, Group};
use crate::cpu::exception::control_protection;
use crate::cpu::insn::Insn;
use crate::cpu::int::Int;
use crate::cpu::shadow_stack::privilege;
use crate::cpu::{flags, Cpu, Done, Stop};
use crate::mmu::tlb::Privilege;
use crate::platform::Bus;

/// Of a token: it restores a shadow stack of 64-bit mode; it names the shadow stack before.
const LONG: u64 = 1;
const PREVIOUS: u64 = 2;

fn check_enabled(cpu: &mut Cpu) -> Done {
    if !cpu.shadow_stack_enabled() {
        return Err(cpu.invalid_opcode());
    }
    Ok(())
}

/// SETSSBSY and CLRSSBSY: CPL 0's own.
fn check_supervisor_stack(cpu: &mut Cpu) -> Done {
    if !cpu.has_shadow_stack(0) {
        return Err(cpu.invalid_opcode());
    }
    check_supervisor(cpu)
}

/// The linear address of the operand. #GP(0) unless it is a multiple of its size.
fn operand(cpu: &mut Cpu, insn: &Insn, bytes: u64) -> Result<u64, Stop> {
    let ea = cpu.ea(insn);
    let linear = cpu.linear(insn.seg, ea, bytes, true)?;
    if linear & (bytes - 1) != 0 {
        return Err(cpu.general_protection(0));
    }
    Ok(linear)
}

/// CF as it is told, the other arithmetic flags 0.
fn set_carry_alone(cpu: &mut Cpu, carry: bool) {
    const ARITHMETIC: u64 = 0x8d5;
    let value = cpu.flags.get() & !ARITHMETIC | carry as u64;
    cpu.flags.set(value);
}

/// A NOP where there is no shadow stack.
fn rdssp<T: Int>(cpu: &mut Cpu, _: &mut Bus, insn: &Insn) -> Done {
    if cpu.shadow_stack_enabled() {
        cpu.set_reg(insn.r[0], T::from_u64(cpu.cet.ssp));
    }
    Ok(())
}

/// Pops so many entries, touching the first and the last.
fn incssp<T: Int>(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn) -> Done {
    check_enabled(cpu)?;
    let count = cpu.reg::<T>(insn.r[0]).to_u64() & 0xff;
    let last = count.max(1) - 1;
    for entry in [0, last] {
        let at = cpu.cet.ssp.wrapping_add(entry * T::BYTES);
        cpu.shadow_load(bus, at, T::BYTES, privilege(cpu.cpl))?;
    }
    cpu.cet.ssp = cpu.cet.ssp.wrapping_add(count * T::BYTES);
    Ok(())
}

fn saveprevssp(cpu: &mut Cpu, bus: &mut Bus, _: &Insn) -> Done {
    check_enabled(cpu)?;
    let (ssp, user) = (cpu.cet.ssp, privilege(cpu.cpl));
    if ssp & 7 != 0 {
        return Err(cpu.general_protection(0));
    }
    let token = cpu.shadow_load(bus, ssp, 8, user)?;
    let mut after = ssp.wrapping_add(8);
    let long = cpu.long64();
    // CF tells of four bytes that RSTORSSP found between the token and the stack.
    if cpu.flags.carry() {
        if long || cpu.shadow_load(bus, after, 4, user)? != 0 {
            return Err(cpu.general_protection(0));
        }
        after = after.wrapping_add(4);
    }
    if token & PREVIOUS == 0 || !long && token >> 32 != 0 {
        return Err(cpu.general_protection(0));
    }
    let old = token & !3;
    let restore = old | if long { LONG } else { 0 };
    cpu.shadow_store(bus, old.wrapping_sub(4), 4, 0, user)?;
    cpu.shadow_store(bus, (old & !7).wrapping_sub(8), 8, restore, user)?;
    cpu.cet.ssp = after;
    Ok(())
}

fn rstorssp(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn) -> Done {
    check_enabled(cpu)?;
    let at = operand(cpu, insn, 8)?;
    let user = privilege(cpu.cpl);
    let long = cpu.long64();
    let mode = if long { LONG } else { 0 };
    let token = cpu.shadow_load(bus, at, 8, user)?;
    let named = (token & !LONG).wrapping_sub(8) & !7;
    let bad = token & (LONG | PREVIOUS) != mode || !long && token >> 32 != 0 || named != at;
    let value = if bad { token } else { cpu.cet.ssp | mode | PREVIOUS };
    cpu.shadow_store(bus, at, 8, value, user)?;
    if bad {
        return Err(cpu.control_protection(control_protection::RSTORSSP));
    }
    cpu.cet.ssp = at;
    set_carry_alone(cpu, token & 4 != 0);
    Ok(())
}

fn wrss<T: Int>(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn) -> Done {
    if !cpu.shadow_writes_enabled() {
        return Err(cpu.invalid_opcode());
    }
    let at = operand(cpu, insn, T::BYTES)?;
    let value = cpu.reg::<T>(insn.r[0]).to_u64();
    cpu.shadow_store(bus, at, T::BYTES, value, privilege(cpu.cpl))
}

/// To a user's shadow stack.
fn wruss<T: Int>(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn) -> Done {
    if cpu.cr4 & CR4_CET == 0 || cpu.flags.has(flags::VM) {
        return Err(cpu.invalid_opcode());
    }
    check_supervisor(cpu)?;
    let at = operand(cpu, insn, T::BYTES)?;
    let value = cpu.reg::<T>(insn.r[0]).to_u64();
    cpu.shadow_store(bus, at, T::BYTES, value, Privilege::User)
}

fn setssbsy(cpu: &mut Cpu, bus: &mut Bus, _: &Insn) -> Done {
    check_supervisor_stack(cpu)?;
    let at = cpu.cet.pl_ssp[0];
    if at & 7 != 0 {
        return Err(cpu.general_protection(0));
    }
    if !cpu.acquire_token(bus, at)? {
        return Err(cpu.control_protection(control_protection::SETSSBSY));
    }
    cpu.cet.ssp = at;
    Ok(())
}

fn clrssbsy(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn) -> Done {
    check_supervisor_stack(cpu)?;
    let at = operand(cpu, insn, 8)?;
    let freed = cpu.release_token(bus, at)?;
    set_carry_alone(cpu, !freed);
    cpu.cet.ssp = 0;
    Ok(())
}

pub static ROWS: Group = &[
    (Mn::Rdsspd, |_| Some(rdssp::<u32>), Flow::Next),
    (Mn::Rdsspq, |_| Some(rdssp::<u64>), Flow::Next),
    (Mn::Incsspd, |_| Some(incssp::<u32>), Flow::Next),
    (Mn::Incsspq, |_| Some(incssp::<u64>), Flow::Next),
    (Mn::Saveprevssp, |_| Some(saveprevssp), Flow::Next),
    (Mn::Rstorssp, |_| Some(rstorssp), Flow::Next),
    (Mn::Wrssd, |_| Some(wrss::<u32>), Flow::Next),
    (Mn::Wrssq, |_| Some(wrss::<u64>), Flow::Next),
    (Mn::Wrussd, |_| Some(wruss::<u32>), Flow::Next),
    (Mn::Wrussq, |_| Some(wruss::<u64>), Flow::Next),
    (Mn::Setssbsy, |_| Some(setssbsy), Flow::Next),
    (Mn::Clrssbsy, |_| Some(clrssbsy), Flow::Next),
];
