"""The loadable segments and the notes of an ELF file for x86.

Read here, for a library that reads all of ELF takes longer to import than a machine to start.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from .image import ImageError, Segment

MAGIC = b"\x7fELF"

_CLASS_AT, _DATA_AT, _TYPE_AT = 4, 5, 16
_LITTLE_ENDIAN = 1
_CLASSES = {1: 32, 2: 64}
_TYPES = {1: "ET_REL", 2: "ET_EXEC", 3: "ET_DYN", 4: "ET_CORE"}
_MACHINES = {3: "EM_386", 62: "EM_X86_64"}
_LOAD, _NOTE = 1, 4
# By class: the header from e_type to e_phnum; a program header without its flags, which stand in different
# places.
_HEADER = {32: "<HHIIIIIHHH", 64: "<HHIQQQIHHH"}
_PROGRAM_HEADER = {32: "<6I", 64: "<I4xQQQQQ"}
# More program headers than any kernel has.
_MOST_SEGMENTS = 4096


class ElfImage(NamedTuple):
    """`bits` is 32 or 64; `entry` the guest-physical address of the entry point."""

    bits: int
    entry: int
    segments: list[Segment]


class _ProgramHeader(NamedTuple):
    """The fields of that name, less their `p_`."""

    type: int
    offset: int
    vaddr: int
    paddr: int
    filesz: int
    memsz: int

    @property
    def end(self) -> int:
        return self.offset + self.filesz


class _File(NamedTuple):
    bits: int
    type: int
    entry: int
    headers: Sequence[_ProgramHeader]


def read(data: bytes) -> ElfImage:
    """Reads an ELF executable. Raises ImageError for a truncated, damaged or foreign one."""
    file = _read_headers(data)
    if _TYPES.get(file.type) != "ET_EXEC":
        raise ImageError(
            f"an ELF file of type {_TYPES.get(file.type, file.type)};"
            " expected ET_EXEC, an executable with fixed addresses"
        )
    loadable = [header for header in file.headers if header.type == _LOAD and header.memsz > 0]
    if not loadable:
        raise ImageError("an ELF file with no loadable segment (PT_LOAD)")
    segments = [_segment(number, header, data) for number, header in enumerate(loadable)]
    return ElfImage(file.bits, _physical_entry(file.entry, loadable), segments)


def find_note(data: bytes, owner: bytes, kind: int) -> bytes | None:
    """The contents of the ELF note `kind` of `owner`; None if there is none, or `data` is no ELF file."""
    try:
        headers = _read_headers(data).headers
    except ImageError:
        return None
    segments = (data[header.offset : header.end] for header in headers if header.type == _NOTE)
    notes = (note for segment in segments for note in _notes(segment))
    return next((contents for name, number, contents in notes if (name, number) == (owner, kind)), None)


def _read_headers(data: bytes) -> _File:
    try:
        bits = _CLASSES[data[_CLASS_AT]]
        kind, machine, _, entry, start, _, _, _, size, count = struct.unpack_from(
            _HEADER[bits], data, _TYPE_AT
        )
        if machine not in _MACHINES or data[_DATA_AT] != _LITTLE_ENDIAN:
            expected = " or ".join(f"{number} ({name})" for number, name in _MACHINES.items())
            raise ImageError(f"an ELF file for machine {machine}; expected {expected}, little-endian")
        if count > _MOST_SEGMENTS:
            raise ImageError(f"damaged ELF file: {count} program headers")
        layout = struct.Struct(_PROGRAM_HEADER[bits])
        headers = [
            _ProgramHeader(*layout.unpack_from(data, start + size * number)) for number in range(count)
        ]
    except (IndexError, KeyError, struct.error) as error:
        raise ImageError(f"damaged or truncated ELF file of {len(data)} bytes") from error
    return _File(bits, kind, entry, headers)


def _segment(number: int, header: _ProgramHeader, data: bytes) -> Segment:
    if header.end > len(data):
        raise ImageError(
            f"truncated ELF file: segment {number} needs bytes {header.offset:#x}-{header.end:#x},"
            f" the file ends at {len(data):#x}"
        )
    if header.filesz > header.memsz:
        raise ImageError(
            f"damaged ELF file: segment {number} has {header.filesz:#x} bytes in the file"
            f" and {header.memsz:#x} in memory"
        )
    return Segment(header.paddr, data[header.offset : header.end], header.memsz)


def _physical_entry(entry: int, headers: Sequence[_ProgramHeader]) -> int:
    """The entry point is virtual in kernels linked high: translate it by the segment that holds it."""
    for header in headers:
        if header.vaddr <= entry < header.vaddr + header.memsz:
            return entry - header.vaddr + header.paddr
    return entry


def _notes(segment: bytes) -> Iterator[tuple[bytes, int, bytes]]:
    """Owner, type and contents of each note in a segment, up to the first that does not fit."""
    at = 0
    while at + 12 <= len(segment):
        name_size, size, kind = struct.unpack_from("<III", segment, at)
        name_at = at + 12
        contents_at = name_at + (name_size + 3) // 4 * 4
        if contents_at + size > len(segment):
            return
        name = segment[name_at : name_at + name_size].rstrip(b"\0")
        yield name, kind, segment[contents_at : contents_at + size]
        at = contents_at + (size + 3) // 4 * 4
