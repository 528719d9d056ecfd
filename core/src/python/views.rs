//! What Python gets to see of the core's structures: plain dictionaries, described in `_core.pyi`.

use serde::Serialize;

use crate::debug::breakpoints::World;
use crate::debug::events::{Event, EventKind};
use crate::vmx::capability;
use crate::vmx::describe::describe;
use crate::vmx::errors;
use crate::vmx::fields::{Field, Group};
use crate::vmx::reasons::{ExitReason, ENTRY_FAILURE};
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
    pub fn of(event: &Event) -> TraceEvent {
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
