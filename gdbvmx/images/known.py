"""Formats that are known by sight but not loaded: better told by name than as damaged."""

from __future__ import annotations

from collections.abc import Callable

# The name of the format, and whether these bytes are of it; the first that says yes decides.
FORMATS: tuple[tuple[str, Callable[[bytes], bool]], ...] = (
    ("a PE file (EFI application)", lambda data: data[:2] == b"MZ"),
    ("a disk or CD image with an ISO 9660 file system", lambda data: data[0x8001:0x8006] == b"CD001"),
    ("a disk image with a boot sector", lambda data: data[510:512] == b"\x55\xaa"),
    ("a gzip-compressed file", lambda data: data[:2] == b"\x1f\x8b"),
)


def identify(data: bytes) -> str | None:
    """The name of the format of `data`, None if it is none of the known ones."""
    return next((name for name, recognise in FORMATS if recognise(data)), None)
