"""`vmx bitmap`: which MSRs and ports exit."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

from ..views import bitmaps as view
from .base import Command, Context, Parser


def _configure(parser: Parser) -> None:
    parser.add_argument("which", choices=tuple(view.VIEWS), help="the MSR bitmap or the I/O bitmaps")


def _run(context: Context, arguments: argparse.Namespace) -> Iterator[str]:
    yield from view.VIEWS[arguments.which](context.target.call("bitmap", which=arguments.which))


COMMANDS = (
    Command(
        name="bitmap",
        summary="Show which MSRs or I/O ports the bitmaps make exit.",
        example="  vmx bitmap msr",
        needs=("bitmaps",),
        configure=_configure,
        run=_run,
    ),
)
