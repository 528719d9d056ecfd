//! Our processor against the host's: random user-mode instructions on random operands, one at a time.
//!
//! `GDBVMX_ORACLE_CASES` is the number of cases, `GDBVMX_ORACLE_SEED` where they begin, `GDBVMX_ORACLE_ONLY` what to stay
//! with: mnemonics, or features as iced-x86 names them (`AVX2,F16C`).

#![cfg(all(target_arch = "x86_64", target_os = "linux"))]

mod emulated;
mod generate;
mod native;
mod state;

use std::collections::BTreeMap;

use iced_x86::{Code, CpuidFeature, Instruction, Mnemonic, Register};

use generate::{Generator, Random};
use state::*;

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name)
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(default)
}

/// Whether the host can be asked about the instruction.
fn host_has(insn: &Instruction) -> bool {
    use std::arch::is_x86_feature_detected as has;
    insn.cpuid_features().iter().all(|feature| match feature {
        CpuidFeature::ADX => has!("adx"),
        CpuidFeature::AES => has!("aes"),
        CpuidFeature::AVX => has!("avx"),
        CpuidFeature::AVX2 => has!("avx2"),
        CpuidFeature::BMI1 => has!("bmi1"),
        CpuidFeature::BMI2 => has!("bmi2"),
        CpuidFeature::F16C => has!("f16c"),
        CpuidFeature::FMA => has!("fma"),
        CpuidFeature::LZCNT => has!("lzcnt"),
        CpuidFeature::MOVBE => has!("movbe"),
        CpuidFeature::PCLMULQDQ => has!("pclmulqdq"),
        CpuidFeature::POPCNT => has!("popcnt"),
        CpuidFeature::SHA => has!("sha"),
        CpuidFeature::SSE3 => has!("sse3"),
        CpuidFeature::SSSE3 => has!("ssse3"),
        CpuidFeature::SSE4_1 => has!("sse4.1"),
        CpuidFeature::SSE4_2 => has!("sse4.2"),
        CpuidFeature::VAES => has!("vaes"),
        CpuidFeature::VPCLMULQDQ => has!("vpclmulqdq"),
        // Written to another place than the case's memory operand.
        CpuidFeature::MOVDIR64B => false,
        CpuidFeature::MOVDIRI => std::arch::x86_64::__cpuid_count(7, 0).ecx >> 27 & 1 != 0,
        CpuidFeature::SERIALIZE => std::arch::x86_64::__cpuid_count(7, 0).edx >> 14 & 1 != 0,
        CpuidFeature::CLFLUSHOPT => host_cpuid_7() >> 23 & 1 != 0,
        CpuidFeature::CLWB => host_cpuid_7() >> 24 & 1 != 0,
        _ => true,
    })
}

fn host_cpuid_7() -> u32 {
    std::arch::x86_64::__cpuid_count(7, 0).ebx
}

const CF: u64 = 1 << 0;
const PF: u64 = 1 << 2;
const AF: u64 = 1 << 4;
const ZF: u64 = 1 << 6;
const SF: u64 = 1 << 7;
const OF: u64 = 1 << 11;

