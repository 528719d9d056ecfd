//! Control-flow enforcement (SDM vol. 1, chapter 17): what is enabled where, and the tracking of indirect branches.
//! Shadow stacks are in `shadow_stack`.
//!
//! Decoding chooses the handlers of branches by what is enforced, so that programs without enforcement pay nothing.

use iced_x86::Code;

use super::bits::{CR0_PE, CR4_CET};
use super::exception::control_protection;
use super::insn::Insn;
use super::{Cpu, Done};
use crate::platform::Bus;
use crate::vmx::cpuid_features::feature;

/// Bits of IA32_U_CET and IA32_S_CET.
pub mod control {
    pub const SH_STK_EN: u64 = 1 << 0;
    pub const WR_SHSTK_EN: u64 = 1 << 1;
    pub const ENDBR_EN: u64 = 1 << 2;
    pub const LEG_IW_EN: u64 = 1 << 3;
    pub const NO_TRACK_EN: u64 = 1 << 4;
    pub const SUPPRESS_DIS: u64 = 1 << 5;
    pub const SUPPRESS: u64 = 1 << 10;
    /// The next instruction must be an ENDBRANCH.
    pub const TRACKER: u64 = 1 << 11;
    /// The linear address of the bitmap of legacy pages.
    pub const BITMAP: u64 = !0xfff;
}
use control::*;

/// The registers of control-flow enforcement.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cet {
    /// IA32_U_CET: for CPL 3. IA32_S_CET: for the others.
    pub user: u64,
    pub supervisor: u64,
    /// IA32_PL0_SSP to IA32_PL3_SSP.
    pub pl_ssp: [u64; 4],
    /// IA32_INTERRUPT_SSP_TABLE_ADDR.
    pub interrupt_table: u64,
    /// The shadow-stack pointer.
    pub ssp: u64,
}

/// What is enforced at a privilege level.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Enforcement {
    pub shadow_stack: bool,
    pub branch_tracking: bool,
    /// Every locked access is looked at: a guest runs under "VMM bus-lock detection".
    pub bus_locks: bool,
}

impl Enforcement {
    fn of(control: u64, bus_locks: bool) -> Enforcement {
        Enforcement {
            bus_locks,
            shadow_stack: control & SH_STK_EN != 0,
            branch_tracking: control & ENDBR_EN != 0,
        }
    }
}

impl Cpu {
    /// IA32_U_CET or IA32_S_CET, as far as it is in force at a privilege level.
    fn cet_control(&self, cpl: u8) -> u64 {
        if self.cr4 & CR4_CET == 0 || self.cr0 & CR0_PE == 0 {
            0
        } else if cpl == 3 {
            self.cet.user
        } else {
            self.cet.supervisor
        }
    }

    fn cet_control_mut(&mut self, cpl: u8) -> &mut u64 {
        if cpl == 3 {
            &mut self.cet.user
        } else {
            &mut self.cet.supervisor
        }
    }

    /// What decoding goes by. In virtual-8086 mode nothing is enforced: what is chosen for CPL 3 looks at that itself.
    pub fn enforcement(&self) -> Enforcement {
        Enforcement::of(self.cet_control(self.cpl), self.vmx.detects_bus_locks())
    }

    /// The same for user and supervisor, as bits: code is cached by it.
    #[inline(always)]
    pub fn enforcements(&self) -> u8 {
        let bus_locks = (self.vmx.detects_bus_locks() as u8) << 3;
        if self.cr4 & CR4_CET == 0 {
            return bus_locks;
        }
        let [user, supervisor] = [3, 0].map(|cpl| (self.cet_control(cpl) & (SH_STK_EN | ENDBR_EN)) as u8);
        bus_locks | user | supervisor << 4
    }

    /// Whether programs of a privilege level have a shadow stack, virtual-8086 mode apart.
    pub fn has_shadow_stack(&self, cpl: u8) -> bool {
        self.cet_control(cpl) & SH_STK_EN != 0
    }

    /// Whether anything is enforced at CPL 3: there is no way to virtual-8086 mode then.
    pub fn enforces_user(&self) -> bool {
        self.cet_control(3) & (SH_STK_EN | ENDBR_EN) != 0
    }

    /// Whether the running program has a shadow stack.
    pub fn shadow_stack_enabled(&self) -> bool {
        self.has_shadow_stack(self.cpl) && !self.virtual_8086()
    }

