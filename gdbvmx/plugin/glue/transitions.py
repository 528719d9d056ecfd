"""VM entries and exits of a foreign target, by breakpoints at VMLAUNCH and VMRESUME and at HOST_RIP.

gdb stops at each, the VMCS is read through the target, and gdb goes on unless a catchpoint wants the stop.
"""

from __future__ import annotations

import json
import re
import time
from collections import deque
from collections.abc import Container, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Callable, Optional

import gdb

from gdbvmx.trace import show, stats
from gdbvmx.trace.events import FORMAT, VERSION, Event, Trace

from ..target import TargetError
from ..target.foreign import POINTER
from ..target.foreign.forcing import Forcing

# VMLAUNCH and VMRESUME.
_ENTERS = (b"\x0f\x01\xc2", b"\x0f\x01\xc3")
_LENGTH = 3
# Events that are kept while nothing is recorded.
_KEPT = 4096
# Lines of a trace that one answer carries at most.
_LINES = 1000

# What is read at an exit, as events call it.
_EXIT_FIELDS: Mapping[str, str] = {
    "reason": "exit_reason",
    "qualification": "exit_qualification",
    "guest_rip": "guest_rip",
    "guest_linear": "guest_linear_address",
    "guest_physical": "guest_physical_address",
    "interruption_info": "exit_interruption_info",
    "instruction_length": "exit_instruction_length",
}
_ENTRY_FIELDS = ("guest_rip", "host_rip", POINTER)
_CF, _ZF = 1 << 0, 1 << 6  # VMfailInvalid and VMfailValid (SDM 31.2)
_TOP = 1 << 31  # of an exit reason: the entry failed; of interruption information: it is valid

# Exit reasons for which a field means something; in others it is left from before (SDM 28.2).
_EPT_VIOLATION, _EPT_MISCONFIGURATION = 48, 49
_INSTRUCTIONS = frozenset(
    (*range(9, 32), 36, 39, 40, 46, 47, *range(50, 52), *range(53, 56), *range(57, 62), 63, 64, 67, 68)
)
_MEANT: Mapping[str, Callable[[int, int], bool]] = {
    "guest_linear": lambda reason, qualification: reason == _EPT_VIOLATION and bool(qualification & 1 << 7),
    "guest_physical": lambda reason, qualification: reason in (_EPT_VIOLATION, _EPT_MISCONFIGURATION),
    "instruction_length": lambda reason, qualification: reason in _INSTRUCTIONS,
    "interruption_info": lambda reason, qualification: reason in (0, 1),
}

# Reads fields of the VMCS, the processor being in root operation, with what was read before forgotten.
Read = Callable[[Sequence[str]], Mapping[str, int]]
Reason = Callable[[int], Optional[str]]
# What a qualification means, of an exit with this reason and interruption information: names and words.
Decode = Callable[[int, int, int], "list[tuple[str, str]]"]


