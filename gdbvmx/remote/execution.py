"""Runs the machine for the server, in a thread of its own: the event loop stays free to hear Ctrl-C."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gdbvmx.machine import Machine

from .registers import linear_ip
from .threads import Threads, World

if TYPE_CHECKING:
    from gdbvmx._core import Stop

# The longest stretch between two looks at what a client wants, in seconds of host time.
_STRETCH = 0.05
_UNLIMITED = (1 << 63) - 1
# Stops of a machine that goes on when it is run again.
_GO_ON = frozenset(("count", "attention", "interrupted"))
_ENDINGS = frozenset(("exit", "poweroff", "reset", "shutdown"))


@dataclass(frozen=True, slots=True)
class Halt:
    """Why the machine stands still, and the world that a debugger is shown."""

    stop: Stop
    world: World

    @property
    def kind(self) -> str:
        return self.stop["kind"]


class Execution:
    """The machine's run. While what is called `work` runs, nothing else may touch the machine."""

    def __init__(self, machine: Machine, threads: Threads) -> None:
        self.machine = machine
        self.ending: Stop | None = None
        self._threads = threads
        self._interrupter = machine.core.interrupter()
        self._interrupted = threading.Event()
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="machine")

    async def run(self, work: Callable[[], Halt]) -> Halt:
        """Does `work`: one of the methods below, with its arguments bound."""
        halt = await asyncio.get_running_loop().run_in_executor(self._executor, work)
        if halt.kind in _ENDINGS:
            self.ending = halt.stop
        return halt

    def interrupt(self) -> None:
        """Ends the work that is going on, or the next, as soon as it can be."""
        self._interrupted.set()
        self._interrupter.stop()

    def forget_interrupt(self) -> None:
        self._interrupted.clear()

    def restart(self) -> None:
        """Puts the machine back to its first instruction."""
        self.machine.restart()
        self.ending = None

    def close(self) -> None:
        self.interrupt()
        self._executor.shutdown()

    def proceed(self, vcpu: int | None = None) -> Halt:
        """Runs until something stops the machine; `vcpu`: that processor alone."""
        while not self._interrupted.is_set():
            stop = self.machine.run(_UNLIMITED, vcpu=vcpu, timeout=_STRETCH)
            if stop["kind"] == "idle":
                # Only input can wake it, and what is attached brings that.
                self._interrupted.wait(_STRETCH)
                self.machine.pump()
            elif stop["kind"] not in _GO_ON:
                return self._halt(stop)
        return self._interruption(vcpu or 0)

    def step(self, world: World) -> Halt:
        """One instruction of `world`, after running until the processor is in it. Interrupts wait."""
        return self._await_world(world) or self._step_running(world, leave_breakpoint=True)

    def step_range(self, world: World, start: int, end: int) -> Halt:
        """Steps `world` while its code address is at `start` or above and below `end`; once in any case."""
        leave_breakpoint = True
        while not self._interrupted.is_set():
            halt = self._await_world(world) or self._step_running(world, leave_breakpoint=leave_breakpoint)
            if halt.kind != "count" or not start <= linear_ip(self.machine.core, world) < end:
                return halt
            leave_breakpoint = False
        return self._interruption(world.vcpu)

    def _await_world(self, world: World) -> Halt | None:
        """Runs until the vCPU is in `world`; gives what stopped the machine before."""
        if self._threads.running(world.vcpu) == world:
            return None
        core = self.machine.core
        # What takes the processor from one world to another are entries and exits alone.
        catch = core.add_catch("exit" if world.vmcs is None else "entry")
        try:
            while self._threads.running(world.vcpu) != world:
                halt = self.proceed()
                if halt.stop.get("catch") != catch:
                    return halt
        finally:
            core.delete_catch(catch)
        return None

    def _step_running(self, world: World, *, leave_breakpoint: bool) -> Halt:
        core = self.machine.core
        before = core.instructions(world.vcpu)
        stop = self.machine.run(
            1, vcpu=world.vcpu, leave_breakpoint=leave_breakpoint, mask_interrupts=True, timeout=_STRETCH
        )
        # A halted processor retires nothing until an interrupt wakes it: this one is let through.
        while core.instructions(world.vcpu) == before and stop["kind"] in (*_GO_ON, "idle"):
            if self._interrupted.is_set():
                return self._interruption(world.vcpu)
            stop = self.machine.run(1, timeout=_STRETCH)
        if stop["kind"] in (*_GO_ON, "idle"):
            world = self._threads.stepped(world)
            return Halt({"kind": "count", "vcpu": world.vcpu, "vmcs": world.vmcs}, world)
        return self._halt(stop)

    def _halt(self, stop: Stop) -> Halt:
        return Halt(stop, self._threads.running(stop["vcpu"]))

    def _interruption(self, vcpu: int) -> Halt:
        world = self._threads.running(vcpu)
        return Halt({"kind": "interrupted", "vcpu": vcpu, "vmcs": world.vmcs}, world)
