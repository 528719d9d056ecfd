"""Flat binaries: bytes with no header, loaded at 1 MiB and entered there in 32-bit protected mode."""

from __future__ import annotations

from .entry import protected_mode
from .image import ImageError, LoadedImage, Request, Segment, require_ram

NAME = "flat binary"

SUFFIX = ".bin"  # nothing in such a file tells what it is: its name must
LOAD_ADDRESS = 0x100000


def recognise(data: bytes, name: str) -> bool:
    return name.endswith(SUFFIX)


def load(data: bytes, request: Request) -> LoadedImage:
    if not data:
        raise ImageError("an empty file")
    if request.append or request.modules:
        raise ImageError(
            "a flat binary takes neither a command line nor modules: it has no way to be told of them"
        )
    segments = [Segment.of(LOAD_ADDRESS, data)]
    require_ram(segments, request.ram)
    return LoadedImage(NAME, segments, protected_mode(LOAD_ADDRESS), request.name)
