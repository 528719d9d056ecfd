"""`vmx check` and `vmx why`: rules of VM entry, and causes in words."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

from gdbvmx.explanation import explanation_lines, rule_lines

from .base import Command, Context


def _check(context: Context, arguments: argparse.Namespace) -> Iterator[str]:
    rules = context.target.call("check")
    if not rules:
        yield "A VM entry with this VMCS breaks no rule."
        return
    yield f"A VM entry with this VMCS would fail: {len(rules)} rule{'s' * (len(rules) > 1)} broken."
    yield from rule_lines(rules)


def _why(context: Context, arguments: argparse.Namespace) -> Iterator[str]:
    explanation = context.target.call("why")
    if explanation is None:
        yield "Nothing has happened yet: no VM exit, no failed VM entry or VMX instruction, no shutdown."
        return
    yield from explanation_lines(explanation)


COMMANDS = (
    Command(
        name="check",
        summary="Check the VMCS of the selected world against every rule of VM entry.",
        example="  vmx check",
        needs=("rules",),
        run=_check,
    ),
    Command(
        name="why",
        summary="Explain the last failed VM entry, VMfail, VM exit, triple fault or VMX abort.",
        example="  vmx why",
        needs=("rules",),
        run=_why,
    ),
)
