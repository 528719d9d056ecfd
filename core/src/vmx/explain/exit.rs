//! VM exits: what in the VMCS, or in the tables that it points to, made them happen.

use super::{apic, fault_chain, vector_name, Explanation};
use crate::cpu::bus_lock::Why;
use crate::cpu::Cpu;
use crate::mmu::ept;
use crate::vmx::cause::Cause;
use crate::vmx::controls::{secondary, tertiary, Word};
use crate::vmx::fields::{field, Field};
use crate::vmx::qualification;
use crate::vmx::reasons::{reason, ExitReason};
use crate::vmx::state::Exit;

/// The last exit. Its fields are shown as the current VMCS has them.
pub fn last(cpu: &Cpu) -> Option<Explanation> {
    let (exit, rip, _) = cpu.vmx.record.exit.as_ref()?;
    let row = ExitReason::by_number(exit.reason as u16);
    let title = row.map_or("an exit without a name", |row| row.title);
    let section = row.map_or("26.1", |row| row.section);
    let headline = format!("VM exit {} ({title}) at guest RIP {rip:#x}", exit.reason);
    let mut explanation = Explanation::new(headline, section);
    for words in cause_words(exit) {
        explanation = explanation.say(words);
    }
    if let Some(row) = row {
        let info = u64::from(exit.interruption_info);
        let parts = qualification::decode(row.qualification, exit.qualification, info);
        if !parts.is_empty() {
            explanation = explanation.say(format!(
                "Exit qualification: {}.",
                qualification::sentence(&parts)
            ));
        }
    }
    if exit.busy_shadow_stack {
        explanation = explanation.say(
            "The shadow stack that was switched to has become prematurely busy: its token was acquired, and the frame \
             could not be pushed. Bit 25 of the exit reason tells of it where \u{201c}prematurely busy shadow \
             stack\u{201d} is 1; the token's busy bit is left set.",
        );
    }
    if exit.reason == reason::TRIPLE_FAULT as u32 {
        explanation = explanation.say(fault_chain(cpu));
    }
    Some(match cpu.vmx.current() {
        Some(vmcs) => explanation.show(vmcs, fields_of(&exit.cause)),
        None => explanation,
    })
}

/// The fields that decided.
fn fields_of(cause: &Cause) -> &'static [Field] {
    match cause {
        Cause::Control(word, _) | Cause::ControlClear(word, _) => match word {
            Word::Pin => &[field::PIN_BASED_CONTROLS],
            Word::Primary => &[field::PRIMARY_PROCESSOR_BASED_CONTROLS],
            Word::Secondary => &[field::SECONDARY_PROCESSOR_BASED_CONTROLS],
            Word::Tertiary => &[field::TERTIARY_PROCESSOR_BASED_CONTROLS],
            _ => &[],
        },
        Cause::IoBitmap { .. } | Cause::IoWrap { .. } => &[field::IO_BITMAP_A, field::IO_BITMAP_B],
        Cause::MsrBitmap { .. } | Cause::MsrOutside { .. } => &[field::MSR_BITMAP],
        Cause::CrMask { cr: 0, .. } => &[field::CR0_GUEST_HOST_MASK, field::CR0_READ_SHADOW],
        Cause::CrMask { .. } => &[field::CR4_GUEST_HOST_MASK, field::CR4_READ_SHADOW],
        Cause::Cr3Targets { .. } => &[
            field::CR3_TARGET_COUNT,
            field::CR3_TARGET_VALUE0,
            field::CR3_TARGET_VALUE1,
        ],
        Cause::ExceptionBitmap { .. } => &[field::EXCEPTION_BITMAP],
        Cause::PageFault { .. } => &[
            field::EXCEPTION_BITMAP,
            field::PAGE_FAULT_ERROR_CODE_MASK,
            field::PAGE_FAULT_ERROR_CODE_MATCH,
        ],
        Cause::Ept { .. } => &[field::EPT_POINTER, field::GUEST_PHYSICAL_ADDRESS],
        Cause::GuestPaging { .. } => &[
            field::TERTIARY_PROCESSOR_BASED_CONTROLS,
            field::EPT_POINTER,
            field::GUEST_PHYSICAL_ADDRESS,
        ],
        Cause::SubPage { .. } => &[
            field::SUB_PAGE_PERMISSION_TABLE_POINTER,
            field::GUEST_PHYSICAL_ADDRESS,
        ],
        Cause::VmcsBitmap { write, .. } => match write {
            false => &[field::VMREAD_BITMAP],
            true => &[field::VMWRITE_BITMAP],
        },
        Cause::PageLogFull { .. } => &[field::GUEST_PML_INDEX, field::PML_ADDRESS],
        Cause::XssBitmap { .. } => &[field::XSS_EXITING_BITMAP],
        Cause::InstructionTimeout { .. } => &[
            field::SECONDARY_PROCESSOR_BASED_CONTROLS,
            field::INSTRUCTION_TIMEOUT_CONTROL,
        ],
        Cause::BusLock { .. } => &[field::SECONDARY_PROCESSOR_BASED_CONTROLS],
        Cause::Timer => &[field::GUEST_PREEMPTION_TIMER_VALUE],
        Cause::VmFunction { .. } => &[field::VM_FUNCTION_CONTROLS, field::EPTP_LIST_ADDRESS],
        Cause::ApicAccess { .. } => apic::ACCESS_FIELDS,
        Cause::ApicWrite { .. } => apic::WRITE_FIELDS,
        Cause::EoiExitBitmap { vector } => apic::eoi_field(*vector),
        Cause::TprThreshold { .. } => apic::THRESHOLD_FIELDS,
        Cause::Always | Cause::Signal | Cause::Forced | Cause::Reported => &[],
    }
}

