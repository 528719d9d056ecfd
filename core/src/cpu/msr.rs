//! Model-specific registers.

use super::insn::Insn;
use super::{segment, Cpu};
use crate::platform::Bus;
use crate::vmx::cpuid_features::feature;
use crate::vmx::{honoured, intercept};

/// Those that the processor itself stores; the rest belong to the LAPIC, the clock or VMX.
#[derive(Clone, Debug)]
pub struct Msrs {
    pub star: u64,
    pub lstar: u64,
    pub cstar: u64,
    pub fmask: u64,
    pub kernel_gs_base: u64,
    pub tsc_aux: u64,
    /// Added to the clock to give the TSC.
    pub tsc_adjust: u64,
    pub sysenter_cs: u64,
    pub sysenter_esp: u64,
    pub sysenter_eip: u64,
    pub pat: u64,
    pub feature_control: u64,
    pub debugctl: u64,
    pub misc_enable: u64,
    pub pkru: u32,
    pub pkrs: u64,
    pub xss: u64,
    pub umwait_control: u64,
    pub mtrr: Mtrrs,
}

#[derive(Clone, Debug, Default)]
pub struct Mtrrs {
    pub default_type: u64,
    pub fixed: [u64; 11],
    pub variable: [(u64, u64); 8],
}

impl Msrs {
    /// After RESET.
    pub fn reset() -> Msrs {
        Msrs {
            star: 0,
            lstar: 0,
            cstar: 0,
            fmask: 0,
            kernel_gs_base: 0,
            tsc_aux: 0,
            tsc_adjust: 0,
            sysenter_cs: 0,
            sysenter_esp: 0,
            sysenter_eip: 0,
            pat: 0x0007_0406_0007_0406,
            feature_control: 0,
            debugctl: 0,
            misc_enable: 1,
            pkru: 0,
            pkrs: 0,
            xss: 0,
            umwait_control: 0,
            mtrr: Mtrrs::default(),
        }
    }
}

/// A model-specific register, or a run of them. `None` and `false` are #GP.
struct Row {
    first: u32,
    last: u32,
    name: &'static str,
    read: fn(&Cpu, &Bus, u32) -> Option<u64>,
    write: fn(&mut Cpu, &mut Bus, u32, u64) -> bool,
}

const fn row(
    first: u32,
    last: u32,
    name: &'static str,
    read: fn(&Cpu, &Bus, u32) -> Option<u64>,
    write: fn(&mut Cpu, &mut Bus, u32, u64) -> bool,
) -> Row {
    Row {
        first,
        last,
        name,
        read,
        write,
    }
}

/// The write function of a register that cannot be written.
fn read_only(_: &mut Cpu, _: &mut Bus, _: u32, _: u64) -> bool {
    false
}

/// A row for a field of `Msrs` that takes any value, or those that a check lets through; where a feature is named,
/// processors without it have no such register.
macro_rules! stored {
    ($number:literal $name:literal $field:ident) => {
        stored!($number $name $field if |_, _| true)
    };
    ($number:literal $name:literal $field:ident of $feature:ident if $check:expr) => {
        row(
            $number,
            $number,
            $name,
            |cpu, _, _| cpu.profile.has(feature::$feature).then_some(cpu.msr.$field),
            |cpu, _, _, value| {
                let check: fn(&Cpu, u64) -> bool = $check;
                let good = cpu.profile.has(feature::$feature) && check(cpu, value);
                if good {
                    cpu.msr.$field = value;
                }
                good
            },
        )
    };
    ($number:literal $name:literal $field:ident if $check:expr) => {
        row(
            $number,
            $number,
            $name,
            |cpu, _, _| Some(cpu.msr.$field),
            |cpu, _, _, value| {
                let check: fn(&Cpu, u64) -> bool = $check;
                let good = check(cpu, value);
                if good {
                    cpu.msr.$field = value;
                }
                good
            },
        )
    };
}

/// A row for the base of FS or GS.
macro_rules! base {
    ($number:literal $name:literal $index:ident) => {
        row(
            $number,
            $number,
            $name,
            |cpu, _, _| Some(cpu.seg[segment::$index].base),
            |cpu, _, _, value| {
                let good = cpu.canonical_base(value);
                if good {
                    cpu.seg[segment::$index].base = value;
                    cpu.update_window(segment::$index);
                }
                good
            },
        )
    };
}

