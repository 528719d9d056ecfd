//! Segment registers and descriptor tables: loads, stores, and the instructions that look at descriptors.

use iced_x86::{Code, Mnemonic as Mn};

use crate::cpu::bits::*;
use crate::cpu::decode::{Flow, Form, Group, Operand};
use crate::cpu::descriptor::{error_code, is_null, rpl, system, Descriptor};
use crate::cpu::exception::vector;
use crate::cpu::insn::{Handler, Insn, Place, Source, M, R0, R1};
use crate::cpu::int::Int;
use crate::cpu::segment::{Segment, TableRegister, DS, ES, FS, GS, LDTR, SS, TR};
use crate::cpu::{Cpu, Done, Shadow, Stop, RSP};
use crate::platform::Bus;
use crate::vmx::intercept::{self, Table};

// MOV, PUSH, POP, LDS …

fn mov_to_segment<S: Source>(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn) -> Done {
    let selector = S::read(cpu, bus, insn)?;
    let index = insn.r[0] as usize & 7;
    cpu.load_segment(bus, index, selector)?;
    shadow_after(cpu, index);
    Ok(())
}

/// A load of SS by MOV or POP holds interrupts and debug exceptions back for one instruction (SDM vol. 3, 6.8.3).
fn shadow_after(cpu: &mut Cpu, index: usize) {
    if index == SS {
        cpu.shadow = Shadow::MovSs;
        cpu.no_trap = true;
    }
}

/// To a register in its full size; to memory 16 bits, see below.
fn mov_from_segment<T: Int>(cpu: &mut Cpu, _: &mut Bus, insn: &Insn) -> Done {
    let selector = cpu.seg[insn.r[1] as usize & 7].selector;
    cpu.set_reg(insn.r[0], T::from_u64(selector as u64));
    Ok(())
}

fn mov_segment_to_memory(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn) -> Done {
    M::write(cpu, bus, insn, cpu.seg[insn.r[0] as usize & 7].selector)
}

fn select_mov(form: &Form) -> Option<Handler> {
    match (form.operands[0], form.operands[1]) {
        (Operand::Segment, _) if form.insn.op0_register() == iced_x86::Register::CS => None,
        (Operand::Segment, Operand::Gpr(_)) => Some(mov_to_segment::<R1>),
        (Operand::Segment, Operand::Memory(_)) => Some(mov_to_segment::<M>),
        (Operand::Gpr(bytes), Operand::Segment) => by_wide_size!(bytes, T => mov_from_segment::<T>),
        (Operand::Memory(_), Operand::Segment) => Some(mov_segment_to_memory),
        _ => None,
    }
}

/// Only 16 bits are written, whatever the stack pointer goes down by (SDM vol. 2, PUSH).
fn push_segment<T: Int>(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn) -> Done {
    let selector = cpu.seg[insn.r[0] as usize & 7].selector;
    if T::BYTES == 8 {
        return cpu.push(bus, selector as u64);
    }
    let mask = cpu.stack_mask();
    let top = cpu.regs[RSP].wrapping_sub(T::BYTES);
    cpu.write(bus, SS as u8, top & mask, selector)?;
    cpu.release_stack(0u64.wrapping_sub(T::BYTES));
    Ok(())
}

fn pop_segment<T: Int>(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn) -> Done {
    let mask = cpu.stack_mask();
    let selector = cpu.read::<u16>(bus, SS as u8, cpu.regs[RSP] & mask)?;
    let index = insn.r[0] as usize & 7;
    // The size of the stack pointer is that of before, should SS.B change.
    let pointer = cpu.regs[RSP];
    cpu.load_segment(bus, index, selector)?;
    cpu.regs[RSP] = pointer & !mask | pointer.wrapping_add(T::BYTES) & mask;
    shadow_after(cpu, index);
    Ok(())
}

fn select_push(form: &Form) -> Option<Handler> {
    let bytes = -form.insn.stack_pointer_increment();
    match form.operands[0] {
        Operand::Segment => by_wide_size!(bytes, T => push_segment::<T>),
        _ => None,
    }
}

fn select_pop(form: &Form) -> Option<Handler> {
    let bytes = form.insn.stack_pointer_increment();
    match form.operands[0] {
        Operand::Segment => by_wide_size!(bytes, T => pop_segment::<T>),
        _ => None,
    }
}

/// LDS, LES, LFS, LGS, LSS.
fn load_far<T: Int, const SEGMENT: usize>(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn) -> Done {
    let (offset, selector) = far_pointer::<T>(cpu, bus, insn)?;
    cpu.load_segment(bus, SEGMENT, selector)?;
    cpu.set_reg(insn.r[0], offset);
    Ok(())
}

