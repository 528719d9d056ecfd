"""Runs an image in the emulated machine.

Exit status: 0 after a power-off or a reset; (value << 1) | 1 after a write of value to port 0xF4; 2 for
unusable arguments or an unusable image; 4 after a triple fault or a VMX abort; 124 at a limit, or when every
processor is halted and nothing is left that could wake one; 130 after an interrupt.
"""

from __future__ import annotations

import argparse

from . import options, session

NAME = "run"
HELP = "run an image"


def configure(parser: argparse.ArgumentParser) -> None:
    options.add_machine(parser)


def run(arguments: argparse.Namespace) -> int:
    with session.open_machine(arguments, keyboard=True) as opened:
        return session.run_to_end(opened)
