//! Exits that the debugger asks for: architecturally valid ones, with defaults for what was not set.

use iced_x86::{Decoder, DecoderOptions};

use super::cause::Cause;
use super::exit::{ERROR_CODE_VALID, VALID};
use super::reasons::{reason, ExitReason, Qualification};
use super::state::{Exit, SavedRf};
use crate::cpu::exception::{vector, EventKind};
use crate::cpu::{Cpu, Done, Stop};
use crate::debug::catch::Forced;
use crate::mmu::paging::{self, Access};
use crate::mmu::tlb::{PAGE, PAGE_MASK};
use crate::platform::Bus;

/// An EPT violation by a data read that EPT maps nowhere, while translating a linear address.
const DEFAULT_EPT_VIOLATION: u64 = 0x181;
/// The vector of an external interrupt that nobody named.
const DEFAULT_VECTOR: u32 = 0x20;

/// Takes the exit that is asked for, if one is: at this boundary of the guest.
#[inline]
pub fn check(cpu: &mut Cpu, bus: &mut Bus) -> Done {
    if bus.debug.catches.forced.is_none() {
        return Ok(());
    }
    take(cpu, bus)
}

#[cold]
fn take(cpu: &mut Cpu, bus: &mut Bus) -> Done {
    let forced = &mut bus.debug.catches.forced;
    let Some(wanted) = forced.take_if(|it| it.reason.is_some_and(|reason| !is_entry_failure(reason))) else {
        return Ok(());
    };
    let reason = wanted.reason.unwrap_or_default();
    let length = if is_instruction(reason) {
        instruction_length(cpu, bus)
    } else {
        0
    };
    cpu.vmx.exit = exit(reason, &wanted, cpu.rip, length);
    Err(Stop::Exit)
}

/// The failure that is asked for at a VM entry, if one is: reason and qualification.
#[inline]
pub fn entry_failure(bus: &mut Bus) -> Option<(u16, u64)> {
    let wanted = bus
        .debug
        .catches
        .forced
        .take_if(|it| it.reason.is_some_and(is_entry_failure))?;
    let reason = wanted.reason.unwrap_or_default() as u16;
    let default = u64::from(reason == reason::ENTRY_FAILURE_MSR_LOADING);
    Some((reason, wanted.qualification.unwrap_or(default)))
}

/// The length of the instruction at RIP, so that a hypervisor that skips it does not land inside another. 0 where it
/// cannot be fetched.
fn instruction_length(cpu: &mut Cpu, bus: &mut Bus) -> u32 {
    let mut bytes = Vec::new();
    let access = Access::fetch(cpu.tlb.privilege());
    let linear = cpu.code_linear();
    for page in [linear, (linear & PAGE_MASK).wrapping_add(PAGE) & cpu.linear_mask] {
        let Ok(physical) = paging::translate(cpu, bus, page, access) else {
            break;
        };
        if let Some(at) = bus.ram.offset(physical) {
            bytes.extend(bus.ram.to_page_end(at).iter().take(15));
        }
    }
    let mut decoder = Decoder::with_ip(cpu.code_size.bitness(), &bytes, cpu.rip, DecoderOptions::NONE);
    let instruction = decoder.decode();
    if instruction.is_invalid() {
        0
    } else {
        instruction.len() as u32
    }
}

/// The exit, with the defaults that make it one that a processor could have taken at `rip`.
fn exit(reason: u32, wanted: &Forced, rip: u64, length: u32) -> Exit {
    let row = ExitReason::by_number(reason as u16);
    let kind = row.map_or(Qualification::None, |row| row.qualification);
    let default_info = default_interruption(reason);
    let interruption_info = wanted.interruption_info.map_or(default_info, |info| info | VALID);
    let linear = match kind {
        Qualification::EptViolation => rip,
        _ => 0,
    };
    Exit {
        reason,
        qualification: wanted
            .qualification
            .unwrap_or_else(|| default_qualification(kind, reason, interruption_info, rip)),
        instruction_length: wanted.instruction_length.unwrap_or(length),
        instruction_info: wanted.instruction_info.unwrap_or(0),
        guest_linear: wanted.guest_linear.unwrap_or(linear),
        guest_physical: wanted.guest_physical.unwrap_or(0),
        interruption_info: match wanted.interruption_error_code {
            Some(_) => interruption_info | ERROR_CODE_VALID,
            None => interruption_info,
        },
        interruption_error_code: wanted.interruption_error_code.unwrap_or(0),
        rf: SavedRf::Keep,
        cause: Cause::Forced,
        ..Exit::default()
    }
}

