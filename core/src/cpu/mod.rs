//! The processor: its state, decoding into blocks, execution by group of instructions.

pub mod access;
pub mod block;
pub mod bus_lock;
pub mod cet;
pub mod control;
pub mod cpuid;
pub mod debug_registers;
pub mod decode;
pub mod deliver;
pub mod descriptor;
pub mod exception;
pub mod exec;
pub mod extended;
pub mod extended_parts;
pub mod fast;
pub mod flags;
pub mod float;
pub mod insn;
pub mod int;
pub mod msr;
pub mod offered;
pub mod run;
pub mod segment;
pub mod shadow_stack;
pub mod stack;
pub mod task;
mod task_shadow;
#[cfg(test)]
mod tests;
pub mod transcendental;
pub mod xstate;

use std::sync::Arc;

use crate::debug::breakpoints::World;
use crate::mmu::tlb::Tlb;
use crate::vmx::{profile::Profile, VmxState};
use exception::Fault;
use flags::Flags;
use segment::{Segment, Segments, TableRegister, CS, SS};

/// Why the instruction loop was left before the end of a block. The details are in the `Cpu`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// Nothing was done yet; run this instruction again as a block of its own (it needs the exact count, touches a
    /// device, writes into code, or hits a watchpoint).
    Solo,
    /// The instruction is complete; look at interrupts, mode and requests before the next.
    Sync,
    /// A repeated string instruction did a part of its work; it goes on at the same RIP.
    Again,
    /// Nothing was done: the instruction waits for what FERR# brings, an interrupt or IGNNE#.
    Frozen,
    /// `Cpu::fault` holds an exception to deliver.
    Fault,
    /// `Cpu::vmx.exit` holds a VM exit to take.
    Exit,
    /// A Jcc in the middle of a block is complete and has set RIP; `fast` alone says so.
    Taken,
    /// The instruction is complete and another world runs: RIP, RFLAGS and all else are what it begins with.
    World,
}

pub type Done = Result<(), Stop>;

/// CR0, CR4 and EFER bits (SDM vol. 3, 2.5 and 2.2.1).
pub mod bits {
    pub const CR0_PE: u64 = 1 << 0;
    pub const CR0_MP: u64 = 1 << 1;
    pub const CR0_EM: u64 = 1 << 2;
    pub const CR0_TS: u64 = 1 << 3;
    pub const CR0_ET: u64 = 1 << 4;
    pub const CR0_NE: u64 = 1 << 5;
    pub const CR0_WP: u64 = 1 << 16;
    pub const CR0_AM: u64 = 1 << 18;
    pub const CR0_NW: u64 = 1 << 29;
    pub const CR0_CD: u64 = 1 << 30;
    pub const CR0_PG: u64 = 1 << 31;
    pub const CR4_VME: u64 = 1 << 0;
    pub const CR4_PVI: u64 = 1 << 1;
    pub const CR4_TSD: u64 = 1 << 2;
    pub const CR4_DE: u64 = 1 << 3;
    pub const CR4_PSE: u64 = 1 << 4;
    pub const CR4_PAE: u64 = 1 << 5;
    pub const CR4_MCE: u64 = 1 << 6;
    pub const CR4_PGE: u64 = 1 << 7;
    pub const CR4_PCE: u64 = 1 << 8;
    pub const CR4_OSFXSR: u64 = 1 << 9;
    pub const CR4_OSXMMEXCPT: u64 = 1 << 10;
    pub const CR4_UMIP: u64 = 1 << 11;
    pub const CR4_LA57: u64 = 1 << 12;
    pub const CR4_VMXE: u64 = 1 << 13;
    pub const CR4_SMXE: u64 = 1 << 14;
    pub const CR4_FSGSBASE: u64 = 1 << 16;
    pub const CR4_PCIDE: u64 = 1 << 17;
    pub const CR4_OSXSAVE: u64 = 1 << 18;
    pub const CR4_SMEP: u64 = 1 << 20;
    pub const CR4_SMAP: u64 = 1 << 21;
    pub const CR4_PKE: u64 = 1 << 22;
    pub const CR4_CET: u64 = 1 << 23;
    pub const CR4_PKS: u64 = 1 << 24;
    pub const EFER_SCE: u64 = 1 << 0;
    pub const EFER_LME: u64 = 1 << 8;
    pub const EFER_LMA: u64 = 1 << 10;
    pub const EFER_NXE: u64 = 1 << 11;
}
use bits::*;

/// What the processor is doing (SDM vol. 3, 26.4.2: the values are those of the VMCS's activity state).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activity {
    Active = 0,
    Halted = 1,
    Shutdown = 2,
    WaitForSipi = 3,
}

/// How instructions are decoded; part of a block's key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CodeSize {
    Bits16,
    Bits32,
    Bits64,
}