    /// Whether the running program may write to shadow stacks.
    pub fn shadow_writes_enabled(&self) -> bool {
        self.shadow_stack_enabled() && self.cet_control(self.cpl) & WR_SHSTK_EN != 0
    }

    /// After a near indirect branch. True: the next instruction must be an ENDBRANCH.
    pub fn track_near(&mut self, no_track: bool) -> bool {
        let control = self.cet_control(self.cpl);
        let tracked = control & (ENDBR_EN | SUPPRESS) == ENDBR_EN
            && !(no_track && control & NO_TRACK_EN != 0)
            && !self.virtual_8086();
        if tracked {
            *self.cet_control_mut(self.cpl) |= TRACKER;
        }
        tracked
    }

    /// After a far branch, an event or a system call, at the privilege level that it led to.
    pub fn track_far(&mut self) {
        if self.cet_control(self.cpl) & ENDBR_EN != 0 && !self.virtual_8086() {
            let control = self.cet_control_mut(self.cpl);
            *control = *control & !SUPPRESS | TRACKER;
        }
    }

    /// ENDBR32 and ENDBR64, in their mode.
    pub fn end_branch(&mut self) {
        if self.cet_control(self.cpl) & ENDBR_EN != 0 {
            *self.cet_control_mut(self.cpl) &= !(TRACKER | SUPPRESS);
        }
    }

    /// #CP where an ENDBRANCH must come next and `insn`, which does, is none. INT3 and INT1 go first: a debugger may have
    /// put them there.
    pub fn check_landing(&mut self, bus: &mut Bus, insn: &Insn) -> Done {
        let control = self.cet_control(self.cpl);
        if control & (ENDBR_EN | TRACKER) != ENDBR_EN | TRACKER || self.virtual_8086() {
            return Ok(());
        }
        let lands = match Code::try_from(insn.code as usize) {
            Ok(Code::Endbr64) => self.long64(),
            Ok(Code::Endbr32) => !self.long64(),
            Ok(Code::Int3 | Code::Int1) => true,
            _ => false,
        };
        if lands {
            return Ok(());
        }
        if control & LEG_IW_EN != 0 && self.is_legacy_page(bus, control & BITMAP)? {
            let suppress = if control & SUPPRESS_DIS == 0 { SUPPRESS } else { 0 };
            let control = self.cet_control_mut(self.cpl);
            *control = *control & !TRACKER | suppress;
            return Ok(());
        }
        Err(self.control_protection(control_protection::ENDBRANCH))
    }

    /// The bitmap's bit for the page of the next instruction.
    fn is_legacy_page(&mut self, bus: &mut Bus, bitmap: u64) -> Result<bool, super::Stop> {
        let page = (self.code_linear() & 0xffff_ffff_ffff) >> 12;
        let at = bitmap.wrapping_add(page >> 3) & self.linear_mask;
        let bits: u8 = self.read_linear(bus, at, self.tlb.privilege())?;
        Ok(bits >> (page & 7) & 1 != 0)
    }

    pub fn has_cet(&self) -> bool {
        self.profile.has(feature::CET_SS) || self.profile.has(feature::CET_IBT)
    }

    /// Loads IA32_U_CET or IA32_S_CET as WRMSR does. False: #GP.
    pub fn write_cet(&mut self, value: u64, place: fn(&mut Cet) -> &mut u64) -> bool {
        let good = self.has_cet() && self.is_cet_control(value);
        if good {
            *place(&mut self.cet) = value;
            self.update_space();
        }
        good
    }

    /// Whether IA32_U_CET and IA32_S_CET take a value.
    pub fn is_cet_control(&self, value: u64) -> bool {
        const SHADOW_STACKS: u64 = SH_STK_EN | WR_SHSTK_EN;
        const TRACKING: u64 = ENDBR_EN | LEG_IW_EN | NO_TRACK_EN | SUPPRESS_DIS | SUPPRESS | TRACKER | BITMAP;
        let mut defined = 0;
        if self.profile.has(feature::CET_SS) {
            defined |= SHADOW_STACKS;
        }
        if self.profile.has(feature::CET_IBT) {
            defined |= TRACKING;
        }
        value & !defined == 0
            && value & (SUPPRESS | TRACKER) != SUPPRESS | TRACKER
            && self.canonical_base(value & BITMAP)
    }

    /// Whether IA32_PLn_SSP take a value.
    pub fn is_shadow_stack_pointer(&self, value: u64) -> bool {
        value & 3 == 0 && self.canonical_base(value)
    }
}
