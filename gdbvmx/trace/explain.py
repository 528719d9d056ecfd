"""What an event means, in the core's words."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from gdbvmx import _core

from .events import Event


def explain(event: Event) -> str:
    """A few words beside the numbers; empty where these say all."""
    try:
        return _EXPLAIN.get(event.kind, _nothing)(event)
    except _core.Error:
        return ""  # a reason or a field of a newer trace than this core


def _nothing(event: Event) -> str:
    return ""


def _exit(event: Event) -> str:
    if event.reason is None or event.qualification is None:
        return ""
    return ", ".join(meaning for _, meaning in _core.qualification(event.reason, event.qualification))


def _vmfail(event: Event) -> str:
    return "" if event.reason is None else _core.error_text(event.reason)


def _write(event: Event) -> str:
    if event.field is None or event.value is None:
        return ""
    return ", ".join(_core.describe(event.field, event.value))


_EXPLAIN: Mapping[str, Callable[[Event], str]] = {
    "exit": _exit,
    "entry_failure": _exit,
    "vmfail": _vmfail,
    "vmcs_write": _write,
}
