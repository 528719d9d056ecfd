"""Formats that are known by sight but not loaded yet: better told by name than as damaged."""

from __future__ import annotations

import struct
from collections.abc import Callable

from . import elf

# The ELF note XEN_ELFNOTE_PHYS32_ENTRY: its type, 18, and its owner.
_PVH_NOTE = struct.pack("<I", 18) + b"Xen\0"


def _multiboot2(data: bytes) -> bool:
    return any(
        struct.unpack_from("<I", data, offset)[0] == 0xE85250D6
        for offset in range(0, min(len(data), 32768) - 3, 8)
    )


def _pvh(data: bytes) -> bool:
    return data.startswith(elf.MAGIC) and _PVH_NOTE in data


# The name of the format, and whether these bytes are of it; the first that says yes decides.
FORMATS: tuple[tuple[str, Callable[[bytes], bool]], ...] = (
    ("a Multiboot 2 image", _multiboot2),
    ("a Linux bzImage", lambda data: data[0x202:0x206] == b"HdrS"),
    ("a PVH kernel", _pvh),
    ("a PE file (EFI application)", lambda data: data[:2] == b"MZ"),
    ("a disk or CD image with an ISO 9660 file system", lambda data: data[0x8001:0x8006] == b"CD001"),
    ("a disk image with a boot sector", lambda data: data[510:512] == b"\x55\xaa"),
    ("a gzip-compressed file", lambda data: data[:2] == b"\x1f\x8b"),
)


def identify(data: bytes) -> str | None:
    """The name of the format of `data`, None if it is none of the known ones."""
    return next((name for name, recognise in FORMATS if recognise(data)), None)
