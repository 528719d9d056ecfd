"""Runs an image and gdb beside it, attached, with the plugin loaded. What follows -- goes to gdb.

    gdbvmx debug guests/build/minivisor.elf -- -ex 'vmx catch exit cpuid' -ex continue

The exit status is gdb's.
"""

from __future__ import annotations

import argparse

from . import options, session

NAME = "debug"
HELP = "run an image in gdb, with the plugin loaded"


def configure(parser: argparse.ArgumentParser) -> None:
    options.add_machine(parser)
    parser.add_argument("--with-gdb", metavar="GDB", default="gdb", help="the gdb to start [%(default)s]")
    parser.set_defaults(takes_rest=True)


def run(arguments: argparse.Namespace) -> int:
    from . import serving  # the server takes longer to import than all the rest

    serving.refuse_instruction_limit(arguments.max_instructions)
    # The terminal is gdb's.
    with session.open_machine(arguments, reads_input=False) as opened:
        return serving.debug(opened, arguments.image, arguments.with_gdb, arguments.rest)
