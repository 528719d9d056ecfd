"""A trace that a client asks for. It is kept in a file, so that a long one fills no memory."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from gdbvmx.machine import Machine
from gdbvmx.trace.events import Event, Trace, TraceWriter, read

# What one answer carries at most, in bytes, and a line more.
_PIECE = 1 << 18


class Recorder:
    """Records every event from `start` to `stop`. What was recorded stays until the next start."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._directory: tempfile.TemporaryDirectory[str] | None = None
        self._writer: TraceWriter | None = None
        self._end: Callable[[], None] | None = None
        self.count = 0

    @property
    def running(self) -> bool:
        return self._end is not None

    def start(self) -> None:
        """Starts a new trace; what was recorded before is gone."""
        self.stop()
        self.discard()
        self._directory = tempfile.TemporaryDirectory(prefix="gdbvmx-")
        self._writer = TraceWriter(self._path(), self._machine.trace_header())
        self.count = 0
        self._end = self._machine.record(self._take)

    def stop(self) -> None:
        if self._end is not None:
            self._end()
            self._end = None
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def discard(self) -> None:
        if self._directory is not None:
            self._directory.cleanup()
            self._directory = None

    def trace(self) -> Trace | None:
        """What was recorded so far; None if nothing was."""
        self._flush()
        return read(self._path()) if self._directory is not None else None

    def lines(self, offset: int) -> tuple[str, int] | None:
        """Lines of the trace file from the byte `offset` on, and where the next begin. None: no trace."""
        self._flush()
        if self._directory is None:
            return None
        with self._path().open("rb") as file:
            file.seek(offset)
            piece = b"".join(file.readlines(_PIECE))
        return piece.decode(), offset + len(piece)

    def _take(self, events: Sequence[Event]) -> None:
        if self._writer is not None:
            self._writer.write(events)
            self.count += len(events)

    def _flush(self) -> None:
        if self._writer is not None:
            self._writer.flush()

    def _path(self) -> Path:
        assert self._directory is not None
        return Path(self._directory.name) / "trace.jsonl"
