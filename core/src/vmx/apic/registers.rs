//! The virtual-APIC page and its registers (SDM vol. 3, 30.1.1).

use crate::cpu::Cpu;
use crate::platform::Bus;
use crate::vmx::fields::field;

pub const TPR: u16 = 0x080;
pub const PPR: u16 = 0x0a0;
pub const EOI: u16 = 0x0b0;
pub const ISR: u16 = 0x100;
pub const IRR: u16 = 0x200;
pub const ICR: u16 = 0x300;
pub const ICR_HIGH: u16 = 0x310;
/// Of x2APIC mode; here the place of its MSR's value.
pub const SELF_IPI: u16 = 0x3f0;

/// Registers that "APIC-register virtualization" virtualizes (30.4.2, 30.4.3.1): each has 4 bytes at a multiple of 16.
struct Registers {
    first: u16,
    last: u16,
    name: &'static str,
    written: bool,
}

const fn registers(first: u16, last: u16, name: &'static str, written: bool) -> Registers {
    Registers {
        first,
        last,
        name,
        written,
    }
}

const VIRTUALIZED: &[Registers] = &[
    registers(0x020, 0x020, "local APIC ID", true),
    registers(0x030, 0x030, "local APIC version", false),
    registers(TPR, TPR, "task priority", true),
    registers(EOI, EOI, "end of interrupt", true),
    registers(0x0d0, 0x0d0, "logical destination", true),
    registers(0x0e0, 0x0e0, "destination format", true),
    registers(0x0f0, 0x0f0, "spurious-interrupt vector", true),
    registers(ISR, 0x170, "in-service", false),
    registers(0x180, 0x1f0, "trigger mode", false),
    registers(IRR, 0x270, "interrupt request", false),
    registers(0x280, 0x280, "error status", true),
    registers(ICR, ICR, "interrupt command, low half", true),
    registers(ICR_HIGH, ICR_HIGH, "interrupt command, high half", true),
    registers(0x320, 0x370, "local vector table", true),
    registers(0x380, 0x380, "initial count", true),
    registers(0x3e0, 0x3e0, "divide configuration", true),
];

/// The register that lies at a page offset (any of its 4 bytes), if it is one of those that can be virtualized.
fn at(offset: u16) -> Option<&'static Registers> {
    let start = offset & !3;
    let found = VIRTUALIZED
        .iter()
        .find(|row| (row.first..=row.last).contains(&start));
    found.filter(|_| start & 0xf == 0)
}

/// Whether "APIC-register virtualization" virtualizes reads (or writes) at a page offset.
pub fn is_virtualized(offset: u16, write: bool) -> bool {
    at(offset).is_some_and(|row| !write || row.written)
}

/// The SDM's name for what lies at a page offset.
pub fn name(offset: u16) -> Option<&'static str> {
    match offset & !3 {
        PPR => Some("processor priority"),
        SELF_IPI => Some("self IPI"),
        _ => at(offset).map(|row| row.name),
    }
}

/// The virtual-APIC page of the current VMCS.
#[derive(Clone, Copy)]
pub struct VirtualApic {
    cpu: usize,
    /// Host-physical.
    pub address: u64,
}

impl VirtualApic {
    pub fn of(cpu: &Cpu) -> VirtualApic {
        VirtualApic {
            cpu: cpu.id,
            address: cpu.vmx.get(field::VIRTUAL_APIC_ADDRESS),
        }
    }

    pub fn read(&self, bus: &mut Bus, offset: u16) -> u32 {
        bus.read_physical(self.cpu, self.address + offset as u64, 4) as u32
    }

    pub fn write(&self, bus: &mut Bus, offset: u16, value: u32) {
        bus.write_physical(self.cpu, self.address + offset as u64, 4, value as u64);
    }

    /// Sets or clears the bit of `vector` in one of the 256-bit registers.
    pub fn set_bit(&self, bus: &mut Bus, register: u16, vector: u8, value: bool) {
        let offset = register + (vector as u16 >> 5 << 4);
        let bit = 1 << (vector & 31);
        let old = self.read(bus, offset);
        self.write(bus, offset, if value { old | bit } else { old & !bit });
    }

    /// The highest vector whose bit is set in one of the 256-bit registers; 0 where none is.
    pub fn highest(&self, bus: &mut Bus, register: u16) -> u8 {
        (0..8u16)
            .rev()
            .find_map(|word| {
                let bits = self.read(bus, register + (word << 4));
                (bits != 0).then(|| (word * 32) as u8 + 31 - bits.leading_zeros() as u8)
            })
            .unwrap_or(0)
    }

    /// The priority class of the virtual TPR.
    pub fn task_priority_class(&self, bus: &mut Bus) -> u8 {
        self.read(bus, TPR) as u8 >> 4
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every offset of the page, against the lists of SDM vol. 3, 30.4.2 and 30.4.3.1, written as bitmaps of the 64
    /// registers that a page can have.
    #[test]
    fn offsets_are_those_of_the_sdm() {
        const READ: u64 = 1 << 0x38
            | 1 << 0x3e
            | 0b1111_1100 << 0x30
            | 0b11 << 0x30
            | 1 << 0x28
            | 0xff_ffff << 0x10
            | 0b1110_1001_0000_1100;
        const WRITE: u64 = 1 << 0x38 | 1 << 0x3e | 0b1111_1111 << 0x30 | 1 << 0x28 | 0b1110_1001_0000_0100;
        for offset in 0..0x1000u16 {
            let register = offset >> 4;
            let listed = |map: u64| register < 64 && map >> register & 1 != 0 && offset & 0xc == 0;
            assert_eq!(is_virtualized(offset, false), listed(READ), "read {offset:#x}");
            assert_eq!(is_virtualized(offset, true), listed(WRITE), "write {offset:#x}");
        }
    }
}
