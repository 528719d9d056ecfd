"""The arguments of packets: hexadecimal numbers and strings, and errors about them."""

from __future__ import annotations

import string

_HEX = frozenset(string.hexdigits.encode())


class PacketError(Exception):
    """A request that is refused. The text goes to clients that show it, `number` to the others."""

    def __init__(self, text: str, number: int = 1) -> None:
        super().__init__(text)
        self.number = number


def number(text: bytes) -> int:
    """A hexadecimal number of at most 64 bits."""
    if not 0 < len(text) <= 16 or not _HEX.issuperset(text):
        raise PacketError(f"found '{_shown(text)}', expected a hexadecimal number of up to 16 digits")
    return int(text, 16)


def numbers(text: bytes, count: int) -> list[int]:
    """`count` hexadecimal numbers with commas between."""
    parts = text.split(b",")
    if len(parts) != count:
        raise PacketError(f"found {len(parts)} numbers in '{_shown(text)}', expected {count}")
    return [number(part) for part in parts]


def unhex(text: bytes) -> bytes:
    """The bytes that pairs of hexadecimal digits name."""
    if len(text) % 2 or not _HEX.issuperset(text):
        raise PacketError(f"found '{_shown(text)}', expected pairs of hexadecimal digits")
    return bytes.fromhex(text.decode("ascii"))


def address_range(text: bytes) -> tuple[int, int]:
    """An address and a length in bytes, `ADDRESS,LENGTH`. The range ends within the 64-bit space."""
    address, length = numbers(text, 2)
    if address + length > 1 << 64:
        raise PacketError(f"{length:#x} bytes at {address:#x} reach beyond 64 bits")
    return address, length


def _shown(text: bytes) -> str:
    shown = text[:40].decode("ascii", "backslashreplace")
    return shown if len(text) <= 40 else f"{shown}…"
