//! Far transfers: JMP, CALL and RET to other segments, through call gates, and IRET (SDM vol. 3, 5.8 and 6.12.1).

use iced_x86::{Code, Mnemonic as Mn};

use super::segments::far_pointer;
use crate::cpu::bits::CR4_VME;
use crate::cpu::decode::{Flow, Form, Group, Operand};
use crate::cpu::descriptor::{is_null, rpl, system, Descriptor, Gate};
use crate::cpu::exception::vector;
use crate::cpu::flags;
use crate::cpu::insn::{Handler, Insn};
use crate::cpu::int::Int;
use crate::cpu::segment::{Segment, CS, DS, ES, FS, GS, SS};
use crate::cpu::shadow_stack::{self, Leave};
use crate::cpu::stack::Stack;
use crate::cpu::task::{self, Departure};
use crate::cpu::{Cpu, Done, Stop, RSP};
use crate::platform::Bus;
use crate::vmx::intercept::{self, TaskSwitch};

/// How a far transfer that names a selector goes about it.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Jump,
    /// Pushes CS and RIP in this many bytes each.
    Call(u64),
}

fn direct<T: Int, const CALL: bool>(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn) -> Done {
    let (offset, selector) = (T::from_u64(insn.imm).to_u64(), (insn.imm >> 32) as u16);
    transfer(cpu, bus, insn, kind::<T, CALL>(), selector, offset)
}

fn indirect<T: Int, const CALL: bool>(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn) -> Done {
    let (offset, selector) = far_pointer::<T>(cpu, bus, insn)?;
    transfer(cpu, bus, insn, kind::<T, CALL>(), selector, offset.to_u64())
}

fn kind<T: Int, const CALL: bool>() -> Kind {
    if CALL {
        Kind::Call(T::BYTES)
    } else {
        Kind::Jump
    }
}

fn transfer(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn, kind: Kind, selector: u16, offset: u64) -> Done {
    if cpu.paragraphs() {
        let code = cpu.paragraph(CS, selector);
        cpu.check_target(&code, offset)?;
        if let Kind::Call(bytes) = kind {
            push_return(cpu, bus, insn, Stack::current(cpu), bytes, None)?;
        }
        cpu.seg[CS] = code;
        cpu.rip = offset;
        cpu.update_mode();
        return Ok(());
    }
    if is_null(selector) {
        return Err(cpu.general_protection(0));
    }
    let descriptor = cpu.descriptor(bus, selector, vector::GENERAL_PROTECTION)?;
    match descriptor.system() {
        None => to_code(cpu, bus, insn, kind, descriptor, offset),
        Some(_) => to_system(cpu, bus, insn, kind, descriptor),
    }
}

/// A procedure that a descriptor leads to: its privilege level, and whether it is 64-bit code.
struct Callee<'a> {
    code: &'a mut Descriptor,
    to: u8,
    long: bool,
}

/// The callee's segment is marked accessed once nothing of the stack can fault any more; `None` where there is no
/// descriptor, nor are shadow stacks.
fn push_return(
    cpu: &mut Cpu,
    bus: &mut Bus,
    insn: &Insn,
    mut stack: Stack,
    bytes: u64,
    callee: Option<Callee>,
) -> Done {
    let (selector, ip) = (cpu.seg[CS].selector, cpu.next_ip(insn));
    stack.push(cpu, bus, bytes, selector as u64)?;
    stack.push(cpu, bus, bytes, ip)?;
    if let Some(Callee { code, to, long }) = callee {
        cpu.mark_accessed(bus, code)?;
        cpu.shadow_enter(
            bus,
            &shadow_stack::Entry {
                to,
                long,
                return_ip: ip,
                stack: 0,
            },
        )?;
    }
    stack.commit(cpu);
    Ok(())
}

