//! The exits of APIC virtualization: TPR below threshold, APIC access, virtualized EOI and APIC write.

use crate::vmx::apic::emulation::Unfinished;
use crate::vmx::apic::interrupts::EOI_EXIT_BITMAP;
use crate::vmx::apic::page::Refusal;
use crate::vmx::apic::registers;
use crate::vmx::fields::{field, Field};

/// The fields that decided over an access to the APIC-access page.
pub const ACCESS_FIELDS: &[Field] = &[
    field::APIC_ACCESS_ADDRESS,
    field::PRIMARY_PROCESSOR_BASED_CONTROLS,
    field::SECONDARY_PROCESSOR_BASED_CONTROLS,
];
pub const WRITE_FIELDS: &[Field] = &[
    field::VIRTUAL_APIC_ADDRESS,
    field::SECONDARY_PROCESSOR_BASED_CONTROLS,
];
pub const THRESHOLD_FIELDS: &[Field] = &[field::TPR_THRESHOLD, field::VIRTUAL_APIC_ADDRESS];

/// The part of the EOI-exit bitmap that holds the bit of `vector`.
pub fn eoi_field(vector: u8) -> &'static [Field] {
    EOI_EXIT_BITMAP
        .chunks(1)
        .nth(usize::from(vector >> 6))
        .unwrap_or(&[])
}

/// `offset 0x300 (interrupt command, low half)`.
fn place(offset: u16) -> String {
    match registers::name(offset) {
        Some(name) => format!("offset {offset:#x} ({name})"),
        None => format!("offset {offset:#x} (no register that can be virtualized)"),
    }
}

/// Why an access to the APIC-access page was not virtualized.
pub fn access(offset: u16, refusal: Refusal) -> String {
    let why = match refusal {
        Refusal::NoTprShadow => {
            "\u{201c}use TPR shadow\u{201d} (bit 21 of the primary controls) is 0, so no access is virtualized".to_string()
        }
        Refusal::Fetch => "instruction fetches are never virtualized".to_string(),
        Refusal::Wide { bytes } => format!("it was of {bytes} bytes; at most 4 are virtualized"),
        Refusal::Misplaced { bytes } => format!(
            "its {bytes} bytes do not lie within the first 4 of 16, where a register is"
        ),
        Refusal::SecondAccess => {
            "the same instruction or event delivery had made another virtualized write to the page before".to_string()
        }
        Refusal::Register { write: false } => {
            "reads there are not virtualized under these controls: offset 0x80 always is, 0xb0 and 0x300 with \
             \u{201c}virtual-interrupt delivery\u{201d} (bit 9 of the secondary controls), other registers with \
             \u{201c}APIC-register virtualization\u{201d} (bit 8)"
                .to_string()
        }
        Refusal::Register { write: true } => {
            "writes there are not virtualized under these controls: offset 0x80 always is, 0xb0 and 0x300 with \
             \u{201c}virtual-interrupt delivery\u{201d} (bit 9 of the secondary controls), other registers that can be written \
             with \u{201c}APIC-register virtualization\u{201d} (bit 8)"
                .to_string()
        }
        Refusal::GuestPhysical => {
            "it was an access to a guest paging structure, by a guest-physical address, which is never virtualized"
                .to_string()
        }
    };
    format!(
        "\u{201c}virtualize APIC accesses\u{201d} (bit 0 of the secondary controls) is 1 and the access went to {} of the \
         APIC-access page; {why}.",
        place(offset)
    )
}

/// Why a write to the virtual-APIC page needs the hypervisor.
pub fn write(offset: u16, why: Unfinished) -> String {
    let why = match why {
        Unfinished::Register => "the processor does not carry out what a write to this register means".to_string(),
        Unfinished::NoInterruptDelivery => {
            "\u{201c}virtual-interrupt delivery\u{201d} (bit 9 of the secondary controls) is 0".to_string()
        }
        Unfinished::Command(value) => format!(
            "the interrupt command {value:#x} is none that the processor carries out: with \u{201c}virtual-interrupt \
             delivery\u{201d} (bit 9 of the secondary controls) a fixed edge-triggered interrupt with a vector above 15 to \
             the sender itself, with \u{201c}IPI virtualization\u{201d} (bit 4 of the tertiary controls) one to a physical \
             destination"
        ),
        Unfinished::Vector(vector) => format!("the vector {vector:#x} is below 16"),
        Unfinished::BeyondTable { id, last } => format!(
            "the virtual APIC ID {id:#x} is above last_pid_pointer_index, {last:#x}"
        ),
        Unfinished::PidPointer { id, entry } => format!(
            "entry {id:#x} of the PID-pointer table is {entry:#x}, which is no valid pointer: bit 0 must be 1, bits 5:1 and \
             those beyond the physical-address width 0"
        ),
    };
    format!(
        "The value was written to {} of the virtual-APIC page, and {why}.",
        place(offset)
    )
}

pub fn eoi(vector: u8) -> String {
    format!(
        "The guest's end of interrupt was for vector {vector:#x}, whose bit in the EOI-exit bitmap (bit {} of \
         eoi_exit_bitmap{}) is 1.",
        vector & 63,
        vector >> 6
    )
}

pub fn threshold(class: u8, threshold: u8, at_entry: bool) -> String {
    format!(
        "The priority class of the virtual TPR (bits 7:4 at offset 0x80 of the virtual-APIC page) is {class:#x}, below the TPR \
         threshold {threshold:#x}{}.",
        if at_entry {
            ", at the VM entry: with \u{201c}virtualize APIC accesses\u{201d} the guest exits before its first instruction"
        } else {
            " after the guest wrote it"
        }
    )
}
