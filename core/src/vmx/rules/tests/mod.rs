//! The tests that hold the table of rules to a case for each rule.

mod control_cases;
mod document;
mod guest_cases;
mod host_cases;
mod setups;

use super::baseline::{baseline, Setup, REVISION};
use super::*;
use crate::vmx::controls::{secondary, tertiary};
use crate::vmx::fields::field::*;
use crate::vmx::vmcs::UNCHECKED;
use control_cases::*;
use guest_cases::*;
use host_cases::*;
use setups::*;

/// Rules that the SDM asks for although others already forbid all that they do: what else their case breaks.
const IMPLIED: &[(&str, &[&str])] = &[("host.address_space.guest", &["host.address_space.legacy_now"])];

fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    execution_cases(&mut cases);
    execution_address_cases(&mut cases);
    exit_and_entry_cases(&mut cases);
    host_cases(&mut cases);
    guest_register_cases(&mut cases);
    segment_cases(&mut cases);
    non_register_cases(&mut cases);
    cases
}

fn broken(setup: &Setup) -> Vec<&'static str> {
    setup.judge(|context| check_all(context).iter().map(|finding| finding.rule.id).collect())
}

#[test]
fn the_baseline_and_its_variants_break_nothing() {
    let variants: [fn(&mut Setup); 7] = [
        |_| {},
        make_legacy,
        make_unrestricted,
        make_ldtr_usable,
        post_interrupts,
        virtualize_ipis,
        |s| {
            make_legacy(s);
            make_virtual_8086(s);
        },
    ];
    for (i, variant) in variants.into_iter().enumerate() {
        let mut setup = baseline();
        variant(&mut setup);
        assert_eq!(broken(&setup), Vec::<&str>::new(), "variant {i}");
    }
}

#[test]
fn every_rule_has_a_case_that_breaks_only_it() {
    let cases = cases();
    for rule in all() {
        assert!(
            cases.iter().any(|(id, _)| id == rule.id),
            "no case for {}",
            rule.id
        );
    }
    for (id, make) in &cases {
        let mut setup = baseline();
        make(&mut setup);
        let implied = IMPLIED
            .iter()
            .find(|(implied, _)| implied == id)
            .map_or(&[][..], |(_, others)| others);
        let mut found = broken(&setup);
        found.retain(|found| !implied.contains(found));
        assert_eq!(found, [id.as_str()]);
    }
}

/// What takes more than two bits to satisfy the rule, or not only fields.
fn just_satisfied_cases() -> Vec<Case> {
    let link = |id: &str, address: u64| {
        case(id, move |s| {
            s.memory.insert(address, REVISION);
            s.set(VMCS_LINK_POINTER, address);
        })
    };
    let mut cases = just_satisfied_controls();
    cases.extend([
        case("host.address_space.legacy_now", make_legacy),
        case("guest.pat.types", |s| {
            s.set_bits(ENTRY_CONTROLS, entry::LOAD_IA32_PAT);
            s.set(GUEST_IA32_PAT, 0x0706_0504_0100_0706);
        }),
        field_case("guest.activity_state.value", GUEST_ACTIVITY_STATE, 1),
        // One past the lower half.
        field_case("guest.rip.canonical", GUEST_RIP, 1 << 47),
        case("guest.ssp.canonical", |s| {
            s.set_bits(ENTRY_CONTROLS, entry::LOAD_CET_STATE);
            s.set(GUEST_SSP, 1 << 47);
        }),
        link("guest.vmcs_link.aligned", 0x9000),
        link("guest.vmcs_link.width", 1 << 39),
        link("guest.vmcs_link.revision", 0x9000),
        link("guest.vmcs_link.current", 0x6000),
    ]);
    for register in ["cs", "ss", "ds", "es", "fs", "gs"] {
        cases.push(case(format!("guest.{register}.v86_base"), |s| {
            make_legacy(s);
            make_virtual_8086(s);
        }));
        // The largest limit that is in bytes.
        cases.push(case(format!("guest.{register}.granularity"), move |s| {
            s.clear_bits(named(&format!("guest_{register}_access_rights")), 1 << 15);
            s.set(named(&format!("guest_{register}_limit")), 0xf_ffff);
        }));
    }
    cases
}

