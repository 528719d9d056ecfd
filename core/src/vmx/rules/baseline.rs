//! A VMCS that passes every check, for tests that break one thing at a time.

use std::collections::HashMap;

use super::{Context, Environment};
use crate::vmx::capability::{msr, Capabilities, VmxMsrs};
use crate::vmx::controls::{entry, exit, Word};
use crate::vmx::fields::{field::*, Field};
use crate::vmx::vmcs::Vmcs;

/// The revision identifier of the processor of these tests.
pub const REVISION: u64 = 0x1234;

/// Capability MSRs that allow everything that has a name.
pub fn everything() -> VmxMsrs {
    let mut msrs = VmxMsrs::default();
    let mut set = |address, value| assert!(msrs.set(address, value));
    set(msr::BASIC, REVISION | 0x1000 << 32 | 6 << 50 | 3 << 54);
    for (word, address) in [
        (Word::Pin, msr::TRUE_PINBASED_CTLS),
        (Word::Primary, msr::TRUE_PROCBASED_CTLS),
        (Word::Secondary, msr::PROCBASED_CTLS2),
        (Word::Exit, msr::TRUE_EXIT_CTLS),
        (Word::Entry, msr::TRUE_ENTRY_CTLS),
    ] {
        set(
            address,
            word.default1() & !word.defined() | (word.default1() | word.defined()) << 32,
        );
    }
    set(msr::PROCBASED_CTLS3, Word::Tertiary.defined());
    set(msr::EXIT_CTLS2, Word::SecondaryExit.defined());
    set(msr::VMFUNC, Word::VmFunction.defined());
    set(msr::MISC, 0x7004_c1e0);
    set(msr::EPT_VPID_CAP, 0x0000_0f01_06f3_4141);
    set(msr::CR0_FIXED0, 0x8000_0021);
    set(msr::CR0_FIXED1, 0xffff_ffff);
    set(msr::CR4_FIXED0, 0x2000);
    set(msr::CR4_FIXED1, 0x01f7_7fff);
    msrs
}

/// A VM entry about to happen: a 64-bit host and a 64-bit guest, on a processor with 40-bit physical
/// addresses.
pub struct Setup {
    pub vmcs: Vmcs,
    pub msrs: VmxMsrs,
    /// Physical memory by address, a multiple of 8; what is not here is 0.
    pub memory: HashMap<u64, u64>,
    pub long_mode: bool,
    pub in_smm: bool,
    pub has_sgx: bool,
    pub has_rtm: bool,
}

impl Setup {
    pub fn set(&mut self, field: Field, value: u64) {
        self.vmcs.set(field, value);
    }

    pub fn set_bits(&mut self, field: Field, bits: u64) {
        self.vmcs.set(field, self.vmcs.get(field) | bits);
    }

    pub fn clear_bits(&mut self, field: Field, bits: u64) {
        self.vmcs.set(field, self.vmcs.get(field) & !bits);
    }

    /// Calls `with` on the context of this entry.
    pub fn judge<T>(&self, with: impl FnOnce(&Context) -> T) -> T {
        let read =
            |address: u64| (address >> 40 == 0).then(|| self.memory.get(&address).copied().unwrap_or(0));
        let environment = Environment {
            long_mode: self.long_mode,
            in_smm: self.in_smm,
            physical_address_width: 40,
            linear_address_width: 48,
            efer_reserved: !0xd01,
            debugctl_reserved: !3,
            perf_global_ctrl_reserved: !0x7_0000_000f,
            has_sgx: self.has_sgx,
            has_rtm: self.has_rtm,
            read_physical: &read,
        };
        with(&Context {
            vmcs: &self.vmcs,
            capabilities: &Capabilities::new(self.msrs),
            environment: &environment,
        })
    }
}

/// The setup that passes every check.
pub fn baseline() -> Setup {
    let mut vmcs = Vmcs::new(0x5000);
    let controls = |word: Word| word.default1() & !word.defined();
    for (field, value) in [
        (PIN_BASED_CONTROLS, controls(Word::Pin)),
        (PRIMARY_PROCESSOR_BASED_CONTROLS, controls(Word::Primary)),
        (
            EXIT_CONTROLS,
            controls(Word::Exit) | exit::HOST_ADDRESS_SPACE_SIZE,
        ),
        (ENTRY_CONTROLS, controls(Word::Entry) | entry::IA32E_MODE_GUEST),
        (HOST_CR0, 0x8001_0031),
        (HOST_CR3, 0x1000),
        (HOST_CR4, 0x2020),
        (HOST_CS_SELECTOR, 0x08),
        (HOST_SS_SELECTOR, 0x10),
        (HOST_TR_SELECTOR, 0x18),
        (HOST_RIP, 0x10_0000),
        (HOST_RSP, 0x20_0000),
        (GUEST_CR0, 0x8001_0031),
        (GUEST_CR3, 0x1000),
        (GUEST_CR4, 0x2020),
        (GUEST_DR7, 0x400),
        (GUEST_CS_SELECTOR, 0x08),
        (GUEST_CS_LIMIT, 0xffff_ffff),
        (GUEST_CS_ACCESS_RIGHTS, 0xa09b),
        (GUEST_SS_SELECTOR, 0x10),
        (GUEST_SS_LIMIT, 0xffff_ffff),
        (GUEST_SS_ACCESS_RIGHTS, 0xc093),
        (GUEST_DS_LIMIT, 0xffff_ffff),
        (GUEST_DS_ACCESS_RIGHTS, 0xc093),
        (GUEST_ES_LIMIT, 0xffff_ffff),
        (GUEST_ES_ACCESS_RIGHTS, 0xc093),
        (GUEST_FS_LIMIT, 0xffff_ffff),
        (GUEST_FS_ACCESS_RIGHTS, 0xc093),
        (GUEST_GS_LIMIT, 0xffff_ffff),
        (GUEST_GS_ACCESS_RIGHTS, 0xc093),
        (GUEST_LDTR_ACCESS_RIGHTS, 0x1_0000),
        (GUEST_TR_SELECTOR, 0x18),
        (GUEST_TR_LIMIT, 0x67),
        (GUEST_TR_ACCESS_RIGHTS, 0x8b),
        (GUEST_GDTR_LIMIT, 0xffff),
        (GUEST_IDTR_LIMIT, 0xffff),
        (GUEST_RIP, 0x10_0000),
        (GUEST_RSP, 0x20_0000),
        (GUEST_RFLAGS, 2),
        (VMCS_LINK_POINTER, u64::MAX),
    ] {
        vmcs.set(field, value);
    }
    Setup {
        vmcs,
        msrs: everything(),
        memory: HashMap::new(),
        long_mode: true,
        in_smm: false,
        has_sgx: false,
        has_rtm: false,
    }
}
