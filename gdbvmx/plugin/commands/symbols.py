"""`vmx symbols`: symbols of the host and of guests."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

from .base import Command, Context, Parser


def _configure(parser: Parser) -> None:
    parser.add_argument("world", choices=("host", "guest"), help="whose code it is")
    parser.add_argument("file", metavar="FILE", help="an ELF file with symbols")
    parser.add_argument(
        "offset", nargs="*", metavar="OFFSET", help="added to its addresses, any expression [0]"
    )


def _run(context: Context, arguments: argparse.Namespace) -> Iterator[str]:
    offset = context.evaluate(" ".join(arguments.offset)) if arguments.offset else 0
    yield context.add_symbols(arguments.file, offset, arguments.world)


COMMANDS = (
    Command(
        name="symbols",
        summary="Load symbols for code of the host or of a guest, moved by an offset.",
        example="  vmx symbols guest vmlinux 0x1000000",
        needs=(),
        configure=_configure,
        run=_run,
    ),
)