fn just_satisfied_controls() -> Vec<Case> {
    let with_ept = |id: &str, bits: u64| {
        case(id, move |s| {
            enable_ept(s);
            set_secondary(s, bits);
        })
    };
    vec![
        with_ept("control.pml.ept", secondary::ENABLE_PML),
        with_ept("control.unrestricted_guest.ept", secondary::UNRESTRICTED_GUEST),
        with_ept(
            "control.mode_based_execute.ept",
            secondary::MODE_BASED_EXECUTE_CONTROL_FOR_EPT,
        ),
        with_ept(
            "control.sub_page_permissions.ept",
            secondary::SUB_PAGE_WRITE_PERMISSIONS_FOR_EPT,
        ),
        case("control.hlat.ept", |s| {
            tertiary_with_ept(s, tertiary::ENABLE_HLAT)
        }),
        case("control.paging_write.ept", |s| {
            tertiary_with_ept(s, tertiary::EPT_PAGING_WRITE_CONTROL)
        }),
        case("control.guest_paging_verification.ept", |s| {
            tertiary_with_ept(s, tertiary::GUEST_PAGING_VERIFICATION)
        }),
        case("control.eptp_switching.ept", |s| {
            enable_ept(s);
            set_secondary(s, secondary::ENABLE_VM_FUNCTIONS);
            s.set(VM_FUNCTION_CONTROLS, 1);
        }),
        case("control.pt_guest_physical.ept", |s| {
            enable_ept(s);
            set_secondary(s, secondary::PT_USES_GUEST_PHYSICAL_ADDRESSES);
            s.set_bits(ENTRY_CONTROLS, entry::LOAD_IA32_RTIT_CTL);
            s.set_bits(EXIT_CONTROLS, exit::CLEAR_IA32_RTIT_CTL);
        }),
        // The bits that must be 1, and no others.
        case("control.pin.reserved", |_| {}),
        case("control.primary.reserved", |_| {}),
    ]
}

/// Whether flipping one or two bits, of fields that the rule looks at or of memory, gives a setup in which the rule still
/// speaks and nothing is broken.
fn few_bits_satisfy(rule: &Rule, make: &dyn Fn(&mut Setup)) -> bool {
    /// A bit of a field, or of memory.
    #[derive(Clone, Copy)]
    enum Bit {
        Of(Field, u32),
        At(u64, u32),
    }
    let made = || {
        let mut setup = baseline();
        make(&mut setup);
        setup
    };
    let with = |bits: &[Bit]| {
        let mut setup = made();
        for bit in bits {
            match *bit {
                Bit::Of(field, bit) => setup.set(field, setup.vmcs.get(field) ^ 1 << bit),
                Bit::At(address, bit) => *setup.memory.entry(address).or_default() ^= 1 << bit,
            }
        }
        setup.judge(|context| rule.applies(context) && !rule.is_broken(context)) && broken(&setup).is_empty()
    };
    let of_fields = rule
        .fields
        .iter()
        .flat_map(|&field| (0..field.info().width().mask().count_ones()).map(move |bit| Bit::Of(field, bit)));
    let addresses: Vec<u64> = made().memory.keys().copied().collect();
    let of_memory = addresses
        .iter()
        .flat_map(|&address| (0..64).map(move |bit| Bit::At(address, bit)));
    let bits: Vec<Bit> = of_fields.chain(of_memory).collect();
    bits.iter().any(|&bit| with(&[bit]))
        || bits
            .iter()
            .enumerate()
            .any(|(at, &first)| bits[at + 1..].iter().any(|&second| with(&[first, second])))
}

#[test]
fn every_rule_has_a_case_that_just_satisfies_it() {
    let by_hand = just_satisfied_cases();
    for (id, make) in &by_hand {
        let mut setup = baseline();
        make(&mut setup);
        assert_eq!(broken(&setup), Vec::<&str>::new(), "{id}");
        assert!(setup.judge(|context| by_id(id).unwrap().applies(context)), "{id}");
    }
    let cases = cases();
    let missing: Vec<&str> = all()
        .filter(|rule| {
            let of_rule = |id: &str| id == rule.id;
            !by_hand.iter().any(|(id, _)| of_rule(id))
                && !cases
                    .iter()
                    .any(|(id, make)| of_rule(id) && few_bits_satisfy(rule, make))
        })
        .map(|rule| rule.id)
        .collect();
    assert_eq!(missing, Vec::<&str>::new());
}

#[test]
fn the_words_name_a_field_and_its_value() {
    for (id, make) in cases() {
        let mut setup = baseline();
        make(&mut setup);
        let rule = by_id(&id).unwrap();
        let words = setup.judge(|context| rule.words(context));
        assert!(
            rule.fields.iter().any(|field| words.contains(field.name())),
            "{id}: {words}"
        );
        assert!(
            words.contains("0x") && words.contains(';') && !words.contains("  "),
            "{id}: {words}"
        );
    }
}

