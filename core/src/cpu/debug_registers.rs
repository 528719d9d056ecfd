//! The processor's own breakpoints: DR0 to DR3 as DR7 arms them (SDM vol. 3, 17.2). A debugger's are elsewhere, in
//! `crate::debug::breakpoints`.

use super::bits::CR4_DE;
use super::{Cpu, Stop};

pub const DR6_SINGLE_STEP: u64 = 1 << 14;
pub const DR6_TASK_SWITCH: u64 = 1 << 15;
/// Debug-register access detected: a fault, where the others but instruction breakpoints are traps.
pub const DR6_ACCESS_DETECTED: u64 = 1 << 13;
/// B0 to B3.
pub const DR6_CONDITIONS: u64 = 15;
pub const DR7_GENERAL_DETECT: u64 = 1 << 13;

/// All that a debug exception can report.
pub const DR6_WRITABLE: u64 = 0xe00f;
const DR6_ONES: u64 = 0xffff_0ff0;
const DR7_WRITABLE: u64 = 0xffff_2bff;
const DR7_ONES: u64 = 0x400;
/// L0 to G3.
const DR7_ENABLES: u64 = 0xff;

/// The R/W field of DR7.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Condition {
    Execute,
    Write,
    /// With CR4.DE only.
    Port,
    Access,
}

impl Cpu {
    pub fn write_dr6(&mut self, value: u64) {
        self.dr6 = value & DR6_WRITABLE | DR6_ONES;
    }

    pub fn write_dr7(&mut self, value: u64) {
        self.dr7 = value & DR7_WRITABLE | DR7_ONES;
        self.breakpoints_changed();
    }

    /// Pages with data breakpoints must not stay in the TLB. To be called after a change of DR0 to DR3, DR7 or CR4.DE.
    pub fn breakpoints_changed(&mut self) {
        if self.breakpoints_armed() {
            self.tlb.forget_entries();
        }
    }

    #[inline(always)]
    pub fn breakpoints_armed(&self) -> bool {
        self.dr7 & DR7_ENABLES != 0
    }

    /// The armed breakpoints that `bytes` bytes at `address` touch under one of `conditions`, as bits of DR6.
    fn hits(&self, address: u64, bytes: u64, conditions: &[Condition]) -> u64 {
        (0..4)
            .filter(|&number| {
                let enabled = self.dr7 >> (2 * number) & 3 != 0;
                let condition = match self.dr7 >> (16 + 4 * number) & 3 {
                    0 => Condition::Execute,
                    1 => Condition::Write,
                    2 => Condition::Port,
                    _ => Condition::Access,
                };
                let length = [1, 2, 8, 4][(self.dr7 >> (18 + 4 * number) & 3) as usize];
                let first = self.dr[number as usize] & !(length - 1);
                enabled
                    && conditions.contains(&condition)
                    && first < address.saturating_add(bytes)
                    && address <= first + (length - 1)
            })
            .fold(0, |bits, number| bits | 1 << number)
    }

    /// The #DB of an instruction breakpoint at the linear address of the next instruction: a fault, which RF holds
    /// back.
    pub fn instruction_breakpoint(&mut self, linear: u64) -> Option<Stop> {
        let held = self.flags.has(super::flags::RF) || self.shadow == super::Shadow::MovSs;
        if held || !self.breakpoints_armed() {
            return None;
        }
        let bits = self.hits(linear, 1, &[Condition::Execute]);
        (bits != 0).then(|| self.debug_exception(bits))
    }

    /// An access to memory was made: its breakpoints are traps after the instruction.
    #[inline(always)]
    pub fn note_data_access(&mut self, linear: u64, bytes: u64, write: bool) {
        if self.breakpoints_armed() {
            let conditions: &[Condition] = if write {
                &[Condition::Write, Condition::Access]
            } else {
                &[Condition::Access]
            };
            self.pending_debug |= self.hits(linear, bytes, conditions);
        }
    }

    /// An access to a port was made.
    pub fn note_port_access(&mut self, port: u16, bytes: u64) {
        if self.breakpoints_armed() && self.cr4 & CR4_DE != 0 {
            self.pending_debug |= self.hits(port as u64, bytes, &[Condition::Port]);
        }
    }

    /// Whether accesses to the page must be looked at one by one.
    pub fn watches_page(&self, page: u64) -> bool {
        self.breakpoints_armed() && self.hits(page, 0x1000, &[Condition::Write, Condition::Access]) != 0
    }
}
