//! Bytes to blocks. iced-x86 decodes; each group of instructions in `exec` says, mnemonic by mnemonic, which handler
//! serves which form.

use std::sync::LazyLock;

use iced_x86::{
    Code, Decoder, DecoderError, DecoderOptions, EncodingKind, Instruction, Mnemonic, OpKind, Register,
};

use super::cet::Enforcement;
use super::insn::{flag, Handler, Insn, HIGH_BYTE};
use super::offered::Offered;
use super::{bus_lock, exec, fast, segment, CodeSize, BLOCK_RIP, ZERO};

/// What an operand is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operand {
    None,
    /// A general-purpose register and its size in bytes.
    Gpr(u8),
    Xmm,
    Ymm,
    Mmx,
    St,
    Segment,
    Control,
    Debug,
    /// Memory and its size in bytes, 0 where it has none (LEA, FXSAVE, …).
    Memory(u16),
    Immediate,
    NearBranch,
    FarBranch,
    Other,
}

/// An instruction as the tables of handlers see it.
pub struct Form<'a> {
    pub insn: &'a Instruction,
    pub code: Code,
    pub operands: [Operand; 5],
    pub size: CodeSize,
    pub enforcement: Enforcement,
    /// VEX-encoded.
    pub vex: bool,
}

impl Form<'_> {
    pub fn has_memory(&self) -> bool {
        self.operands
            .iter()
            .any(|operand| matches!(operand, Operand::Memory(_)))
    }
}

/// Chooses the handler of a form; `None`: it is not this row's. A form that no row takes is #UD.
pub type Select = fn(&Form) -> Option<Handler>;

/// How an instruction stands in a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// RIP goes on to the next instruction.
    Next,
    /// The handler sets RIP; the block ends.
    Branch,
    /// A block of its own: it needs the exact count, talks to devices, or changes what decoding, translation or
    /// interrupts depend on.
    Alone,
    /// Both.
    AloneBranch,
}

/// A row of a group's table.
pub type Row = (Mnemonic, Select, Flow);
pub type Group = &'static [Row];

/// The rows of each mnemonic.
static ROWS: LazyLock<Vec<Vec<Row>>> = LazyLock::new(|| {
    let mut table = vec![Vec::new(); Mnemonic::values().len()];
    for row in exec::GROUPS.iter().flat_map(|group| group.iter()) {
        table[row.0 as usize].push(*row);
    }
    table
});

/// Longest block; bounds the work between two looks at anything.
const MOST_INSNS: usize = 64;

/// The most bytes that an instruction may have, prefixes included (SDM vol. 2, 2.3.11).
const LONGEST: usize = 15;

/// How decoding ended.
pub enum Decoded {
    Block(Vec<Insn>),
    /// The first instruction needs more bytes than there are: it crosses into the next page.
    NeedsMore,
}

/// Decodes a block from `bytes`, which end at a page's end (or two pages on, for one that crosses). `base` is the RIP
/// of the first byte; `cut` says before which offsets a block must end (breakpoints).
pub fn block(
    bytes: &[u8],
    (size, enforcement): (CodeSize, Enforcement),
    base: u64,
    offered: &Offered,
    cut: impl Fn(u64) -> bool,
) -> Decoded {
    let mut decoder = Decoder::with_ip(size.bitness(), bytes, base, offered.options);
    let mut insns: Vec<Insn> = Vec::new();
    let mut candidates = Vec::new();
    let mut raw = Instruction::default();
    while insns.len() < MOST_INSNS {
        let offset = decoder.position() as u64;
        if !insns.is_empty() && (cut(offset) || !decoder.can_decode()) {
            break;
        }
        decoder.decode_out(&mut raw);
        if decoder.last_error() == DecoderError::NoMoreBytes && bytes.len() - (offset as usize) < LONGEST {
            if insns.is_empty() {
                return Decoded::NeedsMore;
            }
            break;
        }
        let own = bytes.get(offset as usize..decoder.position()).unwrap_or_default();
        let place = (base, offset as u16, insns.len() as u8);
        let (mut insn, mut candidate, ends, alone) =
            translate(&raw, own, (size, enforcement), offered, place);
        if enforcement != Enforcement::default() && exec::is_enforced(raw.mnemonic()) {
            candidate.known = false;
        }
        if raw.is_invalid() && raw.len() == LONGEST && is_too_long(&bytes[offset as usize..], size) {
            insn.run = exec::too_long;
            candidate.known = false;
        }
        if alone && !insns.is_empty() {
            break;
        }
        insns.push(insn);
        candidates.push(candidate);
        // Most conditional branches are not taken: the block goes on.
        let goes_on = size == CodeSize::Bits64 && raw.is_jcc_short_or_near();
        if ends && !goes_on || alone {
            break;
        }
    }
    fast::choose(&mut insns, &candidates, size);
    Decoded::Block(insns)
}