impl CodeSize {
    pub fn bitness(self) -> u32 {
        match self {
            CodeSize::Bits16 => 16,
            CodeSize::Bits32 => 32,
            CodeSize::Bits64 => 64,
        }
    }
}

/// The registers that exist beside the general-purpose ones. Slots 0–15 of `regs` are RAX … R15 in the encoding's
/// order; these two let an effective address be one sum with no branch.
pub const ZERO: usize = 16;
/// RIP at the start of the running block.
pub const BLOCK_RIP: usize = 17;

pub const RAX: usize = 0;
pub const RCX: usize = 1;
pub const RDX: usize = 2;
pub const RBX: usize = 3;
pub const RSP: usize = 4;
pub const RBP: usize = 5;
pub const RSI: usize = 6;
pub const RDI: usize = 7;
pub const R11: usize = 11;

/// What the hot path needs of a segment: derived from `seg` and the mode by `Cpu::update_mode`.
#[derive(Clone, Copy, Default, Debug)]
pub struct SegmentWindow {
    /// Linear; 0 for ES, CS, SS and DS in 64-bit mode.
    pub base: u64,
    /// An access whose last byte lies below needs no further check.
    pub read_end: u64,
    pub write_end: u64,
}

/// For one instruction after STI or a load of SS (SDM vol. 3, 6.8.1 and 6.8.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shadow {
    None,
    Sti,
    MovSs,
}

/// One logical processor.
#[derive(Clone)]
pub struct Cpu {
    pub id: usize,
    /// As many as a byte can name, so that no look-up needs a check; the first 18 are used.
    pub regs: [u64; 256],
    /// Exact between blocks; within a block see `BLOCK_RIP`.
    pub rip: u64,
    pub flags: Flags,
    pub seg: Segments,
    pub window: [SegmentWindow; 8],
    pub gdtr: TableRegister,
    pub idtr: TableRegister,
    pub cr0: u64,
    pub cr2: u64,
    pub cr3: u64,
    pub cr4: u64,
    pub dr: [u64; 4],
    pub dr6: u64,
    pub dr7: u64,
    pub efer: u64,
    pub xcr0: u64,
    /// The four page-directory-pointer entries that PAE paging holds in the processor.
    pub pdpte: [u64; 4],
    /// YMM0–YMM15 as four quadwords each.
    pub ymm: [[u64; 4]; 16],
    pub mxcsr: u32,
    pub x87: exec::x87::X87,
    pub msr: msr::Msrs,
    pub cet: cet::Cet,
    pub cpl: u8,
    pub code_size: CodeSize,
    /// 0xffff_ffff outside 64-bit mode, where linear addresses wrap at 4 GiB.
    pub linear_mask: u64,
    /// The offset behind the last byte of code that CS's limit allows; 64-bit mode has none.
    pub code_end: u64,
    pub tlb: Tlb,
    pub activity: Activity,
    pub shadow: Shadow,
    /// The line that MONITOR or UMONITOR has armed, and what an MWAIT, UMWAIT or TPAUSE under way waits for.
    pub monitor: Option<exec::monitor::Monitor>,
    pub waiting: Option<exec::monitor::Wait>,
    /// What RDRAND and RDSEED draw from.
    pub random: exec::random::Generator,
    /// NMIs are blocked until the next IRET.
    pub nmi_blocked: bool,
    /// Debug exceptions that wait for the next instruction boundary, as DR6 would show them.
    pub pending_debug: u64,
    /// A fault with which the task that was switched to begins.
    pub first_fault: Option<Fault>,
    /// The running instruction makes no single-step trap: a load of SS, or SYSCALL, whose mask has its say first.
    pub no_trap: bool,
    /// The running instruction is a block of its own: `now` is exact and side effects are allowed.
    pub solo: bool,
    /// Machine time is this plus `icount`, during this processor's turn.
    pub clock_base: u64,
    /// Instructions retired by this processor.
    pub icount: u64,
    /// The number in its block of the instruction that stopped; `fast::Fast` sets it.
    pub stopped_at: u8,
    /// The exception that `Stop::Fault` speaks of.
    pub fault: Fault,
    pub vmx: VmxState,
    pub profile: Arc<Profile>,
    /// The instructions that the profile has.
    pub offered: Arc<offered::Offered>,
}

