//! Comparison of strings: PCMPESTRI, PCMPESTRM, PCMPISTRI, PCMPISTRM (SDM vol. 1, 12.10 and vol. 2, 4.1).

use super::lanes::{build, lane, Xmm};
use super::vector::{Encoding, Source, Vex};
use crate::cpu::decode::{Form, Group};
use crate::cpu::flags::{CF, OF, SF, ZF};
use crate::cpu::insn::{Handler, Insn};
use crate::cpu::{Cpu, Done, RAX, RCX, RDX};
use crate::platform::Bus;

/// The control byte.
#[derive(Clone, Copy)]
struct Control(u8);

/// Which characters of the second operand count (bits 3:2).
#[derive(Clone, Copy, PartialEq)]
enum Aggregation {
    EqualAny,
    Ranges,
    EqualEach,
    EqualOrdered,
}

impl Control {
    fn words(self) -> bool {
        self.0 & 1 != 0
    }
    fn signed(self) -> bool {
        self.0 & 2 != 0
    }
    fn aggregation(self) -> Aggregation {
        match self.0 >> 2 & 3 {
            0 => Aggregation::EqualAny,
            1 => Aggregation::Ranges,
            2 => Aggregation::EqualEach,
            _ => Aggregation::EqualOrdered,
        }
    }
    /// Bits 5:4: the result is negated, all of it or where the second operand is valid.
    fn negates(self) -> bool {
        self.0 & 0x10 != 0
    }
    fn only_valid(self) -> bool {
        self.0 & 0x20 != 0
    }
    /// The index of the last match instead of the first; a mask of lanes instead of bits.
    fn last_or_lanes(self) -> bool {
        self.0 & 0x40 != 0
    }
    /// Characters in an operand.
    fn count(self) -> usize {
        if self.words() {
            8
        } else {
            16
        }
    }
    fn character(self, value: Xmm, number: usize) -> i32 {
        match (self.words(), self.signed()) {
            (false, false) => lane::<u8>(value, number as u32) as i32,
            (false, true) => lane::<u8>(value, number as u32) as i8 as i32,
            (true, false) => lane::<u16>(value, number as u32) as i32,
            (true, true) => lane::<u16>(value, number as u32) as i16 as i32,
        }
    }
    /// The characters before the first that is 0.
    fn implicit_length(self, value: Xmm) -> usize {
        (0..self.count())
            .find(|number| self.character(value, *number) == 0)
            .unwrap_or(self.count())
    }
    /// The magnitude of a register, at most all characters.
    fn explicit_length(self, value: i64) -> usize {
        value.unsigned_abs().min(self.count() as u64) as usize
    }
}

/// IntRes1: a bit for each character of `b`. `a` and `b` have `a_length` and `b_length` valid characters; what becomes
/// of the others is the table "Comparison result after validity" of the SDM.
fn matches(control: Control, a: Xmm, a_length: usize, b: Xmm, b_length: usize) -> u32 {
    let count = control.count();
    let (x, y) = (|i| control.character(a, i), |j| control.character(b, j));
    let holds = |j: usize| match control.aggregation() {
        Aggregation::EqualAny => j < b_length && (0..a_length).any(|i| x(i) == y(j)),
        Aggregation::Ranges => {
            // Pairs of bounds; one that lacks its upper bound matches nothing.
            j < b_length && (0..a_length / 2).any(|pair| (x(2 * pair)..=x(2 * pair + 1)).contains(&y(j)))
        }
        Aggregation::EqualEach => match (j < a_length, j < b_length) {
            (true, true) => x(j) == y(j),
            (a_valid, b_valid) => a_valid == b_valid,
        },
        Aggregation::EqualOrdered => {
            // `a` starts at `j`; what would lie beyond the operand is not looked at.
            (0..a_length.min(count - j)).all(|i| j + i < b_length && x(i) == y(j + i))
        }
    };
    (0..count).fold(0, |all, j| all | (holds(j) as u32) << j)
}

fn compare<L: Lengths, R: Answer, E: Encoding, S: Source>(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn) -> Done {
    E::check(cpu)?;
    // In memory, the operand need not be aligned in any encoding.
    let [b, _] = S::read::<Vex<1>, 16>(cpu, bus, insn)?;
    let (a, control) = (cpu.xmm(insn.r[0]), Control(insn.imm as u8));
    let count = control.count();
    let (a_length, b_length) = match L::BITS {
        0 => (control.implicit_length(a), control.implicit_length(b)),
        32 => (
            control.explicit_length(cpu.regs[RAX] as i32 as i64),
            control.explicit_length(cpu.regs[RDX] as i32 as i64),
        ),
        _ => (
            control.explicit_length(cpu.regs[RAX] as i64),
            control.explicit_length(cpu.regs[RDX] as i64),
        ),
    };
    let mut result = matches(control, a, a_length, b, b_length);
    if control.negates() {
        let negated = if control.only_valid() { b_length } else { count };
        result ^= (1 << negated) - 1;
    }
    if R::MASK {
        let lanes = match (control.last_or_lanes(), control.words()) {
            (false, _) => [result as u64, 0],
            (true, false) => build::<u8>(|number| if result >> number & 1 != 0 { !0 } else { 0 }),
            (true, true) => build::<u16>(|number| if result >> number & 1 != 0 { !0 } else { 0 }),
        };
        E::write(cpu, 0, [lanes, [0; 2]]);
    } else {
        let index = match (result, control.last_or_lanes()) {
            (0, _) => count as u32,
            (_, true) => 31 - result.leading_zeros(),
            (_, false) => result.trailing_zeros(),
        };
        cpu.regs[RCX] = index as u64;
    }
    let flags = [
        (CF, result != 0),
        (ZF, b_length < count),
        (SF, a_length < count),
        (OF, result & 1 != 0),
    ];
    let set = flags
        .iter()
        .filter(|(_, on)| *on)
        .fold(0, |all, (flag, _)| all | flag);
    cpu.flags.set(cpu.flags.rest | set);
    Ok(())
}

/// The size of the registers that hold the lengths, 0 where a character of 0 ends a string.
trait Lengths {
    const BITS: u32;
}
struct Implicit;
impl Lengths for Implicit {
    const BITS: u32 = 0;
}
impl Lengths for u32 {
    const BITS: u32 = 32;
}
impl Lengths for u64 {
    const BITS: u32 = 64;
}

/// Whether the answer is a mask in XMM0, or else an index in ECX.
trait Answer {
    const MASK: bool;
}
struct Mask;
impl Answer for Mask {
    const MASK: bool = true;
}
struct Index;
impl Answer for Index {
    const MASK: bool = false;
}

fn select<L: Lengths, R: Answer>(form: &Form) -> Option<Handler> {
    by_narrow_encoding!(form, compare, L, R)
}

pub static ROWS: Group = vector_rows! {
    Pcmpestri Vpcmpestri => select::<u32, Index>;
    Pcmpestri64 Vpcmpestri64 => select::<u64, Index>;
    Pcmpestrm Vpcmpestrm => select::<u32, Mask>;
    Pcmpestrm64 Vpcmpestrm64 => select::<u64, Mask>;
    Pcmpistri Vpcmpistri => select::<Implicit, Index>;
    Pcmpistrm Vpcmpistrm => select::<Implicit, Mask>;
};
