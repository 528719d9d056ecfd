//! Delivery of exceptions and interrupts through the IDT (SDM vol. 3, chapter 6).

use super::bits::CR4_VME;
use super::debug_registers::{DR6_ACCESS_DETECTED, DR6_CONDITIONS, DR6_WRITABLE, DR7_GENERAL_DETECT};
use super::descriptor::{is_null, system, Descriptor, Gate};
use super::exception::{vector, Event, EventKind, Fault};
use super::segment::{Segment, CS, DS, ES, FS, GS, SS, TR};
use super::stack::Stack;
use super::task::{self, Departure};
use super::{flags, shadow_stack, Activity, Cpu, Done, Shadow, Stop, RSP};
use crate::platform::Bus;
use crate::vmx::intercept::{self, TaskSwitch};

/// IA32_DEBUGCTL.LBR and BTF.
const DEBUGCTL_LBR_BTF: u64 = 3;
/// Bits of an error code that names a descriptor.
const EXTERNAL: u32 = 1;
const IDT: u32 = 2;

/// Delivers `fault` with RIP, as `Cpu::rip` says, to be pushed. `Err(Stop::Exit)` in a guest whose VMCS intercepts it
/// or whose delivery meets a VM exit; a triple fault puts the processor into `Activity::Shutdown` (or exits).
///
/// A delivery counts as an instruction: a guest whose handlers fault at once must not stop time.
pub fn deliver(cpu: &mut Cpu, bus: &mut Bus, fault: Fault) -> Done {
    cpu.icount += 1;
    cpu.waiting = None;
    cpu.vmx.vectoring = None;
    intercept::event(cpu, bus, &fault, None)?;
    note(cpu, &fault);
    cascade(cpu, bus, fault.event)
}

/// Delivers the event that VM entry injects: nothing intercepts it, CR2 and DR6 stay (SDM vol. 3, 27.6.1).
pub fn inject(cpu: &mut Cpu, bus: &mut Bus, event: Event) -> Done {
    cpu.vmx.vectoring = None;
    // Not even where an exit ends the delivery: SDM vol. 3, 27.7.1.
    cpu.shadow = Shadow::None;
    cascade(cpu, bus, event)
}

/// Delivers `event`, and what its delivery raises. The processor is active from then on, also where a VM exit ends the
/// delivery (SDM vol. 3, 27.7.2 and 28.1).
fn cascade(cpu: &mut Cpu, bus: &mut Bus, mut event: Event) -> Done {
    cpu.activity = Activity::Active;
    loop {
        cpu.vmx.vectoring = Some(event);
        let solo = std::mem::replace(&mut cpu.solo, true);
        let done = through_table(cpu, bus, &event);
        cpu.solo = solo;
        match done {
            Ok(()) => {
                cpu.vmx.vectoring = None;
                cpu.vmx.serial_exceptions = 0;
                cpu.shadow = Shadow::None;
                return Ok(());
            }
            Err(Stop::Fault) => {}
            Err(stop) => return Err(stop),
        }
        let nested = with_external_bit(cpu.fault, &event);
        intercept::event(cpu, bus, &nested, Some(event))?;
        note(cpu, &nested);
        event = match (class(&event), class(&nested.event)) {
            (Class::DoubleFault, Class::Contributory | Class::PageFault) => {
                cpu.vmx.vectoring = None;
                intercept::triple_fault(cpu, bus)?;
                cpu.activity = Activity::Shutdown;
                return Ok(());
            }
            (Class::Contributory, Class::Contributory)
            | (Class::PageFault, Class::Contributory | Class::PageFault) => {
                cpu.vmx.vectoring = None;
                let double = cpu.exception(vector::DOUBLE_FAULT, Some(0), 0);
                intercept::event(cpu, bus, &double, None)?;
                double.event
            }
            _ => {
                if !serially(cpu, &nested)? {
                    return Ok(());
                }
                nested.event
            }
        };
    }
}