class Transitions:
    """Catchpoints, the list of events and the recording of one connection."""

    abilities = frozenset(("events", "catch", "trace", "force"))

    def __init__(self, read: Read, reason_name: Reason, decode: Decode, forcing: Forcing) -> None:
        self._read = read
        self._reason_name = reason_name
        self._decode = decode
        self._forcing = forcing
        self._breakpoints: list[_Transition] = []
        self._catches: list[dict[str, Any]] = []
        self._numbers = 0
        self._events: deque[Event] = deque(maxlen=_KEPT)
        self._seq = 0
        self._start = time.monotonic_ns()
        self._trace: list[Event] | None = None
        self._recording = False
        self._caught: tuple[int, Event] | None = None
        self._pause: float | None = None
        self._paused = False
        self._alone = False
        """There is one processor."""
        self._vmcs: dict[int, int] = {}
        """The VMCS that each vCPU has entered with."""

    def pause_after(self, seconds: int) -> None:
        """Stops the machine at the first event in so many seconds, 0 for never. An interrupt by gdb's user is
        lost where gdb is busy with our breakpoints, as it is nearly all the time on a slow target."""
        self._paused = False
        self._pause = time.monotonic() + seconds if seconds else None

    def call(self, method: str, **params: Any) -> Any:
        run = _METHODS.get(method)
        if run is None:
            raise TargetError(f"only gdbvmx's own machine does {method} (`gdbvmx debug IMAGE`)")
        return run(self, **params)

    def take_caught(self) -> tuple[int, Mapping[str, Any]] | None:
        """The catchpoint that has just stopped the machine and its event, told once."""
        caught, self._caught = self._caught, None
        return None if caught is None else (caught[0], self._explained(caught[1]))

    def at_root(self) -> bool:
        """Whether the machine stands at one of the places where the processor is in root operation."""
        return any(it.address == _pc() for it in self._breakpoints)

    # Breakpoints.

    def _arm(self) -> None:
        """Puts breakpoints at the entries; where these find out HOST_RIP, they put one there."""
        if self._breakpoints:
            return
        self._alone = len(gdb.selected_inferior().threads()) == 1
        with _code_from_file():
            places = sorted(set(_find_entries()))
        for address in places:
            self._add(address, self._at_entry)
        if not self._breakpoints:
            raise TargetError(
                "the program's code has no VMLAUNCH or VMRESUME; load the hypervisor's symbols (file ELF)"
            )
        # One that the machine stands at is not reached again.
        here = _pc()
        if any(it.address == here for it in self._breakpoints):
            self._see_end(here, self._read(("host_rip",))["host_rip"])

    def _see_end(self, entry: int, host_rip: int) -> None:
        """Watches for what the entry there leads to: an exit, or VMfail, after which its successor runs."""
        for address, reached in ((host_rip, self._at_exit), (entry + _LENGTH, self._at_failure)):
            if all(it.address != address for it in self._breakpoints):
                self._add(address, reached)
        self._expect({host_rip, entry + _LENGTH})

    def _see_entries(self) -> None:
        self._expect({it.address for it in self._breakpoints if it.reached == self._at_entry})

    def _expect(self, places: Container[int]) -> None:
        """Only the breakpoints there hold: a processor has four. And none holds where the machine stands, so
        that gdb need not take all of them away to step from there: with a VMLAUNCH it would step, until long
        after the exit. Where there are several processors, all hold."""
        if self._alone:
            for breakpoint in self._breakpoints:
                wanted = breakpoint.address in places
                if breakpoint.enabled != wanted:
                    breakpoint.enabled = wanted

    def _add(self, address: int, reached: Callable[[], bool]) -> None:
        self._breakpoints.append(_Transition(address, reached))

    def _disarm(self) -> None:
        for breakpoint in self._breakpoints:
            if breakpoint.is_valid():
                breakpoint.delete()
        self._breakpoints = []

    def close(self) -> None:
        """The target has gone: no breakpoints are left, nor catchpoints."""
        self._recording = False
        self._catches = []
        self._disarm()

    def _wanted(self) -> bool:
        return bool(self._catches) or self._recording

    # What happens at them. Each tells whether gdb is to stop.

    def _at_entry(self) -> bool:
        fields = self._read(_ENTRY_FIELDS)
        self._see_end(_pc(), fields["host_rip"])
        self._vmcs[_vcpu()] = fields[POINTER]
        return self._catch(self._note(kind="entry", guest_rip=fields["guest_rip"]))

    def _at_exit(self) -> bool:
        self._see_entries()
        self._forcing.restore()
        fields = self._read(tuple(_EXIT_FIELDS.values()))
        values = {name: fields[field] for name, field in _EXIT_FIELDS.items()}
        failed = values["reason"] & _TOP
        reason = values["reason"] = values["reason"] & 0xFFFF
        if not values["interruption_info"] & _TOP:
            del values["interruption_info"]
        for name, meant in _MEANT.items():
            if name in values and not meant(reason, values["qualification"]):
                del values[name]
        event = self._note(
            kind="entry_failure" if failed else "exit", name=self._reason_name(reason), **values
        )
        return self._catch(event)

    def _at_failure(self) -> bool:
        flags = int(gdb.selected_frame().read_register("eflags"))
        if not flags & (_CF | _ZF):
            return False  # somebody jumped there
        self._see_entries()
        error = 0 if flags & _CF else self._read(("vm_instruction_error",))["vm_instruction_error"]
        return self._catch(self._note(kind="vmfail", reason=error))

    def _note(self, **values: Any) -> Event:
        vcpu = _vcpu()
        now = time.monotonic_ns() - self._start
        event = Event(seq=self._seq, icount=now, vcpu=vcpu, vmcs=self._vmcs.get(vcpu), **values)
        self._seq += 1
        self._events.append(event)
        if self._recording and self._trace is not None:
            self._trace.append(event)
        return event

    def _explained(self, event: Event) -> dict[str, Any]:
        """The event with its qualification decoded."""
        values = plain(event)
        if event.reason is not None and event.qualification is not None:
            information = event.interruption_info or 0
            values["details"] = self._decode(event.reason, event.qualification, information)
        return values

    def _catch(self, event: Event) -> bool:
        self._paused = self._pause is not None and time.monotonic() >= self._pause
        if self._paused:
            self._pause = None
        for catch in self._catches:
            kinds = _CAUGHT[catch["kind"]]
            if event.kind in kinds and (not catch["numbers"] or event.reason in catch["numbers"]):
                self._caught = catch["number"], event
                return True
        return self._paused

    # Methods of `remote.vendor`.

    def add_catch(self, kind: str, numbers: Sequence[int] | None = None) -> int:
        if kind not in _CAUGHT:
            raise TargetError(f"only gdbvmx's own machine stops at a {kind} (`gdbvmx debug IMAGE`)")
        self._arm()
        self._numbers += 1
        self._catches.append({"number": self._numbers, "kind": kind, "numbers": list(numbers or ())})
        return self._numbers

    def delete_catch(self, number: int) -> bool:
        left = [catch for catch in self._catches if catch["number"] != number]
        found = len(left) < len(self._catches)
        self._catches = left
        if not self._wanted():
            self._disarm()
        return found

    def exits(self, count: int) -> list[dict[str, Any]]:
        chosen = [event for event in self._events if event.kind in _CAUGHT["exit"]][-count:]
        return [self._explained(event) for event in chosen]

    def last_events(self, count: int, kinds: Sequence[str] = ()) -> list[dict[str, Any]]:
        return [plain(event) for event in self._events if not kinds or event.kind in kinds][-count:]

    def trace_start(self) -> str:
        """Gives how it is recorded."""
        self._trace, self._recording = [], True
        try:
            self._arm()
        except BaseException:
            self._recording = False
            raise
        return "by breakpoints"

    def trace_stop(self) -> None:
        self._recording = False
        if not self._wanted():
            self._disarm()

    def trace_status(self) -> dict[str, Any]:
        return {"running": self._recording, "events": len(self._trace or ()), "paused": self._paused}

    def trace_lines(self, offset: int) -> dict[str, Any] | None:
        """Lines from the number `offset` on; the first is the header."""
        if self._trace is None:
            return None
        lines = [{"format": FORMAT, "version": VERSION, **_HEADER}] if not offset else []
        events = self._trace[max(0, offset - 1) :][: _LINES - len(lines)]
        lines += [event.to_json() for event in events]
        return {"text": "".join(f"{json.dumps(line)}\n" for line in lines), "next": offset + len(lines)}

    def force(self, reason: int, fields: Mapping[str, int]) -> None:
        if fields:
            raise TargetError(f"this target's exits tell what they tell; {', '.join(fields)} cannot be set")
        self._arm()
        self._forcing.force(reason)

    def trace_show(self, count: int) -> list[str] | None:
        return None if self._trace is None else [show.HEADING, *map(show.line, self._trace[-count:])]

    def trace_stats(self, by: str = "reason") -> dict[str, Any] | None:
        if by not in stats.KEYS:
            raise TargetError(f"cannot count by {by}; expected {', '.join(stats.KEYS)}")
        if self._trace is None:
            return None
        result = stats.summarise(Trace(_HEADER, self._trace).events, by)
        return {"kinds": result.kinds, "rows": [vars(row) for row in result.rows]}


