//! Hardware task switches (SDM vol. 3, chapter 7): outside IA-32e mode only.

use super::bits::CR0_PG;
use super::debug_registers::DR6_TASK_SWITCH;
use super::descriptor::{error_code, is_null, rpl, system, Descriptor};
use super::exception::vector;
use super::segment::{Segment, CS, DS, ES, FS, GS, LDTR, SS, TR};
use super::stack::Stack;
use super::{bits, flags, Cpu, Done, Stop};
use crate::platform::Bus;
use crate::vmx::intercept::{self, TaskSwitch};

/// L0 to L3 of DR7, which belong to a task.
const DR7_LOCAL: u64 = 0x55;

/// Where a TSS keeps what. Offsets in bytes; registers are EAX to EDI, segments ES, CS, SS, DS and, in the 32-bit
/// format, FS and GS.
struct Layout {
    /// Of an entry, in bytes.
    width: u64,
    smallest_limit: u32,
    ip: u64,
    flags: u64,
    registers: u64,
    segments: u64,
    segment_count: u64,
    ldt: u64,
}

static LAYOUT16: Layout = Layout {
    width: 2,
    smallest_limit: 0x2b,
    ip: 0xe,
    flags: 0x10,
    registers: 0x12,
    segments: 0x22,
    segment_count: 4,
    ldt: 0x2a,
};
static LAYOUT32: Layout = Layout {
    width: 4,
    smallest_limit: 0x67,
    ip: 0x20,
    flags: 0x24,
    registers: 0x28,
    segments: 0x48,
    segment_count: 6,
    ldt: 0x60,
};
/// In the 32-bit format only: CR3, the T flag, and with CR4.CET the shadow-stack pointer.
const CR3_AT: u64 = 0x1c;
const TRAP_AT: u64 = 0x64;
const SSP_AT: u64 = 0x68;

fn layout(kind: u32) -> &'static Layout {
    if kind & 8 != 0 {
        &LAYOUT32
    } else {
        &LAYOUT16
    }
}

/// The state of the task to come, as its TSS has it.
struct Image {
    cr3: Option<u64>,
    ip: u64,
    flags: u64,
    registers: [u64; 8],
    segments: [u16; 6],
    ldt: u16,
    trap: bool,
    ssp: u64,
}

impl Image {
    fn level(&self) -> u8 {
        if self.flags & flags::VM != 0 {
            3
        } else {
            rpl(self.segments[1])
        }
    }
}

/// The segment registers in the TSS's order.
const ORDER: [usize; 6] = [ES, CS, SS, DS, FS, GS];

/// A task gate's TSS, or the one that a far JMP or CALL names: to be in the GDT, and available.
pub fn find(cpu: &mut Cpu, bus: &mut Bus, selector: u16) -> Result<Descriptor, Stop> {
    tss(cpu, bus, selector, false, vector::GENERAL_PROTECTION)
}

fn tss(cpu: &mut Cpu, bus: &mut Bus, selector: u16, busy: bool, bad: u8) -> Result<Descriptor, Stop> {
    if is_null(selector) || selector & 4 != 0 {
        return Err(cpu.raise(bad, Some(error_code(selector)), 0));
    }
    let descriptor = cpu.descriptor(bus, selector, bad)?;
    let good = match descriptor.system() {
        Some(system::TSS16 | system::TSS32) => !busy,
        Some(system::TSS16_BUSY | system::TSS32_BUSY) => busy,
        _ => false,
    };
    if !good {
        return Err(cpu.raise(bad, Some(error_code(selector)), 0));
    }
    if !descriptor.present() {
        return Err(cpu.segment_not_present(error_code(selector)));
    }
    Ok(descriptor)
}

/// How the current task is left.
pub struct Departure {
    pub source: TaskSwitch,
    /// Where it goes on later.
    pub next_ip: u64,
    /// Of the instruction that leaves it, in bytes; 0 where none does.
    pub length: u8,
    /// What an exception pushes to the new task's stack.
    pub error_code: Option<u32>,
}

/// IRET with NT set: back to the task that the current TSS links to.
pub fn back(cpu: &mut Cpu, bus: &mut Bus, next_ip: u64, length: u8) -> Result<Option<Stop>, Stop> {
    let link: u16 = cpu.read_table(bus, cpu.seg[TR].base, 0)?;
    let descriptor = tss(cpu, bus, link, true, vector::INVALID_TSS)?;
    let departure = Departure {
        source: TaskSwitch::Iret,
        next_ip,
        length,
        error_code: None,
    };
    switch(cpu, bus, departure, descriptor)
}

