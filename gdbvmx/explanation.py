"""Explanations and broken rules as plain text. Runs in gdb's Python too: 3.9, standard library only."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gdbvmx._core import BrokenRule, Explanation

WIDTH = 100


def explanation_lines(explanation: Explanation, width: int = WIDTH) -> Iterator[str]:
    """The headline first, then paragraphs, broken rules and the fields that matter."""
    section = f"  (SDM {explanation['section']})" if explanation["section"] else ""
    yield f"{explanation['headline']}{section}"
    for paragraph in explanation["paragraphs"]:
        yield from textwrap.wrap(paragraph, width, initial_indent="  ", subsequent_indent="  ")
    if explanation["rules"]:
        yield from (f"  {line}" if line else "" for line in rule_lines(explanation["rules"], width - 2))
    for name, value, meaning in explanation["fields"]:
        yield f"  {name} = {value:#x}{f'  {meaning}' if meaning else ''}"


def rule_lines(rules: Sequence[BrokenRule], width: int = WIDTH) -> Iterator[str]:
    """Each broken rule: its id, what was found, what it reads. The deciding one is marked with an arrow."""
    for rule in rules:
        arrow = "=>" if rule["deciding"] else "  "
        yield f"{arrow} {rule['id']}  (SDM {rule['section']}): {rule['outcome']}"
        yield from textwrap.wrap(rule["found"], width, initial_indent="     ", subsequent_indent="     ")
        for name, value in rule["fields"]:
            yield f"       {name} = {value:#x}"
