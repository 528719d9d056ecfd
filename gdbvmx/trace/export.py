"""A trace in the formats of other tools. Each function yields the lines of the output.

Time is the count of retired instructions; where a format wants seconds, one counts as a nanosecond.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from .events import FIELDS, HEXADECIMAL, Event, Trace
from .kvmnames import KVM_NAMES
from .timeline import GuestRun, stretches


def chrome(trace: Trace) -> Iterator[str]:
    """Chrome's trace event JSON (chrome://tracing, Perfetto): a track of guest runs and exits per vCPU."""
    yield '{"displayTimeUnit": "ns", "traceEvents": ['
    for number, event in enumerate(_chrome_events(trace)):
        yield ("," if number else "") + json.dumps(event)
    yield "]}"


def _chrome_events(trace: Trace) -> Iterator[dict[str, Any]]:
    for vcpu in sorted({event.vcpu for event in trace.events}):
        yield {"ph": "M", "pid": 1, "tid": vcpu, "name": "thread_name", "args": {"name": f"vCPU {vcpu}"}}
    for stretch in stretches(trace.events):
        start = stretch.entry if isinstance(stretch, GuestRun) else stretch.exit
        if start is None or stretch.instructions is None:
            continue
        exit = stretch.exit
        guest = isinstance(stretch, GuestRun)
        yield {
            "ph": "X",
            "pid": 1,
            "tid": start.vcpu,
            "cat": "guest" if guest else "host",
            "name": f"guest {exit.vmcs:#x}" if guest and exit.vmcs is not None else _exit_name(exit),
            "ts": start.icount / 1000,  # microseconds
            "dur": stretch.instructions / 1000,
            "args": exit.to_json(),
        }
    for event in trace.events:
        if event.kind not in ("entry", "exit"):
            yield {
                "ph": "i",
                "s": "t",
                "pid": 1,
                "tid": event.vcpu,
                "cat": event.kind,
                "name": f"{event.kind} {event.name or ''}".rstrip(),
                "ts": event.icount / 1000,
                "args": event.to_json(),
            }


def _exit_name(event: Event) -> str:
    return event.name or f"exit {event.reason}"


def ftrace(trace: Trace) -> Iterator[str]:
    """The text of Linux's ftrace with its tracepoints kvm_entry and kvm_exit."""
    yield "# tracer: nop"
    yield "#"
    yield "#           TASK-PID     CPU#     TIMESTAMP  FUNCTION"
    for event in trace.events:
        function = _FTRACE.get(event.kind)
        if function:
            seconds, nanoseconds = divmod(event.icount, 10**9)
            clock = f"{seconds}.{nanoseconds:09}"
            yield f"          gdbvmx-{1 + event.vcpu:<6} [{event.vcpu:03}] {clock:>14}: {function(event)}"


def _kvm_entry(event: Event) -> str:
    return f"kvm_entry: vcpu {event.vcpu}, rip 0x{event.guest_rip or 0:x}"


def _kvm_exit(event: Event) -> str:
    reason = event.reason or 0
    return (
        f"kvm_exit: vcpu {event.vcpu} reason {KVM_NAMES.get(reason, hex(reason))}"
        f" rip 0x{event.guest_rip or 0:x} info1 0x{event.qualification or 0:016x} info2 0x{0:016x}"
        f" intr_info 0x{event.interruption_info or 0:08x} error_code 0x{event.more.get('error_code', 0):08x}"
    )


_FTRACE: Mapping[str, Callable[[Event], str]] = {"entry": _kvm_entry, "exit": _kvm_exit}


def as_csv(trace: Trace) -> Iterator[str]:
    """Comma-separated values (RFC 4180) with a heading; the columns are the fields of an event."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="")
    for row in (FIELDS, *([_cell(event, name) for name in FIELDS] for event in trace.events)):
        writer.writerow(row)
        yield buffer.getvalue()
        buffer.seek(0)
        buffer.truncate()


def _cell(event: Event, name: str) -> str:
    value = getattr(event, name)
    if value is None:
        return ""
    return f"{value:#x}" if name in HEXADECIMAL else str(value)


FORMATS: Mapping[str, Callable[[Trace], Iterator[str]]] = {"chrome": chrome, "ftrace": ftrace, "csv": as_csv}
