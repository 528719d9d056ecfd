"""Exits that a foreign target can be made to take: by a control of its VMCS, set for the next entry only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Callable

from .. import TargetError


@dataclass(frozen=True)
class _Way:
    """A bit of a control field, and fields to set beside it."""

    field: str
    bit: int
    beside: Mapping[str, int]


# By exit reason (SDM, appendix C; the bits: 25.6.1 and 25.6.2).
_WAYS: Mapping[int, _Way] = {
    7: _Way("primary_processor_based_controls", 2, {}),
    8: _Way("primary_processor_based_controls", 22, {}),
    37: _Way("primary_processor_based_controls", 27, {}),
    52: _Way("pin_based_controls", 6, {"guest_preemption_timer_value": 0}),
}
_EXCEPTION_OR_NMI = 0

Read = Callable[[str], int]
Write = Callable[[str, int], None]


class Forcing:
    """Sets what makes an exit happen, and puts it back after the exit."""

    def __init__(self, read: Read, write: Write, monitor: Callable[[str], str]) -> None:
        self._read = read
        self._write = write
        self._monitor = monitor
        self._before: dict[str, int] = {}

    def force(self, reason: int) -> None:
        """Raises TargetError for a reason that the target cannot be made to exit for."""
        if reason == _EXCEPTION_OR_NMI:
            self._monitor("nmi")  # an exit if the guest's VMCS has NMI exiting
            return
        way = _WAYS.get(reason)
        if way is None:
            raise TargetError(
                "this target can be made to exit for an NMI (0), interrupt-window (7), nmi-window (8),"
                " monitor-trap-flag (37) and preemption-timer (52); gdbvmx's own machine for every reason"
            )
        for name, value in {way.field: self._read(way.field) | 1 << way.bit, **way.beside}.items():
            self._before.setdefault(name, self._read(name))
            self._write(name, value)

    def restore(self) -> None:
        """Puts back what was set; to be called at an exit."""
        before, self._before = self._before, {}
        for name, value in before.items():
            self._write(name, value)
