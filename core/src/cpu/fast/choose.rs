//! Which instructions have a handler here, and which of them need not bother with flags.

use iced_x86::{Instruction, Mnemonic as Mn};

use super::operand::{Based, Indexed, Memory, Segmented};
use super::{arithmetic, branch, series, transfer, vmcs, Fast};
use crate::cpu::decode::Operand;
use crate::cpu::exec::alu::{self, Change, Compute};
use crate::cpu::exec::shift::{self, Shift};
use crate::cpu::insn::{flag, Imm, Insn, R0, R1};
use crate::cpu::segment::FS;
use crate::cpu::{CodeSize, ZERO};

/// What an instruction has to do with the six arithmetic flags.
#[derive(Clone, Copy, PartialEq)]
enum FlagUse {
    /// Nothing.
    Keeps,
    /// It sets all of them, whatever they were.
    Sets,
    /// It changes some of them, or for some operands only, and its result does not depend on them.
    Changes,
    Reads,
}

/// An instruction of the block, as decoding leaves it.
pub struct Candidate {
    pub raw: Instruction,
    pub operands: [Operand; 5],
    /// It has a handler of its own.
    pub known: bool,
}

/// What a handler is chosen by.
struct Shape<'a> {
    raw: &'a Instruction,
    operands: [Operand; 5],
    insn: &'a Insn,
    /// Nobody reads the flags that it sets.
    quiet: bool,
    /// The Jcc that comes next.
    jcc: Option<Mn>,
}

/// A place that this module's operands know.
#[derive(Clone, Copy, PartialEq)]
enum Place {
    Register,
    Immediate,
    Based,
    Indexed,
}

impl Shape<'_> {
    fn place(&self, operand: usize) -> Option<Place> {
        match self.operands[operand] {
            Operand::Gpr(_) => Some(Place::Register),
            Operand::Immediate => Some(Place::Immediate),
            Operand::Memory(_) => self.address(),
            _ => None,
        }
    }

    /// The kind of an address of 64 bits in a segment that starts at 0.
    fn address(&self) -> Option<Place> {
        let flat = self.insn.seg < FS as u8 && !self.insn.has(flag::ADDRESS32 | flag::ADDRESS16);
        flat.then_some(if self.insn.index == ZERO as u8 {
            Place::Based
        } else {
            Place::Indexed
        })
    }

    fn bytes(&self, operand: usize) -> u16 {
        match self.operands[operand] {
            Operand::Gpr(bytes) => bytes as u16,
            Operand::Memory(bytes) => bytes,
            _ => 0,
        }
    }
}

type Select = fn(&Shape) -> Option<Fast>;

/// The handler for an operand of that many bytes; 16-bit operands are too rare to have any.
macro_rules! sized {
    ($bytes:expr, $T:ident => $handler:expr) => {
        match $bytes {
            1 => {
                type $T = u8;
                Some($handler as Fast)
            }
            _ => sized_wide!($bytes, $T => $handler),
        }
    };
}
macro_rules! sized_wide {
    ($bytes:expr, $T:ident => $handler:expr) => {
        match $bytes {
            4 => {
                type $T = u32;
                Some($handler as Fast)
            }
            8 => {
                type $T = u64;
                Some($handler as Fast)
            }
            _ => None,
        }
    };
}

/// The handler with its source in `$place`; `$register` is the source that is a register.
macro_rules! from {
    ($place:expr, $register:ty, $S:ident => $handler:expr) => {
        match $place {
            Place::Register => {
                type $S = $register;
                $handler
            }
            Place::Immediate => {
                type $S = Imm;
                $handler
            }
            Place::Based => {
                type $S = Memory<Based>;
                $handler
            }
            Place::Indexed => {
                type $S = Memory<Indexed>;
                $handler
            }
        }
    };
}

