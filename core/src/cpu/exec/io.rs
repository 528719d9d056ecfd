//! Port I/O: IN, OUT, INS, OUTS.

use iced_x86::Mnemonic as Mn;

use crate::cpu::decode::{Flow, Form, Group, Operand};
use crate::cpu::insn::{flag, Handler, Insn};
use crate::cpu::int::Int;
use crate::cpu::segment::{ES, TR};
use crate::cpu::{Cpu, Done, Stop, RCX, RDI, RDX, RSI};
use crate::platform::Bus;
use crate::vmx::intercept::{self, Io};

/// Where a 32-bit TSS says where its I/O permission bitmap begins; a smaller TSS has none.
const BITMAP_POINTER: u64 = 0x66;
const SMALLEST_TSS: u32 = 0x67;

/// Above IOPL, and always in virtual-8086 mode, the TSS's bitmap decides (SDM vol. 1, 19.5.2).
fn check_port(cpu: &mut Cpu, bus: &mut Bus, port: u16, bytes: u8) -> Done {
    if !cpu.protected() || !cpu.virtual_8086() && cpu.cpl <= cpu.flags.iopl() {
        return Ok(());
    }
    let tss = cpu.seg[TR];
    let wide = tss.rights.usable() && tss.rights.kind() & 8 != 0;
    if !wide || tss.limit < SMALLEST_TSS {
        return Err(cpu.general_protection(0));
    }
    let bitmap: u16 = cpu.read_table(bus, tss.base, BITMAP_POINTER)?;
    let at = bitmap as u64 + (port >> 3) as u64;
    // Two bytes are read, or the last ports of a byte could not be used in one access.
    if at + 1 > tss.limit as u64 {
        return Err(cpu.general_protection(0));
    }
    let bits: u16 = cpu.read_table(bus, tss.base, at)?;
    let wanted = ((1u16 << bytes) - 1) << (port & 7);
    if bits & wanted != 0 {
        return Err(cpu.general_protection(0));
    }
    Ok(())
}

fn access<T: Int>(
    cpu: &mut Cpu,
    bus: &mut Bus,
    insn: &Insn,
    port: Port,
    input: bool,
    string: Option<u64>,
) -> Done {
    let bytes = T::BYTES as u8;
    check_port(cpu, bus, port.number, bytes)?;
    let access = Io {
        port: port.number,
        bytes,
        input,
        rep: repeated(insn),
        immediate: port.immediate,
        string,
    };
    intercept::io(cpu, bus, insn, access)
}

#[derive(Clone, Copy)]
struct Port {
    number: u16,
    immediate: bool,
}

fn port<const IMMEDIATE: bool>(cpu: &Cpu, insn: &Insn) -> Port {
    Port {
        number: if IMMEDIATE {
            (insn.imm & 0xff) as u16
        } else {
            cpu.regs[RDX] as u16
        },
        immediate: IMMEDIATE,
    }
}

fn input<T: Int, const IMMEDIATE: bool>(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn) -> Done {
    let port = port::<IMMEDIATE>(cpu, insn);
    access::<T>(cpu, bus, insn, port, true, None)?;
    let value = bus.io_read(cpu.id, port.number, T::BYTES as u8);
    cpu.note_port_access(port.number, T::BYTES);
    cpu.set_reg(insn.r[0], T::from_u64(value as u64));
    Ok(())
}

fn output<T: Int, const IMMEDIATE: bool>(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn) -> Done {
    let port = port::<IMMEDIATE>(cpu, insn);
    access::<T>(cpu, bus, insn, port, false, None)?;
    let value = cpu.reg::<T>(crate::cpu::RAX as u8).to_u64() as u32;
    bus.io_write(cpu.id, port.number, T::BYTES as u8, value);
    cpu.note_port_access(port.number, T::BYTES);
    Ok(())
}

fn repeated(insn: &Insn) -> bool {
    insn.has(flag::REP | flag::REPNE)
}