/// `nested` comes next, for the exception whose delivery raised it is delivered no more. #AC can raise itself so for
/// ever: then a processor comes to no instruction boundary, and takes no interrupt. This one looks around now and then,
/// or nobody could stop it. False: the exception is left for then.
fn serially(cpu: &mut Cpu, nested: &Fault) -> Result<bool, Stop> {
    const AT_A_STRETCH: u64 = 64;
    cpu.icount += 1;
    cpu.vmx.serial_exceptions += 1;
    cpu.vmx.vectoring = Some(nested.event);
    intercept::instruction_timeout(cpu)?;
    if cpu.vmx.serial_exceptions % AT_A_STRETCH != 0 {
        return Ok(true);
    }
    cpu.vmx.vectoring = None;
    cpu.first_fault = Some(*nested);
    Ok(false)
}

/// SDM vol. 3, table 6-4.
#[derive(PartialEq)]
enum Class {
    Benign,
    Contributory,
    PageFault,
    DoubleFault,
}

fn class(event: &Event) -> Class {
    if event.kind != EventKind::HardwareException {
        return Class::Benign;
    }
    match event.vector {
        vector::DIVIDE_ERROR
        | vector::INVALID_TSS
        | vector::SEGMENT_NOT_PRESENT
        | vector::STACK_FAULT
        | vector::GENERAL_PROTECTION
        | vector::CONTROL_PROTECTION => Class::Contributory,
        vector::PAGE_FAULT | vector::VIRTUALIZATION => Class::PageFault,
        vector::DOUBLE_FAULT => Class::DoubleFault,
        _ => Class::Benign,
    }
}

/// EXT is set for what comes of the delivery of anything but INT n, INT3 and INTO (SDM vol. 3, 6.13).
fn with_external_bit(mut fault: Fault, original: &Event) -> Fault {
    let names_a_selector = matches!(
        fault.event.vector,
        vector::INVALID_TSS | vector::SEGMENT_NOT_PRESENT | vector::STACK_FAULT | vector::GENERAL_PROTECTION
    );
    if names_a_selector && !is_program_interrupt(original) {
        fault.event.error_code = fault.event.error_code.map(|code| code | EXTERNAL);
    }
    fault
}

/// INT n, INT3, INTO: the gate's DPL is checked. INT1 counts as the processor's own.
fn is_program_interrupt(event: &Event) -> bool {
    matches!(
        event.kind,
        EventKind::SoftwareInterrupt | EventKind::SoftwareException
    )
}

/// What an exception leaves in registers, however its delivery goes on.
fn note(cpu: &mut Cpu, fault: &Fault) {
    cpu.vmx.record.fault(*fault, cpu.rip);
    match (fault.event.kind, fault.event.vector) {
        (EventKind::HardwareException, vector::PAGE_FAULT) => cpu.cr2 = fault.payload,
        (EventKind::HardwareException | EventKind::PrivilegedSoftwareException, vector::DEBUG) => {
            // INT1 takes along what a load of SS before it held back.
            let conditions = fault.payload | std::mem::take(&mut cpu.pending_debug);
            cpu.dr6 = cpu.dr6 & !DR6_CONDITIONS | conditions & DR6_WRITABLE;
            cpu.dr7 &= !DR7_GENERAL_DETECT;
            cpu.msr.debugctl &= !DEBUGCTL_LBR_BTF;
        }
        _ => {}
    }
    // Faults push RF set, so that the instruction is not stopped again by its own breakpoint (SDM vol. 3, 17.3.1.1).
    let faults = match (fault.event.kind, fault.event.vector) {
        (EventKind::HardwareException, vector::DEBUG) => fault.payload & DR6_ACCESS_DETECTED != 0,
        (kind, _) => kind == EventKind::HardwareException,
    };
    if faults {
        cpu.flags.rest |= flags::RF;
    } else if fault.event.is_software() {
        cpu.flags.rest &= !flags::RF;
    }
}

