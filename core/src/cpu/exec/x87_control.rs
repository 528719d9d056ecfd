//! x87 control: its words, its environment and state in memory, the stack's pointer and tags.

use iced_x86::{Code, Mnemonic as Mn};

use super::x87::{wait, X87};
use crate::cpu::decode::{Flow, Form, Group, Operand};
use crate::cpu::insn::{Handler, Insn};
use crate::cpu::{Cpu, Done, RAX};
use crate::platform::Bus;

fn fninit(cpu: &mut Cpu, _: &mut Bus, _: &Insn) -> Done {
    cpu.check_x87()?;
    cpu.x87 = X87 {
        registers: cpu.x87.registers,
        ..X87::default()
    };
    Ok(())
}

fn fnclex(cpu: &mut Cpu, _: &mut Bus, _: &Insn) -> Done {
    cpu.check_x87()?;
    cpu.x87.clear_exceptions();
    Ok(())
}

fn fnop(cpu: &mut Cpu, _: &mut Bus, insn: &Insn) -> Done {
    cpu.check_x87_waiting()?;
    cpu.conclude_x87_keeping_c1(insn, &cpu.x87.environment());
    Ok(())
}

/// FNENI, FNDISI and FNSETPM meant something to the 8087 and 80287; since then they do nothing (SDM vol. 3, 23.18.5).
fn nothing(cpu: &mut Cpu, _: &mut Bus, _: &Insn) -> Done {
    cpu.check_x87()
}

fn fldcw(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn) -> Done {
    cpu.check_x87_waiting()?;
    let value = cpu.read(bus, insn.seg, cpu.ea(insn))?;
    cpu.x87.set_control(value);
    Ok(())
}

fn fnstcw(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn) -> Done {
    cpu.check_x87()?;
    cpu.write(bus, insn.seg, cpu.ea(insn), cpu.x87.control)
}

fn fnstsw(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn) -> Done {
    cpu.check_x87()?;
    cpu.write(bus, insn.seg, cpu.ea(insn), cpu.x87.status)
}

fn fnstsw_ax(cpu: &mut Cpu, _: &mut Bus, _: &Insn) -> Done {
    cpu.check_x87()?;
    cpu.set_reg::<u16>(RAX as u8, cpu.x87.status);
    Ok(())
}

fn select_fnstsw(form: &Form) -> Option<Handler> {
    match form.operands[0] {
        Operand::Gpr(_) => Some(fnstsw_ax),
        _ => Some(fnstsw),
    }
}

fn ffree(cpu: &mut Cpu, _: &mut Bus, insn: &Insn) -> Done {
    cpu.check_x87_waiting()?;
    cpu.conclude_x87(insn, &cpu.x87.environment(), 0);
    cpu.x87.free(insn.r[0] as usize);
    Ok(())
}

fn ffreep(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn) -> Done {
    ffree(cpu, bus, insn)?;
    cpu.x87.pop();
    Ok(())
}

/// FINCSTP and FDECSTP: tags and values stay.
fn rotate<const BY: u16>(cpu: &mut Cpu, _: &mut Bus, insn: &Insn) -> Done {
    cpu.check_x87_waiting()?;
    cpu.conclude_x87(insn, &cpu.x87.environment(), 0);
    cpu.x87.rotate(BY);
    Ok(())
}

// The environment: SDM vol. 1, figures 8-9 to 8-12. Each word has a slot of the operand size.

/// The most bytes that an environment takes.
const ENVIRONMENT: usize = 28;

