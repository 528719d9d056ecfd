"""`vmx vmcs`: the VMCS of the selected world."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

from ..target import require
from ..views import fields as view
from .base import Command, CommandError, Context, Parser, unknown
from .names import GROUPS, chosen, field_names


def _configure(parser: Parser) -> None:
    parser.add_argument(
        "what",
        nargs="*",
        metavar="GROUP|FIELD",
        help=f"a group ({', '.join(GROUPS)}), a field, the start of its name or a pattern; "
        "or: set FIELD VALUE, VALUE any expression",
    )
    parser.add_argument("-r", "--raw", action="store_true", help="encodings and values only")
    parser.add_argument("-d", "--diff", action="store_true", help="only what changed since last shown")


def _run(context: Context, arguments: argparse.Namespace) -> Iterator[str]:
    if arguments.what[:1] == ["set"]:
        yield from _set(context, arguments.what[1:])
        return
    fields = chosen(context.target.call("vmcs"), arguments.what)
    if arguments.diff:
        fields = [field for field in fields if field["changed"]]
        if not fields:
            yield "Nothing has changed since the VMCS was last shown."
    yield from view.raw(fields) if arguments.raw else view.decoded(fields, context.style)
    context.target.call("vmcs_seen")


def _set(context: Context, words: list[str]) -> Iterator[str]:
    if len(words) < 2:
        raise CommandError("expected vmx vmcs set FIELD VALUE")
    require(context.target, ("vmcs-write",), "vmx vmcs set")
    name, expression = words[0], " ".join(words[1:])
    known = {field["name"]: field for field in context.target.call("vmcs")}
    if name not in known:
        raise unknown("VMCS field", name, known)
    value = context.evaluate(expression)
    # A negative number is what its bits are in the field.
    if value < 0:
        value += 1 << known[name]["width"]
    context.target.call("write_field", field=name, value=value)
    meaning = ", ".join(context.target.call("describe", field=name, value=value))
    yield f"{name} = {value:#x} (was {view.hex_value(known[name])}){f'  {meaning}' if meaning else ''}"


COMMANDS = (
    Command(
        name="vmcs",
        summary="Show the VMCS of the selected world decoded, or set a field of it.",
        example="  vmx vmcs guest_cr guest_rip\n  vmx vmcs -d\n  vmx vmcs set guest_rip $rip + 2",
        needs=("vmcs",),
        expressions=True,
        configure=_configure,
        run=_run,
        words=lambda context: ("set", *GROUPS, *field_names(context)),
    ),
)