fn cause_words(exit: &Exit) -> Vec<String> {
    let name = |word: Word, bits: u64| match word.control(bits.trailing_zeros() as u8) {
        Some(control) => control.to_string(),
        None => format!("bit {} of the {}", bits.trailing_zeros(), word.title()),
    };
    let words = match exit.cause {
        Cause::Always => "No control is asked: this exits in every guest.".to_string(),
        Cause::Control(word, bits) => format!("The control {} is 1.", name(word, bits)),
        Cause::ControlClear(word, bits) => {
            format!("The control {} is 0: without it every access exits.", name(word, bits))
        }
        Cause::IoBitmap { byte, bit, port } => format!(
            "Bit {bit} of the I/O bitmap's byte at {byte:#x}, which stands for port {port:#x}, is 1."
        ),
        Cause::IoWrap { port } => format!(
            "The access from port {port:#x} on wraps around 0xFFFF: with I/O bitmaps such an access always exits."
        ),
        Cause::MsrBitmap {
            byte,
            bit,
            msr,
            write,
        } => format!(
            "Bit {bit} of the MSR bitmap's byte at {byte:#x}, which stands for {} of MSR {msr:#x}, is 1.",
            if write { "writes" } else { "reads" }
        ),
        Cause::MsrOutside { msr } => format!(
            "MSR {msr:#x} is in neither range that the MSR bitmap covers (0 to 0x1FFF, 0xC0000000 to 0xC0001FFF): such an \
             access always exits."
        ),
        Cause::CrMask {
            cr,
            mask,
            shadow,
            value,
        } => format!(
            "The guest/host mask of CR{cr} is {mask:#x}, so the host owns these bits; the guest would set {value:#x}, which \
             differs from the read shadow {shadow:#x} in bits {:#x} of them.",
            (value ^ shadow) & mask
        ),
        Cause::Cr3Targets { value, count } => format!(
            "\u{201c}CR3-load exiting\u{201d} is 1 and {value:#x} is none of the {count} CR3-target values in use."
        ),
        Cause::ExceptionBitmap { vector } => {
            format!("Bit {vector} ({}) of the exception bitmap is 1.", vector_name(vector))
        }
        Cause::PageFault {
            error_code,
            mask,
            matching,
            bit,
        } => format!(
            "The page fault's error code {error_code:#x} masked with {mask:#x} {} the match value {matching:#x}, and bit 14 \
             of the exception bitmap is {}: these exit.",
            if error_code & mask == matching { "equals" } else { "differs from" },
            u8::from(bit)
        ),
        Cause::Ept {
            level,
            address,
            entry,
        } => return vec![ept_words(exit, level, address, entry)],
        Cause::GuestPaging { address, entry } => format!(
            "The control {} is 1, and so is bit 57 of {entry:#x}, the EPT entry at {address:#x} for guest-physical address \
             {:#x}; but a guest paging structure that leads there is on a page whose EPT entry has bit 58, paging-write \
             access, 0.",
            name(Word::Tertiary, tertiary::GUEST_PAGING_VERIFICATION),
            exit.guest_physical
        ),
        Cause::SubPage {
            level,
            address,
            entry,
        } => sub_page_words(exit, level, address, entry),
        Cause::XssBitmap { bits } => format!(
            "The guest asked for state components {bits:#x}, which IA32_XSS enables and the XSS-exiting bitmap has."
        ),
        Cause::ApicAccess { offset, refusal } => apic::access(offset, refusal),
        Cause::ApicWrite { offset, why } => apic::write(offset, why),
        Cause::EoiExitBitmap { vector } => apic::eoi(vector),
        Cause::TprThreshold {
            class,
            threshold,
            at_entry,
        } => apic::threshold(class, threshold, at_entry),
        Cause::VmcsBitmap {
            byte,
            bit,
            encoding,
            write,
        } => format!(
            "Bit {bit} of the {} bitmap's byte at {byte:#x}, which stands for the field with encoding {encoding:#x}, is 1.",
            if write { "VMWRITE" } else { "VMREAD" }
        ),
        Cause::PageLogFull { index } => format!(
            "\u{201c}enable PML\u{201d} is 1 and the PML index is {index:#x}, beyond the log's 512 entries: the log is full."
        ),
        Cause::InstructionTimeout { window } => format!(
            "The control {} is 1, and the guest came to no instruction boundary for {window} counts: the delivery of an \
             exception raised the next each time.",
            name(Word::Secondary, secondary::INSTRUCTION_TIMEOUT)
        ),
        Cause::BusLock { locked, why } => format!(
            "The control {} is 1, and the locked access to {} bytes at linear address {:#x} asserted a bus lock: {}.",
            name(Word::Secondary, secondary::BUS_LOCK_DETECTION),
            locked.bytes,
            locked.linear,
            match why {
                Why::Split => "it crosses from one line of 64 bytes into the next",
                Why::MemoryType => "the memory there is not write-back",
            }
        ),
        Cause::Timer => "The VMX-preemption timer counted down to 0.".to_string(),
        Cause::Signal => "The signal is not blocked in VMX non-root operation: it always exits.".to_string(),
        Cause::VmFunction {
            function,
            parameter,
        } => format!(
            "VM function {function} with parameter {parameter:#x} is not enabled by the VM-function controls, or its EPTP-list \
             entry is no EPT pointer that a VM entry would accept."
        ),
        Cause::Reported => return Vec::new(),
        Cause::Forced => "The debugger asked for this exit (vmx force).".to_string(),
    };
    vec![words]
}

