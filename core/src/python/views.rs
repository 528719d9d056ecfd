//! What Python gets to see of the core's structures: plain dictionaries, described in `_core.pyi`.

use serde::Serialize;

use crate::cpu::Cpu;
use crate::debug::breakpoints::World;
use crate::debug::events::{Event, EventKind};
use crate::machine::Machine;
use crate::platform::Bus;
use crate::vmx::capability;
use crate::vmx::controls::primary;
use crate::vmx::describe::describe;
use crate::vmx::errors;
use crate::vmx::explain;
use crate::vmx::fields::{field, Field, Group};
use crate::vmx::reasons::{ExitReason, ENTRY_FAILURE};
use crate::vmx::rules::Rule;
use crate::vmx::state::Controls;
use crate::vmx::vmcs::Vmcs;

/// The address of a guest's VMCS; `None` for the host.
pub fn world_key(world: World) -> Option<u64> {
    match world {
        World::Host => None,
        World::Guest(address) => Some(address),
    }
}

#[derive(Serialize)]
pub struct Capability {
    msr: u32,
    msr_name: &'static str,
    bits: String,
    name: String,
    setting: String,
}

impl Capability {
    pub fn of(line: &capability::Line) -> Capability {
        Capability {
            msr: line.msr,
            msr_name: capability::msr_name(line.msr).unwrap_or_default(),
            bits: line.bits.clone(),
            name: line.name.clone(),
            setting: line.setting.clone(),
        }
    }
}

#[derive(Serialize)]
pub struct WorldInfo {
    pub vcpu: usize,
    pub vmcs: Option<u64>,
    pub running: bool,
    pub name: String,
}

impl WorldInfo {
    pub fn new(vcpu: usize, world: World, running: bool) -> WorldInfo {
        let state = if running { "running" } else { "suspended" };
        let name = match world {
            World::Host => format!("vCPU {vcpu} host ({state})"),
            World::Guest(address) => format!("vCPU {vcpu} guest VMCS {address:#x} ({state})"),
        };
        WorldInfo {
            vcpu,
            vmcs: world_key(world),
            running,
            name,
        }
    }
}

/// An event as the trace file has it; what does not apply is left out.
#[derive(Serialize)]
pub struct TraceEvent {
    seq: u64,
    icount: u64,
    vcpu: u32,
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    vmcs: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    qualification: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    guest_rip: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    guest_linear: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    guest_physical: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    interruption_info: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    instruction_length: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rule: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<u64>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    forced: bool,
}

impl TraceEvent {
    pub fn of(event: Event) -> TraceEvent {
        let number = event.reason.unwrap_or(0);
        let name = match event.kind {
            EventKind::Exit | EventKind::EntryFailure => {
                ExitReason::by_number(number as u16).map(|reason| reason.name.to_string())
            }
            EventKind::Vmfail => errors::instruction_error_text(number as u64).map(str::to_string),
            EventKind::VmxAbort => errors::abort_text(number as u64).map(str::to_string),
            _ => None,
        };
        TraceEvent {
            seq: event.seq,
            icount: event.icount,
            vcpu: event.vcpu,
            kind: event.kind.name(),
            vmcs: event.vmcs,
            reason: event.reason.map(|reason| reason & !(ENTRY_FAILURE as u32)),
            name,
            qualification: event.qualification,
            guest_rip: event.guest_rip,
            guest_linear: event.guest_linear,
            guest_physical: event.guest_physical,
            interruption_info: event.interruption_info,
            instruction_length: event.instruction_length,
            rule: event.rule,
            field: event.field.map(|(encoding, _)| {
                Field::by_encoding(encoding as u64).map_or("unknown", |(field, _)| field.name())
            }),
            value: event.field.map(|(_, value)| value),
            forced: event.forced,
        }
    }
}

/// The name of a group as commands use it.
fn group(group: Group) -> &'static str {
    group.name()
}

#[derive(Serialize)]
pub struct FieldInfo {
    name: &'static str,
    encoding: u32,
    group: &'static str,
    width: u32,
    section: &'static str,
    writable: bool,
}

impl FieldInfo {
    pub fn of(field: Field) -> FieldInfo {
        let info = field.info();
        FieldInfo {
            name: info.name,
            encoding: info.encoding as u32,
            group: group(info.group()),
            width: width(field),
            section: info.section,
            writable: info.group() != Group::ExitInfo,
        }
    }
}

fn width(field: Field) -> u32 {
    64 - field.info().width().mask().leading_zeros()
}

#[derive(Serialize)]
pub struct FieldView {
    name: &'static str,
    encoding: u32,
    group: &'static str,
    width: u32,
    section: &'static str,
    value: u64,
    changed: bool,
    text: Vec<String>,
}

impl FieldView {
    /// `before`: the value when last shown, if it was.
    pub fn of(field: Field, vmcs: &Vmcs, before: Option<u64>) -> FieldView {
        let FieldInfo {
            name,
            encoding,
            group,
            width,
            section,
            ..
        } = FieldInfo::of(field);
        let value = vmcs.get(field);
        FieldView {
            name,
            encoding,
            group,
            width,
            section,
            value,
            changed: before.is_some_and(|before| before != value),
            text: describe(field, value, vmcs),
        }
    }
}

#[derive(Serialize)]
pub struct ReasonInfo {
    number: u16,
    name: &'static str,
    aliases: &'static [&'static str],
    title: &'static str,
    section: &'static str,
}

