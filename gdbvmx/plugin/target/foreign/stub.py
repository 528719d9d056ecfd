"""A stub that is not gdbvmx's, by packets of its own: gdb neither sees nor caches what is done here.

What is changed is put back by who changes it, so what gdb knows stays true.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Callable, Optional
from xml.etree import ElementTree

from .. import TargetError

# Sends a packet and gives the answer; None for the empty one, which says that the stub knows no such packet.
Send = Callable[[bytes], Optional[bytes]]

_PIECE = 0x400
# What tells the processor's mode and its paging.
_MODE = ("cr0", "cr3", "cr4", "efer")
# Not canonical: no breakpoint is there.
_NOWHERE = 1 << 63


class Stub:
    """Registers, memory and steps of one thread of the stub behind `send`."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._numbers: dict[str, tuple[int, int]] = {}
        self._tells_breakpoints: bool | None = None

    def ask(self, packet: bytes) -> bytes:
        """The answer to a packet. Raises TargetError for none and for an error."""
        answer = self._send(packet)
        if answer is None:
            raise TargetError(f"the stub does not know the packet {packet.split(b':')[0].decode()}")
        if answer.startswith(b"E"):
            asked = packet[:40].decode("ascii", "replace")
            raise TargetError(f"the stub answers {asked} by {answer.decode('utf-8', 'replace')}")
        return answer

    def knows(self, packet: bytes) -> bytes | None:
        """The answer to a packet, None if the stub does not know it or refuses."""
        answer = self._send(packet)
        return None if not answer or answer.startswith(b"E") else answer

    # Registers.

    def registers(self) -> dict[str, tuple[int, int]]:
        """Numbers and sizes in bytes of the registers, by name, as the stub's target description has them."""
        if not self._numbers:
            self._numbers = dict(self._described("target.xml"))
            if "rip" not in self._numbers and "eip" not in self._numbers:
                raise TargetError("the stub describes no x86 registers (qXfer:features:read)")
        return self._numbers

    def read(self, name: str) -> int:
        number, _ = self._number(name)
        answer = self.ask(b"p%x" % number)
        try:
            return int.from_bytes(bytes.fromhex(answer.decode("ascii")), "little")
        except ValueError:
            raise TargetError(f"the stub does not tell {name}") from None

    def read_all(self) -> dict[str, int]:
        """The registers of the packet g by name, and those that tell the mode, as far as the stub has them.

        QEMU takes its registers from KVM for g alone: until then, once the processor has run, it answers p
        with what they were, and loses what P writes.
        """
        values = bytes.fromhex(self.ask(b"g").replace(b"x", b"0").decode("ascii"))
        found: dict[str, int] = {}
        at = expected = 0
        for name, (number, size) in sorted(self.registers().items(), key=lambda item: item[1]):
            if number != expected or at + size > len(values):
                break  # what follows is not in g
            found[name] = int.from_bytes(values[at : at + size], "little")
            at, expected = at + size, number + 1
        for name in _MODE:
            if name not in found and name in self.registers():
                found[name] = self.read(name)
        return found

    def write(self, name: str, value: int) -> None:
        number, size = self._number(name)
        self.ask(b"P%x=%s" % (number, value.to_bytes(size, "little").hex().encode()))

    def _number(self, name: str) -> tuple[int, int]:
        try:
            return self.registers()[name]
        except KeyError:
            raise TargetError(f"the stub describes no register {name}") from None

    def _described(self, document: str, first: int = 0) -> Iterator[tuple[str, tuple[int, int]]]:
        """Registers are numbered on from one to the next, through the documents that are included."""
        text = self._document(document)
        try:
            root = ElementTree.fromstring(text)
        except ElementTree.ParseError as error:
            raise TargetError(f"the stub's target description {document} is damaged: {error}") from error
        number = first
        for element in root.iter():
            if element.tag == "include":
                for name, place in self._described(element.get("href", ""), number):
                    yield name, place
                    number = place[0] + 1
            elif element.tag == "reg":
                number = int(element.get("regnum", number))
                yield element.get("name", ""), (number, int(element.get("bitsize", "64")) // 8)
                number += 1

    def _document(self, name: str) -> bytes:
        text = b""
        while True:
            answer = self.ask(b"qXfer:features:read:%s:%x,%x" % (name.encode(), len(text), _PIECE))
            text += _unescaped(answer[1:])
            if answer[:1] == b"l":
                # The DTD is not there to be read; and QEMU includes by a prefix that it never binds.
                return re.sub(rb"<!DOCTYPE[^>]*>|\bxi:|\sxmlns:xi=\"[^\"]*\"", b"", text)

    # Memory.

    def read_memory(self, address: int, length: int) -> bytes:
        """Linear, or physical within `physical`. Raises TargetError for what cannot be read."""
        data = b""
        while len(data) < length:
            step = min(length - len(data), _PIECE)
            piece = bytes.fromhex(self.ask(b"m%x,%x" % (address + len(data), step)).decode("ascii"))
            if not piece:
                raise TargetError(f"nothing can be read at {address + len(data):#x}")
            data += piece
        return data

    def write_memory(self, address: int, data: bytes) -> None:
        self.ask(b"M%x,%x:%s" % (address, len(data), data.hex().encode()))

    # Hardware breakpoints.

    def remove_breakpoint(self, address: int) -> bool:
        """Removes the one at `address`; False if there is none, or the stub would not tell."""
        if self._tells_breakpoints is None:
            self._tells_breakpoints = self.knows(b"z1,%x,1" % _NOWHERE) is None
        return self._tells_breakpoints and self.knows(b"z1,%x,1" % address) is not None

    def insert_breakpoint(self, address: int) -> None:
        self.ask(b"Z1,%x,1" % address)

    @contextmanager
    def physical(self) -> Iterator[None]:
        """Addresses are physical within (QEMU's packet)."""
        if self.knows(b"Qqemu.PhyMemMode:1") != b"OK":
            raise TargetError("the stub reads no physical memory (QEMU's packet qqemu.PhyMemMode)")
        try:
            yield
        finally:
            surely(self.ask, b"Qqemu.PhyMemMode:0")

    # Steps.

    def thread(self) -> bytes | None:
        """The thread that the stub takes for the current one, as it writes it."""
        answer = self.knows(b"qC")
        return answer[2:] if answer and answer.startswith(b"QC") else None

    def masks_interrupts(self) -> bool:
        """Whether single steps hold interrupts back: QEMU's do unless it is told otherwise."""
        answer = self.knows(b"qqemu.sstep")
        return answer is not None and int(answer, 16) & 2 != 0

    def step(self, thread: bytes | None) -> None:
        """One instruction of `thread`; the others stand still where the stub can do that."""
        answer = self._send(b"vCont;s:%s" % thread) if thread else None
        answer = answer or self.ask(b"s")
        if answer[:3] not in (b"T05", b"S05"):
            raise TargetError(f"the target did not step; it answers {answer[:40].decode('ascii', 'replace')}")


def surely(do: Callable[..., object], *arguments: object) -> None:
    """Does what has to be done, and only then lets the user interrupt."""
    try:
        do(*arguments)
    except KeyboardInterrupt:
        do(*arguments)
        raise


def _unescaped(data: bytes) -> bytes:
    return re.sub(rb"}(.)", lambda found: bytes((found[1][0] ^ 0x20,)), data, flags=re.DOTALL)