fn through_table(cpu: &mut Cpu, bus: &mut Bus, event: &Event) -> Done {
    if !cpu.protected() {
        return through_vectors(cpu, bus, event);
    }
    if event.kind == EventKind::SoftwareInterrupt && cpu.virtual_8086() {
        if redirected(cpu, bus, event.vector)? {
            return through_program_vectors(cpu, bus, event);
        }
        if cpu.flags.iopl() < 3 {
            return Err(cpu.general_protection(0));
        }
    }
    let gate = read_gate(cpu, bus, event)?;
    if gate.kind == system::TASK_GATE {
        return to_task(cpu, bus, event, gate.selector);
    }
    let mut code = handler(cpu, bus, &gate)?;
    let rights = code.rights();
    let to = if rights.is_conforming() {
        cpu.cpl
    } else {
        rights.dpl()
    };
    if cpu.virtual_8086() && to != 0 {
        return Err(cpu.general_protection(code.error_code()));
    }
    let segment = code.segment();
    if cpu.long_mode() {
        frame_64(cpu, bus, event, &gate, &mut code, to)?;
    } else {
        frame(cpu, bus, event, &gate, &mut code, to)?;
    }
    let mut cleared = flags::TF | flags::NT | flags::RF | flags::VM;
    if gate.kind & 1 == 0 {
        cleared |= flags::IF;
    }
    let was_virtual_8086 = cpu.virtual_8086();
    cpu.flags.rest &= !cleared;
    if was_virtual_8086 {
        for index in [ES, DS, FS, GS] {
            cpu.seg[index] = Segment::unusable(0);
        }
    }
    cpu.set_code_segment(segment, to);
    cpu.rip = gate.offset;
    cpu.update_mode();
    cpu.track_far();
    Ok(())
}

/// Through a task gate: a switch to the handler's task, and the error code on its stack.
fn to_task(cpu: &mut Cpu, bus: &mut Bus, event: &Event, selector: u16) -> Done {
    let descriptor = task::find(cpu, bus, selector)?;
    let departure = Departure {
        source: TaskSwitch::Gate,
        next_ip: return_ip(cpu, event),
        length: event.length,
        error_code: event.error_code,
    };
    match task::switch(cpu, bus, departure, descriptor)? {
        Some(stop) => Err(stop),
        None => Ok(()),
    }
}

/// RIP to return to: after the instruction, for those that cause their event on purpose.
fn return_ip(cpu: &Cpu, event: &Event) -> u64 {
    let skip = if event.is_software() {
        event.length as u64
    } else {
        0
    };
    cpu.rip.wrapping_add(skip) & cpu.ip_mask()
}

/// Real-address mode: far pointers from `idtr.base` on, no error codes (SDM vol. 3, 20.1.4).
fn through_vectors(cpu: &mut Cpu, bus: &mut Bus, event: &Event) -> Done {
    let at = event.vector as u64 * 4;
    if at + 3 > cpu.idtr.limit as u64 {
        return Err(cpu.general_protection(0));
    }
    let mut stack = Stack::current(cpu);
    let flags = cpu.flags.get();
    stack.push(cpu, bus, 2, flags)?;
    stack.push(cpu, bus, 2, cpu.seg[CS].selector as u64)?;
    stack.push(cpu, bus, 2, return_ip(cpu, event))?;
    // Read once all is pushed: SDM vol. 2, INT n.
    let pointer: u32 = cpu.read_table(bus, cpu.idtr.base, at)?;
    stack.commit(cpu);
    cpu.seg[CS] = cpu.paragraph(CS, (pointer >> 16) as u16);
    cpu.rip = (pointer & 0xffff) as u64;
    cpu.flags.rest &= !(flags::IF | flags::TF | flags::AC | flags::RF);
    cpu.update_mode();
    Ok(())
}

