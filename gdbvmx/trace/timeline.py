"""Pairs the entries and exits of each vCPU: stretches in which a guest ran, and its hypervisor."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from .events import Event


@dataclass(frozen=True)
class GuestRun:
    """A guest ran from `entry` to `exit`. A trace that starts inside the guest has no entry."""

    entry: Event | None
    exit: Event

    @property
    def instructions(self) -> int | None:
        return None if self.entry is None else self.exit.icount - self.entry.icount


@dataclass(frozen=True)
class Handling:
    """A hypervisor ran from `exit` to the next `entry`, None if the trace ends before it."""

    exit: Event
    entry: Event | None

    @property
    def instructions(self) -> int | None:
        return None if self.entry is None else self.entry.icount - self.exit.icount


def stretches(events: Iterable[Event]) -> Iterator[GuestRun | Handling]:
    """Yields each stretch when it ends, those that the trace's end cuts off last."""
    entered: dict[int, Event] = {}
    exited: dict[int, Event] = {}
    for event in events:
        if event.kind == "entry":
            if event.vcpu in exited:
                yield Handling(exited.pop(event.vcpu), event)
            entered[event.vcpu] = event
        elif event.kind == "exit":
            yield GuestRun(entered.pop(event.vcpu, None), event)
            exited[event.vcpu] = event
    for event in exited.values():
        yield Handling(event, None)
