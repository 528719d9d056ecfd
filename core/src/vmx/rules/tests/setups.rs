//! Variants of the baseline, and what cases are made of.

use crate::vmx::controls::{entry, exit, pin, primary, secondary, tertiary};
use crate::vmx::fields::{field::*, Field};
use crate::vmx::rules::baseline::Setup;

/// Breaks the rule with this id in a setup that breaks none.
pub type Case = (String, Box<dyn Fn(&mut Setup)>);

pub fn case(id: impl Into<String>, make: impl Fn(&mut Setup) + 'static) -> Case {
    (id.into(), Box::new(make))
}

/// A case that sets one field.
pub fn field_case(id: impl Into<String>, field: Field, value: u64) -> Case {
    case(id, move |s| s.set(field, value))
}

pub fn named(name: &str) -> Field {
    Field::by_name(name).unwrap_or_else(|| panic!("no field {name}"))
}

pub fn set_secondary(s: &mut Setup, bits: u64) {
    s.set_bits(
        PRIMARY_PROCESSOR_BASED_CONTROLS,
        primary::ACTIVATE_SECONDARY_CONTROLS,
    );
    s.set_bits(SECONDARY_PROCESSOR_BASED_CONTROLS, bits);
}

pub fn enable_ept(s: &mut Setup) {
    set_secondary(s, secondary::ENABLE_EPT);
    s.set(EPT_POINTER, 0x101e);
}

pub fn make_unrestricted(s: &mut Setup) {
    enable_ept(s);
    set_secondary(s, secondary::UNRESTRICTED_GUEST);
}

/// A 32-bit host and guest, with PAE paging.
pub fn make_legacy(s: &mut Setup) {
    s.long_mode = false;
    s.clear_bits(EXIT_CONTROLS, exit::HOST_ADDRESS_SPACE_SIZE);
    s.clear_bits(ENTRY_CONTROLS, entry::IA32E_MODE_GUEST);
}

pub fn post_interrupts(s: &mut Setup) {
    s.set_bits(
        PIN_BASED_CONTROLS,
        pin::PROCESS_POSTED_INTERRUPTS | pin::EXTERNAL_INTERRUPT_EXITING,
    );
    s.set_bits(PRIMARY_PROCESSOR_BASED_CONTROLS, primary::USE_TPR_SHADOW);
    set_secondary(s, secondary::VIRTUAL_INTERRUPT_DELIVERY);
    s.set_bits(EXIT_CONTROLS, exit::ACKNOWLEDGE_INTERRUPT_ON_EXIT);
}

pub fn set_tertiary(s: &mut Setup, bits: u64) {
    s.set_bits(
        PRIMARY_PROCESSOR_BASED_CONTROLS,
        primary::ACTIVATE_TERTIARY_CONTROLS,
    );
    s.set_bits(TERTIARY_PROCESSOR_BASED_CONTROLS, bits);
}

pub fn tertiary_with_ept(s: &mut Setup, bits: u64) {
    enable_ept(s);
    set_tertiary(s, bits);
}

pub fn virtualize_ipis(s: &mut Setup) {
    s.set_bits(
        PRIMARY_PROCESSOR_BASED_CONTROLS,
        primary::USE_TPR_SHADOW | primary::ACTIVATE_TERTIARY_CONTROLS,
    );
    s.set_bits(TERTIARY_PROCESSOR_BASED_CONTROLS, tertiary::IPI_VIRTUALIZATION);
}

pub fn inject(s: &mut Setup, info: u64) {
    s.set(ENTRY_INTERRUPTION_INFO, 1 << 31 | info);
    s.set_bits(GUEST_RFLAGS, 1 << 9);
}

pub const EXTERNAL_INTERRUPT: u64 = 0x20;
pub const NMI: u64 = 2 << 8 | 2;
pub const NON_CANONICAL: u64 = 1 << 60;
pub const BEYOND_WIDTH: u64 = 1 << 45;

pub fn make_virtual_8086(s: &mut Setup) {
    s.set_bits(GUEST_RFLAGS, 1 << 17);
    for register in ["cs", "ss", "ds", "es", "fs", "gs"] {
        let selector = s.vmcs.get(named(&format!("guest_{register}_selector")));
        s.set(named(&format!("guest_{register}_base")), selector << 4);
        s.set(named(&format!("guest_{register}_limit")), 0xffff);
        s.set(named(&format!("guest_{register}_access_rights")), 0xf3);
    }
}

/// LDTR with a table.
pub fn make_ldtr_usable(s: &mut Setup) {
    s.set(GUEST_LDTR_SELECTOR, 0x20);
    s.set(GUEST_LDTR_LIMIT, 0xfff);
    s.set(GUEST_LDTR_ACCESS_RIGHTS, 0x82);
}
