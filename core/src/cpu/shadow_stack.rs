//! Shadow stacks: the accesses to them, and what calls, returns, events and their kin do there (SDM vol. 1, 17.2; vol. 2,
//! CALL, RET, INT n, IRET).

use super::exception::control_protection::FAR_RETURN;
use super::segment::Segment;
use super::{Cpu, Done, Stop};
use crate::mmu::paging::Access;
use crate::mmu::tlb::Privilege;
use crate::platform::Bus;

/// Of a supervisor shadow stack's token: a processor uses the stack.
pub const BUSY: u64 = 1;

/// What a far CALL or an event pushes: CS, the linear instruction pointer and SSP, 8 bytes each.
pub const FRAME: u64 = 24;

/// A far entry into a procedure or a handler.
pub struct Entry {
    /// The privilege level there.
    pub to: u8,
    /// It is 64-bit code.
    pub long: bool,
    /// Where it will return to, in the current code segment.
    pub return_ip: u64,
    /// The gate's IST index.
    pub stack: u64,
}

/// A far return.
pub struct Leave {
    pub to: u8,
    pub code: Segment,
    pub ip: u64,
    /// IRET, not RETF.
    pub interrupt: bool,
}

/// The privilege of the shadow stack of a level.
pub fn privilege(cpl: u8) -> Privilege {
    if cpl == 3 {
        Privilege::User
    } else {
        Privilege::Supervisor
    }
}

impl Cpu {
    /// Reads 4 or 8 bytes of a shadow stack at a linear address.
    pub fn shadow_load(
        &mut self,
        bus: &mut Bus,
        linear: u64,
        bytes: u64,
        privilege: Privilege,
    ) -> Result<u64, Stop> {
        self.check_shadow_address(linear)?;
        self.load_span(bus, linear, bytes, Access::read(privilege).of_shadow_stack())
    }

    pub fn shadow_store(
        &mut self,
        bus: &mut Bus,
        linear: u64,
        bytes: u64,
        value: u64,
        privilege: Privilege,
    ) -> Done {
        self.check_shadow_address(linear)?;
        let access = Access::write(privilege).of_shadow_stack();
        self.store_span(bus, linear, bytes, value, access)
    }

    fn check_shadow_address(&mut self, linear: u64) -> Done {
        if self.long_mode() && !self.canonical(linear) {
            return Err(self.general_protection(0));
        }
        Ok(())
    }

    /// What a near CALL does. `bytes`: 4 or 8.
    pub fn shadow_push(&mut self, bus: &mut Bus, bytes: u64, value: u64) -> Done {
        let at = self.cet.ssp.wrapping_sub(bytes);
        self.shadow_store(bus, at, bytes, value, privilege(self.cpl))?;
        self.cet.ssp = at;
        Ok(())
    }

    /// What is on top.
    pub fn shadow_top(&mut self, bus: &mut Bus, bytes: u64) -> Result<u64, Stop> {
        self.shadow_load(bus, self.cet.ssp, bytes, privilege(self.cpl))
    }

    /// Code outside 64-bit mode needs its shadow stack below 4 GiB.
    pub fn check_shadow_reach(&mut self, long: bool) -> Done {
        if !long && self.shadow_stack_enabled() && self.cet.ssp >> 32 != 0 {
            return Err(self.general_protection(0));
        }
        Ok(())
    }

    /// A far CALL, an interrupt or an exception: what it does to shadow stacks, before anything else has changed.
    pub fn shadow_enter(&mut self, bus: &mut Bus, entry: &Entry) -> Done {
        let Entry {
            to,
            long,
            return_ip,
            stack,
        } = *entry;
        let (old, leaves_user) = (self.cet.ssp, to < self.cpl && self.cpl == 3);
        let from_user = leaves_user && self.shadow_stack_enabled();
        if self.has_shadow_stack(to) {
            let inner = to < self.cpl;
            let target = if stack != 0 {
                let table = self.cet.interrupt_table.wrapping_add(stack * 8);
                Some(self.read_linear(bus, table, Privilege::Supervisor)?)
            } else if inner {
                Some(self.cet.pl_ssp[to as usize & 3])
            } else {
                None
            };
            if let Some(token) = target {
                self.check_token(bus, token, long)?;
            } else {
                self.check_shadow_reach(long)?;
            }
            let top = target.unwrap_or(old);
            if let Some(token) = target {
                self.shadow_store(bus, token, 8, token | BUSY, Privilege::Supervisor)?;
            }
            self.cet.ssp = if leaves_user {
                top
            } else {
                let selector = self.seg[super::segment::CS].selector as u64;
                let linear = return_ip.wrapping_add(self.window[super::segment::CS].base) & self.linear_mask;
                // A fault or a VM exit from here on leaves the stack prematurely busy (SDM vol. 1, 17.2.3).
                self.vmx.token_acquired = target.is_some();
                let pushed = self.push_frame(bus, top, privilege(to), [selector, linear, old]);
                if !matches!(pushed, Err(Stop::Fault)) {
                    let acquired = std::mem::take(&mut self.vmx.token_acquired);
                    self.vmx.exit.busy_shadow_stack = acquired && pushed.is_err();
                }
                pushed?
            };
        }
        if from_user {
            self.cet.pl_ssp[3] = self.adjusted(old);
        }
        Ok(())
    }

    /// The token on top of a shadow stack that is to be used: its own address, not busy.
    fn check_token(&mut self, bus: &mut Bus, token: u64, long: bool) -> Done {
        let reachable = token & 7 == 0 && (long || token >> 32 == 0);
        if reachable && self.shadow_load(bus, token, 8, Privilege::Supervisor)? == token {
            return Ok(());
        }
        Err(self.general_protection(0))
    }