/// The flags that the SDM leaves undefined, as iced's tables have them; and those that are so for some counts only.
fn undefined_flags(insn: &Instruction, case: &Case) -> u64 {
    use iced_x86::RflagsBits as Bits;
    let undefined = insn.rflags_undefined();
    let mut mask = [
        (Bits::CF, CF),
        (Bits::PF, PF),
        (Bits::AF, AF),
        (Bits::ZF, ZF),
        (Bits::SF, SF),
        (Bits::OF, OF),
    ]
    .iter()
    .filter(|(bit, _)| undefined & bit != 0)
    .fold(0, |all, (_, flag)| all | flag);
    // SDM vol. 2, SAL/SAR/SHL/SHR, RCL/RCR/ROL/ROR, SHLD, SHRD: OF but for a count of 1, AF, CF of a long shift.
    use Mnemonic::*;
    if matches!(
        insn.mnemonic(),
        Shl | Sal | Shr | Sar | Rol | Ror | Rcl | Rcr | Shld | Shrd
    ) {
        let last = insn.op_count() - 1;
        let count = if insn.op_kind(last) == iced_x86::OpKind::Register {
            case.state.regs[1] as u8
        } else {
            insn.immediate8()
        } as u64;
        let size = match insn.op0_register() {
            Register::None => insn.memory_size().size() as u64 * 8,
            register => register.size() as u64 * 8,
        };
        let count = count & if size == 64 { 63 } else { 31 };
        if count == 0 {
            return 0;
        }
        if count != 1 {
            mask |= OF;
        }
        if matches!(insn.mnemonic(), Shl | Sal | Shr | Sar | Shld | Shrd) {
            mask |= AF;
            if count >= size {
                mask |= CF;
            }
        }
    }
    mask
}

/// The whole result is undefined (SDM vol. 2): SHLD and SHRD of 16 bits by more than 16. Or the SDM says what not every
/// make of processor does: a CMPXCHG that fails writes a 32-bit register's own value to it, and so clears its upper
/// half.
fn undefined_result(insn: &Instruction, case: &Case) -> bool {
    // SDM vol. 2, F2XM1 and FYL2XP1: operands further from 0.
    let [significand, top] = case.state.x87.registers[0];
    let (exponent, from_root) = (
        top & 0x7fff,
        (top & 0x7fff, significand) > (0x3ffd, 0x95f6_1998_0c43_36f7),
    );
    let count = match insn.code() {
        Code::F2xm1 => return exponent >= 0x3fff && exponent != 0x7fff,
        Code::Fyl2xp1 => return from_root && exponent != 0x7fff,
        Code::Cmpxchg_rm32_r32 => return insn.op0_register() != Register::None,
        Code::Shld_rm16_r16_imm8 | Code::Shrd_rm16_r16_imm8 => insn.immediate8(),
        Code::Shld_rm16_r16_CL | Code::Shrd_rm16_r16_CL => case.state.regs[1] as u8,
        _ => return false,
    };
    count & 31 > 16
}

/// DPPS and DPPD do not say which of several NaNs their sum is: all are one here.
fn forget_payloads(insn: &Instruction, outcome: &mut Outcome) {
    let Outcome::Completed(end) = outcome else {
        return;
    };
    for half in end.state.ymm.iter_mut().flatten() {
        let single = |bits: u64| match f32::from_bits(bits as u32) {
            nan if nan.is_nan() => f32::NAN.to_bits() as u64,
            _ => bits & 0xffff_ffff,
        };
        match insn.mnemonic() {
            Mnemonic::Dpps | Mnemonic::Vdpps => *half = single(*half) | single(*half >> 32) << 32,
            Mnemonic::Dppd | Mnemonic::Vdppd if f64::from_bits(*half).is_nan() => *half = f64::NAN.to_bits(),
            _ => {}
        }
    }
}

/// Transcendental instructions are exact to one unit in the last place (SDM vol. 1, 8.3.10): what is as near as that to
/// the host's result becomes it, and C1, which tells of its rounding.
fn forgive_last_place(insn: &Instruction, case: &Case, ours: &mut Outcome, theirs: &Outcome) {
    use Mnemonic::*;
    let (Outcome::Completed(ours), Outcome::Completed(theirs)) = (ours, theirs) else {
        return;
    };
    if !matches!(
        insn.mnemonic(),
        Fsin | Fcos | Fsincos | Fptan | Fpatan | F2xm1 | Fyl2x | Fyl2xp1
    ) {
        return;
    }
    let (ours, theirs) = (&mut ours.state.x87, &theirs.state.x87);
    let place = |[significand, top]: [u64; 2]| (top as i128) << 63 | (significand << 1 >> 1) as i128;
    for (our, their) in ours.registers.iter_mut().zip(theirs.registers) {
        if (place(*our) - place(their)).abs() == 1 {
            *our = their;
        }
    }
    const C1: u16 = 1 << 9;
    const STACK_FAULT: u16 = 1 << 6;
    if ours.status & !case.state.x87.status & STACK_FAULT == 0 {
        ours.status = ours.status & !C1 | theirs.status & C1;
    }
}

