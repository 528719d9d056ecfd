//! What the host's result is not held against: all that the SDM leaves open. What says so is the entry of the instruction in
//! SDM vol. 2, or the section that a row names.

use iced_x86::{Code, CpuidFeature, Instruction, Mnemonic, Mnemonic::*, OpKind, Register};

use super::state::*;

/// Flags that an instruction leaves undefined, whatever its operands ("Flags Affected").
const ALWAYS: &[(&[Mnemonic], u64)] = &[
    (&[Aaa, Aas], OF | SF | ZF | PF),
    (&[Aad, Aam], OF | AF | CF),
    (&[Daa, Das], OF),
    (&[And, Or, Xor, Test], AF),
    (&[Andn, Blsi, Blsmsk, Blsr, Bzhi], AF | PF),
    (&[Bextr], AF | SF | PF),
    (&[Bsf, Bsr], CF | OF | SF | AF | PF),
    (&[Bt, Btc, Btr, Bts], OF | SF | AF | PF),
    (&[Div, Idiv], ARITHMETIC),
    (&[Lzcnt, Tzcnt], OF | SF | PF | AF),
    (&[Mul], SF | ZF | AF | PF),
    (&[Imul], ZF | AF | PF),
];

/// Flags that shifts leave undefined, by their count ("Flags Affected").
struct Shift {
    mnemonics: &'static [Mnemonic],
    /// By any but 0.
    any: u64,
    /// By more than 1.
    long: u64,
    /// By as many bits as the operand has, or more.
    all: u64,
    /// By more bits than it has.
    beyond: u64,
}

const SHIFTS: &[Shift] = &[
    Shift {
        mnemonics: &[Shl, Sal, Shr],
        any: AF,
        long: OF,
        all: CF,
        beyond: 0,
    },
    Shift {
        mnemonics: &[Sar],
        any: AF,
        long: OF,
        all: 0,
        beyond: 0,
    },
    Shift {
        mnemonics: &[Rol, Ror, Rcl, Rcr],
        any: 0,
        long: OF,
        all: 0,
        beyond: 0,
    },
    Shift {
        mnemonics: &[Shld, Shrd],
        any: AF,
        long: OF,
        all: 0,
        beyond: ARITHMETIC,
    },
];

/// The masked count of a shift, and the bits of its operand.
fn count(insn: &Instruction, state: &State) -> (u64, u64) {
    let last = insn.op_count() - 1;
    let count = if insn.op_kind(last) == OpKind::Register {
        state.regs[1]
    } else {
        insn.immediate8() as u64
    };
    let size = match insn.op0_register() {
        Register::None => insn.memory_size().size() as u64 * 8,
        register => register.size() as u64 * 8,
    };
    (count & if size == 64 { 63 } else { 31 }, size)
}

/// The flags that the SDM leaves undefined after `insn`, where it began in `state`.
pub fn undefined_flags(insn: &Instruction, state: &State) -> u64 {
    let mnemonic = insn.mnemonic();
    if let Some((_, flags)) = ALWAYS.iter().find(|(mnemonics, _)| mnemonics.contains(&mnemonic)) {
        return *flags;
    }
    let Some(shift) = SHIFTS.iter().find(|shift| shift.mnemonics.contains(&mnemonic)) else {
        return 0;
    };
    let (count, size) = count(insn, state);
    [
        (count > 0, shift.any),
        (count > 1, shift.long),
        (count >= size, shift.all),
        (count > size, shift.beyond),
    ]
    .iter()
    .filter(|(holds, _)| *holds)
    .fold(0, |all, (_, flags)| all | flags)
}

/// Whether `insn` may leave flags undefined with some operands.
pub fn may_leave_flags_undefined(insn: &Instruction) -> bool {
    let mnemonic = insn.mnemonic();
    ALWAYS.iter().any(|(mnemonics, _)| mnemonics.contains(&mnemonic))
        || SHIFTS.iter().any(|shift| shift.mnemonics.contains(&mnemonic))
}

