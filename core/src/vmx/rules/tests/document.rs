//! docs/vm-entry-rules.md, which is made of the tables. `make docs` writes it; the test says whether it is current.

use std::fmt::Write;
use std::path::Path;

use super::*;
use crate::vmx::errors::ABORTS;

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/vm-entry-rules.md");

const INTRODUCTION: &str = "# The rules of VM entry

<!-- Made by `make docs` of the tables in core/src/vmx/rules. -->

What the processor checks at VM entry, in its order. The first rule that is broken decides what comes of the entry;
`vmx check`, `vmx why` and `gdbvmx check` tell all that are broken. Sections are of volume 3 of the SDM. The
numbers in a rule are those of the processor and the fields of an example that breaks it.

";

const MSR_LISTS: &str = "
## MSR lists

After these rules VM entry loads the MSRs of its list, and fails with exit reason 0x80000022 and the number of the
entry, counted from 1, as exit qualification, if one cannot be loaded (27.4). VM exit stores and loads MSRs in the
same way, and ends in a VMX abort if one fails (28.4 and 28.6). A load also fails where WRMSR of the value would
cause #GP, a store where RDMSR would, and the entry after the longest list that IA32_VMX_MISC recommends fails, as
that is left to the processor (A.6).

| rule | lists | what must hold |
|---|---|---|
";

const VMX_ABORTS: &str = "
## VMX aborts

A VM exit that cannot be completed writes its cause to offset 4 of the VMCS region and shuts the processor down
(28.7).

| cause | |
|---|---|
";

/// What the words of a rule say after what was found.
fn must_hold(rule: &Rule, cases: &[Case]) -> String {
    let (_, make) = cases.iter().find(|(id, _)| id == rule.id).unwrap();
    let mut setup = baseline();
    make(&mut setup);
    let words = setup.judge(|context| rule.words(context));
    words.split_once("; ").unwrap().1.replace('|', "\\|")
}

fn names(fields: &[Field]) -> String {
    let names: Vec<String> = fields.iter().map(|field| format!("`{}`", field.name())).collect();
    names.join(", ")
}

fn document() -> String {
    let cases = cases();
    let mut text = INTRODUCTION.to_string();
    let mut section = "";
    for rule in all() {
        if rule.section != section {
            section = rule.section;
            let outcome = match rule.outcome {
                Outcome::FailValid(number) => format!("VMfailValid {number}"),
                Outcome::EntryFailure(_) => "exit reason 0x80000021".to_string(),
            };
            let _ = write!(
                text,
                "\n## {section}\n\nA broken rule ends in {outcome}.\n\n| rule | fields | what must hold |\n|---|---|---|\n"
            );
        }
        let qualification = match rule.outcome {
            Outcome::EntryFailure(number @ 1..) => format!(" (exit qualification {number})"),
            _ => String::new(),
        };
        let others: Vec<Field> = rule
            .when
            .fields
            .iter()
            .copied()
            .filter(|field| !rule.fields.contains(field))
            .collect();
        let when = match others.len() {
            0 => String::new(),
            _ => format!("; depends on {}", names(&others)),
        };
        let _ = writeln!(
            text,
            "| `{}` | {}{when} | {}{qualification} |",
            rule.id,
            names(rule.fields),
            must_hold(rule, &cases)
        );
    }
    text += MSR_LISTS;
    for rule in MSR_LIST {
        let lists: Vec<&str> = rule
            .lists
            .iter()
            .map(|list| match list {
                MsrListUse::EntryLoad => "VM-entry load",
                MsrListUse::ExitStore => "VM-exit store",
                MsrListUse::ExitLoad => "VM-exit load",
            })
            .collect();
        let _ = writeln!(text, "| `{}` | {} | {} |", rule.id, lists.join(", "), rule.words);
    }
    text += VMX_ABORTS;
    for row in ABORTS {
        let _ = writeln!(text, "| {} | {} |", row.number, row.text);
    }
    text
}

#[test]
fn the_document_is_current() {
    let text = document();
    if std::env::var_os("GDBVMX_WRITE_DOCS").is_some() {
        std::fs::write(Path::new(FILE), &text).unwrap();
    }
    let written = std::fs::read_to_string(FILE).unwrap_or_default();
    assert!(
        written == text,
        "docs/vm-entry-rules.md is not what the tables say: make docs"
    );
}
