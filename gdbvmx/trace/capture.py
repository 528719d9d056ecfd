"""Records a trace from a running stub, with gdb and the plugin driven over gdb's machine interface."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from pygdbmi.constants import GdbTimeoutError
from pygdbmi.gdbcontroller import GdbController

from gdbvmx.gdbstart import LOAD_COMMAND


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
        self._records: deque[dict[str, Any]] = deque()
        self._stops: deque[str] = deque()  # stops that came while a command's result was waited for
        # Without mi-async gdb would hear no -exec-interrupt while the target runs.
        for command in ("set pagination off", "set confirm off", "set mi-async on", LOAD_COMMAND):
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
        self._controller.write(command, read_response=False)
        end = time.monotonic() + self.timeout
        printed = []
        while (record := self._next(end)) is not None:
            if record["type"] == "console":
                printed.append(record["payload"] or "")
            elif record["type"] == "result":
                if record["message"] == "error":
                    raise CaptureError(f"{shown}: {record['payload']['msg']}")
                return "".join(printed)
            else:
                self._note_stop(record)
        raise CaptureError(f"{shown}: no answer from gdb in {self.timeout:g} s")

    def resume(self) -> None:
        """Lets the target run. Stops from before, as that of attaching, are no answer to this."""
        self._stops.clear()
        self.mi("-exec-continue")

    def wait_for_stop(self, timeout: float) -> str | None:
        """The reason of the next stop, as the machine interface names it; None after `timeout` seconds."""
        end = time.monotonic() + timeout
        while not self._stops:
            record = self._next(end)
            if record is None:
                return None
            self._note_stop(record)
        return self._stops.popleft()

    def _note_stop(self, record: dict[str, Any]) -> None:
        if record["type"] == "notify" and record["message"] == "stopped":
            self._stops.append((record["payload"] or {}).get("reason", "unknown"))

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


def capture(
    target: str,
    output: Path,
    seconds: float,
    commands: Sequence[str] = (),
    gdb: str = "gdb",
) -> str:
    """Attaches to the stub at `target` ([HOST:]PORT) and records until the machine stops, `seconds` at most.

    `commands` run after attaching. The trace goes to `output`. Returns why it ended. Raises CaptureError.
    """
    with Gdb(gdb) as session:
        # Extended: gdb stays connected when the machine ends, and the trace can still be had.
        session.command(f"target extended-remote {target}")
        for command in commands:
            session.command(command)
        session.command("vmx trace start")
        session.resume()
        stopped = session.wait_for_stop(seconds)
        if stopped is None:
            session.mi("-exec-interrupt")
            if session.wait_for_stop(session.timeout) is None:
                raise CaptureError(f"the target did not stop within {session.timeout:g} s")
        session.command(f"vmx trace save {output}")
        if stopped is None or not stopped.startswith("exited"):
            session.command("detach")
        return stopped or f"{seconds:g} s passed"
