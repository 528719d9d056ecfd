"""Where the guest's serial port and debug console go: standard output or error, a file, or nowhere; and what
comes in by standard input."""

from __future__ import annotations

import os
import select
import sys
import termios
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from .errors import CommandError

STDIN, STDOUT, STDERR = 0, 1, 2


class Output:
    """Takes the bytes that a guest writes, unbuffered: what was written is there when the guest dies."""

    def __init__(self, descriptor: int | None) -> None:
        self._descriptor = descriptor

    def write(self, data: bytes) -> None:
        if self._descriptor is None:
            return
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(self._descriptor, rest) :]


def open_output(option: str, where: str, standard: dict[str, int]) -> Output:
    """The output that the value `where` of `option` names: one of `standard`, `none`, or a file to write."""
    if where == "none":
        return Output(None)
    if where in standard:
        return Output(standard[where])
    try:
        return Output(os.open(Path(where), os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666))
    except OSError as error:
        raise CommandError(f"{option} {where}: {error.strerror}") from error


@contextmanager
def terminal_input(wanted: bool) -> Iterator[bool]:
    """While it lasts, keys go to the guest one by one, if `wanted` and standard input is a terminal.

    Gives whether they do. Ctrl-C still interrupts. The terminal is put back whatever happens.
    """
    if not wanted or not sys.stdin.isatty():
        yield False
        return
    saved = termios.tcgetattr(STDIN)
    raw = termios.tcgetattr(STDIN)
    raw[0] &= ~(termios.ICRNL | termios.INLCR | termios.IGNCR | termios.IXON)
    raw[3] &= ~(termios.ICANON | termios.ECHO | termios.IEXTEN)
    raw[6][termios.VMIN], raw[6][termios.VTIME] = 1, 0
    try:
        termios.tcsetattr(STDIN, termios.TCSADRAIN, raw)
        yield True
    finally:
        termios.tcsetattr(STDIN, termios.TCSADRAIN, saved)


class Input:
    """Standard input on its way to a guest: keys, or a pipe or a file to its end.

    `give` takes what finds room in the machine and says how many bytes those were; the rest waits here.
    """

    def __init__(self, give: Callable[[bytes], int]) -> None:
        self._give = give
        self._open = sys.stdin is not None
        self._waiting = b""
        self._given = False

    def pump(self, timeout: float = 0) -> None:
        """Gives the guest what is there, waiting at most `timeout` seconds of host time for a first byte."""
        if self._open and not self._waiting and select.select([STDIN], [], [], timeout)[0]:
            self._waiting = os.read(STDIN, 4096)
            self._open = bool(self._waiting)
        taken = self._give(self._waiting) if self._waiting else 0
        self._waiting = self._waiting[taken:]
        self._given = taken > 0

    def awaited(self, timeout: float) -> bool:
        """Waits so long for something to wake a halted guest with; False if nothing can come that would."""
        if not self._given and not self._waiting:
            self.pump(timeout)
        return self._given or (self._open and not self._waiting)
