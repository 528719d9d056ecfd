//! A decoded instruction, and the operands that its handler reads and writes.

use super::fast::Fast;
use super::int::Int;
use super::{Cpu, Done, Stop, BLOCK_RIP};
use crate::platform::Bus;

/// Executes one instruction. Until it returns `Ok` or `Stop::Sync` or `Stop::Again` nothing that a guest can see has
/// changed, but for what the SDM says a faulting instruction may change.
pub type Handler = fn(&mut Cpu, &mut Bus, &Insn) -> Done;

/// Flag bits of `Insn::flags`.
pub mod flag {
    /// 32-bit or 16-bit address size; neither: 64-bit.
    pub const ADDRESS32: u8 = 1 << 0;
    pub const ADDRESS16: u8 = 1 << 1;
    /// The handler sets `Cpu::rip`; but for a Jcc of 64-bit mode the instruction ends its block.
    pub const BRANCH: u8 = 1 << 2;
    pub const LOCK: u8 = 1 << 3;
    pub const REP: u8 = 1 << 4;
    pub const REPNE: u8 = 1 << 5;
    /// There is a memory operand, explicit or implied.
    pub const MEMORY: u8 = 1 << 6;
    /// A block of its own, run with the clock exact and a look at everything after it.
    pub const ALONE: u8 = 1 << 7;
}

/// What an effective address is cut to, by the two low bits of `Insn::flags`.
const ADDRESS_MASKS: [u64; 4] = [!0, 0xffff_ffff, 0xffff, 0xffff];

/// A register number that stands for AH, CH, DH or BH (0x80 | 0..3).
pub const HIGH_BYTE: u8 = 0x80;

#[derive(Clone, Copy)]
pub struct Insn {
    pub run: Handler,
    /// The same within a block.
    pub fast: Fast,
    /// An immediate (sign-extended to 64 bits as the instruction uses it), or a near branch's displacement relative to
    /// the start of the block.
    pub imm: u64,
    /// Displacement; of a RIP-relative operand relative to the start of the block.
    pub disp: u64,
    /// Indices into `Cpu::regs`; `ZERO` where there is none, `BLOCK_RIP` for RIP-relative.
    pub base: u8,
    pub index: u8,
    /// Factor of the index.
    pub scale: u8,
    /// Index into `Cpu::seg`.
    pub seg: u8,
    /// Registers in operand order, memory and immediates left out: the first register operand is `r[0]` and so on. What
    /// is left over repeats the last. `r[2]` of a gather is its vector of indices.
    pub r: [u8; 3],
    pub flags: u8,
    /// iced's `Code`, for handlers that serve several forms.
    pub code: u16,
    /// Bytes from the start of the block to this instruction.
    pub offset: u16,
    pub length: u8,
    /// Its number in the block.
    pub position: u8,
}

impl Insn {
    #[inline(always)]
    pub fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    #[inline(always)]
    pub fn address_mask(&self) -> u64 {
        ADDRESS_MASKS[(self.flags & 3) as usize]
    }
}

impl Cpu {
    /// The effective address (offset into `insn.seg`) of the memory operand.
    #[inline(always)]
    pub fn ea(&self, insn: &Insn) -> u64 {
        // A multiplication is one micro-operation where a shift by a variable count is three.
        let sum = self.regs[insn.base as usize]
            .wrapping_add(self.regs[insn.index as usize].wrapping_mul(insn.scale as u64))
            .wrapping_add(insn.disp);
        sum & insn.address_mask()
    }

    /// RIP of the instruction.
    #[inline(always)]
    pub fn ip(&self, insn: &Insn) -> u64 {
        self.regs[BLOCK_RIP].wrapping_add(insn.offset as u64) & self.ip_mask()
    }

    /// RIP of the instruction after it.
    #[inline(always)]
    pub fn next_ip(&self, insn: &Insn) -> u64 {
        self.regs[BLOCK_RIP].wrapping_add(insn.offset as u64 + insn.length as u64) & self.ip_mask()
    }

    #[inline(always)]
    pub fn reg<T: Int>(&self, number: u8) -> T {
        if T::BITS == 8 && number & HIGH_BYTE != 0 {
            return T::from_u64(self.regs[(number & 3) as usize] >> 8);
        }
        T::from_u64(self.regs[number as usize])
    }

    /// A 32-bit write clears the upper half, narrower ones leave it.
    #[inline(always)]
    pub fn set_reg<T: Int>(&mut self, number: u8, value: T) {
        if T::BITS == 8 && number & HIGH_BYTE != 0 {
            let slot = &mut self.regs[(number & 3) as usize];
            *slot = *slot & !0xff00 | value.to_u64() << 8;
            return;
        }
        let slot = &mut self.regs[number as usize];
        match T::BITS {
            8 => *slot = *slot & !0xff | value.to_u64(),
            16 => *slot = *slot & !0xffff | value.to_u64(),
            _ => *slot = value.to_u64(),
        }
    }
}

/// Where an operand is read from. `R0`, `R1` and so on are the register operands in order, `M` the memory operand.
pub trait Source {
    fn read<T: Int>(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn) -> Result<T, Stop>;
}

/// Where an operand is read from and written to.
pub trait Place: Source {
    fn write<T: Int>(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn, value: T) -> Done;
    /// Reads, computes, writes; a page that cannot be written faults before `f` runs.
    fn update<T: Int>(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn, f: impl FnOnce(&mut Cpu, T) -> T) -> Done;
}

pub struct Reg<const N: usize>;
pub type R0 = Reg<0>;
pub type R1 = Reg<1>;
pub struct M;
pub struct Imm;

impl<const N: usize> Source for Reg<N> {
    #[inline(always)]
    fn read<T: Int>(cpu: &mut Cpu, _: &mut Bus, insn: &Insn) -> Result<T, Stop> {
        Ok(cpu.reg(insn.r[N]))
    }
}

impl<const N: usize> Place for Reg<N> {
    #[inline(always)]
    fn write<T: Int>(cpu: &mut Cpu, _: &mut Bus, insn: &Insn, value: T) -> Done {
        cpu.set_reg(insn.r[N], value);
        Ok(())
    }
    #[inline(always)]
    fn update<T: Int>(cpu: &mut Cpu, _: &mut Bus, insn: &Insn, f: impl FnOnce(&mut Cpu, T) -> T) -> Done {
        let old = cpu.reg(insn.r[N]);
        let new = f(cpu, old);
        cpu.set_reg(insn.r[N], new);
        Ok(())
    }
}

impl Source for M {
    #[inline(always)]
    fn read<T: Int>(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn) -> Result<T, Stop> {
        cpu.read(bus, insn.seg, cpu.ea(insn))
    }
}

impl Place for M {
    #[inline(always)]
    fn write<T: Int>(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn, value: T) -> Done {
        cpu.write(bus, insn.seg, cpu.ea(insn), value)
    }
    #[inline(always)]
    fn update<T: Int>(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn, f: impl FnOnce(&mut Cpu, T) -> T) -> Done {
        let address = cpu.ea(insn);
        cpu.update(bus, insn.seg, address, f)
    }
}

impl Source for Imm {
    #[inline(always)]
    fn read<T: Int>(_: &mut Cpu, _: &mut Bus, insn: &Insn) -> Result<T, Stop> {
        Ok(T::from_u64(insn.imm))
    }
}
