"""Counts the exits of a trace, and what guest and hypervisor spent on them."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from gdbvmx.cli.errors import Status
from gdbvmx.cli.tables import print_table
from gdbvmx.trace import events, stats

NAME = "stats"
HELP = "exits counted, with what guest and hypervisor spent on them"


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", type=Path)
    parser.add_argument("--by", choices=tuple(stats.KEYS), default="reason", help="the key [%(default)s]")
    parser.add_argument("--json", action="store_true", help="for scripts")


def run(arguments: argparse.Namespace) -> int:
    trace = events.read(arguments.file)
    result = stats.summarise(trace.events, arguments.by)
    if arguments.json:
        print(json.dumps({"clock": trace.clock, **result.to_json()}))
        return Status.OK
    print("events: " + (", ".join(f"{count} {kind}" for kind, count in result.kinds.items()) or "none"))
    total = sum(row.exits for row in result.rows)
    unit = trace.unit
    print_table(
        (result.by, "exits", "%", f"guest {unit}", f"handler {unit}", "min", "mean", "max"),
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
    return Status.OK
