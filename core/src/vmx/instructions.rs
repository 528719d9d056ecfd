//! The VMX instructions (SDM vol. 3, chapter 31), with their failures in the order of the SDM's pseudocode.

use iced_x86::Mnemonic;

use super::capability::ept_vpid;
use super::cause::Cause;
use super::errors::instruction_error as error;
use super::fail::{fail, refuse, succeed};
use super::reasons::reason;
use super::record::{FailReason, Refusal};
use super::state::Exit;
use super::vmcs::{Vmcs, REGION_SIZE};
use super::{entry, field_access, invalidate, operand, vmfunc};
use crate::cpu::bits::*;
use crate::cpu::decode::{Flow, Group as Rows};
use crate::cpu::insn::Insn;
use crate::cpu::{Cpu, Done, Stop};
use crate::debug::events::{Event, EventKind};
use crate::platform::Bus;

const FEATURE_CONTROL_LOCKED: u64 = 1 << 0;
const FEATURE_CONTROL_VMX: u64 = 1 << 2;

/// Bit 31 of a region's first word marks a shadow VMCS.
pub(super) const SHADOW: u32 = 1 << 31;

/// Leaves the block, unless the instruction runs as one of its own already: it needs the exact clock.
#[inline(always)]
pub(super) fn alone(cpu: &Cpu) -> Done {
    if cpu.solo {
        Ok(())
    } else {
        Err(Stop::Solo)
    }
}

/// What the instructions of VMX operation begin with: #UD, the VM exit of a guest, #GP, and a VMfail that the debugger
/// asks for. `info` gives the instruction information of the exit.
#[inline(always)]
pub(super) fn begin(
    cpu: &mut Cpu,
    bus: &mut Bus,
    insn: &Insn,
    name: &'static str,
    exit_reason: u16,
    exit: impl FnOnce(&Cpu) -> (u64, u32),
) -> Done {
    if cpu.vmx.vmxon.is_none() {
        return Err(refuse(cpu, bus, insn, name, Refusal::NotInVmxOperation));
    }
    if let Some(refusal) = wrong_mode(cpu) {
        return Err(refuse(cpu, bus, insn, name, refusal));
    }
    if cpu.vmx.guest {
        let (qualification, info) = exit(cpu);
        return Err(leave_guest(cpu, insn, exit_reason, qualification, info));
    }
    if cpu.cpl != 0 {
        return Err(refuse(cpu, bus, insn, name, Refusal::Privilege));
    }
    if bus.debug.catches.forced.is_some() {
        return forced(cpu, bus, insn, name);
    }
    Ok(())
}

pub(super) fn wrong_mode(cpu: &Cpu) -> Option<Refusal> {
    if cpu.paragraphs() {
        Some(Refusal::Mode)
    } else if cpu.long_mode() && !cpu.long64() {
        Some(Refusal::CompatibilityMode)
    } else {
        None
    }
}

/// The VM exit that a VMX instruction causes in a guest.
fn leave_guest(cpu: &mut Cpu, insn: &Insn, reason: u16, qualification: u64, info: u32) -> Stop {
    cpu.vmx.exit = Exit {
        reason: reason as u32,
        qualification,
        instruction_length: insn.length as u32,
        instruction_info: info,
        cause: Cause::Always,
        ..Exit::default()
    };
    Stop::Exit
}

fn nothing(_: &Cpu) -> (u64, u32) {
    (0, 0)
}

/// `vmx force vmfail N`.
#[cold]
fn forced(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn, name: &'static str) -> Done {
    let Some(forced) = bus.debug.catches.forced.clone().filter(|it| it.reason.is_none()) else {
        return Ok(());
    };
    alone(cpu)?;
    bus.debug.catches.forced = None;
    fail(cpu, bus, insn, name, forced.error, FailReason::Forced)?;
    Err(Stop::Sync)
}

/// The 64-bit physical address that the memory operand holds.
fn pointer(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn) -> Result<u64, Stop> {
    let ea = cpu.ea(insn);
    cpu.read(bus, insn.seg, ea)
}

fn pointer_exit(insn: &Insn) -> impl FnOnce(&Cpu) -> (u64, u32) + '_ {
    |cpu| (operand::displacement(cpu, insn), operand::pointer(insn))
}

/// Whether an address can be that of a VMXON region or a VMCS: aligned, within the processor's width.
fn valid_region(cpu: &Cpu, address: u64) -> bool {
    let reserved = cpu
        .profile
        .capabilities()
        .address_reserved(cpu.maxphyaddr() as u8);
    address & 0xfff == 0 && address & reserved == 0
}

