//! VMCS shadowing (SDM vol. 3, 26.1.3 and 31.3): VMREAD and VMWRITE of a guest that use the shadow VMCS which the link
//! pointer of the current one names.

use super::cause::Cause;
use super::controls::{secondary, Word};
use super::fields::{field, Field};
use super::instructions::{read_region, write_back};
use super::vmcs::Vmcs;
use crate::cpu::Cpu;
use crate::platform::Bus;

/// The largest encoding that the VMREAD and VMWRITE bitmaps have a bit for.
const LAST_ENCODING: u64 = 0x7fff;

/// Whether a guest's VMREAD or VMWRITE of `encoding` uses the shadow VMCS; `bitmap` is the field that points to the
/// bitmap of the instruction.
pub fn covers(cpu: &Cpu, bus: &mut Bus, bitmap: Field, encoding: u64) -> bool {
    if cpu.vmx.controls.secondary & secondary::VMCS_SHADOWING == 0 || encoding > LAST_ENCODING {
        return false;
    }
    let byte = cpu.vmx.get(bitmap) + encoding / 8;
    bus.read_physical(cpu.id, byte, 1) >> (encoding & 7) & 1 == 0
}

/// Why a guest's VMREAD or VMWRITE of `encoding` exits; `None`: the bitmaps have no bit for it.
pub fn cause(cpu: &Cpu, bitmap: Field, encoding: u64, write: bool) -> Option<Cause> {
    if cpu.vmx.controls.secondary & secondary::VMCS_SHADOWING == 0 {
        return Some(Cause::ControlClear(Word::Secondary, secondary::VMCS_SHADOWING));
    }
    (encoding <= LAST_ENCODING).then(|| Cause::VmcsBitmap {
        byte: cpu.vmx.get(bitmap) + encoding / 8,
        bit: (encoding & 7) as u8,
        encoding,
        write,
    })
}

/// The address of the shadow VMCS, if the link pointer is valid.
pub fn address(cpu: &Cpu) -> Option<u64> {
    Some(cpu.vmx.get(field::VMCS_LINK_POINTER)).filter(|&pointer| pointer != u64::MAX)
}

/// Lets `with` work on the VMCS at `address`, whether it is active or only in memory.
pub fn with<T>(cpu: &mut Cpu, bus: &mut Bus, address: u64, with: impl FnOnce(&mut Vmcs) -> T) -> T {
    if let Some(vmcs) = cpu.vmx.active.iter_mut().find(|vmcs| vmcs.address == address) {
        return with(vmcs);
    }
    let mut vmcs = read_region(bus, address);
    let result = with(&mut vmcs);
    write_back(bus, &vmcs);
    result
}