/// Switches to the task of `descriptor`. `Ok(Some(_))`: the switch is done, and the new task begins with that fault.
pub fn switch(
    cpu: &mut Cpu,
    bus: &mut Bus,
    departure: Departure,
    mut descriptor: Descriptor,
) -> Result<Option<Stop>, Stop> {
    let source = departure.source;
    let target = descriptor.segment();
    let new = layout(target.rights.kind());
    if target.limit < new.smallest_limit {
        return Err(cpu.invalid_tss(descriptor.error_code()));
    }
    cpu.check_task_shadow(source, new.width == 4, target.limit, descriptor.selector)?;
    intercept::task_switch(cpu, source, descriptor.selector, departure.length)?;

    // What faults in it does so before the current task is saved; what it holds is read after that, as the two may be
    // one.
    let level = read(cpu, bus, new, &target)?.level();
    let shadow = cpu.task_shadow(bus, source, level, departure.next_ip)?;
    let mut old_flags = cpu.flags.get();
    if source == TaskSwitch::Iret {
        old_flags &= !flags::NT;
    }
    save(cpu, bus, departure.next_ip, old_flags)?;
    let mut image = read(cpu, bus, new, &target)?;
    let nested = matches!(source, TaskSwitch::Call | TaskSwitch::Gate);
    if nested {
        cpu.write_table(bus, target.base, 0, cpu.seg[TR].selector)?;
        image.flags |= flags::NT;
    } else {
        let selector = cpu.seg[TR].selector;
        let mut old = cpu.descriptor(bus, selector, vector::INVALID_TSS)?;
        cpu.mark_busy(bus, &mut old, false)?;
    }
    if source != TaskSwitch::Iret {
        cpu.mark_busy(bus, &mut descriptor, true)?;
    }
    cpu.leave_task_shadow(bus, &shadow)?;
    // From here on the new task runs: what fails now is its fault.
    cpu.seg[TR] = descriptor.segment();
    cpu.cr0 |= bits::CR0_TS;
    cpu.dr7 &= !DR7_LOCAL;
    let begun = load(cpu, bus, &image)
        .and_then(|()| cpu.enter_task_shadow(bus, source, shadow, image.ssp))
        .and_then(|()| begin(cpu, bus, &image, departure.error_code));
    if image.trap && begun.is_ok() {
        cpu.pending_debug |= DR6_TASK_SWITCH;
    }
    Ok(begun.err())
}

fn read(cpu: &mut Cpu, bus: &mut Bus, layout: &Layout, tss: &Segment) -> Result<Image, Stop> {
    let mut entry = |cpu: &mut Cpu, at: u64| -> Result<u64, Stop> {
        Ok(if layout.width == 4 {
            cpu.read_table::<u32>(bus, tss.base, at)? as u64
        } else {
            cpu.read_table::<u16>(bus, tss.base, at)? as u64
        })
    };
    let wide = layout.width == 4;
    let mut image = Image {
        cr3: None,
        ip: entry(cpu, layout.ip)?,
        flags: entry(cpu, layout.flags)?,
        registers: [0; 8],
        segments: [0; 6],
        ldt: entry(cpu, layout.ldt)? as u16,
        trap: wide && entry(cpu, TRAP_AT)? & 1 != 0,
        ssp: 0,
    };
    // A TSS of 16 bits changes the upper halves and does not say to what (SDM vol. 3, 7.6): to ones.
    let above = if wide { 0 } else { 0xffff_0000 };
    for (register, n) in image.registers.iter_mut().zip(0..) {
        *register = entry(cpu, layout.registers + n * layout.width)? | above;
    }
    for (segment, n) in image.segments.iter_mut().zip(0..layout.segment_count) {
        *segment = entry(cpu, layout.segments + n * layout.width)? as u16;
    }
    if wide && cpu.cr0 & CR0_PG != 0 {
        image.cr3 = Some(entry(cpu, CR3_AT)?);
    }
    if wide && cpu.cr4 & bits::CR4_CET != 0 {
        image.ssp = entry(cpu, SSP_AT)?;
    }
    Ok(image)
}

