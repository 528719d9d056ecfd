"""The loadable segments of an ELF file for x86, by pyelftools."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from elftools.elf.elffile import ELFFile
from elftools.elf.notes import iter_notes

from .image import ImageError, Segment

MAGIC = b"\x7fELF"
_MACHINES = ("EM_386", "EM_X86_64")
# More program headers than any kernel has; a damaged count must not become minutes of parsing.
_MOST_SEGMENTS = 4096


@dataclass(frozen=True)
class ElfImage:
    """`bits` is 32 or 64; `entry` the guest-physical address of the entry point."""

    bits: int
    entry: int
    segments: list[Segment]


def read(data: bytes) -> ElfImage:
    """Reads an ELF executable. Raises ImageError for a truncated, damaged or foreign one."""
    try:
        file = ELFFile(io.BytesIO(data))
        return _read(file, data)
    except ImageError:
        raise
    except Exception as error:  # on damaged input pyelftools raises nearly anything
        detail = " ".join(str(error).split()) or type(error).__name__
        raise ImageError(f"damaged or truncated ELF file of {len(data)} bytes: {detail}") from error


def _read(file: ELFFile, data: bytes) -> ElfImage:
    machine = file["e_machine"]
    if machine not in _MACHINES or not file.little_endian:
        raise ImageError(f"an ELF file for {machine}; expected {' or '.join(_MACHINES)}, little-endian")
    if file["e_type"] != "ET_EXEC":
        raise ImageError(
            f"an ELF file of type {file['e_type']}; expected ET_EXEC, an executable with fixed addresses"
        )
    if file["e_phnum"] > _MOST_SEGMENTS:
        raise ImageError(f"damaged ELF file: {file['e_phnum']} program headers")
    headers = list(_loadable(file))
    segments = [_segment(number, header, data) for number, header in enumerate(headers)]
    if not segments:
        raise ImageError("an ELF file with no loadable segment (PT_LOAD)")
    return ElfImage(file.elfclass, _physical_entry(file["e_entry"], headers), segments)


def _loadable(file: ELFFile) -> Iterator[Mapping[str, int]]:
    for segment in file.iter_segments():
        if segment["p_type"] == "PT_LOAD" and segment["p_memsz"] > 0:
            yield segment.header


def _segment(number: int, header: Mapping[str, int], data: bytes) -> Segment:
    offset, size = header["p_offset"], header["p_filesz"]
    if offset + size > len(data):
        raise ImageError(
            f"truncated ELF file: segment {number} needs bytes {offset:#x}-{offset + size:#x},"
            f" the file ends at {len(data):#x}"
        )
    if size > header["p_memsz"]:
        raise ImageError(
            f"damaged ELF file: segment {number} has {size:#x} bytes in the file"
            f" and {header['p_memsz']:#x} in memory"
        )
    return Segment(header["p_paddr"], data[offset : offset + size], header["p_memsz"])


def _physical_entry(entry: int, headers: list[Mapping[str, int]]) -> int:
    """The entry point is virtual in kernels linked high: translate it by the segment that holds it."""
    for header in headers:
        if header["p_vaddr"] <= entry < header["p_vaddr"] + header["p_memsz"]:
            return entry - header["p_vaddr"] + header["p_paddr"]
    return entry


def find_note(data: bytes, owner: str, kind: int) -> bytes | None:
    """The contents of the ELF note `kind` of `owner`; None if there is none, or `data` is no ELF file."""
    try:
        file = ELFFile(io.BytesIO(data))
        for segment in file.iter_segments("PT_NOTE"):
            for note in iter_notes(file, segment["p_offset"], segment["p_filesz"]):
                contents = note["n_descdata"]
                complete = len(contents) == note["n_descsz"]
                if complete and note["n_name"] == owner and int(note["n_type"]) == kind:
                    return bytes(contents)
    except Exception:  # on damaged input pyelftools raises nearly anything
        return None
    return None