/// The features that a form needs, as iced-x86 names them.
pub fn feature_names(code: Code) -> String {
    let names: Vec<String> = code
        .cpuid_features()
        .iter()
        .map(|name| format!("{name:?}"))
        .collect();
    names.join(" + ")
}

fn same(ours: &Outcome, theirs: &Outcome, flags: u64) -> bool {
    match (ours, theirs) {
        (Outcome::Fault(ours, our_mxcsr), Outcome::Fault(theirs, their_mxcsr)) => {
            let same_kind = match theirs {
                // Signals do not tell all exceptions apart.
                0 => matches!(ours, 0 | 16 | 19),
                13 => matches!(ours, 13 | 14),
                other => ours == other,
            };
            same_kind && our_mxcsr == their_mxcsr
        }
        (Outcome::Completed(ours), Outcome::Completed(theirs)) => {
            let mut masked = ours.state;
            masked.flags = masked.flags & !flags | theirs.state.flags & flags;
            masked == theirs.state && ours.memory == theirs.memory
        }
        _ => false,
    }
}

fn describe(case: &Case, ours: &Outcome, theirs: &Outcome) -> String {
    let mut text = format!("{} bits, {:02x?}\n", case.bitness, &case.bytes[..case.length]);
    let (Outcome::Completed(ours), Outcome::Completed(theirs)) = (ours, theirs) else {
        let brief = |outcome: &Outcome| match outcome {
            Outcome::Fault(vector, mxcsr) => format!("exception {vector}, mxcsr {mxcsr:x}"),
            Outcome::Completed(_) => "completed".to_string(),
        };
        return text
            + &format!(
                "  ours: {}, host: {}, regs {:x?}, mxcsr {:x}\n",
                brief(ours),
                brief(theirs),
                case.state.regs,
                case.state.mxcsr
            );
    };
    text += &format!(
        "  before: regs {:x?} flags {:x} mxcsr {:x}\n",
        case.state.regs, case.state.flags, case.state.mxcsr
    );
    for at in 0..16 {
        if ours.state.regs[at] != theirs.state.regs[at] {
            text += &format!(
                "  r{at}: ours {:x}, host {:x}\n",
                ours.state.regs[at], theirs.state.regs[at]
            );
        }
        if ours.state.ymm[at] != theirs.state.ymm[at] {
            text += &format!(
                "  ymm{at}: before {:x?}, ours {:x?}, host {:x?}\n",
                case.state.ymm[at], ours.state.ymm[at], theirs.state.ymm[at]
            );
            text += &format!("  all: {:x?}\n", case.state.ymm.map(|y| [y[0], y[1]]));
        }
    }
    if ours.state.flags != theirs.state.flags {
        text += &format!(
            "  flags: ours {:x}, host {:x}\n",
            ours.state.flags, theirs.state.flags
        );
    }
    if ours.state.mxcsr != theirs.state.mxcsr {
        text += &format!(
            "  mxcsr: ours {:x}, host {:x}\n",
            ours.state.mxcsr, theirs.state.mxcsr
        );
    }
    if ours.state.x87 != theirs.state.x87 {
        text += &format!(
            "  x87 before: {:x?}\n    ours: {:x?}\n    host: {:x?}\n",
            case.state.x87, ours.state.x87, theirs.state.x87
        );
    }
    for at in (0..WINDOW_BYTES).filter(|at| ours.memory[*at] != theirs.memory[*at]) {
        text += &format!(
            "  [{:x}]: before {:x}, ours {:x}, host {:x}\n",
            WINDOW + at as u64,
            case.memory[at],
            ours.memory[at],
            theirs.memory[at]
        );
    }
    text
}

