//! Changing control registers (SDM vol. 3, 2.5, 4.1.2 and 4.10.4.1): what is refused, and what follows from a change.

use super::bits::*;
use super::descriptor::system;
use super::{segment, Cpu, Done, Stop};
use crate::mmu::tlb::{Owner, Space, PAGE_MASK};
use crate::mmu::{ept, paging};
use crate::platform::Bus;
use crate::vmx::intercept;

const CR0_DEFINED: u64 =
    CR0_PE | CR0_MP | CR0_EM | CR0_TS | CR0_ET | CR0_NE | CR0_WP | CR0_AM | CR0_NW | CR0_CD | CR0_PG;

/// The bits that decide what a cached translation allows.
const CR0_TRANSLATION: u64 = CR0_PG | CR0_WP;
const CR4_TRANSLATION: u64 =
    CR4_PSE | CR4_PAE | CR4_PGE | CR4_LA57 | CR4_PCIDE | CR4_SMEP | CR4_SMAP | CR4_PKE | CR4_PKS;
const EFER_TRANSLATION: u64 = EFER_LMA | EFER_NXE;

/// PCIDs are CR3's low 12 bits; bit 63 of what MOV to CR3 is given keeps their translations.
pub const PCID: u64 = 0xfff;
pub const CR3_KEEP: u64 = 1 << 63;

/// Of a PDPTE: present; reserved below the address.
const PDPTE_PRESENT: u64 = 1;
const PDPTE_RESERVED: u64 = 0x1e6;

impl Cpu {
    /// What translations made now belong to.
    #[inline(always)]
    pub fn space(&self) -> Space {
        let (vpid, ept_root) = intercept::translation_tag(self);
        Space {
            owner: Owner::new(self.vmx.guest, vpid, self.pcid(), self.enforcements()),
            root: if self.cr0 & CR0_PG == 0 {
                0
            } else if self.pae_paging() {
                Space::PDPTES
            } else {
                self.cr3 & PAGE_MASK
            },
            keys: self.protection_keys(),
            ept_root,
            apic_page: self.vmx.apic.tag(),
            paging: self.cr0 & CR0_TRANSLATION | self.cr4 & CR4_TRANSLATION | self.efer & EFER_TRANSLATION,
        }
    }

    /// PKRU and IA32_PKRS as far as they are in force.
    fn protection_keys(&self) -> u64 {
        if self.cr4 & (CR4_PKE | CR4_PKS) == 0 {
            return 0;
        }
        let user = if self.cr4 & CR4_PKE != 0 {
            self.msr.pkru as u64
        } else {
            0
        };
        let supervisor = if self.cr4 & CR4_PKS != 0 {
            self.msr.pkrs << 32
        } else {
            0
        };
        user | supervisor
    }

    pub fn pcid(&self) -> u16 {
        if self.cr4 & CR4_PCIDE != 0 {
            (self.cr3 & PCID) as u16
        } else {
            0
        }
    }

    /// Makes the TLB translate by the state as it is: after any change of CR0, CR3, CR4, EFER, VPID or EPT pointer.
    /// What is to be forgotten is forgotten before.
    pub fn update_space(&mut self) {
        let space = self.space();
        self.tlb.enter(space);
    }

    /// Forgets what is cached under the current VPID: of one PCID, or of all with the global pages.
    pub fn flush_translations(&mut self, bus: &Bus, pcid: Option<u16>) {
        let vpid = self.tlb.space().owner.vpid();
        self.tlb.flush(bus.ram.table_writes(), |space| {
            space.owner.vpid() == vpid && pcid.is_none_or(|pcid| space.owner.pcid() == pcid)
        });
    }

    /// Forgets the page that `linear` lies in under `vpid`, whatever the PCID: it may be global.
    pub fn forget_page(&mut self, linear: u64, vpid: u16) {
        self.tlb.forget_page(linear, |space| space.owner.vpid() == vpid);
    }

    /// Loads CR0 as MOV does, LMA following PG.
    pub fn write_cr0(&mut self, bus: &mut Bus, value: u64) -> Done {
        let value = value & (CR0_DEFINED | !0xffff_ffff) | CR0_ET;
        let set = |bits| value & bits != 0;
        let (changed, paging) = (self.cr0 ^ value, value & CR0_PG != 0);
        let long = self.efer & EFER_LME != 0;
        let enters_long = changed & CR0_PG != 0 && paging && long;
        let bad = value >> 32 != 0
            || paging && !set(CR0_PE)
            || set(CR0_NW) && !set(CR0_CD)
            || enters_long && !self.fit_for_long_mode()
            || !set(CR0_WP) && self.cr4 & CR4_CET != 0
            || !paging && (self.long64() || self.cr4 & CR4_PCIDE != 0)
            || !self.cr0_fits_vmx(value);
        if bad {
            return Err(self.general_protection(0));
        }
        if paging && !long && self.cr4 & CR4_PAE != 0 && changed & (CR0_PG | CR0_CD | CR0_NW) != 0 {
            self.pdpte = self.read_pdptes(bus, self.cr3)?;
        }
        self.cr0 = value;
        if changed & CR0_PG != 0 {
            self.efer = self.efer & !EFER_LMA | if enters_long { EFER_LMA } else { 0 };
            self.flush_translations(bus, None);
        }
        if changed & CR0_PE != 0 {
            self.cpl = 0;
        }
        self.update_space();
        self.update_mode();
        Ok(())
    }

