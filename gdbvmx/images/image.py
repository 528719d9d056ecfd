"""What a loader makes of a file: bytes at guest-physical addresses, and the state to start in."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from .entry import Entry


class ImageError(Exception):
    """The file cannot be loaded; the text is one line that says what was found and what was expected."""


class Span(NamedTuple):
    """A range of guest-physical addresses, `end` exclusive."""

    start: int
    end: int

    @classmethod
    def of(cls, start: int, size: int) -> Span:
        return cls(start, start + size)

    @property
    def size(self) -> int:
        return self.end - self.start

    def contains(self, other: Span) -> bool:
        return self.start <= other.start and other.end <= self.end

    def overlaps(self, other: Span) -> bool:
        return self.start < other.end and other.start < self.end

    def __str__(self) -> str:
        return f"{self.start:#x}-{self.end:#x}"


class Segment(NamedTuple):
    """`data` at guest-physical `address`, zeros from its end to `size` bytes."""

    address: int
    data: bytes
    size: int

    @classmethod
    def of(cls, address: int, data: bytes) -> Segment:
        return cls(address, data, len(data))

    @property
    def span(self) -> Span:
        return Span.of(self.address, self.size)


class Request(NamedTuple):
    """What the user asked for, and the machine that it is for.

    `name` is the image's name as the user wrote it, the first word of its command line; `ram` the
    guest-physical ranges that are RAM, lowest first; `rsdp` ACPI's root pointer as it lies in the machine.
    """

    name: str
    append: str
    modules: Sequence[Path]
    ram: Sequence[Span]
    rsdp: Segment

    @property
    def command_line(self) -> str:
        return f"{self.name} {self.append}".rstrip()


class LoadedImage(NamedTuple):
    """An image ready to be put into a machine. `warnings` are what the image asked for and does not get."""

    format: str
    segments: Sequence[Segment]
    entry: Entry
    command_line: str
    warnings: Sequence[str] = ()


def require_ram(segments: Sequence[Segment], ram: Sequence[Span]) -> None:
    """Raises ImageError unless each segment lies within one range of RAM."""
    for number, segment in enumerate(segments):
        if not any(part.contains(segment.span) for part in ram):
            where = ", ".join(str(part) for part in ram)
            raise ImageError(
                f"segment {number} loads at guest-physical {segment.span}, but RAM is {where}"
                " (--memory gives more)"
            )
