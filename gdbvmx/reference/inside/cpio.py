"""Writes the archive that a Linux kernel unpacks as its first file system: cpio in the "newc" format."""

from __future__ import annotations

import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO

_TRAILER = "TRAILER!!!"


@dataclass(frozen=True)
class Entry:
    """A file, or, where there is no `source`, an empty directory; the name is absolute."""

    name: str
    source: Path | None = None
    mode: int = 0o755


def write(output: BinaryIO, entries: Iterable[Entry]) -> None:
    """Writes `entries`, and before each the directories that it lies in."""
    archive = _Archive(output)
    for entry in entries:
        path = PurePosixPath(entry.name.lstrip("/"))
        for parent in reversed(path.parents[:-1]):
            archive.directory(str(parent))
        if entry.source is None:
            archive.directory(str(path))
        else:
            archive.file(str(path), entry.mode, entry.source.read_bytes())
    archive.close()


class _Archive:
    def __init__(self, output: BinaryIO) -> None:
        self._output = output
        self._number = 0
        self._directories: set[str] = set()

    def directory(self, name: str) -> None:
        if name not in self._directories:
            self._directories.add(name)
            self._add(name, stat.S_IFDIR | 0o755, b"")

    def file(self, name: str, mode: int, data: bytes) -> None:
        self._add(name, stat.S_IFREG | mode, data)

    def close(self) -> None:
        self._add(_TRAILER, 0, b"")

    def _add(self, name: str, mode: int, data: bytes) -> None:
        self._number += 1
        encoded = name.encode() + b"\0"
        # Inode, mode, owner, group, links, time, size, device and special device (two each), length of the
        # name, checksum (none in this format).
        fields = (self._number, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(encoded), 0)
        head = b"070701" + b"".join(b"%08X" % field for field in fields) + encoded
        self._output.write(head + _padding(len(head)) + data + _padding(len(data)))


def _padding(length: int) -> bytes:
    """Headers with their names, and contents, end at a multiple of four bytes."""
    return b"\0" * (-length % 4)
