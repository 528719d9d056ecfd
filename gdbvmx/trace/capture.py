"""Records a trace from a running stub, with gdb and the plugin driven over gdb's machine interface."""

from __future__ import annotations

import re
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from math import ceil
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from pygdbmi.constants import GdbTimeoutError
from pygdbmi.gdbcontroller import GdbController

from gdbvmx.gdbstart import LOAD_COMMAND

# How long a target runs at least between two looks at what it recorded: in seconds, and as a multiple of what
# the last look took.
_LOOK = 1.0
_SHARE = 4
# How long the plugin gets to stop by itself at the next event, in seconds, before the target is interrupted.
_PATIENCE = 10.0

# How gdb's machine interface calls a stop that was asked for.
INTERRUPTED = "signal-received"


class CaptureError(Exception):
    """gdb or the target could not do it; the text is what gdb said."""


class Gdb:
    """A gdb with the plugin loaded. Commands are its command line's; each returns what it printed."""

    def __init__(self, gdb: str = "gdb", timeout: float = 30) -> None:
        self.timeout = timeout
        try:
            self._controller = GdbController([gdb, "-nx", "-q", "--interpreter=mi3"])
        except (OSError, ValueError) as error:
            raise CaptureError(f"cannot start {gdb}: {error}") from error
        self._token = 0
        self._running = False
        self._records: deque[dict[str, Any]] = deque()
        self._stops: deque[str] = deque()  # stops that came while a command's result was waited for
        # Without mi-async gdb would hear no -exec-interrupt while the target runs.
        # A stub at the end of a slow line takes longer to answer than the 2 seconds that gdb waits.
        settings = ("set pagination off", "set confirm off", "set mi-async on", "set remotetimeout 60")
        for command in (*settings, LOAD_COMMAND):
            self.command(command)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._controller.exit()

    def command(self, command: str) -> str:
        """Runs `command` and returns its output. Raises CaptureError with gdb's message if it fails."""
        quoted = command.replace("\\", "\\\\").replace('"', '\\"')
        return self.mi(f'-interpreter-exec console "{quoted}"', command)

    def mi(self, command: str, shown: str | None = None) -> str:
        """Runs the machine-interface command and returns what it printed on the console."""
        shown = shown or command
        # The token tells the answer from that of a command whose waiting was interrupted.
        self._token += 1
        self._controller.write(f"{self._token}{command}", read_response=False)
        end = time.monotonic() + self.timeout
        printed = []
        while (record := self._next(end)) is not None:
            if record["type"] == "console":
                printed.append(record["payload"] or "")
            elif record["type"] == "result" and record["token"] == self._token:
                if record["message"] == "error":
                    raise CaptureError(f"{shown}: {record['payload']['msg']}")
                return "".join(printed)
            else:
                self._note_stop(record)
        raise CaptureError(f"{shown}: no answer from gdb in {self.timeout:g} s")

    def resume(self) -> None:
        """Lets the target run."""
        self.forget_stops()
        self._running = True
        self.mi("-exec-continue")

    def forget_stops(self) -> None:
        """Stops from before, as that of attaching, are no answer to what comes."""
        self._stops.clear()

    def wait_for_stop(self, timeout: float) -> str | None:
        """The reason of the next stop, as the machine interface names it; None after `timeout` seconds."""
        end = time.monotonic() + timeout
        while not self._stops:
            record = self._next(end)
            if record is None:
                return None
            self._note_stop(record)
        return self._stops.popleft()

    def interrupt(self) -> str:
        """Stops the target if it runs; gives the reason, INTERRUPTED if it is this. Raises CaptureError."""
        if not self._running and not self._stops:
            return INTERRUPTED
        end = time.monotonic() + self.timeout
        while time.monotonic() < end:
            # A terminal sends its interrupt to gdb too, which then stops the target by itself; and one that
            # comes while gdb looks at a breakpoint of its own is lost.
            with suppress(CaptureError):
                self.mi("-exec-interrupt")
            stopped = self.wait_for_stop(_LOOK)
            if stopped is not None:
                return stopped
        raise CaptureError(f"the target did not stop within {self.timeout:g} s")

    def _note_stop(self, record: dict[str, Any]) -> None:
        if record["type"] != "notify":
            return
        if record["message"] == "stopped":
            self._running = False
            self._stops.append((record["payload"] or {}).get("reason", "unknown"))
        elif record["message"] == "thread-group-exited" and self._running:
            # A stub that ends with its machine, as QEMU's, may close the connection without another word.
            self._running = False
            self._stops.append("exited")

    def _next(self, end: float) -> dict[str, Any] | None:
        """The next thing that gdb says; None at the time `end`. Raises CaptureError if gdb has ended."""
        while not self._records:
            left = end - time.monotonic()
            if left <= 0:
                return None
            process = self._controller.gdb_process
            if process is None or process.poll() is not None:
                raise CaptureError("gdb ended")
            with suppress(GdbTimeoutError):
                self._records.extend(self._controller.get_gdb_response(timeout_sec=min(left, 1)))
        return self._records.popleft()


