"""Runs an image in Debian's Bochs: a machine with VMX that we did not write, to hold ours against.

It has no gdb server. COM1 comes to standard output when the run ends, and what Bochs says of failed VM
entries and VMX instructions to standard error. Exit status: as of `run`, by the line `end: value N` that
our guests end with; without one 0 after a power-off, 4 where Bochs stopped by itself; 124 at the time
limit.
"""

from __future__ import annotations

import argparse
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from gdbvmx.reference import bochs
from gdbvmx.trace.events import TraceWriter

from .errors import CommandError, Status, say
from .options import add_image, seconds

NAME = "bochs"
HELP = "run an image in Bochs"

_MEGABYTE = 1 << 20


def configure(parser: argparse.ArgumentParser) -> None:
    add_image(parser)
    parser.add_argument("--cpu", metavar="MODEL", default=bochs.DEFAULT_CPU, help="its model [%(default)s]")
    parser.add_argument("--trace", metavar="FILE", type=Path, help="record VM entries, exits and failures")
    parser.add_argument("--timeout", metavar="SECONDS", type=seconds, default=60, help="[%(default)s]")


def run(arguments: argparse.Namespace) -> int:
    image: Path = arguments.image
    if not image.is_file():
        raise CommandError(f"{image}: no such file")
    if arguments.memory < _MEGABYTE:
        raise CommandError("--memory: Bochs counts in megabytes")
    try:
        with ExitStack() as stack:
            trace = None
            if arguments.trace is not None:
                trace = stack.enter_context(TraceWriter(arguments.trace, _header(arguments))).write
            result = bochs.run(
                image,
                arguments.append,
                modules=arguments.initrd,
                memory_mb=arguments.memory // _MEGABYTE,
                cpus=arguments.cpus,
                cpu=arguments.cpu,
                timeout=arguments.timeout,
                trace=trace,
            )
    except (bochs.BochsMissingError, bochs.BochsStartError) as error:
        lines = str(error).splitlines()
        raise CommandError(" … ".join(dict.fromkeys((lines[0], lines[-1])))) from error
    sys.stdout.write(result.serial)
    for complaint in result.complaints:
        say(complaint)
    if result.timed_out:
        say(f"stopped at the time limit of {arguments.timeout:g} s")
        return Status.LIMIT
    if result.value is not None:
        return (result.value << 1 | 1) & 0xFF
    return Status.OK if result.powered_off else Status.SHUTDOWN


def _header(arguments: argparse.Namespace) -> dict[str, Any]:
    return {
        "cpu": f"bochs {arguments.cpu}",
        "image": f"{arguments.image} {arguments.append}".strip(),
        "memory": arguments.memory,
        "cpus": arguments.cpus,
    }
