//! Memory by lanes, as a mask's top bits say: VMASKMOV, VPMASKMOV, and gathers. A lane that is left out is not accessed and
//! cannot fault.

use super::lanes::{lanes, set_wide_lane, wide_lane, Ymm};
use super::vector::{Encoding, Vex};
use crate::cpu::decode::{Form, Group, Operand};
use crate::cpu::insn::{Handler, Insn};
use crate::cpu::int::Int;
use crate::cpu::{Cpu, Done};
use crate::platform::Bus;

/// Numbers and offsets of the lanes that `mask` chooses.
fn chosen<T: Int, E: Encoding>(mask: Ymm) -> impl Iterator<Item = (u32, u64)> {
    (0..lanes::<T>() * E::LANES as u32)
        .filter(move |number| wide_lane::<T>(mask, *number).sign())
        .map(|number| (number, number as u64 * T::BYTES))
}

/// What is left out becomes 0.
fn masked_load<T: Int, E: Encoding>(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn) -> Done {
    E::check(cpu)?;
    let address = cpu.ea(insn);
    let mut result = Ymm::default();
    for (number, offset) in chosen::<T, E>(cpu.vector(insn.r[1])) {
        let value = cpu.read_unaligned::<T>(bus, insn.seg, address.wrapping_add(offset))?;
        set_wide_lane(&mut result, number, value);
    }
    E::write(cpu, insn.r[0], result);
    Ok(())
}

fn masked_store<T: Int, E: Encoding>(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn) -> Done {
    E::check(cpu)?;
    let address = cpu.ea(insn);
    let (mask, value) = (cpu.vector(insn.r[0]), cpu.vector(insn.r[1]));
    // All or nothing.
    for (_, offset) in chosen::<T, E>(mask) {
        cpu.probe_unaligned(bus, insn.seg, address.wrapping_add(offset), T::BYTES)?;
    }
    for (number, offset) in chosen::<T, E>(mask) {
        let lane: T = wide_lane(value, number);
        cpu.write_unaligned(bus, insn.seg, address.wrapping_add(offset), lane)?;
    }
    Ok(())
}

fn select_masked<T: Int>(form: &Form) -> Option<Handler> {
    match form.operands[0] {
        Operand::Memory(_) => by_length!(form, masked_store, T),
        _ => by_length!(form, masked_load, T),
    }
}

/// Lanes of `T` from where an index of type `I` each says. First each part of the mask becomes its top bit. A lane that
/// was read is written at once and its part of the mask cleared, so that the instruction goes on where a fault stopped
/// it.
fn gather<T: Int, I: Int, E: Encoding>(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn) -> Done {
    E::check(cpu)?;
    let address = cpu.ea(insn);
    let [destination, mask, indices] = insn.r;
    let count = E::LANES as u32 * 128 / T::BITS.max(I::BITS);
    let mut extended = Ymm::default();
    for (number, _) in chosen::<T, E>(cpu.vector(mask)) {
        set_wide_lane(&mut extended, number, T::from_u64(!0));
    }
    Vex::<2>::write(cpu, mask, extended);
    for number in 0..count {
        if wide_lane::<T>(cpu.vector(mask), number).sign() {
            let index = wide_lane::<I>(cpu.vector(indices), number).sign_extended();
            let at = address.wrapping_add(index.wrapping_mul(insn.scale as u64)) & insn.address_mask();
            let value = cpu.read_unaligned::<T>(bus, insn.seg, at)?;
            put::<T, E>(cpu, destination, number, value);
        }
        put::<T, E>(cpu, mask, number, T::zero());
    }
    let mut result = cpu.vector(destination);
    for number in count..2 * lanes::<T>() {
        set_wide_lane(&mut result, number, T::zero());
    }
    Vex::<2>::write(cpu, destination, result);
    Vex::<2>::write(cpu, mask, Ymm::default());
    Ok(())
}

fn put<T: Int, E: Encoding>(cpu: &mut Cpu, register: u8, number: u32, value: T) {
    let mut changed = cpu.vector(register);
    set_wide_lane(&mut changed, number, value);
    E::write(cpu, register, changed);
}

/// Among the operands may be no 256-bit register but the one that holds the indices.
fn select_gather<T: Int, I: Int>(form: &Form) -> Option<Handler> {
    if form.operands[0] == Operand::Ymm || form.insn.memory_index().is_ymm() {
        Some(gather::<T, I, Vex<2>>)
    } else {
        Some(gather::<T, I, Vex<1>>)
    }
}

pub static ROWS: Group = vector_rows! {
    Vmaskmovps Vpmaskmovd => select_masked::<u32>;
    Vmaskmovpd Vpmaskmovq => select_masked::<u64>;
    Vgatherdps Vpgatherdd => select_gather::<u32, u32>;
    Vgatherqps Vpgatherqd => select_gather::<u32, u64>;
    Vgatherdpd Vpgatherdq => select_gather::<u64, u32>;
    Vgatherqpd Vpgatherqq => select_gather::<u64, u64>;
};
