"""VM exits and other events."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Callable

from .style import Style, place

Symbol = Callable[[int], str]


def exits(events: Sequence[Mapping[str, Any]], symbol: Symbol, style: Style) -> Iterator[str]:
    """One line an event, newest last; below it what else it tells."""
    if not events:
        yield "No VM exit so far."
        return
    yield style.title(f"{'seq':>8} {'instructions':>14} {'vcpu':>4}  {'reason':<28} guest RIP")
    for event in events:
        rip = place(event["guest_rip"], symbol(event["guest_rip"])) if "guest_rip" in event else ""
        counts = f"{event['seq']:>8} {event['icount']:>14} {event['vcpu']:>4}"
        reason = f"{_reason(event):<28}"
        yield f"{counts}  {style.name(reason)} {rip}".rstrip()
        words = ", ".join(_details(event))
        if words:
            yield f"{'':>30}{style.dim(words)}"


def headline(event: Mapping[str, Any], symbol: Symbol) -> str:
    """One event in one phrase, for the line that a stop prints."""
    text = f"{event['kind'].replace('_', ' ')} #{event['seq']}"
    if event.get("name") or "reason" in event:
        text += f" {_reason(event)}"
    if "field" in event:
        text += f" {event['field']} = {event['value']:#x}"
    words = [*_details(event)]
    if "guest_rip" in event:
        words.append(f"guest RIP {place(event['guest_rip'], symbol(event['guest_rip']))}")
    return f"{text}{': ' if words else ''}{', '.join(words)}"


def _reason(event: Mapping[str, Any]) -> str:
    number = event.get("reason")
    # A VMfailInvalid has no error number (SDM 31.2).
    name = event.get("name") or ("VMfailInvalid" if event["kind"] == "vmfail" and not number else "")
    return f"{name} ({number})" if number is not None else name


def _details(event: Mapping[str, Any]) -> Iterator[str]:
    if event["kind"] == "entry_failure":
        yield "VM entry failed"
    if event.get("forced"):
        yield "forced"
    if "rule" in event:
        yield f"rule {event['rule']}"
    for _, meaning in event.get("details", ()):
        yield meaning
    for name in ("guest_linear", "guest_physical"):
        if name in event:
            yield f"{name.replace('_', '-')} {event[name]:#x}"
