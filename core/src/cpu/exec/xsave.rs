//! The XSAVE feature set: XCR0, and saving and restoring the components that it and IA32_XSS enable (SDM vol. 1, chapter
//! 13).
//!
//! The init optimisation goes by the values of the registers. The modified optimisation is one that a processor may leave
//! out (13.6): everything counts as modified here.

use iced_x86::Mnemonic as Mn;

use super::control::check_supervisor;
use super::legacy_region::{self, put, quad, MXCSR_MASK};
use super::x87::X87 as X87State;
use crate::cpu::bits::{CR0_TS, CR4_OSXSAVE};
use crate::cpu::decode::{Flow, Group};
use crate::cpu::insn::Insn;
use crate::cpu::xstate::{self, AVX, COMPACTED, EXTENDED, LEGACY, MXCSR_INITIAL, SSE, X87};
use crate::cpu::{Cpu, Done, Stop, RCX};
use crate::platform::Bus;
use crate::vmx::cpuid_features::feature;
use crate::vmx::intercept::{self, Optional, Plain};

fn check_osxsave(cpu: &mut Cpu) -> Done {
    if cpu.cr4 & CR4_OSXSAVE == 0 {
        return Err(cpu.invalid_opcode());
    }
    Ok(())
}

fn xgetbv(cpu: &mut Cpu, _: &mut Bus, _: &Insn) -> Done {
    check_osxsave(cpu)?;
    let value = match cpu.regs[RCX] as u32 {
        0 => cpu.xcr0,
        1 if cpu.profile.has(feature::XGETBV1) => cpu.xcr0 & in_use(cpu),
        _ => return Err(cpu.general_protection(0)),
    };
    cpu.set_halves(value);
    Ok(())
}

fn xsetbv(cpu: &mut Cpu, _: &mut Bus, insn: &Insn) -> Done {
    check_osxsave(cpu)?;
    check_supervisor(cpu)?;
    intercept::plain(cpu, insn, Plain::Xsetbv)?;
    let value = cpu.halves();
    if cpu.regs[RCX] as u32 != 0 || !xstate::valid_xcr0(&cpu.profile, value) {
        return Err(cpu.general_protection(0));
    }
    cpu.xcr0 = value;
    Ok(())
}