    /// Pushes a frame from `top` on, aligned, and gives where it begins.
    pub fn push_frame(
        &mut self,
        bus: &mut Bus,
        top: u64,
        privilege: Privilege,
        frame: [u64; 3],
    ) -> Result<u64, Stop> {
        self.shadow_store(bus, top.wrapping_sub(4), 4, 0, privilege)?;
        let mut at = top & !7;
        for value in frame {
            at = at.wrapping_sub(8);
            self.shadow_store(bus, at, 8, value, privilege)?;
        }
        Ok(at)
    }

    /// RETF or IRET: checks against the shadow stack, and what it does to shadow stacks, before anything else has changed.
    pub fn shadow_leave(&mut self, bus: &mut Bus, leave: &Leave) -> Done {
        let had = self.shadow_stack_enabled();
        if !had && !self.has_shadow_stack(leave.to) {
            return Ok(());
        }
        let long = self.long_mode() && leave.code.rights.long();
        let (mut ssp, mut previous) = (self.cet.ssp, self.cet.ssp);
        if had {
            if ssp & 7 != 0 {
                return Err(self.control_protection(FAR_RETURN));
            }
            // To CPL 3 nothing was pushed on the way in.
            if leave.to != 3 || self.cpl == 3 {
                previous = self.check_frame(bus, ssp, leave, long)?;
                ssp = ssp.wrapping_add(FRAME);
            }
        }
        let outer = leave.to > self.cpl;
        if self.has_shadow_stack(leave.to) {
            if outer && leave.to == 3 {
                previous = self.cet.pl_ssp[3];
            }
            let reachable = if long {
                self.canonical(previous)
            } else {
                previous >> 32 == 0
            };
            if !reachable {
                return Err(self.general_protection(0));
            }
        }
        // Within a level only IRET, and only in IA-32e mode, may leave one stack for another.
        let leaves_stack = outer || leave.interrupt && self.long_mode() && previous != ssp;
        if had && leaves_stack {
            self.release(bus, ssp)?;
        }
        if self.has_shadow_stack(leave.to) {
            self.cet.ssp = previous;
        }
        Ok(())
    }

    /// IRET to virtual-8086 mode: there is no shadow stack there.
    pub fn shadow_leave_to_virtual_8086(&mut self, bus: &mut Bus) -> Done {
        if !self.shadow_stack_enabled() {
            return Ok(());
        }
        if self.cet.ssp & 7 != 0 {
            return Err(self.control_protection(FAR_RETURN));
        }
        self.release(bus, self.cet.ssp)
    }

    /// Compares the frame at `ssp` with where a return goes, and gives the SSP in it.
    fn check_frame(&mut self, bus: &mut Bus, ssp: u64, leave: &Leave, long: bool) -> Result<u64, Stop> {
        let privilege = privilege(self.cpl);
        let selector = self.shadow_load(bus, ssp.wrapping_add(16), 8, privilege)?;
        let linear = self.shadow_load(bus, ssp.wrapping_add(8), 8, privilege)?;
        let previous = self.shadow_load(bus, ssp, 8, privilege)?;
        let target = if long {
            leave.ip
        } else {
            leave.ip.wrapping_add(leave.code.base) & 0xffff_ffff
        };
        if selector != leave.code.selector as u64 || linear != target || previous & 3 != 0 {
            return Err(self.control_protection(FAR_RETURN));
        }
        Ok(previous)
    }

    /// Frees the shadow stack that is left, if its token is at `ssp`. It is looked for at the level that is left: within
    /// CPL 3 as the program's own (SDM vol. 2, IRET).
    fn release(&mut self, bus: &mut Bus, ssp: u64) -> Done {
        self.exchange_token(bus, ssp, ssp | BUSY, ssp, privilege(self.cpl))
            .map(|_| ())
    }

    /// Marks the token at `linear` busy. False: it was no free token.
    pub fn acquire_token(&mut self, bus: &mut Bus, linear: u64) -> Result<bool, Stop> {
        self.exchange_token(bus, linear, linear, linear | BUSY, Privilege::Supervisor)
    }

    /// Marks the token at `linear` free. False: it was no busy token.
    pub fn release_token(&mut self, bus: &mut Bus, linear: u64) -> Result<bool, Stop> {
        self.exchange_token(bus, linear, linear | BUSY, linear, Privilege::Supervisor)
    }

    /// A locked compare and exchange: it writes in any case.
    pub fn exchange_token(
        &mut self,
        bus: &mut Bus,
        linear: u64,
        expected: u64,
        new: u64,
        privilege: Privilege,
    ) -> Result<bool, Stop> {
        let found = self.shadow_load(bus, linear, 8, privilege)?;
        let value = if found == expected { new } else { found };
        self.shadow_store(bus, linear, 8, value, privilege)?;
        Ok(found == expected)
    }

    /// SYSCALL and SYSENTER: user's SSP is kept, and supervisor's has to be set by SETSSBSY.
    pub fn shadow_system_call(&mut self) {
        if self.shadow_stack_enabled() {
            self.cet.pl_ssp[3] = self.adjusted(self.cet.ssp);
        }
        if self.has_shadow_stack(0) {
            self.cet.ssp = 0;
        }
    }

    /// SYSRET and SYSEXIT.
    pub fn shadow_system_return(&mut self) {
        if self.has_shadow_stack(3) {
            self.cet.ssp = self.cet.pl_ssp[3];
        }
    }

    /// Made canonical by sign extension (outside IA-32e mode it is already).
    fn adjusted(&self, ssp: u64) -> u64 {
        let unused = 64 - u32::from(self.profile.linear_address_width());
        ((ssp << unused) as i64 >> unused) as u64
    }
}
