//! VMREAD and VMWRITE (SDM vol. 3, 31.3), and what they do in a guest with VMCS shadowing.

use super::capability::misc;
use super::errors::instruction_error as error;
use super::fail::{fail, refuse, succeed};
use super::fields::{field, Access, Field, Group};
use super::instructions::{alone, begin, wrong_mode};
use super::reasons::reason;
use super::record::{FailReason, Refusal};
use super::{operand, shadow};
use crate::cpu::decode::{Form, Operand};
use crate::cpu::insn::{Handler, Insn};
use crate::cpu::{Cpu, Done, Stop};
use crate::debug::events::{Event, EventKind};
use crate::platform::Bus;

/// The operand that is not the encoding: a register or memory, 32 or 64 bits. `Insn::r` has the register operands in
/// their order.
trait Shape {
    const LONG: bool;
    const REGISTER: bool;
}
macro_rules! shape {
    ($name:ident $long:literal $register:literal) => {
        struct $name;
        impl Shape for $name {
            const LONG: bool = $long;
            const REGISTER: bool = $register;
        }
    };
}
shape!(Register64 true true);
shape!(Memory64 true false);
shape!(Register32 false true);
shape!(Memory32 false false);

/// Which VMCS an access is to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Subject {
    Current,
    /// The shadow VMCS at this address.
    Shadow(u64),
}

/// What the two instructions have in common.
struct Common {
    name: &'static str,
    reason: u16,
    /// The bitmap of the encodings that exit in a guest with VMCS shadowing.
    bitmap: Field,
}

const READ: Common = Common {
    name: "VMREAD",
    reason: reason::VMREAD,
    bitmap: field::VMREAD_BITMAP,
};
const WRITE: Common = Common {
    name: "VMWRITE",
    reason: reason::VMWRITE,
    bitmap: field::VMWRITE_BITMAP,
};

/// The encoding and the VMCS, once all that comes before them has been checked. `encoding` and `other` are register
/// numbers.
#[inline(always)]
fn start<F: Shape>(
    cpu: &mut Cpu,
    bus: &mut Bus,
    insn: &Insn,
    what: &Common,
    encoding: u8,
    other: Option<u8>,
) -> Result<(u64, Subject), Stop> {
    let value = if F::LONG {
        cpu.reg::<u64>(encoding)
    } else {
        cpu.reg::<u32>(encoding) as u64
    };
    if cpu.vmx.guest && shadow::covers(cpu, bus, what.bitmap, value) {
        return shadowed(cpu, bus, insn, what).map(|address| (value, Subject::Shadow(address)));
    }
    let begun = begin(cpu, bus, insn, what.name, what.reason, |cpu| {
        let info = operand::field_access(insn, encoding, other);
        (operand::displacement(cpu, insn), info)
    });
    if begun == Err(Stop::Exit) {
        if let Some(cause) = shadow::cause(cpu, what.bitmap, value, what.reason == reason::VMWRITE) {
            cpu.vmx.exit.cause = cause;
        }
    }
    begun?;
    if cpu.vmx.current.is_none() {
        fail(cpu, bus, insn, what.name, 0, FailReason::NoCurrentVmcs)?;
    }
    Ok((value, Subject::Current))
}

/// An access of a guest to the shadow VMCS: its address.
#[cold]
fn shadowed(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn, what: &Common) -> Result<u64, Stop> {
    if let Some(refusal) = wrong_mode(cpu) {
        return Err(refuse(cpu, bus, insn, what.name, refusal));
    }
    if cpu.cpl != 0 {
        return Err(refuse(cpu, bus, insn, what.name, Refusal::Privilege));
    }
    let Some(address) = shadow::address(cpu) else {
        fail(cpu, bus, insn, what.name, 0, FailReason::NoCurrentVmcs)?;
        return Err(Stop::Sync);
    };
    Ok(address)
}

/// The field that an encoding names on this processor.
#[inline(always)]
fn find(cpu: &Cpu, encoding: u64) -> Option<(Field, Access)> {
    Field::by_encoding(encoding).filter(|(field, _)| cpu.profile.capabilities().has_field(*field))
}

