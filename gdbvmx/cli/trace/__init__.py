"""Works on trace files, as `gdbvmx run --trace FILE` and `gdbvmx trace record` write them."""

from __future__ import annotations

import argparse

from gdbvmx.cli.commands import add_commands

from . import diff, export, import_, record, report, show, stats

NAME = "trace"
HELP = "statistics, comparison, report, import and export of traces"

VERBS = (stats, show, diff, export, report, record, import_)


def configure(parser: argparse.ArgumentParser) -> None:
    add_commands(parser, "verb", VERBS)


def run(arguments: argparse.Namespace) -> int:
    status: int = arguments.run_verb(arguments)
    return status
