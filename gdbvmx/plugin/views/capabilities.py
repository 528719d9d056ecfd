"""VMX capabilities, MSR by MSR."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from .style import Style


def capabilities(rows: Sequence[Mapping[str, Any]], words: Sequence[str], style: Style) -> Iterator[str]:
    """A line each, under its MSR; with `words`, only the lines that have all of them."""
    shown = [row for row in rows if _has_all(row, words)]
    column = max((len(row["name"]) for row in shown), default=0)
    msr = None
    for row in shown:
        if row["msr"] != msr:
            msr = row["msr"]
            yield style.title(f"{row['msr_name']} ({msr:#x})")
        yield f"  {row['bits']:>6}  {row['name']:<{column}}  {row['setting']}"
    if not shown:
        yield f"No capability has {' '.join(words)} in its line."


def _has_all(row: Mapping[str, Any], words: Sequence[str]) -> bool:
    text = f"{row['msr_name']} {row['name']} {row['setting']}".lower()
    return all(word.lower() in text for word in words)
