//! The loop that runs a processor: blocks, the links between them, and what is looked at in between.

use super::bits::CR4_CET;
use super::block::{Block, BlockId, CodeCache, Key};
use super::debug_registers::DR6_SINGLE_STEP;
use super::decode::{self, Decoded};
use super::exception::{vector, EventKind, Fault};
use super::insn::{flag, Insn};
use super::segment::CS;
use super::{deliver, flags, Activity, CodeSize, Cpu, Done, Shadow, Stop, BLOCK_RIP};
use crate::debug::breakpoints::Watch;
use crate::mmu::paging::{self, Access};
use crate::mmu::tlb::{PAGE, PAGE_MASK};
use crate::platform::Bus;
use crate::vmx::{self, apic::page::Use};

/// Why a processor's turn ended.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum TurnEnd {
    /// The instruction count was reached.
    Count,
    /// HLT, wait-for-SIPI: nothing to do until an event.
    Idle,
    /// Triple fault outside a guest, or VMX abort: the processor has shut down.
    Shutdown,
    Breakpoint,
    Watch(Watch),
    Catch(u32),
    /// A device asks for something, or output or events must be taken.
    Attention,
}

/// How a turn is to be run.
#[derive(Clone, Copy, Debug)]
pub struct Turn {
    /// `Cpu::icount` at which it ends.
    pub until: u64,
    /// Do not stop at a breakpoint before the first instruction.
    pub leave_breakpoint: bool,
    /// Hold interrupts back, as a debugger's single step does.
    pub mask_interrupts: bool,
}

/// Runs one processor. `bus.clock` advances by the instructions retired.
#[inline(never)]
pub fn turn(cpu: &mut Cpu, bus: &mut Bus, code: &mut CodeCache, turn: Turn) -> TurnEnd {
    cpu.clock_base = bus.clock.wrapping_sub(cpu.icount);
    let mut leave_breakpoint = turn.leave_breakpoint;
    loop {
        bus.clock = cpu.clock_base.wrapping_add(cpu.icount);
        if bus.ram.has_stale() {
            for page in bus.ram.take_stale() {
                code.invalidate(page);
                bus.ram.clear_code(page);
            }
        }
        let mut due = bus.deadline_for(cpu.id);
        if due.is_some_and(|due| due <= bus.clock) {
            bus.advance(cpu.id);
            due = bus.deadline_for(cpu.id);
        }
        if wants_attention(bus) {
            if let Some(end) = interrupted(cpu, bus) {
                return end;
            }
        }
        if cpu.icount >= turn.until {
            return TurnEnd::Count;
        }
        // Before the turn's end, what a device or the preemption timer does by itself.
        let due = due
            .unwrap_or(u64::MAX)
            .min(cpu.vmx.deadline().unwrap_or(u64::MAX));
        let ahead = due.saturating_sub(bus.clock).max(1);
        let until = turn.until.min(cpu.icount.saturating_add(ahead));
        if !nothing_waits(cpu, bus) {
            match between_instructions(cpu, bus, turn.mask_interrupts) {
                Ok(Ready::Run) => {}
                Ok(Ready::Again) => continue,
                Ok(Ready::Idle) => return TurnEnd::Idle,
                Ok(Ready::Shutdown) => return TurnEnd::Shutdown,
                Err(stop) => {
                    take(cpu, bus, stop);
                    continue;
                }
            }
        }
        let linear = cpu.code_linear();
        let armed = cpu.breakpoints_armed();
        if armed {
            if let Some(stop) = cpu.instruction_breakpoint(linear) {
                take(cpu, bus, stop);
                continue;
            }
        }
        let first = match find(cpu, bus, code, linear) {
            Ok(id) => id,
            Err(stop) => {
                take(cpu, bus, stop);
                continue;
            }
        };
        if code.block(first).guarded
            && !leave_breakpoint
            && bus.debug.breakpoints.hit(linear, cpu.id, cpu.world())
        {
            return TurnEnd::Breakpoint;
        }
        leave_breakpoint = false;
        let within = cpu.code_holds(code.block(first).length as u64);
        if !within && !cpu.code_holds(code.block(first).insns[0].length as u64)
            || cpu.virtual_interrupt_waits()
        {
            let stop = cpu.general_protection(0);
            take(cpu, bus, stop);
            continue;
        }
        if cpu.cr4 & CR4_CET != 0 {
            let landing = code.block(first).insns[0];
            if let Err(stop) = cpu.check_landing(bus, &landing) {
                take(cpu, bus, stop);
                continue;
            }
        }
        let trapped = cpu.vmx.single_steps();
        if cpu.steps() || !within || code.block(first).insns.len() == 1 {
            step(cpu, bus, code, first);
        } else {
            match cpu.code_size {
                CodeSize::Bits64 => chain::<true>(cpu, bus, code, first, until),
                _ => chain::<false>(cpu, bus, code, first, until),
            }
        }
        if trapped {
            cpu.vmx.mtf_pending = cpu.vmx.guest;
        }
    }
}

