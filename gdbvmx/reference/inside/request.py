"""What is run inside Bochs, and how its output is told from the shell's on the line that both share."""

from __future__ import annotations

import base64
import re
import shlex
from dataclasses import dataclass, field
from pathlib import Path

from gdbvmx.reference.qemu import PROGRAM, Guest

# To QEMU's multiplexed console: it ends. The escape stands for itself when it is doubled.
ESCAPE = b"\x01"
QUIT = ESCAPE + b"x"

_IMAGES = "/run/image"
_STUB = "/dev/ttyS1"

# KVM's tracepoints for what a hypervisor in it does, in a buffer of 16 MB; their text goes to the disk.
_TRACING = "/sys/kernel/tracing"
_TRACE_ON = (
    f"echo 0 >{_TRACING}/tracing_on; echo 16384 >{_TRACING}/buffer_size_kb; echo >{_TRACING}/trace;"
    f" for event in {_TRACING}/events/kvm/kvm_nested_*; do echo 1 >$event/enable; done;"
    f" echo 1 >{_TRACING}/tracing_on;"
)
_TRACE_OFF = (
    f"echo 0 >{_TRACING}/tracing_on; echo >{_TRACING}/set_event; cat {_TRACING}/trace >/run/trace;"
    " dd if=/run/trace of=/dev/sdb bs=64k conv=fsync,notrunc 2>/dev/null; traced=$(wc -c </run/trace);"
)

_MARK = b"\x1e"


@dataclass(frozen=True)
class Request:
    """An image to run. Paths are of the host; `gdb` is where gdb is waited for."""

    image: str
    append: str = ""
    modules: list[str] = field(default_factory=list)
    memory_mb: int = 512
    cpus: int = 1
    machine: str = "pc"
    gdb: tuple[str, int] | None = None
    freeze: bool = False
    trace: bool = False

    def files(self) -> dict[str, Path]:
        """The files that go into the machine, by their names there: numbered, so that none hides another."""
        paths = [Path(self.image), *map(Path, self.modules)]
        return {f"{number}/{path.name}": path for number, path in enumerate(paths)}

    def command(self, token: str, size: int) -> str:
        """The line for the shell in the machine, where the first `size` bytes of the disk hold the files.

        It frames what QEMU writes by `token`, and tells its end.
        """
        image, *modules = (f"{_IMAGES}/{name}" for name in self.files())
        guest = Guest(
            image,
            append=self.append,
            modules=modules,
            memory_mb=self.memory_mb,
            cpus=self.cpus,
            machine=self.machine,
        )
        # QEMU reads its input from the same line: two bytes of its console's escape end it.
        devices = ["-chardev", "stdio,id=s,mux=on,signal=off", "-serial", "chardev:s", "-mon", "chardev=s"]
        if self.gdb is not None:
            devices += ["-chardev", f"serial,id=g,path={_STUB}", "-gdb", "chardev:g"]
        if self.freeze:
            devices += ["-S"]
        words = shlex.join([PROGRAM, *guest.arguments(devices)])
        mark = f"printf '\\036{token}\\036'"
        before, after = (_TRACE_ON, _TRACE_OFF) if self.trace else ("", "")
        return (
            # Where QEMU ended before it was told to, what it was told is still on the line.
            f"\nrm -rf {_IMAGES}; mkdir {_IMAGES}; blockdev --flushbufs /dev/sdb;"
            f" head -c {size} /dev/sdb | tar -x -C {_IMAGES}; {before}"
            # Held open, the stub's line keeps what gdb says until QEMU listens; opened anew, it is empty.
            f" exec 7<&-; exec 7<>{_STUB};"
            f" {mark}; {words} 2>/run/errors; status=$?; {mark}; traced=0; {after}"
            " printf '%d %d %s\\n' $status $traced \"$(tail -c 1000 /run/errors | base64 | tr -d '\\n')\"\n"
        )


@dataclass(frozen=True)
class End:
    """QEMU's exit status, what it wrote to standard error, and how many bytes of trace lie on the disk."""

    status: int
    complaint: str
    traced: int = 0


class Framing:
    """Takes apart what comes by the control line: the guest's bytes stand between two marks."""

    def __init__(self, token: str) -> None:
        self._mark = _MARK + token.encode() + _MARK
        self._buffer = b""
        self._marks = 0

    @property
    def begun(self) -> bool:
        """QEMU has been started."""
        return self._marks > 0

    def feed(self, data: bytes) -> tuple[bytes, End | None]:
        """The guest's bytes in `data`, and what is told after them."""
        self._buffer += data
        output = b""
        while self._marks < 2:
            before, found, rest = self._buffer.partition(self._mark)
            if not found:
                # What could be the start of a mark waits for the rest.
                keep = before.rfind(_MARK, -len(self._mark))
                ready = before if keep < 0 else before[:keep]
                if self._marks:
                    output += ready
                self._buffer = before[len(ready) :]
                return output, None
            if self._marks:
                output += before
            self._marks += 1
            self._buffer = rest
        if b"\n" not in self._buffer:
            return output, None
        match = re.match(rb"(\d+) (\d+) (\S*)", self._buffer)
        if match is None:
            said = self._buffer.decode(errors="replace").strip()
            return output, End(-1, f"the shell inside Bochs did not tell QEMU's status: {said}")
        complaint = base64.b64decode(match[3]).decode(errors="replace").strip()
        return output, End(int(match[1]), complaint, int(match[2]))
