//! Near branches and ENDBRANCH under control-flow enforcement. Where nothing is enforced no row takes the form, and
//! `branch` and `flag` serve it.

use iced_x86::{Mnemonic as Mn, Register};

use super::branch;
use super::select::size;
use crate::cpu::decode::{Flow, Form, Group, Operand};
use crate::cpu::exception::control_protection;
use crate::cpu::insn::{Handler, Insn, Source, M, R0};
use crate::cpu::int::Int;
use crate::cpu::segment::SS;
use crate::cpu::{Cpu, Done, Stop, RSP};
use crate::platform::Bus;

/// The bytes of a return address on the shadow stack.
const fn width<T: Int>() -> u64 {
    if T::BYTES == 8 {
        8
    } else {
        4
    }
}

fn call_to<T: Int>(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn, target: u64, shadow: bool) -> Done {
    branch::check::<T>(cpu, target)?;
    let back = T::from_u64(cpu.next_ip(insn));
    let top = cpu.regs[RSP];
    cpu.push(bus, back)?;
    if shadow && cpu.shadow_stack_enabled() {
        if let Err(stop) = cpu.shadow_push(bus, width::<T>(), back.to_u64()) {
            cpu.regs[RSP] = top;
            return Err(stop);
        }
    }
    cpu.rip = target;
    Ok(())
}

/// A call to the next instruction reads RIP: nothing will return from it (SDM vol. 2, CALL).
fn call<T: Int>(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn) -> Done {
    let target = branch::target::<T>(cpu, insn);
    let reads_ip = target == T::from_u64(cpu.next_ip(insn)).to_u64();
    call_to::<T>(cpu, bus, insn, target, !reads_ip)
}

fn landed(cpu: &mut Cpu, no_track: bool) -> Done {
    if cpu.track_near(no_track) {
        return Err(Stop::Sync);
    }
    Ok(())
}

fn call_indirect<T: Int, S: Source, const NO_TRACK: bool>(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn) -> Done {
    let target = S::read::<T>(cpu, bus, insn)?.to_u64();
    call_to::<T>(cpu, bus, insn, target, true)?;
    landed(cpu, NO_TRACK)
}

fn jmp_indirect<T: Int, S: Source, const NO_TRACK: bool>(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn) -> Done {
    let target = S::read::<T>(cpu, bus, insn)?.to_u64();
    branch::check::<T>(cpu, target)?;
    cpu.rip = target;
    landed(cpu, NO_TRACK)
}

fn ret<T: Int>(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn) -> Done {
    let mask = if T::BITS == 64 { !0 } else { cpu.stack_mask() };
    let target = cpu.read::<T>(bus, SS as u8, cpu.regs[RSP] & mask)?.to_u64();
    let shadow = cpu.shadow_stack_enabled();
    if shadow && cpu.shadow_top(bus, width::<T>())? != target {
        return Err(cpu.control_protection(control_protection::NEAR_RETURN));
    }
    branch::check::<T>(cpu, target)?;
    cpu.rip = target;
    if shadow {
        cpu.cet.ssp = cpu.cet.ssp.wrapping_add(width::<T>());
    }
    branch::release_return::<T>(cpu, insn, mask);
    Ok(())
}

fn end_branch<const LONG: bool>(cpu: &mut Cpu, _: &mut Bus, _: &Insn) -> Done {
    if cpu.long64() == LONG {
        cpu.end_branch();
    }
    Ok(())
}

/// The handler of an indirect branch, by its operand and whether it has the NOTRACK prefix.
macro_rules! indirect {
    ($form:expr, $handler:ident) => {
        match ($form.operands[0], no_track($form)) {
            (Operand::Gpr(bytes), false) => by_wide_size!(bytes, T => $handler::<T, R0, false>),
            (Operand::Gpr(bytes), true) => by_wide_size!(bytes, T => $handler::<T, R0, true>),
            (operand, false) => by_wide_size!(size(operand), T => $handler::<T, M, false>),
            (operand, true) => by_wide_size!(size(operand), T => $handler::<T, M, true>),
        }
    };
}

/// NOTRACK is the prefix of DS.
fn no_track(form: &Form) -> bool {
    form.insn.segment_prefix() == Register::DS
}

fn select_call(form: &Form) -> Option<Handler> {
    let enforced = form.enforcement;
    if form.operands[0] == Operand::NearBranch && enforced.shadow_stack {
        return by_wide_size!(branch::relative_size(form), T => call::<T>);
    }
    let indirect = form.insn.is_call_near_indirect();
    if !indirect || !(enforced.shadow_stack || enforced.branch_tracking) {
        return None;
    }
    indirect!(form, call_indirect)
}

fn select_jmp(form: &Form) -> Option<Handler> {
    if !form.enforcement.branch_tracking || !form.insn.is_jmp_near_indirect() {
        return None;
    }
    indirect!(form, jmp_indirect)
}

fn select_ret(form: &Form) -> Option<Handler> {
    if !form.enforcement.shadow_stack {
        return None;
    }
    by_wide_size!(branch::return_size(form), T => ret::<T>)
}

fn select_end_branch<const LONG: bool>(form: &Form) -> Option<Handler> {
    form.enforcement
        .branch_tracking
        .then_some(end_branch::<LONG> as Handler)
}

pub static ROWS: Group = &[
    (Mn::Call, select_call, Flow::Branch),
    (Mn::Jmp, select_jmp, Flow::Branch),
    (Mn::Ret, select_ret, Flow::Branch),
    (Mn::Endbr32, select_end_branch::<false>, Flow::Next),
    (Mn::Endbr64, select_end_branch::<true>, Flow::Next),
];

/// Whether a mnemonic is served here where something is enforced.
pub fn is_enforced(mnemonic: Mn) -> bool {
    ROWS.iter().any(|(served, ..)| *served == mnemonic)
}
