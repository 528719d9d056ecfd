//! The registers as a debugger names them: one table, with the VMCS fields that hold each for a world that does not run.

use std::sync::LazyLock;

use crate::cpu::segment::Rights;
use crate::cpu::Cpu;
use crate::vmx::cpuid_features::{feature, Feature};
use crate::vmx::fields::{field, Field};
use crate::vmx::segments;

type Get = Box<dyn Fn(&Cpu) -> u128 + Send + Sync>;
type Set = Box<dyn Fn(&mut Cpu, u128) + Send + Sync>;

pub struct Register {
    pub name: String,
    pub bits: u32,
    get: Get,
    set: Set,
    /// A processor without the feature does not have it.
    pub feature: Option<Feature>,
    /// Where a suspended guest's and a suspended host's value lies.
    pub guest: Option<Field>,
    pub host: Option<Field>,
}

impl Register {
    pub fn get(&self, cpu: &Cpu) -> u128 {
        (self.get)(cpu)
    }

    /// Sets the register as a debugger does: no fault, no check; what depends on it is brought up to date by
    /// `Cpu::refresh`.
    pub fn set(&self, cpu: &mut Cpu, value: u128) {
        (self.set)(cpu, value)
    }

    pub fn by_name(name: &str) -> Option<&'static Register> {
        TABLE.iter().find(|register| register.name == name)
    }

    fn with(mut self, feature: Feature) -> Register {
        self.feature = Some(feature);
        self
    }

    fn saved(mut self, guest: Field, host: Option<Field>) -> Register {
        self.guest = Some(guest);
        self.host = host;
        self
    }
}

fn register(
    name: impl Into<String>,
    bits: u32,
    get: impl Fn(&Cpu) -> u128 + Send + Sync + 'static,
    set: impl Fn(&mut Cpu, u128) + Send + Sync + 'static,
) -> Register {
    Register {
        name: name.into(),
        bits,
        get: Box::new(get),
        set: Box::new(set),
        feature: None,
        guest: None,
        host: None,
    }
}

/// A register that is one field of `Cpu`.
macro_rules! plain {
    ($name:expr, $bits:expr, $type:ty, $($path:tt)+) => {
        register($name, $bits, |cpu| cpu.$($path)+ as u128, |cpu, value| cpu.$($path)+ = value as $type)
    };
}

const GENERAL: [&str; 16] = [
    "rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13", "r14",
    "r15",
];

/// In the order of `Cpu::seg`.
const SEGMENTS: [&str; 8] = ["es", "cs", "ss", "ds", "fs", "gs", "ldtr", "tr"];

