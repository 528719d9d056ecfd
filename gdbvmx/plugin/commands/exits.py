"""`vmx exits`: the last VM exits."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

from ..views import events as view
from .base import Command, Context, Parser, count


def _configure(parser: Parser) -> None:
    parser.add_argument("count", nargs="?", type=count, default=10, metavar="N", help="how many [10]")


def _run(context: Context, arguments: argparse.Namespace) -> Iterator[str]:
    events = context.target.call("exits", count=arguments.count)
    yield from view.exits(events, context.symbol, context.style)


COMMANDS = (
    Command(
        name="exits",
        summary="List the last VM exits and failed VM entries, newest last.",
        example="  vmx exits 20",
        needs=("events",),
        configure=_configure,
        run=_run,
    ),
)
