"""Finds room in guest-physical memory for what the loader adds to an image: boot data and modules."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from .image import ImageError, Segment, Span

# The first page is where kernels put the trampoline that starts further processors; low memory ends with the
# extended BIOS data area of a PC.
LOW_START = 0x1000
LOW_END = 0x9FC00
HIGH_START = 0x100000
ADDRESSABLE_END = 1 << 32  # boot data is described by 32-bit pointers

PAGE = 4096

_LOW = Span(LOW_START, LOW_END)
_HIGH = Span(HIGH_START, ADDRESSABLE_END)


class Placement:
    """Hands out spans from the top of memory downwards: low memory first, then the top of RAM below 4 GiB.

    Nothing goes right after the image, where kernels start their heap, nor into the first page. `segments`
    are those that were put somewhere so far.
    """

    def __init__(self, ram: Sequence[Span], taken: Iterable[Span]) -> None:
        self.segments: list[Segment] = []
        self._ram = ram
        self._taken = list(taken)

    def put(self, what: str, data: bytes, alignment: int = 16) -> int:
        """The guest-physical address at which `data` will lie."""
        address = self.place(what, max(len(data), 1), alignment)
        self.segments.append(Segment.of(address, data))
        return address

    def put_high(self, what: str, data: bytes, limit: int = ADDRESSABLE_END) -> int:
        """As `put`, page-aligned, above 1 MiB and below `limit`."""
        address = self._find(what, max(len(data), 1), PAGE, [Span(HIGH_START, limit)])
        self.segments.append(Segment.of(address, data))
        return address

    def place(self, what: str, size: int, alignment: int) -> int:
        """The guest-physical address of `size` free bytes; ImageError names `what` if there is no room."""
        return self._find(what, size, alignment, [_LOW, _HIGH])

    def _find(self, what: str, size: int, alignment: int, where: Sequence[Span]) -> int:
        windows = (window for area in where for window in reversed(_cut(self._ram, area)))
        for window in windows:
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


def read_module(path: Path) -> bytes:
    """The bytes of a file that is handed to the image. Raises ImageError if it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise ImageError(f"module {path}: {error.strerror}") from error


def _cut(ram: Sequence[Span], area: Span) -> list[Span]:
    """The parts of `ram` in `area`."""
    parts = (Span(max(part.start, area.start), min(part.end, area.end)) for part in ram)
    return [part for part in parts if part.size > 0]
