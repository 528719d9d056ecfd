//! A disagreement in words.

use std::fmt::{LowerHex, Write};

use iced_x86::{Decoder, DecoderOptions, Instruction};

use super::state::*;

struct Text(String);

impl Text {
    fn line(&mut self, text: String) {
        // Writing to a String does not fail.
        let _ = writeln!(self.0, "  {text}");
    }
    fn differ<T: PartialEq + LowerHex>(&mut self, name: &str, before: T, ours: T, theirs: T) {
        if ours != theirs {
            self.line(format!(
                "{name}: before {before:x}, ours {ours:x}, host {theirs:x}"
            ));
        }
    }
}

/// The one at `rip`.
pub fn instruction(case: &Case, rip: u64) -> Instruction {
    let at = (rip - CODE - ENTRY) as usize;
    Decoder::with_ip(case.bitness, &case.bytes[at..], rip, DecoderOptions::NONE).decode()
}

pub fn describe(case: &Case, ours: &Outcome, theirs: &Outcome) -> String {
    let mut text = Text(String::new());
    text.line(format!("{} bits", case.bitness));
    for insn in &mut Decoder::with_ip(case.bitness, &case.bytes, CODE + ENTRY, DecoderOptions::NONE) {
        let at = (insn.ip() - CODE - ENTRY) as usize;
        let bytes = &case.bytes[at..at + insn.len()];
        text.line(format!("{:x}: {bytes:02x?} {:?}", insn.ip(), insn.code()));
    }
    let State {
        regs, flags, mxcsr, ..
    } = case.state;
    text.line(format!("before: {regs:x?} flags {flags:x} mxcsr {mxcsr:x}"));
    if ours.fault.is_some() || theirs.fault.is_some() {
        text.line(format!("ours {:x?}, host {:x?}", ours.fault, theirs.fault));
    }
    let (before, our, their) = (&case.state, &ours.state, &theirs.state);
    for (at, value) in regs.into_iter().enumerate() {
        text.differ(&format!("r{at}"), value, our.regs[at], their.regs[at]);
        for word in 0..4 {
            let name = format!("ymm{at}[{word}]");
            text.differ(
                &name,
                before.ymm[at][word],
                our.ymm[at][word],
                their.ymm[at][word],
            );
        }
    }
    text.differ("flags", flags, our.flags, their.flags);
    text.differ("mxcsr", mxcsr, our.mxcsr, their.mxcsr);
    if our.x87 != their.x87 {
        for (side, x87) in [("before", before.x87), ("ours", our.x87), ("host", their.x87)] {
            text.line(format!("{side}: {x87:x?}"));
        }
    }
    for at in 0..WINDOW_BYTES {
        let name = format!("[{:x}]", WINDOW + at as u64);
        text.differ(&name, case.memory[at], ours.memory[at], theirs.memory[at]);
    }
    text.0
}
