//! The tests that hold the table of rules to a case for each rule.

mod control_cases;
mod guest_cases;
mod host_cases;
mod setups;

use super::baseline::{baseline, Setup};
use super::*;
use crate::vmx::fields::field::*;
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
        let modes = setup.judge(|context| {
            assert!(first_broken(context).is_none());
            context.modes()
        });
        setup.vmcs.accept_changes(modes);
        make(&mut setup);
        let implied = IMPLIED.iter().any(|(implied, _)| *implied == id);
        let found = setup.judge(|context| first_broken(context).map(|rule| rule.id));
        assert!(
            found == Some(id.as_str()) || implied && found.is_some(),
            "{id}: {found:?}"
        );
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
            first_broken(context).map(|rule| rule.outcome),
            Some(Outcome::FailValid(7))
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