@dataclass(frozen=True)
class Limits:
    """When a recording ends that nothing else ends: after `seconds`, or with `events` in the trace."""

    seconds: float = float("inf")
    events: int | None = None


Progress = Callable[[float, int], None]


def capture(
    target: str,
    output: Path,
    limits: Limits,
    commands: Sequence[str] = (),
    gdb: str = "gdb",
    progress: Progress = lambda seconds, events: None,
) -> str:
    """Attaches to the stub at `target` ([HOST:]PORT) and records until the machine stops, or to a limit.

    `commands` run before attaching. The trace goes to `output`, also when an exception as KeyboardInterrupt
    ends the recording. `progress` is told the seconds that passed and the events so far. Returns why it
    ended. Raises CaptureError.
    """
    with Gdb(gdb) as session:
        for command in commands:
            session.command(command)
        # Extended: gdb stays connected when the machine ends, and the trace can still be had.
        session.command(f"target extended-remote {target}")
        by_breakpoints = "breakpoints" in session.command("vmx trace start")
        stopped: str | None = None
        try:
            stopped, ended = _record(session, limits, progress, _PATIENCE if by_breakpoints else 0)
        finally:
            if stopped is None:
                session.interrupt()
            session.command(f"vmx trace save {output}")
            if stopped is None or not stopped.startswith("exited"):
                session.command("detach")
        if limits.events is not None:
            _cut(output, limits.events)
        return ended


def _record(session: Gdb, limits: Limits, progress: Progress, patience: float) -> tuple[str | None, str]:
    """Runs the target. Returns the stop that ended it, None for a limit of time, and this in words."""
    start = time.monotonic()
    look = _LOOK
    while True:
        left = max(0, start + limits.seconds - time.monotonic())
        # Where gdb stops at each event, an interrupt is apt to come at a breakpoint, which gdb then takes for
        # seen: there, the plugin stops by itself.
        session.command(f"set vmx-pause {ceil(min(left, look))}")
        session.resume()
        stopped = session.wait_for_stop(min(left, look))
        asked = time.monotonic()
        if stopped is None and asked - start >= limits.seconds:
            return None, f"{limits.seconds:g} s passed"
        stopped = stopped or session.wait_for_stop(patience) or session.interrupt()
        events, paused = _status(session)
        if stopped != INTERRUPTED and not paused:
            return stopped, stopped  # it stopped by itself
        passed = time.monotonic() - start
        progress(passed, events)
        if limits.events is not None and events >= limits.events:
            return stopped, f"{limits.events} events recorded"
        if passed >= limits.seconds:
            return stopped, f"{limits.seconds:g} s passed"
        look = max(_LOOK, _SHARE * (time.monotonic() - asked))


def _status(session: Gdb) -> tuple[int, bool]:
    """How many events the trace has, and whether the plugin stopped to let us look: from what it says."""
    said = session.command("vmx trace status")
    number = re.search(r"\d+", said)
    return int(number[0]) if number else 0, "Paused" in said


def _cut(path: Path, events: int) -> None:
    """Leaves as many events in the trace file, after its header."""
    with path.open(encoding="utf-8") as file:
        lines = list(islice(file, events + 1))
    path.write_text("".join(lines), encoding="utf-8")
