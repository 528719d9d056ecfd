//! Translations as a debugger sees them: nothing is set, nothing is cached, every level is told.

use serde::Serialize;

use crate::cpu::Cpu;
use crate::machine::Machine;
use crate::mmu::ept;
use crate::mmu::paging::{self, error, Access, Control, Failure, Kind, Mode, Step, Tables};
use crate::mmu::tlb::Privilege;
use crate::vmx::describe;

/// Tables as they lie in the machine's RAM, read without a trace. `cpu` is the world whose guest-physical addresses they
/// have; `None` where they are the machine's own.
pub(super) struct Seen<'a> {
    machine: &'a Machine,
    cpu: Option<&'a Cpu>,
    steps: Vec<Step>,
}

impl<'a> Seen<'a> {
    pub(super) fn new(machine: &'a Machine, cpu: Option<&'a Cpu>) -> Seen<'a> {
        Seen {
            machine,
            cpu,
            steps: Vec::new(),
        }
    }
}

impl Tables for Seen<'_> {
    /// The address that is not in RAM, or that EPT does not map.
    type Error = u64;

    fn load(&mut self, address: u64, bytes: u64) -> Result<u64, u64> {
        let host = match self.cpu {
            Some(cpu) => self.machine.host_physical(cpu, address).ok_or(address)?,
            None => address,
        };
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

/// One level of a translation, for people.
#[derive(Clone, Debug, Serialize)]
pub struct WalkStep {
    /// Such as `PML4E` or `EPT PTE`.
    pub table: String,
    /// Of the entry: guest-physical for paging, host-physical for EPT.
    pub address: u64,
    pub entry: u64,
    /// The table or page that the entry leads to, if it is present.
    pub maps: Option<u64>,
    /// Such as `rwx user accessed`.
    pub rights: String,
    /// Empty, or that this entry denies the access and why.
    pub note: String,
}

/// A translation with each level.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Walk {
    pub steps: Vec<WalkStep>,
    /// The machine's physical address.
    pub physical: Option<u64>,
    pub guest_physical: Option<u64>,
    /// Empty, or why there is no translation.
    pub fault: String,
}

const ADDRESS: u64 = 0x000f_ffff_ffff_f000;

impl Machine {
    /// Translates a linear address of `cpu` (see `Machine::view`) to the machine's physical address, rights aside.
    pub fn translate(&self, cpu: &Cpu, linear: u64) -> Option<u64> {
        let control = Control {
            cr0: cpu.cr0 & !crate::cpu::bits::CR0_WP,
            ..Control::of(cpu)
        };
        let mut tables = Seen::new(self, Some(cpu));
        let access = Access::read(Privilege::SupervisorAc);
        let leaf = paging::walk(&control, &mut tables, linear, access).ok()?;
        self.host_physical(cpu, leaf.physical)
    }

    /// What a guest-physical address of `cpu`'s world is in the machine: through EPT in a guest that has it.
    pub fn host_physical(&self, cpu: &Cpu, address: u64) -> Option<u64> {
        // No right is asked for: what a guest may not read, its debugger may.
        self.allowed(cpu, address, 0)
    }

