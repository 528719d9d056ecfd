//! IPI virtualization: an IPI of the guest becomes a posted interrupt of another virtual processor (SDM vol. 3, 30.1.6).

use super::emulation::{write_exit, Unfinished};
use super::registers::ICR;
use crate::cpu::Cpu;
use crate::platform::Bus;
use crate::vmx::fields::field;

/// A valid PID pointer has this in bits 5:0.
const POINTER_VALID: u64 = 1;
/// Place in a posted-interrupt descriptor of what says how to notify, and its bits.
const NOTIFICATION: u64 = 32;
const OUTSTANDING: u64 = 1 << 0;
const SUPPRESSED: u64 = 1 << 1;

/// Sends virtual interrupt `vector` to the virtual processor with APIC ID `id`.
pub fn send(cpu: &mut Cpu, bus: &mut Bus, vector: u8, id: u32) {
    let last = cpu.vmx.get(field::LAST_PID_POINTER_INDEX) as u16;
    if vector < 16 {
        return write_exit(cpu, ICR, Unfinished::Vector(vector));
    }
    if id > u32::from(last) {
        return write_exit(cpu, ICR, Unfinished::BeyondTable { id, last });
    }
    let table = cpu.vmx.get(field::PID_POINTER_TABLE_ADDRESS);
    let entry = bus.read_physical(cpu.id, table + u64::from(id) * 8, 8);
    if entry & 0x3f != POINTER_VALID || entry >> cpu.maxphyaddr() != 0 {
        return write_exit(cpu, ICR, Unfinished::PidPointer { id, entry });
    }
    let descriptor = entry & !0x3f;
    let byte = descriptor + u64::from(vector / 8);
    let posted = bus.read_physical(cpu.id, byte, 1);
    bus.write_physical(cpu.id, byte, 1, posted | 1 << (vector & 7));
    let notification = bus.read_physical(cpu.id, descriptor + NOTIFICATION, 8);
    if notification & (OUTSTANDING | SUPPRESSED) == 0 {
        bus.write_physical(cpu.id, descriptor + NOTIFICATION, 8, notification | OUTSTANDING);
        bus.notify(cpu.id, (notification >> 16) as u8, (notification >> 32) as u32);
    }
}
