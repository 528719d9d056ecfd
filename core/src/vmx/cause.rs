//! What made a VM exit happen.

use super::apic::emulation::Unfinished;
use super::apic::page::Refusal;
use super::controls::Word;
use crate::cpu::bus_lock::{Locked, Why};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Cause {
    /// Every guest exits here, whatever its VMCS says.
    #[default]
    Always,
    /// A control bit (given as a mask) that is 1.
    Control(Word, u64),
    /// A control bit that is 0.
    ControlClear(Word, u64),
    /// The bit of an I/O bitmap: host-physical address of its byte, number in the byte, and the port.
    IoBitmap { byte: u64, bit: u8, port: u16 },
    /// An access to several ports that wraps around 0xFFFF, with I/O bitmaps in use.
    IoWrap { port: u16 },
    /// The bit of the MSR bitmap.
    MsrBitmap {
        byte: u64,
        bit: u8,
        msr: u32,
        write: bool,
    },
    /// An MSR that the MSR bitmap has no bit for.
    MsrOutside { msr: u32 },
    /// Bits that the host owns and that `value` would give another value than the read shadow has.
    CrMask {
        cr: u8,
        mask: u64,
        shadow: u64,
        value: u64,
    },
    /// None of the CR3-target values in use is this one.
    Cr3Targets { value: u64, count: u64 },
    /// The vector's bit of the exception bitmap is 1.
    ExceptionBitmap { vector: u8 },
    /// #PF: the bit of the exception bitmap is `bit`, and the masked error code equals the match value or not.
    PageFault {
        error_code: u32,
        mask: u32,
        matching: u32,
        bit: bool,
    },
    /// The EPT entry at host-physical `address` allows too little, or is not present (violation), or is malformed
    /// (misconfiguration).
    Ept { level: u8, address: u64, entry: u64 },
    /// The EPT entry at host-physical `address` maps a page that guest paging structures lead to which guest paging may
    /// not write to.
    GuestPaging { address: u64, entry: u64 },
    /// The entry of the sub-page-permission tables at host-physical `address` is not valid or malformed; or, at level 1,
    /// it is the vector, and does not allow the write (an EPT violation) or is malformed.
    SubPage { level: u8, address: u64, entry: u64 },
    /// The bit of the VMREAD or VMWRITE bitmap, with VMCS shadowing.
    VmcsBitmap {
        byte: u64,
        bit: u8,
        encoding: u64,
        write: bool,
    },
    /// The page-modification log is full: its index is beyond the last entry.
    PageLogFull { index: u64 },
    /// State components that XSAVES or XRSTORS was asked for, that IA32_XSS enables and the XSS-exiting bitmap has.
    XssBitmap { bits: u64 },
    /// An access to the APIC-access page, `offset` bytes into it, that is not virtualized.
    ApicAccess { offset: u16, refusal: Refusal },
    /// A virtualized write at a page offset that the processor cannot finish.
    ApicWrite { offset: u16, why: Unfinished },
    /// The vector's bit of the EOI-exit bitmap is 1.
    EoiExitBitmap { vector: u8 },
    /// The priority class of the virtual TPR is below the threshold: after a write to it, or at VM entry.
    TprThreshold {
        class: u8,
        threshold: u8,
        at_entry: bool,
    },
    /// The delivery of exceptions raised exceptions for longer than the instruction-timeout control says.
    InstructionTimeout { window: u64 },
    /// A locked access asserted a bus lock.
    BusLock { locked: Locked, why: Why },
    /// The VMX-preemption timer counted down to 0.
    Timer,
    /// An event that is not blocked, and that no control is asked about.
    Signal,
    /// VMFUNC with a function or a parameter that is not enabled.
    VmFunction { function: u32, parameter: u32 },
    /// The debugger asked for it.
    Forced,
    /// Another processor made it, and its VMCS leaves more than one possibility.
    Reported,
}
