//! The local APIC's registers: their numbers, and who may read and write which of their bits (SDM vol. 3, tables "Local APIC
//! Register Address Map" and "Local APIC Register Address Map Supported by x2APIC").
//!
//! A register's number is its offset in the page divided by 16, and its MSR less 0x800.

pub const ID: u8 = 0x02;
pub const VERSION: u8 = 0x03;
pub const TPR: u8 = 0x08;
pub const APR: u8 = 0x09;
pub const PPR: u8 = 0x0A;
pub const EOI: u8 = 0x0B;
pub const LDR: u8 = 0x0D;
pub const DFR: u8 = 0x0E;
pub const SVR: u8 = 0x0F;
pub const ISR: u8 = 0x10;
pub const TMR: u8 = 0x18;
pub const IRR: u8 = 0x20;
pub const ESR: u8 = 0x28;
pub const LVT_CMCI: u8 = 0x2F;
pub const ICR: u8 = 0x30;
pub const ICR_HIGH: u8 = 0x31;
pub const LVT_TIMER: u8 = 0x32;
pub const LVT_LINT0: u8 = 0x35;
pub const LVT_LINT1: u8 = 0x36;
pub const LVT_ERROR: u8 = 0x37;
pub const INITIAL_COUNT: u8 = 0x38;
pub const CURRENT_COUNT: u8 = 0x39;
pub const DIVIDE: u8 = 0x3E;
pub const SELF_IPI: u8 = 0x3F;

/// In which mode a register can be read and written. What is not allowed is a #GP in x2APIC mode; in xAPIC mode a register
/// that is not there is an illegal register address, and a write to a read-only one does nothing.
pub struct Rule {
    pub first: u8,
    pub last: u8,
    pub xapic: u8,
    pub x2apic: u8,
    /// Bits that software can write. In x2APIC mode others must be zero, except `read_only` ones.
    pub writable: u32,
    pub read_only: u32,
}

pub const ABSENT: u8 = 0;
pub const R: u8 = 1;
pub const W: u8 = 2;
const RW: u8 = R | W;

const fn rule(first: u8, last: u8, (xapic, x2apic): (u8, u8), writable: u32, read_only: u32) -> Rule {
    Rule {
        first,
        last,
        xapic,
        x2apic,
        writable,
        read_only,
    }
}

const RULES: &[Rule] = &[
    rule(ID, ID, (RW, R), 0xFF00_0000, 0),
    rule(VERSION, VERSION, (R, R), 0, 0),
    rule(TPR, TPR, (RW, RW), 0xFF, 0),
    rule(APR, APR, (R, ABSENT), 0, 0),
    rule(PPR, PPR, (R, R), 0, 0),
    rule(EOI, EOI, (W, W), 0, 0),
    rule(LDR, LDR, (RW, R), 0xFF00_0000, 0),
    rule(DFR, DFR, (RW, ABSENT), 0xF000_0000, 0),
    rule(SVR, SVR, (RW, RW), 0x11FF, 0),
    rule(ISR, ISR + 7, (R, R), 0, 0),
    rule(TMR, TMR + 7, (R, R), 0, 0),
    rule(IRR, IRR + 7, (R, R), 0, 0),
    rule(ESR, ESR, (RW, RW), 0, 0),
    rule(LVT_CMCI, LVT_CMCI, (RW, RW), 0x1_07FF, 0x1000),
    rule(ICR, ICR, (RW, RW), 0x000C_CFFF, 0x1000),
    rule(ICR_HIGH, ICR_HIGH, (RW, ABSENT), 0xFF00_0000, 0),
    rule(LVT_TIMER, LVT_TIMER, (RW, RW), 0x7_00FF, 0x1000),
    // Thermal monitor and performance counters: nothing raises them yet.
    rule(LVT_TIMER + 1, LVT_TIMER + 2, (RW, RW), 0x1_07FF, 0x1000),
    rule(LVT_LINT0, LVT_LINT1, (RW, RW), 0x1_A7FF, 0x5000),
    rule(LVT_ERROR, LVT_ERROR, (RW, RW), 0x1_00FF, 0x1000),
    rule(INITIAL_COUNT, INITIAL_COUNT, (RW, RW), u32::MAX, 0),
    rule(CURRENT_COUNT, CURRENT_COUNT, (R, R), 0, 0),
    rule(DIVIDE, DIVIDE, (RW, RW), 0xB, 0),
    rule(SELF_IPI, SELF_IPI, (ABSENT, W), 0xFF, 0),
];

pub fn rule_of(register: u8) -> Option<&'static Rule> {
    RULES
        .iter()
        .find(|rule| (rule.first..=rule.last).contains(&register))
}
