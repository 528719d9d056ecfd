//! MOVS, CMPS, SCAS, LODS and STOS, alone and repeated.
//!
//! A repeated instruction works in chunks that end where its source or its destination reaches the end of a page;
//! between chunks interrupts are looked at. Where a chunk ends depends on nothing but the guest's state: the count of
//! chunks is part of machine time.

use iced_x86::{Code, Mnemonic as Mn};

use super::select::size;
use crate::cpu::decode::{Flow, Form, Group, Operand};
use crate::cpu::flags::TF;
use crate::cpu::insn::{flag, Handler, Insn};
use crate::cpu::int::Int;
use crate::cpu::{Cpu, Done, Stop, RAX, RCX, RDI, RSI};
use crate::mmu::tlb::PAGE;
use crate::platform::Bus;

/// One of the five.
trait Element {
    const READS_SOURCE: bool;
    const USES_DESTINATION: bool;
    /// Sets the flags, and ends a repetition by ZF.
    const COMPARES: bool = false;

    /// The work of one element, before the pointers advance.
    fn work<T: Int>(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn) -> Done;

    /// Does up to `most` elements upwards at once, where they lie in plain RAM and none depends on another. Gives
    /// their number; the pointers stay.
    fn bulk<T: Int>(_: &mut Cpu, _: &mut Bus, _: &Insn, _most: u64) -> u64 {
        0
    }
}

fn source<T: Int>(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn) -> Result<T, Stop> {
    cpu.read(bus, insn.seg, cpu.regs[RSI] & insn.address_mask())
}

fn destination<T: Int>(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn) -> Result<T, Stop> {
    let at = cpu.regs[RDI] & insn.address_mask();
    cpu.read(bus, Cpu::STRING_DESTINATION, at)
}

fn set_destination<T: Int>(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn, value: T) -> Done {
    let at = cpu.regs[RDI] & insn.address_mask();
    cpu.write(bus, Cpu::STRING_DESTINATION, at, value)
}

struct Movs;
impl Element for Movs {
    const READS_SOURCE: bool = true;
    const USES_DESTINATION: bool = true;
    fn work<T: Int>(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn) -> Done {
        let value = source::<T>(cpu, bus, insn)?;
        set_destination(cpu, bus, insn, value)
    }
    fn bulk<T: Int>(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn, most: u64) -> u64 {
        let mask = insn.address_mask();
        let bytes = most * T::BYTES;
        let from = cpu.plain_read(insn.seg, cpu.regs[RSI] & mask, bytes);
        let to = cpu.plain_write(Cpu::STRING_DESTINATION, cpu.regs[RDI] & mask, bytes);
        match (from, to) {
            // A destination that starts within the source reads back what this instruction wrote.
            (Some(from), Some(to)) if from < to && to < from + bytes => 0,
            (Some(from), Some(to)) if bus.ram.copy(from as usize, to as usize, bytes as usize) => most,
            _ => 0,
        }
    }
}

struct Stos;
impl Element for Stos {
    const READS_SOURCE: bool = false;
    const USES_DESTINATION: bool = true;
    fn work<T: Int>(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn) -> Done {
        let value = cpu.reg::<T>(RAX as u8);
        set_destination(cpu, bus, insn, value)
    }
    fn bulk<T: Int>(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn, most: u64) -> u64 {
        let at = cpu.regs[RDI] & insn.address_mask();
        let Some(to) = cpu.plain_write(Cpu::STRING_DESTINATION, at, most * T::BYTES) else {
            return 0;
        };
        let value = cpu.reg::<T>(RAX as u8);
        (0..most)
            .take_while(|element| bus.ram.store((to + element * T::BYTES) as usize, value))
            .count() as u64
    }
}

struct Lods;
impl Element for Lods {
    const READS_SOURCE: bool = true;
    const USES_DESTINATION: bool = false;
    fn work<T: Int>(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn) -> Done {
        let value = source::<T>(cpu, bus, insn)?;
        cpu.set_reg(RAX as u8, value);
        Ok(())
    }
}

struct Cmps;
impl Element for Cmps {
    const READS_SOURCE: bool = true;
    const USES_DESTINATION: bool = true;
    const COMPARES: bool = true;
    fn work<T: Int>(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn) -> Done {
        // In this order, where neither can be read.
        let b = destination::<T>(cpu, bus, insn)?;
        let a = source::<T>(cpu, bus, insn)?;
        cpu.flags.sub(a, b, a.sub(b));
        Ok(())
    }
}

struct Scas;
impl Element for Scas {
    const READS_SOURCE: bool = false;
    const USES_DESTINATION: bool = true;
    const COMPARES: bool = true;
    fn work<T: Int>(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn) -> Done {
        let a = cpu.reg::<T>(RAX as u8);
        let b = destination::<T>(cpu, bus, insn)?;
        cpu.flags.sub(a, b, a.sub(b));
        Ok(())
    }
}

/// Adds to the part of a register that the address size makes a pointer or a count.
fn advance(cpu: &mut Cpu, register: usize, by: u64, insn: &Insn) {
    let value = cpu.regs[register].wrapping_add(by);
    cpu.regs[register] = match insn.address_mask() {
        0xffff => cpu.regs[register] & !0xffff | value & 0xffff,
        mask => value & mask,
    };
}

