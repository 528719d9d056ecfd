//! One processor's local APIC (SDM vol. 3, "Advanced Programmable Interrupt Controller"): its registers, seen through the
//! page at IA32_APIC_BASE (xAPIC) or through MSRs 0x800–0x83F (x2APIC), its timer, and which interrupt it offers.
//!
//! What leaves the APIC (an interrupt command, an EOI for the I/O APIC) is returned as an `Effect`: the bus carries it out.

use super::lapic_registers::{self as reg, rule_of, ABSENT, R, W};
use super::lapic_timer::{Mode, Timer};

pub const BASE_BSP: u64 = 1 << 8;
pub const BASE_X2APIC: u64 = 1 << 10;
pub const BASE_ENABLE: u64 = 1 << 11;
pub const DEFAULT_BASE: u64 = 0xFEE0_0000;

/// An integrated APIC with 7 local vectors that can suppress EOI broadcasts.
pub const VERSION: u32 = 0x14 | 6 << 16 | 1 << 24;
const LDR_CLUSTER_MODEL: u32 = 0x0FFF_FFFF;

const SVR_ENABLE: u32 = 1 << 8;
const SVR_SUPPRESS_EOI_BROADCAST: u32 = 1 << 12;
const LVT_MASKED: u32 = 1 << 16;

pub const ESR_SEND_ILLEGAL_VECTOR: u32 = 1 << 5;
const ESR_RECEIVED_ILLEGAL_VECTOR: u32 = 1 << 6;
const ESR_ILLEGAL_REGISTER: u32 = 1 << 7;

/// What a write asks of the rest of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    None,
    /// An interrupt command: the low half of ICR and the destination.
    Command {
        low: u32,
        destination: u32,
    },
    /// The end of a level-triggered interrupt that the I/O APIC is to be told of.
    Eoi {
        vector: u8,
    },
}

/// A register that is not there, or not to be used so: a #GP in x2APIC mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Illegal;

/// What LINT0 or LINT1 does with its pin, or a local source with its event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LocalInterrupt {
    Masked,
    Fixed { vector: u8, level: bool },
    Nmi,
    Init,
    ExtInt,
}

#[derive(Clone)]
pub struct Lapic {
    base: u64,
    bsp: bool,
    /// The ID that the machine gave, which is the x2APIC ID. The xAPIC one can be changed.
    initial_id: u32,
    xapic_id: u8,
    tpr: u8,
    ldr: u8,
    dfr: u32,
    svr: u32,
    isr: [u32; 8],
    tmr: [u32; 8],
    irr: [u32; 8],
    esr: u32,
    /// Errors since ESR was last written.
    errors: u32,
    icr: u32,
    icr_high: u32,
    lvt_cmci: u32,
    /// Timer, thermal monitor, performance counters, LINT0, LINT1, error.
    lvt: [u32; 6],
    pub timer: Timer,
}

impl Lapic {
    pub fn new(id: u32) -> Self {
        let bsp = id == 0;
        let mut lapic = Lapic {
            base: DEFAULT_BASE | BASE_ENABLE | if bsp { BASE_BSP } else { 0 },
            bsp,
            initial_id: id,
            xapic_id: 0,
            tpr: 0,
            ldr: 0,
            dfr: 0,
            svr: 0,
            isr: [0; 8],
            tmr: [0; 8],
            irr: [0; 8],
            esr: 0,
            errors: 0,
            icr: 0,
            icr_high: 0,
            lvt_cmci: 0,
            lvt: [0; 6],
            timer: Timer::default(),
        };
        lapic.reset();
        lapic.xapic_id = id as u8;
        lapic
    }

    /// The state after power-up or INIT; the ID and IA32_APIC_BASE outlive it (SDM vol. 3, "Local APIC State After Power-Up
    /// or Reset").
    ///
    /// One thing is as firmware leaves it, for there is none here: LINT0 of the bootstrap processor takes the PIC.
    pub fn reset(&mut self) {
        self.tpr = 0;
        self.ldr = 0;
        self.dfr = u32::MAX;
        self.svr = 0xFF;
        self.isr = [0; 8];
        self.tmr = [0; 8];
        self.irr = [0; 8];
        self.esr = 0;
        self.errors = 0;
        self.icr = 0;
        self.icr_high = 0;
        self.lvt_cmci = LVT_MASKED;
        self.lvt = [LVT_MASKED; 6];
        if self.bsp {
            self.lvt[LINT0] = DELIVERY_EXTINT << 8;
        }
        self.timer = Timer::default();
    }

