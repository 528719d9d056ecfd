"""The target behind gdb's connection."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import gdb

from ..target import Target, TargetError
from ..target.foreign import ForeignTarget
from ..target.foreign.gone import GoneTarget
from ..target.gdbvmx import GdbvmxTarget, Send, speaks
from ..target.unknown import UnknownTarget
from .foreign import foreign_target

# By the number of gdb's connection: it is asked once what it is.
_known: dict[int, Target] = {}
# What gdb was connected to last, if something is left of it.
_gone: GoneTarget | None = None


def current_target() -> Target:
    """What the selected inferior is connected to. Raises TargetError while it runs."""
    thread = gdb.selected_thread()
    if thread is not None and thread.is_running():
        raise TargetError("the machine is running; interrupt it first")
    connection = getattr(gdb.selected_inferior(), "connection", None)
    if connection is None and hasattr(gdb, "TargetConnection"):
        return _gone or UnknownTarget("gdb is connected to nothing")
    if connection is not None and not hasattr(connection, "send_packet"):
        return UnknownTarget(f"gdb is connected to a {connection.type} target")
    number = connection.num if connection is not None else 0
    if number not in _known or connection is None:
        _known[number] = _find(connection)
    return _known[number]


def known_targets() -> list[Target]:
    """Those that were asked what they are."""
    return list(_known.values())


def forget(connection: object) -> None:
    global _gone
    target = _known.pop(getattr(connection, "num", 0), None)
    if isinstance(target, ForeignTarget) and target.events is not None:
        target.events.close()
        _gone = GoneTarget(target.name, target.events)
    elif target is not None:
        _gone = None


def thread_id() -> int | None:
    """The selected thread as the stub numbers it."""
    thread = gdb.selected_thread()
    return thread.ptid[1] if thread is not None and thread.is_valid() else None


def _find(connection: gdb.TargetConnection | None) -> Target:
    name = "the stub"
    send: Send = _send_by_maintenance
    if connection is not None:
        name = f"the stub at {connection.details}"
        send = _sender(connection)
    return GdbvmxTarget(name, send, thread_id) if speaks(send) else foreign_target(name, send)


def _sender(connection: gdb.RemoteTargetConnection) -> Send:
    def send(packet: bytes) -> bytes | None:
        with _patience():
            return connection.send_packet(packet) or None

    return send


@contextmanager
def _patience() -> Iterator[None]:
    """A long trace takes longer to count than the 2 seconds that gdb waits for an answer."""
    before = gdb.parameter("remotetimeout")
    gdb.execute(f"set remotetimeout {max(before, 60)}", to_string=True)
    try:
        yield
    finally:
        gdb.execute(f"set remotetimeout {before}", to_string=True)


def _send_by_maintenance(packet: bytes) -> bytes | None:
    """For a gdb before 12, which has no connections in Python."""
    try:
        with _patience():
            text = gdb.execute(f"maintenance packet {packet.decode('ascii')}", to_string=True)
    except gdb.error:
        return None
    found = re.search(r'received: "([0-9a-f]*)"', text)
    return found[1].encode("ascii") if found and found[1] else None
