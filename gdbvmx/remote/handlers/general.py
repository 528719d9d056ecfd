"""What the client and the server tell each other about themselves, and how they part."""

from __future__ import annotations

from ..arguments import PacketError, unhex
from ..packets import PACKET_SIZE
from ..session import End, Session
from ..stop_reply import stop_reply
from .table import packet
from .xfer import supported as supported_objects

_FEATURES = (
    b"QStartNoAckMode+",
    b"swbreak+",
    b"hwbreak+",
    b"vContSupported+",
    b"error-message+",
    b"binary-upload+",
    b"qgdbvmx.call+",
)


@packet(b"qSupported")
def supported(session: Session, arguments: bytes) -> bytes:
    offered = arguments.removeprefix(b":").split(b";")
    session.client_features = frozenset(it[:-1] for it in offered if it.endswith(b"+"))
    size = b"PacketSize=%x" % PACKET_SIZE
    return b";".join((size, *_FEATURES, *supported_objects(session)))


@packet(b"QStartNoAckMode")
def start_no_ack_mode(session: Session, arguments: bytes) -> bytes:
    session.acknowledge = False
    return b"OK"


@packet(b"!")
def extend(session: Session, arguments: bytes) -> bytes:
    """Extended mode: the client may start the machine anew. It always may."""
    return b"OK"


@packet(b"?")
def halt_reason(session: Session, arguments: bytes) -> bytes:
    return stop_reply(session, session.halt)


@packet(b"qAttached")
def attached(session: Session, arguments: bytes) -> bytes:
    """Yes: a client that quits then detaches, and does not kill."""
    return b"1"


@packet(b"D")
def detach(session: Session, arguments: bytes) -> bytes:
    session.end = End.DETACHED
    return b"OK"


@packet(b"k")
def kill(session: Session, arguments: bytes) -> None:
    session.end = End.KILLED


@packet(b"vKill")
def kill_process(session: Session, arguments: bytes) -> bytes:
    session.end = End.KILLED
    session.gone = True
    return b"OK"


@packet(b"vAttach")
def attach(session: Session, arguments: bytes) -> bytes:
    """There is one machine, whatever number it is called by."""
    return stop_reply(session, session.halt)


@packet(b"vRun")
def run(session: Session, arguments: bytes) -> bytes:
    """Starts the machine anew. Its image is the server's: a file name must be left out or the same."""
    wanted, *words = map(unhex, arguments.removeprefix(b";").split(b";"))
    have = session.debuggee.executable
    if wanted and have is not None and wanted != bytes(have):
        raise PacketError(f"cannot run {wanted.decode('utf-8', 'replace')}: this server has {have}")
    if any(words):
        raise PacketError("the image's command line is the server's: gdbvmx takes it with --append")
    session.restart()
    return stop_reply(session, session.halt)


@packet(b"R")
def restart(session: Session, arguments: bytes) -> None:
    session.restart()