pub static TABLE: LazyLock<Vec<Register>> = LazyLock::new(|| {
    let mut table = Vec::new();
    for (number, name) in GENERAL.into_iter().enumerate() {
        let row = register(
            name,
            64,
            move |cpu| cpu.regs[number] as u128,
            move |cpu, value| cpu.regs[number] = value as u64,
        );
        table.push(if name == "rsp" {
            row.saved(field::GUEST_RSP, Some(field::HOST_RSP))
        } else {
            row
        });
    }
    table.push(plain!("rip", 64, u64, rip).saved(field::GUEST_RIP, Some(field::HOST_RIP)));
    table.push(
        register(
            "eflags",
            64,
            |cpu| cpu.flags.get() as u128,
            |cpu, value| cpu.flags.set(value as u64),
        )
        .saved(field::GUEST_RFLAGS, None),
    );
    for (number, (name, fields)) in SEGMENTS.into_iter().zip(&segments::FIELDS).enumerate() {
        table.push(
            register(
                name,
                16,
                move |cpu| cpu.seg[number].selector as u128,
                move |cpu, value| cpu.seg[number].selector = value as u16,
            )
            .saved(fields.guest[0], fields.host_selector),
        );
        table.push(
            register(
                format!("{name}_base"),
                64,
                move |cpu| cpu.seg[number].base as u128,
                move |cpu, value| cpu.seg[number].base = value as u64,
            )
            .saved(fields.guest[1], fields.host_base),
        );
        table.push(
            register(
                format!("{name}_limit"),
                32,
                move |cpu| cpu.seg[number].limit as u128,
                move |cpu, value| cpu.seg[number].limit = value as u32,
            )
            .saved(fields.guest[2], None),
        );
        table.push(
            register(
                format!("{name}_rights"),
                32,
                move |cpu| cpu.seg[number].rights.0 as u128,
                move |cpu, value| cpu.seg[number].rights = Rights(value as u32),
            )
            .saved(fields.guest[3], None),
        );
    }
    table.extend([
        plain!("gdtr_base", 64, u64, gdtr.base).saved(field::GUEST_GDTR_BASE, Some(field::HOST_GDTR_BASE)),
        plain!("gdtr_limit", 16, u16, gdtr.limit).saved(field::GUEST_GDTR_LIMIT, None),
        plain!("idtr_base", 64, u64, idtr.base).saved(field::GUEST_IDTR_BASE, Some(field::HOST_IDTR_BASE)),
        plain!("idtr_limit", 16, u16, idtr.limit).saved(field::GUEST_IDTR_LIMIT, None),
        plain!("cr0", 64, u64, cr0).saved(field::GUEST_CR0, Some(field::HOST_CR0)),
        plain!("cr2", 64, u64, cr2),
        plain!("cr3", 64, u64, cr3).saved(field::GUEST_CR3, Some(field::HOST_CR3)),
        plain!("cr4", 64, u64, cr4).saved(field::GUEST_CR4, Some(field::HOST_CR4)),
        plain!("efer", 64, u64, efer).saved(field::GUEST_IA32_EFER, Some(field::HOST_IA32_EFER)),
        plain!("xcr0", 64, u64, xcr0).with(feature::XSAVE),
        plain!("xss", 64, u64, msr.xss).with(feature::XSAVES),
        plain!("ssp", 64, u64, cet.ssp)
            .with(feature::CET_SS)
            .saved(field::GUEST_SSP, Some(field::HOST_SSP)),
        plain!("u_cet", 64, u64, cet.user).with(feature::CET_SS),
        plain!("s_cet", 64, u64, cet.supervisor)
            .with(feature::CET_SS)
            .saved(field::GUEST_IA32_S_CET, Some(field::HOST_IA32_S_CET)),
        plain!("dr0", 64, u64, dr[0]),
        plain!("dr1", 64, u64, dr[1]),
        plain!("dr2", 64, u64, dr[2]),
        plain!("dr3", 64, u64, dr[3]),
        plain!("dr6", 64, u64, dr6),
        plain!("dr7", 64, u64, dr7).saved(field::GUEST_DR7, None),
        register("cpl", 8, |cpu| cpu.cpl as u128, |_, _| {}),
    ]);
    for number in 0..8 {
        table.push(register(
            format!("st{number}"),
            80,
            move |cpu| {
                let (significand, exponent) = cpu.x87.get(number);
                significand as u128 | (exponent as u128) << 64
            },
            // Who sets a register wants it to have the value: it is not empty any more.
            move |cpu, value| cpu.x87.set(number, (value as u64, (value >> 64) as u16)),
        ));
    }
    table.extend([
        plain!("fctrl", 16, u16, x87.control),
        plain!("fstat", 16, u16, x87.status),
        plain!("ftag", 16, u16, x87.tag),
        // Not kept by this processor.
        register("fiseg", 16, |_| 0, |_, _| {}),
        register("foseg", 16, |_| 0, |_, _| {}),
        plain!("fop", 16, u16, x87.opcode),
        plain!("fioff", 64, u64, x87.instruction),
        plain!("fooff", 64, u64, x87.operand),
    ]);
    for number in 0..16 {
        for (name, half) in [("xmm", 0), ("ymmh", 2)] {
            let row = register(
                format!("{name}{number}"),
                128,
                move |cpu| cpu.ymm[number][half] as u128 | (cpu.ymm[number][half + 1] as u128) << 64,
                move |cpu, value| {
                    cpu.ymm[number][half] = value as u64;
                    cpu.ymm[number][half + 1] = (value >> 64) as u64;
                },
            );
            table.push(if half == 0 { row } else { row.with(feature::AVX) });
        }
    }
    table.push(plain!("mxcsr", 32, u32, mxcsr));
    table.push(plain!("pkru", 32, u32, msr.pkru).with(feature::PKU));
    table
});

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique() {
        let mut names: Vec<_> = TABLE.iter().map(|register| &register.name).collect();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), TABLE.len());
    }
}
