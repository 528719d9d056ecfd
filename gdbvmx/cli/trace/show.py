"""Lists the events of a trace, one a line."""

from __future__ import annotations

import argparse
from pathlib import Path

from gdbvmx.cli.errors import Status
from gdbvmx.cli.options import count
from gdbvmx.trace import events, show
from gdbvmx.trace.events import Event
from gdbvmx.trace.explain import explain

NAME = "show"
HELP = "the events, one a line"


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", type=Path)
    parser.add_argument("--kind", action="append", help="only events of this kind (repeat for more)")
    parser.add_argument("--reason", help="only exits for this reason, by name or number")
    parser.add_argument("--vcpu", type=int, help="only this processor's")
    parser.add_argument("--last", metavar="N", type=count, help="only the last N of them")


def run(arguments: argparse.Namespace) -> int:
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
    return Status.OK
