"""`vmx walk` and `vmx ept`: how addresses translate."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

from ..views import walks as view
from .base import Command, Context, Parser

_ACCESSES = ("read", "write", "execute")


def _configure(parser: Parser, what: str) -> None:
    parser.add_argument("address", nargs="+", metavar="ADDRESS", help=f"{what}, any expression")
    parser.add_argument("--access", choices=_ACCESSES, default="read", help="the access to judge [read]")


def _walk(context: Context, arguments: argparse.Namespace) -> Iterator[str]:
    return _show(context, arguments, "walk")


def _ept(context: Context, arguments: argparse.Namespace) -> Iterator[str]:
    return _show(context, arguments, "walk_ept")


def _show(context: Context, arguments: argparse.Namespace, method: str) -> Iterator[str]:
    address = context.evaluate(" ".join(arguments.address)) & (1 << 64) - 1
    result = context.target.call(method, address=address, access=arguments.access)
    yield from view.walk(result, context.style)


COMMANDS = (
    Command(
        name="walk",
        summary="Walk the page tables, and EPT, for a linear address of the selected world.",
        example="  vmx walk $rsp --access write",
        needs=("walk",),
        expressions=True,
        configure=lambda parser: _configure(parser, "a linear address"),
        run=_walk,
    ),
    Command(
        name="ept",
        summary="Walk EPT for a guest-physical address.",
        example="  vmx ept 0x1000",
        needs=("walk",),
        expressions=True,
        configure=lambda parser: _configure(parser, "a guest-physical address"),
        run=_ept,
    ),
)
