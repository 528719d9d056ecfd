//! The instructions, one file a group. Each file ends in its table: mnemonic, choice of handler by form, flow.

pub mod x87;

use super::decode::Group;
use super::insn::Insn;
use super::{Cpu, Done};
use crate::platform::Bus;

/// Every group. A mnemonic may have rows in several (MOV to a general-purpose and to a control register); the first
/// row that takes the form executes it.
pub static GROUPS: &[Group] = &[];

/// What no table knows is #UD.
pub fn undefined(cpu: &mut Cpu, _: &mut Bus, _: &Insn) -> Done {
    Err(cpu.invalid_opcode())
}