/// Saves what a task switch saves of the current task: not CR3 and LDTR.
fn save(cpu: &mut Cpu, bus: &mut Bus, ip: u64, flags: u64) -> Done {
    let tss = cpu.seg[TR];
    let layout = layout(tss.rights.kind());
    let mut entry = |cpu: &mut Cpu, at: u64, value: u64| {
        if layout.width == 4 {
            cpu.write_table(bus, tss.base, at, value as u32)
        } else {
            cpu.write_table(bus, tss.base, at, value as u16)
        }
    };
    entry(cpu, layout.ip, ip)?;
    entry(cpu, layout.flags, flags)?;
    for n in 0..8 {
        let value = cpu.regs[n as usize];
        entry(cpu, layout.registers + n * layout.width, value)?;
    }
    for (n, &index) in (0..layout.segment_count).zip(&ORDER) {
        let selector = cpu.seg[index].selector as u64;
        entry(cpu, layout.segments + n * layout.width, selector)?;
    }
    Ok(())
}

fn load(cpu: &mut Cpu, bus: &mut Bus, image: &Image) -> Done {
    cpu.rip = image.ip;
    cpu.flags.set(image.flags);
    cpu.regs[..8].copy_from_slice(&image.registers);
    for (&index, &selector) in ORDER.iter().zip(&image.segments) {
        cpu.seg[index] = Segment::unusable(selector);
    }
    cpu.seg[LDTR] = Segment::unusable(image.ldt);
    cpu.cpl = image.level();
    let done = load_segments(cpu, bus, image, image.flags & flags::VM != 0);
    cpu.update_mode();
    done
}

/// The error code comes before the look at the instruction pointer: SDM vol. 2, INT n, TASK-GATE.
fn begin(cpu: &mut Cpu, bus: &mut Bus, image: &Image, error_code: Option<u32>) -> Done {
    if let Some(code) = error_code {
        let wide = cpu.seg[TR].rights.kind() & 8 != 0;
        let mut stack = Stack::current(cpu);
        stack.push(cpu, bus, if wide { 4 } else { 2 }, code as u64)?;
        stack.commit(cpu);
    }
    if image.flags & flags::VM != 0 {
        return Ok(());
    }
    let code = cpu.seg[CS];
    cpu.check_target(&code, image.ip)
}

fn load_segments(cpu: &mut Cpu, bus: &mut Bus, image: &Image, virtual_8086: bool) -> Done {
    if let Some(cr3) = image.cr3 {
        cpu.write_cr3(bus, cr3)?;
    }
    if !is_null(image.ldt) {
        let good = match cpu.find_descriptor(bus, image.ldt)? {
            Some(ldt) if image.ldt & 4 == 0 && ldt.present() && ldt.system() == Some(system::LDT) => ldt,
            _ => return Err(cpu.invalid_tss(error_code(image.ldt))),
        };
        cpu.seg[LDTR] = good.segment();
    }
    if virtual_8086 {
        for (&index, &selector) in ORDER.iter().zip(&image.segments) {
            cpu.seg[index] = Segment::virtual_8086(selector);
        }
        return Ok(());
    }
    let [extra, code, stack, data, fs, gs] = image.segments;
    let code = code_segment(cpu, bus, code)?;
    let stack = cpu.stack_segment(bus, stack, cpu.cpl, vector::INVALID_TSS)?;
    cpu.seg[CS] = code;
    cpu.seg[SS] = stack;
    for (index, selector) in [(ES, extra), (DS, data), (FS, fs), (GS, gs)] {
        cpu.seg[index] = cpu.data_segment(bus, selector, vector::INVALID_TSS)?;
    }
    Ok(())
}

/// CS of the new task, which runs at its RPL.
fn code_segment(cpu: &mut Cpu, bus: &mut Bus, selector: u16) -> Result<Segment, Stop> {
    if is_null(selector) {
        return Err(cpu.invalid_tss(0));
    }
    let mut code = cpu.descriptor(bus, selector, vector::INVALID_TSS)?;
    let rights = code.rights();
    let level = rpl(selector);
    let fits = if rights.is_conforming() {
        rights.dpl() <= level
    } else {
        rights.dpl() == level
    };
    if !rights.is_code() || !fits {
        return Err(cpu.invalid_tss(error_code(selector)));
    }
    if !rights.present() {
        return Err(cpu.segment_not_present(error_code(selector)));
    }
    cpu.mark_accessed(bus, &mut code)?;
    Ok(code.segment())
}
