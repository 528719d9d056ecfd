"""The events of a trace and the file that holds them: JSON lines, a header first, then one event a line.

Times are counts of retired instructions (`icount`), so that the same run gives the same file, byte for
byte. Addresses and masks are "0x…" strings in the file and integers here. Fields that are not known here are
kept as they are in `Event.more`. Runs in gdb's Python too: 3.9, standard library only.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from io import TextIOBase
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from typing import Self  # from Python 3.11 on

FORMAT = "gdbvmx-trace"
VERSION = 1

# The fields that are written as "0x…" strings: addresses and masks.
HEXADECIMAL = frozenset(
    ("vmcs", "qualification", "guest_rip", "guest_linear", "guest_physical", "interruption_info", "value")
)


class TraceError(Exception):
    """The trace file cannot be used; the text is one line with the file and the line number."""


@dataclass(frozen=True)
class Event:
    """One event. A field that does not apply to its kind is None.

    `seq` counts events from 0; `icount` is the machine's count of retired instructions at the event; `vmcs`
    the machine-physical address of the VMCS; `reason` the basic exit reason; `guest_linear` and
    `guest_physical` are addresses as the VMX guest sees them; `instruction_length` is in bytes; `rule` the id
    of the VM-entry rule that decided a failure; `field` and `value` what a VMWRITE wrote; `forced` says that
    the debugger asked for the exit. Of a VMfail, `reason` is the VM-instruction error.
    """

    seq: int
    icount: int
    vcpu: int
    kind: str
    vmcs: int | None = None
    reason: int | None = None
    name: str | None = None
    qualification: int | None = None
    guest_rip: int | None = None
    guest_linear: int | None = None
    guest_physical: int | None = None
    interruption_info: int | None = None
    instruction_length: int | None = None
    rule: str | None = None
    field: str | None = None
    value: int | None = None
    forced: bool | None = None
    more: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The event as its line in the file, without the fields that do not apply."""
        line: dict[str, Any] = {}
        for name in FIELDS:
            value = getattr(self, name)
            if value is not None:
                line[name] = f"{value:#x}" if name in HEXADECIMAL else value
        line.update(self.more)
        return line

    @classmethod
    def from_core(cls, event: Mapping[str, Any]) -> Self:
        """The event as `_core` gives it, in plain numbers."""
        return cls(**event)

    @classmethod
    def from_json(cls, line: Mapping[str, Any]) -> Self:
        """Raises ValueError, in words, for a line that is no event."""
        known: dict[str, Any] = {}
        more: dict[str, Any] = {}
        for name, value in line.items():
            if name not in _TYPES:
                more[name] = value
            elif name in HEXADECIMAL:
                known[name] = _address(name, value)
            elif type(value) is not _TYPES[name]:
                raise ValueError(f"{name} is {value!r}; expected {_TYPE_NAMES[_TYPES[name]]}")
            elif value is not None:
                known[name] = value
        missing = [name for name in ("seq", "icount", "vcpu", "kind") if name not in known]
        if missing:
            raise ValueError(f"an event without {', '.join(missing)}")
        return cls(**known, more=more)


FIELDS = tuple(item.name for item in dataclasses.fields(Event) if item.name != "more")
_TYPES = dict.fromkeys(FIELDS, int) | dict.fromkeys(("kind", "name", "rule", "field"), str) | {"forced": bool}
_TYPE_NAMES = {int: "an integer", str: "a string", bool: "true or false"}


def _address(name: str, value: object) -> int:
    if isinstance(value, str) and value.startswith("0x"):
        try:
            return int(value, 16)
        except ValueError:
            pass
    raise ValueError(f'{name} is {value!r}; expected a "0x…" string')


@dataclass(frozen=True)
class Trace:
    """A trace read from a file, whole."""

    header: Mapping[str, Any]
    events: list[Event]

    @property
    def clock(self) -> str:
        """What `icount` counts: instructions, or the nanoseconds of a trace that was made elsewhere."""
        return str(self.header.get("clock", "instructions"))

    @property
    def unit(self) -> str:
        """The clock's unit, short, for the heading of a column."""
        return {"instructions": "instr.", "nanoseconds": "ns"}.get(self.clock, self.clock)


class TraceWriter:
    """Writes a trace file: `header` (without format and version) first, then events as they come."""

    def __init__(self, path: Path, header: Mapping[str, Any]) -> None:
        self._path = path
        try:
            self._file: TextIO | TextIOBase = path.open("w", encoding="utf-8", newline="\n")
        except OSError as error:
            raise TraceError(f"{path}: {error.strerror}") from error
        self._write({"format": FORMAT, "version": VERSION, "clock": "instructions", **header})

    def write(self, events: Iterable[Event]) -> None:
        for event in events:
            self._write(event.to_json())

    def flush(self) -> None:
        self._file.flush()

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _write(self, line: Mapping[str, Any]) -> None:
        try:
            self._file.write(json.dumps(line, ensure_ascii=False) + "\n")
        except OSError as error:
            raise TraceError(f"{self._path}: {error.strerror}") from error


def read(path: Path) -> Trace:
    """Reads the trace file `path`. Raises TraceError, with the line's number, for what is no trace."""
    try:
        with path.open(encoding="utf-8") as file:
            lines = _numbered(path, file)
            number, header = next(lines, (1, None))
            if header is None:
                raise TraceError(f"{path}: an empty file; expected a trace")
            _check_header(path, header)
            events = []
            for number, line in lines:
                try:
                    events.append(Event.from_json(line))
                except ValueError as error:
                    raise TraceError(f"{path}:{number}: {error}") from error
            return Trace(header, events)
    except OSError as error:
        raise TraceError(f"{path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise TraceError(f"{path}: not a text file; expected a trace (JSON lines)") from error


def _numbered(path: Path, file: Iterable[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, text in enumerate(file, 1):
        try:
            line = json.loads(text)
        except (json.JSONDecodeError, RecursionError) as error:
            cut = "" if text.endswith("\n") else ", and the file ends in it"
            raise TraceError(f"{path}:{number}: not a line of JSON{cut}") from error
        if not isinstance(line, dict):
            raise TraceError(f"{path}:{number}: {type(line).__name__} where a JSON object was expected")
        yield number, line


def _check_header(path: Path, header: Mapping[str, Any]) -> None:
    if header.get("format") != FORMAT:
        raise TraceError(f'{path}:1: no trace: the first line must say "format": "{FORMAT}"')
    version = header.get("version")
    if type(version) is not int or not 1 <= version <= VERSION:
        raise TraceError(
            f"{path}:1: a trace of version {version!r}; this gdbvmx reads versions 1 to {VERSION}"
        )