fn environment<const WIDE: bool>(cpu: &Cpu) -> [u8; ENVIRONMENT] {
    let x87 = &cpu.x87;
    let (instruction, operand) = (x87.instruction as u32, x87.operand as u32);
    let opcode = x87.opcode as u32;
    let mut bytes = [0; ENVIRONMENT];
    if !WIDE {
        let pointers = if cpu.paragraphs() {
            [
                instruction,
                instruction >> 4 & 0xf000 | opcode,
                operand,
                operand >> 4 & 0xf000,
            ]
        } else {
            [instruction, 0, operand, 0]
        };
        let words = [x87.control, x87.status, x87.tag]
            .into_iter()
            .chain(pointers.map(|word| word as u16));
        for (slot, word) in bytes.chunks_exact_mut(2).zip(words) {
            slot.copy_from_slice(&word.to_le_bytes());
        }
        return bytes;
    }
    let pointers = if cpu.paragraphs() {
        [
            instruction & 0xffff,
            instruction >> 4 & 0xfff_f000 | opcode,
            operand & 0xffff,
            operand >> 4 & 0xfff_f000,
        ]
    } else {
        [instruction, opcode << 16, operand, 0]
    };
    // The upper halves of the words, and the last one's, are reserved and read as ones.
    let reserved = |word: u16| word as u32 | 0xffff_0000;
    let last = pointers[3] | 0xffff_0000 & if cpu.paragraphs() { 0 } else { !0 };
    let slots = [
        reserved(x87.control),
        reserved(x87.status),
        reserved(x87.tag),
        pointers[0],
        pointers[1],
        pointers[2],
        last,
    ];
    for (slot, value) in bytes.chunks_exact_mut(4).zip(slots) {
        slot.copy_from_slice(&value.to_le_bytes());
    }
    bytes
}

/// What FLDENV and FRSTOR load. Gives the tag word, for the registers may be loaded after it.
fn load_environment<const WIDE: bool>(cpu: &mut Cpu, bytes: &[u8]) -> u16 {
    let size = if WIDE { 4 } else { 2 };
    let slot = |number: usize| {
        bytes
            .iter()
            .skip(number * size)
            .take(size)
            .rev()
            .fold(0u32, |value, byte| value << 8 | *byte as u32)
    };
    let high = |number: usize| {
        if !cpu.paragraphs() {
            0
        } else if WIDE {
            (slot(number) & 0xfff_f000) << 4
        } else {
            (slot(number) & 0xf000) << 4
        }
    };
    let low = |number: usize| {
        if WIDE && cpu.paragraphs() {
            slot(number) & 0xffff
        } else {
            slot(number)
        }
    };
    let pointer = |number: usize| (low(number) | high(number + 1)) as u64;
    let opcode = match (cpu.paragraphs(), WIDE) {
        (true, _) => slot(4) as u16 & 0x7ff,
        (false, true) => (slot(4) >> 16) as u16 & 0x7ff,
        // Not in the 16-bit protected-mode format.
        (false, false) => 0,
    };
    let (control, status, tag) = (slot(0) as u16, slot(1) as u16, slot(2) as u16);
    let (instruction, operand) = (pointer(3), pointer(5));
    let x87 = &mut cpu.x87;
    (x87.instruction, x87.operand, x87.opcode) = (instruction, operand, opcode);
    x87.status = status;
    x87.set_control(control);
    tag
}

fn is_empty(tag: u16) -> impl Fn(usize) -> bool {
    move |n| tag >> (2 * n) & 3 == 3
}

fn fnstenv<const WIDE: bool>(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn) -> Done {
    cpu.check_x87()?;
    let (address, bytes) = (cpu.ea(insn), environment::<WIDE>(cpu));
    if WIDE {
        cpu.write_bytes::<28>(bus, insn.seg, address, false, bytes)?;
    } else {
        let mut narrow = [0; 14];
        narrow.copy_from_slice(&bytes[..14]);
        cpu.write_bytes::<14>(bus, insn.seg, address, false, narrow)?;
    }
    // All exceptions are masked afterwards (SDM vol. 2, FSTENV).
    cpu.x87.set_control(cpu.x87.control | 0x3f);
    Ok(())
}

fn fldenv<const WIDE: bool>(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn) -> Done {
    cpu.check_x87_waiting()?;
    let address = cpu.ea(insn);
    let tag = if WIDE {
        let bytes = cpu.read_bytes::<28>(bus, insn.seg, address, false)?;
        load_environment::<true>(cpu, &bytes)
    } else {
        let bytes = cpu.read_bytes::<14>(bus, insn.seg, address, false)?;
        load_environment::<false>(cpu, &bytes)
    };
    cpu.x87.set_tags(is_empty(tag));
    Ok(())
}

