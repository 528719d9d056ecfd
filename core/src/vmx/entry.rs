//! VM entry (SDM vol. 3, chapter 27): VMLAUNCH and VMRESUME.

use super::apic;
use super::controls::{pin, primary};
use super::errors::instruction_error as error;
use super::exit::{self, Failure};
use super::fail::fail;
use super::fields::field;
use super::instructions::{shadowing_offered, SHADOW};
use super::profile::Profile;
use super::reasons::reason;
use super::record::FailReason;
use super::rules::{self, Context, Environment, MsrListUse, Outcome};
use super::state::Controls;
use super::vmcs::Passed;
use super::{force, guest_state, msr_list};
use crate::cpu::deliver;
use crate::cpu::exception::{Event as Delivered, EventKind as Kind};
use crate::cpu::insn::Insn;
use crate::cpu::{Activity, Cpu, Done, Shadow, Stop};
use crate::debug::events::{At, Event, EventKind};
use crate::platform::Bus;

/// There is no system-management mode here.
const IN_SMM: bool = false;

const LEAF_7_EBX_SGX: u32 = 1 << 2;
const LEAF_7_EBX_RTM: u32 = 1 << 11;

/// VMLAUNCH (`launch`) or VMRESUME in VMX root operation at CPL 0. `Err(Stop::World)`: RIP is that of another world;
/// `Err(Stop::Sync)`: VMfail.
pub fn enter(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn, launch: bool) -> Done {
    let name = if launch { "VMLAUNCH" } else { "VMRESUME" };
    let Some(vmcs) = cpu.vmx.current() else {
        return fail(cpu, bus, insn, name, 0, FailReason::NoCurrentVmcs);
    };
    let address = vmcs.address;
    if shadowing_offered(cpu) && is_shadow(cpu, bus, address) {
        return fail(cpu, bus, insn, name, 0, FailReason::ShadowVmcs { address });
    }
    if cpu.shadow == Shadow::MovSs {
        return fail(
            cpu,
            bus,
            insn,
            name,
            error::ENTRY_BLOCKED_BY_MOV_SS,
            FailReason::MovSs,
        );
    }
    if vmcs.launched == launch {
        let number = if launch {
            error::VMLAUNCH_NON_CLEAR
        } else {
            error::VMRESUME_NON_LAUNCHED
        };
        let reason = FailReason::LaunchState {
            address: vmcs.address,
            initialised: vmcs.initialised,
        };
        return fail(cpu, bus, insn, name, number, reason);
    }
    let decided = match rules::decided(vmcs, vmcs.modes(cpu.long_mode(), IN_SMM)) {
        Some(passed) => Some(Ok(passed)),
        None => judge(cpu, bus, rules::decide),
    };
    let Some(decided) = decided else {
        return fail(cpu, bus, insn, name, 0, FailReason::NoCurrentVmcs);
    };
    let passed = match decided {
        Ok(passed) => passed,
        Err(rule) => match rule.outcome {
            Outcome::FailValid(number) => {
                return fail(cpu, bus, insn, name, number, FailReason::Rule(rule));
            }
            Outcome::EntryFailure(qualification) => {
                begin(cpu);
                let failure = Failure {
                    reason: reason::ENTRY_FAILURE_GUEST_STATE,
                    qualification,
                    rule: Some(rule),
                    words: None,
                    rip: cpu.ip(insn),
                };
                exit::entry_failure(cpu, bus, failure);
                return Err(Stop::World);
            }
        },
    };
    let rip = cpu.ip(insn);
    if let Some((reason, qualification)) = force::entry_failure(bus) {
        begin(cpu);
        let failure = Failure {
            reason,
            qualification,
            rule: None,
            words: None,
            rip,
        };
        exit::entry_failure(cpu, bus, failure);
        return Err(Stop::World);
    }
    go(cpu, bus, rip, passed);
    Err(Stop::World)
}

/// Whether the region at `address` says that it is a shadow VMCS.
#[inline(always)]
fn is_shadow(cpu: &Cpu, bus: &mut Bus, address: u64) -> bool {
    let first = bus.ram.offset(address).and_then(|at| bus.ram.load::<u32>(at));
    first.unwrap_or_else(|| bus.read_physical(cpu.id, address, 4) as u32) & SHADOW != 0
}

