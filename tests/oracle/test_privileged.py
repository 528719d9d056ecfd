"""System code in random situations, held against Bochs. `make conformance` does the same at length.

User-mode instructions are held against the host's own processor, in core/tests/host: `cargo test --test
host` runs a seeded sample, GDBVMX_ORACLE_CASES says how many of each group, and `make conformance` asks for a
million.
"""

from __future__ import annotations

import privileged
import pytest
from decisions import CONTROL_PROTECTION, LOST_THERE, PAGE_FAULT, TABLE, TO_SHADOW_STACK

# How many of a family; "" is the mix of them.
CASES = {"": 700, "enforcement": 500}


@pytest.mark.bochs
@pytest.mark.parametrize("family", CASES)
def test_bochs_agrees_or_the_sdm_decides(family: str) -> None:
    result = privileged.compare(privileged.Cases(0, CASES[family], family=family))
    assert not result.undecided, "\n".join(map(str, result.undecided))
    assert not result.lost
    assert result.cases + result.neither == CASES[family]


def test_a_case_does_not_depend_on_those_before_it() -> None:
    many = list(privileged.outcomes(privileged.output_here(privileged.Cases(0, 300))))
    assert len(many) == 300
    for number in (17, 150, 299):
        (alone,) = privileged.outcomes(privileged.output_here(privileged.Cases(number, 1)))
        assert alone == many[number]


def test_every_mode_and_family_is_there() -> None:
    seen = list(privileged.outcomes(privileged.output_here(privileged.Cases(0, 1000))))
    assert {outcome.mode for outcome in seen} == {
        *("long64", "compat32", "compat16", "prot32", "prot16", "v86", "real")
    }
    assert len({outcome.family for outcome in seen}) == 17
    # Not only faults at once: what is tried comes to an end of its own, too.
    assert sum(outcome.vector == 3 for outcome in seen) > len(seen) // 4


def test_control_flow_is_enforced() -> None:
    cases = privileged.Cases(0, 1000, family="enforcement")
    seen = list(privileged.outcomes(privileged.output_here(cases)))
    assert {outcome.family for outcome in seen} == {"enforcement"}
    assert {outcome.mode for outcome in seen} == {"long64", "compat32", "compat16", "prot32", "prot16"}
    # NEAR-RET, FAR-RET/IRET, ENDBRANCH, RSTORSSP and SETSSBSY.
    refused = {outcome.error for outcome in seen if outcome.vector == CONTROL_PROTECTION}
    assert refused == {1, 2, 3, 4, 5}
    pages = {outcome.error for outcome in seen if outcome.vector == PAGE_FAULT}
    assert any(error & TO_SHADOW_STACK for error in pages) and any(
        not error & TO_SHADOW_STACK for error in pages
    )
    assert sum(outcome.vector == 3 for outcome in seen) > len(seen) // 4
    assert len({outcome.ssp for outcome in seen}) > 20


def test_decisions_name_their_section() -> None:
    rows = (*TABLE, *LOST_THERE)
    assert all(row.section.startswith("vol. ") for row in rows)
    assert len({row.name for row in rows}) == len(rows)
