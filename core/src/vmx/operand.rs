//! The VM-exit instruction information and the displacement as exit qualification (SDM vol. 3, 28.2.1 and 28.2.5).

use crate::cpu::insn::{flag, Insn};
use crate::cpu::{Cpu, BLOCK_RIP, ZERO};

/// The memory operand in the layout that all tables of 28.2.5 share: scaling 1:0, address size 9:7, segment 17:15,
/// index register 21:18 with its invalid bit 22, base register 26:23 with its invalid bit 27.
fn memory(insn: &Insn) -> u32 {
    let register = |number: u8, at: u32| {
        if number as usize >= ZERO {
            1 << (at + 4)
        } else {
            (number as u32) << at
        }
    };
    insn.scale.trailing_zeros() & 3
        | address_size(insn) << 7
        | (insn.seg as u32) << 15
        | register(insn.index, 18)
        | register(insn.base, 23)
}

/// 0: 16 bits, 1: 32 bits, 2: 64 bits.
fn address_size(insn: &Insn) -> u32 {
    if insn.has(flag::ADDRESS16) {
        0
    } else if insn.has(flag::ADDRESS32) {
        1
    } else {
        2
    }
}

/// The displacement of the memory operand, sign-extended; of a RIP-relative one its sum with the next instruction's
/// RIP. 0 where there is no memory operand.
pub fn displacement(cpu: &Cpu, insn: &Insn) -> u64 {
    if !insn.has(flag::MEMORY) {
        return 0;
    }
    if insn.base as usize == BLOCK_RIP {
        return insn.disp.wrapping_add(cpu.regs[BLOCK_RIP]);
    }
    match address_size(insn) {
        0 => insn.disp as i16 as u64,
        1 => insn.disp as i32 as u64,
        _ => insn.disp,
    }
}

/// VMCLEAR, VMPTRLD, VMPTRST, VMXON, XRSTORS, XSAVES (table 28-14).
pub fn pointer(insn: &Insn) -> u32 {
    memory(insn)
}

/// INVEPT, INVPCID, INVVPID (table 28-10): bits 31:28 are the register with the type.
pub fn invalidation(insn: &Insn) -> u32 {
    memory(insn) | (insn.r[0] as u32 & 15) << 28
}

const REGISTER_OPERAND: u32 = 1 << 10;

/// VMREAD and VMWRITE (table 28-15): bits 31:28 are the register with the field's encoding, bits 6:3 the other one,
/// where there is one.
pub fn field_access(insn: &Insn, encoding: u8, other: Option<u8>) -> u32 {
    let encoding = (encoding as u32 & 15) << 28;
    match other {
        Some(register) => REGISTER_OPERAND | (register as u32 & 15) << 3 | encoding,
        None => memory(insn) | encoding,
    }
}

/// SGDT, SIDT, LGDT, LIDT (table 28-11), `identity` being 0 to 3 in this order.
pub fn table_register(insn: &Insn, operand32: bool, identity: u32) -> u32 {
    memory(insn) | (operand32 as u32) << 11 | identity << 28
}

/// SLDT, STR, LLDT, LTR (table 28-12), `identity` being 0 to 3 in this order.
pub fn selector_register(insn: &Insn, identity: u32) -> u32 {
    let operand = if insn.has(flag::MEMORY) {
        memory(insn)
    } else {
        REGISTER_OPERAND | (insn.r[0] as u32 & 15) << 3
    };
    operand | identity << 28
}

/// RDRAND, RDSEED, TPAUSE and UMWAIT (table 28-13). `bytes`: the operand size.
pub fn register_of_size(register: u8, bytes: u8) -> u32 {
    (register as u32 & 15) << 3 | (bytes.trailing_zeros().saturating_sub(1)) << 11
}

/// INS and OUTS (table 28-9): address size 9:7, the segment of OUTS 17:15.
pub fn string_io(insn: &Insn, input: bool) -> u32 {
    address_size(insn) << 7 | if input { 0 } else { (insn.seg as u32) << 15 }
}
