"""Worlds as threads: the host of each vCPU, and each guest by its VMCS."""

from __future__ import annotations

from typing import NamedTuple
from xml.sax.saxutils import quoteattr

from gdbvmx import _core

from .arguments import PacketError, number


class World(NamedTuple):
    """The host of a vCPU (`vmcs` is None), or the guest whose VMCS region is at that physical address."""

    vcpu: int
    vmcs: int | None = None


ANY = 0
ALL = -1


class Threads:
    """Thread ids of worlds. An id belongs to its world for good: gdb's numbers stay what they were."""

    def __init__(self, machine: _core.Machine) -> None:
        self._machine = machine
        self._ids: dict[World, int] = {}
        self._worlds: dict[int, World] = {}
        for vcpu in range(machine.cpus):
            self.id_of(World(vcpu))

    def id_of(self, world: World) -> int:
        if world not in self._ids:
            self._ids[world] = len(self._ids) + 1
            self._worlds[self._ids[world]] = world
        return self._ids[world]

    def world(self, thread: int) -> World:
        """Raises PacketError for the id of no thread."""
        try:
            return self._worlds[thread]
        except KeyError:
            raise PacketError(f"there is no thread {thread}") from None

    def running(self, vcpu: int = 0) -> World:
        """The world that the vCPU is in."""
        return World(vcpu, self._machine.current_world(vcpu))

    def stepped(self, world: World) -> World:
        """The world that a client is shown after an instruction of `world`: the same, if suspended."""
        return world

    def physical(self, world: World) -> World:
        """Whose physical addresses a client means that has selected `world`: a guest's are guest-physical."""
        return world

    def names(self) -> dict[int, str]:
        """The threads that there are now, by id, with their names."""
        return {
            self.id_of(World(info["vcpu"], info["vmcs"])): info["name"] for info in self._machine.worlds()
        }

    def as_xml(self) -> bytes:
        """The document that answers `qXfer:threads:read`."""
        rows = (
            f'<thread id="{thread:x}" core="{self.world(thread).vcpu}" name={quoteattr(name)}/>'
            for thread, name in sorted(self.names().items())
        )
        return "\n".join(('<?xml version="1.0"?>', "<threads>", *rows, "</threads>")).encode()


class Processors(Threads):
    """Threads as other machines' stubs have them: one for each vCPU, in whatever world it is."""

    def id_of(self, world: World) -> int:
        return world.vcpu + 1

    def world(self, thread: int) -> World:
        if not 1 <= thread <= self._machine.cpus:
            raise PacketError(f"there is no thread {thread}")
        return self.running(thread - 1)

    def stepped(self, world: World) -> World:
        return self.running(world.vcpu)

    def physical(self, world: World) -> World:
        return World(world.vcpu)

    def names(self) -> dict[int, str]:
        return {vcpu + 1: f"vCPU {vcpu}" for vcpu in range(self._machine.cpus)}


def thread_id(text: bytes) -> int:
    """A thread id of a packet: `ALL`, `ANY` or a number. Of `pPID.TID` the second: there is one process."""
    if text.startswith(b"p"):
        _, _, text = text.partition(b".")
        text = text or b"-1"
    return ALL if text == b"-1" else number(text)
