//! MONITOR and MWAIT (SDM vol. 2; vol. 3, 9.10.4), and for any privilege level UMONITOR, UMWAIT and TPAUSE.

use iced_x86::Mnemonic as Mn;

use crate::cpu::decode::{Flow, Group};
use crate::cpu::insn::Insn;
use crate::cpu::{Cpu, Done, Stop, RAX, RCX};
use crate::mmu::paging::{self, Access};
use crate::platform::Bus;
use crate::vmx::intercept::{self, Optional, Plain};
use crate::vmx::reasons::reason;

/// The bytes that are monitored together; CPUID leaf 5 tells.
pub const LINE: usize = 64;

/// A monitored line: where it is in RAM, and what was in it. A store is noticed by what it changes; one that changes
/// nothing cannot be what the program waits for.
#[derive(Clone, Copy, Debug)]
pub struct Monitor {
    line: usize,
    contents: [u8; LINE],
    /// By UMONITOR: it is for UMWAIT, and MONITOR's for MWAIT.
    user: bool,
}

impl Monitor {
    /// Of the line that `physical` lies in, if that is RAM: nothing else can be monitored.
    fn arm(bus: &Bus, physical: u64, user: bool) -> Option<Monitor> {
        let line = bus.ram.offset(physical & !(LINE as u64 - 1))?;
        Some(Monitor {
            line,
            contents: *bus.ram.bytes(line)?,
            user,
        })
    }

    pub fn is_triggered(&self, bus: &Bus) -> bool {
        bus.ram.bytes(self.line) != Some(&self.contents)
    }
}

/// What MWAIT, UMWAIT or TPAUSE waits for.
#[derive(Clone, Copy, Debug)]
pub struct Wait {
    monitor: Option<Monitor>,
    /// Interrupts wake the processor even where IF masks them.
    masked_interrupts: bool,
    limit: Option<Limit>,
}

/// The clock at which a wait ends.
#[derive(Clone, Copy, Debug)]
struct Limit {
    clock: u64,
    /// Set by IA32_UMWAIT_CONTROL: CF tells the program.
    by_system: bool,
}

impl Wait {
    /// Whether it is over. What is delivered ends it too.
    pub fn is_over(&self, bus: &Bus, cpu: usize) -> bool {
        self.limit.is_some_and(|limit| limit.clock <= bus.clock)
            || self.monitor.is_some_and(|monitor| monitor.is_triggered(bus))
            || self.masked_interrupts && bus.interrupt_pending(cpu)
    }

    /// The system's limit has ended it.
    pub fn was_cut_short(&self, bus: &Bus) -> bool {
        self.limit
            .is_some_and(|limit| limit.by_system && limit.clock <= bus.clock)
    }

    pub fn deadline(&self) -> Option<u64> {
        self.limit.map(|limit| limit.clock)
    }
}

/// Arms the monitor for the line at `address` in the instruction's segment.
fn arm(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn, address: u64, user: bool) -> Done {
    let address = address & insn.address_mask();
    cpu.read::<u8>(bus, insn.seg, address)?;
    let linear = cpu.linear(insn.seg, address, 1, false)?;
    let physical = paging::translate(cpu, bus, linear, Access::read(cpu.tlb.privilege()))?;
    cpu.monitor = Monitor::arm(bus, physical, user);
    Ok(())
}

/// The monitor as `user` or not armed it, unless what was stored since has triggered it.
fn armed(cpu: &Cpu, bus: &Bus, user: bool) -> Option<Monitor> {
    cpu.monitor
        .filter(|monitor| monitor.user == user && !monitor.is_triggered(bus))
}

fn monitor(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn) -> Done {
    if cpu.cpl != 0 {
        return Err(cpu.invalid_opcode());
    }
    intercept::plain(cpu, insn, Plain::Monitor)?;
    if cpu.regs[RCX] as u32 != 0 {
        return Err(cpu.general_protection(0));
    }
    arm(cpu, bus, insn, cpu.regs[RAX], false)
}

/// The extension of ECX that CPUID leaf 5 tells of: interrupts wake even where they are masked.
const MASKED_INTERRUPTS: u32 = 1;

fn mwait(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn) -> Done {
    if cpu.cpl != 0 {
        return Err(cpu.invalid_opcode());
    }
    let armed = armed(cpu, bus, false);
    intercept::mwait(cpu, insn, armed.is_some())?;
    let extensions = cpu.regs[RCX] as u32;
    if extensions & !MASKED_INTERRUPTS != 0 {
        return Err(cpu.general_protection(0));
    }
    cpu.monitor = None;
    cpu.waiting = armed.map(|_| Wait {
        monitor: armed,
        masked_interrupts: extensions & MASKED_INTERRUPTS != 0,
        limit: None,
    });
    Ok(())
}

fn umonitor(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn) -> Done {
    if !intercept::offered(cpu, Optional::UserWait) {
        return Err(cpu.invalid_opcode());
    }
    arm(cpu, bus, insn, cpu.regs[insn.r[0] as usize], true)
}

fn umwait(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn) -> Done {
    let limit = timed(cpu, insn, reason::UMWAIT)?;
    let armed = armed(cpu, bus, true);
    cpu.monitor = None;
    cpu.waiting = limit.filter(|_| armed.is_some()).map(|limit| Wait {
        monitor: armed,
        masked_interrupts: true,
        limit: Some(limit),
    });
    Ok(())
}

fn tpause(cpu: &mut Cpu, _: &mut Bus, insn: &Insn) -> Done {
    let limit = timed(cpu, insn, reason::TPAUSE)?;
    cpu.waiting = limit.map(|limit| Wait {
        monitor: None,
        masked_interrupts: true,
        limit: Some(limit),
    });
    Ok(())
}

/// What UMWAIT and TPAUSE check, and the end of their wait; `None` where it has passed.
fn timed(cpu: &mut Cpu, insn: &Insn, reason: u16) -> Result<Option<Limit>, Stop> {
    if !intercept::offered(cpu, Optional::UserWait) {
        return Err(cpu.invalid_opcode());
    }
    cpu.check_time_stamp()?;
    intercept::user_wait(cpu, insn, reason)?;
    // Bit 0 chooses between two ways to save power.
    if cpu.regs[insn.r[0] as usize] as u32 & !1 != 0 {
        return Err(cpu.general_protection(0));
    }
    // CF is 0 unless the system's limit ends the wait; the other flags are 0.
    cpu.flags.result_with(1u8, false, false);
    let now = cpu.clock_at(insn);
    let wanted = cpu.halves().saturating_sub(cpu.visible_tsc(now));
    let allowed = match cpu.msr.umwait_control & !3 {
        0 => u64::MAX,
        limit => limit,
    };
    let delay = intercept::host_delay(cpu, wanted.min(allowed));
    Ok((delay != 0).then_some(Limit {
        clock: now.saturating_add(delay),
        by_system: allowed < wanted,
    }))
}

pub static ROWS: Group = &[
    (Mn::Monitor, |_| Some(monitor), Flow::Alone),
    (Mn::Mwait, |_| Some(mwait), Flow::Alone),
    (Mn::Umonitor, |_| Some(umonitor), Flow::Alone),
    (Mn::Umwait, |_| Some(umwait), Flow::Alone),
    (Mn::Tpause, |_| Some(tpause), Flow::Alone),
];
