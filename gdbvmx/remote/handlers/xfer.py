"""Objects that the client reads piece by piece: `qXfer:OBJECT:read:ANNEX:OFFSET,LENGTH`."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from ..arguments import PacketError, numbers
from ..packets import PACKET_SIZE
from ..session import Session
from .table import packet

# All of the 64-bit space, as linear addresses go: what is mapped changes from moment to moment. In two
# halves, since the whole's length is no 64-bit number; the second's end wraps to 0, gdb's word for the top.
_MEMORY_MAP = b"""<?xml version="1.0"?>
<memory-map>
<memory type="ram" start="0x0" length="0x8000000000000000"/>
<memory type="ram" start="0x8000000000000000" length="0x8000000000000000"/>
</memory-map>"""


def _features(session: Session, annex: bytes) -> bytes:
    if annex != b"target.xml":
        raise PacketError(f"there is no {annex.decode('ascii', 'replace')}, only target.xml", 0)
    return session.debuggee.description


def _executable(session: Session, annex: bytes) -> bytes:
    path = session.debuggee.executable
    if path is None:
        raise PacketError("the machine was not started from a file")
    return bytes(path)


_OBJECTS: dict[bytes, Callable[[Session, bytes], bytes]] = {
    b"features": _features,
    b"threads": lambda session, annex: session.threads.as_xml() if not session.gone else b"<threads/>",
    b"memory-map": lambda session, annex: _MEMORY_MAP,
    b"exec-file": _executable,
}


def supported(session: Session) -> Iterator[bytes]:
    """What qSupported says of the objects."""
    for name in _OBJECTS:
        if name != b"exec-file" or session.debuggee.executable is not None:
            yield b"qXfer:%s:read+" % name


@packet(b"qXfer")
def transfer(session: Session, arguments: bytes) -> bytes:
    parts = arguments.removeprefix(b":").split(b":", 3)
    if len(parts) != 4 or parts[0] not in _OBJECTS or parts[1] != b"read":
        return b""
    offset, length = numbers(parts[3], 2)
    content = _OBJECTS[parts[0]](session, parts[2])
    # Half of the packet's size: every byte may need an escape.
    piece = content[offset : offset + min(length, PACKET_SIZE // 2 - 1)]
    return (b"l" if offset + len(piece) >= len(content) else b"m") + piece
