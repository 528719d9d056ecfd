"""Runs an image in the emulated machine.

Exit status: 0 after a power-off or a reset; (value << 1) | 1 after a write of value to port 0xF4; 2 for
unusable arguments or an unusable image; 4 after a triple fault or a VMX abort; 124 at a limit, or when every
processor is halted and nothing is left that could wake one; 130 after an interrupt.
"""

from __future__ import annotations

import argparse

from . import options, session
from .errors import CommandError

NAME = "run"
HELP = "run an image"


def configure(parser: argparse.ArgumentParser) -> None:
    options.add_machine(parser)
    options.add_server(parser)


def run(arguments: argparse.Namespace) -> int:
    if arguments.freeze and arguments.gdb is None:
        raise CommandError("--freeze waits for gdb, but there is no --gdb [HOST:]PORT")
    if arguments.gdb is None:
        with session.open_machine(arguments, reads_input=True) as opened:
            return session.run_to_end(opened)

    from . import serving  # the server takes longer to import than all the rest

    serving.refuse_instruction_limit(arguments.max_instructions)
    with session.open_machine(arguments, reads_input=True) as opened:
        return serving.serve(opened, arguments.image, arguments.gdb, freeze=arguments.freeze)