/// External interrupts and exceptions carry the event: an interrupt, or #UD.
fn default_interruption(basic: u32) -> u32 {
    match basic as u16 {
        reason::EXTERNAL_INTERRUPT => VALID | DEFAULT_VECTOR,
        reason::EXCEPTION_OR_NMI => {
            VALID | (EventKind::HardwareException as u32) << 8 | vector::INVALID_OPCODE as u32
        }
        _ => 0,
    }
}

fn default_qualification(kind: Qualification, basic: u32, info: u32, rip: u64) -> u64 {
    match kind {
        Qualification::EptViolation => DEFAULT_EPT_VIOLATION,
        // MOV to CR0 from RAX; OUT of a byte to port 0x80 in an immediate; MOV to DR7 from RAX.
        Qualification::CrAccess => 0,
        Qualification::Io => 0x80 << 16 | 1 << 6,
        Qualification::MovDr => 7,
        Qualification::MsrLoadEntry => 1,
        Qualification::Event
            if basic == reason::EXCEPTION_OR_NMI as u32 && info as u8 == vector::PAGE_FAULT =>
        {
            rip
        }
        _ => 0,
    }
}

/// Whether an instruction causes the exit, so that its length is recorded.
fn is_instruction(basic: u32) -> bool {
    const EVENTS: [u16; 20] = [
        reason::EXCEPTION_OR_NMI,
        reason::EXTERNAL_INTERRUPT,
        reason::TRIPLE_FAULT,
        reason::INIT_SIGNAL,
        reason::START_UP_IPI,
        reason::IO_SMI,
        reason::OTHER_SMI,
        reason::INTERRUPT_WINDOW,
        reason::NMI_WINDOW,
        reason::MONITOR_TRAP_FLAG,
        reason::TPR_BELOW_THRESHOLD,
        reason::VIRTUALIZED_EOI,
        reason::EPT_VIOLATION,
        reason::EPT_MISCONFIGURATION,
        reason::PREEMPTION_TIMER,
        reason::PAGE_MODIFICATION_LOG_FULL,
        reason::SPP_RELATED_EVENT,
        reason::BUS_LOCK,
        reason::INSTRUCTION_TIMEOUT,
        reason::APIC_WRITE,
    ];
    !EVENTS.contains(&(basic as u16)) && !is_entry_failure(basic)
}

/// Reasons that only a failed entry has.
pub fn is_entry_failure(basic: u32) -> bool {
    [
        reason::ENTRY_FAILURE_GUEST_STATE,
        reason::ENTRY_FAILURE_MSR_LOADING,
        reason::ENTRY_FAILURE_MACHINE_CHECK,
    ]
    .contains(&(basic as u16))
}

/// A setting of `Forced` by the name that `vmx force` gives it.
struct Setting {
    name: &'static str,
    set: fn(&mut Forced, u64),
    get: fn(&Forced) -> Option<u64>,
}

macro_rules! settings {
    ($($name:ident: $type:ty),* $(,)?) => {
        &[$(Setting {
            name: stringify!($name),
            set: |forced, value| forced.$name = Some(value as $type),
            get: |forced| forced.$name.map(u64::from),
        }),*]
    };
}

const SETTINGS: &[Setting] = settings! {
    qualification: u64,
    guest_linear: u64,
    guest_physical: u64,
    interruption_info: u32,
    interruption_error_code: u32,
    instruction_length: u32,
    instruction_info: u32,
};

/// Sets one thing of a forced exit by name. `vector` is that of an external interrupt, or of a hardware exception. The
/// error says what names there are.
pub fn set(forced: &mut Forced, name: &str, value: u64) -> Result<(), String> {
    if name == "vector" {
        let reason = forced.reason.unwrap_or(0);
        let kind = match reason as u16 {
            reason::EXTERNAL_INTERRUPT => EventKind::ExternalInterrupt,
            reason::EXCEPTION_OR_NMI if value == u64::from(vector::NMI) => EventKind::Nmi,
            reason::EXCEPTION_OR_NMI => EventKind::HardwareException,
            _ => return Err("a vector belongs to an external interrupt or an exception".to_string()),
        };
        if value > 0xff {
            return Err(format!("a vector is at most 0xff, not {value:#x}"));
        }
        forced.interruption_info = Some(VALID | (kind as u32) << 8 | value as u32);
        return Ok(());
    }
    match SETTINGS.iter().find(|setting| setting.name == name) {
        Some(setting) => {
            (setting.set)(forced, value);
            Ok(())
        }
        None => {
            let names: Vec<_> = SETTINGS.iter().map(|setting| setting.name).collect();
            Err(format!(
                "no setting {name:?}; there are {} and vector",
                names.join(", ")
            ))
        }
    }
}

/// What was set, by name.
pub fn settings(forced: &Forced) -> impl Iterator<Item = (&'static str, u64)> + '_ {
    SETTINGS
        .iter()
        .filter_map(|setting| Some((setting.name, (setting.get)(forced)?)))
}
