"""Multiboot 1 (specification 0.6.96): ELF32 and ELF64 images, and headers that state their addresses."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

from . import elf
from .address_fields import AddressFields
from .entry import protected_mode
from .image import ImageError, LoadedImage, Request, Segment, require_ram
from .memory_map import memory_map, memory_sizes
from .placement import ADDRESSABLE_END, PAGE, Placement, read_module

NAME = "multiboot 1"

# The header (section 3.1)
_HEADER_NAME = "Multiboot 1 header"
_MAGIC = 0x1BADB002
_SEARCH = 8192  # it lies within this many bytes, 4-byte aligned
_VIDEO_MODE = 1 << 2
_ADDRESS_FIELDS = 1 << 16
_REQUIRED = 0xFFFF  # a loader must refuse an image that sets one of these that it does not know
_KNOWN_REQUIRED = 0b111  # module alignment, memory information, video mode

# The boot information (section 3.3)
_BOOT_MAGIC = 0x2BADB002  # in EAX at entry
_INFO_MEMORY = 1 << 0
_INFO_CMDLINE = 1 << 2
_INFO_MODULES = 1 << 3
_INFO_MEMORY_MAP = 1 << 6
_INFO_LOADER_NAME = 1 << 9
_INFO_SIZE = 116
_LOADER_NAME = b"gdbvmx\0"


class _Header(NamedTuple):
    offset: int
    flags: int


def recognise(data: bytes, name: str) -> bool:
    return any(sums_up for _, sums_up in _candidates(data))


def explain_absence(data: bytes) -> str:
    """Why `data` is no Multiboot 1 image, in words."""
    for offset, _ in _candidates(data):
        return f"the Multiboot 1 header at offset {offset:#x} has a wrong checksum"
    return f"no Multiboot 1 header in its first {_SEARCH} bytes"


def load(data: bytes, request: Request) -> LoadedImage:
    header = _find_header(data)
    unknown = header.flags & _REQUIRED & ~_KNOWN_REQUIRED
    if unknown:
        raise ImageError(
            f"the Multiboot 1 header at offset {header.offset:#x} requires unknown features, {unknown:#x}"
        )
    warnings = ["the image asks for a video mode; there is no display"] if header.flags & _VIDEO_MODE else []

    if header.flags & _ADDRESS_FIELDS:
        segment, entry = _load_by_addresses(data, header)
        segments = [segment]
    elif data.startswith(elf.MAGIC):
        image = elf.read(data)
        segments, entry = image.segments, image.entry
    else:
        raise ImageError(
            "a Multiboot 1 image must be an ELF file or state its load address in its header (flag 16)"
        )
    require_ram(segments, request.ram)
    if not 0 <= entry < ADDRESSABLE_END:
        raise ImageError(f"the entry point {entry:#x} is above 4 GiB; Multiboot 1 enters in 32-bit mode")

    placement = Placement(request.ram, [segment.span for segment in segments])
    information = _boot_information(request, placement)
    return LoadedImage(
        format=NAME,
        segments=[*segments, *placement.segments],
        entry=protected_mode(entry, {"rax": _BOOT_MAGIC, "rbx": information}),
        command_line=request.command_line,
        warnings=warnings,
    )


def _candidates(data: bytes) -> Iterator[tuple[int, bool]]:
    """Each offset at which the magic stands, and whether the checksum holds there."""
    window = data[:_SEARCH]
    for offset in range(0, len(window) - 11, 4):
        magic, flags, checksum = struct.unpack_from("<III", window, offset)
        if magic == _MAGIC:
            yield offset, (magic + flags + checksum) & 0xFFFFFFFF == 0


def _find_header(data: bytes) -> _Header:
    for offset, sums_up in _candidates(data):
        if sums_up:
            return _Header(offset, struct.unpack_from("<I", data, offset + 4)[0])
    raise ImageError(explain_absence(data))


def _load_by_addresses(data: bytes, header: _Header) -> tuple[Segment, int]:
    """What the header's address fields (flag 16) load, and the entry point that follows them."""
    fields = header.offset + 12
    if len(data) < fields + 20:
        raise ImageError(f"truncated in the Multiboot 1 header at offset {header.offset:#x}")
    name = f"{_HEADER_NAME} at offset {header.offset:#x}"
    segment = AddressFields.unpack(data, fields).segment(data, header.offset, name)
    return segment, struct.unpack_from("<I", data, fields + 16)[0]


def _boot_information(request: Request, placement: Placement) -> int:
    """Puts the boot information into memory, and what it points to; gives its address."""
    modules = b""
    for path in request.modules:
        data = read_module(path)
        # Page-aligned whether the image asks for it or not.
        start = placement.put(f"module {path}", data, PAGE)
        name = placement.put("a module's name", str(path).encode() + b"\0", 1)
        modules += struct.pack("<4I", start, start + len(data), name, 0)
    ranges = b"".join(
        struct.pack("<IQQI", 20, span.start, span.size, kind) for span, kind in memory_map(request.ram)
    )
    flags = _INFO_MEMORY | _INFO_CMDLINE | _INFO_MODULES | _INFO_MEMORY_MAP | _INFO_LOADER_NAME
    lower, upper = memory_sizes(request.ram)
    information = struct.pack(
        "<3I4x3I16x2I12xI",
        flags,
        lower,
        upper,
        placement.put("the command line", request.command_line.encode() + b"\0"),
        len(request.modules),
        placement.put("the list of modules", modules),
        len(ranges),
        placement.put("the memory map", ranges),
        placement.put("the loader's name", _LOADER_NAME),
    )
    return placement.put("the boot information", information.ljust(_INFO_SIZE, b"\0"))