/// XINUSE, with SSE state also where only MXCSR is not as after RESET: so XGETBV and the compacting instructions see it.
fn in_use(cpu: &Cpu) -> u64 {
    let mxcsr = if cpu.mxcsr == MXCSR_INITIAL { 0 } else { SSE };
    cpu.state_in_use() | mxcsr
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Save {
    Xsave,
    Xsaveopt,
    Xsavec,
    Xsaves,
}

/// Where in an area the legacy region and the header lie, the XSTATE_BV and XCOMP_BV fields among them.
type Head = [u8; EXTENDED];
const XSTATE_BV: usize = LEGACY;
const XCOMP_BV: usize = LEGACY + 8;

/// What all of them check first. `supervisor`: XSAVES and XRSTORS.
fn check(cpu: &mut Cpu, supervisor: bool) -> Done {
    if supervisor && !intercept::offered(cpu, Optional::Xsaves) {
        return Err(cpu.invalid_opcode());
    }
    check_osxsave(cpu)?;
    if cpu.cr0 & CR0_TS != 0 {
        return Err(cpu.device_not_available());
    }
    if supervisor {
        check_supervisor(cpu)?;
    }
    Ok(())
}

/// The area's offset in its segment. #GP(0) unless at a multiple of 64; #AC comes first, as with FXSAVE.
fn area(cpu: &mut Cpu, insn: &Insn, write: bool) -> Result<u64, Stop> {
    let address = cpu.ea(insn);
    if cpu.linear(insn.seg, address, EXTENDED as u64, write)? & 63 != 0 {
        cpu.probe_alignment(insn.seg, address, 4)?;
        return Err(cpu.general_protection(0));
    }
    Ok(address)
}

/// `wide`: with REX.W.
fn save(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn, kind: Save, wide: bool) -> Done {
    let supervisor = kind == Save::Xsaves;
    check(cpu, supervisor)?;
    if supervisor {
        intercept::supervisor_state(cpu, insn, false)?;
    }
    let enabled = cpu.xcr0 | if supervisor { cpu.msr.xss } else { 0 };
    let requested = enabled & cpu.halves();
    let address = area(cpu, insn, true)?;
    let (saved, format) = match kind {
        Save::Xsave => (requested, 0),
        Save::Xsaveopt => (requested & cpu.state_in_use(), 0),
        Save::Xsavec | Save::Xsaves => (requested & in_use(cpu), COMPACTED | requested),
    };
    let end = xstate::layout(format, saved)
        .filter(|(component, _)| saved & component.mask() != 0)
        .fold(EXTENDED, |end, (component, at)| end.max(at + component.bytes()));
    cpu.probe_write(bus, insn.seg, address, end as u64)?;

    let mut head: Head = cpu.read_bytes(bus, insn.seg, address, false)?;
    if saved & X87 != 0 {
        cpu.put_x87(&mut head, wide);
    }
    if saved & SSE != 0 {
        cpu.put_vectors(&mut head, cpu.vector_registers());
    }
    // In the standard format MXCSR belongs to AVX state too, and no optimisation leaves it out.
    let with_mxcsr = match format {
        0 => requested & (SSE | AVX),
        _ => saved & SSE,
    };
    if with_mxcsr != 0 {
        cpu.put_mxcsr(&mut head);
    }
    let state = match format {
        0 => quad(&head, XSTATE_BV) & !requested | cpu.state_in_use() & requested,
        _ => saved,
    };
    put(&mut head, XSTATE_BV, state.to_le_bytes());
    if format != 0 {
        put(&mut head, XCOMP_BV, format.to_le_bytes());
    }
    cpu.write_bytes(bus, insn.seg, address, false, head)?;
    for (component, at) in xstate::layout(format, saved) {
        if saved & component.mask() == 0 {
            continue;
        }
        for word in 0..component.present(cpu) {
            let value = component.word(cpu, word);
            cpu.write::<u64>(bus, insn.seg, address.wrapping_add((at + 8 * word) as u64), value)?;
        }
    }
    Ok(())
}

/// `wide`: with REX.W.
fn restore(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn, supervisor: bool, wide: bool) -> Done {
    check(cpu, supervisor)?;
    if supervisor {
        intercept::supervisor_state(cpu, insn, true)?;
    }
    let enabled = cpu.xcr0 | if supervisor { cpu.msr.xss } else { 0 };
    let requested = enabled & cpu.halves();
    let address = area(cpu, insn, false)?;
    let head: Head = cpu.read_bytes(bus, insn.seg, address, false)?;
    let (state, format) = (quad(&head, XSTATE_BV), quad(&head, XCOMP_BV));
    let compacted = format & COMPACTED != 0 && cpu.profile.has(feature::XSAVEC);
    let reserved = |from: usize, to: usize| head[LEGACY + from..LEGACY + to].iter().any(|byte| *byte != 0);
    let bad = if compacted {
        let held = format & !COMPACTED;
        held & !enabled != 0 || state & !held != 0 || reserved(16, 64)
    } else {
        supervisor || state & !enabled != 0 || reserved(8, 24)
    };
    let loaded = requested & state;
    let mxcsr = match compacted {
        false if requested & (SSE | AVX) != 0 => legacy_region::mxcsr(&head),
        true if loaded & SSE != 0 => legacy_region::mxcsr(&head),
        true if requested & SSE != 0 => MXCSR_INITIAL,
        _ => cpu.mxcsr,
    };
    if bad || mxcsr & !MXCSR_MASK != 0 {
        return Err(cpu.general_protection(0));
    }

    // All is read and checked before anything changes.
    let mut words = [[0; xstate::MOST_WORDS]; xstate::COUNT];
    for ((component, at), words) in xstate::layout(format, loaded).zip(&mut words) {
        if loaded & component.mask() == 0 {
            continue;
        }
        let words = &mut words[..component.present(cpu)];
        for (word, value) in words.iter_mut().enumerate() {
            *value = cpu.read::<u64>(bus, insn.seg, address.wrapping_add((at + 8 * word) as u64))?;
        }
        if !component.accepts(cpu, words) {
            return Err(cpu.general_protection(0));
        }
    }
    for ((component, _), words) in xstate::layout(format, loaded).zip(&words) {
        if loaded & component.mask() != 0 {
            component.restore(cpu, words);
        }
    }
    for component in xstate::COMPONENTS {
        if requested & !loaded & component.mask() != 0 {
            component.restore(cpu, &[0; xstate::MOST_WORDS]);
        }
    }
    cpu.mxcsr = mxcsr;
    if loaded & X87 != 0 {
        cpu.take_x87(&head, wide);
    } else if requested & X87 != 0 {
        cpu.x87 = X87State::default();
    }
    let registers = cpu.vector_registers();
    if loaded & SSE != 0 {
        cpu.take_vectors(&head, registers);
    } else if requested & SSE != 0 {
        cpu.take_vectors(&[0; LEGACY], registers);
    }
    Ok(())
}

fn xsave<const WIDE: bool>(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn) -> Done {
    save(cpu, bus, insn, Save::Xsave, WIDE)
}

fn xsaveopt<const WIDE: bool>(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn) -> Done {
    save(cpu, bus, insn, Save::Xsaveopt, WIDE)
}

fn xsavec<const WIDE: bool>(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn) -> Done {
    save(cpu, bus, insn, Save::Xsavec, WIDE)
}

fn xsaves<const WIDE: bool>(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn) -> Done {
    save(cpu, bus, insn, Save::Xsaves, WIDE)
}

fn xrstor<const WIDE: bool>(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn) -> Done {
    restore(cpu, bus, insn, false, WIDE)
}

fn xrstors<const WIDE: bool>(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn) -> Done {
    restore(cpu, bus, insn, true, WIDE)
}

pub static ROWS: Group = &[
    (Mn::Xgetbv, |_| Some(xgetbv), Flow::Next),
    (Mn::Xsetbv, |_| Some(xsetbv), Flow::Alone),
    (Mn::Xsave, |_| Some(xsave::<false>), Flow::Next),
    (Mn::Xsave64, |_| Some(xsave::<true>), Flow::Next),
    (Mn::Xsaveopt, |_| Some(xsaveopt::<false>), Flow::Next),
    (Mn::Xsaveopt64, |_| Some(xsaveopt::<true>), Flow::Next),
    (Mn::Xsavec, |_| Some(xsavec::<false>), Flow::Next),
    (Mn::Xsavec64, |_| Some(xsavec::<true>), Flow::Next),
    (Mn::Xsaves, |_| Some(xsaves::<false>), Flow::Next),
    (Mn::Xsaves64, |_| Some(xsaves::<true>), Flow::Next),
    (Mn::Xrstor, |_| Some(xrstor::<false>), Flow::Next),
    (Mn::Xrstor64, |_| Some(xrstor::<true>), Flow::Next),
    // What CET enforces may change, and with it how code is decoded.
    (Mn::Xrstors, |_| Some(xrstors::<false>), Flow::Alone),
    (Mn::Xrstors64, |_| Some(xrstors::<true>), Flow::Alone),
];