fn vmread<F: Shape>(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn) -> Done {
    let (to, from) = if F::REGISTER {
        (Some(insn.r[0]), insn.r[1])
    } else {
        (None, insn.r[0])
    };
    let (encoding, subject) = start::<F>(cpu, bus, insn, &READ, from, to)?;
    let Some((field, access)) = find(cpu, encoding) else {
        let reason = FailReason::Field { encoding };
        return fail(cpu, bus, insn, READ.name, error::UNSUPPORTED_FIELD, reason);
    };
    let value = match subject {
        Subject::Current => cpu.vmx.current().map_or(0, |vmcs| vmcs.read(field, access)),
        Subject::Shadow(address) => shadow::with(cpu, bus, address, |vmcs| vmcs.read(field, access)),
    };
    match (to, F::LONG) {
        (Some(register), true) => cpu.set_reg::<u64>(register, value),
        (Some(register), false) => cpu.set_reg::<u32>(register, value as u32),
        (None, long) => {
            let ea = cpu.ea(insn);
            if long {
                cpu.write::<u64>(bus, insn.seg, ea, value)?;
            } else {
                cpu.write::<u32>(bus, insn.seg, ea, value as u32)?;
            }
        }
    }
    succeed(cpu);
    Ok(())
}

fn vmwrite<F: Shape>(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn) -> Done {
    let (encoding, from) = if F::REGISTER {
        (insn.r[0], Some(insn.r[1]))
    } else {
        (insn.r[0], None)
    };
    let (encoding, subject) = start::<F>(cpu, bus, insn, &WRITE, encoding, from)?;
    let value = match (from, F::LONG) {
        (Some(register), true) => cpu.reg::<u64>(register),
        (Some(register), false) => cpu.reg::<u32>(register) as u64,
        (None, long) => {
            let ea = cpu.ea(insn);
            if long {
                cpu.read::<u64>(bus, insn.seg, ea)?
            } else {
                cpu.read::<u32>(bus, insn.seg, ea)? as u64
            }
        }
    };
    let Some((field, access)) = find(cpu, encoding) else {
        let reason = FailReason::Field { encoding };
        return fail(cpu, bus, insn, WRITE.name, error::UNSUPPORTED_FIELD, reason);
    };
    let writable = cpu.profile.capabilities().misc() & misc::VMWRITE_EXIT_INFORMATION != 0;
    if !writable && field.info().group() == Group::ExitInfo {
        let reason = FailReason::ReadOnly { encoding };
        return fail(cpu, bus, insn, WRITE.name, error::VMWRITE_READ_ONLY, reason);
    }
    let noted = bus.debug.events.tracing || bus.debug.catches.watches_fields();
    if noted {
        alone(cpu)?;
    }
    let address = match subject {
        Subject::Current => {
            let vmcs = cpu.vmx.current_mut();
            vmcs.map(|vmcs| {
                vmcs.write(field, access, value);
                vmcs.address
            })
        }
        Subject::Shadow(address) => {
            shadow::with(cpu, bus, address, |vmcs| vmcs.write(field, access, value));
            Some(address)
        }
    };
    succeed(cpu);
    if noted {
        return note_write(cpu, bus, address, field, access, value);
    }
    Ok(())
}

#[cold]
fn note_write(cpu: &Cpu, bus: &mut Bus, vmcs: Option<u64>, field: Field, access: Access, value: u64) -> Done {
    let encoding = field.encoding() as u32 | (access == Access::High) as u32;
    let mask = if access == Access::High {
        0xffff_ffff
    } else {
        field.mask()
    };
    bus.debug.events.push(Event {
        icount: bus.clock,
        vcpu: cpu.id as u32,
        kind: EventKind::VmcsWrite,
        vmcs,
        field: Some((encoding, value & mask)),
        ..Event::default()
    });
    bus.debug.catches.on_field_write(field.encoding() as u32);
    Err(Stop::Sync)
}

/// VMREAD's destination and VMWRITE's source: a register or memory, 32 or 64 bits.
macro_rules! by_shape {
    ($name:ident, $handler:ident, $at:literal) => {
        pub(super) fn $name(form: &Form) -> Option<Handler> {
            Some(match form.operands[$at] {
                Operand::Gpr(8) => $handler::<Register64>,
                Operand::Gpr(_) => $handler::<Register32>,
                Operand::Memory(8) => $handler::<Memory64>,
                _ => $handler::<Memory32>,
            })
        }
    };
}
by_shape!(select_vmread, vmread, 0);
by_shape!(select_vmwrite, vmwrite, 1);