/// Whether what is invalid and has `LONGEST` bytes is so because there would be more: iced has one error for all. It
/// starts with a prefix that it can do without.
fn is_too_long(bytes: &[u8], size: CodeSize) -> bool {
    let shorter = bytes.get(1..).unwrap_or_default();
    Decoder::new(size.bitness(), shorter, DecoderOptions::NONE)
        .decode()
        .len()
        >= LONGEST
}

/// One instruction, whether it ends a block, and whether it must be a block of its own.
fn translate(
    raw: &Instruction,
    bytes: &[u8],
    (size, enforcement): (CodeSize, Enforcement),
    offered: &Offered,
    (base, offset, position): (u64, u16, u8),
) -> (Insn, fast::Candidate, bool, bool) {
    let mut operands = [Operand::None; 5];
    let mut r = [0u8; 3];
    let mut registers = 0;
    let mut imm = 0;
    for (at, kind) in raw.op_kinds().enumerate().take(5) {
        operands[at] = match kind {
            OpKind::Register => {
                let register = raw.op_register(at as u32);
                if at == 3 {
                    // Encoded in an immediate: the mask of VBLENDVPS and its like.
                    imm = number(register) as u64;
                } else {
                    r[registers..].fill(number(register));
                    registers += 1;
                }
                class(register)
            }
            OpKind::NearBranch16 | OpKind::NearBranch32 | OpKind::NearBranch64 => {
                imm = raw.near_branch_target().wrapping_sub(base);
                Operand::NearBranch
            }
            OpKind::FarBranch16 | OpKind::FarBranch32 => {
                let (selector, target) = (raw.far_branch_selector(), raw.far_branch32());
                let target = if kind == OpKind::FarBranch16 {
                    raw.far_branch16() as u32
                } else {
                    target
                };
                imm = target as u64 | (selector as u64) << 32;
                Operand::FarBranch
            }
            OpKind::Memory => Operand::Memory(raw.memory_size().size() as u16),
            OpKind::Immediate8_2nd => {
                // ENTER and EXTRQ have two immediates: the second goes above the first.
                imm |= (raw.immediate8_2nd() as u64) << 16;
                Operand::Immediate
            }
            kind if is_immediate(kind) => {
                imm = raw.immediate(at as u32);
                Operand::Immediate
            }
            _ => Operand::Memory(raw.memory_size().size() as u16),
        };
    }

    if raw.is_vsib() {
        r[2] = number(raw.memory_index());
    }
    if let Some(opcode) = x87_opcode(bytes) {
        imm = opcode as u64;
    }

    let form = Form {
        insn: raw,
        code: raw.code(),
        operands,
        size,
        enforcement,
        vex: raw.code().encoding() == EncodingKind::VEX,
    };
    let (handler, flow) = ROWS[raw.mnemonic() as usize]
        .iter()
        .filter(|_| offered.has(raw))
        .find_map(|(_, select, flow)| Some((Some(select(&form)?), *flow)))
        .unwrap_or((None, Flow::Branch));
    // A load of SS, and every move to or from control and debug registers, has effects between instructions.
    let special = matches!(operands[0], Operand::Segment if raw.op0_register() == Register::SS)
        || operands
            .iter()
            .any(|operand| matches!(operand, Operand::Control | Operand::Debug));
    let locked = enforcement.bus_locks && bus_lock::is_locked(raw);
    let alone = special || locked || matches!(flow, Flow::Alone | Flow::AloneBranch);
    let branches = matches!(flow, Flow::Branch | Flow::AloneBranch);

    let mut flags = 0;
    let mut set = |bit, on| flags |= if on { bit } else { 0 };
    set(flag::LOCK, raw.has_lock_prefix());
    set(flag::REP, raw.has_rep_prefix());
    set(flag::REPNE, raw.has_repne_prefix());
    set(flag::BRANCH, branches);
    set(flag::ALONE, alone);
    set(flag::MEMORY, form.has_memory());
    let address_bits = address_bits(raw, size);
    set(flag::ADDRESS16, address_bits == 16);
    set(flag::ADDRESS32, address_bits == 32);

    let rip_relative = matches!(raw.memory_base(), Register::RIP | Register::EIP);
    let displacement = raw.memory_displacement64();
    let insn = Insn {
        run: handler.unwrap_or(exec::undefined),
        fast: if alone { fast::alone } else { fast::exact },
        imm,
        disp: if rip_relative {
            displacement.wrapping_sub(base)
        } else {
            displacement
        },
        base: if rip_relative {
            BLOCK_RIP as u8
        } else {
            memory_number(raw.memory_base())
        },
        index: memory_number(raw.memory_index()),
        scale: raw.memory_index_scale() as u8,
        seg: number(raw.memory_segment()).min(segment::GS as u8),
        r,
        flags,
        code: raw.code() as u16,
        offset,
        length: raw.len() as u8,
        position,
    };
    let candidate = fast::Candidate {
        raw: *raw,
        operands,
        known: handler.is_some(),
    };
    (insn, candidate, branches || handler.is_none(), alone)
}