/// To a code segment at the same privilege level.
fn to_code(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn, kind: Kind, mut code: Descriptor, offset: u64) -> Done {
    let rights = code.rights();
    let privileged = if rights.is_conforming() {
        rights.dpl() > cpu.cpl
    } else {
        rights.dpl() != cpu.cpl || rpl(code.selector) > cpu.cpl
    };
    if !rights.is_code() || privileged {
        return Err(cpu.general_protection(code.error_code()));
    }
    cpu.check_code_segment(&code)?;
    let segment = code.segment();
    cpu.check_target(&segment, offset)?;
    let long = cpu.long_mode() && rights.long();
    cpu.check_shadow_reach(long)?;
    if let Kind::Call(bytes) = kind {
        let callee = Callee {
            code: &mut code,
            to: cpu.cpl,
            long,
        };
        push_return(cpu, bus, insn, Stack::current(cpu), bytes, Some(callee))?;
    } else {
        cpu.mark_accessed(bus, &mut code)?;
    }
    enter(cpu, code.segment(), cpu.cpl, offset);
    cpu.track_far();
    Ok(())
}

fn enter(cpu: &mut Cpu, code: Segment, cpl: u8, ip: u64) {
    cpu.set_code_segment(code, cpl);
    cpu.rip = ip;
    cpu.update_mode();
}

/// To a system descriptor: a gate or a TSS.
fn to_system(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn, kind: Kind, descriptor: Descriptor) -> Done {
    if descriptor.dpl() < cpu.cpl.max(rpl(descriptor.selector)) {
        return Err(cpu.general_protection(descriptor.error_code()));
    }
    match descriptor.system() {
        Some(system::CALL_GATE32) => through_call_gate(cpu, bus, insn, kind, descriptor),
        Some(system::CALL_GATE16) if !cpu.long_mode() => through_call_gate(cpu, bus, insn, kind, descriptor),
        Some(system::TASK_GATE) if !cpu.long_mode() => {
            if !descriptor.present() {
                return Err(cpu.segment_not_present(descriptor.error_code()));
            }
            to_task(cpu, bus, insn, kind, descriptor.gate().selector)
        }
        Some(system::TSS16 | system::TSS32) if !cpu.long_mode() => {
            to_task(cpu, bus, insn, kind, descriptor.selector)
        }
        _ => Err(cpu.general_protection(descriptor.error_code())),
    }
}

fn to_task(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn, kind: Kind, selector: u16) -> Done {
    let source = if kind == Kind::Jump {
        TaskSwitch::Jmp
    } else {
        TaskSwitch::Call
    };
    let descriptor = task::find(cpu, bus, selector)?;
    let departure = Departure {
        source,
        next_ip: cpu.next_ip(insn),
        length: insn.length,
        error_code: None,
    };
    let begun = task::switch(cpu, bus, departure, descriptor)?;
    cpu.first_fault = begun.map(|_| cpu.fault);
    Ok(())
}

fn through_call_gate(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn, kind: Kind, descriptor: Descriptor) -> Done {
    let mut gate = descriptor.gate();
    if !gate.present {
        return Err(cpu.segment_not_present(descriptor.error_code()));
    }
    if cpu.long_mode() {
        gate.offset |= match cpu.upper_half(bus, &descriptor)? {
            Some(upper) if upper >> 40 & 31 == 0 => upper << 32,
            _ => return Err(cpu.general_protection(descriptor.error_code())),
        };
    } else if gate.is_16bit() {
        gate.offset &= 0xffff;
    }
    if is_null(gate.selector) {
        return Err(cpu.general_protection(0));
    }
    let mut code = cpu.descriptor(bus, gate.selector, vector::GENERAL_PROTECTION)?;
    let rights = code.rights();
    let wrong_size = cpu.long_mode() && (!rights.long() || rights.big());
    let outward = kind == Kind::Jump && !rights.is_conforming() && rights.dpl() != cpu.cpl;
    if !rights.is_code() || rights.dpl() > cpu.cpl || wrong_size || outward {
        return Err(cpu.general_protection(code.error_code()));
    }
    if !rights.present() {
        return Err(cpu.segment_not_present(code.error_code()));
    }
    cpu.check_target(&code.segment(), gate.offset)?;
    let inner = !rights.is_conforming() && rights.dpl() < cpu.cpl;
    let to = if inner { rights.dpl() } else { cpu.cpl };
    if kind != Kind::Jump {
        let bytes = match (cpu.long_mode(), gate.is_16bit()) {
            (true, _) => 8,
            (_, true) => 2,
            _ => 4,
        };
        let stack = if inner {
            inner_stack(cpu, bus, &gate, to, bytes)?
        } else {
            Stack::current(cpu)
        };
        let callee = Callee {
            code: &mut code,
            to,
            long: cpu.long_mode(),
        };
        push_return(cpu, bus, insn, stack, bytes, Some(callee))?;
    } else {
        cpu.check_shadow_reach(cpu.long_mode())?;
        cpu.mark_accessed(bus, &mut code)?;
    }
    enter(cpu, code.segment(), to, gate.offset);
    cpu.track_far();
    Ok(())
}

