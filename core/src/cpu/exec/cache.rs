//! Fences, prefetches and cache control. Memory is coherent and accesses are made in program order, so that nothing is
//! left to do but to fault where the SDM says so.

use iced_x86::Mnemonic as Mn;

use super::control::check_supervisor;
use crate::cpu::decode::{Flow, Group};
use crate::cpu::insn::Insn;
use crate::cpu::{Cpu, Done};
use crate::platform::Bus;
use crate::vmx::intercept::{self, Plain};

fn nothing(_: &mut Cpu, _: &mut Bus, _: &Insn) -> Done {
    Ok(())
}

fn write_back<const INVD: bool>(cpu: &mut Cpu, _: &mut Bus, insn: &Insn) -> Done {
    check_supervisor(cpu)?;
    intercept::plain(cpu, insn, if INVD { Plain::Invd } else { Plain::Wbinvd })
}

/// CLFLUSH and its kin fault as the load of a byte does.
fn flush_line(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn) -> Done {
    let ea = cpu.ea(insn);
    cpu.probe_read(bus, insn.seg, ea, 1)
}

pub static ROWS: Group = &[
    (Mn::Mfence, |_| Some(nothing), Flow::Next),
    (Mn::Lfence, |_| Some(nothing), Flow::Next),
    (Mn::Sfence, |_| Some(nothing), Flow::Next),
    (Mn::Prefetch, |_| Some(nothing), Flow::Next),
    (Mn::Prefetchw, |_| Some(nothing), Flow::Next),
    (Mn::Prefetchwt1, |_| Some(nothing), Flow::Next),
    (Mn::Prefetchnta, |_| Some(nothing), Flow::Next),
    (Mn::Prefetcht0, |_| Some(nothing), Flow::Next),
    (Mn::Prefetcht1, |_| Some(nothing), Flow::Next),
    (Mn::Prefetcht2, |_| Some(nothing), Flow::Next),
    (Mn::Clflush, |_| Some(flush_line), Flow::Next),
    (Mn::Clflushopt, |_| Some(flush_line), Flow::Next),
    (Mn::Clwb, |_| Some(flush_line), Flow::Next),
    (Mn::Invd, |_| Some(write_back::<true>), Flow::Next),
    (Mn::Wbinvd, |_| Some(write_back::<false>), Flow::Next),
];