/// Blocks one after the other until something needs a look. `LONG`: in 64-bit mode, where code has neither base nor limit.
#[inline(never)]
fn chain<const LONG: bool>(cpu: &mut Cpu, bus: &mut Bus, code: &mut CodeCache, mut id: BlockId, until: u64) {
    loop {
        let block = code.block(id);
        let count = block.insns.len() as u64;
        cpu.regs[BLOCK_RIP] = cpu.rip;
        if count > until - cpu.icount {
            return prefix(cpu, bus, &block.insns, (until - cpu.icount) as usize);
        }
        if !LONG && !cpu.code_holds(block.length as u64) {
            return;
        }
        let [first, rest @ ..] = &block.insns[..] else {
            return;
        };
        match (first.fast)(cpu, bus, first, rest) {
            Ok(()) => {
                cpu.icount += count;
                if !block.branches {
                    let next = cpu.regs[BLOCK_RIP].wrapping_add(block.length as u64);
                    cpu.rip = if LONG { next } else { next & cpu.ip_mask() };
                }
            }
            Err(Stop::Taken) => cpu.icount += cpu.stopped_at as u64 + 1,
            Err(stop) => {
                let insn = &block.insns[cpu.stopped_at as usize];
                match leave_for_world(cpu, bus, code, insn, stop) {
                    Some(first) if LONG => {
                        id = first;
                        continue;
                    }
                    _ => return,
                }
            }
        }
        // Of another mode no link knows.
        let linear = if LONG { cpu.rip } else { cpu.code_linear() };
        let context = code.context(cpu.tlb.unique_context(), cpu.code_size);
        id = match block.next(linear, context) {
            Some(next) => next,
            None if LONG && !cpu.long64() => return,
            None => match follow(cpu, bus, code, id, until) {
                Some(next) => next,
                None => return,
            },
        };
    }
}

/// Leaves a block at `insn`, which did not simply complete. If that was a VM entry or exit, the block that the other world
/// begins with. `None`: the run loop must look first, as there is none, as it may find something, or as the world is not one
/// of 64-bit mode. What can bring the end of the turn nearer is a VMX-preemption timer, or an MSR that a list has loaded.
#[cold]
#[inline(never)]
fn leave_for_world(
    cpu: &mut Cpu,
    bus: &mut Bus,
    code: &CodeCache,
    insn: &Insn,
    stop: Stop,
) -> Option<BlockId> {
    let was_guest = cpu.vmx.guest;
    leave(cpu, bus, insn, stop);
    if cpu.vmx.guest == was_guest {
        return None;
    }
    bus.clock = cpu.clock_base.wrapping_add(cpu.icount);
    let sooner = std::mem::take(&mut cpu.vmx.list_processed) | cpu.vmx.timer.is_some();
    let looks = sooner
        || bus.ram.has_stale()
        || wants_attention(bus)
        || !nothing_waits(cpu, bus)
        || cpu.steps()
        || cpu.cr4 & CR4_CET != 0;
    if looks || !cpu.long64() || bus.debug.breakpoints.generation != code.breakpoints {
        return None;
    }
    code.recent(cpu.rip, code.context(cpu.tlb.unique_context(), CodeSize::Bits64))
}

