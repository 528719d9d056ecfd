"""Memory: linear addresses of the selected world, or physical ones for a client that asked for that."""

from __future__ import annotations

from collections.abc import Callable

from ..arguments import PacketError, address_range, unhex
from ..memory import Memory
from ..packets import PACKET_SIZE
from ..session import Session
from .table import packet

_SEARCH_STEP = 1 << 20


@packet(b"m")
def read(session: Session, arguments: bytes) -> bytes:
    address, length = address_range(arguments)
    return _memory(session).read_some(address, min(length, PACKET_SIZE // 2)).hex().encode()


@packet(b"x")
def read_binary(session: Session, arguments: bytes) -> bytes:
    address, length = address_range(arguments)
    # Every byte may need an escape.
    return b"b" + _memory(session).read_some(address, min(length, PACKET_SIZE // 2 - 1))


@packet(b"M")
def write(session: Session, arguments: bytes) -> bytes:
    return _write(session, arguments, unhex)


@packet(b"X")
def write_binary(session: Session, arguments: bytes) -> bytes:
    return _write(session, arguments, bytes)


@packet(b"qqemu.PhyMemMode")
def physical_mode(session: Session, arguments: bytes) -> bytes:
    return b"%d" % session.physical


@packet(b"Qqemu.PhyMemMode")
def set_physical_mode(session: Session, arguments: bytes) -> bytes:
    if arguments not in (b":0", b":1"):
        raise PacketError("expected Qqemu.PhyMemMode:0 or :1")
    session.physical = arguments == b":1"
    return b"OK"


@packet(b"qqemu.sstep")
def single_step(session: Session, arguments: bytes) -> bytes:
    """As QEMU's default: single steps hold interrupts and timers back."""
    return b"0x7"


@packet(b"qSearch")
def search(session: Session, arguments: bytes) -> bytes:
    """`qSearch:memory:ADDRESS;LENGTH;PATTERN`: ends at the first byte that cannot be read."""
    kind, _, rest = arguments.removeprefix(b":").partition(b":")
    parts = rest.split(b";", 2)
    if kind != b"memory" or len(parts) != 3 or not parts[2]:
        raise PacketError("expected qSearch:memory:ADDRESS;LENGTH;PATTERN")
    address, length = address_range(b",".join(parts[:2]))
    found = _memory(session).find(address, length, parts[2], _SEARCH_STEP)
    return b"0" if found is None else b"1,%x" % found


def _write(session: Session, arguments: bytes, decode: Callable[[bytes], bytes]) -> bytes:
    head, colon, data = arguments.partition(b":")
    address, length = address_range(head)
    content = decode(data)
    if not colon or len(content) != length:
        raise PacketError(f"found {len(content)} bytes of data, expected {length}")
    if length:
        _memory(session).write(address, content)
    return b"OK"


def _memory(session: Session) -> Memory:
    world = session.threads.physical(session.world) if session.physical else session.world
    return Memory(session.core, world, physical=session.physical)
