"""What the MSR and I/O bitmaps intercept."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Callable


def msr(bitmap: Mapping[str, Any]) -> Iterator[str]:
    yield f"MSR bitmap at {bitmap['address']:#x}"
    for access in ("read", "write"):
        yield f"{access} exits: {_ranges(bitmap[access])}"


def io(bitmap: Mapping[str, Any]) -> Iterator[str]:
    yield f"I/O bitmaps at {bitmap['a']:#x} (ports 0 to 0x7fff) and {bitmap['b']:#x} (0x8000 to 0xffff)"
    yield f"accesses exit: {_ranges(bitmap['ports'])}"


def _ranges(ranges: Sequence[Sequence[int]]) -> str:
    return ", ".join(f"{low:#x}" if low == high else f"{low:#x}-{high:#x}" for low, high in ranges) or "none"


VIEWS: dict[str, Callable[[Mapping[str, Any]], Iterator[str]]] = {"msr": msr, "io": io}
