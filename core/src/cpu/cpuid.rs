//! CPUID: the profile's leaves, with the bits that mirror the processor's state.

use super::bits::{CR4_OSXSAVE, CR4_PKE};
use super::{xstate, Cpu};
use crate::vmx::cpuid_features::feature;

/// Leaf 1, ECX, and leaf 7, ECX: OSXSAVE and OSPKE say what software has turned on.
const OSXSAVE: u32 = 1 << 27;
const OSPKE: u32 = 1 << 4;

impl Cpu {
    /// EAX, EBX, ECX, EDX of a leaf.
    pub fn cpuid(&self, leaf: u32, subleaf: u32) -> [u32; 4] {
        let mut result = self.profile.cpuid(leaf, subleaf);
        let mirror = |bit: u32, control: u64| if self.cr4 & control != 0 { bit } else { 0 };
        match (leaf, subleaf) {
            (1, _) => {
                result[1] = result[1] & 0x00ff_ffff | (self.id as u32) << 24;
                result[2] = result[2] & !OSXSAVE | mirror(OSXSAVE, CR4_OSXSAVE);
            }
            (7, 0) => result[2] = result[2] & !OSPKE | mirror(OSPKE, CR4_PKE),
            (0xd, 0) if self.profile.has(feature::XSAVE) => result[1] = xstate::size(0, self.xcr0) as u32,
            (0xd, 1) if self.profile.has(feature::XSAVEC) => {
                let enabled = self.xcr0 | self.msr.xss;
                result[1] = xstate::size(xstate::COMPACTED | enabled, enabled) as u32;
            }
            (0xb, _) if self.profile.has(feature::X2APIC) => {
                // Every subleaf names itself and the x2APIC ID.
                result[2] = result[2] & !0xff | subleaf & 0xff;
                result[3] = self.id as u32;
            }
            _ => {}
        }
        result
    }
}
