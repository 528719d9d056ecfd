//! The machine: its processors, run in turns, and what they share.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::time::Instant;

use crate::cpu::block::CodeCache;
use crate::cpu::exec::x87::X87;
use crate::cpu::run::{self, Turn, TurnEnd};
use crate::cpu::Cpu;
use crate::debug::breakpoints::Watch;
use crate::platform::{Bus, Request};
use crate::vmx::profile::Profile;

/// Ticks of one round of turns where there is more than one processor: how far apart their clocks may be.
const QUANTUM: u64 = 1000;
/// Ticks of a round of one processor; the longest stretch between two looks at the outside world.
const SLICE: u64 = 2_000_000;

/// CPUID.1:ECX.
const CPUID_X2APIC: u32 = 1 << 21;

/// Why `Machine::run` came back.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Stopped {
    /// The count was reached.
    Count,
    /// Every processor is halted and no device will ever wake one: only input can.
    Idle,
    /// Every processor is halted and COM1 waits for a byte; time has passed `Run::patient_until`.
    Waiting,
    /// A processor shut down: triple fault or VMX abort.
    Shutdown,
    Breakpoint,
    Watch(Watch),
    /// The catchpoint's number.
    Catch(u32),
    /// Output or events are to be taken before the run goes on.
    Attention,
    Request(Request),
    /// `stop` was set, or the deadline passed.
    Interrupted,
}

/// How to run.
#[derive(Clone, Copy, Debug)]
pub struct Run {
    /// Instructions that may still be retired: by `only`, else by all processors together.
    pub count: u64,
    /// Whose instructions count. The others run in their turns as ever.
    pub only: Option<usize>,
    pub leave_breakpoint: bool,
    /// Hold interrupts back from `only`, as a debugger's single step does.
    pub mask_interrupts: bool,
    pub deadline: Option<Instant>,
    /// The clock up to which idle time is skipped without a word even while COM1 waits for a byte.
    pub patient_until: Option<u64>,
}

impl Run {
    pub fn count(count: u64) -> Run {
        Run {
            count,
            only: None,
            leave_breakpoint: false,
            mask_interrupts: false,
            deadline: None,
            patient_until: None,
        }
    }
}

/// The round of turns that is under way. All processors pass the same ticks in it, one after the other.
#[derive(Clone, Copy, Debug)]
struct Round {
    start: u64,
    end: u64,
    /// Whose turn it is; `Bus::clock` is that processor's time.
    cpu: usize,
    /// All that had their turn were idle at its end.
    idle: bool,
}

pub struct Machine {
    pub cpus: Vec<Cpu>,
    pub bus: Bus,
    code: CodeCache,
    round: Round,
}

impl Machine {
    /// A machine after RESET; `memory` in bytes.
    ///
    /// One thing of its processors is as firmware leaves it, for there is none here: x87 has been initialised.
    pub fn new(memory: u64, cpus: usize, profile: Arc<Profile>) -> Machine {
        let cpus = cpus.max(1);
        let mut bus = Bus::new(memory, cpus);
        let x2apic = profile.cpuid(1, 0)[2] & CPUID_X2APIC != 0;
        bus.set_apic_limits(profile.maxphyaddr() as u8, x2apic);
        let cpu = |id| Cpu {
            x87: X87::default(),
            ..Cpu::new(id, profile.clone())
        };
        Machine {
            cpus: (0..cpus).map(cpu).collect(),
            bus,
            code: CodeCache::default(),
            round: Round {
                start: 0,
                end: 0,
                cpu: 0,
                idle: true,
            },
        }
    }

    /// The processor that ran last.
    pub fn current(&self) -> usize {
        self.round.cpu
    }

    /// Instructions retired by all processors.
    pub fn instructions(&self) -> u64 {
        self.cpus.iter().map(|cpu| cpu.icount).sum()
    }