/// Whether an INT n of virtual-8086 mode stays within the program: CR4.VME is set and the TSS's interrupt redirection
/// bitmap, which ends where the I/O bitmap begins, has a 0 for it (SDM vol. 3, 21.3.3).
fn redirected(cpu: &mut Cpu, bus: &mut Bus, vector: u8) -> Result<bool, Stop> {
    const BITMAP_POINTER: u64 = 0x66;
    const BITMAP_BYTES: u64 = 32;
    let tss = cpu.seg[TR];
    if cpu.cr4 & CR4_VME == 0 || tss.limit < BITMAP_POINTER as u32 + 1 {
        return Ok(false);
    }
    let end: u16 = cpu.read_table(bus, tss.base, BITMAP_POINTER)?;
    let at = (end as u64).wrapping_sub(BITMAP_BYTES) + (vector >> 3) as u64;
    if at > tss.limit as u64 {
        return Err(cpu.general_protection(0));
    }
    let bits: u8 = cpu.read_table(bus, tss.base, at)?;
    Ok(bits >> (vector & 7) & 1 == 0)
}

/// An interrupt that a virtual-8086 program handles itself, through the far pointers at its linear address 0. With
/// IOPL below 3 it sees VIF as its IF (SDM vol. 3, 21.3.3.4 and 21.3.3.5).
fn through_program_vectors(cpu: &mut Cpu, bus: &mut Bus, event: &Event) -> Done {
    let privilege = cpu.tlb.privilege();
    let pointer: u32 = cpu.read_linear(bus, event.vector as u64 * 4, privilege)?;
    let mut image = cpu.flags.get();
    let hidden = if cpu.flags.iopl() < 3 {
        let interrupts = if image & flags::VIF != 0 { flags::IF } else { 0 };
        image = image & !flags::IF | flags::IOPL | interrupts;
        flags::VIF
    } else {
        flags::IF
    };
    let mut stack = Stack::current(cpu);
    stack.push(cpu, bus, 2, image)?;
    stack.push(cpu, bus, 2, cpu.seg[CS].selector as u64)?;
    stack.push(cpu, bus, 2, return_ip(cpu, event))?;
    stack.commit(cpu);
    cpu.seg[CS] = cpu.paragraph(CS, (pointer >> 16) as u16);
    cpu.rip = (pointer & 0xffff) as u64;
    cpu.flags.rest &= !(flags::TF | hidden);
    cpu.update_mode();
    Ok(())
}

/// The error code of a fault that the gate itself causes.
fn gate_error(event: &Event) -> u32 {
    (event.vector as u32) << 3 | IDT
}

fn read_gate(cpu: &mut Cpu, bus: &mut Bus, event: &Event) -> Result<Gate, Stop> {
    let bytes = if cpu.long_mode() { 16 } else { 8 };
    let at = event.vector as u64 * bytes;
    if at + bytes - 1 > cpu.idtr.limit as u64 {
        return Err(cpu.general_protection(gate_error(event)));
    }
    let base = cpu.idtr.base;
    let mut gate = Gate::new(cpu.read_table(bus, base, at)?);
    let good = match gate.kind {
        system::INTERRUPT_GATE32 | system::TRAP_GATE32 => true,
        system::TASK_GATE | system::INTERRUPT_GATE16 | system::TRAP_GATE16 => !cpu.long_mode(),
        _ => false,
    };
    if !good || is_program_interrupt(event) && gate.dpl < cpu.cpl {
        return Err(cpu.general_protection(gate_error(event)));
    }
    if !gate.present {
        return Err(cpu.segment_not_present(gate_error(event)));
    }
    if cpu.long_mode() {
        gate.offset |= (cpu.read_table::<u32>(bus, base, at + 8)? as u64) << 32;
    } else if gate.is_16bit() {
        gate.offset &= 0xffff;
    }
    Ok(gate)
}

