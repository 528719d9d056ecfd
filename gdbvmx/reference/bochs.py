"""Runs an image in Debian's Bochs: the reference machine with VMX that needs no hardware VT.

Bochs boots from a CD only, so the image goes into a GRUB ISO made for the run. It is started headless: the
display is a VNC server that nobody looks at, the internal debugger only gets the command to continue, and
COM1 goes to a file. What is written to port 0xE9 comes out among Bochs's own messages. A guest ends the run
by writing ``Shutdown`` to port 0x8900; Bochs has no isa-debug-exit.
"""

from __future__ import annotations

import re
import resource
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from gdbvmx.trace.events import Event

from . import medium
from .bochsdebugger import DebuggedBochs
from .child import die_with_parent

BIOS = Path("/usr/share/bochs/BIOS-bochs-latest")
VGA_BIOS = Path("/usr/share/vgabios/vgabios.bin")
DEFAULT_CPU = "corei7_skylake_x"

# What is needed, and the Debian package that has it.
_PROGRAMS = {"bochs": "bochs", **medium.PROGRAMS}
_FILES = {BIOS: "bochsbios", VGA_BIOS: "vgabios", **medium.FILES}

_GRUB_CFG = """\
set timeout=0
menuentry image {{
    multiboot /boot/{name} {words}
{modules}    boot
}}
"""

# sync=none: time is the count of instructions, so a run does not depend on the host's speed.
_BOCHSRC = """\
romimage: file={bios}
vgaromimage: file={vga_bios}
cpu: model={cpu}, count={cpus}, ips=50000000, reset_on_triple_fault=0, ignore_bad_msrs=0
megs: {megabytes}
clock: sync=none, time0=0
ata0-master: type=cdrom, path={iso}, status=inserted
boot: cdrom
display_library: rfb, options="timeout=0"
sound: driver=dummy
com1: enabled=1, mode=file, dev={serial}
port_e9_hack: enabled=1
log: {log}
panic: action=fatal
error: action=report
info: action=ignore
debug: action=ignore{reports}
"""


class BochsMissingError(RuntimeError):
    """Bochs or a tool it takes is not installed; the message names the packages."""


class BochsStartError(RuntimeError):
    """The boot medium could not be made, or Bochs did not start; the message holds what the tool said."""


@dataclass(frozen=True)
class BochsRun:
    """What came of a run."""

    serial: str
    """All that the guest wrote to COM1, with plain newlines."""
    log: str
    """Bochs's own messages. They name the check that failed when a VM entry does."""
    powered_off: bool
    """The guest ended the run with ``Shutdown``."""
    timed_out: bool
    """The run was ended by its time limit."""
    cpu_seconds: float
    """CPU time, user and system, of Bochs from power-on to its end, firmware and GRUB included."""
    output: str = ""
    """Bochs's standard output, and in it what the guest wrote to port 0xE9."""

    @property
    def value(self) -> int | None:
        """The number of the line ``end: value N``, with which our own guests end, or None."""
        found = re.findall(r"^end: value (\d+)$", self.serial, re.MULTILINE)
        return int(found[-1]) if found else None

    @property
    def complaints(self) -> list[str]:
        """The lines of the log in which Bochs says why a VM entry or a VMX instruction failed."""
        return [line for line in self.log.splitlines() if re.search(r"VMFAIL|VMENTER FAIL|VMABORT", line)]


def missing_packages() -> list[str]:
    """The Debian packages that have to be installed before `run` can work."""
    packages = {package for program, package in _PROGRAMS.items() if shutil.which(program) is None}
    packages |= {package for path, package in _FILES.items() if not path.exists()}
    return sorted(packages)


def require() -> None:
    """Raises `BochsMissingError` unless everything that `run` takes is installed."""
    if packages := missing_packages():
        raise BochsMissingError(f"Bochs cannot run here: apt-get install {' '.join(packages)}")


