"""Prints the line for ~/.gdbinit that loads the plugin into every gdb."""

from __future__ import annotations

import argparse

from gdbvmx.gdbstart import LOAD_COMMAND

from .errors import Status

NAME = "gdb-init"
HELP = "the line for ~/.gdbinit"


def configure(parser: argparse.ArgumentParser) -> None:
    del parser  # no arguments


def run(arguments: argparse.Namespace) -> int:
    del arguments
    print(LOAD_COMMAND)
    return Status.OK
