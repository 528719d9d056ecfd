"""Records a trace from Bochs: its log, and what its internal debugger finds in the VMCS at each exit.

Bochs 2.7 keeps a VMCS in the guest's memory in a layout of its own: 16 bytes of header, then for each of the
16 kinds of field (width and type, bits 14:13 and 11:10 of the encoding) 64 words of 32 bits, by the
encoding's low bits.
"""

from __future__ import annotations

import os
import re
import select
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from gdbvmx import _core
from gdbvmx.trace.events import Event

from .bochslog import Log
from .child import die_with_parent

_HEADER_BYTES = 16
_WORDS_PER_KIND = 64

# What an exit leaves in the VMCS that the log does not tell.
_RIP, _LINEAR, _PHYSICAL = "guest_rip", "guest_linear_address", "guest_physical_address"
_EVENT, _LENGTH = "exit_interruption_info", "exit_instruction_length"
_FIELDS = (_RIP, _LINEAR, _PHYSICAL, _EVENT, _LENGTH)

_EXCEPTION_OR_NMI, _EXTERNAL_INTERRUPT, _EPT_VIOLATION, _EPT_MISCONFIGURATION = 0, 1, 48, 49
# Exits by instructions; for these the length of the instruction is defined (SDM vol. 3, 28.2.5).
_INSTRUCTIONS = frozenset(
    (
        9,
        10,
        *range(12, 17),
        *range(18, 33),
        36,
        39,
        40,
        46,
        47,
        50,
        51,
        *range(53, 56),
        *range(57, 62),
        63,
        64,
        67,
        68,
    )
)
_VALID = 1 << 31  # of an interruption information
_LINEAR_VALID = 1 << 7  # of an EPT violation's qualification

_PROMPT = re.compile(rb"<bochs:\d+> $")
_STOPPED = re.compile(rb"\((\d+)\) Caught VMEXIT breakpoint")
_DEBUG = re.compile(r"\d+d\[")
_WORDS = re.compile(rb"<bogus\+ *\d+>:((?:\s+0x[0-9a-f]+)+)")


class DebuggedBochs:
    """Bochs under its debugger, which stops it at each exit. `take` gets the events as they come."""

    def __init__(
        self, command: list[str], directory: Path, log: Path, take: Callable[[Sequence[Event]], None]
    ) -> None:
        """`log` is the pipe that the configuration names as Bochs's log; it is made here."""
        self.output = b""
        """What Bochs printed last, at its end."""
        self.log = ""
        """Its log without what is only for the trace."""
        self._take = take
        self._log = Log()
        self._waiting: list[Event] = []
        os.mkfifo(log)
        # Open for both, so that opening waits for nobody and Bochs's end is no end of the file.
        self._pipe = os.open(log, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        self._rest = b""
        self._process = subprocess.Popen(
            command,
            cwd=directory,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            preexec_fn=die_with_parent,
        )

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()
        os.close(self._pipe)

    def run(self, timeout: float) -> bool:
        """Runs to Bochs's end; True if the limit, in seconds of the clock, came first."""
        deadline = time.monotonic() + timeout
        try:
            self._answer(deadline)
            self._order("vmexitbp")
            self._answer(deadline)
            while True:
                self._order("c")
                stopped = _STOPPED.search(self._answer(deadline))
                if stopped is None:
                    # Stopped for good, as by a triple fault.
                    self._order("quit")
                    self._answer(deadline)
                    return False
                self._complete(int(stopped[1]), deadline)
        except (EOFError, BrokenPipeError):
            return False
        except TimeoutError:
            return True
        finally:
            self._read_log()
            for vcpu in self._log.vcpus:
                self._waiting += self._log.end(vcpu)
            self._flush()

    def _complete(self, vcpu: int, deadline: float) -> None:
        """Gives what has happened up to the exit of `vcpu`, and that with what is in the VMCS."""
        vmcs = self._log.vmcs(vcpu)
        last = self._waiting[-1] if self._waiting else None
        if vmcs is not None and last is not None and last.vcpu == vcpu and last.kind == "exit":
            values = {}
            for name in _FIELDS:
                field = _core.field(name)
                self._order(f"xp /2wx {vmcs + _offset(field['encoding']):#x}")
                values[name] = _number(self._answer(deadline), field["width"])
            self._waiting[-1] = completed(last, values)
        self._flush()

    def _flush(self) -> None:
        self._take(self._waiting)
        self._waiting = []

    def _order(self, command: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(command.encode() + b"\n")
        self._process.stdin.flush()

    def _answer(self, deadline: float) -> bytes:
        """What Bochs prints until it asks for a command. Raises EOFError at its end, or TimeoutError."""
        assert self._process.stdout is not None
        said = b""
        stdout = self._process.stdout.fileno()
        while not _PROMPT.search(said):
            left = deadline - time.monotonic()
            ready, _, _ = select.select([stdout, self._pipe], [], [], max(left, 0))
            if left <= 0:
                raise TimeoutError
            if self._pipe in ready:
                self._read_log()
            if stdout in ready:
                data = os.read(stdout, 1 << 16)
                if not data:
                    self.output += said
                    raise EOFError
                said += data
        self._read_log()  # all of it: Bochs writes each line at once, before it stops
        return said

    def _read_log(self) -> None:
        while True:
            try:
                data = os.read(self._pipe, 1 << 16)
            except BlockingIOError:
                return
            *lines, self._rest = (self._rest + data).split(b"\n")
            for line in lines:
                text = line.decode(errors="replace")
                self._waiting += self._log.feed(text)
                if not _DEBUG.match(text):
                    self.log += text + "\n"


def completed(event: Event, values: Mapping[str, int]) -> Event:
    """The exit `event` with those of the VMCS's `values` that mean something for its reason."""
    reason, qualification = event.reason, event.qualification or 0
    event = replace(event, guest_rip=values[_RIP])
    if reason in (_EPT_VIOLATION, _EPT_MISCONFIGURATION):
        event = replace(event, guest_physical=values[_PHYSICAL])
    if reason == _EPT_VIOLATION and qualification & _LINEAR_VALID:
        event = replace(event, guest_linear=values[_LINEAR])
    if reason in (_EXCEPTION_OR_NMI, _EXTERNAL_INTERRUPT) and values[_EVENT] & _VALID:
        event = replace(event, interruption_info=values[_EVENT])
    if reason in _INSTRUCTIONS:
        event = replace(event, instruction_length=values[_LENGTH])
    return event


def _offset(encoding: int) -> int:
    """Where in Bochs's VMCS the field with this encoding lies, in bytes."""
    kind = (encoding >> 13 & 3) << 2 | encoding >> 10 & 3
    return _HEADER_BYTES + (kind * _WORDS_PER_KIND + (encoding & 0x3FF)) * 4


def _number(answer: bytes, width: int) -> int:
    """The value of `width` bits at the start of a dump of 32-bit words."""
    match = _WORDS.search(answer)
    words = [int(word, 16) for word in match[1].split()] if match else []
    value = sum(word << 32 * number for number, word in enumerate(words))
    return value & ((1 << width) - 1)
