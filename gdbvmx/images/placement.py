"""Finds room in guest-physical memory for what the loader adds to an image: boot data and modules."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from .image import ImageError, Span

# The first page is where kernels put the trampoline that starts further processors; low memory ends with the
# extended BIOS data area of a PC.
LOW_START = 0x1000
LOW_END = 0x9FC00
HIGH_START = 0x100000
ADDRESSABLE_END = 1 << 32  # boot data is described by 32-bit pointers

PAGE = 4096


class Placement:
    """Hands out spans from the top of memory downwards: low memory first, then the top of RAM below 4 GiB.

    Nothing goes right after the image, where kernels start their heap, nor into the first page.
    """

    def __init__(self, ram: Sequence[Span], taken: Iterable[Span]) -> None:
        self._taken = list(taken)
        self._windows = [
            *_cut(ram, LOW_START, LOW_END),
            *reversed(_cut(ram, HIGH_START, ADDRESSABLE_END)),
        ]

    def place(self, what: str, size: int, alignment: int) -> int:
        """The guest-physical address of `size` free bytes; ImageError names `what` if there is no room."""
        for window in self._windows:
            end = window.end
            while end - size >= window.start:
                start = (end - size) // alignment * alignment
                span = Span.of(start, size)
                blocker = next((taken for taken in self._taken if taken.overlaps(span)), None)
                if start < window.start:
                    break
                if blocker is None:
                    self._taken.append(span)
                    return start
                end = blocker.start
        raise ImageError(f"no room in RAM for {what} ({size} bytes); --memory gives more")


def _cut(ram: Sequence[Span], start: int, end: int) -> list[Span]:
    """The parts of `ram` between `start` and `end`."""
    parts = (Span(max(part.start, start), min(part.end, end)) for part in ram)
    return [part for part in parts if part.size > 0]
