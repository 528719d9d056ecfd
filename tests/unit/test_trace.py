"""Trace files: what is written is read again, what is no trace is refused, and what is made of a trace."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from gdbvmx.trace import events, export, show, stats
from gdbvmx.trace.events import Event, Trace, TraceError, TraceWriter

HEADER = {"format": "gdbvmx-trace", "version": 1, "clock": "instructions", "cpu": "skylake"}


def entry(seq: int, icount: int, **fields) -> Event:
    return Event(seq, icount, 0, "entry", vmcs=0x5000, guest_rip=0x1000, **fields)


def exit_(seq: int, icount: int, reason: int, name: str, **fields) -> Event:
    return Event(seq, icount, 0, "exit", vmcs=0x5000, reason=reason, name=name, guest_rip=0x1002, **fields)


# Two CPUID exits, handled in 50 and 30 instructions, and an OUT to port 0x3f8 that the trace ends in.
EVENTS = [
    entry(0, 100),
    exit_(1, 110, 10, "cpuid", instruction_length=2),
    entry(2, 160),
    exit_(3, 165, 10, "cpuid", instruction_length=2),
    entry(4, 195),
    Event(5, 200, 0, "vmcs_write", vmcs=0x5000, field="guest_cr3", value=0x20),
    exit_(6, 1195, 30, "io-instruction", qualification=0x03F80000, guest_linear=0),
]


def write(path: Path, *lines: object) -> Path:
    path.write_text("".join(f"{line if isinstance(line, str) else json.dumps(line)}\n" for line in lines))
    return path


def test_what_is_written_is_read_again(tmp_path):
    path = tmp_path / "t.jsonl"
    with TraceWriter(path, {"cpu": "skylake"}) as writer:
        writer.write(EVENTS)
    trace = events.read(path)
    assert trace.header == HEADER
    assert trace.events == EVENTS


def test_the_lines_are_those_of_the_contract(tmp_path):
    path = tmp_path / "t.jsonl"
    with TraceWriter(path, {"cpu": "skylake"}) as writer:
        writer.write(EVENTS)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert lines[0] == HEADER
    assert lines[7] == {
        "seq": 6, "icount": 1195, "vcpu": 0, "kind": "exit", "vmcs": "0x5000", "reason": 30,
        "name": "io-instruction", "qualification": "0x3f80000", "guest_rip": "0x1002", "guest_linear": "0x0",
    }  # fmt: skip


EVENT = {"seq": 0, "icount": 1, "vcpu": 0, "kind": "entry"}


@pytest.mark.parametrize(
    ("lines", "complaint"),
    [
        ((), "an empty file; expected a trace"),
        (({"hello": 1},), ':1: no trace: the first line must say "format": "gdbvmx-trace"'),
        (({**HEADER, "version": 2},), ":1: a trace of version 2; this gdbvmx reads versions 1 to 1"),
        (({**HEADER, "version": "1"},), ":1: a trace of version '1'"),
        ((HEADER, EVENT, "{"), ":3: not a line of JSON"),
        ((HEADER, "[" * 100_000), ":2: not a line of JSON"),
        ((HEADER, "[]"), ":2: list where a JSON object was expected"),
        ((HEADER, {"seq": 0, "kind": "exit"}), ":2: an event without icount, vcpu"),
        ((HEADER, {**EVENT, "icount": "1"}), ":2: icount is '1'; expected an integer"),
        ((HEADER, {**EVENT, "icount": True}), ":2: icount is True; expected an integer"),
        ((HEADER, {**EVENT, "guest_rip": 16}), ':2: guest_rip is 16; expected a "0x…" string'),
        ((HEADER, {**EVENT, "guest_rip": "0xzz"}), ":2: guest_rip is '0xzz'"),
    ],
)
def test_what_is_no_trace(tmp_path, lines, complaint):
    path = write(tmp_path / "t.jsonl", *lines)
    with pytest.raises(TraceError) as caught:
        events.read(path)
    assert str(caught.value).startswith(f"{path}:")
    assert complaint in str(caught.value)


def test_a_trace_that_ends_in_a_line_says_so(tmp_path):
    path = tmp_path / "t.jsonl"
    path.write_text(json.dumps(HEADER) + "\n" + '{"seq": 0, "ic')
    with pytest.raises(TraceError, match=":2: not a line of JSON, and the file ends in it"):
        events.read(path)


def test_binary_and_missing_files(tmp_path):
    path = tmp_path / "t.jsonl"
    with pytest.raises(TraceError, match="No such file"):
        events.read(path)
    path.write_bytes(b"\x7fELF\xff\xfe")
    with pytest.raises(TraceError, match="not a text file"):
        events.read(path)


def test_stats_by_reason():
    result = stats.summarise(EVENTS)
    assert result.kinds == {"entry": 3, "exit": 3, "vmcs_write": 1}
    cpuid, io = result.rows
    assert (cpuid.key, cpuid.exits, cpuid.guest) == ("cpuid", 2, 15)
    assert (cpuid.handler, cpuid.handler_min, cpuid.handler_mean, cpuid.handler_max) == (80, 30, 40, 50)
    assert (io.key, io.exits, io.guest, io.handler_mean) == ("io-instruction", 1, 1000, None)


def test_stats_by_port_leaves_other_exits_out():
    assert [(row.key, row.exits) for row in stats.summarise(EVENTS, "port").rows] == [("0x3f8", 1)]


def test_stats_pair_each_vcpus_own_events():
    first, second = EVENTS[1], Event(2, 120, 1, "entry")
    rows = stats.summarise([first, second, entry(3, 150)]).rows
    assert [row.handler for row in rows] == [40]


def test_show():
    assert show.line(EVENTS[1]).split() == (
        "1 110 0 exit cpuid vmcs=0x5000 guest_rip=0x1002 instruction_length=2".split()
    )
    assert show.line(EVENTS[5]).endswith("field=guest_cr3 value=0x20")


TRACE = Trace(HEADER, EVENTS)


def test_chrome_export_is_json_with_a_slice_per_stretch():
    document = json.loads("\n".join(export.chrome(TRACE)))
    slices = [(e["cat"], e["name"], e["ts"], e["dur"]) for e in document["traceEvents"] if e["ph"] == "X"]
    assert slices == [
        ("guest", "guest 0x5000", 0.1, 0.01),
        ("host", "cpuid", 0.11, 0.05),
        ("guest", "guest 0x5000", 0.16, 0.005),
        ("host", "cpuid", 0.165, 0.03),
        ("guest", "guest 0x5000", 0.195, 1.0),
    ]


def test_ftrace_export():
    lines = [line for line in export.ftrace(TRACE) if not line.startswith("#")]
    assert len(lines) == 6
    assert lines[0].endswith("[000]    0.000000100: kvm_entry: vcpu 0, rip 0x1000")
    assert lines[-1].endswith(
        "kvm_exit: vcpu 0 reason IO_INSTRUCTION rip 0x1002 info1 0x0000000003f80000 info2 0x0000000000000000"
        " intr_info 0x00000000 error_code 0x00000000"
    )


def test_ftrace_names_match_the_reasons_numbers():
    named = {
        0: "EXCEPTION_NMI",
        10: "CPUID",
        33: "INVALID_STATE",
        48: "EPT_VIOLATION",
        64: "XRSTORS",
        65: "0x41",
    }
    for reason, name in named.items():
        trace = Trace(HEADER, [exit_(0, 0, reason, "")])
        assert f"reason {name} rip" in list(export.ftrace(trace))[-1]


def test_csv_export():
    rows = list(csv.DictReader(export.as_csv(TRACE)))
    assert len(rows) == len(EVENTS)
    assert (rows[1]["icount"], rows[1]["name"], rows[1]["guest_rip"], rows[1]["rule"]) == (
        "110",
        "cpuid",
        "0x1002",
        "",
    )