    pub fn base(&self) -> u64 {
        self.base
    }

    /// Writes IA32_APIC_BASE. Refused, as by #GP: reserved bits (those above the physical-address width among them) and the
    /// transitions that SDM vol. 3, "x2APIC States", does not allow.
    pub fn set_base(
        &mut self,
        value: u64,
        physical_address_width: u8,
        x2apic_offered: bool,
    ) -> Result<(), Illegal> {
        let enable = BASE_ENABLE | if x2apic_offered { BASE_X2APIC } else { 0 };
        let address = u64::MAX >> (64 - u32::from(physical_address_width.clamp(32, 52))) & !0xFFF;
        if value & !(address | enable | BASE_BSP) != 0 {
            return Err(Illegal);
        }
        let mode = |base: u64| (base & BASE_ENABLE != 0, base & BASE_X2APIC != 0);
        match (mode(self.base), mode(value)) {
            (_, (false, true)) | ((true, true), (true, false)) | ((false, _), (true, true)) => {
                return Err(Illegal)
            }
            ((true, false), (true, true)) => {
                // The registers stay, the IDs become those of x2APIC mode, ICR's destination is lost.
                self.icr_high = 0;
            }
            ((true, _), (false, _)) => {
                self.reset();
                self.xapic_id = self.initial_id as u8;
            }
            _ => {}
        }
        self.base = value;
        Ok(())
    }

    pub fn enabled(&self) -> bool {
        self.base & BASE_ENABLE != 0
    }

    pub fn x2apic(&self) -> bool {
        self.base & (BASE_ENABLE | BASE_X2APIC) == BASE_ENABLE | BASE_X2APIC
    }

    /// The page of the registers, where they are in memory at all.
    pub fn page(&self) -> Option<u64> {
        (self.enabled() && !self.x2apic()).then_some(self.base & !0xFFF)
    }

    /// Enabled by SVR too: accepts fixed interrupts.
    pub fn software_enabled(&self) -> bool {
        self.enabled() && self.svr & SVR_ENABLE != 0
    }

    pub fn id(&self) -> u32 {
        if self.x2apic() {
            self.initial_id
        } else {
            self.xapic_id.into()
        }
    }

    /// Whether a physical destination names this APIC.
    pub fn matches_physical(&self, destination: u32) -> bool {
        self.enabled() && self.id() == destination
    }

    /// Whether a logical destination names this APIC. An x2APIC's logical ID follows from its ID: cluster in the high half,
    /// one bit of 16 in the low one. In xAPIC mode DFR tells the flat model from clusters.
    pub fn matches_logical(&self, destination: u32) -> bool {
        if !self.enabled() {
            false
        } else if self.x2apic() {
            let ldr = self.x2apic_ldr();
            ldr >> 16 == destination >> 16 && ldr & destination & 0xFFFF != 0
        } else if destination > 0xFF {
            false
        } else if self.dfr == LDR_CLUSTER_MODEL {
            let (ldr, destination) = (u32::from(self.ldr), destination);
            (destination >> 4 == ldr >> 4 || destination >> 4 == 0xF) && ldr & destination & 0xF != 0
        } else {
            u32::from(self.ldr) & destination != 0
        }
    }

    fn x2apic_ldr(&self) -> u32 {
        self.initial_id >> 4 << 16 | 1 << (self.initial_id & 0xF)
    }

    pub fn tpr(&self) -> u8 {
        self.tpr
    }

    pub fn set_tpr(&mut self, value: u8) {
        self.tpr = value;
    }

    /// The processor priority: the higher of the task's and that of the interrupt in service.
    pub fn ppr(&self) -> u8 {
        let in_service = highest(&self.isr).unwrap_or(0);
        if self.tpr >> 4 >= in_service >> 4 {
            self.tpr
        } else {
            in_service & 0xF0
        }
    }

    /// The vector of the interrupt that is offered to the processor now.
    pub fn interrupt(&self) -> Option<u8> {
        let vector = highest(&self.irr)?;
        (self.software_enabled() && vector >> 4 > self.ppr() >> 4).then_some(vector)
    }

    /// INTA: takes the offered interrupt in service. Where none is, the spurious vector.
    pub fn acknowledge(&mut self) -> u8 {
        match self.interrupt() {
            Some(vector) => {
                set(&mut self.irr, vector, false);
                set(&mut self.isr, vector, true);
                vector
            }
            None => self.svr as u8,
        }
    }

