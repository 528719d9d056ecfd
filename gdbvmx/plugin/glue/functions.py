"""`$vmcs("guest_rip")` in any expression."""

from __future__ import annotations

import gdb

from ..target import TargetError
from .connection import current_target


class _Vmcs(gdb.Function):
    """$vmcs("FIELD"): the value of a field of the selected world's VMCS."""

    def __init__(self) -> None:
        super().__init__("vmcs")

    def invoke(self, field: gdb.Value) -> int:
        try:
            return int(current_target().call("read_field", field=field.string()))
        except TargetError as error:
            raise gdb.GdbError(f"{error}") from error


def register() -> None:
    _Vmcs()
