"""Writes a trace in another tool's format."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from gdbvmx.cli.errors import CommandError, Status
from gdbvmx.trace import events, export

NAME = "export"
HELP = "the trace in another tool's format"


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", type=Path)
    parser.add_argument("--format", choices=tuple(export.FORMATS), required=True)
    parser.add_argument("--output", "-o", metavar="FILE", type=Path, help="where to [standard output]")


def run(arguments: argparse.Namespace) -> int:
    lines = export.FORMATS[arguments.format](events.read(arguments.file))
    if arguments.output is None:
        sys.stdout.writelines(f"{line}\n" for line in lines)
        return Status.OK
    try:
        with arguments.output.open("w", encoding="utf-8", newline="\n") as file:
            file.writelines(f"{line}\n" for line in lines)
    except OSError as error:
        raise CommandError(f"{arguments.output}: {error.strerror}") from error
    return Status.OK
