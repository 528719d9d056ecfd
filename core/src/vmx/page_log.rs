//! Page-modification logging (SDM vol. 3, 29.3.6).

use super::controls::secondary;
use super::fields::field;
use super::reasons::reason;
use super::state::{Exit, SavedRf};
use super::{cause::Cause, exit::NMI_UNBLOCKING};
use crate::cpu::{Cpu, Done, Stop};
use crate::platform::Bus;

/// Entries of the log: a page of guest-physical addresses, filled from the last down.
const ENTRIES: u64 = 512;

/// A guest-physical page is about to become dirty: logs it, or exits where the log is full.
pub fn note(cpu: &mut Cpu, bus: &mut Bus, address: u64) -> Done {
    if cpu.vmx.controls.secondary & secondary::ENABLE_PML == 0 {
        return Ok(());
    }
    let index = cpu.vmx.get(field::GUEST_PML_INDEX);
    if index >= ENTRIES {
        let unblocked = cpu.vmx.iret_unblocked && cpu.vmx.vectoring.is_none();
        cpu.vmx.exit = Exit {
            reason: reason::PAGE_MODIFICATION_LOG_FULL as u32,
            qualification: if unblocked { NMI_UNBLOCKING as u64 } else { 0 },
            rf: SavedRf::of_access(cpu.vmx.vectoring.as_ref()),
            cause: Cause::PageLogFull { index },
            ..Exit::default()
        };
        return Err(Stop::Exit);
    }
    let log = cpu.vmx.get(field::PML_ADDRESS);
    bus.write_physical(cpu.id, log + index * 8, 8, address & !0xfff);
    if let Some(vmcs) = cpu.vmx.current_mut() {
        vmcs.set(field::GUEST_PML_INDEX, index.wrapping_sub(1));
    }
    Ok(())
}