/// The handler with its destination in `$place`.
macro_rules! to {
    ($place:expr, $D:ident => $handler:expr) => {
        match $place {
            Place::Register => {
                type $D = R0;
                $handler
            }
            Place::Based => {
                type $D = Memory<Based>;
                $handler
            }
            Place::Indexed => {
                type $D = Memory<Indexed>;
                $handler
            }
            Place::Immediate => None,
        }
    };
}

/// The handler for the condition of a Jcc; those on OF and PF are too rare to have any.
macro_rules! by_condition {
    ($jcc:expr, $N:ident => $handler:expr) => {
        by_condition!(@ $jcc, $N => $handler; 2 Jb, 3 Jae, 4 Je, 5 Jne, 6 Jbe, 7 Ja, 8 Js, 9 Jns, 12 Jl, 13 Jge, 14 Jle, 15 Jg)
    };
    (@ $jcc:expr, $N:ident => $handler:expr; $($number:literal $name:ident),*) => {
        match $jcc {
            $(Mn::$name => {
                const $N: u8 = $number;
                $handler
            })*
            _ => None,
        }
    };
}

/// The handler of two operands; at most one of them is in memory.
macro_rules! from_and_to {
    ($shape:expr, $T:ident $D:ident $S:ident => $handler:expr) => {{
        let (bytes, to, source) = ($shape.bytes(0), $shape.place(0)?, $shape.place(1)?);
        match (to, source) {
            (Place::Register, _) => {
                type $D = R0;
                from!(source, R1, $S => sized!(bytes, $T => $handler))
            }
            (_, Place::Register) => {
                type $S = R0;
                to!(to, $D => sized!(bytes, $T => $handler))
            }
            (_, Place::Immediate) => {
                type $S = Imm;
                to!(to, $D => sized!(bytes, $T => $handler))
            }
            _ => None,
        }
    }};
}

fn update<C: Compute>(shape: &Shape) -> Option<Fast> {
    if let Some(both) = shape.jcc.and_then(|jcc| update_and_jcc::<C>(shape, jcc)) {
        return Some(both);
    }
    if shape.quiet && shape.place(0)? == Place::Register {
        let source = shape.place(1)?;
        type Quiet<C> = arithmetic::Quiet<C>;
        return from!(source, R1, S =>
            sized_wide!(shape.bytes(0), T => arithmetic::update::<T, Quiet<C>, R0, S>));
    }
    from_and_to!(shape, T D S => arithmetic::update::<T, C, D, S>)
}

/// CMP or TEST of a register, and the Jcc after it.
fn compare_and_jcc<C: Compute>(shape: &Shape, jcc: Mn) -> Option<Fast> {
    let (bytes, first, second) = (shape.bytes(0), shape.place(0)?, shape.place(1)?);
    match (first, second) {
        (Place::Register, Place::Register) => {
            type B = R1;
            by_condition!(jcc, N => sized_wide!(bytes, T => branch::compare_and_jcc::<T, C, R0, B, N>))
        }
        (Place::Register, Place::Immediate) => {
            type B = Imm;
            by_condition!(jcc, N => sized_wide!(bytes, T => branch::compare_and_jcc::<T, C, R0, B, N>))
        }
        _ => None,
    }
}

/// An addition and its like of an immediate to a register, and the JE or JNE after it.
fn update_and_jcc<C: Compute>(shape: &Shape, jcc: Mn) -> Option<Fast> {
    let bytes = shape.bytes(0);
    match (shape.place(0)?, shape.place(1)?, jcc) {
        (Place::Register, Place::Immediate, Mn::Je) => {
            sized_wide!(bytes, T => branch::update_and_jcc::<T, C, Imm, 4>)
        }
        (Place::Register, Place::Immediate, Mn::Jne) => {
            sized_wide!(bytes, T => branch::update_and_jcc::<T, C, Imm, 5>)
        }
        _ => None,
    }
}

/// The result depends on CF.
fn update_with_carry<C: Compute>(shape: &Shape) -> Option<Fast> {
    if shape.place(0)? != Place::Register {
        return None;
    }
    from!(shape.place(1)?, R1, S => sized_wide!(shape.bytes(0), T => arithmetic::update::<T, C, R0, S>))
}

