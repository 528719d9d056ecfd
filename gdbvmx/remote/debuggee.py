"""The machine as the server has it: what stays when a client goes."""

from __future__ import annotations

from pathlib import Path

from gdbvmx.machine import Machine

from .breakpoints import Breakpoints
from .execution import Execution, Halt
from .recorder import Recorder
from .registers import RegisterFile
from .target_xml import target_description
from .threads import Threads


class Debuggee:
    """A machine with its threads, registers and breakpoints; `executable` is the image's file, for gdb."""

    def __init__(
        self, machine: Machine, executable: Path | None = None, threads: type[Threads] = Threads
    ) -> None:
        self.machine = machine
        self.executable = executable.resolve() if executable else None
        self.threads = threads(machine.core)
        self.registers = RegisterFile(machine.core)
        self.description = target_description(self.registers)
        self.breakpoints = Breakpoints(machine.core)
        self.execution = Execution(machine, self.threads)
        self.recorder = Recorder(machine)
        self.halt: Halt | None = None

    def first_halt(self) -> Halt:
        """A machine that stands still since nobody has run it on."""
        world = self.threads.running(0)
        return Halt({"kind": "count", "vcpu": 0, "vmcs": world.vmcs}, world)

    def last_halt(self) -> Halt:
        """Why it stands still now. The world is looked up again: it may have run without a client."""
        if self.halt is None or self.threads.running(self.halt.world.vcpu) != self.halt.world:
            return self.first_halt()
        return self.halt

    def release(self) -> None:
        """Removes what a client has set."""
        self.breakpoints.clear()
        self.halt = None

    def close(self) -> None:
        self.execution.close()
        self.recorder.stop()
        self.recorder.discard()
