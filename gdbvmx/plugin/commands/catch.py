"""`vmx catch` and `vmx watch`: stopping at VMX events."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any

from .base import Command, CommandError, Context, Parser, integer, unknown
from .names import field_names, reason_names, reason_number


def _configure(parser: Parser) -> None:
    verbs = parser.add_subparsers(dest="verb", metavar="entry|exit|fail|delete|list", required=True)
    verbs.add_parser("entry", help="stop at every VM entry, before the guest's first instruction")
    verb = verbs.add_parser("exit", help="stop at VM exits, before the host's first instruction")
    verb.add_argument("reasons", nargs="*", metavar="REASON", help="only for these, by name or number")
    verb = verbs.add_parser("fail", help="stop at failed VM entries and VMX instructions")
    verb.add_argument("reasons", nargs="*", metavar="REASON", help="a VM-instruction error or exit reason")
    verb = verbs.add_parser("delete", help="delete a catchpoint")
    verb.add_argument("number", type=integer, metavar="N")
    verbs.add_parser("list", help="list the catchpoints")


def _run(context: Context, arguments: argparse.Namespace) -> Iterator[str]:
    if arguments.verb == "list":
        yield from _list(context)
    elif arguments.verb == "delete":
        if not context.target.call("delete_catch", number=arguments.number):
            raise CommandError(f"there is no catchpoint {arguments.number} (vmx catch list)")
        yield f"Deleted catchpoint {arguments.number}."
    else:
        numbers = [reason_number(context, reason) for reason in getattr(arguments, "reasons", ())]
        number = context.target.call("add_catch", kind=arguments.verb, numbers=numbers or None)
        yield f"Catchpoint {number} ({_described(context, arguments.verb, numbers)})"


def _list(context: Context) -> Iterator[str]:
    catches = context.target.call("catches")
    if not catches:
        yield "No catchpoints."
    for catch in catches:
        yield f"{catch['number']:>4}  {_described(context, catch['kind'], catch['numbers'] or [])}"


def _described(context: Context, kind: str, numbers: list[int]) -> str:
    if kind == "field":
        names = {field["encoding"]: field["name"] for field in context.target.call("fields")}
        return f"write to {', '.join(names.get(number, hex(number)) for number in numbers)}"
    if kind == "exit":
        names = {reason["number"]: reason["name"] for reason in context.target.call("reasons")}
        return " ".join(("VM exit", ", ".join(names.get(number, str(number)) for number in numbers))).strip()
    title = {"entry": "VM entry", "fail": "failed VM entry or VMX instruction"}[kind]
    return " ".join((title, ", ".join(map(str, numbers)))).strip()


def _configure_watch(parser: Parser) -> None:
    parser.add_argument("field", metavar="FIELD", help="a field of the VMCS")


def _watch(context: Context, arguments: argparse.Namespace) -> Iterator[str]:
    fields: list[dict[str, Any]] = context.target.call("fields")
    encodings = {field["name"]: field["encoding"] for field in fields}
    if arguments.field not in encodings:
        raise unknown("VMCS field", arguments.field, encodings)
    numbers = [encodings[arguments.field]]
    number = context.target.call("add_catch", kind="field", numbers=numbers)
    yield f"Catchpoint {number} ({_described(context, 'field', numbers)})"


COMMANDS = (
    Command(
        name="catch",
        summary="Stop at VM entries, VM exits or failures.",
        example="  vmx catch exit cpuid ept-violation\n  vmx catch fail\n  vmx catch delete 1",
        needs=("catch", "tables"),
        configure=_configure,
        run=_run,
        words=reason_names,
    ),
    Command(
        name="watch",
        summary="Stop when a VMCS field is written by VMWRITE.",
        example="  vmx watch guest_rip",
        needs=("catch", "tables"),
        configure=_configure_watch,
        run=_watch,
        words=field_names,
    ),
)