/// EPT violations and misconfigurations.
fn ept_words(exit: &Exit, level: u8, address: u64, entry: u64) -> String {
    let table = match level {
        5 => "PML5",
        4 => "PML4",
        3 => "page-directory-pointer table",
        2 => "page directory",
        _ => "page table",
    };
    let place = format!("the entry of the EPT {table} at {address:#x} is {entry:#x}");
    if exit.reason == reason::EPT_MISCONFIGURATION as u32 {
        return format!(
            "For guest-physical address {:#x} {place}, which has a reserved bit, a reserved memory type or rights that \
             this processor does not know (readable must be 1 if writable is).",
            exit.guest_physical
        );
    }
    let rights = entry & (ept::READ | ept::WRITE | ept::EXECUTE);
    if rights == 0 {
        return format!(
            "Guest-physical address {:#x} is not mapped: {place}.",
            exit.guest_physical
        );
    }
    let wanted = exit.qualification & 7 & !rights;
    let names = [
        (ept::READ, "read"),
        (ept::WRITE, "write"),
        (ept::EXECUTE, "execute"),
    ];
    let denied: Vec<&str> = names
        .iter()
        .filter(|(bit, _)| wanted & bit != 0)
        .map(|(_, name)| *name)
        .collect();
    let denied = match denied.len() {
        0 => "execute from user-mode linear addresses".to_string(),
        _ => denied.join(" and "),
    };
    format!(
        "For guest-physical address {:#x} {place}, which does not allow to {denied}.",
        exit.guest_physical
    )
}

/// Writes to a page whose EPT PTE has bit 61.
fn sub_page_words(exit: &Exit, level: u8, address: u64, entry: u64) -> String {
    let (place, sub_page) = (exit.guest_physical, exit.guest_physical >> 7 & 31);
    let start = format!(
        "EPT does not let guest-physical address {place:#x} be written, bit 61 of its EPT PTE leaves that to the \
         sub-page permissions, and "
    );
    if exit.reason == reason::EPT_VIOLATION as u32 {
        return format!(
            "{start}bit {} of their vector {entry:#x} at {address:#x}, which stands for sub-page {sub_page}, is 0.",
            2 * sub_page
        );
    }
    let table = if level == 1 {
        "the vector".to_string()
    } else {
        format!("the SPPL{level} entry")
    };
    let wrong = match (level, entry & 1) {
        (1, _) => "of which an odd bit, all reserved, is 1",
        (_, 0) => "whose valid bit (0) is 0: an SPP miss",
        _ => "of which a reserved bit (11:1, or beyond the physical-address width) is 1",
    };
    format!("{start}{table} at {address:#x} is {entry:#x}, {wrong}.")
}
