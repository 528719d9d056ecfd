//! Posted-interrupt processing (SDM vol. 3, 30.6).

use super::interrupts;
use super::registers::{VirtualApic, IRR};
use crate::cpu::{Activity, Cpu, Stop};
use crate::platform::Bus;
use crate::vmx::boundary;
use crate::vmx::controls::pin;
use crate::vmx::fields::field;

/// Bytes of the posted-interrupt requests; the bit for an outstanding notification follows.
const REQUESTS: u64 = 32;
const OUTSTANDING: u64 = 1;
const WORD: u64 = 4;

/// An external interrupt is pending: true if it was one that notifies of posted interrupts, and they are processed;
/// with any other vector it exits. False where the guest does not process posted interrupts now.
#[inline]
pub fn process(cpu: &mut Cpu, bus: &mut Bus) -> Result<bool, Stop> {
    let enabled = cpu.vmx.controls.pin & pin::PROCESS_POSTED_INTERRUPTS != 0
        && matches!(cpu.activity, Activity::Active | Activity::Halted);
    if !enabled {
        return Ok(false);
    }
    let vector = bus.acknowledge(cpu.id);
    if u64::from(vector) != cpu.vmx.get(field::POSTED_INTERRUPT_NOTIFICATION_VECTOR) {
        return Err(boundary::external_interrupt(cpu, Some(vector)));
    }
    bus.eoi(cpu.id);
    take_requests(cpu, bus);
    Ok(true)
}

fn take_requests(cpu: &mut Cpu, bus: &mut Bus) {
    let descriptor = cpu.vmx.get(field::POSTED_INTERRUPT_DESCRIPTOR_ADDRESS);
    let notification = bus.read_physical(cpu.id, descriptor + REQUESTS, 1);
    bus.write_physical(cpu.id, descriptor + REQUESTS, 1, notification & !OUTSTANDING);
    let apic = VirtualApic::of(cpu);
    let mut highest = 0;
    for word in 0..(REQUESTS / WORD) as u16 {
        let place = descriptor + u64::from(word) * WORD;
        let posted = bus.read_physical(cpu.id, place, WORD) as u32;
        if posted != 0 {
            bus.write_physical(cpu.id, place, WORD, 0);
            let register = IRR + (word << 4);
            let requested = apic.read(bus, register);
            apic.write(bus, register, requested | posted);
            highest = (word * 32) as u8 + 31 - posted.leading_zeros() as u8;
        }
    }
    interrupts::request(cpu, bus, highest);
}
