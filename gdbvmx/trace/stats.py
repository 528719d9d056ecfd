"""Exits counted by reason, port, address or instruction, with what the guest and its hypervisor spent."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from .events import Event
from .timeline import GuestRun, stretches

_IO_INSTRUCTION = 30
_PAGE = 0xFFF


def _reason(event: Event) -> str:
    return event.name or str(event.reason)


def _port(event: Event) -> str | None:
    """The port of an I/O exit: bits 31:16 of its qualification (SDM 28.2.1)."""
    if event.reason != _IO_INSTRUCTION or event.qualification is None:
        return None
    return f"{event.qualification >> 16 & 0xFFFF:#x}"


def _page(event: Event) -> str | None:
    return None if event.guest_physical is None else f"{event.guest_physical & ~_PAGE:#x}"


def _rip(event: Event) -> str | None:
    return None if event.guest_rip is None else f"{event.guest_rip:#x}"


def _msr(event: Event) -> str | None:
    msr = event.more.get("msr")
    return None if msr is None else str(msr)


# What exits can be counted by. An exit to which a key does not apply is left out.
KEYS: Mapping[str, Callable[[Event], str | None]] = {
    "reason": _reason,
    "port": _port,
    "msr": _msr,
    "gpa": _page,
    "rip": _rip,
}


@dataclass
class Row:
    """Exits of one key. Costs are by the trace's clock: `guest` before these exits, `handler` from them to
    the next entry, known for `handled` of them."""

    key: str
    exits: int = 0
    guest: int = 0
    handled: int = 0
    handler: int = 0
    handler_min: int | None = None
    handler_max: int | None = None

    @property
    def handler_mean(self) -> float | None:
        return self.handler / self.handled if self.handled else None

    def to_json(self) -> dict[str, Any]:
        return {
            "key": self.key,
            "exits": self.exits,
            "guest": self.guest,
            "handler": self.handler,
            "handler_min": self.handler_min,
            "handler_mean": self.handler_mean,
            "handler_max": self.handler_max,
        }


@dataclass
class Stats:
    """Totals of a trace: events by kind, and exits in rows, the most frequent first."""

    by: str
    kinds: dict[str, int] = field(default_factory=dict)
    rows: list[Row] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        return {"kinds": self.kinds, "by": self.by, "rows": [row.to_json() for row in self.rows]}


def summarise(events: Iterable[Event], by: str = "reason") -> Stats:
    """Counts exits by one of KEYS."""
    events = list(events)
    key_of = KEYS[by]
    kinds: dict[str, int] = {}
    for event in events:
        kinds[event.kind] = kinds.get(event.kind, 0) + 1
    rows: dict[str, Row] = {}
    for stretch in stretches(events):
        key = key_of(stretch.exit)
        if key is None:
            continue
        row = rows.setdefault(key, Row(key))
        spent = stretch.instructions
        if isinstance(stretch, GuestRun):
            row.exits += 1
            row.guest += spent or 0
        elif spent is not None:
            row.handled += 1
            row.handler += spent
            row.handler_min = spent if row.handler_min is None else min(row.handler_min, spent)
            row.handler_max = spent if row.handler_max is None else max(row.handler_max, spent)
    return Stats(
        by, dict(sorted(kinds.items())), sorted(rows.values(), key=lambda row: (-row.exits, row.key))
    )