impl ReasonInfo {
    pub fn of(reason: &'static ExitReason) -> ReasonInfo {
        ReasonInfo {
            number: reason.number,
            name: reason.name,
            aliases: reason.aliases,
            title: reason.title,
            section: reason.section,
        }
    }
}

#[derive(Serialize)]
pub struct RuleInfo {
    id: &'static str,
    section: &'static str,
    fields: Vec<&'static str>,
    outcome: String,
}

impl RuleInfo {
    pub fn of(rule: &'static Rule) -> RuleInfo {
        RuleInfo {
            id: rule.id,
            section: rule.section,
            fields: rule.fields.iter().map(|field| field.name()).collect(),
            outcome: explain::outcome_words(rule.outcome),
        }
    }
}

/// The VMX state of a processor.
#[derive(Serialize)]
pub struct VmxInfo {
    /// `off`, `root` or `non-root`.
    mode: &'static str,
    /// Addresses of the VMXON region and of the current VMCS.
    vmxon: Option<u64>,
    current: Option<u64>,
    launched: Option<bool>,
    /// Every VMCS that the processor holds.
    active: Vec<u64>,
    /// Other processors on which the current VMCS is active.
    also_active_on: Vec<usize>,
    /// A line each; `None` if there was none.
    last_exit: Option<String>,
    last_failure: Option<String>,
}

impl VmxInfo {
    pub fn of(cpu: &Cpu, bus: &Bus) -> VmxInfo {
        let vmx = &cpu.vmx;
        VmxInfo {
            mode: match (vmx.guest, vmx.vmxon) {
                (true, _) => "non-root",
                (false, Some(_)) => "root",
                (false, None) => "off",
            },
            vmxon: vmx.vmxon,
            current: vmx.current().map(|vmcs| vmcs.address),
            launched: vmx.current().map(|vmcs| vmcs.launched),
            active: vmx.active.iter().map(|vmcs| vmcs.address).collect(),
            also_active_on: vmx.current().map_or_else(Vec::new, |vmcs| {
                bus.debug.holders.others(cpu.id, vmcs.address).collect()
            }),
            last_exit: explain::last_exit(cpu).map(|exit| exit.headline),
            last_failure: explain::last_failure(cpu, bus).map(|failure| failure.headline),
        }
    }
}

/// What the bitmaps of a VMCS intercept, as ranges (first, last).
#[derive(Serialize)]
#[serde(untagged)]
pub enum Bitmaps {
    Msr {
        address: u64,
        read: Vec<(u32, u32)>,
        write: Vec<(u32, u32)>,
    },
    Io {
        a: u64,
        b: u64,
        ports: Vec<(u32, u32)>,
    },
}

impl Bitmaps {
    /// The MSRs that the MSR bitmap has bits for (SDM vol. 3, 25.6.9): low ones, and those from 0xC0000000 on.
    pub fn msr(machine: &Machine, vmcs: &Vmcs) -> Result<Bitmaps, String> {
        if Controls::of(vmcs).primary & primary::USE_MSR_BITMAPS == 0 {
            return Err(
                "the control \u{201c}use MSR bitmaps\u{201d} is 0: every RDMSR and WRMSR exits".to_string(),
            );
        }
        let address = vmcs.get(field::MSR_BITMAP);
        let page = page(machine, address)?;
        let half = |from: usize| -> Vec<(u32, u32)> {
            let mut found = ranges(&page[from..from + 0x400], 0);
            found.extend(ranges(&page[from + 0x400..from + 0x800], 0xc000_0000));
            found
        };
        Ok(Bitmaps::Msr {
            address,
            read: half(0),
            write: half(0x800),
        })
    }

    pub fn io(machine: &Machine, vmcs: &Vmcs) -> Result<Bitmaps, String> {
        let primary = Controls::of(vmcs).primary;
        if primary & primary::USE_IO_BITMAPS == 0 {
            let all = primary & primary::UNCONDITIONAL_IO_EXITING != 0;
            let what = if all {
                "every I/O instruction exits"
            } else {
                "no I/O instruction exits"
            };
            return Err(format!(
                "the control \u{201c}use I/O bitmaps\u{201d} is 0: {what}"
            ));
        }
        let (a, b) = (vmcs.get(field::IO_BITMAP_A), vmcs.get(field::IO_BITMAP_B));
        let both = [page(machine, a)?, page(machine, b)?].concat();
        Ok(Bitmaps::Io {
            a,
            b,
            ports: ranges(&both, 0),
        })
    }
}

fn page(machine: &Machine, address: u64) -> Result<&[u8], String> {
    machine
        .read_physical(address, 0x1000)
        .ok_or_else(|| format!("the bitmap at {address:#x} is not in RAM"))
}

/// The runs of set bits, `first` being the number of bit 0.
fn ranges(bytes: &[u8], first: u32) -> Vec<(u32, u32)> {
    let mut found: Vec<(u32, u32)> = Vec::new();
    let bits = (0..bytes.len() as u32 * 8).filter(|bit| bytes[(bit / 8) as usize] >> (bit % 8) & 1 != 0);
    for number in bits.map(|bit| first + bit) {
        match found.last_mut() {
            Some((_, last)) if *last + 1 == number => *last = number,
            _ => found.push((number, number)),
        }
    }
    found
}