    /// A fixed interrupt arrives. Says whether it was accepted.
    pub fn accept(&mut self, vector: u8, level: bool) -> bool {
        if !self.software_enabled() {
            return false;
        }
        if vector < 16 {
            self.error(ESR_RECEIVED_ILLEGAL_VECTOR);
            return false;
        }
        set(&mut self.irr, vector, true);
        set(&mut self.tmr, vector, level);
        true
    }

    fn eoi(&mut self) -> Effect {
        let Some(vector) = highest(&self.isr) else {
            return Effect::None;
        };
        set(&mut self.isr, vector, false);
        let level = self.tmr[usize::from(vector >> 5)] & 1 << (vector & 31) != 0;
        if level && self.svr & SVR_SUPPRESS_EOI_BROADCAST == 0 {
            Effect::Eoi { vector }
        } else {
            Effect::None
        }
    }

    /// Notes errors, and raises the error interrupt for new ones.
    pub fn error(&mut self, bits: u32) {
        let new = bits & !self.errors != 0;
        self.errors |= bits;
        if new {
            if let LocalInterrupt::Fixed { vector, .. } = self.local(self.lvt[ERROR] & !DELIVERY_MASK) {
                if vector >= 16 {
                    self.accept(vector, false);
                } else {
                    self.errors |= ESR_RECEIVED_ILLEGAL_VECTOR;
                }
            }
        }
    }

    /// What pin LINT0 does now. With the APIC disabled it is the processor's INTR.
    pub fn lint0(&self) -> LocalInterrupt {
        match self.enabled() {
            true => self.local(self.lvt[LINT0]),
            false if self.bsp => LocalInterrupt::ExtInt,
            false => LocalInterrupt::Masked,
        }
    }

    fn local(&self, lvt: u32) -> LocalInterrupt {
        if lvt & LVT_MASKED != 0 {
            return LocalInterrupt::Masked;
        }
        match (lvt & DELIVERY_MASK) >> 8 {
            0 => LocalInterrupt::Fixed {
                vector: lvt as u8,
                level: lvt & 1 << 15 != 0,
            },
            DELIVERY_NMI => LocalInterrupt::Nmi,
            DELIVERY_INIT => LocalInterrupt::Init,
            DELIVERY_EXTINT => LocalInterrupt::ExtInt,
            _ => LocalInterrupt::Masked,
        }
    }

    /// Lets the timer do what is due at `clock` (machine time). Says whether an interrupt came of it.
    pub fn fire_timer(&mut self, clock: u64, tsc_offset: u64) -> bool {
        let expired = self.timer.expire(clock, tsc_offset);
        if let (true, LocalInterrupt::Fixed { vector, .. }) =
            (expired, self.local(self.lvt[TIMER] & !DELIVERY_MASK))
        {
            return self.accept(vector, false);
        }
        false
    }

    /// A read of the page in xAPIC mode: the register's 32 bits; what is not there reads zero and is an error.
    pub fn xapic_read(&mut self, register: u8, clock: u64) -> u32 {
        match rule_of(register) {
            Some(rule) if rule.xapic & R != 0 => self.value(register, clock),
            Some(rule) if rule.xapic != ABSENT => 0,
            _ => {
                self.error(ESR_ILLEGAL_REGISTER);
                0
            }
        }
    }

    pub fn xapic_write(&mut self, register: u8, value: u32, clock: u64) -> Effect {
        match rule_of(register) {
            Some(rule) if rule.xapic & W != 0 => self.set_value(register, value & rule.writable, clock),
            Some(rule) if rule.xapic != ABSENT => Effect::None,
            _ => {
                self.error(ESR_ILLEGAL_REGISTER);
                Effect::None
            }
        }
    }

    /// RDMSR of 0x800 + `register`.
    pub fn x2apic_read(&self, register: u8, clock: u64) -> Result<u64, Illegal> {
        match rule_of(register) {
            Some(rule) if self.x2apic() && rule.x2apic & R != 0 => Ok(match register {
                reg::ICR => u64::from(self.icr_high) << 32 | u64::from(self.icr),
                _ => self.value(register, clock).into(),
            }),
            _ => Err(Illegal),
        }
    }

    /// WRMSR of 0x800 + `register`. Reserved bits must be zero.
    pub fn x2apic_write(&mut self, register: u8, value: u64, clock: u64) -> Result<Effect, Illegal> {
        let rule = rule_of(register)
            .filter(|rule| self.x2apic() && rule.x2apic & W != 0)
            .ok_or(Illegal)?;
        let low = value as u32;
        if low & !(rule.writable | rule.read_only) != 0 || value >> 32 != 0 && register != reg::ICR {
            return Err(Illegal);
        }
        if register == reg::ICR {
            self.icr_high = (value >> 32) as u32;
        }
        Ok(self.set_value(register, low & rule.writable, clock))
    }

