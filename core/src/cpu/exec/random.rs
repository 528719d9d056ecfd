//! RDRAND and RDSEED. Their numbers come from a generator that is a part of the processor's state: the same run gives the
//! same numbers.

use iced_x86::Mnemonic as Mn;

use crate::cpu::decode::{Flow, Form, Group, Operand};
use crate::cpu::insn::{Handler, Insn};
use crate::cpu::int::Int;
use crate::cpu::{Cpu, Done};
use crate::platform::Bus;
use crate::vmx::intercept;

/// SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014).
#[derive(Clone, Copy, Debug)]
pub struct Generator(u64);

impl Generator {
    const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

    /// Another sequence for each processor.
    pub fn new(id: usize) -> Generator {
        Generator(Generator::STEP.rotate_left(32).wrapping_mul(id as u64 + 1))
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(Generator::STEP);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }
}

/// There is always a number: CF is 1, the other flags 0.
fn random<T: Int, const SEED: bool>(cpu: &mut Cpu, _: &mut Bus, insn: &Insn) -> Done {
    intercept::random(cpu, insn, SEED)?;
    let value = cpu.random.next();
    cpu.set_reg(insn.r[0], T::from_u64(value));
    // A result of 1 is not zero, not negative and of odd parity.
    cpu.flags.result_with(1u8, true, false);
    Ok(())
}

fn select<const SEED: bool>(form: &Form) -> Option<Handler> {
    match form.operands[0] {
        Operand::Gpr(bytes) => by_wide_size!(bytes, T => random::<T, SEED>),
        _ => None,
    }
}

pub static ROWS: Group = &[
    (Mn::Rdrand, select::<false>, Flow::Next),
    (Mn::Rdseed, select::<true>, Flow::Next),
];
