"""Writes a trace as one self-contained HTML page: exits over time, by reason, by address, and their cost."""

from __future__ import annotations

import argparse
from pathlib import Path

from gdbvmx.cli.errors import CommandError, Status
from gdbvmx.trace import events

NAME = "report"
HELP = "the trace as a page for a browser"


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", type=Path)
    parser.add_argument("--output", "-o", metavar="FILE", type=Path, required=True, help="the page (HTML)")
    parser.add_argument("--symbols", metavar="ELF", type=Path, help="the guest's symbols, for addresses")


def run(arguments: argparse.Namespace) -> int:
    from gdbvmx.trace import report, symbols  # pyelftools takes long to import

    trace = events.read(arguments.file)
    try:
        names = symbols.Symbols.of(arguments.symbols) if arguments.symbols else symbols.Symbols({})
        page = report.page(trace, f"VM exits in {arguments.file.name}", names.name)
        arguments.output.write_text(page, encoding="utf-8")
    except symbols.SymbolError as error:
        raise CommandError(str(error)) from error
    except OSError as error:
        raise CommandError(f"{arguments.output}: {error.strerror}") from error
    return Status.OK
