"""VM entries with random VMCS fields, held against Bochs. `make conformance` does the same at length."""

from __future__ import annotations

import differential
import pytest
from disagreements import TABLE


def test_lines_are_read_back():
    lines = [
        "noise",
        "@msr 480 1f",
        "@cpuid 7 0 1 2 3 4",
        "@base M6800=21 M401e=2",
        "@a M6800=20 L1=79,0,5 F7",
    ]
    output = differential.parse(iter([*lines, "@end"]))
    assert output.msrs == {0x480: 0x1F}
    assert output.cpuid == {(7, 0): [1, 2, 3, 4]}
    assert output.baseline == {0x6800: 0x21, 0x401E: 2}
    assert output.ended
    case = differential.make_case("long", 10, output.baseline, output.cases[10], "X34", None)
    assert (case["guest_cr0"], case["secondary_processor_based_controls"]) == (0x20, 2)
    assert (case.ours, case.theirs, case.entries) == ("F7", "X34", {1: (0x79, 0, 5)})


def test_a_case_does_not_depend_on_those_before_it(tmp_path):
    profile = tmp_path / "profile.json"
    profile.write_text("{}")
    many, _ = differential.run_here("long", 5, 300, profile)
    few, _ = differential.run_here("long", 5, 100, profile, start=200)
    assert len(many.cases) == 300
    assert {number: line for number, line in many.cases.items() if number >= 200} == few.cases


@pytest.mark.bochs
@pytest.mark.parametrize("setup", ["long", "pae-ept", "real"])
def test_bochs_agrees_or_the_sdm_decides(setup: str):
    result = differential.compare(setup, seed=1, count=500)
    assert not result.undecided, "\n".join(map(str, result.undecided))
    assert result.missing <= 1


def test_known_disagreements_name_their_section():
    assert all(row.section[0].isdigit() for row in TABLE)
    assert len({row.name for row in TABLE}) == len(TABLE)
