//! MONITOR and MWAIT (SDM vol. 2; vol. 3, 9.10.4).

use iced_x86::Mnemonic as Mn;

use crate::cpu::decode::{Flow, Group};
use crate::cpu::insn::Insn;
use crate::cpu::{Cpu, Done, RAX, RCX};
use crate::mmu::paging::{self, Access};
use crate::platform::Bus;
use crate::vmx::intercept::{self, Plain};

/// The bytes that are monitored together; CPUID leaf 5 tells.
pub const LINE: usize = 64;

/// A monitored line: where it is in RAM, and what was in it. A store is noticed by what it changes; one that changes
/// nothing cannot be what the program waits for.
#[derive(Clone, Copy, Debug)]
pub struct Monitor {
    line: usize,
    contents: [u8; LINE],
}

impl Monitor {
    /// Of the line that `physical` lies in, if that is RAM: nothing else can be monitored.
    fn arm(bus: &Bus, physical: u64) -> Option<Monitor> {
        let line = bus.ram.offset(physical & !(LINE as u64 - 1))?;
        Some(Monitor {
            line,
            contents: *bus.ram.bytes(line)?,
        })
    }

    pub fn is_triggered(&self, bus: &Bus) -> bool {
        bus.ram.bytes(self.line) != Some(&self.contents)
    }
}

/// What MWAIT waits for.
#[derive(Clone, Copy, Debug)]
pub struct Wait {
    monitor: Monitor,
    /// Interrupts wake the processor even where IF masks them.
    masked_interrupts: bool,
}

impl Wait {
    /// Whether it is over. What is delivered ends it too.
    pub fn is_over(&self, bus: &Bus, cpu: usize) -> bool {
        self.monitor.is_triggered(bus) || self.masked_interrupts && bus.interrupt_pending(cpu)
    }
}

fn monitor(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn) -> Done {
    if cpu.cpl != 0 {
        return Err(cpu.invalid_opcode());
    }
    intercept::plain(cpu, insn, Plain::Monitor)?;
    if cpu.regs[RCX] as u32 != 0 {
        return Err(cpu.general_protection(0));
    }
    let address = cpu.regs[RAX] & insn.address_mask();
    cpu.read::<u8>(bus, insn.seg, address)?;
    let linear = cpu.linear(insn.seg, address, 1, false)?;
    let physical = paging::translate(cpu, bus, linear, Access::read(cpu.tlb.privilege()))?;
    cpu.monitor = Monitor::arm(bus, physical);
    Ok(())
}

/// The extension of ECX that CPUID leaf 5 tells of: interrupts wake even where they are masked.
const MASKED_INTERRUPTS: u32 = 1;

fn mwait(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn) -> Done {
    if cpu.cpl != 0 {
        return Err(cpu.invalid_opcode());
    }
    // What was stored since MONITOR has triggered it.
    let armed = cpu.monitor.filter(|monitor| !monitor.is_triggered(bus));
    intercept::mwait(cpu, insn, armed.is_some())?;
    let extensions = cpu.regs[RCX] as u32;
    if extensions & !MASKED_INTERRUPTS != 0 {
        return Err(cpu.general_protection(0));
    }
    cpu.monitor = None;
    cpu.waiting = armed.map(|monitor| Wait {
        monitor,
        masked_interrupts: extensions & MASKED_INTERRUPTS != 0,
    });
    Ok(())
}

pub static ROWS: Group = &[
    (Mn::Monitor, |_| Some(monitor), Flow::Alone),
    (Mn::Mwait, |_| Some(mwait), Flow::Alone),
];
