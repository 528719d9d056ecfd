//! Memory types, as far as the machine asks for them: it has no caches, and only a bus lock tells write-back memory from
//! the rest.

use super::ept;
use super::paging::{self, Access, Control, Step, Tables};
use crate::cpu::bits::CR0_CD;
use crate::cpu::msr::Mtrrs;
use crate::cpu::{Cpu, Stop};
use crate::platform::Bus;

const UNCACHEABLE: u8 = 0;
const WRITE_THROUGH: u8 = 4;
const WRITE_BACK: u8 = 6;

/// Of a paging-structure entry that maps a page: the number of its IA32_PAT entry.
const WRITE_THROUGH_BIT: u64 = 1 << 3;
const CACHE_DISABLE_BIT: u64 = 1 << 4;
const PAT_BIT: u64 = 1 << 7;
const LARGE_PAT_BIT: u64 = 1 << 12;

/// Of an EPT entry that maps a page: the guest's memory type does not count.
const EPT_IGNORE_PAT: u64 = 1 << 6;

/// Whether memory at a linear address that is mapped is write-back (SDM vol. 3, 12.5.2.2 and 29.3.7.2).
pub fn is_write_back(cpu: &mut Cpu, bus: &mut Bus, linear: u64) -> bool {
    if cpu.cr0 & CR0_CD != 0 {
        return false;
    }
    let control = Control::of(cpu);
    let access = Access::read(cpu.tlb.privilege());
    let mut tables = Look::new(cpu, bus, Some(linear));
    let Ok(leaf) = paging::walk(&control, &mut tables, linear, access) else {
        return false;
    };
    let by_pat = tables.last.map_or(WRITE_BACK, |step| pat_type(cpu.msr.pat, step)) == WRITE_BACK;
    let Some(pointer) = cpu.vmx.ept_pointer else {
        return by_pat && cpu.msr.mtrr.memory_type(leaf.physical) == WRITE_BACK;
    };
    let control = ept::Control::new(pointer, cpu);
    let mut tables = Look::new(cpu, bus, None);
    if ept::walk(&control, &mut tables, leaf.physical, 0).is_err() {
        return false;
    }
    let entry = tables.last.map_or(0, |step| step.entry);
    entry >> 3 & 7 == WRITE_BACK as u64 && (by_pat || entry & EPT_IGNORE_PAT != 0)
}

/// The type that IA32_PAT, `pat`, gives a page mapped by `step`.
fn pat_type(pat: u64, step: Step) -> u8 {
    let bit = |mask| u64::from(step.entry & mask != 0);
    let large = if step.level > 1 { LARGE_PAT_BIT } else { PAT_BIT };
    let number = bit(WRITE_THROUGH_BIT) | bit(CACHE_DISABLE_BIT) << 1 | bit(large) << 2;
    (pat >> (8 * number)) as u8 & 7
}

/// Tables that a translation has just gone through: nothing is to be set in them.
struct Look<'a> {
    cpu: &'a mut Cpu,
    bus: &'a mut Bus,
    /// The linear address that guest paging structures are read for; `None` for those of EPT.
    linear: Option<u64>,
    last: Option<Step>,
}

impl<'a> Look<'a> {
    fn new(cpu: &'a mut Cpu, bus: &'a mut Bus, linear: Option<u64>) -> Look<'a> {
        Look {
            cpu,
            bus,
            linear,
            last: None,
        }
    }
}

impl Tables for Look<'_> {
    type Error = Stop;

    fn load(&mut self, address: u64, bytes: u64) -> Result<u64, Stop> {
        let host = match self.linear {
            Some(linear) => ept::translate_table(self.cpu, self.bus, address, linear, false)?,
            None => address,
        };
        Ok(self.bus.read_physical(self.cpu.id, host, bytes))
    }
    fn store(&mut self, _: u64, _: u64, _: u64) -> Result<(), Stop> {
        Ok(())
    }
    fn step(&mut self, step: Step) {
        self.last = Some(step);
    }
}

impl Mtrrs {
    /// The type of the memory at a physical address (SDM vol. 3, 12.11.4).
    pub fn memory_type(&self, physical: u64) -> u8 {
        const ENABLED: u64 = 1 << 11;
        const FIXED: u64 = 1 << 10;
        const VALID: u64 = 1 << 11;
        if self.default_type & ENABLED == 0 {
            return UNCACHEABLE;
        }
        if physical < 0x10_0000 && self.default_type & FIXED != 0 {
            // One register for 8 ranges of 64 KBytes, two for those of 16, eight for those of 4.
            let (register, range) = match physical {
                0..=0x7_ffff => (0, physical >> 16),
                0x8_0000..=0xb_ffff => (1 + ((physical - 0x8_0000) >> 17), physical >> 14),
                _ => (3 + ((physical - 0xc_0000) >> 15), physical >> 12),
            };
            return (self.fixed[register as usize] >> (8 * (range & 7))) as u8;
        }
        let matching = self.variable.iter().filter(|(base, mask)| {
            let compared = mask & !0xfff;
            mask & VALID != 0 && physical & compared == base & compared
        });
        // Where ranges overlap UC wins over all, and WT over WB.
        matching
            .map(|(base, _)| *base as u8)
            .reduce(|one, other| match (one, other) {
                _ if one == other => one,
                (UNCACHEABLE, _) | (_, UNCACHEABLE) => UNCACHEABLE,
                _ => WRITE_THROUGH,
            })
            .unwrap_or(self.default_type as u8)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_of_memory_types() {
        let mut mtrrs = Mtrrs::default();
        assert_eq!(mtrrs.memory_type(0x10_0000), UNCACHEABLE);
        mtrrs.default_type = 0xc06;
        mtrrs.fixed[0] = 0x06 << 8;
        mtrrs.fixed[2] = 0x04 << 56;
        mtrrs.fixed[3] = 0x05;
        mtrrs.variable[0] = (0xc000_0000, 0xff_c000_0800);
        mtrrs.variable[1] = (0xe000_0006, 0xff_e000_0800);
        mtrrs.variable[2] = (0x8000_0006, 0xff_ffff_f800);
        mtrrs.variable[3] = (0x8000_0004, 0xff_ffff_f800);
        mtrrs.variable[4] = (0x4000_0000, 0xff_c000_0000);
        for (physical, expected) in [
            (0, UNCACHEABLE),
            (0x1_0000, WRITE_BACK),
            (0xb_f000, WRITE_THROUGH),
            (0xc_0000, 5),
            (0xc_1000, UNCACHEABLE),
            (0x10_0000, WRITE_BACK),
            (0x4000_0000, WRITE_BACK),
            (0x8000_0000, WRITE_THROUGH),
            (0xc000_0000, UNCACHEABLE),
            (0xfee0_0000, UNCACHEABLE),
        ] {
            assert_eq!(mtrrs.memory_type(physical), expected, "{physical:#x}");
        }
    }
}
