"""Packets of GDB's remote serial protocol: frames, checksums, escapes.

GDB's manual, appendix E, "Overview" and "Packet Acknowledgment".
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum, auto

# The longest packet either side may send, in bytes, between `$` and `#`. qSupported tells the client.
PACKET_SIZE = 0x10000

_START, _END, _ESCAPE, _INTERRUPT = b"$#}\x03"
# What must not stand in a packet as it is; `*` would start a run-length in an answer.
_ESCAPED = frozenset(b"#$}*")


@dataclass(frozen=True, slots=True)
class Packet:
    """The data of a packet whose checksum is right, escapes undone."""

    data: bytes


class Mark(Enum):
    """What a client sends beside packets."""

    ACK = auto()
    NAK = auto()
    INTERRUPT = auto()
    """Ctrl-C."""
    DAMAGED = auto()
    """A packet with a wrong checksum, or one that is too long."""


def checksum(data: bytes) -> int:
    return sum(data) & 0xFF


def escape(data: bytes) -> bytes:
    if _ESCAPED.isdisjoint(data):
        return data
    out = bytearray()
    for byte in data:
        if byte in _ESCAPED:
            out += bytes((_ESCAPE, byte ^ 0x20))
        else:
            out.append(byte)
    return bytes(out)


def unescape(data: bytes) -> bytes:
    if _ESCAPE not in data:
        return data
    out = bytearray()
    mask = 0
    for byte in data:
        if byte == _ESCAPE and not mask:
            mask = 0x20
            continue
        out.append(byte ^ mask)
        mask = 0
    return bytes(out)


def frame(data: bytes) -> bytes:
    """The packet that carries `data`, escaped."""
    body = escape(data)
    return b"$%s#%02x" % (body, checksum(body))


class Decoder:
    """Finds packets in the bytes that a client sends, however they are cut. It never holds more than one."""

    def __init__(self, limit: int = PACKET_SIZE) -> None:
        self._limit = 2 * limit  # every byte may be an escaped one
        self._body = bytearray()
        self._state = self._outside
        self._digits = b""

    def feed(self, data: bytes) -> Iterator[Packet | Mark]:
        position = 0
        while position < len(data):
            position, found = self._state(data, position)
            if found is not None:
                yield found

    def _outside(self, data: bytes, position: int) -> tuple[int, Packet | Mark | None]:
        byte = data[position]
        if byte == _START:
            self._body.clear()
            self._state = self._inside
        return position + 1, _MARKS.get(byte)

    def _inside(self, data: bytes, position: int) -> tuple[int, Packet | Mark | None]:
        """Takes bytes up to the `#`. A `$` starts anew: the client gave up in the middle of a packet."""
        end = data.find(b"#", position)
        stop = len(data) if end < 0 else end
        again = data.rfind(b"$", position, stop)
        if again >= 0:
            self._body.clear()
            position = again + 1
        if len(self._body) + stop - position > self._limit:
            self._body.clear()
            self._state = self._outside
            return stop, Mark.DAMAGED
        self._body += data[position:stop]
        if end < 0:
            return stop, None
        self._digits = b""
        self._state = self._sum
        return stop + 1, None

    def _sum(self, data: bytes, position: int) -> tuple[int, Packet | Mark | None]:
        self._digits += data[position : position + 1]
        if len(self._digits) < 2:
            return position + 1, None
        self._state = self._outside
        body, digits = bytes(self._body), self._digits
        self._body.clear()
        try:
            right = int(digits, 16) == checksum(body)
        except ValueError:
            right = False
        return position + 1, Packet(unescape(body)) if right else Mark.DAMAGED


_MARKS = {ord("+"): Mark.ACK, ord("-"): Mark.NAK, _INTERRUPT: Mark.INTERRUPT}