/// A far pointer in memory: the offset, then the selector.
pub fn far_pointer<T: Int>(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn) -> Result<(T, u16), Stop> {
    let ea = cpu.ea(insn);
    let offset = cpu.read(bus, insn.seg, ea)?;
    let selector = cpu.read(bus, insn.seg, ea.wrapping_add(T::BYTES) & insn.address_mask())?;
    Ok((offset, selector))
}

fn select_load_far<const SEGMENT: usize>(form: &Form) -> Option<Handler> {
    match form.operands[0] {
        Operand::Gpr(bytes) => by_wide_size!(bytes, T => load_far::<T, SEGMENT>),
        _ => None,
    }
}

// GDTR, IDTR.

/// UMIP: SGDT, SIDT, SLDT, SMSW and STR are for CPL 0.
pub fn check_umip(cpu: &mut Cpu) -> Done {
    if cpu.cpl != 0 && cpu.cr4 & CR4_UMIP != 0 {
        return Err(cpu.general_protection(0));
    }
    Ok(())
}

fn store_table<const IDT: bool>(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn) -> Done {
    check_umip(cpu)?;
    intercept::descriptor_table(cpu, insn, if IDT { Table::Sidt } else { Table::Sgdt })?;
    let table = if IDT { cpu.idtr } else { cpu.gdtr };
    let (ea, size) = (cpu.ea(insn), if cpu.long64() { 10 } else { 6 });
    cpu.probe_unaligned(bus, insn.seg, ea, size)?;
    // A word and what follows it, each with its own alignment (SDM vol. 3, 3.5.1).
    let base = ea.wrapping_add(2) & insn.address_mask();
    if size == 10 {
        cpu.probe_write(bus, insn.seg, base, 8)?;
        cpu.write(bus, insn.seg, ea, table.limit)?;
        return cpu.write(bus, insn.seg, base, table.base);
    }
    cpu.probe_write(bus, insn.seg, base, 4)?;
    cpu.write(bus, insn.seg, ea, table.limit)?;
    cpu.write(bus, insn.seg, base, table.base as u32)
}

fn load_table<const IDT: bool>(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn) -> Done {
    if cpu.cpl != 0 {
        return Err(cpu.general_protection(0));
    }
    intercept::descriptor_table(cpu, insn, if IDT { Table::Lidt } else { Table::Lgdt })?;
    let ea = cpu.ea(insn);
    let mut image = [0; 10];
    if cpu.long64() {
        image = cpu.read_bytes(bus, insn.seg, ea, false)?;
    } else {
        let short: [u8; 6] = cpu.read_bytes(bus, insn.seg, ea, false)?;
        image[..6].copy_from_slice(&short);
    }
    let limit = u16::from_le_bytes([image[0], image[1]]);
    let mut base = [0; 8];
    base.copy_from_slice(&image[2..]);
    let mut base = u64::from_le_bytes(base);
    if matches!(
        Code::try_from(insn.code as usize),
        Ok(Code::Lgdt_m1632_16 | Code::Lidt_m1632_16)
    ) {
        base &= 0x00ff_ffff;
    }
    if cpu.long64() && !cpu.canonical_base(base) {
        return Err(cpu.general_protection(0));
    }
    let table = TableRegister { base, limit };
    if IDT {
        cpu.idtr = table;
    } else {
        cpu.gdtr = table;
    }
    Ok(())
}

// LDTR, TR.

/// What is #UD in real-address and virtual-8086 mode.
fn check_protected(cpu: &mut Cpu) -> Done {
    if cpu.paragraphs() {
        return Err(cpu.invalid_opcode());
    }
    Ok(())
}

fn store_selector<T: Int, D: Place, const INDEX: usize>(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn) -> Done {
    check_protected(cpu)?;
    check_umip(cpu)?;
    let which = if INDEX == TR { Table::Str } else { Table::Sldt };
    intercept::descriptor_table(cpu, insn, which)?;
    D::write(cpu, bus, insn, T::from_u64(cpu.seg[INDEX].selector as u64))
}

fn select_store_selector<const INDEX: usize>(form: &Form) -> Option<Handler> {
    match form.operands[0] {
        Operand::Gpr(bytes) => by_wide_size!(bytes, T => store_selector::<T, R0, INDEX>),
        Operand::Memory(_) => Some(store_selector::<u16, M, INDEX>),
        _ => None,
    }
}

