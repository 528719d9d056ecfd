"""`gdbvmx trace`: what each verb prints, and how it fails."""

from __future__ import annotations

import csv
import json

import pytest

HEADER = {"format": "gdbvmx-trace", "version": 1, "clock": "instructions", "cpu": "x"}
LINES = [
    {"seq": 0, "icount": 10, "vcpu": 0, "kind": "entry", "vmcs": "0x5000", "guest_rip": "0x1000"},
    {"seq": 1, "icount": 15, "vcpu": 0, "kind": "exit", "vmcs": "0x5000", "reason": 10, "name": "cpuid",
     "qualification": "0x0", "guest_rip": "0x1002"},
    {"seq": 2, "icount": 40, "vcpu": 0, "kind": "entry", "vmcs": "0x5000", "guest_rip": "0x1004"},
]  # fmt: skip


@pytest.fixture
def trace(tmp_path):
    path = tmp_path / "t.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in (HEADER, *LINES)))
    return path


def test_stats(gdbvmx, trace):
    result = gdbvmx("trace", "stats", trace)
    assert result.returncode == 0
    assert result.stdout.splitlines() == [
        "events: 2 entry, 1 exit",
        "reason  exits      %  guest instr.  handler instr.  min  mean  max",
        "cpuid       1  100.0             5              25   25  25.0   25",
    ]


def test_stats_for_scripts(gdbvmx, trace):
    document = json.loads(gdbvmx("trace", "stats", trace, "--json").stdout)
    assert document["rows"][0]["handler_instructions"] == 25


def test_stats_of_a_trace_without_exits(gdbvmx, trace):
    trace.write_text(json.dumps(HEADER) + "\n")
    result = gdbvmx("trace", "stats", trace)
    assert (result.returncode, result.stdout.splitlines()[0]) == (0, "events: none")


def test_show_filters(gdbvmx, trace):
    def shown(*options: object) -> list[str]:
        lines = gdbvmx("trace", "show", trace, *options).stdout.splitlines()
        assert lines[0].split() == ["seq", "icount", "#", "kind", "reason", "details"]
        return [line.split()[0] for line in lines[1:]]

    assert shown() == ["0", "1", "2"]
    assert shown("--kind", "exit") == ["1"]
    assert shown("--reason", "cpuid") == shown("--reason", "10") == ["1"]
    assert shown("--vcpu", "1") == []
    assert shown("--last", "1") == ["2"]


def test_export(gdbvmx, trace, tmp_path):
    assert json.loads(gdbvmx("trace", "export", trace, "--format", "chrome").stdout)["traceEvents"]
    assert "kvm_exit: vcpu 0 reason CPUID" in gdbvmx("trace", "export", trace, "--format", "ftrace").stdout
    output = tmp_path / "t.csv"
    assert gdbvmx("trace", "export", trace, "--format", "csv", "-o", output).stdout == ""
    assert len(list(csv.DictReader(output.read_text().splitlines()))) == 3


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("stats", "absent.jsonl"), "absent.jsonl: No such file or directory"),
        (("export", "TRACE", "--format", "elf"), "invalid choice: 'elf'"),
        (("export", "TRACE", "--format", "csv", "-o", "/absent/file"), "/absent/file: No such file"),
        (("fold", "TRACE"), "invalid choice: 'fold'"),
    ],
)
def test_failures_are_one_line_and_status_2(gdbvmx, trace, arguments, complaint):
    result = gdbvmx("trace", *(trace if word == "TRACE" else word for word in arguments))
    assert (result.returncode, result.stdout) == (2, "")
    assert complaint in result.stderr
    assert result.stderr.count("\n") == 1


def test_show_explains(gdbvmx, trace):
    io = {"seq": 3, "icount": 50, "vcpu": 0, "kind": "exit", "reason": 30, "qualification": "0x3f80000"}
    write = {"seq": 4, "icount": 51, "vcpu": 0, "kind": "vmcs_write", "field": "guest_activity_state",
             "value": "0x1"}  # fmt: skip
    unknown = {"seq": 5, "icount": 52, "vcpu": 0, "kind": "exit", "reason": 9999, "qualification": "0x1"}
    with trace.open("a") as file:
        file.writelines(json.dumps(line) + "\n" for line in (io, write, unknown))
    *_, io_line, write_line, unknown_line = gdbvmx("trace", "show", trace).stdout.splitlines()
    assert "port 0x3f8" in io_line
    assert write_line.endswith("HLT")
    assert unknown_line.endswith("qualification=0x1")
