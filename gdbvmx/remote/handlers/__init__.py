"""The packets: a short function each, in modules by subject, registered by name.

A handler gets the session and what follows the packet's name. It returns the answer, None for no answer, or a
coroutine of either. It raises PacketError to refuse. A packet that no handler knows gets the empty answer.
"""

from __future__ import annotations

import re

from . import breakpoints, execution, general, memory, monitor, registers, threads, vendor, xfer
from .table import TABLE, Handler

__all__ = ["find", "find_stock"]

# Packets whose first letter says that a longer name follows.
_NAME = re.compile(rb"[qQv][A-Za-z.]+|.", re.DOTALL)

# Importing them fills the table.
_MODULES = (breakpoints, execution, general, memory, monitor, registers, threads, vendor, xfer)


def find(packet: bytes) -> tuple[Handler | None, bytes]:
    """The packet's handler, None if it has none, and what follows the packet's name."""
    match = _NAME.match(packet)
    if match is None:
        return None, b""
    return TABLE.get(match[0]), packet[match.end() :]


def find_stock(packet: bytes) -> tuple[Handler | None, bytes]:
    """As `find`, without the packets that only gdbvmx has."""
    return (None, b"") if packet.startswith(b"qgdbvmx.") else find(packet)
