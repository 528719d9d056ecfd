//! Entries that come after good ones, whose checks look only at what may have changed.

use super::*;
use crate::vmx::entry::judge;
use crate::vmx::rules;

const OTHER: u64 = 0x1_3000;
const LINKED: u64 = 0x1_4000;
const BAD_CR3: u64 = 1 << 60;

/// After three entries that passed.
fn warm() -> Bench {
    let mut bench = Bench::with_guest(CPUID);
    assert_eq!(bench.launch(), reason::CPUID as u64);
    for _ in 0..2 {
        assert_eq!(bench.resume(), reason::CPUID as u64);
    }
    bench
}

fn vmwrite(bench: &mut Bench, field: Field, value: u64) {
    bench.cpu.regs[RAX] = field.encoding() as u64;
    bench.cpu.regs[RBX] = value;
    bench.execute(VMWRITE);
}

/// The id of the rule that VMRESUME breaks; None: it does not fail with a VM-instruction error.
fn broken(bench: &mut Bench) -> Option<&'static str> {
    bench.execute(VMRESUME);
    if bench.status() == 0 {
        return None;
    }
    match bench.fail_reason() {
        FailReason::Rule(rule) => Some(rule.id),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_field_that_is_written_is_checked_and_one_that_is_mended_too() {
    let mut bench = warm();
    let good = bench.get(field::HOST_CR3);
    vmwrite(&mut bench, field::HOST_CR3, BAD_CR3);
    assert_eq!(broken(&mut bench), Some("host.cr3.width"));
    assert_eq!(broken(&mut bench), Some("host.cr3.width"));
    vmwrite(&mut bench, field::HOST_CR3, good);
    assert_eq!(bench.resume(), reason::CPUID as u64);
    vmwrite(&mut bench, field::GUEST_RIP, 1 << 60);
    bench.execute(VMRESUME);
    assert_eq!(bench.get(field::EXIT_REASON), 0x8000_0021);
}

#[test]
fn the_modes_of_the_processor_are_checked() {
    let mut bench = warm();
    let vmcs = bench.cpu.vmx.current().unwrap();
    assert!(rules::decided(vmcs, vmcs.modes(true, false)).is_some());
    assert!(rules::decided(vmcs, vmcs.modes(false, false)).is_none());
    bench.cpu.efer = 0;
    let judged = judge(&bench.cpu, &bench.bus, |context| {
        rules::decide(context).map_err(|rule| rule.id)
    });
    assert_eq!(judged.unwrap().err(), Some("host.address_space.legacy_now"));
}

#[test]
fn each_vmcs_is_checked_for_itself() {
    let mut bench = warm();
    let revision = bench.cpu.profile.capabilities().revision() as u64;
    bench.store(OTHER, revision);
    bench.pointer(VMCLEAR, OTHER);
    bench.pointer(VMPTRLD, OTHER);
    for field in Field::all() {
        let value = bench.cpu.vmx.active[0].get(field);
        bench.set(field, value);
    }
    bench.set(field::GUEST_RIP, GUEST);
    assert_eq!(bench.launch(), reason::CPUID as u64);
    vmwrite(&mut bench, field::HOST_CR3, BAD_CR3);
    assert_eq!(broken(&mut bench), Some("host.cr3.width"));
    bench.pointer(VMPTRLD, VMCS);
    assert_eq!(bench.resume(), reason::CPUID as u64);
    bench.pointer(VMPTRLD, OTHER);
    assert_eq!(broken(&mut bench), Some("host.cr3.width"));
    // From memory it comes back without what was known of it.
    bench.pointer(VMCLEAR, VMCS);
    bench.pointer(VMPTRLD, VMCS);
    vmwrite(&mut bench, field::HOST_CR3, BAD_CR3);
    bench.execute(VMLAUNCH);
    assert!(matches!(bench.fail_reason(), FailReason::Rule(rule) if rule.id == "host.cr3.width"));
}

#[test]
fn memory_that_a_rule_reads_is_read_at_each_entry() {
    let mut bench = warm();
    let revision = bench.cpu.profile.capabilities().revision() as u64;
    bench.store(LINKED, revision);
    vmwrite(&mut bench, field::VMCS_LINK_POINTER, LINKED);
    for _ in 0..2 {
        assert_eq!(bench.resume(), reason::CPUID as u64);
    }
    bench.store(LINKED, revision + 1);
    bench.execute(VMRESUME);
    assert_eq!(
        (
            bench.get(field::EXIT_REASON),
            bench.get(field::EXIT_QUALIFICATION)
        ),
        (0x8000_0021, 4)
    );
}

#[test]
fn a_region_that_has_become_a_shadow_vmcs_is_not_entered() {
    let mut bench = warm();
    let revision = bench.cpu.profile.capabilities().revision() as u64;
    bench.store(VMCS, revision | 1 << 31);
    bench.execute(VMRESUME);
    assert!(matches!(
        bench.fail_reason(),
        FailReason::ShadowVmcs { address: VMCS }
    ));
}