fn compare<C: Compute>(shape: &Shape) -> Option<Fast> {
    if let Some(both) = shape.jcc.and_then(|jcc| compare_and_jcc::<C>(shape, jcc)) {
        return Some(both);
    }
    from_and_to!(shape, T A B => arithmetic::compare::<T, C, A, B>)
}

fn in_place<C: Change>(shape: &Shape) -> Option<Fast> {
    let (bytes, place) = (shape.bytes(0), shape.place(0)?);
    if shape.quiet && place == Place::Register {
        return sized_wide!(bytes, T => arithmetic::in_place::<T, arithmetic::Quiet<C>, R0>);
    }
    to!(place, D => sized_wide!(bytes, T => arithmetic::in_place::<T, C, D>))
}

fn shift<K: Shift>(shape: &Shape) -> Option<Fast> {
    let bytes = shape.bytes(0);
    if shape.place(0)? != Place::Register {
        return None;
    }
    if shape.place(1)? != Place::Immediate {
        return if shape.quiet {
            sized_wide!(bytes, T => arithmetic::shift_by_cl::<T, arithmetic::Quiet<K>, R0>)
        } else {
            sized_wide!(bytes, T => arithmetic::shift_by_cl::<T, K, R0>)
        };
    }
    if shape.insn.imm & (bytes as u64 * 8).wrapping_sub(1) == 0 {
        return None;
    }
    if shape.quiet {
        sized_wide!(bytes, T => arithmetic::shift::<T, arithmetic::Quiet<K>, R0>)
    } else {
        sized_wide!(bytes, T => arithmetic::shift::<T, K, R0>)
    }
}

fn mov(shape: &Shape) -> Option<Fast> {
    flat_mov(shape).or_else(|| segmented_mov(shape))
}

fn flat_mov(shape: &Shape) -> Option<Fast> {
    from_and_to!(shape, T D S => transfer::mov::<T, D, S>)
}

fn segmented_mov(shape: &Shape) -> Option<Fast> {
    match (shape.operands[0], shape.operands[1]) {
        (Operand::Gpr(_), Operand::Memory(bytes)) => sized!(bytes, T => transfer::mov::<T, R0, Segmented>),
        (Operand::Memory(bytes), Operand::Gpr(_)) => sized!(bytes, T => transfer::mov::<T, Segmented, R0>),
        (Operand::Memory(bytes), Operand::Immediate) => {
            sized!(bytes, T => transfer::mov::<T, Segmented, Imm>)
        }
        _ => None,
    }
}

fn extend<const SIGNED: bool>(shape: &Shape) -> Option<Fast> {
    let bytes = shape.bytes(0);
    match shape.bytes(1) {
        1 => from!(shape.place(1)?, R1, S => sized_wide!(bytes, T => transfer::extend::<u8, T, S, SIGNED>)),
        2 => from!(shape.place(1)?, R1, S => sized_wide!(bytes, T => transfer::extend::<u16, T, S, SIGNED>)),
        4 => from!(shape.place(1)?, R1, S => sized_wide!(bytes, T => transfer::extend::<u32, T, S, SIGNED>)),
        _ => None,
    }
}

fn lea(shape: &Shape) -> Option<Fast> {
    let bytes = shape.bytes(0);
    match shape.address()? {
        Place::Indexed => sized_wide!(bytes, T => transfer::lea::<T, Indexed>),
        _ => sized_wide!(bytes, T => transfer::lea::<T, Based>),
    }
}

fn cmov<const CONDITION: u8>(shape: &Shape) -> Option<Fast> {
    from!(shape.place(1)?, R1, S => sized_wide!(shape.bytes(0), T => transfer::cmov::<T, S, CONDITION>))
}

fn setcc<const CONDITION: u8>(shape: &Shape) -> Option<Fast> {
    (shape.place(0)? == Place::Register).then_some(transfer::setcc::<CONDITION>)
}