/// The block that follows `id`, where no link says so. `None`: the run loop must look first.
#[inline(never)]
fn follow(cpu: &mut Cpu, bus: &mut Bus, code: &mut CodeCache, id: BlockId, until: u64) -> Option<BlockId> {
    if cpu.icount == until {
        return None;
    }
    let linear = cpu.code_linear();
    let context = code.context(cpu.tlb.unique_context(), cpu.code_size);
    let next = match code.recent(linear, context) {
        Some(next) => next,
        None => match enter(cpu, bus, code, linear) {
            Ok(next) => next,
            Err(stop) => {
                take(cpu, bus, stop);
                return None;
            }
        },
    };
    if code.block(next).guarded {
        return None;
    }
    // The context may be another by now: a walk can take a new one.
    let context = code.context(cpu.tlb.unique_context(), cpu.code_size);
    code.link(id, linear, context, next);
    Some(next)
}

/// The first `count` instructions of a block, or those up to a Jcc that is taken.
#[cold]
fn prefix(cpu: &mut Cpu, bus: &mut Bus, insns: &[Insn], count: usize) {
    for insn in &insns[..count] {
        if let Err(stop) = (insn.run)(cpu, bus, insn) {
            return leave(cpu, bus, insn, stop);
        }
        if insn.has(flag::BRANCH) && cpu.rip != cpu.next_ip(insn) {
            cpu.icount += insn.position as u64 + 1;
            return;
        }
    }
    cpu.icount += count as u64;
    cpu.rip = cpu.ip(&insns[count]);
}

/// One instruction, alone: exact clock, side effects allowed, single-step trap, shadow and RF handled.
fn step(cpu: &mut Cpu, bus: &mut Bus, code: &CodeCache, id: BlockId) {
    let insn = code.block(id).insns[0];
    let (trap, resume, shadow) = (cpu.flags.has(flags::TF), cpu.flags.has(flags::RF), cpu.shadow);
    let pending = cpu.pending_debug;
    cpu.regs[BLOCK_RIP] = cpu.rip;
    cpu.no_trap = false;
    let done = alone(cpu, bus, &insn);
    if matches!(done, Err(Stop::Fault | Stop::Exit | Stop::World)) {
        // Data breakpoints are traps: an instruction that faults makes none.
        if done == Err(Stop::Fault) {
            cpu.pending_debug = pending;
        }
        return finish(cpu, bus, &insn, done);
    }
    // STI and a load of SS hold interrupts back for one instruction only, and RF instruction breakpoints.
    if cpu.shadow == shadow {
        cpu.shadow = Shadow::None;
    }
    if resume {
        cpu.flags.rest &= !flags::RF;
    }
    finish(cpu, bus, &insn, done);
    if trap && !cpu.no_trap {
        cpu.pending_debug |= DR6_SINGLE_STEP;
    }
}

/// Runs an instruction with the clock exact, side effects allowed, and bus locks noticed.
fn alone(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn) -> Done {
    let locked = match cpu.vmx.detects_bus_locks() {
        true => cpu.locked_access(insn),
        false => None,
    };
    cpu.solo = true;
    let done = (insn.run)(cpu, bus, insn);
    cpu.solo = false;
    if let (Some(locked), Ok(()) | Err(Stop::Sync | Stop::Again)) = (locked, done) {
        cpu.vmx.bus_lock = cpu.bus_lock(bus, locked).map(|why| (locked, why));
    }
    done
}

/// Leaves a block at `insn`, which did not simply complete.
#[inline(always)]
fn leave(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn, stop: Stop) {
    cpu.icount += insn.position as u64;
    let done = if stop == Stop::Solo {
        bus.clock = cpu.clock_base.wrapping_add(cpu.icount);
        alone(cpu, bus, insn)
    } else {
        Err(stop)
    };
    finish(cpu, bus, insn, done);
}