/// Lets `with` judge the current VMCS in the state that the processor is in now.
pub fn judge<T>(cpu: &Cpu, bus: &Bus, with: impl FnOnce(&Context) -> T) -> Option<T> {
    let vmcs = cpu.vmx.current()?;
    let read = |address| bus.ram.offset(address).and_then(|at| bus.ram.load::<u64>(at));
    let environment = environment(&cpu.profile, cpu.long_mode(), &read);
    Some(with(&Context {
        vmcs,
        capabilities: cpu.profile.capabilities(),
        environment: &environment,
    }))
}

/// What the rules ask of the processor. `read` reads physical memory.
pub fn environment<'a>(
    profile: &Profile,
    long_mode: bool,
    read: &'a dyn Fn(u64) -> Option<u64>,
) -> Environment<'a> {
    let features = profile.extended_features();
    Environment {
        long_mode,
        in_smm: IN_SMM,
        physical_address_width: profile.maxphyaddr() as u8,
        linear_address_width: profile.linear_address_width(),
        efer_reserved: profile.efer_reserved(),
        debugctl_reserved: !super::honoured::DEBUGCTL,
        perf_global_ctrl_reserved: profile.perf_global_ctrl_reserved(),
        has_sgx: features & LEAF_7_EBX_SGX != 0,
        has_rtm: features & LEAF_7_EBX_RTM != 0,
        read_physical: read,
    }
}

/// What is kept of the VMCS while its guest runs.
fn begin(cpu: &mut Cpu) {
    let Some(vmcs) = cpu.vmx.current() else {
        return;
    };
    let controls = Controls::of(vmcs);
    let (vpid, ept_pointer) = (controls.vpid(vmcs), controls.ept_pointer(vmcs));
    let apic = apic::State::begin(&controls, vmcs);
    cpu.vmx.freeze_host(&cpu.regs);
    cpu.vmx.controls = controls;
    cpu.vmx.vpid = vpid;
    cpu.vmx.ept_pointer = ept_pointer;
    cpu.vmx.apic = apic;
    cpu.vmx.guest = true;
    cpu.vmx.mtf_pending = false;
    cpu.vmx.iret_unblocked = false;
    cpu.vmx.bus_lock = None;
    cpu.vmx.pauses = None;
}

/// The part that comes after the checks.
fn go(cpu: &mut Cpu, bus: &mut Bus, launch_rip: u64, passed: Passed) {
    begin(cpu);
    guest_state::load(cpu);
    if cpu.vmx.vpid == 0 {
        cpu.tlb
            .flush(bus.ram.table_writes(), |space| space.owner.vpid() == 0);
    }
    cpu.update_space();
    cpu.update_mode();
    cpu.breakpoints_changed();
    load_pdptes(cpu, bus);
    if let Err(failed) = msr_list::process(cpu, bus, MsrListUse::EntryLoad) {
        let failure = Failure {
            reason: reason::ENTRY_FAILURE_MSR_LOADING,
            qualification: failed.number,
            rule: None,
            words: Some(failed.words()),
            rip: launch_rip,
        };
        return exit::entry_failure(cpu, bus, failure);
    }
    let Some(vmcs) = cpu.vmx.current_mut() else {
        return;
    };
    vmcs.launched = true;
    vmcs.accept_changes(passed);
    let address = vmcs.address;
    let info = vmcs.get(field::ENTRY_INTERRUPTION_INFO);
    let timer = vmcs.get(field::GUEST_PREEMPTION_TIMER_VALUE);
    // In the wait-for-SIPI state it never exits (SDM vol. 3, 26.5.1).
    let waits = cpu.activity == Activity::WaitForSipi;
    if cpu.vmx.controls.pin & pin::ACTIVATE_PREEMPTION_TIMER != 0 && !waits {
        // It counts each time that a bit of the TSC changes (SDM vol. 3, 26.5.1).
        let shift = cpu.profile.capabilities().preemption_timer_shift();
        let tsc = cpu.tsc(bus);
        let end = (tsc >> shift).wrapping_add(timer) << shift;
        let ticks = if timer == 0 { 0 } else { end.wrapping_sub(tsc) };
        cpu.vmx.timer = Some(bus.clock.saturating_add(ticks));
    }
    bus.debug.events.entry(At {
        icount: bus.clock,
        vcpu: cpu.id as u32,
        vmcs: address,
        guest_rip: cpu.rip,
    });
    bus.debug.catches.on_entry();
    if cpu.vmx.controls.primary & primary::USE_TPR_SHADOW != 0 {
        apic::interrupts::enter(cpu, bus);
    }
    cpu.vmx.record.entered = bus.clock;
    let injected = rules::Event::from_info(info);
    forget_pending_debug(cpu, &injected);
    if injected.valid {
        inject(cpu, bus, &injected, info as u32);
    }
}

