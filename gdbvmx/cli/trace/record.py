"""Records a trace through gdb and the plugin, from a machine that runs already.

    gdbvmx run IMAGE --gdb 1234 --freeze &
    gdbvmx trace record --target :1234 --image IMAGE -o trace.jsonl --seconds 60

It ends when the machine does, stops otherwise, or at a limit. Interrupted, it keeps what was recorded.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from gdbvmx.cli.errors import CommandError, Status, say
from gdbvmx.cli.options import count, seconds

NAME = "record"
HELP = "a trace of a running machine, through its gdb stub"


def configure(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--target", metavar="[HOST:]PORT", required=True, help="where the stub listens")
    add("--output", "-o", metavar="FILE", type=Path, required=True)
    add("--image", metavar="ELF", type=Path, help="what runs there, for symbols")
    add("--seconds", metavar="N", type=seconds, default=float("inf"), help="end after that time")
    add("--events", metavar="N", type=count, help="end with that many events")
    add("--command", metavar="COMMAND", action="append", default=[], help="a gdb command before it attaches")
    add("--with-gdb", metavar="GDB", default="gdb", help="the gdb to start [%(default)s]")


def run(arguments: argparse.Namespace) -> int:
    from gdbvmx.gdbstart import symbol_commands
    from gdbvmx.trace import capture  # pygdbmi takes long to import

    image = arguments.image
    if image is not None and not image.is_file():
        raise CommandError(f"{image}: no such file")
    commands = [*(symbol_commands(image) if image else ()), *arguments.command]
    limits = capture.Limits(arguments.seconds, arguments.events)
    try:
        ended = capture.capture(
            arguments.target, arguments.output, limits, commands, arguments.with_gdb, _show_progress
        )
    except capture.CaptureError as error:
        raise CommandError(str(error)) from error
    except (KeyboardInterrupt, SystemExit):
        say(f"interrupted; {arguments.output} holds what was recorded")
        raise
    say(f"{arguments.output} written; recording ended: {ended}")
    return Status.OK


def _show_progress(passed: float, events: int) -> None:
    if sys.stderr.isatty():
        print(f"\r{passed:6.0f} s, {events} events", end="\r", file=sys.stderr, flush=True)
