"""Runs an image in QEMU with nested VT, the reference machine, with QEMU's own stub for gdb.

On a host whose KVM offers VMX to its guests it runs there (--accel kvm, the default). Elsewhere, --inside
bochs runs KVM and QEMU in a Linux inside Bochs, which has VMX without hardware: slow, and right. --accel tcg
runs an image that needs no VMX. What is missing is said, with what to do.

Exit status: as of `run`, but a triple fault is a reset to QEMU and KVM: 0.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

from gdbvmx.reference import bochs, kvm, qemu
from gdbvmx.reference.inside import client, system
from gdbvmx.reference.inside.request import Request
from gdbvmx.trace import kvmtext
from gdbvmx.trace.events import TraceWriter

from . import console, options
from .errors import CommandError, Status, say

NAME = "qemu"
HELP = "run an image in QEMU with nested VT"

_MEGABYTE = 1 << 20
# Of what was written, ftrace keeps what fits into its buffer.
_COUNT = re.compile(r"^# entries-in-buffer/entries-written: (\d+)/(\d+)", re.MULTILINE)
_TRACING_HERE = "here, gdbvmx trace record records through the stub, and gdbvmx trace import takes KVM's own"
_ELSEWHERE = "Without hardware VT: --inside bochs; without VMX: --accel tcg"


def configure(parser: argparse.ArgumentParser) -> None:
    options.add_image(parser, optional=True)
    add = parser.add_argument
    add("--accel", choices=("kvm", "tcg"), default="kvm", help="tcg has no VMX [%(default)s]")
    add("--inside", choices=("bochs",), help="run KVM and QEMU inside Bochs: needs no hardware VT")
    add("--keep", action="store_true", help="leave that Bochs running for the next image")
    add("--stop", action="store_true", help="end the Bochs that was kept")
    add("--machine", metavar="TYPE", default="pc", help="QEMU's machine type [%(default)s]")
    add("--serial", metavar="stdio|FILE|none", default="stdio", help="the guest's COM1 [%(default)s]")
    add(
        "--trace",
        metavar="FILE",
        type=Path,
        help="with --inside: record VM entries and exits, as KVM sees them",
    )
    add("--timeout", metavar="SECONDS", type=options.seconds, help="end after that time, with status 124")
    options.add_server(parser)


def run(arguments: argparse.Namespace) -> int:
    if arguments.stop:
        return _stop()
    image: Path | None = arguments.image
    if image is None:
        raise CommandError("which IMAGE? (see gdbvmx qemu --help)")
    for path in (image, *arguments.initrd):
        if not path.is_file():
            raise CommandError(f"{path}: no such file")
    if arguments.freeze and arguments.gdb is None:
        raise CommandError("--freeze waits for gdb, but there is no --gdb [HOST:]PORT")
    if arguments.memory < _MEGABYTE:
        raise CommandError("--memory: QEMU counts in megabytes")
    if arguments.inside:
        if arguments.accel == "tcg":
            raise CommandError("--inside bochs is for KVM; --accel tcg needs no Bochs around it")
        return _run_inside(arguments)
    if arguments.keep:
        raise CommandError("--keep goes with --inside bochs")
    if arguments.trace:
        raise CommandError(f"--trace goes with --inside bochs; {_TRACING_HERE}")
    return _run_here(arguments)


def _run_here(arguments: argparse.Namespace) -> int:
    try:
        program = qemu.find()
    except qemu.QemuMissingError as error:
        raise CommandError(str(error)) from error
    if arguments.accel == "tcg":
        say("--accel tcg: QEMU emulates a processor without VMX; CPUID says so, and VMXON raises #UD")
    elif obstacle := kvm.Host().obstacle():
        raise CommandError(f"{obstacle}. {_ELSEWHERE}")
    guest = qemu.Guest(
        str(arguments.image),
        append=arguments.append,
        modules=[str(module) for module in arguments.initrd],
        memory_mb=arguments.memory // _MEGABYTE,
        cpus=arguments.cpus,
        machine=arguments.machine,
        accel=arguments.accel,
    )
    devices = qemu.serial_devices(arguments.serial)
    if arguments.gdb is not None:
        host, port = arguments.gdb
        devices += qemu.stub_devices(host, port, freeze=arguments.freeze)
        say(_listening(host, port, arguments.freeze))
    keys = arguments.serial == "stdio" and sys.stdin.isatty()
    outcome = qemu.run(program, guest, devices, keys=keys, timeout=arguments.timeout)
    _tell(outcome.status, outcome.complaint)
    if outcome.status is None:
        say(f"stopped at the time limit of {arguments.timeout:g} s")
        return Status.LIMIT
    if outcome.triple_fault:
        say("the processor shut down on a triple fault")
        return Status.SHUTDOWN
    return outcome.status if outcome.status >= 0 else 128 - outcome.status


def _listening(host: str, port: int, freeze: bool) -> str:
    return f"gdb: target remote {host}:{port}{' (the machine waits for it)' if freeze else ''}"


def _stop() -> int:
    keeper = client.Keeper.kept()
    if keeper is None:
        say("no Bochs was kept")
        return Status.OK
    with keeper:
        keeper.stop()
    return Status.OK


def _run_inside(arguments: argparse.Namespace) -> int:
    request = Request(
        str(arguments.image.resolve()),
        append=arguments.append,
        modules=[str(module.resolve()) for module in arguments.initrd],
        memory_mb=arguments.memory // _MEGABYTE,
        cpus=arguments.cpus,
        machine=arguments.machine,
        gdb=arguments.gdb,
        freeze=arguments.freeze,
        trace=arguments.trace is not None,
    )

    def listening(host: str, port: int) -> None:
        say(_listening(host, port, arguments.freeze) + "; before that, set remotetimeout 60")

    output = console.open_output("--serial", arguments.serial, {"stdio": console.STDOUT})
    try:
        bochs.require()
        with _keeper() as keeper, console.terminal_input(arguments.serial == "stdio") as typing:
            if arguments.keep:
                keeper.keep()
            outcome = keeper.run(
                request,
                say=say,
                serial=output.write,
                listening=listening,
                keys=console.STDIN if typing else None,
                timeout=arguments.timeout,
            )
    except (client.InsideError, system.BuildError, bochs.BochsMissingError, qemu.QemuMissingError) as error:
        raise CommandError(str(error)) from error
    if outcome is None:
        say(f"stopped at the time limit of {arguments.timeout:g} s")
        return Status.LIMIT
    _tell(outcome.status, outcome.complaint)
    if arguments.trace is not None:
        _write_trace(arguments, outcome.trace)
    return outcome.status


def _tell(status: int | None, complaint: str) -> None:
    if refused := qemu.refusal(status, complaint):
        raise CommandError(refused)
    for line in complaint.splitlines():
        say(line)


def _write_trace(arguments: argparse.Namespace, text: str) -> None:
    header = {
        "cpu": "qemu kvm, inside bochs",
        "clock": "nanoseconds",
        "image": f"{arguments.image} {arguments.append}".strip(),
        "memory": arguments.memory,
        "cpus": arguments.cpus,
    }
    with TraceWriter(arguments.trace, header) as writer:
        try:
            writer.write(kvmtext.read(text.splitlines(), "nested").events)
        except kvmtext.NoTrace:
            say(f"{arguments.trace}: the image entered no guest")
        if (count := _COUNT.search(text)) and (lost := int(count[2]) - int(count[1])):
            say(f"{arguments.trace}: the oldest {lost} of {count[2]} events are lost")


def _keeper() -> client.Keeper:
    return client.Keeper.kept() or client.Keeper.start(system.ensure(qemu.find(), say))
