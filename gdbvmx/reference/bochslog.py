"""Reads VM entries and exits out of Bochs's log, as Bochs 2.7 writes it with `debug: cpu0=report`.

    00206238125d[CPU0  ] VMLAUNCH VMCS ptr: 0x0000000000124000
    00206238175d[CPU0  ] VMEXIT reason = 30 (I/O Instruction) qualification=0x3f80000

The number is the count of instructions since power-on, firmware and boot loader included. The log has no
guest RIP and no VM-instruction error.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

from gdbvmx import _core
from gdbvmx.trace.events import Event

_LINE = re.compile(r"(?P<icount>\d+)(?P<level>[dip e])\[CPU(?P<vcpu>\d+)\s*\] (?P<text>.*)")
_ENTRY = re.compile(r"VM(?:LAUNCH|RESUME) VMCS ptr: (?P<vmcs>0x[0-9a-f]+)")
_EXIT = re.compile(r"VMEXIT reason = (?P<reason>\d+) \(.*\) qualification=(?P<qualification>0x[0-9a-f]+)")
_VMFAIL = re.compile(r"VMFAIL: (?P<why>.*)")
# What is said between a VMLAUNCH and the exit by which its failure is reported.
_REFUSED = re.compile(
    r"VMENTER FAIL: (?P<why>.*)|(?P<other>VMENTER: .*Checks Failed|VMEXIT: Error when loading guest MSR.*)"
)


@dataclass
class _Processor:
    """What is known of one vCPU between two lines."""

    vmcs: int | None = None
    """Of the last VMLAUNCH or VMRESUME."""
    entering: int | None = None
    """When that was, as long as nothing tells whether the guest was entered."""
    refused: str | None = None
    """Why it was not."""


class Log:
    """Takes the log line by line, and gives the events that they are, numbered from 0."""

    def __init__(self) -> None:
        self._processors: dict[int, _Processor] = {}
        self._seq = 0

    def feed(self, line: str) -> Iterator[Event]:
        """The events that `line` tells of: an exit also proves the entry before it."""
        match = _LINE.match(line)
        if match is None:
            return
        vcpu, icount, text = int(match["vcpu"]), int(match["icount"]), match["text"]
        processor = self._processors.setdefault(vcpu, _Processor())
        if entry := _ENTRY.match(text):
            processor.vmcs, processor.entering, processor.refused = int(entry["vmcs"], 16), icount, None
        elif refused := _REFUSED.match(text):
            processor.refused = refused["why"] or refused["other"]
        elif failed := _VMFAIL.match(text):
            processor.entering = None
            yield self._event(icount, vcpu, "vmfail", more={"bochs": failed["why"]})
        elif left := _EXIT.match(text):
            number, qualification = int(left["reason"]) & 0xFFFF, int(left["qualification"], 16)
            event = Event(
                0, icount, vcpu, "exit", reason=number, name=_name(number), qualification=qualification
            )
            if processor.refused is not None:
                more = {"bochs": processor.refused}
                event = replace(event, kind="entry_failure", more=more)
                processor.entering = processor.refused = None
            yield from self.end(vcpu)
            yield self._numbered(event)

    def end(self, vcpu: int) -> Iterator[Event]:
        """The entry that nothing has proved yet, if there is one: the guest runs."""
        processor = self._processors.setdefault(vcpu, _Processor())
        if processor.entering is not None:
            yield self._event(processor.entering, vcpu, "entry")
            processor.entering = None

    @property
    def vcpus(self) -> list[int]:
        """The vCPUs that the log has spoken of."""
        return sorted(self._processors)

    def vmcs(self, vcpu: int) -> int | None:
        """Where the VMCS lies that the vCPU entered a guest with last, in machine-physical memory."""
        processor = self._processors.get(vcpu)
        return None if processor is None else processor.vmcs

    def _event(self, icount: int, vcpu: int, kind: str, more: dict[str, str] | None = None) -> Event:
        return self._numbered(Event(0, icount, vcpu, kind, more=more or {}))

    def _numbered(self, event: Event) -> Event:
        self._seq += 1
        return replace(event, seq=self._seq - 1, vmcs=self.vmcs(event.vcpu))


def _name(reason: int) -> str | None:
    try:
        return _core.reason(reason)["name"]
    except _core.Error:
        return None
