"""`vmx info`: where each processor is."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

from ..views import info as view
from .base import Command, Context


def _run(context: Context, arguments: argparse.Namespace) -> Iterator[str]:
    yield from view.info(context.target.call("info"), context.style)


COMMANDS = (
    Command(
        name="info",
        summary="Show each processor's mode, VMCSs, last VM exit and last failure.",
        example="  vmx info",
        needs=("info",),
        run=_run,
    ),
)
