//! Bus locks (SDM vol. 3, 9.1.2): locked accesses that do not stay in one line of write-back memory. They matter where
//! a hypervisor wants to know of them; the processor's own locked accesses, such as those to descriptors, are not told.

use iced_x86::{Code, Instruction, Mnemonic, OpKind};

use super::insn::{flag, Insn};
use super::Cpu;
use crate::mmu::memory_type;
use crate::platform::Bus;

const LINE: u64 = 64;

/// A locked access to memory by an instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Locked {
    pub linear: u64,
    pub bytes: u64,
}

/// Why an access asserts a bus lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// It crosses into another line of the cache.
    Split,
    /// The memory is not write-back.
    MemoryType,
}

/// Whether an instruction makes a locked access: it has a LOCK prefix, or is XCHG with memory.
pub fn is_locked(raw: &Instruction) -> bool {
    let memory = raw.op_kinds().any(|kind| kind == OpKind::Memory);
    memory && (raw.has_lock_prefix() || raw.mnemonic() == Mnemonic::Xchg)
}

impl Cpu {
    /// The locked access that `insn`, which comes next, is to make.
    pub fn locked_access(&self, insn: &Insn) -> Option<Locked> {
        let mut raw = Instruction::default();
        raw.set_code(Code::try_from(insn.code as usize).ok()?);
        let exchange = raw.mnemonic() == Mnemonic::Xchg;
        if !insn.has(flag::MEMORY) || !(insn.has(flag::LOCK) || exchange) {
            return None;
        }
        let bytes = raw.memory_size().size() as u64;
        let mut address = self.ea(insn);
        if let Some(bit) = self.bit_number(&raw, insn) {
            // A bit string: the operand lies where the bit does.
            let operand = bit >> (bytes * 8).trailing_zeros();
            address = address.wrapping_add((operand as u64).wrapping_mul(bytes)) & insn.address_mask();
        }
        let base = self.window[(insn.seg & 7) as usize].base;
        Some(Locked {
            linear: address.wrapping_add(base) & self.linear_mask,
            bytes,
        })
    }

    /// The bit, in a register and of either sign, that BTS and its like look for in memory.
    fn bit_number(&self, raw: &Instruction, insn: &Insn) -> Option<i64> {
        let value = self.regs[insn.r[0] as usize];
        match raw.code() {
            Code::Bts_rm16_r16 | Code::Btr_rm16_r16 | Code::Btc_rm16_r16 => Some(value as i16 as i64),
            Code::Bts_rm32_r32 | Code::Btr_rm32_r32 | Code::Btc_rm32_r32 => Some(value as i32 as i64),
            Code::Bts_rm64_r64 | Code::Btr_rm64_r64 | Code::Btc_rm64_r64 => Some(value as i64),
            _ => None,
        }
    }

    /// Whether an access that was made has asserted a bus lock.
    pub fn bus_lock(&mut self, bus: &mut Bus, locked: Locked) -> Option<Why> {
        if locked.linear % LINE + locked.bytes > LINE {
            return Some(Why::Split);
        }
        (!memory_type::is_write_back(self, bus, locked.linear)).then_some(Why::MemoryType)
    }
}