    /// The same where EPT allows what is `wanted`.
    pub(super) fn allowed(&self, cpu: &Cpu, address: u64, wanted: u64) -> Option<u64> {
        let Some(pointer) = cpu.vmx.ept_pointer else {
            return Some(address);
        };
        let control = ept::Control::checked(pointer, cpu)?;
        let page = ept::walk(&control, &mut Seen::new(self, None), address, wanted).ok()?;
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

impl Machine {
    /// Every level of the translation of a linear address of `cpu`'s world, with its current privilege: its paging, then
    /// EPT if the world is a guest that has it.
    pub fn explain_walk(&self, cpu: &Cpu, linear: u64, kind: Kind) -> Walk {
        let control = Control::of(cpu);
        let access = Access {
            kind,
            privilege: cpu.tlb.privilege(),
            shadow_stack: false,
        };
        let mut tables = Seen::new(self, Some(cpu));
        let result = paging::walk(&control, &mut tables, linear, access);
        let mut steps: Vec<WalkStep> = tables
            .steps
            .iter()
            .map(|step| paging_step(step, &control))
            .collect();
        let fault = match result {
            Ok(leaf) => {
                let mut walk = self.explain_ept(cpu, leaf.physical, kind);
                steps.append(&mut walk.steps);
                return Walk { steps, ..walk };
            }
            Err(Failure::Fault(code)) => {
                if let Some(step) = denying(&mut steps, &tables.steps, code, access) {
                    step.note = format!("denies it: {}", fault_words(code));
                }
                format!("#PF with error code {code:#x}: {}", fault_words(code))
            }
            Err(Failure::Tables(address)) => {
                let mut walk = self.explain_ept(cpu, address, Kind::Read);
                steps.append(&mut walk.steps);
                format!(
                    "the paging-structure entry at {address:#x} cannot be read: {}",
                    walk.fault
                )
            }
        };
        Walk {
            steps,
            fault,
            ..Walk::default()
        }
    }

    /// Every level of the EPT translation of a guest-physical address. Without EPT there is no level, and the address is
    /// the machine's own.
    pub fn explain_ept(&self, cpu: &Cpu, address: u64, kind: Kind) -> Walk {
        let mut walk = Walk {
            guest_physical: Some(address),
            ..Walk::default()
        };
        let Some(pointer) = cpu.vmx.ept_pointer else {
            let ram = self.bus.ram.offset(address).is_some();
            walk.physical = Some(address);
            walk.fault = if ram {
                String::new()
            } else {
                format!("there is no RAM at {address:#x}")
            };
            return walk;
        };
        let wanted = match kind {
            Kind::Read => ept::READ,
            Kind::Write => ept::WRITE,
            Kind::Fetch => ept::EXECUTE,
        };
        let mut tables = Seen::new(self, None);
        let Some(control) = ept::Control::checked(pointer, cpu) else {
            walk.fault = format!("VM entry refuses the EPT pointer {pointer:#x}: vmx check says why");
            return walk;
        };
        let result = ept::walk(&control, &mut tables, address, wanted);
        // After the EPT PTE come the tables of sub-page permissions.
        let pages = tables.steps.iter().position(|step| step.level == 1);
        let (pages, vectors) = tables
            .steps
            .split_at(pages.map_or(tables.steps.len(), |at| at + 1));
        walk.steps = pages
            .iter()
            .map(ept_step)
            .chain(vectors.iter().map(|step| sub_page_step(step, address)))
            .collect();
        let (by, fault) = match result {
            Ok(page) => {
                walk.physical = Some(page.physical);
                return walk;
            }
            Err(ept::Failure::Violation {
                rights, by, vector, ..
            }) => {
                let text = format!("EPT violation: the tables allow {}", ept_rights(rights));
                (Some((vector.unwrap_or(by), "denies it")), text)
            }
            Err(ept::Failure::SubPage { by, miss: true }) => {
                (Some((by, "is not valid")), "SPP miss".to_string())
            }
            Err(ept::Failure::SubPage { by, miss: false }) => (
                Some((by, "is misconfigured (SDM vol. 3, 29.3.4.2)")),
                "SPP misconfiguration".to_string(),
            ),
            Err(ept::Failure::Misconfiguration { by }) => (
                Some((by, "is misconfigured (SDM vol. 3, 29.3.3.1)")),
                "EPT misconfiguration".to_string(),
            ),
            Err(ept::Failure::Tables(at)) => {
                (None, format!("there is no RAM at the entry's address {at:#x}"))
            }
        };
        walk.fault = fault;
        if let Some((by, note)) = by {
            for step in walk.steps.iter_mut().filter(|step| step.address == by.address) {
                step.note = note.to_string();
            }
        }
        walk
    }
}

fn level_name(level: u8) -> &'static str {
    ["PTE", "PDE", "PDPTE", "PML4E", "PML5E"]
        .get(level as usize - 1)
        .copied()
        .unwrap_or("entry")
}

fn words(flags: &[(bool, &str)]) -> String {
    let set: Vec<_> = flags
        .iter()
        .filter(|(on, _)| *on)
        .map(|(_, word)| *word)
        .collect();
    set.join(" ")
}

fn paging_step(step: &Step, control: &Control) -> WalkStep {
    let entry = step.entry;
    let bit = |number: u32| entry >> number & 1 != 0;
    let wide = control.mode != Mode::Bits32;
    let executable = !(wide && bit(63));
    let rights = format!(
        "r{}{}",
        if bit(1) { "w" } else { "-" },
        if executable { "x" } else { "-" }
    );
    let large = bit(7) && matches!(step.level, 2 | 3);
    let maps = if !wide && large {
        entry & 0xffc0_0000
    } else {
        entry & ADDRESS
    };
    // The PDPTEs of PAE paging have no rights of their own.
    let rights = if control.mode == Mode::Pae && step.level == 3 {
        String::new()
    } else {
        format!(
            "{rights} {}",
            words(&[
                (bit(2), "user"),
                (!bit(2), "supervisor"),
                (bit(5), "accessed"),
                (bit(6) && (step.level == 1 || large), "dirty"),
                (large, "large page"),
                (bit(8) && (step.level == 1 || large), "global"),
            ])
        )
    };
    WalkStep {
        table: level_name(step.level).to_string(),
        address: step.address,
        entry,
        maps: bit(0).then_some(maps),
        rights: if bit(0) { rights } else { "not present".to_string() },
        note: String::new(),
    }
}

fn ept_rights(rights: u64) -> String {
    let letter = |bit, letter| if rights & bit != 0 { letter } else { "-" };
    format!(
        "{}{}{}",
        letter(ept::READ, "r"),
        letter(ept::WRITE, "w"),
        letter(ept::EXECUTE, "x")
    )
}

fn ept_step(step: &Step) -> WalkStep {
    let entry = step.entry;
    let bit = |number: u32| entry >> number & 1 != 0;
    let present = entry & 7 != 0;
    let large = bit(7) && matches!(step.level, 2 | 3);
    let leaf = large || step.level == 1;
    let flags = words(&[
        (bit(8), "accessed"),
        (leaf && bit(9), "dirty"),
        (large, "large page"),
    ]);
    let memory_type = if leaf {
        describe::memory_type(entry >> 3 & 7)
    } else {
        ""
    };
    let rights = [ept_rights(entry).as_str(), &flags, memory_type]
        .iter()
        .filter(|it| !it.is_empty())
        .copied()
        .collect::<Vec<_>>()
        .join(" ");
    WalkStep {
        table: format!("EPT {}", level_name(step.level)),
        address: step.address,
        entry,
        maps: present.then_some(entry & ADDRESS),
        rights: if present {
            rights
        } else {
            "not present".to_string()
        },
        note: String::new(),
    }
}

/// An entry of the tables of sub-page permissions, on the way to a write at guest-physical `address`.
fn sub_page_step(step: &Step, address: u64) -> WalkStep {
    let vector = step.level == 1;
    let sub_page = address >> 7 & 31;
    let set = step.entry >> if vector { 2 * sub_page } else { 0 } & 1 != 0;
    WalkStep {
        table: if vector {
            "SPP vector".to_string()
        } else {
            format!("SPPL{}E", step.level)
        },
        address: step.address,
        entry: step.entry,
        maps: (!vector && set).then_some(step.entry & ADDRESS),
        rights: match (vector, set) {
            (true, true) => format!("sub-page {sub_page} may be written"),
            (true, false) => format!("sub-page {sub_page} may not be written"),
            (false, true) => "valid".to_string(),
            (false, false) => "not valid".to_string(),
        },
        note: String::new(),
    }
}

/// The step that a page fault is due to: the last one where it is not present or reserved bits are set, else the first
/// that withholds the right.
fn denying<'a>(
    shown: &'a mut [WalkStep],
    steps: &[Step],
    code: u32,
    access: Access,
) -> Option<&'a mut WalkStep> {
    let withholds = |step: &Step| match access.kind {
        Kind::Write => step.entry & 2 == 0,
        Kind::Fetch => step.entry >> 63 != 0,
        Kind::Read => false,
    };
    let user = |step: &Step| code & error::USER != 0 && step.entry & 4 == 0;
    let last = steps.len().checked_sub(1)?;
    let at = if code & error::PRESENT == 0 || code & error::RESERVED != 0 {
        last
    } else {
        steps
            .iter()
            .position(|step| user(step) || withholds(step))
            .unwrap_or(last)
    };
    shown.get_mut(at)
}

/// A page-fault error code in words (SDM vol. 3, 4.7).
fn fault_words(code: u32) -> String {
    let bit = |bit| code & bit != 0;
    let what = if bit(error::FETCH) {
        "an instruction fetch"
    } else if bit(error::WRITE) {
        "a write"
    } else {
        "a read"
    };
    let who = if bit(error::USER) {
        "user mode"
    } else {
        "supervisor mode"
    };
    let why = if !bit(error::PRESENT) {
        "the page is not present"
    } else if bit(error::RESERVED) {
        "a reserved bit is set"
    } else if bit(error::PROTECTION_KEY) {
        "the protection key forbids it"
    } else {
        "the rights forbid it"
    };
    format!("{what} in {who}, {why}")
}
