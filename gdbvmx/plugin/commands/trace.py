"""`vmx trace`: recording what happens."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any, Callable

from ..views import tracing as view
from .base import Command, CommandError, Context, Parser, count


def _configure(parser: Parser) -> None:
    verbs = parser.add_subparsers(dest="verb", metavar="start|stop|status|save|show|stats", required=True)
    verbs.add_parser("start", help="record from here on; what was recorded before is gone")
    verbs.add_parser("stop", help="end the recording")
    verbs.add_parser("status", help="is it recording, and how many events there are")
    verb = verbs.add_parser("save", help="write what was recorded to a file (gdbvmx trace works on it)")
    verb.add_argument("file", metavar="FILE")
    verb = verbs.add_parser("show", help="the last events, one a line")
    verb.add_argument("count", nargs="?", type=count, default=20, metavar="N", help="how many [20]")
    verb = verbs.add_parser("stats", help="exits counted, with what guest and host spent on them")
    verb.add_argument("--by", default="reason", help="reason, port, msr, gpa or rip [reason]")


def _run(context: Context, arguments: argparse.Namespace) -> Iterator[str]:
    return _VERBS[arguments.verb](context, arguments)


def _start(context: Context, arguments: argparse.Namespace) -> Iterator[str]:
    way = context.target.call("trace_start")
    yield f"Recording {way}." if way else "Recording."


def _stop(context: Context, arguments: argparse.Namespace) -> Iterator[str]:
    context.target.call("trace_stop")
    yield from _status(context, arguments)


def _status(context: Context, arguments: argparse.Namespace) -> Iterator[str]:
    status = context.target.call("trace_status")
    doing = "Recording" if status["running"] else "Not recording"
    paused = " Paused." if status.get("paused") else ""
    yield f"{doing}, {status['events']} events recorded.{paused}"


def _save(context: Context, arguments: argparse.Namespace) -> Iterator[str]:
    context.write_file(arguments.file, _pieces(context))
    yield f"Saved {context.target.call('trace_status')['events']} events to {arguments.file}."


def _pieces(context: Context) -> Iterator[str]:
    offset = 0
    while True:
        piece = _recorded(context.target.call("trace_lines", offset=offset))
        if not piece["text"]:
            return
        yield piece["text"]
        offset = piece["next"]


def _show(context: Context, arguments: argparse.Namespace) -> Iterator[str]:
    yield from _recorded(context.target.call("trace_show", count=arguments.count))


def _stats(context: Context, arguments: argparse.Namespace) -> Iterator[str]:
    yield from view.stats(_recorded(context.target.call("trace_stats", by=arguments.by)), arguments.by)


def _recorded(answer: Any) -> Any:
    if answer is None:
        raise CommandError("nothing was recorded (vmx trace start)")
    return answer


_VERBS: dict[str, Callable[[Context, argparse.Namespace], Iterator[str]]] = {
    "start": _start,
    "stop": _stop,
    "status": _status,
    "save": _save,
    "show": _show,
    "stats": _stats,
}

COMMANDS = (
    Command(
        name="trace",
        summary="Record VM entries, exits, failures and VMCS writes.",
        example="  vmx trace start\n  continue\n  vmx trace stats --by rip\n  vmx trace save run.jsonl",
        needs=("trace",),
        configure=_configure,
        run=_run,
    ),
)
