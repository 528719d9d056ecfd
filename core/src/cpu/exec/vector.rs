//! What all vector instructions share: when they are allowed, how they are encoded, where their operands are.
//!
//! An operation is written once, for 128 bits. Its legacy (SSE) encoding has two operands, the first of which is source
//! and destination, and leaves bits 255:128 of it; its VEX (AVX) encodings have a destination of their own, do the same to
//! one or two such lanes, and clear what is above.

use super::lanes::{Xmm, Ymm};
use crate::cpu::bits::{CR0_EM, CR0_TS, CR4_OSFXSR, CR4_OSXMMEXCPT, CR4_OSXSAVE};
use crate::cpu::decode::Form;
use crate::cpu::exception::vector;
use crate::cpu::float::{Environment, Format, BEFORE_COMPUTATION};
use crate::cpu::insn::{Handler, Insn};
use crate::cpu::int::Int;
use crate::cpu::{Cpu, Done, Stop};
use crate::platform::Bus;

/// XCR0: the SSE and AVX state that VEX encodings need turned on.
const XCR0_AVX: u64 = 0b110;

impl Cpu {
    /// #UD and #NM of legacy encodings, as SDM vol. 3, table 13-1 has them.
    #[inline(always)]
    pub fn check_sse(&mut self) -> Done {
        if self.cr0 & (CR0_EM | CR0_TS) != 0 || self.cr4 & CR4_OSFXSR == 0 {
            return Err(self.refuse_sse());
        }
        Ok(())
    }

    #[cold]
    fn refuse_sse(&mut self) -> Stop {
        if self.cr0 & CR0_EM != 0 || self.cr4 & CR4_OSFXSR == 0 {
            self.invalid_opcode()
        } else {
            self.device_not_available()
        }
    }

    /// #UD and #NM of VEX encodings (SDM vol. 2, 2.4). CR0.EM and CR4.OSFXSR have no say.
    #[inline(always)]
    pub fn check_avx(&mut self) -> Done {
        let off = self.cr4 & CR4_OSXSAVE == 0 || self.xcr0 & XCR0_AVX != XCR0_AVX;
        if off || self.cr0 & CR0_TS != 0 || self.paragraphs() {
            return Err(self.refuse_avx(off));
        }
        Ok(())
    }

    #[cold]
    fn refuse_avx(&mut self, off: bool) -> Stop {
        if off || self.paragraphs() {
            self.invalid_opcode()
        } else {
            self.device_not_available()
        }
    }

    #[inline(always)]
    pub fn xmm(&self, number: u8) -> Xmm {
        let ymm = &self.ymm[(number & 15) as usize];
        [ymm[0], ymm[1]]
    }

    /// The upper half of the YMM register stays.
    #[inline(always)]
    pub fn set_xmm(&mut self, number: u8, value: Xmm) {
        let ymm = &mut self.ymm[(number & 15) as usize];
        [ymm[0], ymm[1]] = value;
    }

    #[inline(always)]
    pub fn vector(&self, number: u8) -> Ymm {
        let ymm = &self.ymm[(number & 15) as usize];
        [[ymm[0], ymm[1]], [ymm[2], ymm[3]]]
    }

    /// As many lanes of the memory operand as the encoding has; the others are 0.
    #[inline(always)]
    pub fn read_vector<E: Encoding>(
        &mut self,
        bus: &mut Bus,
        insn: &Insn,
        aligned: bool,
    ) -> Result<Ymm, Stop> {
        let address = self.ea(insn);
        let quad = |bytes: &[u8], at| u64::load(bytes, at).unwrap_or_default();
        if E::LANES == 1 {
            let bytes = self.read_bytes::<16>(bus, insn.seg, address, aligned)?;
            return Ok([[quad(&bytes, 0), quad(&bytes, 8)], [0; 2]]);
        }
        let bytes = self.read_bytes::<32>(bus, insn.seg, address, aligned)?;
        Ok([0, 16].map(|at| [quad(&bytes, at), quad(&bytes, at + 8)]))
    }

