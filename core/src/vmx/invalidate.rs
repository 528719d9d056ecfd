//! What INVEPT and INVVPID forget (SDM vol. 3, 29.4.3.1 and the instructions' pages in chapter 31).

use super::capability::ept_vpid;
use super::reasons::reason;
use crate::cpu::Cpu;
use crate::mmu::ept;
use crate::platform::Bus;

const EPT_ROOT: u64 = 0x000f_ffff_ffff_f000;

/// Whether the processor offers a type of INVEPT or INVVPID, told apart by their exit reason.
pub fn offers(cpu: &Cpu, instruction: u16, kind: u64) -> bool {
    let bit = match (instruction, kind) {
        (reason::INVEPT, 1) => ept_vpid::INVEPT_SINGLE_CONTEXT,
        (reason::INVEPT, 2) => ept_vpid::INVEPT_ALL_CONTEXT,
        (reason::INVVPID, 0) => ept_vpid::INVVPID_INDIVIDUAL_ADDRESS,
        (reason::INVVPID, 1) => ept_vpid::INVVPID_SINGLE_CONTEXT,
        (reason::INVVPID, 2) => ept_vpid::INVVPID_ALL_CONTEXT,
        (reason::INVVPID, 3) => ept_vpid::INVVPID_SINGLE_CONTEXT_RETAINING_GLOBALS,
        _ => 0,
    };
    cpu.profile.capabilities().ept_vpid() & bit != 0
}

/// False where the descriptor is no valid operand.
pub fn invept(cpu: &mut Cpu, bus: &Bus, kind: u64, pointer: u64, _: u64) -> bool {
    if kind == 2 {
        cpu.tlb.flush(bus.ram.table_writes(), |space| space.ept_root != 0);
        return true;
    }
    if !ept::pointer_is_valid(cpu.profile.capabilities(), cpu.maxphyaddr(), pointer) {
        return false;
    }
    let root = pointer & EPT_ROOT;
    cpu.tlb
        .flush(bus.ram.table_writes(), |space| space.ept_root & EPT_ROOT == root);
    true
}

/// False where the descriptor is no valid operand. Global translations go with the rest of their VPID: more may be
/// forgotten than asked for.
pub fn invvpid(cpu: &mut Cpu, bus: &Bus, kind: u64, low: u64, linear: u64) -> bool {
    if low >> 16 != 0 {
        return false;
    }
    let vpid = low as u16;
    match kind {
        2 => cpu
            .tlb
            .flush(bus.ram.table_writes(), |space| space.owner.vpid() != 0),
        _ if vpid == 0 || kind == 0 && !cpu.canonical_base(linear) => return false,
        0 => cpu.forget_page(linear, vpid),
        _ => cpu
            .tlb
            .flush(bus.ram.table_writes(), |space| space.owner.vpid() == vpid),
    }
    true
}
