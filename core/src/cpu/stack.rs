//! The stack as far transfers and event delivery use it: pushed and popped first, loaded into SS:RSP when all went
//! well.

use super::segment::{Segment, SS};
use super::{Cpu, Done, Stop, RSP};
use crate::mmu::tlb::Privilege;
use crate::platform::Bus;

#[derive(Clone, Copy)]
pub struct Stack {
    segment: Segment,
    pointer: u64,
    /// What wraps; the rest of RSP stays.
    mask: u64,
    /// 64-bit addresses, no segment.
    long: bool,
    privilege: Privilege,
    /// Of the #SS that an access beyond the limit raises.
    error_code: u32,
}

impl Stack {
    /// SS:RSP as they are.
    pub fn current(cpu: &Cpu) -> Stack {
        Stack {
            segment: cpu.seg[SS],
            pointer: cpu.regs[RSP],
            mask: cpu.stack_mask(),
            long: cpu.long64(),
            privilege: cpu.tlb.privilege(),
            error_code: 0,
        }
    }

    /// A stack of privilege level `cpl` outside 64-bit mode.
    pub fn of_segment(cpu: &Cpu, segment: Segment, pointer: u64, cpl: u8) -> Stack {
        let mask = if segment.rights.big() { 0xffff_ffff } else { 0xffff };
        Stack {
            segment,
            pointer: cpu.regs[RSP] & !mask | pointer & mask,
            mask,
            long: false,
            privilege: cpu.privilege_at(cpl),
            error_code: super::descriptor::error_code(segment.selector),
        }
    }

    /// A stack of privilege level `cpl` in 64-bit mode.
    pub fn of_pointer(cpu: &Cpu, segment: Segment, pointer: u64, cpl: u8) -> Stack {
        Stack {
            segment,
            pointer,
            mask: !0,
            long: true,
            privilege: cpu.privilege_at(cpl),
            error_code: 0,
        }
    }

    pub fn pointer(&self) -> u64 {
        self.pointer
    }

    fn linear(&self, cpu: &mut Cpu, bytes: u64) -> Result<u64, Stop> {
        let at = self.pointer & self.mask;
        let (good, linear) = if self.long {
            let last = at.wrapping_add(bytes - 1);
            (cpu.canonical(at) && cpu.canonical(last), at)
        } else {
            let linear = self.segment.base.wrapping_add(at) & 0xffff_ffff;
            let holds = self.segment.holds(at, at + bytes - 1);
            (self.segment.rights.usable() && holds, linear)
        };
        if good {
            Ok(linear)
        } else {
            Err(cpu.stack_fault(self.error_code))
        }
    }

    /// Pushes the low `bytes` bytes (2, 4 or 8) of `value`.
    pub fn push(&mut self, cpu: &mut Cpu, bus: &mut Bus, bytes: u64, value: u64) -> Done {
        let mut next = *self;
        next.skip(0u64.wrapping_sub(bytes));
        let linear = next.linear(cpu, bytes)?;
        match bytes {
            2 => cpu.write_linear(bus, linear, self.privilege, value as u16)?,
            4 => cpu.write_linear(bus, linear, self.privilege, value as u32)?,
            _ => cpu.write_linear(bus, linear, self.privilege, value)?,
        }
        *self = next;
        Ok(())
    }

    pub fn pop(&mut self, cpu: &mut Cpu, bus: &mut Bus, bytes: u64) -> Result<u64, Stop> {
        let linear = self.linear(cpu, bytes)?;
        let value = match bytes {
            2 => cpu.read_linear::<u16>(bus, linear, self.privilege)? as u64,
            4 => cpu.read_linear::<u32>(bus, linear, self.privilege)? as u64,
            _ => cpu.read_linear(bus, linear, self.privilege)?,
        };
        self.skip(bytes);
        Ok(value)
    }

    /// Adds to the stack pointer.
    pub fn skip(&mut self, bytes: u64) {
        self.pointer = self.pointer & !self.mask | self.pointer.wrapping_add(bytes) & self.mask;
    }

    /// Loads SS:RSP.
    pub fn commit(&self, cpu: &mut Cpu) {
        cpu.seg[SS] = self.segment;
        cpu.regs[RSP] = self.pointer;
    }
}
