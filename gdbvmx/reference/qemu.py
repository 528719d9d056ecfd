"""Runs an image in QEMU: the same machine as `gdbvmx run`'s, as near as QEMU has it."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .child import die_with_parent

PROGRAM = "qemu-system-x86_64"
PACKAGE = "qemu-system-x86"

# From 4.1 on QEMU can save nested VMX state. What the project is tried with is 7.2.
OLDEST = (4, 1)

# qemu's exit status after a write of value to its port 0xF4 is (value << 1) | 1.
_DEBUG_EXIT = "isa-debug-exit,iobase=0xf4,iosize=4"


# What QEMU's log says of a CPU that shut down; it tells nobody else.
_TRIPLE_FAULT = "Triple fault"


class QemuMissingError(RuntimeError):
    """QEMU is absent or too old; the message is one line with what to do."""


@dataclass(frozen=True)
class Guest:
    """What is run, and the machine around it."""

    image: str
    append: str = ""
    modules: Sequence[str] = ()
    memory_mb: int = 512
    cpus: int = 1
    machine: str = "pc"
    accel: str = "kvm"

    def arguments(self, chardevs: Sequence[str]) -> list[str]:
        """QEMU's arguments, without the program; `chardevs` says where serial port and the rest go."""
        cpu = {"kvm": "host,+vmx", "tcg": "max"}[self.accel]
        command = ["-accel", self.accel, "-cpu", cpu, "-M", self.machine]
        command += ["-m", str(self.memory_mb), "-smp", str(self.cpus)]
        command += ["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"]
        command += ["-device", _DEBUG_EXIT, "-kernel", self.image]
        if self.append:
            command += ["-append", self.append]
        if self.modules:
            command += ["-initrd", ",".join(map(_quoted, self.modules))]
        return [*command, *chardevs]


def find() -> Path:
    """QEMU's program. Raises QemuMissingError, also for a version that is too old."""
    found = shutil.which(PROGRAM)
    if found is None:
        raise QemuMissingError(f"{PROGRAM} is not installed: apt-get install {PACKAGE}")
    ran = subprocess.run([found, "--version"], capture_output=True, text=True, check=False)
    match = re.search(r"version (\d+)\.(\d+)", ran.stdout)
    if ran.returncode != 0 or match is None:
        raise QemuMissingError(f"{found} --version does not tell a version: reinstall {PACKAGE}")
    version = int(match[1]), int(match[2])
    if version < OLDEST:
        oldest = ".".join(map(str, OLDEST))
        raise QemuMissingError(
            f"{found} is QEMU {match[1]}.{match[2]}; {oldest} or later is needed: a newer {PACKAGE}"
        )
    return Path(found)


@dataclass(frozen=True)
class Outcome:
    """How a run ended. `status` is QEMU's exit status, negative for a signal; None at the time limit."""

    status: int | None
    triple_fault: bool
    complaint: str


def serial_devices(where: str) -> list[str]:
    """COM1 to the terminal or pipe that we have (`stdio`), to a file, or nowhere (`none`)."""
    if where == "none":
        return ["-serial", "none"]
    device = "stdio" if where == "stdio" else f"file,path={_quoted(where)}"
    return ["-chardev", f"{device},id=s", "-serial", "chardev:s"]


def stub_devices(host: str, port: int, *, freeze: bool) -> list[str]:
    """The stub on a port; `freeze` waits for gdb before the first instruction."""
    listener = f"socket,id=g,host={_quoted(host)},port={port},server=on,wait=off"
    return ["-chardev", listener, "-gdb", "chardev:g", *(["-S"] if freeze else [])]


def run(program: Path, guest: Guest, devices: Sequence[str], *, keys: bool, timeout: float | None) -> Outcome:
    """Runs QEMU to its end. With `keys` it has our standard input. It ends when we do."""
    with tempfile.TemporaryDirectory(prefix="gdbvmx-qemu-") as directory:
        log, errors = Path(directory) / "log", Path(directory) / "errors"
        # TCG logs a triple fault with the CPU's resets; KVM does not tell it from a reset.
        logging = ["-d", "cpu_reset", "-D", str(log)] if guest.accel == "tcg" else []
        with errors.open("wb") as stderr:
            process = subprocess.Popen(
                [str(program), *guest.arguments(devices), *logging],
                stdin=None if keys else subprocess.DEVNULL,
                stderr=stderr,
                preexec_fn=die_with_parent,
            )
            try:
                status: int | None = process.wait(timeout)
            except subprocess.TimeoutExpired:
                status = None
            finally:
                process.kill()
                process.wait()
        logged = log.read_text(errors="replace") if log.exists() else ""
        complaint = errors.read_text(errors="replace").strip()
    return Outcome(status, _TRIPLE_FAULT in logged, complaint)


def refusal(status: int | None, complaint: str) -> str | None:
    """Why QEMU did not run the image. Its status is 1 then, which a guest can cause too, but in silence."""
    errors = [line for line in complaint.splitlines() if line.strip() and "warning:" not in line]
    return errors[-1] if status == 1 and errors else None


def _quoted(value: str) -> str:
    """A value for a list of QEMU's options, where a comma is written twice."""
    return value.replace(",", ",,")