/// The whole result is undefined: there is nothing to compare.
pub fn undefined_result(insn: &Instruction, state: &State) -> bool {
    let [significand, top] = state.x87.registers[0];
    let exponent = top & 0x7fff;
    match insn.code() {
        // F2XM1: a source beyond -1 to +1.
        Code::F2xm1 => exponent >= 0x3fff && exponent != 0x7fff,
        // FYL2XP1: one beyond -(1 - sqrt(2)/2) to 1 - sqrt(2)/2.
        Code::Fyl2xp1 => (exponent, significand) > (0x3ffd, 0x95f6_1998_0c43_36f7) && exponent != 0x7fff,
        // SHLD; SHRD: a count beyond the operand's size.
        Code::Shld_rm16_r16_imm8
        | Code::Shrd_rm16_r16_imm8
        | Code::Shld_rm16_r16_CL
        | Code::Shrd_rm16_r16_CL => count(insn, state).0 > 16,
        // MASKMOVQ; MASKMOVDQU: whether a mask of zeros can fault depends on the implementation.
        Code::Maskmovq_rDI_mm_mm => {
            let top = state.x87.status as usize >> 11;
            let [mask, _] = state.x87.registers[insn.op2_register().number().wrapping_sub(top) & 7];
            mask & SIGNS == 0
        }
        Code::Maskmovdqu_rDI_xmm_xmm | Code::VEX_Vmaskmovdqu_rDI_xmm_xmm => {
            let [low, high, ..] = state.ymm[insn.op2_register().number()];
            (low | high) & SIGNS == 0
        }
        _ => false,
    }
}

/// The top bit of each byte.
const SIGNS: u64 = 0x8080_8080_8080_8080;

/// DPPS; DPPD: which of several NaNs a sum becomes depends on the implementation, so all are one here.
pub fn forget_payloads(insn: &Instruction, outcome: &mut Outcome) {
    if !matches!(insn.mnemonic(), Dpps | Vdpps | Dppd | Vdppd) {
        return;
    }
    for half in &mut outcome.state.ymm[insn.op0_register().number()] {
        let single = |bits: u64| match f32::from_bits(bits as u32) {
            nan if nan.is_nan() => f32::NAN.to_bits() as u64,
            _ => bits & 0xffff_ffff,
        };
        match insn.mnemonic() {
            Dpps | Vdpps => *half = single(*half) | single(*half >> 32) << 32,
            Dppd | Vdppd if f64::from_bits(*half).is_nan() => *half = f64::NAN.to_bits(),
            _ => {}
        }
    }
}

/// Vol. 1, 8.3.10: transcendental instructions are exact to one unit in the last place. What is as near as that to the
/// host's result becomes it, and so does C1, which tells of its rounding.
pub fn forgive_last_place(insn: &Instruction, before: &State, ours: &mut Outcome, theirs: &Outcome) {
    if !is_transcendental(insn) || ours.fault.is_some() {
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
    if ours.status & !before.x87.status & STACK_FAULT == 0 {
        ours.status = ours.status & !C1 | theirs.status & C1;
    }
}

/// What the SDM does not say of exceptions.
pub fn forgive_details(insn: &Instruction, ours: &mut Outcome, theirs: &Outcome) {
    let (Some(our), Some(their)) = (&mut ours.fault, &theirs.fault) else {
        return;
    };
    // MASKMOVQ; MASKMOVDQU; FXSAVE; FXRSTOR; XSAVE and its kin: which of the bytes a page fault names.
    let is_large = matches!(insn.mnemonic(), Maskmovq | Maskmovdqu | Vmaskmovdqu) || saves_state(insn);
    if their.vector == 14 && is_large {
        our.address = their.address;
    }
    // MASKMOVQ: whether one that faults has marked the x87 registers as used.
    if insn.mnemonic() == Maskmovq && theirs.state.x87.tags == 0xff {
        ours.state.x87.tags = 0xff;
    }
}

/// FXSAVE, XSAVE and what restores their images.
fn saves_state(insn: &Instruction) -> bool {
    let features = insn.cpuid_features();
    let is_there = |feature| features.contains(&feature);
    [
        CpuidFeature::FXSR,
        CpuidFeature::XSAVE,
        CpuidFeature::XSAVEOPT,
        CpuidFeature::XSAVEC,
        CpuidFeature::XSAVES,
    ]
    .into_iter()
    .any(is_there)
}

fn is_transcendental(insn: &Instruction) -> bool {
    matches!(
        insn.mnemonic(),
        Fsin | Fcos | Fsincos | Fptan | Fpatan | F2xm1 | Fyl2x | Fyl2xp1
    )
}

/// What comes after it in a stream could not be compared.
pub fn has_open_result(insn: &Instruction) -> bool {
    is_transcendental(insn)
        || matches!(
            insn.mnemonic(),
            Shld | Shrd | Dpps | Vdpps | Dppd | Vdppd | Maskmovq | Maskmovdqu | Vmaskmovdqu
        )
}
