"""A foreign target whose connection has ended, as QEMU ends with its machine: its events are still there."""

from __future__ import annotations

from typing import Any

from .. import TargetError
from . import Events

_METHODS = frozenset(("exits", "last_events", "trace_status", "trace_lines", "trace_show", "trace_stats"))


class GoneTarget:
    """`name` is what gdb was connected to."""

    def __init__(self, name: str, events: Events) -> None:
        self.lack = f"{name} has gone; what was recorded of it is still there (vmx trace, vmx exits)"
        self._events = events

    def abilities(self) -> frozenset[str]:
        return frozenset(("events", "trace"))

    def call(self, method: str, **params: Any) -> Any:
        if method not in _METHODS:
            raise TargetError(f"this needs a target that answers {method}, and {self.lack}")
        return self._events.call(method, **params)