/// One step of a string instruction: nothing where it repeats 0 times, once more while the count is not used up.
fn string(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn, step: impl FnOnce(&mut Cpu, &mut Bus) -> Done) -> Done {
    if !repeated(insn) {
        return step(cpu, bus);
    }
    let mask = insn.address_mask();
    let count = cpu.regs[RCX] & mask;
    if count == 0 {
        return Ok(());
    }
    step(cpu, bus)?;
    advance(cpu, RCX, mask, !0);
    if count > 1 {
        return Err(Stop::Again);
    }
    Ok(())
}

/// Adds to a register as an address of the instruction's size.
fn advance(cpu: &mut Cpu, register: usize, mask: u64, by: u64) {
    let sum = cpu.regs[register].wrapping_add(by);
    cpu.regs[register] = match mask {
        0xffff => cpu.regs[register] & !mask | sum & mask,
        _ => sum & mask,
    };
}

fn stride<T: Int>(cpu: &Cpu) -> u64 {
    if cpu.downwards() {
        T::BYTES.wrapping_neg()
    } else {
        T::BYTES
    }
}

fn input_string<T: Int>(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn) -> Done {
    string(cpu, bus, insn, |cpu, bus| {
        let port = port::<false>(cpu, insn);
        let mask = insn.address_mask();
        let ea = cpu.regs[RDI] & mask;
        let linear = ea.wrapping_add(cpu.window[ES].base) & cpu.linear_mask;
        access::<T>(cpu, bus, insn, port, true, Some(linear))?;
        // The device is asked only when there is a place for the answer.
        cpu.probe_write(bus, ES as u8, ea, T::BYTES)?;
        let value = bus.io_read(cpu.id, port.number, T::BYTES as u8);
        cpu.note_port_access(port.number, T::BYTES);
        cpu.write(bus, ES as u8, ea, T::from_u64(value as u64))?;
        advance(cpu, RDI, mask, stride::<T>(cpu));
        Ok(())
    })
}

fn output_string<T: Int>(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn) -> Done {
    string(cpu, bus, insn, |cpu, bus| {
        let port = port::<false>(cpu, insn);
        let mask = insn.address_mask();
        let ea = cpu.regs[RSI] & mask;
        let linear = ea.wrapping_add(cpu.window[insn.seg as usize & 7].base) & cpu.linear_mask;
        access::<T>(cpu, bus, insn, port, false, Some(linear))?;
        let value = cpu.read::<T>(bus, insn.seg, ea)?;
        bus.io_write(cpu.id, port.number, T::BYTES as u8, value.to_u64() as u32);
        cpu.note_port_access(port.number, T::BYTES);
        advance(cpu, RSI, mask, stride::<T>(cpu));
        Ok(())
    })
}

fn select_in(form: &Form) -> Option<Handler> {
    match (form.operands[0], form.operands[1]) {
        (Operand::Gpr(bytes), Operand::Immediate) => by_size!(bytes, T => input::<T, true>),
        (Operand::Gpr(bytes), _) => by_size!(bytes, T => input::<T, false>),
        _ => None,
    }
}

fn select_out(form: &Form) -> Option<Handler> {
    match (form.operands[0], form.operands[1]) {
        (Operand::Immediate, Operand::Gpr(bytes)) => by_size!(bytes, T => output::<T, true>),
        (_, Operand::Gpr(bytes)) => by_size!(bytes, T => output::<T, false>),
        _ => None,
    }
}

pub static ROWS: Group = &[
    (Mn::In, select_in, Flow::Alone),
    (Mn::Out, select_out, Flow::Alone),
    (Mn::Insb, |_| Some(input_string::<u8>), Flow::Alone),
    (Mn::Insw, |_| Some(input_string::<u16>), Flow::Alone),
    (Mn::Insd, |_| Some(input_string::<u32>), Flow::Alone),
    (Mn::Outsb, |_| Some(output_string::<u8>), Flow::Alone),
    (Mn::Outsw, |_| Some(output_string::<u16>), Flow::Alone),
    (Mn::Outsd, |_| Some(output_string::<u32>), Flow::Alone),
];
