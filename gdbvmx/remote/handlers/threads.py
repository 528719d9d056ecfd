"""Which threads there are, and which of them is meant. Threads are worlds: see ..threads."""

from __future__ import annotations

from ..arguments import PacketError
from ..session import Session
from ..threads import ALL, ANY, thread_id
from .table import packet


@packet(b"H")
def select(session: Session, arguments: bytes) -> bytes:
    """`Hg`: the thread of registers and memory. `Hc`, of the old `s` and `c`, is the same."""
    if arguments[:1] not in (b"g", b"c"):
        raise PacketError("expected Hg or Hc")
    thread = thread_id(arguments[1:])
    if arguments[:1] == b"g" or thread not in (ANY, ALL):
        session.select(thread)
    return b"OK"


@packet(b"T")
def alive(session: Session, arguments: bytes) -> bytes:
    thread = thread_id(arguments)
    if session.gone or thread not in session.threads.names():
        raise PacketError(f"there is no thread {thread} now")
    return b"OK"


@packet(b"qC")
def current(session: Session, arguments: bytes) -> bytes:
    return b"QC%x" % session.threads.id_of(session.world)


@packet(b"qfThreadInfo")
def first_threads(session: Session, arguments: bytes) -> bytes:
    if session.gone:
        return b"l"
    return b"m" + b",".join(b"%x" % thread for thread in sorted(session.threads.names()))


@packet(b"qsThreadInfo")
def more_threads(session: Session, arguments: bytes) -> bytes:
    return b"l"


@packet(b"qThreadExtraInfo")
def extra_info(session: Session, arguments: bytes) -> bytes:
    thread = thread_id(arguments.removeprefix(b","))
    name = session.threads.names().get(thread)
    if name is None:
        raise PacketError(f"there is no thread {thread} now")
    return name.encode().hex().encode()