impl Cpu {
    /// The state after RESET (SDM vol. 3, table 10-1).
    pub fn new(id: usize, profile: Arc<Profile>) -> Cpu {
        let mut cpu = Cpu {
            id,
            regs: [0; 256],
            rip: 0xfff0,
            flags: Flags::default(),
            seg: Segments::new([Segment::real(0); 8]),
            window: Default::default(),
            gdtr: TableRegister {
                base: 0,
                limit: 0xffff,
            },
            idtr: TableRegister {
                base: 0,
                limit: 0xffff,
            },
            cr0: CR0_ET | CR0_NW | CR0_CD,
            cr2: 0,
            cr3: 0,
            cr4: 0,
            dr: [0; 4],
            dr6: 0xffff_0ff0,
            dr7: 0x400,
            efer: 0,
            xcr0: 1,
            pdpte: [0; 4],
            ymm: [[0; 4]; 16],
            mxcsr: 0x1f80,
            x87: exec::x87::X87::reset(),
            msr: msr::Msrs::reset(),
            cet: Default::default(),
            cpl: 0,
            code_size: CodeSize::Bits16,
            linear_mask: 0xffff_ffff,
            code_end: 0,
            tlb: Tlb::new(id),
            activity: if id == 0 {
                Activity::Active
            } else {
                Activity::WaitForSipi
            },
            shadow: Shadow::None,
            monitor: None,
            waiting: None,
            random: exec::random::Generator::new(id),
            nmi_blocked: false,
            pending_debug: 0,
            first_fault: None,
            no_trap: false,
            solo: false,
            clock_base: 0,
            icount: 0,
            stopped_at: 0,
            fault: Fault::default(),
            vmx: VmxState::default(),
            offered: Arc::new(offered::Offered::by(&profile)),
            profile,
        };
        cpu.seg[CS] = Segment {
            selector: 0xf000,
            base: 0xffff_0000,
            ..Segment::real(0)
        };
        cpu.seg[CS].rights = segment::Rights(0x9b);
        cpu.seg[segment::LDTR].rights = segment::Rights(0x82);
        cpu.seg[segment::TR].rights = segment::Rights(0x8b);
        cpu.regs[RDX] = cpu.profile.signature() as u64;
        cpu.update_mode();
        cpu
    }

    pub fn protected(&self) -> bool {
        self.cr0 & CR0_PE != 0
    }
    pub fn virtual_8086(&self) -> bool {
        self.protected() && self.flags.has(flags::VM)
    }
    /// Real-address mode or virtual-8086 mode: selectors are paragraphs.
    pub fn paragraphs(&self) -> bool {
        !self.protected() || self.flags.has(flags::VM)
    }
    /// IA-32e mode, compatibility mode included.
    pub fn long_mode(&self) -> bool {
        self.efer & EFER_LMA != 0
    }
    pub fn long64(&self) -> bool {
        self.code_size == CodeSize::Bits64
    }

    /// Recomputes what the hot paths derive from segments, control registers and CPL. To be called after any of them
    /// changed; it is cheap.
    pub fn update_mode(&mut self) {
        let was_flat = self.long64();
        self.code_size = if self.long_mode() && self.seg[CS].rights.long() {
            CodeSize::Bits64
        } else if self.seg[CS].rights.big() && !self.virtual_8086() {
            CodeSize::Bits32
        } else {
            CodeSize::Bits16
        };
        (self.linear_mask, self.code_end) = if self.long64() {
            (!0, !0)
        } else {
            (0xffff_ffff, self.seg[CS].limit as u64 + 1)
        };
        if was_flat && self.long64() {
            // Nothing else can be other than it was.
            for index in segment::FS..8 {
                self.window[index].base = self.seg[index].base;
            }
        } else {
            (0..8).for_each(|index| self.update_window(index));
        }
        self.update_privilege();
    }

    /// Recomputes the hot-path view of one segment.
    pub fn update_window(&mut self, index: usize) {
        let Segment {
            rights, limit, base, ..
        } = self.seg[index];
        if self.long64() {
            let base = if index < segment::FS { 0 } else { base };
            self.window[index] = SegmentWindow {
                base,
                read_end: !0,
                write_end: !0,
            };
            return;
        }
        // What would wrap at 4 GiB is left to the slow path.
        let end = (limit as u64 + 1).min((1u64 << 32).saturating_sub(base));
        let (read, write) = if self.paragraphs() {
            (rights.usable(), rights.usable())
        } else {
            let plain = rights.usable() && rights.present() && !rights.is_expand_down();
            (plain && rights.is_readable(), plain && rights.is_writable())
        };
        let end = |allowed| if allowed { end } else { 0 };
        self.window[index] = SegmentWindow {
            base,
            read_end: end(read),
            write_end: end(write),
        };
    }

    /// Brings up to date all that depends on registers a debugger has set.
    pub fn refresh(&mut self) {
        self.update_mode();
        self.tlb.flush_all();
    }

    /// Tells the TLB under which privilege addresses are translated from now on.
    pub fn update_privilege(&mut self) {
        let access_flag = self.flags.has(flags::AC);
        let align = self.cpl == 3 && access_flag && self.cr0 & CR0_AM != 0;
        self.tlb
            .set_privilege(self.cpl == 3, access_flag && self.cr4 & CR4_SMAP != 0, align);
    }