/// The stack of the inner level with the caller's SS:RSP and, outside IA-32e mode, its parameters pushed.
fn inner_stack(cpu: &mut Cpu, bus: &mut Bus, gate: &Gate, to: u8, bytes: u64) -> Result<Stack, Stop> {
    let (selector, pointer) = (cpu.seg[SS].selector as u64, cpu.regs[RSP]);
    if cpu.long_mode() {
        let inner = cpu.task_stack_64(bus, to)?;
        let mut stack = Stack::of_pointer(cpu, Segment::null_stack(to as u16), inner, to);
        stack.push(cpu, bus, bytes, selector)?;
        stack.push(cpu, bus, bytes, pointer)?;
        return Ok(stack);
    }
    let (inner_selector, inner) = cpu.task_stack(bus, to)?;
    let segment = cpu.stack_segment(bus, inner_selector, to, vector::INVALID_TSS)?;
    let mut stack = Stack::of_segment(cpu, segment, inner, to);
    stack.push(cpu, bus, bytes, selector)?;
    stack.push(cpu, bus, bytes, pointer)?;
    for parameter in (0..gate.parameters as u64).rev() {
        let mut outer = Stack::current(cpu);
        outer.skip(parameter * bytes);
        let value = outer.pop(cpu, bus, bytes)?;
        stack.push(cpu, bus, bytes, value)?;
    }
    Ok(stack)
}

/// RETF, with `imm` bytes of parameters to release.
fn far_return<T: Int>(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn) -> Done {
    let release = insn.imm & 0xffff;
    let mut stack = Stack::current(cpu);
    let ip = stack.pop(cpu, bus, T::BYTES)?;
    let selector = stack.pop(cpu, bus, T::BYTES)? as u16;
    if cpu.paragraphs() {
        let code = cpu.paragraph(CS, selector);
        cpu.check_target(&code, ip)?;
        stack.skip(release);
        stack.commit(cpu);
        cpu.seg[CS] = code;
        cpu.rip = ip;
        cpu.update_mode();
        return Ok(());
    }
    let mut code = return_target(cpu, bus, selector)?;
    let leave = Leave {
        to: rpl(selector),
        code: code.segment(),
        ip,
        interrupt: false,
    };
    stack.skip(release);
    if rpl(selector) == cpu.cpl {
        cpu.check_target(&leave.code, ip)?;
        cpu.mark_accessed(bus, &mut code)?;
        cpu.shadow_leave(bus, &leave)?;
        stack.commit(cpu);
        enter(cpu, code.segment(), cpu.cpl, ip);
        return Ok(());
    }
    let pointer = stack.pop(cpu, bus, T::BYTES)?;
    let stack_selector = stack.pop(cpu, bus, T::BYTES)? as u16;
    let mut outer = outer_stack(cpu, bus, &leave, stack_selector, pointer)?;
    cpu.mark_accessed(bus, &mut code)?;
    outer.skip(release);
    cpu.shadow_leave(bus, &leave)?;
    outer.commit(cpu);
    enter_outer(cpu, code.segment(), rpl(selector), ip);
    Ok(())
}

/// The code segment that RETF or IRET goes back to, at the selector's RPL. Once the stack is good too, the caller holds
/// the instruction pointer against it, and marks it accessed.
fn return_target(cpu: &mut Cpu, bus: &mut Bus, selector: u16) -> Result<Descriptor, Stop> {
    if is_null(selector) {
        return Err(cpu.general_protection(0));
    }
    let code = cpu.descriptor(bus, selector, vector::GENERAL_PROTECTION)?;
    let (rights, level) = (code.rights(), rpl(selector));
    let privileged = if rights.is_conforming() {
        rights.dpl() > level
    } else {
        rights.dpl() != level
    };
    if !rights.is_code() || level < cpu.cpl || privileged {
        return Err(cpu.general_protection(code.error_code()));
    }
    cpu.check_code_segment(&code)?;
    Ok(code)
}

