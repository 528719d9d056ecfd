//! VM exits (SDM vol. 3, chapter 28).

use crate::cpu::Cpu;
use crate::platform::Bus;

/// Takes the exit that `cpu.vmx.exit` describes, RIP being at the instruction that caused it.
pub fn take(_cpu: &mut Cpu, _bus: &mut Bus) {}