/// Settles RIP, the count and what was asked for, after the last instruction of a run.
#[inline]
fn finish(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn, done: Done) {
    match done {
        Ok(()) | Err(Stop::Sync) => {
            cpu.icount += 1;
            if !insn.has(flag::BRANCH) {
                cpu.rip = cpu.next_ip(insn);
            }
        }
        Err(Stop::World) => cpu.icount += 1,
        // A part of a repeated instruction counts like an instruction, or time would stand still in a long one.
        Err(Stop::Again) => {
            cpu.icount += 1;
            cpu.rip = cpu.ip(insn);
            // An event that comes before the next part pushes RF set (SDM vol. 3, 17.3.1.1).
            cpu.flags.rest |= flags::RF;
        }
        Err(Stop::Frozen) => {
            cpu.icount += 1;
            cpu.rip = cpu.ip(insn);
            cpu.no_trap = true;
            cpu.report_float_error(bus);
        }
        Err(stop) => {
            cpu.rip = cpu.ip(insn);
            if stop == Stop::Exit {
                vmx::exit::caused_by(cpu, insn);
            }
            take(cpu, bus, stop);
        }
    }
}

/// Takes an exception or a VM exit, with RIP at the instruction that caused it.
fn take(cpu: &mut Cpu, bus: &mut Bus, stop: Stop) {
    bus.clock = cpu.clock_base.wrapping_add(cpu.icount);
    let stop = match stop {
        Stop::Fault => deliver::deliver(cpu, bus, cpu.fault).err(),
        other => Some(other),
    };
    if stop == Some(Stop::Exit) {
        vmx::exit::take(cpu, bus);
    }
}

enum Ready {
    Run,
    /// Something was delivered; look again.
    Again,
    Idle,
    Shutdown,
}

/// Whether `between_instructions` would find nothing to do: one look at all that it looks at one by one.
#[inline(always)]
fn nothing_waits(cpu: &Cpu, bus: &Bus) -> bool {
    let waits = bus.signals[cpu.id].any()
        | bus.interrupt_pending(cpu.id)
        | (cpu.activity != Activity::Active)
        | cpu.waiting.is_some()
        | (cpu.pending_debug != 0)
        | cpu.first_fault.is_some();
    !waits && (!cpu.vmx.guest || vmx::boundary::nothing_waits(cpu, bus))
}

impl Cpu {
    /// Whether the processor runs one instruction only before it looks again.
    #[inline(always)]
    fn steps(&self) -> bool {
        self.vmx.single_steps()
            | self.breakpoints_armed()
            | self.flags.has(flags::TF | flags::RF)
            | (self.shadow != Shadow::None)
    }
}

/// What comes between two instructions, in the order of SDM vol. 3, 7.9 (table "Priority among concurrent events").
#[inline(never)]
fn between_instructions(cpu: &mut Cpu, bus: &mut Bus, mask_interrupts: bool) -> Result<Ready, Stop> {
    if cpu.vmx.guest {
        vmx::apic::complete(cpu, bus)?;
        vmx::boundary::bus_lock(cpu)?;
    }
    if take_signals(cpu, bus)? {
        return Ok(Ready::Again);
    }
    match cpu.activity {
        // A guest that has shut down can still exit.
        Activity::Shutdown if !cpu.vmx.guest => return Ok(Ready::Shutdown),
        Activity::WaitForSipi => return Ok(Ready::Idle),
        _ => {}
    }
    if cpu.vmx.guest {
        vmx::boundary::trap(cpu, bus)?;
    }
    if let Some(fault) = cpu.first_fault.take() {
        cpu.fault = fault;
        return Err(Stop::Fault);
    }
    if cpu.pending_debug != 0 && cpu.shadow != Shadow::MovSs {
        let dr6 = std::mem::take(&mut cpu.pending_debug);
        cpu.activity = Activity::Active;
        return Err(cpu.debug_exception(dr6 & !vmx::guest_state::PENDING_ENABLED));
    }
    if cpu.vmx.guest {
        vmx::boundary::check(cpu, bus)?;
    }
    // A halted processor would never go on without an interrupt.
    if mask_interrupts && cpu.activity == Activity::Active && cpu.waiting.is_none() {
        return Ok(Ready::Run);
    }
    if bus.signals[cpu.id].nmi && cpu.shadow != Shadow::MovSs && nmi_allowed(cpu, bus)? {
        bus.signals[cpu.id].nmi = false;
        cpu.activity = Activity::Active;
        cpu.nmi_blocked = true;
        return deliver::deliver(cpu, bus, Fault::of(EventKind::Nmi, vector::NMI)).map(|()| Ready::Again);
    }
    if cpu.vmx.guest {
        vmx::boundary::interrupt_window(cpu)?;
        if vmx::apic::interrupts::deliver(cpu, bus)? {
            return Ok(Ready::Again);
        }
    }
    if bus.interrupt_pending(cpu.id) {
        if cpu.vmx.guest && vmx::apic::posted::process(cpu, bus)? {
            return Ok(Ready::Again);
        }
        if !interrupt_allowed(cpu, bus)? {
            return Ok(ready(cpu, bus));
        }
        let vector = bus.acknowledge(cpu.id);
        cpu.activity = Activity::Active;
        return deliver::deliver(cpu, bus, Fault::of(EventKind::ExternalInterrupt, vector))
            .map(|()| Ready::Again);
    }
    Ok(ready(cpu, bus))
}

