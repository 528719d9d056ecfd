"""The machine with an image in it: the scripting API.

    machine = Machine.boot("guests/build/minivisor.elf")
    stop = machine.run(10_000_000)
    print(stop["kind"], machine.serial_text())
    for event in machine.core.last_events(5):
        print(event)

`Machine.core` is the machine itself, with all that can be asked of it: see `gdbvmx._core.Machine`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from gdbvmx import _core, images, profiles
from gdbvmx.images import LoadedImage, Segment, Span

if TYPE_CHECKING:
    from gdbvmx.trace.events import Event

DEFAULT_MEMORY = 512 << 20


class Machine:
    """A machine, the image that it was started with, and what is attached to it outside.

    Attached things (a console, a trace file) are functions that are called after every stretch of the run,
    whoever asked for it: the command line, a script, or gdb by way of the stub.
    """

    def __init__(self, core: _core.Machine, image: LoadedImage) -> None:
        self.core = core
        self.image = image
        self._attached: list[Callable[[], None]] = []
        self._recorders: list[Callable[[Sequence[Event]], None]] = []
        _put_into(core, image)

    @classmethod
    def boot(
        cls,
        image: str | Path,
        *,
        append: str = "",
        modules: Sequence[str | Path] = (),
        memory: int = DEFAULT_MEMORY,
        cpus: int = 1,
        profile: _core.CpuProfile | None = None,
        debugcon: bool = False,
    ) -> Self:
        """A machine with `memory` bytes of RAM, ready to run the first instruction of `image`.

        `append` is the image's command line, `modules` are files handed to it, `debugcon` adds
        the debug console at port 0xE9. Raises ImageError for an image that cannot be loaded, and _core.Error
        for a machine that cannot be made.
        """
        core = _core.Machine(memory, cpus, profile or profiles.default(), ["debugcon"] if debugcon else [])
        ram = [Span.of(start, length) for start, length in core.ram_ranges()]
        rsdp = Segment.of(*core.acpi_root())
        loaded = images.load(Path(image), ram, rsdp, append, [Path(module) for module in modules])
        return cls(core, loaded)

    def attach(self, pump: Callable[[], None]) -> None:
        """Has `pump` called after every stretch of the run, to take output and events."""
        self._attached.append(pump)

    def run(
        self,
        count: int,
        *,
        vcpu: int | None = None,
        leave_breakpoint: bool = False,
        mask_interrupts: bool = False,
        timeout: float | None = None,
        patient_until: int | None = None,
    ) -> _core.Stop:
        """Runs one stretch: `_core.Machine.run`, then what is attached."""
        try:
            return self.core.run(
                count,
                vcpu=vcpu,
                leave_breakpoint=leave_breakpoint,
                mask_interrupts=mask_interrupts,
                timeout=timeout,
                patient_until=patient_until,
            )
        finally:
            self.pump()

    def pump(self) -> None:
        """Hands what the machine has put out to what is attached."""
        if self._recorders:
            self._drain_trace()
        for attached in self._attached:
            attached()

    def record(self, take: Callable[[Sequence[Event]], None]) -> Callable[[], None]:
        """Has `take` called with all events from now on, after every stretch; gives what ends that."""
        if self._recorders:
            self._drain_trace()  # what has happened before is not for the new one
        else:
            self.core.start_trace()
        self._recorders.append(take)

        def end() -> None:
            self._drain_trace()
            self._recorders.remove(take)
            if not self._recorders:
                self.core.stop_trace()

        return end

    def trace_header(self) -> dict[str, Any]:
        """What the first line of a trace says of this machine."""
        return {
            "cpu": self.core.profile.name,
            "image": self.image.command_line,
            "memory": self.core.memory,
            "cpus": self.core.cpus,
        }

    def _drain_trace(self) -> None:
        from gdbvmx.trace.events import Event  # what few runs need is not to delay the start of all

        events = [Event.from_core(event) for event in self.core.drain_trace()]
        for take in self._recorders:
            take(events)

    def restart(self) -> None:
        """Resets the machine and puts the image in again, as at the start."""
        self.core.reset()
        _put_into(self.core, self.image)

    def serial_text(self) -> str:
        """What the guest wrote to COM1 since this was last asked; an attached console takes it instead."""
        return self.core.take_serial().decode("utf-8", "replace")


def _put_into(core: _core.Machine, image: LoadedImage) -> None:
    for segment in image.segments:
        core.write_physical(segment.address, segment.data)
        _clear(core, segment.address + len(segment.data), segment.size - len(segment.data))
    for name, value in image.entry.registers.items():
        core.write_register(name, value)
    core.write_register("rip", image.entry.rip)


def _clear(core: _core.Machine, address: int, size: int) -> None:
    """Zeroes what is not zero yet: pages that were never written take no memory of the host."""
    step = 1 << 20
    for start in range(address, address + size, step):
        length = min(step, address + size - start)
        zeros = bytes(length)
        if core.read_physical(start, length) != zeros:
            core.write_physical(start, zeros)