    /// What IA-32e mode asks for when it begins: a TSS of 16 bits is not known there (SDM vol. 3, 10.8.5).
    fn fit_for_long_mode(&self) -> bool {
        let (code, task) = (self.seg[segment::CS].rights, self.seg[segment::TR].rights);
        self.cr4 & CR4_PAE != 0 && !code.long() && !matches!(task.kind(), system::TSS16 | system::TSS16_BUSY)
    }

    /// Loads CR3 as MOV does.
    pub fn write_cr3(&mut self, bus: &mut Bus, value: u64) -> Done {
        let mut reserved = !0u64 << self.maxphyaddr();
        let pcids = self.cr4 & CR4_PCIDE != 0;
        if pcids {
            reserved &= !CR3_KEEP;
        }
        if value & reserved != 0 {
            return Err(self.general_protection(0));
        }
        if self.pae_paging() {
            self.pdpte = self.read_pdptes(bus, value)?;
        }
        self.cr3 = value & !CR3_KEEP;
        if !pcids || value & CR3_KEEP == 0 {
            self.flush_translations(bus, Some(self.pcid()));
        }
        self.update_space();
        Ok(())
    }

    /// Loads CR4 as MOV does.
    pub fn write_cr4(&mut self, bus: &mut Bus, value: u64) -> Done {
        let set = |bits| value & bits != 0;
        let changed = self.cr4 ^ value;
        let turned_on = |bits| changed & value & bits != 0;
        let bad = value & !self.profile.cr4_allowed() != 0
            || self.long_mode() && (!set(CR4_PAE) || changed & CR4_LA57 != 0)
            || set(CR4_CET) && self.cr0 & CR0_WP == 0
            || turned_on(CR4_PCIDE) && (!self.long_mode() || self.cr3 & PCID != 0)
            || !self.cr4_fits_vmx(value);
        if bad {
            return Err(self.general_protection(0));
        }
        let pae = self.cr0 & CR0_PG != 0 && set(CR4_PAE) && !self.long_mode();
        if pae && changed & (CR4_PAE | CR4_PGE | CR4_PSE | CR4_SMEP) != 0 {
            self.pdpte = self.read_pdptes(bus, self.cr3)?;
        }
        self.cr4 = value;
        // The other bits that matter are part of what translations belong to (SDM vol. 3, 4.10.4.1).
        if changed & (CR4_PGE | CR4_PAE) != 0 || changed & !value & CR4_PCIDE != 0 || turned_on(CR4_SMEP) {
            self.flush_translations(bus, None);
        }
        self.update_space();
        self.update_mode();
        Ok(())
    }

    /// Loads IA32_EFER as WRMSR does. False: #GP.
    pub fn write_efer(&mut self, value: u64) -> bool {
        let changed = self.efer ^ value;
        let paging = self.cr0 & CR0_PG != 0;
        if value & self.profile.efer_reserved() != 0 || paging && changed & EFER_LME != 0 {
            return false;
        }
        self.efer = self.efer & EFER_LMA | value & !EFER_LMA;
        self.update_space();
        true
    }

    pub fn pae_paging(&self) -> bool {
        self.cr0 & CR0_PG != 0 && self.cr4 & CR4_PAE != 0 && !self.long_mode()
    }

    /// The four PDPTEs that `cr3` points to; #GP where a present one has a reserved bit set (SDM vol. 3, 4.4.1).
    pub fn read_pdptes(&mut self, bus: &mut Bus, cr3: u64) -> Result<[u64; 4], Stop> {
        let mut entries = [0; 4];
        for (entry, address) in entries.iter_mut().zip((cr3 & 0xffff_ffe0..).step_by(8)) {
            *entry = ept::read_physical(self, bus, address)?;
        }
        paging::guard_tables(self, bus);
        if self.pdptes_are_valid(&entries) {
            Ok(entries)
        } else {
            Err(self.general_protection(0))
        }
    }

    /// No present one has a reserved bit set.
    pub fn pdptes_are_valid(&self, entries: &[u64; 4]) -> bool {
        let reserved = PDPTE_RESERVED | !0u64 << self.maxphyaddr();
        entries
            .iter()
            .all(|entry| entry & PDPTE_PRESENT == 0 || entry & reserved == 0)
    }

    /// VMX operation fixes bits of CR0 and CR4 (SDM vol. 3, 24.8).
    fn cr0_fits_vmx(&self, value: u64) -> bool {
        let fixed = self.profile.capabilities().cr0();
        let free = if intercept::unrestricted(self) {
            CR0_PE | CR0_PG
        } else {
            0
        };
        self.vmx.vmxon.is_none() || fixed.missing(value) & !free == 0 && fixed.excess(value) == 0
    }

    fn cr4_fits_vmx(&self, value: u64) -> bool {
        self.vmx.vmxon.is_none() || self.profile.capabilities().cr4().accepts(value)
    }
}