#[test]
fn instructions_do_what_the_host_does() {
    let cases = setting("GDBVMX_ORACLE_CASES", 50_000);
    let mut random = Random(setting("GDBVMX_ORACLE_SEED", 1));
    let only = std::env::var("GDBVMX_ORACLE_ONLY").unwrap_or_default();
    if !std::arch::is_x86_feature_detected!("avx") {
        println!("skipped: the host processor has no AVX, by which the state is loaded");
        return;
    }
    let native = native::Native::new();
    let mut emulated = emulated::Emulated::new();
    let generator = Generator::new(&only);
    let mut seen: BTreeMap<Code, u64> = BTreeMap::new();
    let mut wrong: BTreeMap<Code, (u64, String)> = BTreeMap::new();
    for number in 0..cases {
        let bitness = if number % 4 == 0 { 32 } else { 64 };
        let (case, insn) = generator.case(&mut random, bitness);
        if undefined_result(&insn, &case) || !host_has(&insn) {
            continue;
        }
        *seen.entry(insn.code()).or_default() += 1;
        let mut theirs = native.run(&case);
        let mut ours = emulated.run(&case);
        forget_payloads(&insn, &mut theirs);
        forget_payloads(&insn, &mut ours);
        forgive_last_place(&insn, &case, &mut ours, &theirs);
        if !same(&ours, &theirs, undefined_flags(&insn, &case)) {
            let entry = wrong
                .entry(insn.code())
                .or_insert_with(|| (0, describe(&case, &ours, &theirs)));
            entry.0 += 1;
        }
    }
    println!("{cases} cases, {} forms", seen.len());
    let mut groups: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    for (code, count) in &seen {
        let (forms, runs) = groups.entry(feature_names(*code)).or_default();
        *forms += 1;
        *runs += count;
    }
    for (feature, (forms, runs)) in groups {
        println!("{feature}: {runs} cases of {forms} forms");
    }
    for (code, (count, text)) in &wrong {
        println!("{code:?}: {count} of {} differ; the first: {text}", seen[code]);
    }
    assert!(
        wrong.is_empty(),
        "{} forms differ from the host processor",
        wrong.len()
    );
}

/// A run is the same however it is cut: one instruction at a time, where each does all that it does, and in blocks,
/// where flags that nobody reads are left out.
#[test]
fn a_stream_is_the_same_in_one_go_and_in_steps() {
    const LENGTH: usize = 12;
    let streams = setting("GDBVMX_ORACLE_CASES", 50_000) / 20;
    let mut random = Random(setting("GDBVMX_ORACLE_SEED", 1));
    let mut emulated = emulated::Emulated::new();
    let generator = Generator::new("");
    for _ in 0..streams {
        let mut cases = Vec::new();
        while cases.len() < LENGTH {
            let (case, insn) = generator.case(&mut random, 64);
            // Of those that have a handler for blocks, mostly.
            if is_everyday(insn.mnemonic()) || random.below(8) == 0 {
                cases.push(case);
            }
        }
        let counts = LENGTH as u64 * 2;
        let steps = emulated.stream(&cases, counts, 1);
        let at_once = emulated.stream(&cases, counts, counts);
        assert!(
            steps == at_once,
            "{cases:x?}\nin steps: {steps:x?}\nin one go: {at_once:x?}"
        );
    }
}

fn is_everyday(mnemonic: Mnemonic) -> bool {
    use Mnemonic::*;
    matches!(
        mnemonic,
        Add | Sub
            | And
            | Or
            | Xor
            | Adc
            | Sbb
            | Cmp
            | Test
            | Inc
            | Dec
            | Neg
            | Not
            | Shl
            | Shr
            | Sar
            | Rol
            | Ror
            | Mov
            | Movzx
            | Movsx
            | Movsxd
            | Lea
            | Push
            | Pop
            | Cmove
            | Cmovb
            | Cmovle
            | Setne
            | Seta
            | Setl
    )
}