fn push(shape: &Shape) -> Option<Fast> {
    // Of 64 bits, as all but those with an operand-size prefix are.
    (shape.raw.stack_pointer_increment() == -8)
        .then_some(from!(shape.place(0)?, R0, S => transfer::push::<S> as Fast))
}

fn pop(shape: &Shape) -> Option<Fast> {
    (shape.operands[0] == Operand::Gpr(8)).then_some(transfer::pop)
}

fn jcc<const CONDITION: u8>(shape: &Shape) -> Option<Fast> {
    shape
        .raw
        .is_jcc_short_or_near()
        .then_some(branch::jcc::<CONDITION>)
}

fn jmp(shape: &Shape) -> Option<Fast> {
    if shape.raw.is_jmp_short_or_near() {
        return Some(branch::jmp);
    }
    (shape.raw.is_jmp_near_indirect() && shape.bytes(0) == 8)
        .then_some(from!(shape.place(0)?, R0, S => branch::jmp_indirect::<S> as Fast))
}

fn call(shape: &Shape) -> Option<Fast> {
    if shape.raw.is_call_near() {
        return Some(branch::call);
    }
    (shape.raw.is_call_near_indirect() && shape.bytes(0) == 8)
        .then_some(from!(shape.place(0)?, R0, S => branch::call_indirect::<S> as Fast))
}

fn ret(shape: &Shape) -> Option<Fast> {
    use iced_x86::Code;
    matches!(shape.raw.code(), Code::Retnq | Code::Retnq_imm16).then_some(branch::ret)
}

/// VMREAD and VMWRITE.
fn by_registers(shape: &Shape, handler: Fast) -> Option<Fast> {
    (shape.operands[..2] == [Operand::Gpr(8); 2]).then_some(handler)
}

fn nop(_: &Shape) -> Option<Fast> {
    Some(transfer::nop)
}

/// The rows of `Jcc`, `CMOVcc` and `SETcc` for each condition.
macro_rules! conditions {
    ($($number:literal $jcc:ident $cmov:ident $setcc:ident;)*) => {
        fn conditional(mnemonic: Mn) -> Option<Select> {
            Some(match mnemonic {
                $(
                    Mn::$jcc => jcc::<$number>,
                    Mn::$cmov => cmov::<$number>,
                    Mn::$setcc => setcc::<$number>,
                )*
                _ => return None,
            })
        }
    };
}
conditions! {
    0 Jo Cmovo Seto;
    1 Jno Cmovno Setno;
    2 Jb Cmovb Setb;
    3 Jae Cmovae Setae;
    4 Je Cmove Sete;
    5 Jne Cmovne Setne;
    6 Jbe Cmovbe Setbe;
    7 Ja Cmova Seta;
    8 Js Cmovs Sets;
    9 Jns Cmovns Setns;
    10 Jp Cmovp Setp;
    11 Jnp Cmovnp Setnp;
    12 Jl Cmovl Setl;
    13 Jge Cmovge Setge;
    14 Jle Cmovle Setle;
    15 Jg Cmovg Setg;
}

