"""The memory map that a PC's firmware tells: what of RAM a kernel may use.

The kinds have the numbers of the BIOS's call E820, which Multiboot, Linux and PVH took over.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from .image import Span
from .placement import HIGH_START, LOW_END

AVAILABLE, RESERVED = 1, 2

_VIDEO_START = 0xA0000
_FIRMWARE_START = 0xF0000  # ACPI's and the multiprocessor tables lie in there


def memory_map(ram: Sequence[Span]) -> Iterator[tuple[Span, int]]:
    """Ranges of guest-physical addresses with their kinds: RAM, without what the BIOS keeps below 1 MiB."""
    for part in ram:
        if part.start < LOW_END:
            yield Span(part.start, min(part.end, LOW_END)), AVAILABLE
            yield Span(LOW_END, _VIDEO_START), RESERVED
            yield Span(_FIRMWARE_START, HIGH_START), RESERVED
        if part.end > HIGH_START:
            yield Span(max(part.start, HIGH_START), part.end), AVAILABLE


def memory_sizes(ram: Sequence[Span]) -> tuple[int, int]:
    """KiB of memory from 0, and from 1 MiB up to the first hole."""
    upper = next((part.end for part in ram if part.start <= HIGH_START < part.end), HIGH_START)
    return LOW_END // 1024, (upper - HIGH_START) // 1024