fn note(cpu: &Cpu, bus: &mut Bus, kind: EventKind, vmcs: Option<u64>) {
    bus.debug.events.push(Event {
        icount: bus.clock,
        vcpu: cpu.id as u32,
        kind,
        vmcs,
        ..Event::default()
    });
}

fn vmxon(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn) -> Done {
    const NAME: &str = "VMXON";
    alone(cpu)?;
    if cpu.cr4 & CR4_VMXE == 0 {
        return Err(refuse(cpu, bus, insn, NAME, Refusal::Vmxe));
    }
    if let Some(refusal) = wrong_mode(cpu) {
        return Err(refuse(cpu, bus, insn, NAME, refusal));
    }
    if cpu.vmx.vmxon.is_some() {
        begin(cpu, bus, insn, NAME, reason::VMXON, pointer_exit(insn))?;
        return fail(cpu, bus, insn, NAME, error::VMXON_IN_ROOT, FailReason::InRoot);
    }
    if let Some(refusal) = vmxon_protection(cpu) {
        return Err(refuse(cpu, bus, insn, NAME, refusal));
    }
    let address = pointer(cpu, bus, insn)?;
    if !valid_region(cpu, address) {
        return fail(cpu, bus, insn, NAME, 0, FailReason::Pointer { address });
    }
    let found = bus.read_physical(cpu.id, address, 4) as u32;
    let wanted = cpu.profile.capabilities().revision();
    if found != wanted {
        let reason = FailReason::Revision {
            address,
            found,
            wanted,
        };
        return fail(cpu, bus, insn, NAME, 0, reason);
    }
    cpu.vmx.vmxon = Some(address);
    cpu.vmx.current = None;
    note(cpu, bus, EventKind::Vmxon, Some(address));
    succeed(cpu);
    Err(Stop::Sync)
}

/// The #GP(0) of VMXON.
fn vmxon_protection(cpu: &Cpu) -> Option<Refusal> {
    if cpu.cpl != 0 {
        return Some(Refusal::Privilege);
    }
    let capabilities = cpu.profile.capabilities();
    let (cr0, cr4) = (capabilities.cr0(), capabilities.cr4());
    if !cr0.accepts(cpu.cr0) {
        return Some(Refusal::Cr0Fixed {
            missing: cr0.missing(cpu.cr0),
            excess: cr0.excess(cpu.cr0),
        });
    }
    if !cr4.accepts(cpu.cr4) {
        return Some(Refusal::Cr4Fixed {
            missing: cr4.missing(cpu.cr4),
            excess: cr4.excess(cpu.cr4),
        });
    }
    if cpu.msr.feature_control & FEATURE_CONTROL_LOCKED == 0 {
        return Some(Refusal::FeatureControlUnlocked);
    }
    (cpu.msr.feature_control & FEATURE_CONTROL_VMX == 0).then_some(Refusal::FeatureControlDisabled)
}

fn vmxoff(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn) -> Done {
    alone(cpu)?;
    begin(cpu, bus, insn, "VMXOFF", reason::VMXOFF, nothing)?;
    for vmcs in std::mem::take(&mut cpu.vmx.active) {
        write_back(bus, &vmcs);
    }
    bus.debug.holders.release_all(cpu.id);
    cpu.vmx.current = None;
    let region = cpu.vmx.vmxon.take();
    note(cpu, bus, EventKind::Vmxoff, region);
    succeed(cpu);
    Err(Stop::Sync)
}

/// Writes a VMCS to its region. A region outside RAM takes nothing.
pub(super) fn write_back(bus: &mut Bus, vmcs: &Vmcs) {
    let Some(at) = bus.ram.offset(vmcs.address) else {
        return;
    };
    let mut region = [0; REGION_SIZE];
    if let Some(bytes) = bus.ram.bytes::<REGION_SIZE>(at) {
        region = *bytes;
    }
    vmcs.pack(&mut region);
    bus.ram.write(at, &region);
}

pub(super) fn read_region(bus: &Bus, address: u64) -> Vmcs {
    let region = bus.ram.offset(address).and_then(|at| bus.ram.bytes(at));
    region.map_or_else(
        || Vmcs::unpack(address, &[0xff; REGION_SIZE]),
        |region| Vmcs::unpack(address, region),
    )
}