/// LLDT and LTR: a system descriptor of the GDT, of 16 bytes in IA-32e mode.
fn load_selector<S: Source, const INDEX: usize>(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn) -> Done {
    check_protected(cpu)?;
    if cpu.cpl != 0 {
        return Err(cpu.general_protection(0));
    }
    let which = if INDEX == TR { Table::Ltr } else { Table::Lldt };
    intercept::descriptor_table(cpu, insn, which)?;
    let selector: u16 = S::read(cpu, bus, insn)?;
    if is_null(selector) {
        if INDEX == TR {
            return Err(cpu.general_protection(0));
        }
        cpu.seg[LDTR] = Segment::unusable(selector);
        return Ok(());
    }
    if selector & 4 != 0 {
        return Err(cpu.general_protection(error_code(selector)));
    }
    let mut descriptor = cpu.descriptor(bus, selector, vector::GENERAL_PROTECTION)?;
    let good = match descriptor.system() {
        Some(system::LDT) => INDEX == LDTR,
        Some(system::TSS32) => INDEX == TR,
        Some(system::TSS16) => INDEX == TR && !cpu.long_mode(),
        _ => false,
    };
    if !good {
        return Err(cpu.general_protection(error_code(selector)));
    }
    if !descriptor.present() {
        return Err(cpu.segment_not_present(error_code(selector)));
    }
    let mut base = descriptor.segment().base;
    if cpu.long_mode() {
        base |= upper_base(cpu, bus, &descriptor)?;
    }
    if INDEX == TR {
        cpu.mark_busy(bus, &mut descriptor, true)?;
    }
    cpu.seg[INDEX] = Segment {
        base,
        ..descriptor.segment()
    };
    Ok(())
}

/// The upper half of the base in a 16-byte descriptor, whose type must be 0 (SDM vol. 3, 3.5.2).
fn upper_base(cpu: &mut Cpu, bus: &mut Bus, descriptor: &Descriptor) -> Result<u64, Stop> {
    let base = match cpu.upper_half(bus, descriptor)? {
        Some(upper) if upper >> 40 & 31 == 0 => upper << 32,
        _ => return Err(cpu.general_protection(descriptor.error_code())),
    };
    if !cpu.canonical_base(base | descriptor.segment().base) {
        return Err(cpu.general_protection(descriptor.error_code()));
    }
    Ok(base)
}

fn select_load_selector<const INDEX: usize>(form: &Form) -> Option<Handler> {
    Some(if form.has_memory() {
        load_selector::<M, INDEX>
    } else {
        load_selector::<R0, INDEX>
    })
}

// Looking at descriptors: ZF says whether the selector names one that the program may see.

/// What LAR, LSL, VERR and VERW have in common: the descriptor, if it is within reach.
fn visible(cpu: &mut Cpu, bus: &mut Bus, selector: u16) -> Result<Option<Descriptor>, Stop> {
    if is_null(selector) {
        return Ok(None);
    }
    let Some(descriptor) = cpu.find_descriptor(bus, selector)? else {
        return Ok(None);
    };
    let rights = descriptor.rights();
    let reachable = rights.is_conforming() || rights.dpl() >= cpu.cpl.max(rpl(selector));
    Ok(reachable.then_some(descriptor))
}

fn load_access_rights<T: Int, S: Source>(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn) -> Done {
    look_up::<T, S>(cpu, bus, insn, |cpu, descriptor| {
        let known = match descriptor.system() {
            None => true,
            Some(system::LDT | system::TSS32 | system::TSS32_BUSY | system::CALL_GATE32) => true,
            Some(system::TSS16 | system::TSS16_BUSY | system::CALL_GATE16 | system::TASK_GATE) => {
                !cpu.long_mode()
            }
            Some(_) => false,
        };
        known.then(|| descriptor.high() & 0x00ff_ff00)
    })
}

fn load_limit<T: Int, S: Source>(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn) -> Done {
    look_up::<T, S>(cpu, bus, insn, |cpu, descriptor| {
        let known = match descriptor.system() {
            None => true,
            Some(system::LDT | system::TSS32 | system::TSS32_BUSY) => true,
            Some(system::TSS16 | system::TSS16_BUSY) => !cpu.long_mode(),
            Some(_) => false,
        };
        known.then(|| descriptor.segment().limit)
    })
}

fn look_up<T: Int, S: Source>(
    cpu: &mut Cpu,
    bus: &mut Bus,
    insn: &Insn,
    what: impl FnOnce(&Cpu, &Descriptor) -> Option<u32>,
) -> Done {
    check_protected(cpu)?;
    let selector = S::read(cpu, bus, insn)?;
    let value = visible(cpu, bus, selector)?.and_then(|descriptor| what(cpu, &descriptor));
    if let Some(value) = value {
        cpu.set_reg(insn.r[0], T::from_u64(value as u64));
    }
    cpu.flags.set_zero(value.is_some());
    Ok(())
}

fn verify<S: Source, const WRITE: bool>(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn) -> Done {
    check_protected(cpu)?;
    let selector = S::read(cpu, bus, insn)?;
    let good = visible(cpu, bus, selector)?.is_some_and(|descriptor| {
        if WRITE {
            descriptor.rights().is_writable()
        } else {
            descriptor.rights().is_readable()
        }
    });
    cpu.flags.set_zero(good);
    Ok(())
}

