"""Compares two traces: each guest's entries and exits in turn, not by the clock.

Left out unless --exact is given: exits whose moment is the clock's (external interrupts, interrupt and NMI
windows, the preemption timer), and bits 11:9 of the qualification of EPT violations, which only some
processors give. The addresses of VMCSs never count.

    gdbvmx trace diff emulator.jsonl reference.jsonl
    gdbvmx trace diff a.jsonl b.jsonl --ignore hlt --ignore qualification
    gdbvmx trace diff a.jsonl b.jsonl --kind vmcs_write --ignore 'host_*'

The status is 0 for traces that are alike, 1 for traces that differ, 2 for files that are no traces.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

from gdbvmx.cli.options import count
from gdbvmx.cli.tables import print_table
from gdbvmx.trace import diff, events, show
from gdbvmx.trace.diff import Comparison, Difference
from gdbvmx.trace.events import Trace
from gdbvmx.trace.explain import explain

NAME = "diff"
HELP = "where two traces part, guest by guest, and exits counted in both"

ALIKE, DIFFERENT = 0, 1


def configure(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("a", metavar="A", type=Path)
    add("b", metavar="B", type=Path)
    add("--ignore", metavar="NAME", action="append", default=[],
        help="leave out: an exit reason, a field of events, VMCS fields (host_*)")  # fmt: skip
    add("--exact", action="store_true", help="leave out nothing but what --ignore says")
    add("--kind", action="append", default=[], help="compare events of this kind too, as vmcs_write")
    add(
        "--context",
        metavar="N",
        type=count,
        default=5,
        help="events shown of each [%(default)s]",
    )


def run(arguments: argparse.Namespace) -> int:
    traces = [events.read(path) for path in (arguments.a, arguments.b)]
    ignored = (*arguments.ignore, *(() if arguments.exact else diff.DECLARED))
    kinds = (*diff.KINDS, *arguments.kind)
    result = diff.compare(traces[0].events, traces[1].events, ignored, kinds, arguments.context)
    for line in _lines(result, arguments.context):
        print(line)
    _print_reasons(traces, result)
    return DIFFERENT if result.differences else ALIKE


def _lines(result: Comparison, context: int) -> Iterator[str]:
    left_out = ", ".join(f"{number} {reason}" for reason, number in sorted(result.left_out.items()))
    yield f"{result.compared} events compared; exits left out: {left_out or 'none'}"
    first = result.first
    if first is None:
        yield "No difference."
        return
    guest = f"VMCS {first.number + 1} of vCPU {first.vcpu}"
    yield f"First difference: {guest}, after {first.alike} events that are alike" + _what(first)
    yield f"    {show.HEADING}"
    for mark, shown in ((" ", first.before), ("A", first.a), ("B", first.b)):
        for event in shown[:context]:
            yield f"  {mark} {show.line(event, explain)}"
        if len(shown) > context:
            yield f"  {mark}     … and {len(shown) - context} more"
    yield _after(first)
    more = len(result.differences) - 1
    if more:
        yield f"{more} more difference{'s' if more > 1 else ''} after it."


def _what(difference: Difference) -> str:
    if difference.fields:
        return f"; not the same: {', '.join(difference.fields)}"
    if difference.a or difference.b:
        return f"; only {'A' if difference.a else 'B'} has what follows"
    return ""


def _after(difference: Difference) -> str:
    if difference.met:
        return f"They go on alike after {_events(difference.a)} of A and {_events(difference.b)} of B."
    return f"They do not meet again: {_events(difference.a)} of A and {_events(difference.b)} of B are left."


def _events(events: object) -> str:
    assert isinstance(events, list)
    return f"{len(events)} event{'' if len(events) == 1 else 's'}"


def _print_reasons(traces: list[Trace], result: Comparison) -> None:
    rows = sorted(result.reasons.items(), key=lambda row: (-max(row[1]), row[0]))
    print_table(
        ("reason", "A", "B", "B - A"),
        [(reason, str(a), str(b), f"{b - a:+}" if a != b else "") for reason, (a, b) in rows],
    )
