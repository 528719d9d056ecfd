//! Moves between registers and RAM in a row, as programs save and restore registers: PUSH after PUSH, POP after POP, MOV
//! after MOV by one base register, whole words apart. One look at the TLB serves all of them, where they lie in one page;
//! else each does for itself.

use iced_x86::Mnemonic as Mn;

use super::operand::{place, Address, Based};
use super::{detour, go_on, Fast};
use crate::cpu::decode::Operand;
use crate::cpu::insn::Insn;
use crate::cpu::{Cpu, Done, RSP};
use crate::mmu::tlb::Entry;
use crate::platform::Bus;

/// Bytes of each operand.
const WORD: usize = 8;
/// Below this the handlers of the instructions themselves are as fast.
const LEAST: u8 = 3;
const MOST: u8 = 32;
/// Bytes that a series may span.
const WIDEST: i64 = 512;

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Load { base: u8 },
    Store { base: u8 },
    Push,
    Pop,
}

/// The moves from an instruction on.
#[derive(Clone, Copy)]
pub struct Series {
    kind: Kind,
    count: u8,
    /// The displacements of the lowest operand and of the end of the highest.
    low: i64,
    end: i64,
}

impl Series {
    /// Of one instruction, which `choose` has found to have operands that the handlers here know.
    fn of(mnemonic: Mn, operands: &[Operand; 5], insn: &Insn, based: bool) -> Option<Series> {
        const REGISTER: Operand = Operand::Gpr(WORD as u8);
        const MEMORY: Operand = Operand::Memory(WORD as u16);
        let base = insn.base;
        let kind = match (mnemonic, operands[0], operands[1]) {
            // The base is what the others go by.
            (Mn::Mov, REGISTER, MEMORY) if based && insn.r[0] != base => Kind::Load { base },
            (Mn::Mov, MEMORY, REGISTER) if based => Kind::Store { base },
            (Mn::Push, REGISTER, _) if insn.r[0] != RSP as u8 => Kind::Push,
            (Mn::Pop, REGISTER, _) if insn.r[0] != RSP as u8 => Kind::Pop,
            _ => return None,
        };
        let low = insn.disp as i64;
        Some(Series {
            kind,
            count: 1,
            low,
            end: low.checked_add(WORD as i64)?,
        })
    }

    /// The two in one, if they go together.
    fn and(self, next: Series) -> Option<Series> {
        let series = Series {
            kind: self.kind,
            count: self.count + next.count,
            low: self.low.min(next.low),
            end: self.end.max(next.end),
        };
        let fits = self.kind == next.kind
            && series.count <= MOST
            && self.low.wrapping_sub(next.low) % WORD as i64 == 0
            && series
                .end
                .checked_sub(series.low)
                .is_some_and(|span| span <= WIDEST);
        fits.then_some(series)
    }

    /// The handler of the instruction that it begins with, and what that is to find in place of an immediate.
    fn handler(self, insn: &Insn) -> Option<(Fast, u64)> {
        let handler: Fast = match self.kind {
            Kind::Load { .. } => load,
            Kind::Store { .. } => store,
            Kind::Push => push,
            Kind::Pop => pop,
        };
        let below = (insn.disp as i64).wrapping_sub(self.low) as u64;
        let bytes = self.end.wrapping_sub(self.low) as u64;
        (self.count >= LEAST).then_some((handler, self.count as u64 | below << 16 | bytes << 32))
    }
}

/// Has `insn` do its part of a series, if it begins one; `next` is the one that the instruction after it begins.
pub fn choose(
    insn: &mut Insn,
    mnemonic: Mn,
    operands: &[Operand; 5],
    based: bool,
    next: Option<Series>,
) -> Option<Series> {
    let one = Series::of(mnemonic, operands, insn, based)?;
    let series = next.and_then(|next| one.and(next)).unwrap_or(one);
    if let Some((handler, immediate)) = series.handler(insn) {
        (insn.fast, insn.imm) = (handler, immediate);
    }
    Some(series)
}

/// How many instructions belong to the series that begins with `insn`, beside that.
#[inline(always)]
fn others(insn: &Insn) -> usize {
    (insn.imm as u8 as usize).wrapping_sub(1)
}

/// How far the lowest operand of a series lies below that of `insn`, with which it begins.
#[inline(always)]
fn below(insn: &Insn) -> u64 {
    insn.imm >> 16 & 0xffff
}

/// From the lowest operand to the end of the highest.
#[inline(always)]
fn bytes(insn: &Insn) -> usize {
    (insn.imm >> 32) as usize
}

