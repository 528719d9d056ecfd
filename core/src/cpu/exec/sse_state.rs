//! MXCSR, FXSAVE and FXRSTOR (SDM vol. 1, 10.5).

use iced_x86::Mnemonic as Mn;

use super::legacy_region::{self, MXCSR_MASK};
use super::vector::{Encoding, Legacy, Vex};
use crate::cpu::bits::{CR0_EM, CR0_TS, CR4_OSFXSR};
use crate::cpu::decode::{Flow, Group};
use crate::cpu::insn::Insn;
use crate::cpu::{Cpu, Done, Stop};
use crate::platform::Bus;

fn ldmxcsr<E: Encoding>(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn) -> Done {
    E::check(cpu)?;
    let value = cpu.read::<u32>(bus, insn.seg, cpu.ea(insn))?;
    if value & !MXCSR_MASK != 0 {
        return Err(cpu.general_protection(0));
    }
    cpu.mxcsr = value;
    Ok(())
}

fn stmxcsr<E: Encoding>(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn) -> Done {
    E::check(cpu)?;
    cpu.write(bus, insn.seg, cpu.ea(insn), cpu.mxcsr)
}

/// #NM comes as for x87 instructions, #GP(0) where the image is not at a multiple of 16; instead #AC, which the SDM leaves
/// to processors, where it is enabled and the image not even at a multiple of 4. Gives its address.
fn check(cpu: &mut Cpu, insn: &Insn, write: bool) -> Result<u64, Stop> {
    if cpu.cr0 & (CR0_EM | CR0_TS) != 0 {
        return Err(cpu.device_not_available());
    }
    let address = cpu.ea(insn);
    if cpu.linear(insn.seg, address, 512, write)? & 15 != 0 {
        cpu.probe_alignment(insn.seg, address, 4)?;
        return Err(cpu.general_protection(0));
    }
    Ok(address)
}

/// How many XMM registers the image has; without CR4.OSFXSR there are none.
fn vectors(cpu: &Cpu) -> usize {
    if cpu.cr4 & CR4_OSFXSR != 0 {
        cpu.vector_registers()
    } else {
        0
    }
}

/// `WIDE`: with REX.W. What no register goes to stays as it is (SDM vol. 1, table 10-2).
fn fxsave<const WIDE: bool>(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn) -> Done {
    let address = check(cpu, insn, true)?;
    let registers = vectors(cpu);
    cpu.update_bytes::<512>(bus, insn.seg, address, false, |cpu, mut image| {
        cpu.put_x87(&mut image, WIDE);
        cpu.put_mxcsr(&mut image);
        cpu.put_vectors(&mut image, registers);
        image
    })
}

fn fxrstor<const WIDE: bool>(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn) -> Done {
    let address = check(cpu, insn, false)?;
    let image = cpu.read_bytes::<512>(bus, insn.seg, address, false)?;
    let mxcsr = legacy_region::mxcsr(&image);
    if mxcsr & !MXCSR_MASK != 0 {
        return Err(cpu.general_protection(0));
    }
    let registers = vectors(cpu);
    if registers > 0 {
        cpu.mxcsr = mxcsr;
    }
    cpu.take_x87(&image, WIDE);
    cpu.take_vectors(&image, registers);
    Ok(())
}

pub static ROWS: Group = &[
    (Mn::Ldmxcsr, |_| Some(ldmxcsr::<Legacy>), Flow::Next),
    (Mn::Vldmxcsr, |_| Some(ldmxcsr::<Vex<1>>), Flow::Next),
    (Mn::Stmxcsr, |_| Some(stmxcsr::<Legacy>), Flow::Next),
    (Mn::Vstmxcsr, |_| Some(stmxcsr::<Vex<1>>), Flow::Next),
    (Mn::Fxsave, |_| Some(fxsave::<false>), Flow::Next),
    (Mn::Fxsave64, |_| Some(fxsave::<true>), Flow::Next),
    (Mn::Fxrstor, |_| Some(fxrstor::<false>), Flow::Next),
    (Mn::Fxrstor64, |_| Some(fxrstor::<true>), Flow::Next),
];
