//! Translations as a debugger sees them: nothing is set, nothing is cached, every level is told.

use crate::cpu::Cpu;
use crate::machine::Machine;
use crate::mmu::ept;
use crate::mmu::paging::{self, Access, Control, Failure, Step, Tables};
use crate::mmu::tlb::Privilege;

/// A world's tables, read without a trace.
struct Seen<'a> {
    machine: &'a Machine,
    cpu: &'a Cpu,
    steps: Vec<Step>,
}

impl Tables for Seen<'_> {
    /// The guest-physical address that is not in RAM, or that EPT does not map.
    type Error = u64;

    fn load(&mut self, address: u64, bytes: u64) -> Result<u64, u64> {
        let host = self.machine.host_physical(self.cpu, address).ok_or(address)?;
        let mut entry = [0; 8];
        let found = self.machine.read_physical(host, bytes as usize).ok_or(address)?;
        entry[..found.len()].copy_from_slice(found);
        Ok(u64::from_le_bytes(entry))
    }
    fn store(&mut self, _: u64, _: u64, _: u64) -> Result<(), u64> {
        Ok(())
    }
    fn step(&mut self, step: Step) {
        self.steps.push(step);
    }
}

/// A guest's EPT, read without a trace.
struct SeenEpt<'a>(&'a Machine);

impl Tables for SeenEpt<'_> {
    /// The host-physical address that is not in RAM.
    type Error = u64;

    fn load(&mut self, address: u64, bytes: u64) -> Result<u64, u64> {
        let found = self.0.read_physical(address, bytes as usize).ok_or(address)?;
        let mut entry = [0; 8];
        entry[..found.len()].copy_from_slice(found);
        Ok(u64::from_le_bytes(entry))
    }
    fn store(&mut self, _: u64, _: u64, _: u64) -> Result<(), u64> {
        Ok(())
    }
}

impl Machine {
    /// Translates a linear address of `cpu` (see `Machine::view`) to the machine's physical address, rights aside.
    pub fn translate(&self, cpu: &Cpu, linear: u64) -> Option<u64> {
        let control = Control {
            cr0: cpu.cr0 & !crate::cpu::bits::CR0_WP,
            ..Control::of(cpu)
        };
        let mut tables = Seen {
            machine: self,
            cpu,
            steps: Vec::new(),
        };
        let access = Access::read(Privilege::SupervisorAc);
        let leaf = paging::walk(&control, &mut tables, linear, access).ok()?;
        self.host_physical(cpu, leaf.physical)
    }

    /// What a guest-physical address of `cpu`'s world is in the machine: through EPT in a guest that has it.
    pub fn host_physical(&self, cpu: &Cpu, address: u64) -> Option<u64> {
        let Some(pointer) = cpu.vmx.ept_pointer else {
            return Some(address);
        };
        let control = ept::Control::new(pointer, cpu);
        // No right is asked for: what a guest may not read, its debugger may.
        let page = ept::walk(&control, &mut SeenEpt(self), address, 0).ok()?;
        Some(page.physical)
    }

    /// Reads by linear address; the error is the first address that cannot be read.
    pub fn read_linear(&self, cpu: &Cpu, linear: u64, length: usize) -> Result<Vec<u8>, u64> {
        let mut data = Vec::new();
        while data.len() < length {
            let at = linear.wrapping_add(data.len() as u64) & cpu.linear_mask;
            let part = (length - data.len()).min(0x1000 - (at & 0xfff) as usize);
            let found = self
                .translate(cpu, at)
                .and_then(|physical| self.read_physical(physical, part));
            data.extend_from_slice(found.ok_or(at)?);
        }
        Ok(data)
    }
}

/// How a walk ended short.
pub fn failure_words(failure: &Failure<u64>) -> String {
    match failure {
        Failure::Fault(code) => format!("page fault, error code {code:#x}"),
        Failure::Tables(address) => format!("the entry at guest-physical {address:#x} cannot be read"),
    }
}