/// The words of RAM in the `bytes` bytes at a linear address, if the TLB knows them to lie in one page.
#[inline(always)]
fn words<'a>(
    cpu: &Cpu,
    bus: &'a mut Bus,
    linear: u64,
    bytes: usize,
    tag: fn(&Entry) -> u64,
) -> Option<&'a mut [[u8; WORD]]> {
    let (page, within) = place(cpu, linear, tag)?;
    let span = bus.ram.page_mut(page)?.get_mut(within..within + bytes)?;
    bytemuck::try_cast_slice_mut(span).ok()
}

/// The operands of a series behind one base, which `insn` begins, and the displacement of the lowest.
#[inline(always)]
fn based<'a>(
    cpu: &Cpu,
    bus: &'a mut Bus,
    insn: &Insn,
    tag: fn(&Entry) -> u64,
) -> Option<(&'a mut [[u8; WORD]], u64)> {
    let lowest = Based::of(cpu, insn).wrapping_sub(below(insn));
    let words = words(cpu, bus, lowest, bytes(insn), tag)?;
    Some((words, insn.disp.wrapping_sub(below(insn))))
}

/// Which word behind `low` the operand of `insn` is.
#[inline(always)]
fn number(insn: &Insn, low: u64) -> usize {
    insn.disp.wrapping_sub(low) as usize / WORD
}

/// Goes on after the series, or does its first instruction alone where it was not done. What was done of it then is done
/// anew, to the same effect: nothing that a series goes by changes before its end.
macro_rules! all_or_one {
    ($cpu:ident, $bus:ident, $insn:ident, $rest:ident, $all:expr) => {
        match $all($cpu, $bus, $insn, $rest) {
            Some(()) => go_on($cpu, $bus, $rest.get(others($insn)..).unwrap_or_default()),
            None => detour($cpu, $bus, $insn, $rest),
        }
    };
}

fn load(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn, rest: &[Insn]) -> Done {
    all_or_one!(cpu, bus, insn, rest, load_all)
}

#[inline(always)]
fn load_all(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn, rest: &[Insn]) -> Option<()> {
    let (words, low) = based(cpu, bus, insn, |entry| entry.read)?;
    let mut load = |insn: &Insn| {
        let word = words.get(number(insn, low))?;
        cpu.set_reg(insn.r[0], u64::from_le_bytes(*word));
        Some(())
    };
    load(insn)?;
    rest.get(..others(insn))?.iter().try_for_each(load)
}

fn store(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn, rest: &[Insn]) -> Done {
    all_or_one!(cpu, bus, insn, rest, store_all)
}

#[inline(always)]
fn store_all(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn, rest: &[Insn]) -> Option<()> {
    let (words, low) = based(cpu, bus, insn, |entry| entry.write)?;
    let mut store = |insn: &Insn| {
        *words.get_mut(number(insn, low))? = cpu.reg::<u64>(insn.r[0]).to_le_bytes();
        Some(())
    };
    store(insn)?;
    rest.get(..others(insn))?.iter().try_for_each(store)
}

fn push(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn, rest: &[Insn]) -> Done {
    all_or_one!(cpu, bus, insn, rest, push_all)
}

#[inline(always)]
fn push_all(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn, rest: &[Insn]) -> Option<()> {
    let others = rest.get(..others(insn))?;
    let bytes = (others.len() + 1) * WORD;
    let top = cpu.regs[RSP].wrapping_sub(bytes as u64);
    let (last, words) = words(cpu, bus, top, bytes, |entry| entry.write)?.split_last_mut()?;
    *last = cpu.reg::<u64>(insn.r[0]).to_le_bytes();
    for (each, word) in others.iter().zip(words.iter_mut().rev()) {
        *word = cpu.reg::<u64>(each.r[0]).to_le_bytes();
    }
    cpu.regs[RSP] = top;
    Some(())
}

fn pop(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn, rest: &[Insn]) -> Done {
    all_or_one!(cpu, bus, insn, rest, pop_all)
}

#[inline(always)]
fn pop_all(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn, rest: &[Insn]) -> Option<()> {
    let others = rest.get(..others(insn))?;
    let bytes = (others.len() + 1) * WORD;
    let (first, words) = words(cpu, bus, cpu.regs[RSP], bytes, |entry| entry.read)?.split_first()?;
    cpu.set_reg(insn.r[0], u64::from_le_bytes(*first));
    for (each, word) in others.iter().zip(words) {
        cpu.set_reg(each.r[0], u64::from_le_bytes(*word));
    }
    cpu.regs[RSP] = cpu.regs[RSP].wrapping_add(bytes as u64);
    Some(())
}
