"""PVH, Xen's boot protocol for ELF files: entered where the note XEN_ELFNOTE_PHYS32_ENTRY says."""

from __future__ import annotations

import struct

from . import elf
from .entry import protected_mode
from .image import ImageError, LoadedImage, Request, require_ram
from .memory_map import memory_map
from .placement import ADDRESSABLE_END, PAGE, Placement, read_module

NAME = "PVH"

_NOTE_OWNER, _PHYS32_ENTRY = b"Xen", 18

# struct hvm_start_info
_START_MAGIC = 0x336EC578
_START_VERSION = 1  # with the memory map


def recognise(data: bytes, name: str) -> bool:
    return _entry(data) is not None


def load(data: bytes, request: Request) -> LoadedImage:
    entry = _entry(data)
    if entry is None:
        raise ImageError("no ELF note XEN_ELFNOTE_PHYS32_ENTRY")
    segments = elf.read(data).segments
    require_ram(segments, request.ram)
    if entry >= ADDRESSABLE_END:
        raise ImageError(f"the entry point {entry:#x} is above 4 GiB; PVH enters in 32-bit mode")
    placement = Placement(request.ram, [segment.span for segment in segments])
    start_info = _start_info(request, placement)
    return LoadedImage(
        format=NAME,
        segments=[*segments, *placement.segments],
        entry=protected_mode(entry, {"rbx": start_info}),
        command_line=request.append,
    )


def _entry(data: bytes) -> int | None:
    """The guest-physical entry point that the note tells; None without the note."""
    if not data.startswith(elf.MAGIC):
        return None
    value = elf.find_note(data, _NOTE_OWNER, _PHYS32_ENTRY)
    return int.from_bytes(value, "little") if value else None


def _start_info(request: Request, placement: Placement) -> int:
    """Puts hvm_start_info into memory, and what it points to; gives its address."""
    modules = b""
    for path in request.modules:
        data = read_module(path)
        modules += struct.pack("<QQQQ", placement.put_high(f"module {path}", data), len(data), 0, 0)
    ranges = [struct.pack("<QQII", span.start, span.size, kind, 0) for span, kind in memory_map(request.ram)]
    start_info = struct.pack(
        "<4I4Q2I",
        _START_MAGIC,
        _START_VERSION,
        0,
        len(request.modules),
        placement.put("the list of modules", modules),
        placement.put("the command line", request.append.encode() + b"\0"),
        request.rsdp.address,
        placement.put("the memory map", b"".join(ranges)),
        len(ranges),
        0,
    )
    return placement.put("the start information", start_info, PAGE)
