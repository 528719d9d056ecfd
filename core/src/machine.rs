//! The machine: its processors, run in turns, and what they share.

use std::sync::Arc;

use crate::cpu::block::CodeCache;
use crate::cpu::run::{self, Turn, TurnEnd};
use crate::cpu::Cpu;
use crate::debug::breakpoints::Watch;
use crate::platform::Bus;
use crate::vmx::profile::Profile;

/// Instructions of one turn where there is more than one processor.
const QUANTUM: u64 = 1000;
/// The longest stretch between two looks at the outside world.
const SLICE: u64 = 10_000_000;

/// Why `Machine::run` came back.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Stopped {
    /// The count was reached.
    Count,
    /// Every processor is halted and no device will ever wake one: only input can.
    Idle,
    Shutdown,
    Breakpoint,
    Watch(Watch),
    Catch(u32),
    /// Output, events or a device's request are to be taken.
    Attention,
}

/// How to run.
#[derive(Clone, Copy, Debug)]
pub struct Run {
    /// Instructions that all processors together may still retire.
    pub count: u64,
    /// Run this processor only.
    pub only: Option<usize>,
    pub leave_breakpoint: bool,
    pub mask_interrupts: bool,
}

pub struct Machine {
    pub cpus: Vec<Cpu>,
    pub bus: Bus,
    code: CodeCache,
    /// Whose turn it is.
    pub turn: usize,
    turn_left: u64,
}
