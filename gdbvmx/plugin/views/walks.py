"""Walks through page tables and EPT."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from .style import Style


def walk(result: Mapping[str, Any], style: Style) -> Iterator[str]:
    """Each level, then where it leads or why it does not."""
    column = max((len(step["table"]) for step in result["steps"]), default=0)
    for step in result["steps"]:
        leads = "" if step["maps"] is None else f" -> {step['maps']:#x}"
        table = f"{step['table']:<{column}}"
        line = f"{style.name(table)} at {step['address']:#x}: {step['entry']:#018x}{leads}  {step['rights']}"
        yield f"{line}  {style.bad(step['note'])}".rstrip()
    if result["fault"]:
        yield style.bad(result["fault"])
        return
    guest = result["guest_physical"]
    if guest is not None and guest != result["physical"]:
        yield f"guest-physical {guest:#x}, physical {result['physical']:#x}"
    else:
        yield f"physical {result['physical']:#x}"
