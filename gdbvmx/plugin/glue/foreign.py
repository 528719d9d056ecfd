"""A target that is not gdbvmx's, with gdb around it."""

from __future__ import annotations

import re
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import gdb

from ..target import TargetError
from ..target.foreign import CORE_PROBLEM, ForeignTarget
from ..target.foreign.forcing import Forcing
from ..target.foreign.stub import Send, Stub

if TYPE_CHECKING:
    from .transitions import Transitions

_PARAMETER = "vmx-borrow"
# Of every foreign target that there was.
_watched: list[Transitions] = []
# QEMU's words for a migration that has not ended.
_UNDER_WAY = ("setup", "active", "pre-switchover", "device")
# How long QEMU may take to write its state: looks at it, and the seconds between two.
_POLLS, _POLL = 300, 0.1


class _Borrow(gdb.Parameter):
    """Whether the processor of a foreign target may execute VMREAD for the vmx commands.

    auto: where the code at RIP is what the host's page tables lead to; on: always; off: never."""

    set_doc = "Set whether a foreign target's processor may be borrowed for VMREAD."
    show_doc = "Show whether a foreign target's processor may be borrowed for VMREAD."

    def __init__(self) -> None:
        super().__init__(_PARAMETER, gdb.COMMAND_RUNNING, gdb.PARAM_ENUM, ["auto", "on", "off"])
        self.value = "auto"


class _Pause(gdb.Parameter):
    """After how many seconds a foreign target that is recorded stops at the next event; 0: it does not.

    It counts from when it is set, and for one stop."""

    set_doc = "Set after how many seconds a foreign target that is recorded stops."
    show_doc = "Show after how many seconds a foreign target that is recorded stops."

    def __init__(self) -> None:
        super().__init__("vmx-pause", gdb.COMMAND_RUNNING, gdb.PARAM_ZUINTEGER)

    def get_set_string(self) -> str:
        for transitions in _watched:
            transitions.pause_after(int(self.value))
        return ""


class _Gdb:
    """What a foreign target needs of gdb."""

    def allowed(self) -> str:
        return str(gdb.parameter(_PARAMETER))

    def select(self) -> None:
        """gdb tells the stub which thread is selected no sooner than it has to: to read memory it has to."""
        try:
            gdb.selected_inferior().read_memory(gdb.selected_frame().pc(), 1)
        except gdb.MemoryError:
            pass  # the stub was told all the same
        except gdb.error as error:
            raise TargetError(f"gdb has no thread to ask: {error}") from error

    def monitor(self, command: str) -> str:
        try:
            return gdb.execute(f"monitor {command}", to_string=True) or ""
        except gdb.error:
            return ""

    def migration_stream(self) -> bytes | None:
        # QEMU writes the file: that works where it runs beside gdb.
        with tempfile.TemporaryDirectory(prefix="gdbvmx-") as directory:
            path = Path(directory, "stream")
            self.monitor(f'migrate -d "exec:cat >{path}"')
            found = None
            for _ in range(_POLLS):
                found = re.search(r"Migration status: (\S+)", self.monitor("info migrate"))
                if found is None or found[1] not in _UNDER_WAY:
                    break
                time.sleep(_POLL)
            done = found is not None and found[1] == "completed" and path.exists()
            return path.read_bytes() if done else None


def register() -> None:
    _Borrow()
    _Pause()


def foreign_target(name: str, send: Send) -> ForeignTarget:
    """The target behind `send`, as far as it can serve."""
    debugger = _Gdb()
    target = ForeignTarget(name, Stub(send), debugger)
    if not CORE_PROBLEM:
        _watch(target, debugger)
    return target


def _watch(target: ForeignTarget, debugger: _Gdb) -> None:
    """Gives the target catchpoints and traces, where gdb's Python can load what they need."""
    from gdbvmx import _core

    from .transitions import Transitions

    def read(names: Sequence[str]) -> Mapping[str, int]:
        target.forget()
        debugger.select()
        return target.fields(names, known=True)

    def reason_name(number: int) -> str | None:
        try:
            return str(_core.reason(number)["name"])
        except _core.Error:
            return None

    def read_one(name: str) -> int:
        return read((name,))[name]

    forcing = Forcing(read_one, target.write_known, debugger.monitor)
    transitions = Transitions(read, reason_name, _core.qualification, forcing)
    _watched.append(transitions)
    target.events = transitions
