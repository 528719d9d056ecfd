"""Stop replies: why the machine stands still, as GDB is told."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from .breakpoints import HARDWARE
from .execution import Halt
from .registers import linear_ip

if TYPE_CHECKING:
    from .session import Session

# GDB's own signal numbers.
_NONE, _SIGINT, _SIGTRAP, _SIGABRT = 0, 2, 5, 6
# No trap for a catchpoint: in the middle of `next`, gdb would take it for one of its steps and go on.
_SIGNALS = {"catch": _NONE, "interrupted": _SIGINT, "shutdown": _SIGABRT}
# The machine has left, by its own will; after a triple fault it is still there to be looked at.
GONE = frozenset(("exit", "poweroff", "reset"))
_WATCHES = {"write": b"watch", "read": b"rwatch", "access": b"awatch"}
# Sent with each stop, since gdb always wants them: the frame.
_EXPEDITED = ("rbp", "rsp", "rip")


def stop_reply(session: Session, halt: Halt) -> bytes:
    """The reply for a machine that stands still but can be looked at: all but one that has left."""
    match halt.kind:
        case "exit":
            return b"W%02x" % (halt.stop["status"] & 0xFF)
        case "poweroff" | "reset":
            return b"W00"
        case _:
            return b"T%02x" % _SIGNALS.get(halt.kind, _SIGTRAP) + b"".join(
                b"%s:%s;" % pair for pair in _details(session, halt)
            )


def shut_down() -> bytes:
    """The reply to going on after a triple fault or VMX abort, which a stop has told of before."""
    return b"X%02x" % _SIGABRT


def _details(session: Session, halt: Halt) -> Iterator[tuple[bytes, bytes]]:
    if halt.kind == "watch":
        yield _WATCHES[halt.stop["watch"]], b"%x" % halt.stop["address"]
    if halt.kind == "breakpoint":
        address = linear_ip(session.core, halt.world)
        hardware = session.breakpoints.kind_at(address) == HARDWARE
        reason = b"hwbreak" if hardware else b"swbreak"
        if reason in session.client_features:
            yield reason, b""
    yield b"thread", b"%x" % session.threads.id_of(halt.world)
    yield b"core", b"%x" % halt.world.vcpu
    for number, register in enumerate(session.registers.registers):
        if register.name in _EXPEDITED:
            yield b"%x" % number, session.registers.encode(register, halt.world)
