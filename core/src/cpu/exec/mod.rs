//! The instructions, one file a group. Each file ends in its table: mnemonic, choice of handler by form, flow.

#[macro_use]
mod select;
#[macro_use]
mod vector_select;

mod aes;
pub(super) mod alu;
mod bits;
mod branch;
mod cache;
mod control;
mod enforced;
mod far;
mod flag;
mod fma;
mod identify;
mod interrupt;
mod io;
mod lanes;
mod legacy_region;
mod mmx;
pub mod monitor;
mod mov;
mod muldiv;
pub mod random;
mod segments;
mod sha;
mod shadow;
pub(super) mod shift;
mod sse_state;
mod stack;
mod string;
mod syscall;
mod vector;
mod vector_convert;
mod vector_float;
mod vector_integer;
mod vector_masked;
mod vector_move;
mod vector_permute;
mod vector_shuffle;
mod vector_string;
pub mod x87;
#[macro_use]
mod x87_arithmetic;
mod x87_control;
mod x87_move;
mod x87_transcendental;
mod xsave;

pub use enforced::is_enforced;

use super::decode::Group;
use super::insn::Insn;
use super::{Cpu, Done};
use crate::platform::Bus;

/// Every group. A mnemonic may have rows in several (MOV to a general-purpose and to a control register); the first
/// row that takes the form executes it.
pub static GROUPS: &[Group] = &[
    // Before those that serve the same forms where nothing is enforced.
    enforced::ROWS,
    alu::ROWS,
    mov::ROWS,
    branch::ROWS,
    stack::ROWS,
    shift::ROWS,
    muldiv::ROWS,
    bits::ROWS,
    string::ROWS,
    flag::ROWS,
    segments::ROWS,
    far::ROWS,
    interrupt::ROWS,
    monitor::ROWS,
    syscall::ROWS,
    control::ROWS,
    shadow::ROWS,
    cache::ROWS,
    identify::ROWS,
    random::ROWS,
    io::ROWS,
    crate::vmx::instructions::ROWS,
    x87_arithmetic::ROWS,
    x87_control::ROWS,
    x87_move::ROWS,
    x87_transcendental::ROWS,
    mmx::ROWS,
    vector_move::ROWS,
    vector_integer::ROWS,
    vector_shuffle::ROWS,
    vector_float::ROWS,
    vector_convert::ROWS,
    vector_permute::ROWS,
    vector_masked::ROWS,
    fma::ROWS,
    sse_state::ROWS,
    xsave::ROWS,
    vector_string::ROWS,
    aes::ROWS,
    sha::ROWS,
];

/// What no table knows is #UD.
pub fn undefined(cpu: &mut Cpu, _: &mut Bus, _: &Insn) -> Done {
    Err(cpu.invalid_opcode())
}

/// What has more bytes than an instruction may have is #GP.
pub fn too_long(cpu: &mut Cpu, _: &mut Bus, _: &Insn) -> Done {
    Err(cpu.general_protection(0))
}

impl Cpu {
    /// VEX-encoded instructions on general-purpose registers are #UD in real-address and virtual-8086 mode.
    #[inline(always)]
    pub fn check_vex(&mut self) -> Done {
        if self.paragraphs() {
            return Err(self.invalid_opcode());
        }
        Ok(())
    }
}
