//! Instructions as they are most of the time: operands in registers or in RAM that the TLB knows, 64-bit mode, flags
//! that the next instruction overwrites unread.
//!
//! A handler here does that case and goes on to the next instruction of the block by itself, with nothing to save and
//! nothing to return through. Whatever else it meets, it leaves to the instruction's own handler (`Insn::run`) before
//! anything has changed: what an instruction does is said there and only there.

mod arithmetic;
mod branch;
mod choose;
mod operand;
mod series;
mod transfer;
mod vmcs;

pub use choose::{choose, Candidate};

use super::insn::Insn;
use super::{Cpu, Done, Stop};
use crate::platform::Bus;

/// Runs an instruction of a block and all after it, up to the end of the block or a Jcc that is taken. Where one stops,
/// its number is in `Cpu::stopped_at`.
pub type Fast = fn(&mut Cpu, &mut Bus, &Insn, &[Insn]) -> Done;

/// Goes on to what is left of the block. The call is in tail position: it compiles to a jump.
#[inline(always)]
fn go_on(cpu: &mut Cpu, bus: &mut Bus, rest: &[Insn]) -> Done {
    match rest {
        [next, rest @ ..] => (next.fast)(cpu, bus, next, rest),
        [] => Ok(()),
    }
}

/// The instruction as its own handler has it, for those that have no other here.
pub fn exact(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn, rest: &[Insn]) -> Done {
    match (insn.run)(cpu, bus, insn) {
        Ok(()) => go_on(cpu, bus, rest),
        Err(stop) => {
            cpu.stopped_at = insn.position;
            Err(stop)
        }
    }
}

/// An instruction that runs with the clock exact and a look at everything after it. Before it a link suffices: what
/// would want a look has ended the chain of blocks.
pub fn alone(cpu: &mut Cpu, _: &mut Bus, insn: &Insn, _: &[Insn]) -> Done {
    cpu.stopped_at = insn.position;
    Err(Stop::Solo)
}

/// The same as `exact` for the rare case of one that has. It is never inlined: its caller then has nothing to save.
#[cold]
#[inline(never)]
fn detour(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn, rest: &[Insn]) -> Done {
    exact(cpu, bus, insn, rest)
}

/// Goes on where `$plain` is `Some`, else runs the instruction's own handler.
macro_rules! plain_or_exact {
    ($cpu:ident, $bus:ident, $insn:ident, $rest:ident, $plain:expr) => {
        match $plain {
            Some(()) => crate::cpu::fast::go_on($cpu, $bus, $rest),
            None => crate::cpu::fast::detour($cpu, $bus, $insn, $rest),
        }
    };
}
use plain_or_exact;
