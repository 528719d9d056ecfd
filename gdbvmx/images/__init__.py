"""Loaders: from a file to bytes at guest-physical addresses and the state of the first instruction.

One module per format. A new one has `NAME`, `recognise(data, name)` and `load(data, request)`, and a place in
`_FORMATS`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from . import elf, flat, known, multiboot
from .image import Entry, ImageError, LoadedImage, Request, Segment, Span

__all__ = ["Entry", "ImageError", "LoadedImage", "Request", "Segment", "Span", "load"]


class _Format(Protocol):
    NAME: str

    def recognise(self, data: bytes, name: str) -> bool: ...

    def load(self, data: bytes, request: Request) -> LoadedImage: ...


# In the order in which they are asked; what a file's bytes say goes before what its name says.
_FORMATS: tuple[_Format, ...] = (multiboot, flat)

# Far above any kernel; a device or a disk image given by mistake must not fill the host's memory.
_LARGEST = 1 << 30


def load(path: Path, ram: Sequence[Span], append: str = "", modules: Sequence[Path] = ()) -> LoadedImage:
    """Loads the image in the file `path` for a machine whose RAM is `ram` (guest-physical).

    `append` follows the image's name on its command line, `modules` are the files handed to it. Raises
    ImageError, whose text starts with the path, for whatever cannot be loaded.
    """
    try:
        data = _read(path)
        request = Request(str(path), append, modules, ram)
        for kind in _FORMATS:
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
    if not data:
        return "an empty file"
    name = known.identify(data)
    if name:
        return f"{name}; this format is not supported yet (Multiboot 1 and flat *{flat.SUFFIX} are)"
    if data.startswith(elf.MAGIC):
        elf.read(data)  # says what is wrong with it, if that is all that is wrong
        return f"an ELF file, but {multiboot.explain_absence(data)}"
    return f"neither an ELF file nor any known image: {multiboot.explain_absence(data)}"
