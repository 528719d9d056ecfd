//! MXCSR, and the image of x87 and SSE state in memory (SDM vol. 1, 10.5).

use iced_x86::Mnemonic as Mn;

use crate::cpu::bits::{CR0_EM, CR0_TS, CR4_OSFXSR};
use crate::cpu::decode::{Flow, Group};
use crate::cpu::insn::Insn;
use crate::cpu::{Cpu, Done, Stop};
use crate::platform::Bus;
use crate::vmx::cpuid_features::feature;

/// The bits of MXCSR that exist; FXSAVE stores this as MXCSR_MASK.
const MXCSR_MASK: u32 = 0xffff;

fn ldmxcsr(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn) -> Done {
    cpu.check_sse()?;
    let value = cpu.read::<u32>(bus, insn.seg, cpu.ea(insn))?;
    if value & !MXCSR_MASK != 0 {
        return Err(cpu.general_protection(0));
    }
    cpu.mxcsr = value;
    Ok(())
}

fn stmxcsr(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn) -> Done {
    cpu.check_sse()?;
    cpu.write(bus, insn.seg, cpu.ea(insn), cpu.mxcsr)
}

/// FXSAVE's image; what no register goes to stays as it is (SDM vol. 1, table 10-2).
type Image = [u8; 512];
/// Places in it.
const CONTROL: usize = 0;
const STATUS: usize = 2;
const TAGS: usize = 4;
const OPCODE: usize = 6;
const INSTRUCTION: usize = 8;
const OPERAND: usize = 16;
const MXCSR: usize = 24;
const MASK: usize = 28;
const STACK: usize = 32;
const VECTORS: usize = 160;

fn put<const N: usize>(image: &mut Image, at: usize, bytes: [u8; N]) {
    image[at..at + N].copy_from_slice(&bytes);
}

fn take<const N: usize>(image: &Image, at: usize) -> [u8; N] {
    let mut bytes = [0; N];
    bytes.copy_from_slice(&image[at..at + N]);
    bytes
}

/// #NM comes as for x87 instructions, #GP(0) where the image is not at a multiple of 16. Gives its address.
fn check(cpu: &mut Cpu, insn: &Insn, write: bool) -> Result<u64, Stop> {
    if cpu.cr0 & (CR0_EM | CR0_TS) != 0 {
        return Err(cpu.device_not_available());
    }
    let address = cpu.ea(insn);
    if cpu.linear(insn.seg, address, 512, write)? & 15 != 0 {
        return Err(cpu.general_protection(0));
    }
    Ok(address)
}

/// How many XMM registers the image has; without CR4.OSFXSR there are none.
fn vectors(cpu: &Cpu) -> usize {
    match (cpu.cr4 & CR4_OSFXSR != 0, cpu.long64()) {
        (false, _) => 0,
        (true, false) => 8,
        (true, true) => 16,
    }
}

/// `WIDE`: with REX.W the instruction and operand pointers are 64-bit offsets, else selectors and 32-bit offsets.
fn fxsave<const WIDE: bool>(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn) -> Done {
    let address = check(cpu, insn, true)?;
    let registers = vectors(cpu);
    cpu.update_bytes::<512>(bus, insn.seg, address, false, |cpu, mut image| {
        let x87 = &cpu.x87;
        put(&mut image, CONTROL, x87.control.to_le_bytes());
        put(&mut image, STATUS, x87.status.to_le_bytes());
        put(&mut image, TAGS, [x87.in_use(), 0]);
        put(&mut image, OPCODE, x87.opcode.to_le_bytes());
        // Not wide: an offset of 32 bits and a selector, which is 0.
        let width = if WIDE { !0 } else { 0xffff_ffff };
        put(&mut image, INSTRUCTION, (x87.instruction & width).to_le_bytes());
        put(&mut image, OPERAND, (x87.operand & width).to_le_bytes());
        put(&mut image, MXCSR, cpu.mxcsr.to_le_bytes());
        put(&mut image, MASK, MXCSR_MASK.to_le_bytes());
        for n in 0..8 {
            let (significand, exponent) = x87.get(n);
            put(&mut image, STACK + 16 * n, significand.to_le_bytes());
            put(&mut image, STACK + 16 * n + 8, (exponent as u64).to_le_bytes());
        }
        for n in 0..registers {
            let [low, high] = cpu.xmm(n as u8);
            put(&mut image, VECTORS + 16 * n, low.to_le_bytes());
            put(&mut image, VECTORS + 16 * n + 8, high.to_le_bytes());
        }
        image
    })
}

fn fxrstor<const WIDE: bool>(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn) -> Done {
    let address = check(cpu, insn, false)?;
    let image = cpu.read_bytes::<512>(bus, insn.seg, address, false)?;
    let word = |at| u16::from_le_bytes(take(&image, at));
    let double = |at| u32::from_le_bytes(take(&image, at));
    let quad = |at| u64::from_le_bytes(take(&image, at));
    let mxcsr = double(MXCSR);
    if mxcsr & !MXCSR_MASK != 0 {
        return Err(cpu.general_protection(0));
    }
    let registers = vectors(cpu);
    if registers > 0 {
        cpu.mxcsr = mxcsr;
    }
    // The instruction pointer is held in as many bits as linear addresses have.
    let unused_bits = if cpu.profile.has(feature::LA57) { 7 } else { 16 };
    let x87 = &mut cpu.x87;
    x87.status = word(STATUS);
    x87.set_control(word(CONTROL));
    x87.opcode = word(OPCODE) & 0x7ff;
    let width = if WIDE { !0 } else { 0xffff_ffff };
    x87.instruction = (((quad(INSTRUCTION) & width) << unused_bits) as i64 >> unused_bits) as u64;
    x87.operand = quad(OPERAND) & width;
    for n in 0..8 {
        x87.set(n, (quad(STACK + 16 * n), word(STACK + 16 * n + 8)));
    }
    x87.set_tags(|n| image[TAGS] >> n & 1 == 0);
    for n in 0..registers {
        cpu.set_xmm(n as u8, [quad(VECTORS + 16 * n), quad(VECTORS + 16 * n + 8)]);
    }
    Ok(())
}

pub static ROWS: Group = &[
    (Mn::Ldmxcsr, |_| Some(ldmxcsr), Flow::Next),
    (Mn::Stmxcsr, |_| Some(stmxcsr), Flow::Next),
    (Mn::Fxsave, |_| Some(fxsave::<false>), Flow::Next),
    (Mn::Fxsave64, |_| Some(fxsave::<true>), Flow::Next),
    (Mn::Fxrstor, |_| Some(fxrstor::<false>), Flow::Next),
    (Mn::Fxrstor64, |_| Some(fxrstor::<true>), Flow::Next),
];
