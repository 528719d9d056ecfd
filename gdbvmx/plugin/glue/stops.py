"""A line after a stop that VMX has to do with, which says why."""

from __future__ import annotations

import gdb

from ..target import Target, TargetError
from ..target.foreign import ForeignTarget
from ..target.unknown import UnknownTarget
from ..views import events as view
from .connection import forget, known_targets
from .context import GdbContext


def register() -> None:
    gdb.events.stop.connect(_on_stop)
    gdb.events.cont.connect(_on_resume)
    if hasattr(gdb.events, "connection_removed"):
        gdb.events.connection_removed.connect(lambda event: forget(event.connection))


def _on_stop(event: object) -> None:
    try:
        context = GdbContext()
        if isinstance(context.target, UnknownTarget):
            return
        line = _cause(context.target, context)
    except (TargetError, gdb.error):
        return  # a stop is not the place to complain: a command will
    if line:
        gdb.write(f"vmx: {line}\n")


def _on_resume(event: object) -> None:
    for target in known_targets():
        if isinstance(target, ForeignTarget):
            target.forget()


def _cause(target: Target, context: GdbContext) -> str | None:
    if isinstance(target, ForeignTarget):
        caught = target.events.take_caught() if target.events else None
        return f"catchpoint {caught[0]}, {view.headline(caught[1], context.symbol)}" if caught else None
    stop = target.call("last_stop")
    if stop["kind"] == "catch":
        event = stop["event"]
        return f"catchpoint {stop['catch']}, {view.headline(event, context.symbol)}" if event else None
    if stop["kind"] == "shutdown":
        why = target.call("why")
        return f"the processor has shut down: {why['headline']}" if why else "the processor has shut down"
    return None