/// The image of FNSAVE: the environment, then ST(0) to ST(7), ten bytes each.
fn image<const WIDE: bool, const BYTES: usize>(cpu: &Cpu) -> [u8; BYTES] {
    let mut bytes = [0; BYTES];
    let (front, registers) = bytes.split_at_mut(BYTES - 80);
    let environment = environment::<WIDE>(cpu);
    front.copy_from_slice(&environment[..BYTES - 80]);
    for (n, slot) in registers.chunks_exact_mut(10).enumerate() {
        let (significand, top) = cpu.x87.get(n);
        slot[..8].copy_from_slice(&significand.to_le_bytes());
        slot[8..].copy_from_slice(&top.to_le_bytes());
    }
    bytes
}

fn fnsave<const WIDE: bool, const BYTES: usize>(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn) -> Done {
    cpu.check_x87()?;
    let image = image::<WIDE, BYTES>(cpu);
    cpu.write_bytes(bus, insn.seg, cpu.ea(insn), false, image)?;
    fninit(cpu, bus, insn)
}

fn frstor<const WIDE: bool, const BYTES: usize>(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn) -> Done {
    cpu.check_x87_waiting()?;
    let image: [u8; BYTES] = cpu.read_bytes(bus, insn.seg, cpu.ea(insn), false)?;
    let tag = load_environment::<WIDE>(cpu, &image);
    for (n, slot) in image[BYTES - 80..].chunks_exact(10).enumerate() {
        let value = slot
            .iter()
            .rev()
            .fold(0u128, |value, byte| value << 8 | *byte as u128);
        cpu.x87.set(n, (value as u64, (value >> 64) as u16));
    }
    cpu.x87.set_tags(is_empty(tag));
    Ok(())
}

/// The size is the code's: the operand size attribute is in the form.
fn select_environment(form: &Form) -> Option<Handler> {
    Some(match form.code {
        Code::Fnstenv_m14byte => fnstenv::<false>,
        Code::Fnstenv_m28byte => fnstenv::<true>,
        Code::Fldenv_m14byte => fldenv::<false>,
        Code::Fldenv_m28byte => fldenv::<true>,
        Code::Fnsave_m94byte => fnsave::<false, 94>,
        Code::Fnsave_m108byte => fnsave::<true, 108>,
        Code::Frstor_m94byte => frstor::<false, 94>,
        Code::Frstor_m108byte => frstor::<true, 108>,
        _ => return None,
    })
}

pub static ROWS: Group = &[
    (Mn::Fninit, |_| Some(fninit), Flow::Next),
    (Mn::Fnclex, |_| Some(fnclex), Flow::Next),
    (Mn::Fnop, |_| Some(fnop), Flow::Next),
    (Mn::Fneni, |_| Some(nothing), Flow::Next),
    (Mn::Fndisi, |_| Some(nothing), Flow::Next),
    (Mn::Fnsetpm, |_| Some(nothing), Flow::Next),
    (Mn::Wait, |_| Some(wait), Flow::Next),
    (Mn::Fldcw, |_| Some(fldcw), Flow::Next),
    (Mn::Fnstcw, |_| Some(fnstcw), Flow::Next),
    (Mn::Fnstsw, select_fnstsw, Flow::Next),
    (Mn::Fnstenv, select_environment, Flow::Next),
    (Mn::Fldenv, select_environment, Flow::Next),
    (Mn::Fnsave, select_environment, Flow::Next),
    (Mn::Frstor, select_environment, Flow::Next),
    (Mn::Ffree, |_| Some(ffree), Flow::Next),
    (Mn::Ffreep, |_| Some(ffreep), Flow::Next),
    (Mn::Fincstp, |_| Some(rotate::<1>), Flow::Next),
    (Mn::Fdecstp, |_| Some(rotate::<7>), Flow::Next),
];