/// The eleven bits that the x87 keeps of its last instruction: of the opcode, and of the ModRM byte. Only prefixes come
/// before them.
fn x87_opcode(bytes: &[u8]) -> Option<u16> {
    let is_prefix = |byte: u8| {
        matches!(
            byte,
            0x26 | 0x2e | 0x36 | 0x3e | 0x40..=0x4f | 0x64..=0x67 | 0xf0 | 0xf2 | 0xf3
        )
    };
    let at = bytes.iter().position(|byte| !is_prefix(*byte))?;
    match bytes[at..] {
        [escape @ 0xd8..=0xdf, modrm, ..] => Some(((escape & 7) as u16) << 8 | modrm as u16),
        _ => None,
    }
}

fn is_immediate(kind: OpKind) -> bool {
    matches!(
        kind,
        OpKind::Immediate8
            | OpKind::Immediate16
            | OpKind::Immediate32
            | OpKind::Immediate64
            | OpKind::Immediate8to16
            | OpKind::Immediate8to32
            | OpKind::Immediate8to64
            | OpKind::Immediate32to64
    )
}

fn memory_number(register: Register) -> u8 {
    if register.is_gpr() {
        number(register)
    } else {
        ZERO as u8
    }
}

/// A register's number as handlers use it: AH … BH are marked, all others count from 0 within their class.
fn number(register: Register) -> u8 {
    match register {
        Register::AH | Register::CH | Register::DH | Register::BH => {
            HIGH_BYTE | (register as u8 - Register::AH as u8)
        }
        Register::None => 0,
        // Byte registers are numbered among themselves: SPL follows BH there, R8L DIL.
        other if other.is_gpr() => other.full_register().number() as u8,
        other => other.number() as u8,
    }
}

