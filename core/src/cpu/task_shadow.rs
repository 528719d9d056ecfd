//! Shadow stacks in task switches (SDM vol. 1, 17.2.4; vol. 3, 7.3). A task's shadow stack, which its TSS names, has a token
//! also where the task runs at CPL 3; a nested task's has a frame for the way back, as a far CALL's has.

use super::bits::CR4_CET;
use super::descriptor::error_code;
use super::exception::control_protection::FAR_RETURN;
use super::segment::{CS, TR};
use super::shadow_stack::{privilege, BUSY, FRAME};
use super::{Cpu, Done, Stop};
use crate::platform::Bus;
use crate::vmx::intercept::TaskSwitch;

/// The frame, from its upper end: CS, the linear instruction pointer and SSP of the outer task.
type Frame = [u64; 3];

/// What becomes of the old task's shadow stack.
pub enum Left {
    /// It has none, or nobody comes back to it.
    Nothing,
    /// IA32_PL3_SSP keeps a user's SSP while a supervisor's task runs.
    Kept,
    /// A nested task keeps it on its own shadow stack.
    Nested(Frame),
    /// IRET ends a nested task: the frame, if it has one, and where the token is to be freed.
    Ended(Option<Frame>, u64),
}

impl Cpu {
    /// What must hold before anything changes. `wide`: the new TSS has the 32-bit format.
    pub fn check_task_shadow(&mut self, source: TaskSwitch, wide: bool, limit: u32, selector: u16) -> Done {
        /// The last byte of SSP.
        const LAST: u32 = 0x6b;
        if source == TaskSwitch::Iret && self.shadow_stack_enabled() && self.cet.ssp & 7 != 0 {
            let current = self.seg[TR].selector;
            return Err(self.invalid_tss(error_code(current)));
        }
        if self.cr4 & CR4_CET != 0 && (!wide || limit < LAST) {
            return Err(self.invalid_tss(error_code(selector)));
        }
        Ok(())
    }

    /// What is to become of the shadow stack when a task at privilege level `to` begins. Changes nothing.
    pub fn task_shadow(
        &mut self,
        bus: &mut Bus,
        source: TaskSwitch,
        to: u8,
        next_ip: u64,
    ) -> Result<Left, Stop> {
        if !self.shadow_stack_enabled() {
            return Ok(Left::Nothing);
        }
        let (ssp, cpl) = (self.cet.ssp, self.cpl);
        let level = privilege(cpl);
        Ok(match source {
            TaskSwitch::Jmp => Left::Nothing,
            TaskSwitch::Call | TaskSwitch::Gate if self.cpl == 3 && to < 3 => Left::Kept,
            TaskSwitch::Call | TaskSwitch::Gate => {
                let linear = next_ip.wrapping_add(self.seg[CS].base) & 0xffff_ffff;
                Left::Nested([self.seg[CS].selector as u64, linear, ssp])
            }
            TaskSwitch::Iret => {
                let mut entry = |at| self.shadow_load(bus, ssp.wrapping_add(at), 8, level);
                let framed = to == cpl || to < 3;
                let frame = framed
                    .then(|| Ok([entry(16)?, entry(8)?, entry(0)?]))
                    .transpose()?;
                let token = if framed { FRAME } else { 0 };
                // So that a page fault comes before the switch.
                entry(token)?;
                Left::Ended(frame, ssp.wrapping_add(token))
            }
        })
    }

    /// The old task's part, at its privilege level and in its address space.
    pub fn leave_task_shadow(&mut self, bus: &mut Bus, left: &Left) -> Done {
        match *left {
            Left::Kept => self.cet.pl_ssp[3] = self.cet.ssp,
            Left::Ended(_, token) => {
                self.exchange_token(bus, token, token | BUSY, token, privilege(self.cpl))?;
                self.cet.ssp = 0;
            }
            Left::Nothing | Left::Nested(_) => {}
        }
        Ok(())
    }

    /// The new task's part, when all else of its state is loaded. `ssp`: what its TSS has.
    pub fn enter_task_shadow(&mut self, bus: &mut Bus, source: TaskSwitch, left: Left, ssp: u64) -> Done {
        let selector = self.seg[TR].selector;
        let enforced = self.enforcement();
        if self.virtual_8086() && (enforced.shadow_stack || enforced.branch_tracking) {
            return Err(self.invalid_tss(error_code(selector)));
        }
        if source == TaskSwitch::Iret {
            return self.resume_task_shadow(left);
        }
        if enforced.shadow_stack {
            let level = privilege(self.cpl);
            if ssp & 7 != 0 || !self.exchange_token(bus, ssp, ssp, ssp | BUSY, level)? {
                return Err(self.invalid_tss(error_code(selector)));
            }
            self.cet.ssp = ssp;
            if let Left::Nested(frame) = left {
                self.cet.ssp = self.push_frame(bus, ssp, level, frame)?;
            }
        }
        self.track_far();
        Ok(())
    }

    /// Back in the outer task, which is to go on where the nested one's frame says.
    fn resume_task_shadow(&mut self, left: Left) -> Done {
        let mut ssp = self.cet.pl_ssp[3];
        if let Left::Ended(Some([selector, linear, previous]), _) = left {
            let here = self.rip.wrapping_add(self.seg[CS].base) & 0xffff_ffff;
            if (selector, linear) != (self.seg[CS].selector as u64, here) {
                return Err(self.control_protection(FAR_RETURN));
            }
            ssp = previous;
        }
        if self.shadow_stack_enabled() {
            if ssp & 3 != 0 || ssp >> 32 != 0 {
                return Err(self.control_protection(FAR_RETURN));
            }
            self.cet.ssp = ssp;
        }
        Ok(())
    }
}