/// Why no VMCS can be at `address`: the error of an address that is none, or that of the VMXON region's.
fn unusable(cpu: &Cpu, address: u64, (invalid, vmxon): (u32, u32)) -> Option<(u32, FailReason)> {
    if !valid_region(cpu, address) {
        return Some((invalid, FailReason::Pointer { address }));
    }
    (cpu.vmx.vmxon == Some(address)).then_some((vmxon, FailReason::VmxonPointer { address }))
}

fn vmclear(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn) -> Done {
    const NAME: &str = "VMCLEAR";
    alone(cpu)?;
    begin(cpu, bus, insn, NAME, reason::VMCLEAR, pointer_exit(insn))?;
    let address = pointer(cpu, bus, insn)?;
    let errors = (error::VMCLEAR_INVALID_ADDRESS, error::VMCLEAR_VMXON_POINTER);
    if let Some((number, reason)) = unusable(cpu, address, errors) {
        return fail(cpu, bus, insn, NAME, number, reason);
    }
    let active = cpu.vmx.deactivate(address);
    bus.debug.holders.release(cpu.id, address);
    let mut vmcs = active.unwrap_or_else(|| read_region(bus, address));
    vmcs.launched = false;
    write_back(bus, &vmcs);
    note(cpu, bus, EventKind::Vmclear, Some(address));
    succeed(cpu);
    Err(Stop::Sync)
}

fn vmptrld(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn) -> Done {
    const NAME: &str = "VMPTRLD";
    alone(cpu)?;
    begin(cpu, bus, insn, NAME, reason::VMPTRLD, pointer_exit(insn))?;
    let address = pointer(cpu, bus, insn)?;
    let errors = (error::VMPTRLD_INVALID_ADDRESS, error::VMPTRLD_VMXON_POINTER);
    if let Some((number, reason)) = unusable(cpu, address, errors) {
        return fail(cpu, bus, insn, NAME, number, reason);
    }
    let found = bus.read_physical(cpu.id, address, 4) as u32;
    let wanted = cpu.profile.capabilities().revision();
    if found & !SHADOW != wanted || found & SHADOW != 0 && !shadowing_offered(cpu) {
        let reason = FailReason::Revision {
            address,
            found,
            wanted,
        };
        return fail(cpu, bus, insn, NAME, error::VMPTRLD_WRONG_REVISION, reason);
    }
    if !cpu.vmx.make_current(address) {
        if let Some(evicted) = cpu.vmx.activate(read_region(bus, address)) {
            write_back(bus, &evicted);
            bus.debug.holders.release(cpu.id, evicted.address);
        }
        bus.debug.holders.hold(cpu.id, address);
    }
    note(cpu, bus, EventKind::Vmptrld, Some(address));
    note_other_holder(cpu, bus, address);
    succeed(cpu);
    Err(Stop::Sync)
}

/// The current VMCS is active on another processor too: what either finds in its region is old.
fn note_other_holder(cpu: &Cpu, bus: &mut Bus, address: u64) {
    let Some(other) = bus.debug.holders.others(cpu.id, address).next() else {
        return;
    };
    bus.debug.events.push(Event {
        icount: bus.clock,
        vcpu: cpu.id as u32,
        kind: EventKind::VmcsActiveElsewhere,
        vmcs: Some(address),
        qualification: Some(other as u64),
        ..Event::default()
    });
}

pub(super) fn shadowing_offered(cpu: &Cpu) -> bool {
    use super::controls::{secondary::VMCS_SHADOWING, Word};
    cpu.profile.capabilities().allows(Word::Secondary, VMCS_SHADOWING)
}

fn vmptrst(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn) -> Done {
    begin(cpu, bus, insn, "VMPTRST", reason::VMPTRST, pointer_exit(insn))?;
    let pointer = cpu.vmx.current().map_or(!0, |vmcs| vmcs.address);
    let ea = cpu.ea(insn);
    cpu.write(bus, insn.seg, ea, pointer)?;
    succeed(cpu);
    Ok(())
}

fn vmcall(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn) -> Done {
    const NAME: &str = "VMCALL";
    // In a guest it exits from every mode and privilege.
    if cpu.vmx.guest {
        return Err(leave_guest(cpu, insn, reason::VMCALL, 0, 0));
    }
    begin(cpu, bus, insn, NAME, reason::VMCALL, nothing)?;
    fail(cpu, bus, insn, NAME, error::VMCALL_IN_ROOT, FailReason::InRoot)
}

fn vmlaunch(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn) -> Done {
    alone(cpu)?;
    let done = begin(cpu, bus, insn, "VMLAUNCH", reason::VMLAUNCH, nothing);
    enter(cpu, bus, insn, done, true)
}