/// The registers by ascending number (SDM vol. 4, chapter 2). What is not here is #GP.
static ROWS: &[Row] = &[
    row(
        0x10,
        0x10,
        "IA32_TIME_STAMP_COUNTER",
        |cpu, bus, _| Some(cpu.visible_tsc(bus.clock)),
        |cpu, bus, _, value| {
            let adjust = value.wrapping_sub(bus.clock);
            cpu.set_tsc_adjust(bus, adjust);
            true
        },
    ),
    row(0x17, 0x17, "IA32_PLATFORM_ID", |_, _, _| Some(0), read_only),
    row(
        0x1b,
        0x1b,
        "IA32_APIC_BASE",
        |cpu, bus, _| Some(bus.apic_base(cpu.id)),
        |cpu, bus, _, value| {
            // Its page may have been RAM until now.
            cpu.tlb.forget_entries();
            bus.set_apic_base(cpu.id, value).is_ok()
        },
    ),
    stored!(0x3a "IA32_FEATURE_CONTROL" feature_control if |cpu, value| {
        cpu.msr.feature_control & FEATURE_CONTROL_LOCKED == 0 && value & !FEATURE_CONTROL_DEFINED == 0
    }),
    row(
        0x3b,
        0x3b,
        "IA32_TSC_ADJUST",
        |cpu, _, _| cpu.profile.has(feature::TSC_ADJUST).then_some(cpu.msr.tsc_adjust),
        |cpu, bus, _, value| {
            let there = cpu.profile.has(feature::TSC_ADJUST);
            if there {
                cpu.set_tsc_adjust(bus, value);
            }
            there
        },
    ),
    // Microcode: software writes 0 and executes CPUID before it asks; the answer never changes.
    row(
        0x8b,
        0x8b,
        "IA32_BIOS_SIGN_ID",
        |_, _, _| Some(MICROCODE_REVISION << 32),
        |_, _, _, _| true,
    ),
    row(
        0xce,
        0xce,
        "MSR_PLATFORM_INFO",
        |_, _, _| Some(TSC_RATIO << 8),
        read_only,
    ),
    stored!(0xe1 "IA32_UMWAIT_CONTROL" umwait_control of WAITPKG if |_, value| value & UMWAIT_RESERVED == 0),
    row(0xfe, 0xfe, "IA32_MTRRCAP", |_, _, _| Some(MTRR_CAP), read_only),
    stored!(0x174 "IA32_SYSENTER_CS" sysenter_cs),
    stored!(0x175 "IA32_SYSENTER_ESP" sysenter_esp if Cpu::canonical_base),
    stored!(0x176 "IA32_SYSENTER_EIP" sysenter_eip if Cpu::canonical_base),
    // No machine-check banks.
    row(0x179, 0x179, "IA32_MCG_CAP", |_, _, _| Some(0), read_only),
    row(
        0x17a,
        0x17a,
        "IA32_MCG_STATUS",
        |_, _, _| Some(0),
        |_, _, _, value| value == 0,
    ),
    stored!(0x1a0 "IA32_MISC_ENABLE" misc_enable if |_, value| value & !MISC_ENABLE_DEFINED == 0),
    stored!(0x1d9 "IA32_DEBUGCTL" debugctl if |_, value| value & !honoured::DEBUGCTL == 0),
    row(
        0x200,
        0x20f,
        "IA32_MTRR_PHYSBASE0 and on",
        read_variable_range,
        write_variable_range,
    ),
    row(
        0x250,
        0x250,
        "IA32_MTRR_FIX64K_00000",
        read_fixed_range,
        write_fixed_range,
    ),
    row(
        0x258,
        0x259,
        "IA32_MTRR_FIX16K_80000 and on",
        read_fixed_range,
        write_fixed_range,
    ),
    row(
        0x268,
        0x26f,
        "IA32_MTRR_FIX4K_C0000 and on",
        read_fixed_range,
        write_fixed_range,
    ),
    stored!(0x277 "IA32_PAT" pat if |_, value| valid_pat(value)),
    row(
        0x2ff,
        0x2ff,
        "IA32_MTRR_DEF_TYPE",
        |cpu, _, _| Some(cpu.msr.mtrr.default_type),
        |cpu, _, _, value| {
            let good = value & !MTRR_DEFAULT_DEFINED == 0 && valid_mtrr_type(value as u8);
            if good {
                cpu.msr.mtrr.default_type = value;
            }
            good
        },
    ),
    row(
        0x480,
        0x493,
        "IA32_VMX_BASIC and on",
        |cpu, _, number| cpu.profile.capabilities().read_msr(number),
        read_only,
    ),
    row(
        0x6a0,
        0x6a0,
        "IA32_U_CET",
        |cpu, _, _| cpu.has_cet().then_some(cpu.cet.user),
        |cpu, _, _, value| cpu.write_cet(value, |cet| &mut cet.user),
    ),
    row(
        0x6a2,
        0x6a2,
        "IA32_S_CET",
        |cpu, _, _| cpu.has_cet().then_some(cpu.cet.supervisor),
        |cpu, _, _, value| cpu.write_cet(value, |cet| &mut cet.supervisor),
    ),
    row(
        0x6a4,
        0x6a7,
        "IA32_PL0_SSP and on",
        |cpu, _, number| {
            let there = cpu.profile.has(feature::CET_SS);
            there.then_some(cpu.cet.pl_ssp[(number & 3) as usize])
        },
        |cpu, _, number, value| {
            let good = cpu.profile.has(feature::CET_SS) && cpu.is_shadow_stack_pointer(value);
            if good {
                cpu.cet.pl_ssp[(number & 3) as usize] = value;
            }
            good
        },
    ),
    row(
        0x6a8,
        0x6a8,
        "IA32_INTERRUPT_SSP_TABLE_ADDR",
        |cpu, _, _| {
            cpu.profile
                .has(feature::CET_SS)
                .then_some(cpu.cet.interrupt_table)
        },
        |cpu, _, _, value| {
            let good = cpu.profile.has(feature::CET_SS) && cpu.canonical_base(value);
            if good {
                cpu.cet.interrupt_table = value;
            }
            good
        },
    ),
    row(
        0x6e0,
        0x6e0,
        "IA32_TSC_DEADLINE",
        |cpu, bus, _| {
            cpu.profile
                .has(feature::TSC_DEADLINE)
                .then(|| bus.tsc_deadline(cpu.id))
        },
        |cpu, bus, _, value| {
            let there = cpu.profile.has(feature::TSC_DEADLINE);
            if there {
                bus.set_tsc_deadline(cpu.id, value);
            }
            there
        },
    ),
    row(
        0x6e1,
        0x6e1,
        "IA32_PKRS",
        |cpu, _, _| cpu.profile.has(feature::PKS).then_some(cpu.msr.pkrs),
        |cpu, _, _, value| {
            let good = cpu.profile.has(feature::PKS) && value >> 32 == 0;
            if good {
                cpu.msr.pkrs = value;
                cpu.update_space();
            }
            good
        },
    ),
    row(
        0x800,
        0x8ff,
        "x2APIC",
        |cpu, bus, number| bus.x2apic_read(cpu.id, number).ok(),
        |cpu, bus, number, value| bus.x2apic_write(cpu.id, number, value).is_ok(),
    ),
    stored!(0xda0 "IA32_XSS" xss of XSAVES if |cpu, value| value & !cpu.profile.xss_allowed() == 0),
    row(
        0xc000_0080,
        0xc000_0080,
        "IA32_EFER",
        |cpu, _, _| Some(cpu.efer),
        |cpu, _, _, value| cpu.write_efer(value),
    ),
    stored!(0xc000_0081 "IA32_STAR" star),
    stored!(0xc000_0082 "IA32_LSTAR" lstar if Cpu::canonical_base),
    stored!(0xc000_0083 "IA32_CSTAR" cstar if Cpu::canonical_base),
    stored!(0xc000_0084 "IA32_FMASK" fmask),
    base!(0xc000_0100 "IA32_FS_BASE" FS),
    base!(0xc000_0101 "IA32_GS_BASE" GS),
    stored!(0xc000_0102 "IA32_KERNEL_GS_BASE" kernel_gs_base if Cpu::canonical_base),
    stored!(0xc000_0103 "IA32_TSC_AUX" tsc_aux if |_, value| value >> 32 == 0),
];

