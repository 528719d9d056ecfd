//! docs/vmx-controls.md, which is made of the tables. `make docs` writes it; the test says whether it is current.

use std::fmt::Write;

use crate::vmx::controls::{Control, Word};
use crate::vmx::honoured::{self, LEFT_OUT};

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/vmx-controls.md");

const INTRODUCTION: &str = "# The VMX controls

<!-- Made by `make docs` of the tables in core/src/vmx/controls.rs and core/src/vmx/honoured.rs. -->

Every control that the SDM defines, by the field that it is a bit of, and whether the machine offers it. What it offers
it honours. A control that is not offered must be 0, as the capability MSRs say; `gdbvmx caps` shows them in words. A
profile made from another processor's MSRs (`--cpu FILE`) can offer more to the rules of VM entry, and the run warns.
";

fn reason(control: &Control) -> Option<&'static str> {
    let row = LEFT_OUT
        .iter()
        .find(|row| row.word == control.word && row.bits & control.mask() != 0);
    row.map(|row| row.reason)
}

fn document() -> String {
    let mut text = INTRODUCTION.to_string();
    for &word in Word::ALL {
        let title = word.title();
        let _ = write!(
            text,
            "\n## {}{}\n\nSDM vol. 3, {}.\n\n| bit | control | offered |\n|---|---|---|\n",
            title[..1].to_uppercase(),
            &title[1..],
            word.section()
        );
        for control in word.controls() {
            let offered = match reason(control) {
                Some(reason) => format!("no: {reason}"),
                None => "yes".to_string(),
            };
            let _ = writeln!(text, "| {} | {} | {offered} |", control.bit, control.name);
        }
    }
    text
}

#[test]
fn a_control_is_honoured_or_has_a_reason() {
    for &word in Word::ALL {
        let mut reasons = 0;
        for row in LEFT_OUT.iter().filter(|row| row.word == word) {
            assert_eq!(reasons & row.bits, 0, "{word:?}: two reasons");
            reasons |= row.bits;
        }
        let honoured = honoured::controls(word);
        assert_eq!(honoured & reasons, 0, "{:?}", word.describe(honoured & reasons));
        let forgotten = word.defined() & !honoured & !reasons;
        assert_eq!(forgotten, 0, "{:?}", word.describe(forgotten));
    }
}

#[test]
fn the_document_is_current() {
    let text = document();
    if std::env::var_os("GDBVMX_WRITE_DOCS").is_some() {
        std::fs::write(FILE, &text).unwrap();
    }
    let found = std::fs::read_to_string(FILE).unwrap_or_default();
    assert!(
        found == text,
        "docs/vmx-controls.md is not what the tables say: run make docs"
    );
}
