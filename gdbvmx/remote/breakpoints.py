"""Breakpoints and watchpoints that clients set. They stand beside the machine, never in its memory."""

from __future__ import annotations

from gdbvmx import _core

from .arguments import PacketError

SOFTWARE, HARDWARE = 0, 1
# Types of the packets Z and z.
_WATCHPOINTS = {2: "write", 3: "read", 4: "access"}


class Breakpoints:
    """What a client has set, by (type, linear address, length in bytes). It holds in every world."""

    def __init__(self, machine: _core.Machine) -> None:
        self._machine = machine
        self._set: set[tuple[int, int, int]] = set()

    def insert(self, kind: int, address: int, length: int) -> bool:
        """Sets it, once however often it is asked for. False for a type that there is not."""
        if kind not in (SOFTWARE, HARDWARE, *_WATCHPOINTS):
            return False
        key = (kind, address, length)
        if key in self._set:
            return True
        if kind in _WATCHPOINTS:
            if not 0 < length <= _LONGEST or address + length > 1 << 64:
                raise PacketError(f"a watchpoint of {length} bytes at {address:#x}; expected 1 to {_LONGEST}")
            self._machine.add_watchpoint(address, length, _WATCHPOINTS[kind])
        else:
            self._machine.add_breakpoint(address)
        self._set.add(key)
        return True

    def remove(self, kind: int, address: int, length: int) -> bool:
        """Removes it, if it is there. False for a type that there is not."""
        if kind not in (SOFTWARE, HARDWARE, *_WATCHPOINTS):
            return False
        key = (kind, address, length)
        if key in self._set:
            self._set.remove(key)
            if kind in _WATCHPOINTS:
                self._machine.remove_watchpoint(address, length, _WATCHPOINTS[kind])
            else:
                self._machine.remove_breakpoint(address)
        return True

    def kind_at(self, address: int) -> int:
        """`SOFTWARE` or `HARDWARE`: of which type the breakpoint there is."""
        types = {kind for kind, where, _ in self._set if where == address}
        return HARDWARE if HARDWARE in types and SOFTWARE not in types else SOFTWARE

    def clear(self) -> None:
        self._set.clear()
        self._machine.clear_breakpoints()


# A watchpoint is compared with every access, so one may be long; but one that covers everything is a mistake.
_LONGEST = 1 << 20
