"""VMCS fields."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from .style import Style

WIDTH = 110
_GROUPS = {
    "control": "controls",
    "guest": "guest state",
    "host": "host state",
    "exit-info": "VM-exit information",
}


def decoded(fields: Sequence[Mapping[str, Any]], style: Style) -> Iterator[str]:
    """Each field with what its value means, under its group. `*`: changed since last shown."""
    column = max((len(field["name"]) for field in fields), default=0)
    group = None
    for field in fields:
        if field["group"] != group:
            group = field["group"]
            yield style.title(_GROUPS.get(group, group))
        mark = "*" if field["changed"] else " "
        value = hex_value(field)
        head = f"{mark} {field['name']:<{column}}  {value}"
        shown = f"{mark} {style.name(field['name'])}{' ' * (column - len(field['name']))}  {value}"
        words = ", ".join(field["text"])
        yield from _hang(head, style.changed(shown) if field["changed"] else shown, words)


def raw(fields: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Encoding, name and value, for scripts and comparison."""
    for field in fields:
        yield f"{field['encoding']:#06x} {field['name']} {hex_value(field)}"


def hex_value(field: Mapping[str, Any]) -> str:
    """All digits of the field's width, so that columns of values can be compared by eye."""
    return f"{field['value']:#0{field['width'] // 4 + 2}x}"


def _hang(head: str, shown: str, words: str) -> Iterator[str]:
    """The words after the head; what does not fit goes below, under the first of them."""
    indent = len(head) + 2
    first, *rest = textwrap.wrap(words, max(WIDTH - indent, 40), break_long_words=False) or [""]
    yield f"{shown}  {first}".rstrip()
    for line in rest:
        yield " " * indent + line
