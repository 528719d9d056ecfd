"""Entries and exits out of Bochs's log and VMCS, from recorded lines."""

from __future__ import annotations

from pathlib import Path

import pytest

from gdbvmx import _core
from gdbvmx.reference import bochsdebugger
from gdbvmx.reference.bochslog import Log
from gdbvmx.trace.events import Event

RECORDED = Path(__file__).parent / "data" / "bochs-log.txt"


def events(lines: list[str]) -> list[Event]:
    log = Log()
    found = [event for line in lines for event in log.feed(line)]
    return found + [event for vcpu in log.vcpus for event in log.end(vcpu)]


def test_entries_and_exits_of_a_recorded_log() -> None:
    found = events(RECORDED.read_text().splitlines())
    assert [(event.seq, event.icount, event.kind, event.vmcs, event.reason) for event in found] == [
        (0, 206238125, "entry", 0x124000, None),
        (1, 206238175, "exit", 0x124000, 30),
        (2, 206238367, "entry", 0x124000, None),
        (3, 207265855, "exit", 0x124000, 48),
        (4, 207963501, "entry", 0x125000, None),
        (5, 207983501, "exit", 0x125000, 52),
    ]
    assert [event.name for event in found[1::2]] == ["io-instruction", "ept-violation", "preemption-timer"]
    assert found[1].qualification == 0x3F80000


def test_a_guest_that_runs_at_the_end_was_entered() -> None:
    found = events(["00000000007d[CPU1  ] VMRESUME VMCS ptr: 0x0000000000002000"])
    assert found == [Event(0, 7, 1, "entry", vmcs=0x2000)]


def test_failures_say_why() -> None:
    found = events(
        [
            "00000000010d[CPU0  ] VMLAUNCH VMCS ptr: 0x0000000000126000",
            "00000000010d[CPU0  ] VMENTER to x86-64 guest",
            "00000000010e[CPU0  ] VMENTER FAIL: VMCS guest incorrect TR type (1)",
            "00000000010e[CPU0  ] VMEXIT: Guest State Checks Failed",
            "00000000010d[CPU0  ] VMEXIT reason = 33 (VMEntry failure) qualification=0x0",
            "00000000020d[CPU0  ] VMLAUNCH VMCS ptr: 0x0000000000126000",
            "00000000020e[CPU0  ] VMFAIL: VMCS host CS selector 0",
            "00000000030d[CPU0  ] VMLAUNCH VMCS ptr: 0x0000000000126000",
            "00000000031d[CPU0  ] VMEXIT reason = 10 (CPUID) qualification=0x0",
        ]
    )
    assert [(event.kind, event.icount) for event in found] == [
        ("entry_failure", 10),
        ("vmfail", 20),
        ("entry", 30),
        ("exit", 31),
    ]
    assert found[0].reason == 33
    assert found[0].more == {"bochs": "VMCS guest incorrect TR type (1)"}
    assert found[1].more == {"bochs": "VMCS host CS selector 0"}


def test_processors_are_told_apart() -> None:
    found = events(
        [
            "00000000001d[CPU0  ] VMLAUNCH VMCS ptr: 0x0000000000001000",
            "00000000002d[CPU1  ] VMLAUNCH VMCS ptr: 0x0000000000002000",
            "00000000003d[CPU0  ] VMEXIT reason = 12 (HLT) qualification=0x0",
            "00000000004d[CPU1  ] VMEXIT reason = 12 (HLT) qualification=0x0",
        ]
    )
    assert [(event.vcpu, event.kind, event.vmcs) for event in found] == [
        (0, "entry", 0x1000),
        (0, "exit", 0x1000),
        (1, "entry", 0x2000),
        (1, "exit", 0x2000),
    ]


def test_an_unknown_reason_has_no_name() -> None:
    found = events(["00000000001d[CPU0  ] VMEXIT reason = 999 (?) qualification=0x0"])
    assert (found[0].reason, found[0].name) == (999, None)


@pytest.mark.parametrize(
    ("name", "offset"),
    [  # as found by dumping the VMCS of a known guest
        ("guest_rip", 0xE88),
        ("exit_qualification", 0xD10),
        ("exit_reason", 0x918),
        ("exit_instruction_length", 0x940),
        ("host_rip", 0xF68),
    ],
)
def test_fields_lie_where_bochs_puts_them(name: str, offset: int) -> None:
    assert bochsdebugger._offset(_core.field(name)["encoding"]) == offset


def test_a_dump_of_words_is_a_number() -> None:
    dump = b"[bochs]:\n0x0000000000124e88 <bogus+       0>:\t0x40000010\t0xffff8000\n<bochs:5> "
    assert bochsdebugger._number(dump, 64) == 0xFFFF800040000010
    assert bochsdebugger._number(dump, 32) == 0x40000010
    assert bochsdebugger._number(b"[bochs]:\nphysical memory read error\n", 64) == 0


VALUES = {
    "guest_rip": 0x1000,
    "guest_linear_address": 0x2000,
    "guest_physical_address": 0x3000,
    "exit_interruption_info": 0x80000306,
    "exit_instruction_length": 2,
}


@pytest.mark.parametrize(
    ("reason", "qualification", "more"),
    [
        (0, 0, {"interruption_info": 0x80000306}),
        (10, 0, {"instruction_length": 2}),
        (48, 0x182, {"guest_physical": 0x3000, "guest_linear": 0x2000}),
        (48, 0x2, {"guest_physical": 0x3000}),
        (49, 0, {"guest_physical": 0x3000}),
        (52, 0, {}),
    ],
)
def test_an_exit_gets_what_its_reason_defines(reason: int, qualification: int, more: dict[str, int]) -> None:
    event = Event(0, 1, 0, "exit", reason=reason, qualification=qualification)
    expected = Event(0, 1, 0, "exit", reason=reason, qualification=qualification, guest_rip=0x1000, **more)
    assert bochsdebugger.completed(event, VALUES) == expected
