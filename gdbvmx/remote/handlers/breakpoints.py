"""Breakpoints and watchpoints: `Z0` and `Z1` in code, `Z2` to `Z4` on data."""

from __future__ import annotations

from collections.abc import Callable

from ..arguments import PacketError, numbers
from ..session import Session
from .table import packet


@packet(b"Z")
def insert(session: Session, arguments: bytes) -> bytes:
    return _change(arguments, session.breakpoints.insert)


@packet(b"z")
def remove(session: Session, arguments: bytes) -> bytes:
    return _change(arguments, session.breakpoints.remove)


def _change(arguments: bytes, change: Callable[[int, int, int], bool]) -> bytes:
    """`TYPE,ADDRESS,LENGTH`; conditions and commands may follow, which gdb is not told that we take."""
    place, more, _ = arguments.partition(b";")
    if more:
        raise PacketError("conditions of breakpoints are the client's to check")
    kind, address, length = numbers(place, 3)
    return b"OK" if change(kind, address, length) else b""
