"""`gdbvmx trace`: what each verb prints, and how it fails."""

from __future__ import annotations

import csv
import json
from html.parser import HTMLParser

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
    assert document["rows"][0]["handler"] == 25


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
        (("diff", "TRACE", "absent.jsonl"), "absent.jsonl: No such file or directory"),
        (("import", "TRACE", "-o", "unused.jsonl"), "no kvm_exit or kvm_nested_vmexit in its 4 lines"),
        (("report", "TRACE", "-o", "/absent/page.html"), "/absent/page.html: No such file"),
        (("report", "TRACE", "-o", "unused.html", "--symbols", "TRACE"), "no ELF file with readable symbols"),
        (("record", "--target", "localhost:1", "-o", "unused.jsonl"), "target extended-remote localhost:1: "),
        (
            ("record", "--target", "localhost:1", "-o", "unused.jsonl", "--image", "absent"),
            "absent: no such file",
        ),
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


def test_diff_of_a_trace_with_itself(gdbvmx, trace):
    result = gdbvmx("trace", "diff", trace, trace)
    assert result.returncode == 0
    assert result.stdout.splitlines()[:2] == ["3 events compared; exits left out: none", "No difference."]


def test_diff_shows_where_two_runs_part(gdbvmx, trace, tmp_path):
    other = tmp_path / "other.jsonl"
    other.write_text(trace.read_text().replace('"0x1002"', '"0x1003"'))
    result = gdbvmx("trace", "diff", trace, other)
    assert result.returncode == 1
    lines = result.stdout.splitlines()
    assert (
        lines[1]
        == "First difference: VMCS 1 of vCPU 0, after 1 events that are alike; not the same: guest_rip"
    )
    assert [line[:3] for line in lines[3:6]] == ["   ", "  A", "  B"]
    assert lines[6] == "They go on alike after 1 event of A and 1 event of B."
    assert gdbvmx("trace", "diff", trace, other, "--ignore", "guest_rip").returncode == 0


def test_diff_counts_reasons(gdbvmx, trace, tmp_path):
    other = tmp_path / "other.jsonl"
    other.write_text("".join(f"{line}\n" for line in trace.read_text().splitlines()[:2]))
    assert gdbvmx("trace", "diff", trace, other).stdout.splitlines()[-1].split() == ["cpuid", "1", "0", "-1"]


def test_import(gdbvmx, tmp_path):
    text, imported = tmp_path / "ftrace.txt", tmp_path / "kvm.jsonl"
    text.write_text(
        " qemu-7 [000] 5.000000100: kvm_entry: vcpu 0, rip 0x10\n"
        " qemu-7 [000] 5.000000150: kvm_exit: vcpu 0 reason HLT rip 0x12 info1 0\n"
    )
    result = gdbvmx("trace", "import", text, "-o", imported)
    assert (result.returncode, result.stderr) == (0, "gdbvmx: 2 events of level 'host'; 2 lines read\n")
    heading = gdbvmx("trace", "stats", imported).stdout.splitlines()[1]
    assert heading.split()[3:5] == ["guest", "ns"]
    assert json.loads(gdbvmx("trace", "stats", imported, "--json").stdout)["rows"][0]["guest"] == 50


class _Cells(HTMLParser):
    """Rows of a page's tables, and what the page would fetch."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.fetched: list[str] = []

    def handle_starttag(self, tag, attributes):
        self.fetched += [value for name, value in attributes if name in ("src", "href")]
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_data(self, data):
        if self.rows and self.rows[-1]:
            self.rows[-1][-1] += data.strip()


def test_report(gdbvmx, minivisor, tmp_path):
    recorded, output = tmp_path / "<t>.jsonl", tmp_path / "page.html"
    gdbvmx("run", minivisor, "--trace", recorded)
    result = gdbvmx("trace", "report", recorded, "-o", output, "--symbols", minivisor)
    assert (result.returncode, result.stderr) == (0, "")
    page = _Cells()
    page.feed(output.read_text())
    assert page.fetched == []
    assert "&lt;t&gt;.jsonl" in output.read_text()
    stats = gdbvmx("trace", "stats", recorded).stdout.splitlines()[2:]
    assert [row[:2] for row in page.rows[1 : 1 + len(stats)]] == [line.split()[:2] for line in stats]
    assert any(row[1:2] == ["say+0x7"] for row in page.rows)


def test_report_of_a_trace_without_exits(gdbvmx, trace, tmp_path):
    trace.write_text(json.dumps(HEADER) + "\n")
    assert gdbvmx("trace", "report", trace, "-o", tmp_path / "page.html").returncode == 0
    assert "No exits." in (tmp_path / "page.html").read_text()
