//! The lists of MSRs that VM entry loads and VM exits store and load (SDM vol. 3, 27.4, 28.4 and 28.6).

use super::fields::{field, Field};
use super::rules::{msr_list_entry_problem, MsrListUse};
use crate::cpu::Cpu;
use crate::platform::Bus;

/// An entry of a list that could not be processed.
pub struct Failed {
    /// Counted from 1.
    pub number: u64,
    problem: String,
}

impl Failed {
    pub fn words(&self) -> String {
        format!("entry {} of the list: {}", self.number, self.problem)
    }
}

/// Bytes of an entry: index, reserved, value.
const ENTRY: u64 = 16;

/// The count and the address of each list.
#[inline(always)]
fn fields(list: MsrListUse) -> [Field; 2] {
    match list {
        MsrListUse::EntryLoad => [field::ENTRY_MSR_LOAD_COUNT, field::ENTRY_MSR_LOAD_ADDRESS],
        MsrListUse::ExitStore => [field::EXIT_MSR_STORE_COUNT, field::EXIT_MSR_STORE_ADDRESS],
        MsrListUse::ExitLoad => [field::EXIT_MSR_LOAD_COUNT, field::EXIT_MSR_LOAD_ADDRESS],
    }
}

/// Goes through a list of the current VMCS.
#[inline(always)]
pub fn process(cpu: &mut Cpu, bus: &mut Bus, list: MsrListUse) -> Result<(), Failed> {
    let [count, address] = fields(list);
    match cpu.vmx.get(count) {
        0 => Ok(()),
        count => each(cpu, bus, list, cpu.vmx.get(address), count),
    }
}

/// Goes through the `count` entries of the list at `address`.
#[inline(never)]
fn each(cpu: &mut Cpu, bus: &mut Bus, list: MsrListUse, address: u64, count: u64) -> Result<(), Failed> {
    cpu.vmx.list_processed = true;
    let limit = cpu.profile.capabilities().msr_list_limit();
    for number in 0..count {
        // Beyond the recommended length the SDM leaves the behaviour to the processor (A.6).
        if number == limit {
            return Err(Failed {
                number: number + 1,
                problem: format!(
                    "the list is longer than the {limit} entries that IA32_VMX_MISC recommends at most"
                ),
            });
        }
        let entry = address + number * ENTRY;
        one(cpu, bus, list, entry).map_err(|problem| Failed {
            number: number + 1,
            problem,
        })?;
    }
    Ok(())
}

fn one(cpu: &mut Cpu, bus: &mut Bus, list: MsrListUse, entry: u64) -> Result<(), String> {
    let word = bus.read_physical(cpu.id, entry, 8);
    let (index, reserved) = (word as u32, (word >> 32) as u32);
    if let Some(problem) = msr_list_entry_problem(list, index, reserved, false) {
        return Err(problem);
    }
    if list == MsrListUse::ExitStore {
        let value = cpu.read_msr(bus, index);
        let value = value.ok_or_else(|| format!("RDMSR of {index:#x} causes #GP"))?;
        bus.write_physical(cpu.id, entry + 8, 8, value);
        return Ok(());
    }
    let value = bus.read_physical(cpu.id, entry + 8, 8);
    if cpu.write_msr(bus, index, value) {
        Ok(())
    } else {
        Err(format!("WRMSR of {value:#x} to {index:#x} causes #GP"))
    }
}