/// Late enough that no system sees an erratum to work around, such as those of the TSC-deadline timer.
const MICROCODE_REVISION: u64 = 0x100;
/// Bit 1, and what is above the limit's 32 bits.
const UMWAIT_RESERVED: u64 = 1 << 1 | !0 << 32;
const FEATURE_CONTROL_LOCKED: u64 = 1;
/// Lock, VMX inside SMX, VMX outside SMX.
const FEATURE_CONTROL_DEFINED: u64 = 0b111;
/// The bits of IA32_MISC_ENABLE that this processor has: fast strings, thermal control, performance monitoring,
/// no branch trace, no PEBS, SpeedStep, MONITOR, CPUID limit, xTPR, no execute-disable.
const MISC_ENABLE_DEFINED: u64 = 1 | 1 << 3 | 1 << 7 | 3 << 11 | 1 << 16 | 1 << 18 | 3 << 22 | 1 << 34;
/// The TSC's frequency in units of 100 MHz.
const TSC_RATIO: u64 = crate::platform::TICKS_PER_SECOND / 100_000_000;
/// 8 variable ranges, fixed ranges, write-combining.
const MTRR_CAP: u64 = 0x508;
const MTRR_DEFAULT_DEFINED: u64 = 0xcff;

/// UC, WC, WT, WP, WB (SDM vol. 3, table 12-8).
fn valid_mtrr_type(kind: u8) -> bool {
    matches!(kind, 0 | 1 | 4 | 5 | 6)
}