#[test]
fn ids_are_unique_and_say_their_area() {
    let mut ids: Vec<&str> = all().map(|rule| rule.id).collect();
    for rule in all() {
        let area = match rule.outcome {
            Outcome::FailValid(7) => "control.",
            Outcome::FailValid(_) => "host.",
            Outcome::EntryFailure(_) => "guest.",
        };
        assert!(rule.id.starts_with(area), "{}", rule.id);
    }
    ids.sort_unstable();
    let count = ids.len();
    ids.dedup();
    assert_eq!(ids.len(), count);
}

/// Skipping unchanged blocks stands on the fields that rules say they read.
#[test]
fn rules_read_no_other_fields_than_they_say() {
    for (id, make) in cases() {
        let mut setup = baseline();
        make(&mut setup);
        setup.judge(|context| {
            for rule in all() {
                context.vmcs.take_reads();
                rule.is_broken(context);
                for field in context.vmcs.take_reads().iter() {
                    assert!(
                        rule.reads().contains(field),
                        "{} reads {field:?} (case {id})",
                        rule.id
                    );
                }
            }
        });
    }
}

/// Whatever breaks a rule after an entry that passed is found although unchanged blocks are passed over.
#[test]
fn a_change_after_a_good_entry_is_found() {
    for (id, make) in cases() {
        let mut setup = baseline();
        let passed = setup.judge(decide).expect("a good entry");
        setup.vmcs.accept_changes(passed);
        make(&mut setup);
        let implied = IMPLIED.iter().any(|(implied, _)| *implied == id);
        let found = setup.judge(decide).map_err(|rule| rule.id).err();
        assert!(
            found == Some(id.as_str()) || implied && found.is_some(),
            "{id}: {found:?}"
        );
    }
}

/// The same where memory alone changes, which no field tells.
#[test]
fn a_change_of_memory_after_a_good_entry_is_found() {
    let mut setup = baseline();
    setup.set(VMCS_LINK_POINTER, 0x9000);
    setup.memory.insert(0x9000, REVISION);
    for _ in 0..2 {
        let passed = setup.judge(decide).expect("a good entry");
        setup.vmcs.accept_changes(passed);
    }
    setup.memory.insert(0x9000, REVISION + 1);
    let found = setup.judge(decide).map_err(|rule| rule.id);
    assert_eq!(found.err(), Some("guest.vmcs_link.revision"));
}

/// What `Vmcs` does not count as a change no rule may look at.
#[test]
fn no_rule_looks_at_the_bits_that_are_not_checked() {
    let judged = |setup: &Setup| -> Vec<bool> {
        setup.judge(|context| all().map(|rule| rule.is_broken(context)).collect())
    };
    for (id, make) in cases() {
        let mut setup = baseline();
        make(&mut setup);
        let before = judged(&setup);
        for (field, bits) in UNCHECKED {
            for bit in (0..64).map(|at| 1 << at).filter(|bit| bits & bit != 0) {
                let value = setup.vmcs.get(field);
                setup.set(field, value ^ bit);
                assert_eq!(judged(&setup), before, "{id}: {field:?}, bit {bit:#x}");
                setup.set(field, value);
            }
        }
    }
}

#[test]
fn the_first_rule_in_the_processor_s_order_decides() {
    let mut setup = baseline();
    setup.set(GUEST_ACTIVITY_STATE, 9);
    setup.set(HOST_TR_SELECTOR, 0);
    setup.set(CR3_TARGET_COUNT, 9);
    setup.judge(|context| {
        let findings = check_all(context);
        let ids: Vec<&str> = findings.iter().map(|finding| finding.rule.id).collect();
        assert_eq!(
            ids,
            [
                "control.cr3_target_count",
                "host.tr.null",
                "guest.activity_state.value"
            ]
        );
        assert_eq!(
            findings
                .iter()
                .map(|finding| finding.deciding)
                .collect::<Vec<_>>(),
            [true, false, false]
        );
        assert_eq!(
            decide(context).map_err(|rule| rule.outcome),
            Err(Outcome::FailValid(7))
        );
    });
}

#[test]
fn outcomes() {
    for (id, outcome) in [
        ("control.pin.reserved", Outcome::FailValid(7)),
        ("host.cs.rpl", Outcome::FailValid(8)),
        ("host.address_space.rip_64", Outcome::FailValid(8)),
        ("guest.tr.type", Outcome::EntryFailure(0)),
        ("guest.pdpte0.reserved", Outcome::EntryFailure(2)),
        ("guest.cr3.pdptes", Outcome::EntryFailure(2)),
        ("guest.interruptibility.sti_nmi", Outcome::EntryFailure(3)),
        ("guest.vmcs_link.revision", Outcome::EntryFailure(4)),
    ] {
        assert_eq!(by_id(id).map(|rule| rule.outcome), Some(outcome), "{id}");
    }
}