def run(
    image: Path,
    command_line: str = "",
    *,
    modules: Sequence[Path] = (),
    memory_mb: int = 512,
    cpus: int = 1,
    cpu: str = DEFAULT_CPU,
    timeout: float = 60.0,
    trace: Callable[[Sequence[Event]], None] | None = None,
) -> BochsRun:
    """Boots a multiboot 1 image and waits, `timeout` seconds of the clock at most, until it ends.

    The image gets ``NAME-OF-IMAGE command_line``, as under QEMU. `cpu` is one of Bochs's models. The run
    also ends when the CPU shuts down on a triple fault or VMX abort: Bochs stops there, and so does its log.
    `trace` gets VM entries and exits as they happen, each of which costs some milliseconds then.
    """
    require()
    with tempfile.TemporaryDirectory(prefix="gdbvmx-bochs-") as directory:
        work = Path(directory)
        iso = _make_iso(work, image, command_line, modules)
        serial, log = work / "serial.txt", work / "bochs.log"
        rc = work / "bochsrc"
        reports = [f", cpu{number}=report" for number in range(cpus)] if trace else []
        rc.write_text(
            _BOCHSRC.format(
                bios=BIOS,
                vga_bios=VGA_BIOS,
                cpu=cpu,
                cpus=cpus,
                megabytes=memory_mb,
                iso=iso,
                serial=serial,
                log=log,
                reports="".join(reports),
            )
        )
        command = ["bochs", "-q", "-f", str(rc)]
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        if trace is None:
            timed_out, output, log_text = _wait(command, work, log, timeout)
        else:
            timed_out, output, log_text = _debug(command, work, log, timeout, trace)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        powered_off = "Shutdown port: shutdown requested" in log_text + output
        # The file of COM1 appears with its first byte, which some guests never write.
        if not (serial.exists() or timed_out or powered_off):
            raise BochsStartError(f"Bochs did not start: {output.strip() or 'no message'}")
        return BochsRun(
            serial=serial.read_text(errors="replace").replace("\r\n", "\n") if serial.exists() else "",
            output=output,
            log=log_text,
            powered_off=powered_off,
            timed_out=timed_out,
            cpu_seconds=after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime,
        )


def _make_iso(work: Path, image: Path, command_line: str, modules: Sequence[Path]) -> Path:
    """A bootable CD with GRUB, the image and its modules."""
    words = " ".join([_quoted(image.name), *(_quoted(word) for word in command_line.split())])
    module_lines = "".join(f"    module /boot/{path.name} {path.name}\n" for path in modules)
    iso = work / "boot.iso"
    try:
        medium.make(
            work,
            _GRUB_CFG.format(name=image.name, words=words, modules=module_lines),
            "multiboot",
            {f"boot/{path.name}": path for path in (image, *modules)},
            iso,
        )
    except medium.MediumError as error:
        raise BochsStartError(str(error)) from error
    return iso


def _quoted(word: str) -> str:
    """A word for GRUB's shell, which knows single quotes as sh does."""
    return "'" + word.replace("'", "'\\''") + "'"


def _wait(command: list[str], directory: Path, log: Path, timeout: float) -> tuple[bool, str, str]:
    """Runs Bochs to its end or its time limit; whether the limit ended it, what it printed, and its log."""
    out, orders = directory / "output.txt", directory / "debugger.txt"
    orders.write_text("c\n")
    with out.open("w") as output:
        process = subprocess.Popen(
            [*command, "-rc", str(orders)],
            cwd=directory,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            preexec_fn=die_with_parent,
        )
        timed_out = False
        try:
            process.wait(timeout)
        except subprocess.TimeoutExpired:
            timed_out = True
        finally:
            process.kill()
            process.wait()
    log_text = log.read_text(errors="replace") if log.exists() else ""
    return timed_out, out.read_text(errors="replace"), log_text


def _debug(
    command: list[str], directory: Path, log: Path, timeout: float, trace: Callable[[Sequence[Event]], None]
) -> tuple[bool, str, str]:
    """As `_wait`, under Bochs's debugger."""
    debugged = DebuggedBochs(command, directory, log, trace)
    try:
        timed_out = debugged.run(timeout)
    finally:
        debugged.close()
    return timed_out, debugged.output.decode(errors="replace"), debugged.log
