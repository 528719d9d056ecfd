"""Events as lines of text."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from .events import FIELDS, HEXADECIMAL, Event

# These stand in columns of their own.
_COLUMNS = ("seq", "icount", "vcpu", "kind", "reason", "name")
_DETAILS = tuple(name for name in FIELDS if name not in _COLUMNS)


def line(event: Event, explain: Callable[[Event], str] | None = None) -> str:
    """One line for one event; `explain` adds its words, if it has any."""
    what = event.name or ("" if event.reason is None else str(event.reason))
    words = " ".join(_details(event))
    explanation = explain(event) if explain else ""
    text = f"{event.seq:>7} {event.icount:>12} {event.vcpu:>2} {event.kind:<14} {what:<20} {words}"
    return f"{text}  {explanation}".rstrip()


def _details(event: Event) -> Iterator[str]:
    for name in _DETAILS:
        value = getattr(event, name)
        if value is not None:
            yield f"{name}={_text(name, value)}"
    for name, value in event.more.items():
        yield f"{name}={value}"


def _text(name: str, value: Any) -> str:
    return f"{value:#x}" if name in HEXADECIMAL else str(value)


HEADING = f"{'seq':>7} {'icount':>12} {'#':>2} {'kind':<14} {'reason':<20} details"