/// SS:RSP as RETF and IRET load it to `leave`; a null SS is for returns to 64-bit mode below level 3. Its descriptor
/// is marked accessed once the instruction pointer is good, too: nothing else can keep it from being loaded.
fn outer_stack(
    cpu: &mut Cpu,
    bus: &mut Bus,
    leave: &Leave,
    selector: u16,
    pointer: u64,
) -> Result<Stack, Stop> {
    let cpl = leave.to;
    let to_64 = cpu.long_mode() && leave.code.rights.long();
    let descriptor = if !is_null(selector) {
        Some(cpu.stack_descriptor(bus, selector, cpl, vector::GENERAL_PROTECTION)?)
    } else if to_64 && cpl < 3 && rpl(selector) == cpl {
        None
    } else {
        return Err(cpu.general_protection(0));
    };
    cpu.check_target(&leave.code, leave.ip)?;
    let segment = match descriptor {
        Some(mut descriptor) => {
            cpu.mark_accessed(bus, &mut descriptor)?;
            descriptor.segment()
        }
        None => Segment::null_stack(selector),
    };
    Ok(if to_64 {
        Stack::of_pointer(cpu, segment, pointer, cpl)
    } else {
        Stack::of_segment(cpu, segment, pointer, cpl)
    })
}

fn enter_outer(cpu: &mut Cpu, code: Segment, cpl: u8, ip: u64) {
    let outward = cpl > cpu.cpl;
    cpu.set_code_segment(code, cpl);
    if outward {
        cpu.drop_privileged_segments();
    }
    cpu.rip = ip;
    cpu.update_mode();
}

fn interrupt_return<T: Int>(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn) -> Done {
    if intercept::iret_unblocks_nmi(cpu) {
        cpu.nmi_blocked = false;
    }
    if !cpu.protected() {
        return return_to_paragraphs::<T>(cpu, bus);
    }
    if cpu.virtual_8086() {
        if cpu.flags.iopl() < 3 && (cpu.cr4 & CR4_VME == 0 || T::BYTES > 2) {
            return Err(cpu.general_protection(0));
        }
        return return_to_paragraphs::<T>(cpu, bus);
    }
    if cpu.flags.has(flags::NT) {
        if cpu.long_mode() {
            return Err(cpu.general_protection(0));
        }
        let next = cpu.next_ip(insn);
        let begun = task::back(cpu, bus, next, insn.length)?;
        cpu.first_fault = begun.map(|_| cpu.fault);
        return Ok(());
    }
    let mut stack = Stack::current(cpu);
    let ip = stack.pop(cpu, bus, T::BYTES)?;
    let selector = stack.pop(cpu, bus, T::BYTES)? as u16;
    let value = stack.pop(cpu, bus, T::BYTES)?;
    if T::BYTES == 4 && value & flags::VM != 0 && cpu.cpl == 0 && !cpu.long_mode() {
        return return_to_virtual_8086(cpu, bus, stack, ip, selector, value);
    }
    let mut code = return_target(cpu, bus, selector)?;
    let level = rpl(selector);
    let leave = Leave {
        to: level,
        code: code.segment(),
        ip,
        interrupt: true,
    };
    // 64-bit mode always pops a stack pointer, whatever the levels.
    if level != cpu.cpl || cpu.long64() {
        let pointer = stack.pop(cpu, bus, T::BYTES)?;
        let stack_selector = stack.pop(cpu, bus, T::BYTES)? as u16;
        stack = outer_stack(cpu, bus, &leave, stack_selector, pointer)?;
    } else {
        cpu.check_target(&leave.code, ip)?;
    }
    cpu.mark_accessed(bus, &mut code)?;
    cpu.shadow_leave(bus, &leave)?;
    stack.commit(cpu);
    let new = returned_flags::<T>(cpu, value);
    enter_outer(cpu, code.segment(), level, ip);
    cpu.set_flags(new);
    Ok(())
}

/// RFLAGS after IRET: what CPL, as it was, lets the popped value change.
fn returned_flags<T: Int>(cpu: &Cpu, popped: u64) -> u64 {
    use flags::*;
    let mut changed = ARITHMETIC | TF | DF | NT;
    if T::BYTES > 2 {
        changed |= RF | AC | ID;
    }
    if cpu.cpl <= cpu.flags.iopl() {
        changed |= IF;
    }
    if cpu.cpl == 0 {
        changed |= IOPL;
        if T::BYTES > 2 {
            changed |= VIF | VIP;
        }
    }
    cpu.flags.get() & !changed | popped & changed
}