    #[inline(always)]
    pub fn write_vector<E: Encoding>(
        &mut self,
        bus: &mut Bus,
        insn: &Insn,
        aligned: bool,
        value: Ymm,
    ) -> Done {
        let address = self.ea(insn);
        let [low, high] = value.map(|[low, high]| (low as u128 | (high as u128) << 64).to_le_bytes());
        if E::LANES == 1 {
            return self.write_bytes(bus, insn.seg, address, aligned, low);
        }
        let mut bytes = [0; 32];
        bytes[..16].copy_from_slice(&low);
        bytes[16..].copy_from_slice(&high);
        self.write_bytes(bus, insn.seg, address, aligned, bytes)
    }

    /// Notes the exceptions that an instruction found in MXCSR; those that are not masked are taken, and its result is
    /// not written (SDM vol. 1, 11.5.2).
    #[inline(always)]
    pub fn float_exceptions(&mut self, environment: &Environment) -> Done {
        if environment.found & !self.mxcsr != 0 || environment.unmasked(environment.found) != 0 {
            return self.note_float_exceptions(environment);
        }
        Ok(())
    }

    fn note_float_exceptions(&mut self, environment: &Environment) -> Done {
        let before = environment.found & BEFORE_COMPUTATION;
        let found = if environment.unmasked(before) != 0 {
            before
        } else {
            environment.found
        };
        self.mxcsr |= found;
        if environment.unmasked(found) == 0 {
            Ok(())
        } else if self.cr4 & CR4_OSXMMEXCPT != 0 {
            Err(self.raise(vector::SIMD, None, 0))
        } else {
            Err(self.invalid_opcode())
        }
    }
}

/// How an instruction is encoded.
pub trait Encoding {
    const VEX: bool;
    /// How many lanes of 128 bits it works on.
    const LANES: usize;
    /// Which register operand is the first source of an instruction that has two. The last source is `r[2]` in any case:
    /// slots behind the last register operand repeat it.
    const FIRST: usize;

    fn check(cpu: &mut Cpu) -> Done;
    /// Writes a vector register, and what the encoding makes of the bits above its lanes.
    fn write(cpu: &mut Cpu, number: u8, value: Ymm);
}

pub struct Legacy;
pub struct Vex<const LANES: usize>;

impl Encoding for Legacy {
    const VEX: bool = false;
    const LANES: usize = 1;
    const FIRST: usize = 0;

    #[inline(always)]
    fn check(cpu: &mut Cpu) -> Done {
        cpu.check_sse()
    }
    #[inline(always)]
    fn write(cpu: &mut Cpu, number: u8, value: Ymm) {
        cpu.set_xmm(number, value[0]);
    }
}

impl<const N: usize> Encoding for Vex<N> {
    const VEX: bool = true;
    const LANES: usize = N;
    const FIRST: usize = 1;

    #[inline(always)]
    fn check(cpu: &mut Cpu) -> Done {
        cpu.check_avx()
    }
    #[inline(always)]
    fn write(cpu: &mut Cpu, number: u8, value: Ymm) {
        let high = if N == 1 { [0; 2] } else { value[1] };
        cpu.ymm[(number & 15) as usize] = [value[0][0], value[0][1], high[0], high[1]];
    }
}

/// The last source of an instruction whose destination is a vector register.
pub trait Source {
    const IN_MEMORY: bool;
    /// `BYTES` bytes, zero-extended where they come from memory. Sixteen must be aligned in the legacy encoding.
    fn read<E: Encoding, const BYTES: usize>(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn) -> Result<Ymm, Stop>;
}

pub struct Register;
pub struct Memory;
/// Eight bytes of memory that are never #AC.
pub struct Unaligned;

impl Source for Register {
    const IN_MEMORY: bool = false;
    #[inline(always)]
    fn read<E: Encoding, const BYTES: usize>(cpu: &mut Cpu, _: &mut Bus, insn: &Insn) -> Result<Ymm, Stop> {
        Ok(cpu.vector(insn.r[2]))
    }
}

