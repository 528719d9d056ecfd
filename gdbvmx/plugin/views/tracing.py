"""Statistics of a trace."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any


def stats(result: Mapping[str, Any], by: str) -> Iterator[str]:
    """Exits counted. Costs are in instructions: of the guest before an exit, of the host until it goes on."""
    kinds = ", ".join(f"{number} {kind}" for kind, number in result["kinds"].items())
    yield f"events: {kinds or 'none'}"
    if not result["rows"]:
        return
    column = max(len(by), *(len(row["key"]) for row in result["rows"]))
    yield f"{by:<{column}}  {'exits':>8} {'guest':>12} {'handler':>12} {'min':>8} {'max':>8}"
    for row in result["rows"]:
        low, high = ("-", "-") if row["handler_min"] is None else (row["handler_min"], row["handler_max"])
        counts = f"{row['exits']:>8} {row['guest']:>12} {row['handler']:>12} {low:>8} {high:>8}"
        yield f"{row['key']:<{column}}  {counts}"