    fn value(&self, register: u8, clock: u64) -> u32 {
        let word = usize::from(register & 7);
        match register {
            reg::ID if self.x2apic() => self.initial_id,
            reg::ID => u32::from(self.xapic_id) << 24,
            reg::VERSION => VERSION,
            reg::TPR => self.tpr.into(),
            reg::APR | reg::PPR => self.ppr().into(),
            reg::LDR if self.x2apic() => self.x2apic_ldr(),
            reg::LDR => u32::from(self.ldr) << 24,
            reg::DFR => self.dfr,
            reg::SVR => self.svr,
            reg::ISR..=0x17 => self.isr[word],
            reg::TMR..=0x1F => self.tmr[word],
            reg::IRR..=0x27 => self.irr[word],
            reg::ESR => self.esr,
            reg::LVT_CMCI => self.lvt_cmci,
            reg::ICR => self.icr,
            reg::ICR_HIGH => self.icr_high,
            reg::LVT_TIMER..=reg::LVT_ERROR => self.lvt[usize::from(register - reg::LVT_TIMER)],
            reg::INITIAL_COUNT => self.timer.initial_count(),
            reg::CURRENT_COUNT => self.timer.current_count(clock),
            reg::DIVIDE => self.timer.divide(),
            _ => 0,
        }
    }

    fn set_value(&mut self, register: u8, value: u32, clock: u64) -> Effect {
        match register {
            reg::ID => self.xapic_id = (value >> 24) as u8,
            reg::TPR => self.tpr = value as u8,
            reg::EOI => return self.eoi(),
            reg::LDR => self.ldr = (value >> 24) as u8,
            reg::DFR => self.dfr = value | LDR_CLUSTER_MODEL,
            reg::SVR => {
                self.svr = value;
                if value & SVR_ENABLE == 0 {
                    // Disabling sets all mask bits (SDM vol. 3, "Local APIC State After It Has Been Software Disabled").
                    self.lvt.iter_mut().for_each(|lvt| *lvt |= LVT_MASKED);
                    self.lvt_cmci |= LVT_MASKED;
                }
            }
            reg::ESR => self.esr = std::mem::take(&mut self.errors),
            reg::LVT_CMCI => self.lvt_cmci = self.masked_if_disabled(value),
            reg::ICR => {
                self.icr = value;
                let destination = if self.x2apic() {
                    self.icr_high
                } else {
                    self.icr_high >> 24
                };
                return Effect::Command {
                    low: value,
                    destination,
                };
            }
            reg::ICR_HIGH => self.icr_high = value,
            reg::LVT_TIMER..=reg::LVT_ERROR => {
                self.lvt[usize::from(register - reg::LVT_TIMER)] = self.masked_if_disabled(value);
                if register == reg::LVT_TIMER {
                    self.timer.set_mode(Mode::from_lvt(value));
                }
            }
            reg::INITIAL_COUNT => self.timer.set_initial_count(value, clock),
            reg::DIVIDE => self.timer.set_divide(value, clock),
            reg::SELF_IPI => {
                const SELF_SHORTHAND: u32 = 1 << 18;
                return Effect::Command {
                    low: value | SELF_SHORTHAND,
                    destination: 0,
                };
            }
            _ => {}
        }
        Effect::None
    }

    fn masked_if_disabled(&self, lvt: u32) -> u32 {
        if self.svr & SVR_ENABLE == 0 {
            lvt | LVT_MASKED
        } else {
            lvt
        }
    }
}

const TIMER: usize = 0;
const LINT0: usize = (reg::LVT_LINT0 - reg::LVT_TIMER) as usize;
const ERROR: usize = (reg::LVT_ERROR - reg::LVT_TIMER) as usize;
const DELIVERY_MASK: u32 = 0x700;
const DELIVERY_NMI: u32 = 4;
const DELIVERY_INIT: u32 = 5;
const DELIVERY_EXTINT: u32 = 7;

fn highest(bits: &[u32; 8]) -> Option<u8> {
    let (word, bits) = bits.iter().enumerate().rev().find(|(_, bits)| **bits != 0)?;
    Some((word * 32) as u8 + 31 - bits.leading_zeros() as u8)
}

