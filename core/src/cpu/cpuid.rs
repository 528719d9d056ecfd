//! CPUID: the profile's leaves, with the bits that mirror the processor's state.

use super::bits::CR4_OSXSAVE;
use super::Cpu;
use crate::vmx::cpuid_features::feature;

impl Cpu {
    /// EAX, EBX, ECX, EDX of a leaf.
    pub fn cpuid(&self, leaf: u32, subleaf: u32) -> [u32; 4] {
        let mut result = self.profile.cpuid(leaf, subleaf);
        if leaf == 1 {
            let osxsave = (self.cr4 & CR4_OSXSAVE != 0) as u32;
            result[1] = result[1] & 0x00ff_ffff | (self.id as u32) << 24;
            result[2] = result[2] & !(1 << 27) | osxsave << 27;
        }
        if leaf == 0xb && self.profile.has(feature::X2APIC) {
            // Every subleaf names itself and the x2APIC ID.
            result[2] = result[2] & !0xff | subleaf & 0xff;
            result[3] = self.id as u32;
        }
        result
    }
}