class _Transition(gdb.Breakpoint):
    """A hardware breakpoint that gdb's lists do not show."""

    def __init__(self, address: int, reached: Callable[[], bool]) -> None:
        super().__init__(f"*{address:#x}", gdb.BP_HARDWARE_BREAKPOINT, internal=True)
        self.silent = True
        self.address = address
        self.reached = reached

    def stop(self) -> bool:
        try:
            return self.reached()
        except TargetError as error:
            gdb.write(f"gdbvmx: {error}\n")
            return True


def _pc() -> int:
    return int(gdb.newest_frame().pc())


def _vcpu() -> int:
    """The processor of the selected thread: a stub of a machine numbers its threads from 1 on."""
    return int(gdb.selected_thread().num) - 1


def plain(event: Event) -> dict[str, Any]:
    """The event as `remote.vendor` gives it: numbers, and only what applies."""
    values = {name: getattr(event, name) for name in Event.__dataclass_fields__ if name != "more"}
    return {name: value for name, value in values.items() if value is not None}


_CAUGHT: Mapping[str, Sequence[str]] = {
    "entry": ("entry",),
    "exit": ("exit", "entry_failure"),
    "fail": ("entry_failure", "vmfail"),
}
_HEADER = {"clock": "nanoseconds", "source": "breakpoints"}
_Method = Callable[..., Any]
_METHODS: Mapping[str, _Method] = {
    "add_catch": Transitions.add_catch,
    "delete_catch": Transitions.delete_catch,
    "catches": lambda it: it._catches,
    "exits": Transitions.exits,
    "last_events": Transitions.last_events,
    "trace_start": Transitions.trace_start,
    "trace_stop": Transitions.trace_stop,
    "trace_status": Transitions.trace_status,
    "trace_lines": Transitions.trace_lines,
    "trace_show": Transitions.trace_show,
    "trace_stats": Transitions.trace_stats,
    "force": Transitions.force,
}


