//! Operands in registers, immediates and plain RAM.

use std::marker::PhantomData;

use crate::cpu::insn::{Imm, Insn, Reg};
use crate::cpu::int::Int;
use crate::cpu::{Cpu, SegmentWindow};
use crate::mmu::tlb::{Entry, PAGE_MASK};
use crate::platform::Bus;

/// Where an operand is read from; `None`: by more than a look.
pub trait Input {
    fn get<T: Int>(cpu: &Cpu, bus: &Bus, insn: &Insn) -> Option<T>;
}

/// Where an operand is written to; where the answer is `None` nothing has changed.
pub trait Output {
    fn put<T: Int>(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn, value: T) -> Option<()>;
}

/// Where an operand is changed; where the answer is `None` nothing has been.
pub trait InPlace {
    fn change<T: Int>(
        cpu: &mut Cpu,
        bus: &mut Bus,
        insn: &Insn,
        f: impl FnOnce(&mut Cpu, T) -> T,
    ) -> Option<()>;
}

impl<const N: usize> Input for Reg<N> {
    #[inline(always)]
    fn get<T: Int>(cpu: &Cpu, _: &Bus, insn: &Insn) -> Option<T> {
        Some(cpu.reg(insn.r[N]))
    }
}

impl<const N: usize> Output for Reg<N> {
    #[inline(always)]
    fn put<T: Int>(cpu: &mut Cpu, _: &mut Bus, insn: &Insn, value: T) -> Option<()> {
        cpu.set_reg(insn.r[N], value);
        Some(())
    }
}

impl<const N: usize> InPlace for Reg<N> {
    #[inline(always)]
    fn change<T: Int>(
        cpu: &mut Cpu,
        _: &mut Bus,
        insn: &Insn,
        f: impl FnOnce(&mut Cpu, T) -> T,
    ) -> Option<()> {
        let old = cpu.reg(insn.r[N]);
        let new = f(cpu, old);
        cpu.set_reg(insn.r[N], new);
        Some(())
    }
}

impl Input for Imm {
    #[inline(always)]
    fn get<T: Int>(_: &Cpu, _: &Bus, insn: &Insn) -> Option<T> {
        Some(T::from_u64(insn.imm))
    }
}

/// How an address of 64 bits is formed.
pub trait Address {
    fn of(cpu: &Cpu, insn: &Insn) -> u64;
}

/// A base register, which may be RIP or none, and a displacement.
pub struct Based;
impl Address for Based {
    #[inline(always)]
    fn of(cpu: &Cpu, insn: &Insn) -> u64 {
        cpu.regs[insn.base as usize].wrapping_add(insn.disp)
    }
}

pub struct Indexed;
impl Address for Indexed {
    #[inline(always)]
    fn of(cpu: &Cpu, insn: &Insn) -> u64 {
        let index = cpu.regs[insn.index as usize];
        // A multiplication is one micro-operation where a shift by a variable count is three.
        Based::of(cpu, insn).wrapping_add(index.wrapping_mul(insn.scale as u64))
    }
}

/// An operand in memory, in a segment that starts at 0 and has no limit: ES, CS, SS and DS in 64-bit mode.
pub struct Memory<A>(PhantomData<A>);

impl<A: Address> Input for Memory<A> {
    #[inline(always)]
    fn get<T: Int>(cpu: &Cpu, bus: &Bus, insn: &Insn) -> Option<T> {
        load(cpu, bus, A::of(cpu, insn))
    }
}

impl<A: Address> Output for Memory<A> {
    #[inline(always)]
    fn put<T: Int>(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn, value: T) -> Option<()> {
        store(cpu, bus, A::of(cpu, insn), value)
    }
}

impl<A: Address> InPlace for Memory<A> {
    #[inline(always)]
    fn change<T: Int>(
        cpu: &mut Cpu,
        bus: &mut Bus,
        insn: &Insn,
        f: impl FnOnce(&mut Cpu, T) -> T,
    ) -> Option<()> {
        let (page, within) = place(cpu, A::of(cpu, insn), |entry| entry.write)?;
        let old = bus.ram.load_in_page(page, within)?;
        let new = f(cpu, old);
        bus.ram.store_in_page(page, within, new);
        Some(())
    }
}

/// An operand in memory, in a segment that may have a base and a limit, its address of any size.
pub struct Segmented;

impl Segmented {
    /// Its linear address, if all of it lies before `end`, which is that of what the segment lets through.
    #[inline(always)]
    fn linear<T: Int>(cpu: &Cpu, insn: &Insn, end: fn(&SegmentWindow) -> u64) -> Option<u64> {
        let (window, ea) = (&cpu.window[(insn.seg & 7) as usize], cpu.ea(insn));
        let within = ea.wrapping_add(T::BYTES - 1) < end(window);
        within.then_some(ea.wrapping_add(window.base))
    }
}

impl Input for Segmented {
    #[inline(always)]
    fn get<T: Int>(cpu: &Cpu, bus: &Bus, insn: &Insn) -> Option<T> {
        let linear = Segmented::linear::<T>(cpu, insn, |window| window.read_end)?;
        load(cpu, bus, linear)
    }
}

impl Output for Segmented {
    #[inline(always)]
    fn put<T: Int>(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn, value: T) -> Option<()> {
        let linear = Segmented::linear::<T>(cpu, insn, |window| window.write_end)?;
        store(cpu, bus, linear, value)
    }
}

#[inline(always)]
pub fn load<T: Int>(cpu: &Cpu, bus: &Bus, linear: u64) -> Option<T> {
    let (page, within) = place(cpu, linear, |entry| entry.read)?;
    bus.ram.load_in_page(page, within)
}

#[inline(always)]
pub fn store<T: Int>(cpu: &Cpu, bus: &mut Bus, linear: u64, value: T) -> Option<()> {
    let (page, within) = place(cpu, linear, |entry| entry.write)?;
    bus.ram.store_in_page(page, within, value).then_some(())
}

/// The page of RAM that the TLB knows a linear address to lie in, by its number, and the offset in the page.
#[inline(always)]
pub fn place(cpu: &Cpu, linear: u64, tag: impl Fn(&Entry) -> u64) -> Option<(u64, usize)> {
    let entry = cpu.tlb.entry(linear, cpu.tlb.context);
    let known = tag(entry) == linear & PAGE_MASK | cpu.tlb.context;
    known.then_some((entry.page, (linear & !PAGE_MASK) as usize))
}
