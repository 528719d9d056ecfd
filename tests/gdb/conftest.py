"""A real gdb with the plugin, attached to a machine of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from gdbvmx.machine import Machine
from gdbvmx.remote import Server, ServerThread
from gdbvmx.trace.capture import CaptureError, Gdb

from .kvmlike import KvmLikeServer


class _Gdb(Gdb):
    """Keeps what gdb prints, whenever it prints it."""

    def __init__(self) -> None:
        self.transcript = ""
        super().__init__()

    def _next(self, end: float) -> dict[str, Any] | None:
        record = super()._next(end)
        if record is not None and record["type"] == "console":
            self.transcript += record["payload"] or ""
        return record


class Debugger:
    """gdb, as a person types into it."""

    def __init__(self, gdb: _Gdb, machine: Machine, server: ServerThread) -> None:
        self._gdb = gdb
        self.machine = machine
        self.server = server

    def __call__(self, command: str) -> str:
        """Runs a command and gives its output."""
        return self._gdb.command(command)

    def error(self, command: str) -> str:
        """Runs a command that fails and gives what gdb says."""
        with pytest.raises(CaptureError) as caught:
            self._gdb.command(command)
        return str(caught.value).removeprefix(f"{command}: ")

    def mi(self, command: str) -> str:
        return self._gdb.mi(command)

    def run(self, command: str = "continue", timeout: float = 60) -> str:
        """Runs a command that resumes the machine, waits for the stop, and gives all that gdb printed."""
        self._gdb.transcript = ""
        self._gdb.forget_stops()
        self._gdb.command(command)
        self.wait(timeout)
        return self._gdb.transcript

    def wait(self, timeout: float = 60) -> None:
        assert self._gdb.wait_for_stop(timeout) is not None, f"no stop; gdb said: {self._gdb.transcript}"
        self._gdb.command("echo")  # what gdb prints at a stop is all there before this is answered

    def value(self, expression: str) -> int:
        return int(self(f"output/d {expression}"))

    def serial(self) -> str:
        return self.machine.serial_text()


def _server(machine: Machine, image: Path, stub: str) -> Server:
    """A server for the machine with a stub that is `own`, `stock` (knows no packets of gdbvmx's) or `kvm`."""
    if stub == "kvm":
        return KvmLikeServer(machine, executable=image)
    return Server(machine, executable=image, stock=stub == "stock")


@contextmanager
def serve(image: Path, append: str, stub: str) -> Iterator[tuple[str, int]]:
    """Serves an image; gives the address."""
    with _server(Machine.boot(image, append=append), image, stub).serve_in_thread() as server:
        yield server.address


@pytest.fixture
def gdb_on(tmp_path: Path) -> Iterator[Callable[..., Debugger]]:
    """Starts an image and a gdb on it."""
    with ExitStack() as stack:

        def start(image: Path, *, append: str = "", attach: bool = True, stub: str = "own") -> Debugger:
            machine = Machine.boot(image, append=append)
            server = stack.enter_context(_server(machine, image, stub).serve_in_thread())
            gdb = stack.enter_context(_Gdb())
            debugger = Debugger(gdb, machine, server)
            if attach:
                host, port = server.address
                debugger(f"target remote {host}:{port}")
            return debugger

        yield start


@pytest.fixture
def gdb(gdb_on, minivisor: Path) -> Debugger:
    """gdb on minivisor, at its first instruction."""
    return gdb_on(minivisor)