fn vmresume(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn) -> Done {
    alone(cpu)?;
    let done = begin(cpu, bus, insn, "VMRESUME", reason::VMRESUME, nothing);
    enter(cpu, bus, insn, done, false)
}

/// These two set RIP themselves, also where they fail.
fn enter(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn, done: Done, launch: bool) -> Done {
    let done = done.and_then(|()| entry::enter(cpu, bus, insn, launch));
    if done == Err(Stop::Sync) {
        cpu.rip = cpu.next_ip(insn);
    }
    done
}

fn vmfunc(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn) -> Done {
    alone(cpu)?;
    if !cpu.vmx.guest {
        let refusal = if cpu.vmx.vmxon.is_some() {
            Refusal::NotOffered
        } else {
            Refusal::NotInVmxOperation
        };
        return Err(refuse(cpu, bus, insn, "VMFUNC", refusal));
    }
    vmfunc::run(cpu, bus, insn)
}

fn invept(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn) -> Done {
    invalidation(
        cpu,
        bus,
        insn,
        "INVEPT",
        reason::INVEPT,
        ept_vpid::INVEPT,
        invalidate::invept,
    )
}

fn invvpid(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn) -> Done {
    invalidation(
        cpu,
        bus,
        insn,
        "INVVPID",
        reason::INVVPID,
        ept_vpid::INVVPID,
        invalidate::invvpid,
    )
}

/// What a type and descriptor mean; false where they are no valid operand.
type Invalidate = fn(&mut Cpu, &Bus, kind: u64, low: u64, high: u64) -> bool;

fn invalidation(
    cpu: &mut Cpu,
    bus: &mut Bus,
    insn: &Insn,
    name: &'static str,
    exit_reason: u16,
    offered: u64,
    run: Invalidate,
) -> Done {
    alone(cpu)?;
    if cpu.profile.capabilities().ept_vpid() & offered == 0 {
        return Err(refuse(cpu, bus, insn, name, Refusal::NotOffered));
    }
    begin(cpu, bus, insn, name, exit_reason, |cpu| {
        (operand::displacement(cpu, insn), operand::invalidation(insn))
    })?;
    let kind = if cpu.long64() {
        cpu.reg::<u64>(insn.r[0])
    } else {
        cpu.reg::<u32>(insn.r[0]) as u64
    };
    if !invalidate::offers(cpu, exit_reason, kind) {
        let reason = FailReason::Invalidation {
            kind,
            low: 0,
            high: 0,
        };
        return fail(
            cpu,
            bus,
            insn,
            name,
            error::INVEPT_INVVPID_INVALID_OPERAND,
            reason,
        );
    }
    let ea = cpu.ea(insn);
    let descriptor: [u8; 16] = cpu.read_bytes(bus, insn.seg, ea, false)?;
    let value = u128::from_le_bytes(descriptor);
    let (low, high) = (value as u64, (value >> 64) as u64);
    if !run(cpu, bus, kind, low, high) {
        let reason = FailReason::Invalidation { kind, low, high };
        return fail(
            cpu,
            bus,
            insn,
            name,
            error::INVEPT_INVVPID_INVALID_OPERAND,
            reason,
        );
    }
    succeed(cpu);
    Err(Stop::Sync)
}

pub static ROWS: Rows = &[
    (Mnemonic::Vmxon, |_| Some(vmxon), Flow::Alone),
    (Mnemonic::Vmxoff, |_| Some(vmxoff), Flow::Alone),
    (Mnemonic::Vmclear, |_| Some(vmclear), Flow::Alone),
    (Mnemonic::Vmptrld, |_| Some(vmptrld), Flow::Alone),
    (Mnemonic::Vmptrst, |_| Some(vmptrst), Flow::Next),
    (Mnemonic::Vmread, field_access::select_vmread, Flow::Next),
    (Mnemonic::Vmwrite, field_access::select_vmwrite, Flow::Next),
    (Mnemonic::Vmcall, |_| Some(vmcall), Flow::Alone),
    (Mnemonic::Vmlaunch, |_| Some(vmlaunch), Flow::AloneBranch),
    (Mnemonic::Vmresume, |_| Some(vmresume), Flow::AloneBranch),
    (Mnemonic::Vmfunc, |_| Some(vmfunc), Flow::Alone),
    (Mnemonic::Invept, |_| Some(invept), Flow::Alone),
    (Mnemonic::Invvpid, |_| Some(invvpid), Flow::Alone),
];