/// The four entries of PAE paging: from the VMCS with EPT, else from memory, where the rules have found them good.
fn load_pdptes(cpu: &mut Cpu, bus: &mut Bus) {
    if !guest_state::pae_paging(cpu) {
        return;
    }
    for (at, source) in guest_state::PDPTES.iter().enumerate() {
        cpu.pdpte[at] = match cpu.vmx.ept_pointer {
            Some(_) => cpu.vmx.get(*source),
            None => bus.read_physical(cpu.id, (cpu.cr3 & 0xffff_ffe0) + at as u64 * 8, 8),
        };
    }
}

/// Which events leave no debug exception pending (SDM vol. 3, 27.7.3).
fn forget_pending_debug(cpu: &mut Cpu, injected: &rules::Event) {
    use rules::Event as Info;
    let forgotten = if injected.valid && injected.kind != Info::OTHER {
        match injected.kind {
            Info::SOFTWARE_INTERRUPT | Info::SOFTWARE_EXCEPTION => cpu.shadow != Shadow::MovSs,
            _ => true,
        }
    } else {
        matches!(cpu.activity, Activity::Shutdown | Activity::WaitForSipi)
    };
    if forgotten {
        cpu.pending_debug = 0;
    }
}

/// Event injection (SDM vol. 3, 27.6).
fn inject(cpu: &mut Cpu, bus: &mut Bus, injected: &rules::Event, info: u32) {
    use rules::Event as Info;
    let vmcs = cpu.vmx.current();
    bus.debug.events.push(Event {
        icount: bus.clock,
        vcpu: cpu.id as u32,
        kind: EventKind::Inject,
        vmcs: vmcs.map(|vmcs| vmcs.address),
        guest_rip: Some(cpu.rip),
        interruption_info: Some(info),
        ..Event::default()
    });
    let kind = match injected.kind {
        Info::EXTERNAL_INTERRUPT => Kind::ExternalInterrupt,
        Info::NMI => Kind::Nmi,
        Info::HARDWARE_EXCEPTION => Kind::HardwareException,
        Info::SOFTWARE_INTERRUPT => Kind::SoftwareInterrupt,
        Info::PRIVILEGED_SOFTWARE_EXCEPTION => Kind::PrivilegedSoftwareException,
        Info::SOFTWARE_EXCEPTION => Kind::SoftwareException,
        // A pending MTF VM exit is the only other event.
        _ => {
            cpu.vmx.mtf_pending = true;
            return;
        }
    };
    let event = Delivered {
        kind,
        vector: injected.vector,
        error_code: injected
            .error_code
            .then(|| cpu.vmx.get(field::ENTRY_EXCEPTION_ERROR_CODE) as u32),
        length: cpu.vmx.get(field::ENTRY_INSTRUCTION_LENGTH) as u8,
    };
    if kind == Kind::Nmi {
        cpu.nmi_blocked = true;
    }
    cpu.vmx.mtf_pending = cpu.vmx.controls.primary & primary::MONITOR_TRAP_FLAG != 0;
    if deliver::inject(cpu, bus, event) == Err(Stop::Exit) {
        exit::take(cpu, bus);
    }
}
