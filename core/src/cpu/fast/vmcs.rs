//! VMREAD and VMWRITE of root operation with registers, and nobody who wants to know of it.

use super::plain_or_exact;
use crate::cpu::insn::Insn;
use crate::cpu::{Cpu, Done};
use crate::platform::Bus;
use crate::vmx::fail::succeed;
use crate::vmx::fields::{Access, Field, Group};

/// The field that an encoding names, where a VMCS is current, as it can be in VMX operation only, and nothing speaks against
/// an access to it.
#[inline(always)]
fn field(cpu: &Cpu, bus: &Bus, encoding: u64) -> Option<(Field, Access)> {
    let plain =
        cpu.vmx.current.is_some() && !cpu.vmx.guest && cpu.cpl == 0 && bus.debug.catches.forced.is_none();
    if !plain {
        return None;
    }
    Field::by_encoding(encoding).filter(|(field, _)| cpu.profile.capabilities().has_field(*field))
}

pub fn vmread(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn, rest: &[Insn]) -> Done {
    let value = field(cpu, bus, cpu.reg(insn.r[1]))
        .and_then(|(field, access)| Some(cpu.vmx.current()?.read(field, access)));
    let done = value.map(|value| {
        cpu.set_reg::<u64>(insn.r[0], value);
        succeed(cpu);
    });
    plain_or_exact!(cpu, bus, insn, rest, done)
}

pub fn vmwrite(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn, rest: &[Insn]) -> Done {
    let noted = bus.debug.events.tracing || !bus.debug.catches.list().is_empty();
    let value = cpu.reg(insn.r[1]);
    let done = field(cpu, bus, cpu.reg(insn.r[0]))
        .filter(|(field, _)| !noted && field.info().group() != Group::ExitInfo)
        .and_then(|(field, access)| {
            cpu.vmx.current_mut()?.write(field, access, value);
            succeed(cpu);
            Some(())
        });
    plain_or_exact!(cpu, bus, insn, rest, done)
}
