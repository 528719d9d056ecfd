"""Works on trace files, as `gdbvmx run --trace FILE` and `gdbvmx trace record` write them."""

from __future__ import annotations

import argparse

from . import diff, export, import_, record, report, show, stats

NAME = "trace"
HELP = "statistics, comparison, report, import and export of traces"

# A verb is a module with `NAME`, `HELP`, `configure` and `run`, as a command is.
VERBS = (stats, show, diff, export, report, record, import_)


def configure(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(title="verbs", metavar="VERB", required=True)
    for verb in VERBS:
        sub = verbs.add_parser(
            verb.NAME,
            help=verb.HELP,
            description=verb.__doc__,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        verb.configure(sub)
        sub.set_defaults(verb=verb.run)


def run(arguments: argparse.Namespace) -> int:
    status: int = arguments.verb(arguments)
    return status
