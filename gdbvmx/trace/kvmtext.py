"""Reads the text of Linux's tracepoints of KVM, as ftrace, trace-cmd and perf script print them.

A line names the task, the processor in brackets, the time in seconds, the tracepoint and what it tells:

    qemu-1234  [002] d..2. 8123.456789: kvm_exit: vcpu 0 reason CPUID rip 0x1000 info1 0x0 … intr_info 0x0 …
    qemu 1234/1240 [002] 8123.456789:  kvm:kvm_exit: vcpu 0 reason CPUID rip 0x1000 …

Kernels differ in what they tell: vcpu and the interruption information are missing in old ones.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from gdbvmx import _core

from .events import Event
from .kvmnames import REASONS

_LINE = re.compile(
    r"(?P<thread>\d+)\s+(?:\([^)]*\)\s+)?\[\d+\].*?\s(?P<seconds>\d+)\.(?P<fraction>\d{1,9}):\s+"
    r"(?:kvm:)?(?P<point>kvm_\w+):\s*(?P<text>.*)"
)
_REASON = re.compile(r"\breason:? (?P<name>\w+)(?P<failed> FAILED_VMENTRY)?")
_FAILED = 1 << 31  # of an exit reason: the VM entry failed (SDM 25.9.1)

# Tracepoints that become events, and of what kind. Some exits tell of a VM entry that failed.
_KINDS: Mapping[str, str] = {
    "kvm_entry": "entry",
    "kvm_exit": "exit",
    "kvm_nested_vmrun": "entry",
    "kvm_nested_vmenter": "entry",
    "kvm_nested_vmexit": "exit",
    "kvm_nested_vmexit_inject": "exit",
}

# Whose entries and exits: of the guests of a hypervisor in KVM, and of the machine that KVM runs. KVM handles
# some exits of the former itself; where lines tell which it reflects to the hypervisor, only those count.
LEVELS: Mapping[str, tuple[frozenset[str], ...]] = {
    "nested": (
        frozenset(("kvm_nested_vmrun", "kvm_nested_vmenter", "kvm_nested_vmexit_inject")),
        frozenset(("kvm_nested_vmrun", "kvm_nested_vmenter", "kvm_nested_vmexit")),
    ),
    "host": (frozenset(("kvm_entry", "kvm_exit")),),
}


class NoTrace(Exception):
    """There is nothing of KVM in the text; says so in one line."""


@dataclass(frozen=True)
class Imported:
    """The events, the level that they are of, and how many lines were read."""

    level: str
    events: list[Event]
    lines: int


def read(lines: Iterable[str], level: str | None = None) -> Imported:
    """The events of one of LEVELS; by default of the first that has exits. Raises NoTrace."""
    reader = _Reader()
    for text in lines:
        reader.line(text)
    for name in (level,) if level else LEVELS:
        for points in LEVELS[name]:
            events = [event for point, event in reader.events if point in points]
            if any(event.kind != "entry" for event in events):
                return Imported(
                    name, [replace(event, seq=seq) for seq, event in enumerate(events)], reader.lines
                )
    what = f"exit of level {level}" if level else "kvm_exit or kvm_nested_vmexit"
    raise NoTrace(f"no {what} in its {reader.lines} lines; expected text of ftrace, trace-cmd or perf script")


@dataclass
class _Reader:
    """Makes an event of each line, with its tracepoint. Times count from the first."""

    events: list[tuple[str, Event]] = field(default_factory=list)
    lines: int = 0
    start: int | None = None
    vcpus: dict[str, int] = field(default_factory=dict)  # of each thread
    rips: dict[int, int] = field(default_factory=dict)  # where each vCPU's last exit was
    vmcss: dict[int, int] = field(default_factory=dict)  # that each vCPU's hypervisor entered last

    def line(self, text: str) -> None:
        self.lines += 1
        match = _LINE.search(text)
        kind = match and _KINDS.get(match["point"])
        if not match or not kind:
            return
        point, text = match["point"], match["text"]
        now = int(match["seconds"]) * 10**9 + int(match["fraction"].ljust(9, "0"))
        self.start = now if self.start is None else self.start
        event = Event(0, max(0, now - self.start), self._vcpu(match["thread"], text), kind)
        if "nested" in point:
            event = replace(event, vmcs=self._vmcs(event.vcpu, text))
        self.events.append((point, _entry(event, text) if kind == "entry" else self._exit(event, text)))

    def _vcpu(self, thread: str, text: str) -> int:
        """Lines of old kernels do not name it; each thread of QEMU's that they come from is one."""
        named = _number(text, "vcpu", 10)
        self.vcpus[thread] = self.vcpus.get(thread, len(self.vcpus)) if named is None else named
        return self.vcpus[thread]

    def _vmcs(self, vcpu: int, text: str) -> int | None:
        """Exits do not name it: it is that of the last entry."""
        named = _number(text, "vmcs")
        if named is not None:
            self.vmcss[vcpu] = named
        return self.vmcss.get(vcpu)

    def _exit(self, event: Event, text: str) -> Event:
        # A reflected exit does not tell where it happened; the line before it does.
        rip = _number(text, "rip")
        if rip is not None:
            self.rips[event.vcpu] = rip
        reason, failed = _reason(text)
        more = {
            "error_code": _number(text, "error_code|ext_int_err"),
            "idt_vectoring_info": _number(text, "info2|ext_inf2"),
        }
        return replace(
            event,
            kind="entry_failure" if failed else "exit",
            reason=reason,
            name=_name(reason),
            qualification=_number(text, "info1|info|ext_inf1"),
            guest_rip=self.rips.get(event.vcpu),
            interruption_info=_number(text, "intr_info|ext_int") or None,
            more={name: f"{value:#x}" for name, value in more.items() if value},
        )


def _entry(event: Event, text: str) -> Event:
    nested = _number(text, "nested_rip")
    return replace(event, guest_rip=_number(text, "rip") if nested is None else nested)


def _reason(text: str) -> tuple[int | None, bool]:
    """The basic exit reason, and whether a VM entry failed for it."""
    match = _REASON.search(text)
    if not match:
        return None, False
    number = REASONS.get(match["name"])
    if number is None:
        try:
            number = int(match["name"], 16)
        except ValueError:
            return None, False
    return number & 0xFFFF, bool(match["failed"] or number & _FAILED)


def _name(reason: int | None) -> str | None:
    try:
        return None if reason is None else _core.reason(reason)["name"]
    except _core.Error:
        return None


def _number(text: str, name: str, base: int = 16) -> int | None:
    match = re.search(rf"\b(?:{name}):? (?:0x)?([0-9a-f]+)", text)
    return int(match[1], base) if match else None