impl Source for Memory {
    const IN_MEMORY: bool = true;
    #[inline(always)]
    fn read<E: Encoding, const BYTES: usize>(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn) -> Result<Ymm, Stop> {
        let address = cpu.ea(insn);
        let low = match BYTES {
            1 => cpu.read::<u8>(bus, insn.seg, address)? as u64,
            2 => cpu.read::<u16>(bus, insn.seg, address)? as u64,
            4 => cpu.read::<u32>(bus, insn.seg, address)? as u64,
            8 => cpu.read::<u64>(bus, insn.seg, address)?,
            16 => return cpu.read_vector::<Vex<1>>(bus, insn, !E::VEX),
            _ => return cpu.read_vector::<Vex<2>>(bus, insn, false),
        };
        Ok([[low, 0], [0; 2]])
    }
}

impl Source for Unaligned {
    const IN_MEMORY: bool = true;
    fn read<E: Encoding, const BYTES: usize>(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn) -> Result<Ymm, Stop> {
        let low = cpu.read_unaligned::<u64>(bus, insn.seg, cpu.ea(insn))?;
        Ok([[low, 0], [0; 2]])
    }
}

/// The last source, as wide as the encoding is.
#[inline(always)]
pub fn read_packed<E: Encoding, S: Source>(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn) -> Result<Ymm, Stop> {
    if E::LANES == 1 {
        S::read::<E, 16>(cpu, bus, insn)
    } else {
        S::read::<E, 32>(cpu, bus, insn)
    }
}

/// The last source's lowest lane.
#[inline(always)]
pub fn read_scalar<F: Format, E: Encoding, S: Source>(
    cpu: &mut Cpu,
    bus: &mut Bus,
    insn: &Insn,
) -> Result<u64, Stop> {
    Ok(match F::Bits::BITS {
        32 => S::read::<E, 4>(cpu, bus, insn)?[0][0] & 0xffff_ffff,
        _ => S::read::<E, 8>(cpu, bus, insn)?[0][0],
    })
}

/// What each lane of 128 bits gets of the last source.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Share {
    /// The lane in its place.
    Own,
    /// So many bytes, one lane's after the other's, from the source's start.
    Bytes(usize),
    /// All lanes the same sixteen bytes.
    Same,
}

/// An instruction that computes its destination from two sources (one of them the destination's old value in the legacy
/// encoding) and an immediate, and touches nothing else. One lane of 128 bits has nothing to do with the other.
pub trait Packed {
    const SHARE: Share = Share::Own;
    /// How many bits of the immediate are for the lower lane alone.
    const IMMEDIATE_BITS: u32 = 0;
    fn compute(a: Xmm, b: Xmm, imm: u8) -> Xmm;
}

/// Compiled once, not for each encoding and place of the source: most of a build's time would go there.
#[inline(never)]
fn compute<O: Packed>(a: Xmm, b: Xmm, imm: u8) -> Xmm {
    O::compute(a, b, imm)
}

fn packed<O: Packed, E: Encoding, S: Source>(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn) -> Done {
    E::check(cpu)?;
    let bytes = match O::SHARE {
        Share::Own => 16 * E::LANES,
        Share::Bytes(each) => each * E::LANES,
        Share::Same => 16,
    };
    let b = match bytes {
        1 => S::read::<E, 1>(cpu, bus, insn)?,
        2 => S::read::<E, 2>(cpu, bus, insn)?,
        4 => S::read::<E, 4>(cpu, bus, insn)?,
        8 => S::read::<E, 8>(cpu, bus, insn)?,
        16 => S::read::<E, 16>(cpu, bus, insn)?,
        _ => S::read::<E, 32>(cpu, bus, insn)?,
    };
    let a = cpu.vector(insn.r[E::FIRST]);
    let mut result = Ymm::default();
    for number in 0..E::LANES {
        let share = match O::SHARE {
            Share::Own => b[number],
            Share::Bytes(each) => super::vector_integer::whole_right(b[0], (each * number) as u64),
            Share::Same => b[0],
        };
        let imm = insn.imm as u8 >> (O::IMMEDIATE_BITS * number as u32);
        result[number] = compute::<O>(a[number], share, imm);
    }
    E::write(cpu, insn.r[0], result);
    Ok(())
}

pub fn select_packed<O: Packed>(form: &Form) -> Option<Handler> {
    by_encoding!(form, packed, O)
}