fn class(register: Register) -> Operand {
    if register.is_gpr() {
        Operand::Gpr(register.size() as u8)
    } else if register.is_xmm() {
        Operand::Xmm
    } else if register.is_ymm() {
        Operand::Ymm
    } else if register.is_mm() {
        Operand::Mmx
    } else if register.is_st() {
        Operand::St
    } else if register.is_segment_register() {
        Operand::Segment
    } else if register.is_cr() {
        Operand::Control
    } else if register.is_dr() {
        Operand::Debug
    } else {
        Operand::Other
    }
}

/// The address size in bits: of the memory operand, explicit or implied, else the mode's.
fn address_bits(raw: &Instruction, size: CodeSize) -> u32 {
    match raw.code() {
        Code::Monitorw | Code::Umonitor_r16 => return 16,
        Code::Monitord | Code::Umonitor_r32 => return 32,
        Code::Monitorq | Code::Umonitor_r64 => return 64,
        _ => {}
    }
    raw.op_kinds()
        .find_map(|kind| match kind {
            OpKind::Memory => Some(match (raw.memory_base(), raw.memory_index()) {
                (Register::None, index) if !index.is_gpr() => match raw.memory_displ_size() {
                    2 => 16,
                    4 => 32,
                    8 => 64,
                    _ => size.bitness(),
                },
                (Register::None, index) => index.size() as u32 * 8,
                (base, _) => base.size() as u32 * 8,
            }),
            OpKind::MemorySegSI | OpKind::MemorySegDI | OpKind::MemoryESDI => Some(16),
            OpKind::MemorySegESI | OpKind::MemorySegEDI | OpKind::MemoryESEDI => Some(32),
            OpKind::MemorySegRSI | OpKind::MemorySegRDI | OpKind::MemoryESRDI => Some(64),
            _ => None,
        })
        .unwrap_or(size.bitness())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::exception::vector;
    use crate::cpu::{Cpu, Stop};
    use crate::platform::Bus;
    use crate::vmx::profile::Profile;
    use std::sync::Arc;

    /// The exception that the first instruction of `bytes` raises.
    fn exception(bytes: &[u8]) -> Option<u8> {
        let mut cpu = Cpu::new(0, Arc::new(Profile::default()));
        let offered = cpu.offered.clone();
        let Decoded::Block(insns) = block(
            bytes,
            (CodeSize::Bits32, Enforcement::default()),
            0,
            &offered,
            |_| false,
        ) else {
            return None;
        };
        match (insns[0].run)(&mut cpu, &mut Bus::new(0x1000, 1), &insns[0]) {
            Err(Stop::Fault) => Some(cpu.fault.event.vector),
            _ => None,
        }
    }

    #[test]
    fn an_instruction_has_fifteen_bytes_at_most() {
        let prefixed =
            |prefixes: usize, opcode: &[u8]| [&vec![0x66; prefixes][..], opcode, &[0; 16]].concat();
        assert_eq!(exception(&prefixed(14, &[0x90])), None);
        assert_eq!(
            exception(&prefixed(15, &[0x90])),
            Some(vector::GENERAL_PROTECTION)
        );
        assert_eq!(
            exception(&prefixed(13, &[0x0f, 0x0b])),
            Some(vector::INVALID_OPCODE)
        );
        assert_eq!(
            exception(&prefixed(14, &[0x0f, 0x0b])),
            Some(vector::GENERAL_PROTECTION)
        );
    }

    #[test]
    fn an_instruction_that_ends_beyond_the_page_needs_more() {
        let offered = Offered::by(&Profile::default());
        let decoded = |bytes| {
            block(
                bytes,
                (CodeSize::Bits64, Enforcement::default()),
                0,
                &offered,
                |_| false,
            )
        };
        assert!(matches!(decoded(&[0x48, 0x8b]), Decoded::NeedsMore));
        assert!(matches!(decoded(&[0x90, 0x48, 0x8b]), Decoded::Block(insns) if insns.len() == 1));
    }
}