/// Moves the pointers by `elements` in the direction of DF.
fn step<T: Int, E: Element>(cpu: &mut Cpu, insn: &Insn, elements: u64) {
    let bytes = elements * T::BYTES;
    let by = if cpu.downwards() {
        bytes.wrapping_neg()
    } else {
        bytes
    };
    if E::READS_SOURCE {
        advance(cpu, RSI, by, insn);
    }
    if E::USES_DESTINATION {
        advance(cpu, RDI, by, insn);
    }
}

/// How many elements the chunk that starts here has; at least one.
fn chunk<T: Int, E: Element>(cpu: &Cpu, insn: &Insn, count: u64) -> u64 {
    if cpu.flags.has(TF) {
        return 1;
    }
    let room = |segment: u8, register: usize| {
        let window = &cpu.window[(segment & 7) as usize];
        let ea = cpu.regs[register] & insn.address_mask();
        let offset = ea.wrapping_add(window.base) % PAGE;
        let bytes = if cpu.downwards() {
            offset + T::BYTES
        } else {
            // The pointer may wrap before the page ends.
            (insn.address_mask() - ea).saturating_add(1).min(PAGE - offset)
        };
        bytes / T::BYTES
    };
    let mut elements = count;
    if E::READS_SOURCE {
        elements = elements.min(room(insn.seg, RSI));
    }
    if E::USES_DESTINATION {
        elements = elements.min(room(Cpu::STRING_DESTINATION, RDI));
    }
    elements.max(1)
}

fn once<T: Int, E: Element>(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn) -> Done {
    E::work::<T>(cpu, bus, insn)?;
    step::<T, E>(cpu, insn, 1);
    Ok(())
}

/// A stop in the middle, also one that only asks to run alone, finds the registers at the element that caused it: the
/// instruction goes on from there to the same end of the chunk.
fn repeated<T: Int, E: Element>(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn) -> Done {
    let count = cpu.regs[RCX] & insn.address_mask();
    if count == 0 {
        return Ok(());
    }
    let mut left = chunk::<T, E>(cpu, insn, count);
    let mut tried = false;
    while left > 0 {
        once::<T, E>(cpu, bus, insn)?;
        advance(cpu, RCX, !0, insn);
        left -= 1;
        // What follows a write to the virtual APIC comes before the next element, and so does a data breakpoint's trap.
        if cpu.vmx.apic.is_writing() || cpu.pending_debug != 0 {
            break;
        }
        if E::COMPARES && cpu.flags.zero() != insn.has(flag::REP) {
            return Ok(());
        }
        // The first element has brought the translations in.
        if left > 0 && !tried && !cpu.downwards() {
            tried = true;
            let done = E::bulk::<T>(cpu, bus, insn, left);
            step::<T, E>(cpu, insn, done);
            advance(cpu, RCX, done.wrapping_neg(), insn);
            left -= done;
        }
    }
    if cpu.regs[RCX] & insn.address_mask() == 0 {
        Ok(())
    } else {
        Err(Stop::Again)
    }
}

fn select<E: Element>(form: &Form) -> Option<Handler> {
    // The SSE instructions MOVSD and CMPSD share their names with two of these.
    let is_string = !matches!(
        form.code,
        Code::Movsd_xmm_xmmm64 | Code::Movsd_xmmm64_xmm | Code::Cmpsd_xmm_xmmm64_imm8
    );
    let bytes = match form.operands[0] {
        Operand::Memory(_) => size(form.operands[0]),
        _ => size(form.operands[1]),
    };
    if !is_string {
        None
    } else if form.insn.has_rep_prefix() || form.insn.has_repne_prefix() {
        by_size!(bytes, T => repeated::<T, E>)
    } else {
        by_size!(bytes, T => once::<T, E>)
    }
}

pub static ROWS: Group = &[
    (Mn::Movsb, select::<Movs>, Flow::Next),
    (Mn::Movsw, select::<Movs>, Flow::Next),
    (Mn::Movsd, select::<Movs>, Flow::Next),
    (Mn::Movsq, select::<Movs>, Flow::Next),
    (Mn::Stosb, select::<Stos>, Flow::Next),
    (Mn::Stosw, select::<Stos>, Flow::Next),
    (Mn::Stosd, select::<Stos>, Flow::Next),
    (Mn::Stosq, select::<Stos>, Flow::Next),
    (Mn::Lodsb, select::<Lods>, Flow::Next),
    (Mn::Lodsw, select::<Lods>, Flow::Next),
    (Mn::Lodsd, select::<Lods>, Flow::Next),
    (Mn::Lodsq, select::<Lods>, Flow::Next),
    (Mn::Cmpsb, select::<Cmps>, Flow::Next),
    (Mn::Cmpsw, select::<Cmps>, Flow::Next),
    (Mn::Cmpsd, select::<Cmps>, Flow::Next),
    (Mn::Cmpsq, select::<Cmps>, Flow::Next),
    (Mn::Scasb, select::<Scas>, Flow::Next),
    (Mn::Scasw, select::<Scas>, Flow::Next),
    (Mn::Scasd, select::<Scas>, Flow::Next),
    (Mn::Scasq, select::<Scas>, Flow::Next),
];
