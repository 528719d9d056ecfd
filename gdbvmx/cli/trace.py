"""Works on trace files, as `gdbvmx run --trace FILE` writes them."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path

from gdbvmx.trace import events, export, show, stats
from gdbvmx.trace.events import Event
from gdbvmx.trace.explain import explain

from .errors import CommandError, Status
from .options import count
from .tables import print_table

NAME = "trace"
HELP = "statistics, listing and export of a trace"


def configure(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(title="verbs", metavar="VERB", required=True)

    verb = verbs.add_parser("stats", help="exits counted, with what guest and hypervisor spent on them")
    verb.add_argument("file", metavar="FILE", type=Path)
    verb.add_argument("--by", choices=tuple(stats.KEYS), default="reason", help="the key [%(default)s]")
    verb.add_argument("--json", action="store_true", help="for scripts")
    verb.set_defaults(verb=_stats)

    verb = verbs.add_parser("show", help="the events, one a line")
    verb.add_argument("file", metavar="FILE", type=Path)
    verb.add_argument("--kind", action="append", help="only events of this kind (repeat for more)")
    verb.add_argument("--reason", help="only exits for this reason, by name or number")
    verb.add_argument("--vcpu", type=int, help="only this processor's")
    verb.add_argument("--last", metavar="N", type=count, help="only the last N of them")
    verb.set_defaults(verb=_show)

    verb = verbs.add_parser("export", help="the trace in another tool's format")
    verb.add_argument("file", metavar="FILE", type=Path)
    verb.add_argument("--format", choices=tuple(export.FORMATS), required=True)
    verb.add_argument("--output", "-o", metavar="FILE", type=Path, help="where to [standard output]")
    verb.set_defaults(verb=_export)


def run(arguments: argparse.Namespace) -> int:
    verb: Callable[[argparse.Namespace], None] = arguments.verb
    verb(arguments)
    return Status.OK


def _stats(arguments: argparse.Namespace) -> None:
    result = stats.summarise(events.read(arguments.file).events, arguments.by)
    if arguments.json:
        print(json.dumps(result.to_json()))
        return
    print("events: " + (", ".join(f"{count} {kind}" for kind, count in result.kinds.items()) or "none"))
    total = sum(row.exits for row in result.rows)
    print_table(
        (result.by, "exits", "%", "guest instr.", "handler instr.", "min", "mean", "max"),
        [
            (
                row.key,
                str(row.exits),
                f"{100 * row.exits / total:.1f}",
                str(row.guest),
                str(row.handler),
                *(("-",) * 3 if row.handler_mean is None
                  else (str(row.handler_min), f"{row.handler_mean:.1f}", str(row.handler_max))),
            )
            for row in result.rows
        ],
    )  # fmt: skip


def _show(arguments: argparse.Namespace) -> None:
    def wanted(event: Event) -> bool:
        return (
            (arguments.kind is None or event.kind in arguments.kind)
            and (arguments.vcpu is None or event.vcpu == arguments.vcpu)
            and (arguments.reason is None or arguments.reason in (event.name, str(event.reason)))
        )

    chosen = [event for event in events.read(arguments.file).events if wanted(event)]
    if arguments.last:
        chosen = chosen[-arguments.last :]
    print(show.HEADING)
    for event in chosen:
        print(show.line(event, explain))


def _export(arguments: argparse.Namespace) -> None:
    lines = export.FORMATS[arguments.format](events.read(arguments.file))
    if arguments.output is None:
        sys.stdout.writelines(f"{line}\n" for line in lines)
        return
    try:
        with arguments.output.open("w", encoding="utf-8", newline="\n") as file:
            file.writelines(f"{line}\n" for line in lines)
    except OSError as error:
        raise CommandError(f"{arguments.output}: {error.strerror}") from error
