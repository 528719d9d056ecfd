"""VM entries with random VMCS fields, held against Bochs. `make conformance` does the same at length."""

from __future__ import annotations

from collections.abc import Callable

import differential
import pytest
from disagreements import ENDED, TABLE, Case, decided

from gdbvmx import _core, profiles

ENCODINGS = {field["name"]: field["encoding"] for field in _core.fields()}


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


@pytest.fixture(scope="module")
def row_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., str | None]:
    """The name of the row that decides a case of the setup `long` with these outcomes and fields."""
    profile = tmp_path_factory.mktemp("profile") / "profile.json"
    profile.write_text("{}")
    good = differential.run_here("long", 1, 1, profile)[0].baseline
    processor, _ = profiles.load(str(profile))

    def row_of(ours: str, theirs: str, **fields: int) -> str | None:
        mutated = {ENCODINGS[name]: value for name, value in fields.items()}
        case = Case("long", 0, good | mutated, mutated, {}, ours, theirs, processor, mutations_differ=False)
        row = decided(case)
        return row.name if row else None

    return row_of


def test_the_guest_s_state_matters_after_controls_and_host(row_of):
    both = {"cr3_target_count": 9, "host_tr_selector": 0}
    assert row_of("F7", "F8", **both) == TABLE[0].name
    assert row_of("F7", "F8", cr3_target_count=9) is None
    assert row_of("F7", "E21", cr3_target_count=9, guest_activity_state=9) is None
    assert row_of("F7", "X34", **both) is None
    assert row_of("F7", ENDED, **both) is None


def test_bochs_must_miss_every_rule_that_is_broken(row_of):
    debug = {"guest_pending_debug_exceptions": 1 << 40}
    name = "Bochs does not look at bits 63:32 of the pending debug exceptions"
    assert row_of("E21", "X34") is None
    assert row_of("E21", "X34", **debug) == name
    assert row_of("E21", ENDED, **debug) is None
    assert row_of("E21", "X34", **debug, guest_activity_state=9) is None
    assert row_of("E21", "E21 q4", **debug, vmcs_link_pointer=8) == name


def test_all_that_is_told_of_an_exit_must_be_known(row_of):
    real = {"guest_cr0": 0x30, "guest_cs_access_rights": 0x9B, "guest_rflags": 2}
    with_code = "X0 i80000b0d e1 v80000306"
    name = "Bochs gives exceptions of real-address mode an error code"
    assert row_of("X0 i8000030d v80000306", with_code, **real) == name
    assert row_of("X0 i8000030d v80000306", with_code, guest_cr0=0x31) is None
    assert row_of("X0 i8000030d v80000306 S6820=10002", with_code, **real) == name
    assert row_of("X0 i8000030d v80000306 S6820=10006", with_code, **real) is None
    assert row_of("X34", "X34 S4816=93", **real) == "Bochs makes CS a data segment where CR0.PE is 0"
    assert row_of("X34", "X34 S4816=92", **real) is None


def test_known_disagreements_name_their_section():
    assert all(row.section[0].isdigit() for row in TABLE)
    assert len({row.name for row in TABLE}) == len(TABLE)
