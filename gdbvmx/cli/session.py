"""A machine as the command line makes it, with console and trace attached, and its run to the end."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from gdbvmx import _core, explanation, profiles
from gdbvmx.machine import Machine
from gdbvmx.trace.events import TraceWriter

from . import console
from .errors import Status, say

# How long the machine runs between two looks at its input and the clock, in seconds of host time.
_STRETCH = 0.05
_UNLIMITED = (1 << 63) - 1
# So many ticks of idle time after the last key at a terminal are skipped. A guest that waits for the next key
# then sleeps as long as its clock says, so many seconds at a time.
_PATIENCE = 60 * 10**9
_NAP = 0.01


class Keyboard:
    """Somebody types: how long the machine skips idle time for them, and when it waits as they do."""

    def __init__(self, core: _core.Machine) -> None:
        self._core = core
        self.patient_until = _PATIENCE

    def give(self, keys: bytes) -> int:
        """Gives the guest what finds room; the number of bytes."""
        self.patient_until = self._core.clock() + _PATIENCE
        return self._core.serial_input(keys)

    def slept(self, seconds: float) -> None:
        """As much of the guest's time may pass as has passed on the host."""
        self.patient_until = max(self.patient_until, self._core.clock() + int(seconds * 10**9))


@dataclass
class Session:
    """A machine, and the limits of its run: `instructions` in all, `deadline` by time.monotonic()."""

    machine: Machine
    instructions: int
    deadline: float
    input: console.Input | None
    keyboard: Keyboard | None

    def at_limit(self) -> str | None:
        """Which limit was reached, in words."""
        if self.machine.core.instructions() >= self.instructions:
            return f"the limit of {self.instructions} instructions"
        return "the time limit" if time.monotonic() >= self.deadline else None


@contextmanager
def open_machine(arguments: argparse.Namespace, *, reads_input: bool) -> Iterator[Session]:
    """Makes what `options.add_machine` offers. `reads_input`: standard input goes to the guest."""
    profile, warnings = profiles.load(arguments.cpu)
    for warning in warnings:
        say(f"{profile.name}: {warning}")
    machine = Machine.boot(
        arguments.image,
        append=arguments.append,
        modules=arguments.initrd,
        memory=arguments.memory,
        cpus=arguments.cpus,
        profile=profile,
        debugcon=arguments.debugcon != "none",
    )
    for warning in machine.image.warnings:
        say(f"{arguments.image}: {warning}")
    with ExitStack() as stack:
        _attach_output(machine.core.take_serial, machine, "--serial", arguments.serial, console.STDOUT)
        if arguments.debugcon != "none":
            take = machine.core.take_debugcon
            _attach_output(take, machine, "--debugcon", arguments.debugcon, console.STDERR)
        if arguments.trace is not None:
            stack.enter_context(_tracing(machine, arguments.trace))
        incoming = keyboard = None
        if reads_input and arguments.serial == "stdio":
            if stack.enter_context(console.terminal_input(True)):
                keyboard = Keyboard(machine.core)
            incoming = console.Input(keyboard.give if keyboard else machine.core.serial_input)
            machine.attach(incoming.pump)
        yield Session(
            machine,
            arguments.max_instructions or _UNLIMITED,
            time.monotonic() + (arguments.timeout or float("inf")),
            incoming,
            keyboard,
        )


def _attach_output(
    take: Callable[[], bytes], machine: Machine, option: str, where: str, standard: int
) -> None:
    names = {console.STDOUT: "stdio", console.STDERR: "stderr"}
    output = console.open_output(option, where, {names[standard]: standard})
    machine.attach(lambda: output.write(take()))


@contextmanager
def _tracing(machine: Machine, path: Path) -> Iterator[None]:
    with TraceWriter(path, machine.trace_header()) as writer:
        end = machine.record(writer.write)
        try:
            yield
        finally:
            end()


def _is_woken(session: Session, timeout: float) -> bool:
    """A machine without work has some by now, from standard input, or may have later."""
    listens = session.machine.core.serial_interrupts_on_input()
    return listens and session.input is not None and session.input.awaited(timeout)


def run_to_end(session: Session) -> int:
    """Runs the machine until it ends or a limit is reached, and returns the exit status."""
    machine = session.machine
    while True:
        left = session.instructions - machine.core.instructions()
        stretch = min(_STRETCH, max(session.deadline - time.monotonic(), 0))
        keyboard = session.keyboard
        patient_until = None if keyboard is None else keyboard.patient_until
        stop = machine.run(left, timeout=stretch, patient_until=patient_until)
        if stop["kind"] == "waiting" and keyboard and session.input:
            nap = min(_NAP, stretch)
            session.input.pump(nap)
            keyboard.slept(nap)
        if stop["kind"] == "idle" and _is_woken(session, stretch):
            continue
        if (status := ending(machine, stop)) is not None:
            return status
        limit = session.at_limit()
        if limit:
            say(f"stopped at {limit}, after {machine.core.instructions()} instructions")
            return Status.LIMIT


def ending(machine: Machine, stop: _core.Stop) -> int | None:
    """The exit status of a machine that stopped so, told to the user; None if it can go on."""
    match stop["kind"]:
        case "exit":
            return stop["status"]
        case "poweroff":
            return Status.OK
        case "reset":
            say("the guest reset the machine; the run ends here")
            return Status.OK
        case "shutdown":
            _say_why(machine, stop["vcpu"])
            return Status.SHUTDOWN
        case "idle":
            say("every processor is halted and nothing is left that could wake one; the run ends here")
            return Status.LIMIT
        case _:
            return None


def _say_why(machine: Machine, vcpu: int) -> None:
    why = machine.core.why(vcpu)
    if why is None:
        say(f"vCPU {vcpu} shut down")
        return
    first, *rest = explanation.explanation_lines(why)
    say(f"vCPU {vcpu}: {first}")
    for line in rest:
        say(line)