    /// Runs until something is to be said. The same state and the same input give the same run, however it is cut
    /// into calls.
    pub fn run(&mut self, run: Run, stop: &AtomicBool) -> Stopped {
        let mut left = run.count;
        let mut leave_breakpoint = run.leave_breakpoint;
        loop {
            if left == 0 {
                return Stopped::Count;
            }
            if stop.swap(false, Ordering::Relaxed)
                || run.deadline.is_some_and(|deadline| Instant::now() >= deadline)
            {
                return Stopped::Interrupted;
            }
            let id = self.round.cpu;
            let counts = run.only.is_none_or(|only| only == id);
            let cpu = &mut self.cpus[id];
            let before = cpu.icount;
            let ticks = self.round.end.saturating_sub(self.bus.clock);
            let end = if ticks == 0 {
                TurnEnd::Count
            } else {
                let allowed = if counts { ticks.min(left) } else { ticks };
                let turn = Turn {
                    until: before.saturating_add(allowed),
                    leave_breakpoint: leave_breakpoint && counts,
                    mask_interrupts: run.mask_interrupts && counts,
                };
                run::turn(cpu, &mut self.bus, &mut self.code, turn)
            };
            if counts {
                left -= cpu.icount - before;
                leave_breakpoint &= cpu.icount == before;
            }
            // What it ran may have woken a processor that was idle before it.
            self.round.idle &= cpu.icount == before;
            let written = std::mem::take(&mut self.bus.newly_guarded);
            for page in written {
                self.cpus.iter_mut().for_each(|cpu| cpu.tlb.forget_writes(page));
            }
            match end {
                TurnEnd::Count if self.bus.clock < self.round.end => {}
                TurnEnd::Count => {
                    self.round.idle = false;
                    self.next_turn();
                }
                TurnEnd::Idle => {
                    if let Some(stopped) = self.sleep(run.patient_until) {
                        return stopped;
                    }
                }
                TurnEnd::Shutdown => return Stopped::Shutdown,
                TurnEnd::Breakpoint => return Stopped::Breakpoint,
                TurnEnd::Watch(watch) => return Stopped::Watch(watch),
                TurnEnd::Catch(number) => return Stopped::Catch(number),
                TurnEnd::Attention => {
                    return match self.bus.request.take() {
                        Some(request) => Stopped::Request(request),
                        None => Stopped::Attention,
                    }
                }
            }
        }
    }

    /// The processor whose turn it is has nothing to do: its time passes up to the next event.
    fn sleep(&mut self, patient_until: Option<u64>) -> Option<Stopped> {
        let id = self.round.cpu;
        let wake = [self.bus.deadline_for(id), self.cpus[id].deadline()];
        let wake = wake.into_iter().flatten().min();
        if let Some(wake) = wake.filter(|wake| (self.bus.clock + 1..self.round.end).contains(wake)) {
            self.bus.clock = wake;
            return None;
        }
        let last = self.round.cpu + 1 == self.cpus.len();
        if !(last && self.round.idle) {
            self.bus.clock = self.round.end;
            self.next_turn();
            return None;
        }
        // Every processor is idle: skip to the next thing that happens.
        let timers = self.cpus.iter().filter_map(Cpu::deadline);
        let Some(wake) = timers.chain(self.bus.deadline()).min() else {
            return Some(Stopped::Idle);
        };
        self.bus.clock = self.round.end.max(wake);
        self.next_turn();
        let waits = patient_until.is_some_and(|until| self.bus.clock >= until);
        (waits && self.bus.serial_interrupts_on_input()).then_some(Stopped::Waiting)
    }

    fn next_turn(&mut self) {
        if self.round.cpu + 1 < self.cpus.len() {
            self.round.cpu += 1;
            self.bus.clock = self.round.start;
            return;
        }
        let start = self.bus.clock;
        let length = if self.cpus.len() == 1 { SLICE } else { QUANTUM };
        self.round = Round {
            start,
            end: start.saturating_add(length),
            cpu: 0,
            idle: true,
        };
    }

    /// Adds a watchpoint; the TLBs forget what they hold, for accesses to its page must not go past it.
    pub fn add_watch(&mut self, watch: Watch) {
        self.bus.debug.watches.insert(watch);
        self.cpus.iter_mut().for_each(|cpu| cpu.tlb.forget_entries());
    }

    /// Bytes that a debugger or a loader writes into RAM. False, and nothing is written, where there is no RAM.
    pub fn write_physical(&mut self, address: u64, data: &[u8]) -> bool {
        let ram = &mut self.bus.ram;
        let last = address.checked_add(data.len() as u64);
        if data.is_empty() {
            return true;
        }
        let (Some(first), Some(last)) = (ram.offset(address), last.and_then(|end| ram.offset(end - 1)))
        else {
            return false;
        };
        if last - first != data.len() - 1 {
            return false;
        }
        let mut at = first;
        let mut rest = data;
        while !rest.is_empty() {
            let (part, more) = rest.split_at(rest.len().min(0x1000 - (at & 0xfff)));
            ram.write(at, part);
            at += part.len();
            rest = more;
        }
        true
    }

    /// The bytes at a physical address, if all of them are RAM.
    pub fn read_physical(&self, address: u64, length: usize) -> Option<&[u8]> {
        let ram = &self.bus.ram;
        if length == 0 {
            return Some(&[]);
        }
        let first = ram.offset(address)?;
        let last = ram.offset(address.checked_add(length as u64 - 1)?)?;
        (last - first == length - 1)
            .then(|| ram.slice(first, length))
            .flatten()
    }
}