/// With no event to take.
fn ready(cpu: &mut Cpu, bus: &Bus) -> Ready {
    if let Some(wait) = cpu.waiting.filter(|wait| wait.is_over(bus, cpu.id)) {
        cpu.waiting = None;
        if wait.was_cut_short(bus) {
            cpu.flags.set_carry(true);
        }
    }
    if cpu.activity == Activity::Active && cpu.waiting.is_none() {
        Ready::Run
    } else {
        Ready::Idle
    }
}

fn nmi_allowed(cpu: &mut Cpu, bus: &mut Bus) -> Result<bool, Stop> {
    if cpu.vmx.guest {
        return vmx::boundary::nmi(cpu, bus);
    }
    Ok(!cpu.nmi_blocked)
}

fn interrupt_allowed(cpu: &mut Cpu, bus: &mut Bus) -> Result<bool, Stop> {
    if cpu.vmx.guest {
        return vmx::boundary::interrupt(cpu, bus);
    }
    Ok(cpu.flags.has(flags::IF) && cpu.shadow == Shadow::None)
}

/// INIT and SIPI (SDM vol. 3, 9.4). True if one was taken.
fn take_signals(cpu: &mut Cpu, bus: &mut Bus) -> Result<bool, Stop> {
    if bus.signals[cpu.id].init && !cpu.init_blocked() {
        if cpu.vmx.guest {
            vmx::boundary::init(cpu, bus)?;
        }
        bus.signals[cpu.id].init = false;
        bus.init_lapic(cpu.id);
        bus.debug.holders.release_all(cpu.id);
        cpu.init();
        return Ok(true);
    }
    if let Some(vector) = bus.signals[cpu.id].sipi {
        if cpu.activity == Activity::WaitForSipi {
            if cpu.vmx.guest {
                vmx::boundary::sipi(cpu, bus, vector)?;
            }
            bus.signals[cpu.id].sipi = None;
            cpu.start_up(vector);
            return Ok(true);
        }
        bus.signals[cpu.id].sipi = None;
    }
    Ok(false)
}

/// Whether `interrupted` would find something: one look at all that it looks at one by one.
#[inline(always)]
fn wants_attention(bus: &Bus) -> bool {
    bus.debug.watches.were_hit()
        | bus.debug.catches.were_hit()
        | bus.request.is_some()
        | bus.output_full()
        | bus.debug.events.must_drain()
}

/// Whether a debugger, a device or a trace wants the machine to stop here.
#[cold]
fn interrupted(cpu: &Cpu, bus: &mut Bus) -> Option<TurnEnd> {
    if bus.debug.watches.were_hit() {
        if let Some(watch) = bus.debug.watches.take_hit(cpu.id, cpu.world()) {
            return Some(TurnEnd::Watch(watch));
        }
    }
    if let Some(number) = bus.debug.catches.take_hit() {
        return Some(TurnEnd::Catch(number));
    }
    (bus.request.is_some() || bus.output_full() || bus.debug.events.must_drain())
        .then_some(TurnEnd::Attention)
}