fn adjust_rpl<D: Place, S: Source>(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn) -> Done {
    check_protected(cpu)?;
    let least = S::read::<u16>(cpu, bus, insn)? & 3;
    let selector = D::read::<u16>(cpu, bus, insn)?;
    let raised = selector & 3 < least;
    // What stays as it is may lie where nothing can be written.
    if raised {
        D::write(cpu, bus, insn, selector & !3 | least)?;
    }
    cpu.flags.set_zero(raised);
    Ok(())
}

macro_rules! look_up {
    ($handler:ident) => {
        |form| match (form.operands[0], form.has_memory()) {
            (Operand::Gpr(bytes), true) => by_wide_size!(bytes, T => $handler::<T, M>),
            (Operand::Gpr(bytes), false) => by_wide_size!(bytes, T => $handler::<T, R1>),
            _ => None,
        }
    };
}

fn select_verify<const WRITE: bool>(form: &Form) -> Option<Handler> {
    Some(if form.has_memory() {
        verify::<M, WRITE>
    } else {
        verify::<R0, WRITE>
    })
}

fn select_arpl(form: &Form) -> Option<Handler> {
    Some(if form.has_memory() {
        adjust_rpl::<M, R0>
    } else {
        adjust_rpl::<R0, R1>
    })
}

// FS and GS bases.

fn swap_gs(cpu: &mut Cpu, _: &mut Bus, _: &Insn) -> Done {
    if cpu.cpl != 0 {
        return Err(cpu.general_protection(0));
    }
    std::mem::swap(&mut cpu.seg[GS].base, &mut cpu.msr.kernel_gs_base);
    cpu.update_window(GS);
    Ok(())
}

fn check_fsgsbase(cpu: &mut Cpu) -> Done {
    if cpu.cr4 & CR4_FSGSBASE == 0 {
        return Err(cpu.invalid_opcode());
    }
    Ok(())
}

fn read_base<T: Int, const INDEX: usize>(cpu: &mut Cpu, _: &mut Bus, insn: &Insn) -> Done {
    check_fsgsbase(cpu)?;
    cpu.set_reg(insn.r[0], T::from_u64(cpu.seg[INDEX].base));
    Ok(())
}

fn write_base<T: Int, const INDEX: usize>(cpu: &mut Cpu, _: &mut Bus, insn: &Insn) -> Done {
    check_fsgsbase(cpu)?;
    let base = cpu.reg::<T>(insn.r[0]).to_u64();
    if !cpu.canonical(base) {
        return Err(cpu.general_protection(0));
    }
    cpu.seg[INDEX].base = base;
    cpu.update_window(INDEX);
    Ok(())
}

macro_rules! base {
    ($handler:ident, $index:ident) => {
        |form| match form.operands[0] {
            Operand::Gpr(bytes) => by_wide_size!(bytes, T => $handler::<T, $index>),
            _ => None,
        }
    };
}

pub static ROWS: Group = &[
    (Mn::Mov, select_mov, Flow::Next),
    (Mn::Push, select_push, Flow::Next),
    (Mn::Pop, select_pop, Flow::Next),
    (Mn::Les, select_load_far::<ES>, Flow::Next),
    (Mn::Lds, select_load_far::<DS>, Flow::Next),
    (Mn::Lss, select_load_far::<SS>, Flow::Next),
    (Mn::Lfs, select_load_far::<FS>, Flow::Next),
    (Mn::Lgs, select_load_far::<GS>, Flow::Next),
    (Mn::Sgdt, |_| Some(store_table::<false>), Flow::Next),
    (Mn::Sidt, |_| Some(store_table::<true>), Flow::Next),
    (Mn::Lgdt, |_| Some(load_table::<false>), Flow::Next),
    (Mn::Lidt, |_| Some(load_table::<true>), Flow::Next),
    (Mn::Sldt, select_store_selector::<LDTR>, Flow::Next),
    (Mn::Str, select_store_selector::<TR>, Flow::Next),
    (Mn::Lldt, select_load_selector::<LDTR>, Flow::Next),
    (Mn::Ltr, select_load_selector::<TR>, Flow::Next),
    (Mn::Lar, look_up!(load_access_rights), Flow::Next),
    (Mn::Lsl, look_up!(load_limit), Flow::Next),
    (Mn::Verr, select_verify::<false>, Flow::Next),
    (Mn::Verw, select_verify::<true>, Flow::Next),
    (Mn::Arpl, select_arpl, Flow::Next),
    (Mn::Swapgs, |_| Some(swap_gs), Flow::Next),
    (Mn::Rdfsbase, base!(read_base, FS), Flow::Next),
    (Mn::Rdgsbase, base!(read_base, GS), Flow::Next),
    (Mn::Wrfsbase, base!(write_base, FS), Flow::Next),
    (Mn::Wrgsbase, base!(write_base, GS), Flow::Next),
];
