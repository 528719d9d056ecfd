"""`vmx force`: making VM exits and VMfails happen."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

from .base import Command, CommandError, Context, Parser, integer, unknown
from .names import reason_names, reason_number

FIELDS = (
    *("qualification", "guest_linear", "guest_physical", "interruption_info", "interruption_error_code"),
    *("instruction_length", "instruction_info", "vector"),
)


def _configure(parser: Parser) -> None:
    parser.add_argument("reason", metavar="REASON", help="an exit reason by name or number, or vmfail")
    parser.add_argument(
        "values",
        nargs="*",
        metavar="KEY=VALUE",
        help=f"what the exit tells: {', '.join(FIELDS)}; VALUE any expression. For vmfail: the error number",
    )


def _run(context: Context, arguments: argparse.Namespace) -> Iterator[str]:
    if arguments.reason == "vmfail":
        yield from _vmfail(context, arguments.values)
        return
    number = reason_number(context, arguments.reason)
    fields = dict(_pair(context, text) for text in arguments.values)
    context.target.call("force", reason=number, fields=fields)
    yield f"VM exit {number} will happen at the guest's next instruction."


def _vmfail(context: Context, values: list[str]) -> Iterator[str]:
    if len(values) != 1:
        raise CommandError("expected vmx force vmfail N, the number of a VM-instruction error")
    try:
        error = integer(values[0])
    except argparse.ArgumentTypeError as problem:
        raise CommandError(str(problem)) from None
    context.target.call("force_vmfail", error=error)
    yield f"The next VMX instruction will fail with error {error}."


def _pair(context: Context, text: str) -> tuple[str, int]:
    key, equals, value = text.partition("=")
    if key not in FIELDS:
        raise unknown("value that an exit has", key, FIELDS)
    if not equals:
        raise CommandError(f"expected {key}=VALUE")
    return key, context.evaluate(value)


COMMANDS = (
    Command(
        name="force",
        summary="Make a VM exit happen at the guest's next instruction, or the next VMX instruction fail.",
        example="  vmx force external-interrupt vector=0x20\n  vmx force vmfail 7",
        needs=("force", "tables"),
        expressions=True,
        configure=_configure,
        run=_run,
        words=lambda context: (*reason_names(context), "vmfail", *(f"{name}=" for name in FIELDS)),
    ),
)