/// IRET in real-address mode, and in virtual-8086 mode with IOPL 3 or, where VIF stands for IF, with CR4.VME.
fn return_to_paragraphs<T: Int>(cpu: &mut Cpu, bus: &mut Bus) -> Done {
    use flags::*;
    let mut stack = Stack::current(cpu);
    let ip = stack.pop(cpu, bus, T::BYTES)?;
    let selector = stack.pop(cpu, bus, T::BYTES)? as u16;
    let mut value = stack.pop(cpu, bus, T::BYTES)?;
    let code = cpu.paragraph(CS, selector);
    cpu.check_target(&code, ip)?;
    let mut changed = ARITHMETIC | TF | DF | NT;
    if cpu.virtual_8086() && cpu.flags.iopl() < 3 {
        if value & TF != 0 || value & IF != 0 && cpu.flags.has(VIP) {
            return Err(cpu.general_protection(0));
        }
        value = value & !VIF | if value & IF != 0 { VIF } else { 0 };
        changed |= VIF;
    } else {
        changed |= IF;
    }
    if !cpu.protected() {
        changed |= IOPL;
    }
    if T::BYTES > 2 {
        changed |= RF | AC | ID;
    }
    let new = cpu.flags.get() & !changed | value & changed;
    stack.commit(cpu);
    cpu.seg[CS] = code;
    cpu.rip = ip;
    cpu.set_flags(new);
    cpu.update_mode();
    Ok(())
}

/// IRET at CPL 0 that pops VM set (SDM vol. 3, 21.2.2).
fn return_to_virtual_8086(
    cpu: &mut Cpu,
    bus: &mut Bus,
    mut stack: Stack,
    ip: u64,
    selector: u16,
    value: u64,
) -> Done {
    if cpu.enforces_user() {
        return Err(cpu.general_protection(0));
    }
    let pointer = stack.pop(cpu, bus, 4)?;
    let mut selectors = [0; 5];
    for selector in &mut selectors {
        *selector = stack.pop(cpu, bus, 4)? as u16;
    }
    if ip > 0xffff {
        return Err(cpu.general_protection(0));
    }
    cpu.shadow_leave_to_virtual_8086(bus)?;
    for (index, selector) in [SS, ES, DS, FS, GS].into_iter().zip(selectors) {
        cpu.seg[index] = Segment::virtual_8086(selector);
    }
    cpu.seg[CS] = Segment::virtual_8086(selector);
    cpu.regs[RSP] = pointer;
    cpu.rip = ip;
    cpu.cpl = 3;
    cpu.set_flags(value);
    cpu.update_mode();
    Ok(())
}

fn select_far<const CALL: bool>(form: &Form) -> Option<Handler> {
    Some(match form.code {
        Code::Jmp_ptr1616 | Code::Call_ptr1616 => direct::<u16, CALL>,
        Code::Jmp_ptr1632 | Code::Call_ptr1632 => direct::<u32, CALL>,
        Code::Jmp_m1616 | Code::Call_m1616 => indirect::<u16, CALL>,
        Code::Jmp_m1632 | Code::Call_m1632 => indirect::<u32, CALL>,
        Code::Jmp_m1664 | Code::Call_m1664 => indirect::<u64, CALL>,
        _ => return None,
    })
}

fn select_return(form: &Form) -> Option<Handler> {
    debug_assert!(matches!(form.operands[0], Operand::None | Operand::Immediate));
    Some(match form.code {
        Code::Retfw | Code::Retfw_imm16 => far_return::<u16>,
        Code::Retfd | Code::Retfd_imm16 => far_return::<u32>,
        _ => far_return::<u64>,
    })
}

pub static ROWS: Group = &[
    (Mn::Jmp, select_far::<false>, Flow::AloneBranch),
    (Mn::Call, select_far::<true>, Flow::AloneBranch),
    (Mn::Retf, select_return, Flow::AloneBranch),
    (Mn::Iret, |_| Some(interrupt_return::<u16>), Flow::AloneBranch),
    (Mn::Iretd, |_| Some(interrupt_return::<u32>), Flow::AloneBranch),
    (Mn::Iretq, |_| Some(interrupt_return::<u64>), Flow::AloneBranch),
];