fn set(bits: &mut [u32; 8], vector: u8, value: bool) {
    let (word, bit) = (&mut bits[usize::from(vector >> 5)], 1 << (vector & 31));
    if value {
        *word |= bit;
    } else {
        *word &= !bit;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ready() -> Lapic {
        let mut lapic = Lapic::new(0);
        lapic.xapic_write(reg::SVR, 0x1FF, 0);
        lapic
    }

    fn x2apic(id: u32) -> Lapic {
        let mut lapic = Lapic::new(id);
        lapic.set_base(lapic.base() | BASE_X2APIC, 40, true).unwrap();
        lapic.x2apic_write(reg::SVR, 0x1FF, 0).unwrap();
        lapic
    }

    #[test]
    fn the_highest_vector_above_ppr_is_offered() {
        let mut lapic = ready();
        for vector in [0x41, 0x52, 0x47] {
            assert!(lapic.accept(vector, false));
        }
        assert_eq!(lapic.interrupt(), Some(0x52));
        assert_eq!(lapic.acknowledge(), 0x52);
        assert_eq!(lapic.ppr(), 0x50);
        assert_eq!(lapic.interrupt(), None);
        assert_eq!(lapic.xapic_write(reg::EOI, 0, 0), Effect::None);
        lapic.set_tpr(0x45);
        assert_eq!(lapic.interrupt(), None, "class 4 is not above TPR 0x45");
        lapic.set_tpr(0x3F);
        assert_eq!(lapic.acknowledge(), 0x47);
    }

    #[test]
    fn nothing_to_acknowledge_gives_the_spurious_vector() {
        let mut lapic = ready();
        assert_eq!(lapic.acknowledge(), 0xFF);
        assert_eq!(lapic.xapic_read(reg::ISR + 7, 0), 0);
    }

    #[test]
    fn eoi_of_a_level_interrupt_is_broadcast_unless_suppressed() {
        let mut lapic = ready();
        lapic.accept(0x77, true);
        assert_eq!(lapic.xapic_read(reg::TMR + 3, 0), 1 << 0x17);
        lapic.acknowledge();
        assert_eq!(lapic.xapic_write(reg::EOI, 0, 0), Effect::Eoi { vector: 0x77 });
        lapic.xapic_write(reg::SVR, 0x11FF, 0);
        lapic.accept(0x77, true);
        lapic.acknowledge();
        assert_eq!(lapic.xapic_write(reg::EOI, 0, 0), Effect::None);
    }

    #[test]
    fn base_transitions() {
        let (off, xapic, x2) = (0, BASE_ENABLE, BASE_ENABLE | BASE_X2APIC);
        let allowed = [
            (off, off),
            (off, xapic),
            (xapic, off),
            (xapic, xapic),
            (xapic, x2),
            (x2, x2),
            (x2, off),
        ];
        for from in [off, xapic, x2] {
            for to in [off, xapic, x2, BASE_X2APIC] {
                let mut lapic = Lapic::new(0);
                let steps: &[u64] = if from == x2 { &[x2] } else { &[from] };
                for step in steps {
                    lapic.set_base(DEFAULT_BASE | step, 40, true).unwrap();
                }
                let result = lapic.set_base(DEFAULT_BASE | to, 40, true);
                assert_eq!(
                    result.is_ok(),
                    allowed.contains(&(from, to)),
                    "{from:x} to {to:x}"
                );
            }
        }
        let mut lapic = Lapic::new(0);
        assert_eq!(lapic.set_base(1 << 40 | BASE_ENABLE, 40, true), Err(Illegal));
        assert_eq!(
            lapic.set_base(DEFAULT_BASE | BASE_ENABLE | 1, 40, true),
            Err(Illegal)
        );
        assert_eq!(lapic.set_base(DEFAULT_BASE | x2, 40, false), Err(Illegal));
    }

    #[test]
    fn disabling_and_enabling_again_gives_a_fresh_xapic() {
        let mut lapic = x2apic(3);
        lapic.accept(0x40, false);
        let base = lapic.base();
        lapic
            .set_base(base & !(BASE_ENABLE | BASE_X2APIC), 40, true)
            .unwrap();
        assert_eq!((lapic.page(), lapic.interrupt()), (None, None));
        lapic.set_base(base & !BASE_X2APIC, 40, true).unwrap();
        assert_eq!(lapic.page(), Some(DEFAULT_BASE));
        assert_eq!(lapic.xapic_read(reg::SVR, 0), 0xFF);
        assert_eq!(lapic.xapic_read(reg::ID, 0), 3 << 24);
        assert_eq!(lapic.xapic_read(reg::IRR + 2, 0), 0);
    }

    #[test]
    fn x2apic_msrs_fault_on_what_is_reserved() {
        let mut lapic = x2apic(0x25);
        assert_eq!(lapic.x2apic_read(reg::ID, 0), Ok(0x25));
        assert_eq!(lapic.x2apic_read(reg::LDR, 0), Ok(0x2_0020));
        for (register, value) in [
            (reg::ID, 0),
            (reg::EOI, 1),
            (reg::ESR, 1),
            (reg::TPR, 0x100),
            (reg::SVR, 0x200),
            (reg::DFR, 0),
            (reg::ICR_HIGH, 0),
            (reg::VERSION, 0),
            (reg::LVT_TIMER, 0x8_0000),
            (reg::DIVIDE, 4),
            (reg::SELF_IPI, 0x100),
            (reg::TPR, 1 << 32),
        ] {
            assert_eq!(
                lapic.x2apic_write(register, value, 0),
                Err(Illegal),
                "{register:x}"
            );
        }
        for register in [reg::EOI, reg::SELF_IPI, reg::DFR, reg::ICR_HIGH, 0x00, 0x0C, 0x3A] {
            assert_eq!(lapic.x2apic_read(register, 0), Err(Illegal), "{register:x}");
        }
        let command = lapic.x2apic_write(reg::ICR, 0x1234_0000_40F1, 0);
        assert_eq!(
            command,
            Ok(Effect::Command {
                low: 0x40F1,
                destination: 0x1234
            })
        );
        assert_eq!(lapic.x2apic_read(reg::ICR, 0), Ok(0x1234_0000_40F1));
        assert_eq!(ready().x2apic_read(reg::ID, 0), Err(Illegal), "not in xAPIC mode");
    }

    #[test]
    fn logical_destinations() {
        let mut lapic = ready();
        lapic.xapic_write(reg::LDR, 0x2200_0000, 0);
        assert!(lapic.matches_logical(0x02) && lapic.matches_logical(0xFF) && !lapic.matches_logical(0x11));
        lapic.xapic_write(reg::DFR, 0, 0);
        assert_eq!(lapic.xapic_read(reg::DFR, 0), LDR_CLUSTER_MODEL);
        assert!(lapic.matches_logical(0x22) && lapic.matches_logical(0xF2));
        assert!(!lapic.matches_logical(0x02) && !lapic.matches_logical(0x21));
        let lapic = x2apic(0x25);
        assert!(
            lapic.matches_logical(0x2_0020)
                && !lapic.matches_logical(0x2_0010)
                && !lapic.matches_logical(0x20)
        );
    }

    #[test]
    fn errors_are_latched_by_writing_esr() {
        let mut lapic = ready();
        lapic.xapic_write(reg::LVT_ERROR, 0xFE, 0);
        assert_eq!(lapic.xapic_read(0x3A, 0), 0);
        assert!(!lapic.accept(5, false));
        assert_eq!(lapic.xapic_read(reg::ESR, 0), 0);
        lapic.xapic_write(reg::ESR, 0, 0);
        assert_eq!(
            lapic.xapic_read(reg::ESR, 0),
            ESR_ILLEGAL_REGISTER | ESR_RECEIVED_ILLEGAL_VECTOR
        );
        assert_eq!(lapic.interrupt(), Some(0xFE));
    }

    #[test]
    fn software_disabling_masks_the_local_vectors() {
        let mut lapic = ready();
        lapic.xapic_write(reg::LVT_TIMER, 0x30, 0);
        lapic.xapic_write(reg::SVR, 0xFF, 0);
        assert_eq!(lapic.xapic_read(reg::LVT_TIMER, 0), 0x1_0030);
        lapic.xapic_write(reg::LVT_TIMER, 0x31, 0);
        assert_eq!(lapic.xapic_read(reg::LVT_TIMER, 0), 0x1_0031);
        assert!(!lapic.accept(0x40, false));
    }

    #[test]
    fn the_timer_raises_its_vector() {
        let mut lapic = ready();
        lapic.xapic_write(reg::DIVIDE, 0xB, 0);
        lapic.xapic_write(reg::LVT_TIMER, 0xEE, 0);
        lapic.xapic_write(reg::INITIAL_COUNT, 1000, 5);
        assert!(!lapic.fire_timer(1004, 0));
        assert!(lapic.fire_timer(1005, 0));
        assert_eq!(lapic.interrupt(), Some(0xEE));
    }
}