/// How a mnemonic is served. An instruction whose operands are all registers or immediates, in a row that does not say
/// `Reads`, never stops.
fn row(mnemonic: Mn) -> Option<(Select, FlagUse)> {
    use FlagUse::*;
    let (select, flags): (Select, FlagUse) = match mnemonic {
        Mn::Add => (update::<alu::Add>, Sets),
        Mn::Sub => (update::<alu::Sub>, Sets),
        Mn::And => (update::<alu::And>, Sets),
        Mn::Or => (update::<alu::Or>, Sets),
        Mn::Xor => (update::<alu::Xor>, Sets),
        Mn::Adc => (update_with_carry::<alu::AddCarry>, Reads),
        Mn::Sbb => (update_with_carry::<alu::SubBorrow>, Reads),
        Mn::Cmp => (compare::<alu::Sub>, Sets),
        Mn::Test => (compare::<alu::And>, Sets),
        Mn::Inc => (in_place::<alu::Inc>, Changes),
        Mn::Dec => (in_place::<alu::Dec>, Changes),
        Mn::Neg => (in_place::<alu::Neg>, Sets),
        Mn::Not => (in_place::<alu::Not>, Keeps),
        Mn::Shl => (shift::<shift::Shl>, Changes),
        Mn::Shr => (shift::<shift::Shr>, Changes),
        Mn::Sar => (shift::<shift::Sar>, Changes),
        Mn::Rol => (shift::<shift::Rol>, Changes),
        Mn::Ror => (shift::<shift::Ror>, Changes),
        Mn::Mov => (mov, Keeps),
        Mn::Movzx => (extend::<false>, Keeps),
        Mn::Movsx | Mn::Movsxd => (extend::<true>, Keeps),
        Mn::Lea => (lea, Keeps),
        Mn::Push => (push, Reads),
        Mn::Pop => (pop, Reads),
        Mn::Jmp => (jmp, Reads),
        Mn::Call => (call, Reads),
        Mn::Ret => (ret, Reads),
        Mn::Vmread => (|shape| by_registers(shape, vmcs::vmread), Reads),
        Mn::Vmwrite => (|shape| by_registers(shape, vmcs::vmwrite), Reads),
        Mn::Nop | Mn::Endbr64 => (nop, Keeps),
        other => (conditional(other)?, Reads),
    };
    Some((select, flags))
}

/// A MOV, or no operand is in memory. Outside 64-bit mode only such instructions have a handler here: segments have bases
/// and limits, and branches end where a segment does.
fn is_simple(candidate: &Candidate) -> bool {
    let plain = |operand: &Operand| matches!(operand, Operand::None | Operand::Gpr(_) | Operand::Immediate);
    candidate.raw.mnemonic() == Mn::Mov || candidate.operands.iter().all(plain)
}

/// Gives the instructions of a block their handlers. From the last one up: what is wanted of the flags that an
/// instruction leaves depends on those after it. At the end of the block, and wherever an instruction can stop, all of
/// them are.
pub fn choose(insns: &mut [Insn], candidates: &[Candidate], size: CodeSize) {
    let long = size == CodeSize::Bits64;
    let mut wanted = true;
    let mut next = None;
    let mut series = None;
    for (insn, candidate) in insns.iter_mut().zip(candidates).rev() {
        let in_memory = |operand: &Operand| matches!(operand, Operand::Memory(_));
        let stops = candidate.operands.iter().any(in_memory) && candidate.raw.mnemonic() != Mn::Lea;
        let mut based = false;
        let chosen = row(candidate.raw.mnemonic())
            .filter(|_| candidate.known && !insn.has(flag::ALONE))
            .filter(|(_, flags)| long || *flags != FlagUse::Reads && is_simple(candidate))
            .and_then(|(select, flags)| {
                let shape = Shape {
                    raw: &candidate.raw,
                    operands: candidate.operands,
                    insn,
                    quiet: !wanted,
                    jcc: next
                        .filter(|next: &Instruction| long && next.is_jcc_short_or_near())
                        .map(|next| next.mnemonic()),
                };
                based = shape.address() == Some(Place::Based);
                Some((select(&shape)?, flags))
            });
        let own = chosen.is_some();
        let (fast, flags) = chosen.unwrap_or((insn.fast, FlagUse::Reads));
        insn.fast = fast;
        series = own.then_some(candidate).and_then(|it| {
            let mnemonic = it.raw.mnemonic();
            series::choose(insn, mnemonic, &it.operands, based, series)
        });
        next = Some(candidate.raw);
        wanted = stops
            || match flags {
                FlagUse::Keeps | FlagUse::Changes => wanted,
                FlagUse::Sets => false,
                FlagUse::Reads => true,
            };
    }
}