@contextmanager
def _code_from_file() -> Iterator[None]:
    """Code is read from the program's file: by the stub it may be slow, and not all of it is mapped."""
    before = gdb.parameter("trust-readonly-sections")
    gdb.execute("set trust-readonly-sections on", to_string=True)
    try:
        yield
    finally:
        gdb.execute(f"set trust-readonly-sections {'on' if before else 'off'}", to_string=True)


def _find_entries() -> Iterator[int]:
    """Where the program's code has VMLAUNCH and VMRESUME: their bytes, if gdb disassembles them so."""
    for start, end in _code_sections():
        code = _code(start, end)
        for pattern in _ENTERS:
            at = code.find(pattern)
            while at >= 0:
                if _is_instruction(start + at):
                    yield start + at
                at = code.find(pattern, at + 1)


def _code(start: int, end: int) -> bytes:
    """What lies there; empty where it cannot be read, such as a guest's code that is not mapped now."""
    try:
        return bytes(gdb.selected_inferior().read_memory(start, end - start))
    except gdb.MemoryError:
        return b""


def _code_sections() -> Iterator[tuple[int, int]]:
    """Start and end of each section of the program that holds code, as gdb has them."""
    for line in gdb.execute("maintenance info sections CODE", to_string=True).splitlines():
        found = re.search(r"0x([0-9a-f]+)->0x([0-9a-f]+) at .*\bCODE\b", line)
        if found:
            yield int(found[1], 16), int(found[2], 16)


def _is_instruction(address: int) -> bool:
    """Whether an instruction begins there, as gdb decodes the function around it, if there is one."""
    block = gdb.block_for_pc(address)
    while block is not None and block.function is None:
        block = block.superblock
    if block is None:
        return True
    architecture = gdb.selected_inferior().architecture()
    return any(it["addr"] == address for it in architecture.disassemble(block.start, address))
