//! Puts what an instruction addresses into the window.

use iced_x86::{
    Code, Instruction, InstructionInfoFactory, InstructionInfoOptions, Mnemonic, OpKind, Register,
};

use super::random::Random;
use super::state::*;

fn is_string(insn: &Instruction) -> bool {
    insn.op_kinds().any(|kind| {
        matches!(
            kind,
            OpKind::MemoryESRDI
                | OpKind::MemorySegRSI
                | OpKind::MemorySegEDI
                | OpKind::MemorySegESI
                | OpKind::MemoryESEDI
        )
    })
}

/// BT and its like with a register count: bit strings, which reach far from their address.
fn bit_number(insn: &Instruction) -> Option<usize> {
    let reaches = matches!(
        insn.mnemonic(),
        Mnemonic::Bt | Mnemonic::Bts | Mnemonic::Btr | Mnemonic::Btc
    ) && insn.op0_kind() == OpKind::Memory
        && insn.op1_kind() == OpKind::Register;
    reaches.then(|| insn.op1_register().number())
}

/// The registers by which `insn` finds memory.
pub fn address_registers(insn: &Instruction) -> Vec<usize> {
    let mut factory = InstructionInfoFactory::new();
    let info = factory.info_options(insn, InstructionInfoOptions::NO_REGISTER_USAGE);
    let mut registers: Vec<usize> = info
        .used_memory()
        .iter()
        .flat_map(|memory| [memory.base(), memory.index()])
        .filter(|register| register.is_gpr())
        .map(Register::number)
        .chain(bit_number(insn))
        .collect();
    if insn.has_rep_prefix() || insn.has_repne_prefix() {
        registers.push(1);
    }
    if insn.stack_pointer_increment() != 0 {
        registers.push(4);
    }
    registers.sort_unstable();
    registers.dedup();
    registers
}

/// Whether the address is a displacement, with at most an index beside it: no register can be set to move it.
pub fn is_fixed(insn: &Instruction) -> bool {
    let base = insn.memory_base();
    insn.op_kinds().any(|kind| kind == OpKind::Memory) && (base == Register::None || base.is_ip())
}

/// An address for `is_fixed` instructions.
pub fn target(random: &mut Random) -> u64 {
    let target = WINDOW + 0x180 + random.below(128);
    match random.below(4) {
        0 => target,
        _ => target & !15,
    }
}

/// Mostly 0: seldom, an access is to page-fault. Not where it may be misaligned: which of two exceptions comes first
/// depends on the processor (SDM vol. 3, table 6-2, the last class).
pub fn astray(flags: u64, random: &mut Random) -> u64 {
    match random.below(32) {
        0 if flags & AC == 0 => NOWHERE,
        _ => 0,
    }
}

/// Sets the registers that addresses are made of. False: this instruction cannot be placed.
pub fn place(insn: &Instruction, state: &mut State, random: &mut Random) -> bool {
    if matches!(insn.segment_prefix(), Register::FS | Register::GS) {
        return false;
    }
    if is_string(insn) {
        if insn.has_rep_prefix() || insn.has_repne_prefix() {
            state.regs[1] = random.below(12);
        }
        state.regs[6] = WINDOW + 0x200 + random.below(32) + astray(state.flags, random);
        state.regs[7] = WINDOW + 0x200 + random.below(32) + astray(state.flags, random);
        return true;
    }
    match insn.mnemonic() {
        Mnemonic::Leave | Mnemonic::Enter => {
            state.regs[5] = WINDOW + 0x200 + random.below(32) + astray(state.flags, random);
            return true;
        }
        Mnemonic::Maskmovq | Mnemonic::Maskmovdqu | Mnemonic::Vmaskmovdqu => {
            state.regs[7] = WINDOW + 0x200 + random.below(32) + astray(state.flags, random);
            return insn.segment_prefix() == Register::None;
        }
        Mnemonic::Lea => return true,
        _ => {}
    }
    if insn.op_kinds().all(|kind| kind != OpKind::Memory) {
        return true;
    }
    let bit_number = bit_number(insn);
    if let Some(number) = bit_number {
        if number == 4 {
            return false;
        }
        state.regs[number] = random.below(1024).wrapping_sub(512);
    }
    if insn.is_vsib() {
        return place_gather(insn, state, random);
    }
    let (base, index) = (insn.memory_base(), insn.memory_index());
    let is_bit_number = |register: Register| bit_number == Some(register.number());
    if index != Register::None && index.number() != 4 && !is_bit_number(index) {
        state.regs[index.number()] = random.below(16);
    }
    let size = insn.memory_size().size() as u64;
    if !is_fixed(insn) && base.number() != 4 && !is_bit_number(base) {
        let scaled = if index == Register::None {
            0
        } else {
            state.regs[index.number()].wrapping_mul(insn.memory_index_scale() as u64)
        };
        let wanted = (target(random) + astray(state.flags, random))
            .wrapping_sub(scaled)
            .wrapping_sub(insn.memory_displacement64());
        state.regs[base.number()] = if base.size() == 4 {
            wanted & 0xffff_ffff
        } else {
            wanted
        };
    }
    // XLAT's index is a part of RAX.
    if insn.code() == Code::Xlat_m8 {
        state.regs[3] = WINDOW + 0x100;
        return true;
    }
    let operand = insn
        .op_kinds()
        .position(|kind| kind == OpKind::Memory)
        .unwrap_or(0) as u32;
    let address = insn
        .virtual_address(operand, 0, |register, _, _| {
            Some(match register {
                _ if register.is_segment_register() => 0,
                _ if register.size() == 4 => state.regs[register.number()] & 0xffff_ffff,
                _ => state.regs[register.number()],
            })
        })
        .unwrap_or(0);
    let slack = if bit_number.is_some() { 0x80 } else { 0x10 };
    let within = WINDOW + slack..WINDOW + WINDOW_BYTES as u64 - slack - size;
    within.contains(&address) || within.contains(&address.wrapping_sub(NOWHERE))
}

/// Each lane near the base; at times one where nothing is mapped.
fn place_gather(insn: &Instruction, state: &mut State, random: &mut Random) -> bool {
    let base = insn.memory_base();
    let target = WINDOW + 0x200 + random.below(16);
    let displacement = insn.memory_displacement64();
    if base != Register::None && base.number() != 4 {
        state.regs[base.number()] = target.wrapping_sub(displacement);
    }
    let start = match base {
        Register::None => displacement,
        _ => state.regs[base.number()].wrapping_add(displacement),
    };
    let scale = insn.memory_index_scale() as u64;
    let far = random.below(8) == 0;
    let mut index = || match random.below(8) {
        0 if far => 0x10000 / scale,
        _ => (random.below(0x200) / scale).wrapping_sub(0x100 / scale),
    };
    for indices in &mut state.ymm[insn.memory_index().number()] {
        *indices = if insn.is_vsib64() {
            index()
        } else {
            index() << 32 | index() & 0xffff_ffff
        };
    }
    (WINDOW + 0x100..WINDOW + 0x300).contains(&start)
}