/// Each byte a memory type, UC- included (SDM vol. 3, table 12-10).
pub fn valid_pat(value: u64) -> bool {
    value
        .to_le_bytes()
        .iter()
        .all(|&kind| valid_mtrr_type(kind) || kind == 7)
}

fn read_variable_range(cpu: &Cpu, _: &Bus, number: u32) -> Option<u64> {
    let (base, mask) = cpu.msr.mtrr.variable.get((number - 0x200) as usize / 2)?;
    Some(if number & 1 == 0 { *base } else { *mask })
}

fn write_variable_range(cpu: &mut Cpu, _: &mut Bus, number: u32, value: u64) -> bool {
    let address = (1u64 << cpu.maxphyaddr()) - 0x1000;
    let Some((base, mask)) = cpu.msr.mtrr.variable.get_mut((number - 0x200) as usize / 2) else {
        return false;
    };
    let (place, defined, good) = if number & 1 == 0 {
        (base, address | 0xff, valid_mtrr_type(value as u8))
    } else {
        (mask, address | 1 << 11, true)
    };
    if value & !defined != 0 || !good {
        return false;
    }
    *place = value;
    true
}

/// The place of a fixed range among the eleven.
fn fixed_range(number: u32) -> usize {
    match number {
        0x250 => 0,
        0x258 | 0x259 => (number - 0x258) as usize + 1,
        _ => (number & 7) as usize + 3,
    }
}

fn read_fixed_range(cpu: &Cpu, _: &Bus, number: u32) -> Option<u64> {
    cpu.msr.mtrr.fixed.get(fixed_range(number)).copied()
}

fn write_fixed_range(cpu: &mut Cpu, _: &mut Bus, number: u32, value: u64) -> bool {
    let good = value.to_le_bytes().iter().all(|&kind| valid_mtrr_type(kind));
    match cpu.msr.mtrr.fixed.get_mut(fixed_range(number)) {
        Some(place) if good => {
            *place = value;
            true
        }
        _ => false,
    }
}

fn find(number: u32) -> Option<&'static Row> {
    let after = ROWS.partition_point(|row| row.first <= number);
    ROWS[..after].last().filter(|row| number <= row.last)
}

/// The name of an MSR that the core knows.
pub fn name(number: u32) -> Option<&'static str> {
    find(number).map(|row| row.name)
}

impl Cpu {
    /// What RDMSR gives once privilege and VMX have had their say; `None`: #GP.
    pub fn read_msr(&self, bus: &Bus, number: u32) -> Option<u64> {
        find(number).and_then(|row| (row.read)(self, bus, number))
    }

    /// What WRMSR does once privilege and VMX have had their say; false: #GP, and nothing changed.
    pub fn write_msr(&mut self, bus: &mut Bus, number: u32, value: u64) -> bool {
        find(number).is_some_and(|row| (row.write)(self, bus, number, value))
    }

    /// The processor's own time-stamp counter. `bus.clock` is exact in an instruction that is a block of its own.
    pub fn tsc(&self, bus: &Bus) -> u64 {
        bus.clock.wrapping_add(self.msr.tsc_adjust)
    }

    /// The clock at `insn`, wherever it is in its block.
    pub fn clock_at(&self, insn: &Insn) -> u64 {
        let before = if self.solo { 0 } else { insn.position as u64 };
        self.clock_base.wrapping_add(self.icount).wrapping_add(before)
    }

    /// The time-stamp counter as the running program reads it, at a clock.
    pub fn visible_tsc(&self, clock: u64) -> u64 {
        intercept::guest_tsc(self, clock.wrapping_add(self.msr.tsc_adjust))
    }

    pub fn set_tsc_adjust(&mut self, bus: &mut Bus, adjust: u64) {
        self.msr.tsc_adjust = adjust;
        bus.set_tsc_offset(self.id, adjust);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_ascend_and_do_not_overlap() {
        for pair in ROWS.windows(2) {
            assert!(pair[0].last < pair[1].first, "{}", pair[1].name);
        }
    }
}