/// The code segment that the gate leads to.
fn handler(cpu: &mut Cpu, bus: &mut Bus, gate: &Gate) -> Result<Descriptor, Stop> {
    if is_null(gate.selector) {
        return Err(cpu.general_protection(0));
    }
    let code = cpu.descriptor(bus, gate.selector, vector::GENERAL_PROTECTION)?;
    let rights = code.rights();
    let wrong_size = cpu.long_mode() && (!rights.long() || rights.big());
    if !rights.is_code() || rights.dpl() > cpu.cpl || wrong_size {
        return Err(cpu.general_protection(code.error_code()));
    }
    if !rights.present() {
        return Err(cpu.segment_not_present(code.error_code()));
    }
    Ok(code)
}

/// Checks where the handler begins, now that its stack is known (SDM vol. 2, INT n), pushes the frame of IA-32e mode
/// (vol. 3, 6.14), marks the handler's code segment accessed, as nothing of the stack can fault any more, and loads SS:RSP.
fn frame_64(cpu: &mut Cpu, bus: &mut Bus, event: &Event, gate: &Gate, code: &mut Descriptor, to: u8) -> Done {
    let inner = to < cpu.cpl;
    let pointer = if gate.ist != 0 {
        cpu.task_stack_64(bus, 3 + gate.ist)?
    } else if inner {
        cpu.task_stack_64(bus, to)?
    } else {
        cpu.regs[RSP]
    };
    let segment = if inner {
        Segment::null_stack(to as u16)
    } else {
        cpu.seg[SS]
    };
    cpu.check_target(&code.segment(), gate.offset)?;
    let mut stack = Stack::of_pointer(cpu, segment, pointer & !15, to);
    let frame = [
        cpu.seg[SS].selector as u64,
        cpu.regs[RSP],
        cpu.flags.get(),
        cpu.seg[CS].selector as u64,
        return_ip(cpu, event),
    ];
    for value in frame {
        stack.push(cpu, bus, 8, value)?;
    }
    if let Some(error) = event.error_code {
        stack.push(cpu, bus, 8, error as u64)?;
    }
    cpu.mark_accessed(bus, code)?;
    cpu.shadow_enter(
        bus,
        &shadow_stack::Entry {
            to,
            long: true,
            return_ip: return_ip(cpu, event),
            stack: gate.ist as u64,
        },
    )?;
    stack.commit(cpu);
    Ok(())
}

/// The same with the frame of a 16- or 32-bit gate (SDM vol. 3, 6.12.1).
fn frame(cpu: &mut Cpu, bus: &mut Bus, event: &Event, gate: &Gate, code: &mut Descriptor, to: u8) -> Done {
    let bytes = if gate.is_16bit() { 2 } else { 4 };
    let flags = cpu.flags.get();
    let mut stack = if to < cpu.cpl {
        let (selector, pointer) = cpu.task_stack(bus, to)?;
        let segment = cpu.stack_segment(bus, selector, to, vector::INVALID_TSS)?;
        cpu.check_target(&code.segment(), gate.offset)?;
        let mut stack = Stack::of_segment(cpu, segment, pointer, to);
        if cpu.virtual_8086() {
            for index in [GS, FS, DS, ES] {
                stack.push(cpu, bus, bytes, cpu.seg[index].selector as u64)?;
            }
        }
        stack.push(cpu, bus, bytes, cpu.seg[SS].selector as u64)?;
        stack.push(cpu, bus, bytes, cpu.regs[RSP])?;
        stack
    } else {
        cpu.check_target(&code.segment(), gate.offset)?;
        Stack::current(cpu)
    };
    stack.push(cpu, bus, bytes, flags)?;
    stack.push(cpu, bus, bytes, cpu.seg[CS].selector as u64)?;
    stack.push(cpu, bus, bytes, return_ip(cpu, event))?;
    if let Some(error) = event.error_code {
        stack.push(cpu, bus, bytes, error as u64)?;
    }
    cpu.mark_accessed(bus, code)?;
    cpu.shadow_enter(
        bus,
        &shadow_stack::Entry {
            to,
            long: false,
            return_ip: return_ip(cpu, event),
            stack: 0,
        },
    )?;
    stack.commit(cpu);
    Ok(())
}
