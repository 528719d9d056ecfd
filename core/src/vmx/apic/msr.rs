//! Virtualization of MSR-based APIC accesses: "virtualize x2APIC mode" (SDM vol. 3, 30.5).

use super::emulation::{self, Unfinished};
use super::registers::{VirtualApic, EOI, ICR, SELF_IPI, TPR};
use super::{interrupt_delivery, interrupts, ipi, ipi_virtualization, register_virtualization};
use crate::cpu::{Cpu, Stop};
use crate::platform::Bus;
use crate::vmx::controls::secondary;

/// Bits of the interrupt command register that WRMSR reserves.
const ICR_RESERVED: u64 = 0xfff0_0000 | 3 << 16 | 1 << 13;

/// The page offset that stands for an MSR whose accesses are virtualized.
fn offset(cpu: &Cpu, msr: u32) -> Option<u16> {
    let virtualized = cpu.vmx.guest && cpu.vmx.controls.secondary & secondary::VIRTUALIZE_X2APIC_MODE != 0;
    (virtualized && (0x800..=0x8ff).contains(&msr)).then_some(((msr & 0xff) << 4) as u16)
}

/// RDMSR in a guest that does not exit: the value, where the virtual-APIC page supplies it.
#[inline]
pub fn read(cpu: &Cpu, bus: &mut Bus, msr: u32) -> Option<u64> {
    let offset = offset(cpu, msr).filter(|&offset| offset == TPR || register_virtualization(cpu))?;
    let apic = VirtualApic::of(cpu);
    Some(bus.read_physical(cpu.id, apic.address + offset as u64, 8))
}

/// WRMSR in a guest that does not exit: true where the virtual-APIC page took the value.
#[inline]
pub fn write(cpu: &mut Cpu, bus: &mut Bus, msr: u32, value: u64) -> Result<bool, Stop> {
    match offset(cpu, msr) {
        Some(offset) => special(cpu, bus, offset, value),
        None => Ok(false),
    }
}

fn special(cpu: &mut Cpu, bus: &mut Bus, offset: u16, value: u64) -> Result<bool, Stop> {
    let reserved = match offset {
        TPR => !0xff,
        EOI if interrupt_delivery(cpu) => !0,
        SELF_IPI if interrupt_delivery(cpu) => !0xff,
        ICR if ipi_virtualization(cpu) => ICR_RESERVED,
        _ => return Ok(false),
    };
    if value & reserved != 0 {
        return Err(cpu.general_protection(0));
    }
    let apic = VirtualApic::of(cpu);
    bus.write_physical(cpu.id, apic.address + offset as u64, 8, value);
    let vector = value as u8;
    match offset {
        TPR => interrupts::virtualize_tpr(cpu, bus),
        EOI => interrupts::virtualize_eoi(cpu, bus),
        SELF_IPI if vector >= 16 => interrupts::virtualize_self_ipi(cpu, bus, vector),
        SELF_IPI => emulation::write_exit(cpu, SELF_IPI, Unfinished::Vector(vector)),
        _ if emulation::is_plain_ipi(value as u32) => ipi::send(cpu, bus, vector, (value >> 32) as u32),
        _ => emulation::write_exit(cpu, ICR, Unfinished::Command(value as u32)),
    }
    Ok(true)
}