/// The block at the current RIP, whose linear address is `linear`.
#[inline(always)]
fn find(cpu: &mut Cpu, bus: &mut Bus, code: &mut CodeCache, linear: u64) -> Result<BlockId, Stop> {
    if bus.debug.breakpoints.generation == code.breakpoints {
        let context = code.context(cpu.tlb.unique_context(), cpu.code_size);
        if let Some(id) = code.recent(linear, context) {
            return Ok(id);
        }
    }
    enter(cpu, bus, code, linear)
}

/// Finds or decodes the block at the current RIP, whose linear address is `linear`.
#[cold]
#[inline(never)]
fn enter(cpu: &mut Cpu, bus: &mut Bus, code: &mut CodeCache, linear: u64) -> Result<BlockId, Stop> {
    if bus.debug.breakpoints.generation != code.breakpoints {
        code.clear();
        code.breakpoints = bus.debug.breakpoints.generation;
    }
    if cpu.long64() {
        if !cpu.canonical(linear) {
            return Err(cpu.general_protection(0));
        }
    } else if cpu.rip > cpu.seg[CS].limit as u64 {
        return Err(cpu.general_protection(0));
    }
    let ram = fetch(cpu, bus, linear)?;
    let context = code.context(cpu.tlb.unique_context(), cpu.code_size);
    if let Some(ram) = ram {
        let key = Key {
            ram: ram as u64,
            size: cpu.code_size,
            enforcement: cpu.enforcement(),
        };
        if let Some(id) = code.find(key) {
            code.remember(linear, context, id);
            return Ok(id);
        }
    }
    let breakpoints = &bus.debug.breakpoints;
    let cut = |offset: u64| breakpoints.cuts(linear.wrapping_add(offset));
    let guarded = cut(0);
    // Outside RAM every byte reads as ones, which is no instruction.
    let bytes = ram.map_or(&[0xff; 15][..], |ram| bus.ram.to_page_end(ram));
    let mode = (cpu.code_size, cpu.enforcement());
    match decode::block(bytes, mode, cpu.rip, &cpu.offered, cut) {
        Decoded::Block(insns) => {
            let block = Block::new(insns, guarded);
            let Some(ram) = ram else {
                return Ok(code.scratch(block));
            };
            if bus.ram.mark_code(ram as u64, block.length as u64) {
                cpu.tlb.forget_writes(ram as u64 & PAGE_MASK);
                bus.newly_guarded.push(ram as u64 & PAGE_MASK);
            }
            let key = Key {
                ram: ram as u64,
                size: cpu.code_size,
                enforcement: cpu.enforcement(),
            };
            let id = code.insert(key, block);
            code.remember(linear, context, id);
            Ok(id)
        }
        Decoded::NeedsMore => {
            if !cpu.code_holds(bytes.len() as u64 + 1) {
                return Err(cpu.general_protection(0));
            }
            let mut both = bytes.to_vec();
            let next = linear.wrapping_add(PAGE) & PAGE_MASK & cpu.linear_mask;
            match fetch(cpu, bus, next)? {
                Some(at) => both.extend(bus.ram.to_page_end(at).iter().take(15)),
                None => both.extend([0xff; 15]),
            }
            match decode::block(&both, mode, cpu.rip, &cpu.offered, |_| true) {
                Decoded::Block(insns) => Ok(code.scratch(Block::new(insns, true))),
                Decoded::NeedsMore => Err(cpu.general_protection(0)),
            }
        }
    }
}

/// Where in RAM the instruction at `linear` lies; `None`: outside RAM.
fn fetch(cpu: &mut Cpu, bus: &mut Bus, linear: u64) -> Result<Option<usize>, Stop> {
    cpu.tlb.note_fetch(linear);
    let context = cpu.tlb.context;
    let entry = cpu.tlb.entry(linear, context);
    if entry.fetch == linear & PAGE_MASK | context {
        return Ok(Some(entry.ram(linear)));
    }
    let mut physical = paging::translate(cpu, bus, linear, Access::fetch(cpu.tlb.privilege()))?;
    if cpu.vmx.apic.is_access_page(physical) {
        physical = vmx::apic::page::redirect(cpu, physical, 1, Use::Fetch)?;
    }
    Ok(bus.ram.offset(physical))
}
