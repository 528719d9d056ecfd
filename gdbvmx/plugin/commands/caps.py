"""`vmx caps`: what the processor can do."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

from ..views import capabilities as view
from .base import Command, Context, Parser


def _configure(parser: Parser) -> None:
    parser.add_argument("words", nargs="*", metavar="WORD", help="only lines with all these words")


def _run(context: Context, arguments: argparse.Namespace) -> Iterator[str]:
    yield from view.capabilities(context.target.call("capabilities"), arguments.words, context.style)


COMMANDS = (
    Command(
        name="caps",
        summary="Show the VMX capabilities: which bits of each control are required, allowed or forbidden.",
        example="  vmx caps ept",
        needs=("tables",),
        configure=_configure,
        run=_run,
    ),
)
