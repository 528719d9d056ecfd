//! APIC-write emulation: what follows a virtualized write to the APIC-access page (SDM vol. 3, 30.4.3.2).

use super::registers::{VirtualApic, EOI, ICR, ICR_HIGH, TPR};
use super::{interrupt_delivery, interrupts, ipi, ipi_virtualization};
use crate::cpu::Cpu;
use crate::platform::Bus;
use crate::vmx::cause::Cause;
use crate::vmx::reasons::reason;

/// Why an APIC write needs the hypervisor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unfinished {
    /// The register has no emulation of its own.
    Register,
    /// "Virtual-interrupt delivery" is 0: an end of interrupt, or an interrupt command.
    NoInterruptDelivery,
    /// An interrupt command, of this value, that is none that the controls let the processor carry out.
    Command(u32),
    /// A vector below 16.
    Vector(u8),
    /// An IPI to a virtual APIC ID beyond the last PID pointer.
    BeyondTable { id: u32, last: u16 },
    /// An IPI whose entry of the PID-pointer table is no pointer.
    PidPointer { id: u32, entry: u64 },
}

/// The processor was writing at page offset `offset` in the operation that has just completed.
pub fn after_write(cpu: &mut Cpu, bus: &mut Bus, offset: u16) {
    let apic = VirtualApic::of(cpu);
    match offset {
        TPR => {
            let value = apic.read(bus, TPR);
            apic.write(bus, TPR, value & 0xff);
            interrupts::virtualize_tpr(cpu, bus);
        }
        EOI if interrupt_delivery(cpu) => {
            apic.write(bus, EOI, 0);
            interrupts::virtualize_eoi(cpu, bus);
        }
        EOI => write_exit(cpu, offset, Unfinished::NoInterruptDelivery),
        ICR => command(cpu, bus),
        _ if offset & !3 == ICR_HIGH => {
            let value = apic.read(bus, ICR_HIGH);
            apic.write(bus, ICR_HIGH, value & 0xff00_0000);
        }
        _ => write_exit(cpu, offset, Unfinished::Register),
    }
}

/// The APIC-write exit for a write at `offset`, to come after the operation (30.4.3.3).
pub fn write_exit(cpu: &mut Cpu, offset: u16, why: Unfinished) {
    let cause = Cause::ApicWrite { offset, why };
    cpu.vmx.apic.exit_after(reason::APIC_WRITE, offset as u64, cause);
}

/// Reserved bits and delivery status of the interrupt command register.
const ICR_CLEAR: u32 = 0xfff0_0000 | 3 << 16 | 1 << 13 | 1 << 12;
const ICR_LEVEL: u32 = 1 << 15;
const ICR_LOGICAL: u32 = 1 << 11;
const ICR_DELIVERY_MODE: u32 = 7 << 8;
const ICR_SHORTHAND: u32 = 3 << 18;
const ICR_SELF: u32 = 1 << 18;

/// A write to the low half of the interrupt command register.
fn command(cpu: &mut Cpu, bus: &mut Bus) {
    let apic = VirtualApic::of(cpu);
    let low = apic.read(bus, ICR);
    let vector = low as u8;
    let fixed_edge = low & (ICR_CLEAR | ICR_LEVEL | ICR_DELIVERY_MODE) == 0;
    if interrupt_delivery(cpu) && fixed_edge && low & ICR_SHORTHAND == ICR_SELF && vector >= 16 {
        interrupts::virtualize_self_ipi(cpu, bus, vector);
    } else if ipi_virtualization(cpu) && is_plain_ipi(low) {
        let id = apic.read(bus, ICR_HIGH) >> 24;
        ipi::send(cpu, bus, vector, id);
    } else if interrupt_delivery(cpu) || ipi_virtualization(cpu) {
        write_exit(cpu, ICR, Unfinished::Command(low));
    } else {
        write_exit(cpu, ICR, Unfinished::NoInterruptDelivery);
    }
}

/// An interrupt command that IPI virtualization can carry out: fixed, edge-triggered, to one physical destination.
pub fn is_plain_ipi(low: u32) -> bool {
    low & (ICR_CLEAR | ICR_LEVEL | ICR_DELIVERY_MODE | ICR_SHORTHAND | ICR_LOGICAL) == 0
}