    /// Sets RFLAGS from software's value and keeps what depends on it current.
    pub fn set_flags(&mut self, value: u64) {
        let mode_changes = (self.flags.rest ^ value) & flags::VM != 0;
        self.flags.set(value);
        if mode_changes {
            self.update_mode();
        } else {
            self.update_privilege();
        }
    }

    /// The size of the stack pointer: 64 bits in 64-bit mode, else by SS.B.
    #[inline(always)]
    pub fn stack_mask(&self) -> u64 {
        if self.long64() {
            !0
        } else if self.seg[SS].rights.big() {
            0xffff_ffff
        } else {
            0xffff
        }
    }

    /// What wraps of an instruction pointer that goes on to the next instruction: EIP, in 16-bit code too. Only branches
    /// of 16-bit operand size stay within 64 KiB.
    #[inline(always)]
    pub fn ip_mask(&self) -> u64 {
        match self.code_size {
            CodeSize::Bits64 => !0,
            _ => 0xffff_ffff,
        }
    }

    /// Whether CS's limit lets the processor fetch all of the next `bytes` bytes.
    #[inline(always)]
    pub fn code_holds(&self, bytes: u64) -> bool {
        self.rip.wrapping_add(bytes) <= self.code_end
    }

    /// Whether VIF and VIP are both set where they mean something: #GP(0) in place of the next instruction (SDM vol. 3,
    /// 21.3.2 and 21.4).
    pub fn virtual_interrupt_waits(&self) -> bool {
        const BOTH: u64 = flags::VIF | flags::VIP;
        if self.flags.rest & BOTH != BOTH {
            return false;
        }
        let enabled = if self.virtual_8086() { CR4_VME } else { CR4_PVI };
        self.cpl == 3 && self.cr4 & enabled != 0 && !self.long64()
    }

    /// The linear address of the next instruction.
    #[inline(always)]
    pub fn code_linear(&self) -> u64 {
        self.rip.wrapping_add(self.window[CS].base) & self.linear_mask
    }

    /// Which world is running.
    pub fn world(&self) -> World {
        match self.vmx.current() {
            Some(vmcs) if self.vmx.guest => World::Guest(vmcs.address),
            _ => World::Host,
        }
    }

    /// INIT is held back in VMX root operation (SDM vol. 3, 24.8), and in a guest that waits for a SIPI (26.4.2).
    pub fn init_blocked(&self) -> bool {
        self.vmx.vmxon.is_some() && (!self.vmx.guest || self.activity == Activity::WaitForSipi)
    }

    /// The clock at which the processor wakes by itself: its guest's preemption timer, or the end of a timed wait.
    pub fn deadline(&self) -> Option<u64> {
        let wait = self.waiting.and_then(|wait| wait.deadline());
        self.vmx.deadline().into_iter().chain(wait).min()
    }

    /// The state after INIT: as after RESET, but for what SDM vol. 3, table 10-1 keeps.
    pub fn init(&mut self) {
        let old = self.clone();
        *self = Cpu::new(self.id, self.profile.clone());
        self.cr0 = CR0_ET | old.cr0 & (CR0_CD | CR0_NW);
        self.msr = old.msr;
        self.ymm = old.ymm;
        self.mxcsr = old.mxcsr;
        self.x87 = old.x87;
        self.xcr0 = old.xcr0;
        self.random = old.random;
        self.icount = old.icount;
        self.clock_base = old.clock_base;
        self.activity = if self.id == 0 {
            Activity::Active
        } else {
            Activity::WaitForSipi
        };
    }

    /// Starts a processor that waits for a SIPI: real mode at page `vector`.
    pub fn start_up(&mut self, vector: u8) {
        self.seg[CS] = Segment::real((vector as u16) << 8);
        self.seg[CS].rights = segment::Rights(0x9b);
        self.rip = 0;
        self.activity = Activity::Active;
        self.update_mode();
    }

    pub fn maxphyaddr(&self) -> u32 {
        self.profile.maxphyaddr()
    }

    /// True for an address that a base register can hold: the processor's full width counts, whatever CR4.LA57 says.
    pub fn canonical_base(&self, linear: u64) -> bool {
        let shift = 64 - u32::from(self.profile.linear_address_width());
        ((linear << shift) as i64 >> shift) as u64 == linear
    }

    /// True for an address that the current paging depth can translate.
    #[inline(always)]
    pub fn canonical(&self, linear: u64) -> bool {
        let shift = if self.cr4 & CR4_LA57 != 0 { 7 } else { 16 };
        ((linear << shift) as i64 >> shift) as u64 == linear
    }
}
