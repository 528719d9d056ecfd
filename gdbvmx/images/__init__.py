"""Loaders: from a file to bytes at guest-physical addresses and the state of the first instruction.

One module per format. A new one has `NAME`, `recognise(data, name)` and `load(data, request)`, and a place in
`_FORMATS`. Those that are not asked are not imported: a machine starts sooner so.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, cast

from .entry import Entry, long_mode, protected_mode
from .image import ImageError, LoadedImage, Request, Segment, Span

__all__ = [
    "Entry",
    "ImageError",
    "LoadedImage",
    "Request",
    "Segment",
    "Span",
    "load",
    "long_mode",
    "protected_mode",
]


class _Format(Protocol):
    NAME: str

    def recognise(self, data: bytes, name: str) -> bool: ...

    def load(self, data: bytes, request: Request) -> LoadedImage: ...


# In the order in which they are asked; what a file's bytes say goes before what its name says.
_FORMATS = ("multiboot", "multiboot2", "linux", "pvh", "flat")

_EXPECTED = "an image for Multiboot 1 or 2, a Linux bzImage, a PVH kernel, or a flat binary *.bin"

# Far above any kernel; a device or a disk image given by mistake must not fill the host's memory.
_LARGEST = 1 << 30


def load(
    path: Path, ram: Sequence[Span], rsdp: Segment, append: str = "", modules: Sequence[Path] = ()
) -> LoadedImage:
    """Loads the image in the file `path` for a machine whose RAM is `ram` (guest-physical), with ACPI's root
    pointer `rsdp` in it.

    `append` is its command line, after the image's name where the protocol has that there; `modules` are the
    files handed to it. Raises ImageError, whose text starts with the path, for whatever cannot be loaded.
    """
    try:
        data = _read(path)
        request = Request(str(path), append, modules, ram, rsdp)
        for module in _FORMATS:
            kind = cast(_Format, importlib.import_module(f"{__name__}.{module}"))
            if kind.recognise(data, path.name):
                return kind.load(data, request)
        raise ImageError(_explain(data))
    except ImageError as error:
        raise ImageError(f"{path}: {error}") from error


def _read(path: Path) -> bytes:
    try:
        if not path.is_file():
            raise ImageError("not a regular file" if path.exists() else "no such file")
        if path.stat().st_size > _LARGEST:
            raise ImageError(f"{path.stat().st_size} bytes; an image has at most {_LARGEST}")
        return path.read_bytes()
    except OSError as error:
        raise ImageError(error.strerror or str(error)) from error


def _explain(data: bytes) -> str:
    """Why the bytes are no image that can be loaded."""
    from . import elf, known, multiboot

    if not data:
        return "an empty file"
    name = known.identify(data)
    if name:
        return f"{name}; expected {_EXPECTED}"
    if data.startswith(elf.MAGIC):
        elf.read(data)  # says what is wrong with it, if that is all that is wrong
        return f"an ELF file, but {multiboot.explain_absence(data)}, no Multiboot 2 header and no PVH note"
    return f"no known image: {multiboot.explain_absence(data)}; expected {_EXPECTED}"
