"""A world's memory by linear or by physical address."""

from __future__ import annotations

from collections.abc import Iterator

from gdbvmx import _core

from .threads import World

_PAGE = 0x1000


class Memory:
    """The memory of `world`. `physical`: by physical address; a guest's with EPT are guest-physical."""

    def __init__(self, machine: _core.Machine, world: World, *, physical: bool) -> None:
        self._machine = machine
        self._world = world
        self._physical = physical

    def read(self, address: int, length: int) -> bytes:
        """Raises `_core.Error` naming the first byte that cannot be read."""
        if not self._physical:
            return self._machine.read_memory(address, length, self._world.vcpu, self._world.vmcs)
        return b"".join(
            self._machine.read_physical(self._to_machine(start), size)
            for start, size in _pages(address, length)
        )

    def read_some(self, address: int, length: int) -> bytes:
        """As much as can be read from `address` on. Raises `_core.Error` if that is nothing."""
        try:
            return self.read(address, length)
        except _core.Error:
            out = bytearray()
            for start, size in _pages(address, length):
                try:
                    out += self.read(start, size)
                except _core.Error:
                    if not out:
                        raise
                    break
            return bytes(out)

    def write(self, address: int, data: bytes) -> None:
        """Raises `_core.Error` naming the first byte that cannot be written."""
        if not self._physical:
            self._machine.write_memory(address, data, self._world.vcpu, self._world.vmcs)
            return
        for start, size in _pages(address, len(data)):
            offset = start - address
            self._machine.write_physical(self._to_machine(start), data[offset : offset + size])

    def find(self, address: int, length: int, pattern: bytes, step: int) -> int | None:
        """Where `pattern` is first in these bytes; None if it is not, up to what cannot be read."""
        end = address + length
        while address + len(pattern) <= end:
            wanted = min(step + len(pattern) - 1, end - address)
            try:
                data = self.read_some(address, wanted)
            except _core.Error:
                return None
            found = data.find(pattern)
            if found >= 0:
                return address + found
            if len(data) < wanted:
                return None
            address += step
        return None

    def _to_machine(self, address: int) -> int:
        """The machine's address of a physical address of this world."""
        if self._world.vmcs is None:
            return address
        try:
            walk = self._machine.walk_ept(address, self._world.vcpu, self._world.vmcs)
        except _core.Error:
            return address  # a guest without EPT has the machine's own addresses
        if walk["physical"] is None:
            raise _core.Error(f"guest-physical {address:#x}: {walk['fault']}")
        return walk["physical"]


def _pages(address: int, length: int) -> Iterator[tuple[int, int]]:
    """The range, cut where pages begin."""
    end = address + length
    while address < end:
        size = min(_PAGE - address % _PAGE, end - address)
        yield address, size
        address += size
