"""Multiboot 1 (specification 0.6.96): ELF32 and ELF64 images, and headers that state their addresses."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from . import elf
from .image import Entry, ImageError, LoadedImage, Request, Segment, Span, require_ram
from .placement import ADDRESSABLE_END, HIGH_START, LOW_END, PAGE, Placement

NAME = "multiboot 1"

# The header (section 3.1)
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

_AVAILABLE, _RESERVED = 1, 2


@dataclass(frozen=True)
class _Header:
    offset: int
    flags: int


@dataclass(frozen=True)
class _Module:
    span: Span
    name: bytes


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
        segments, entry = _load_by_addresses(data, header)
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

    info_address, boot_data = _boot_data(request, [segment.span for segment in segments])
    return LoadedImage(
        format=NAME,
        segments=[*segments, *boot_data],
        entry=Entry(entry, {"rax": _BOOT_MAGIC, "rbx": info_address}),
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


def _load_by_addresses(data: bytes, header: _Header) -> tuple[list[Segment], int]:
    """The header's address fields (flag 16) say where the bytes of the file go, whatever its format."""
    fields = data[header.offset + 12 : header.offset + 32]
    if len(fields) < 20:
        raise ImageError(f"truncated in the Multiboot 1 header at offset {header.offset:#x}")
    header_address, load, load_end, bss_end, entry = struct.unpack("<5I", fields)
    start = header.offset - (header_address - load)
    if header_address < load or start < 0:
        raise ImageError(
            f"the Multiboot 1 header puts itself at {header_address:#x} and the load address at {load:#x},"
            f" but stands at offset {header.offset:#x} of the file"
        )
    size = load_end - load if load_end else len(data) - start
    if size < 0 or start + size > len(data):
        raise ImageError(
            f"truncated: the Multiboot 1 header loads {load:#x}-{load_end:#x} from offset {start:#x},"
            f" the file ends at {len(data):#x}"
        )
    memory = bss_end - load if bss_end else size
    if memory < size:
        raise ImageError(
            f"the Multiboot 1 header ends the bss at {bss_end:#x}, before the data at {load + size:#x}"
        )
    return [Segment(load, data[start : start + size], memory)], entry


def _boot_data(request: Request, taken: Sequence[Span]) -> tuple[int, list[Segment]]:
    """The address of the boot information, and the segments with it, what it points to, and the modules."""
    placement = Placement(request.ram, taken)
    modules, segments = _place_modules(request.modules, placement)

    memory_map = b"".join(
        struct.pack("<IQQI", 20, span.start, span.size, kind) for span, kind in _memory_map(request.ram)
    )
    # One block: the information first, then what it points to.
    command_line = request.command_line.encode() + b"\0"
    names = b"".join(module.name for module in modules)
    offsets = [0]
    parts = (b"\0" * _INFO_SIZE, b"\0" * 16 * len(modules), memory_map, command_line, _LOADER_NAME, names)
    for part in parts:
        offsets.append(offsets[-1] + (len(part) + 3) // 4 * 4)
    base = placement.place("the boot information", offsets[-1], 16)
    modules_at, map_at, command_line_at, loader_at, names_at = (base + offset for offset in offsets[1:-1])

    module_list = b""
    for module in modules:
        module_list += struct.pack("<4I", module.span.start, module.span.end, names_at, 0)
        names_at += len(module.name)

    flags = _INFO_MEMORY | _INFO_CMDLINE | _INFO_MODULES | _INFO_MEMORY_MAP | _INFO_LOADER_NAME
    lower, upper = _memory_sizes(request.ram)
    info = struct.pack(
        "<3I4x3I16x2I12xI",
        flags, lower, upper, command_line_at, len(modules), modules_at, len(memory_map), map_at, loader_at,
    )  # fmt: skip
    block = bytearray(offsets[-1])
    for offset, part in zip(offsets, (info, module_list, *parts[2:]), strict=False):
        block[offset : offset + len(part)] = part
    return base, [*segments, Segment.of(base, bytes(block))]


def _place_modules(paths: Sequence[Path], placement: Placement) -> tuple[list[_Module], list[Segment]]:
    modules, segments = [], []
    for path in paths:
        try:
            data = path.read_bytes()
        except OSError as error:
            raise ImageError(f"module {path}: {error.strerror}") from error
        # Page-aligned whether the image asks for it or not.
        address = placement.place(f"module {path}", max(len(data), 1), PAGE)
        modules.append(_Module(Span.of(address, len(data)), str(path).encode() + b"\0"))
        segments.append(Segment.of(address, data))
    return modules, segments


def _memory_map(ram: Sequence[Span]) -> Iterator[tuple[Span, int]]:
    """A PC's map: RAM, without what the BIOS keeps below 1 MiB."""
    for part in ram:
        if part.start < LOW_END:
            yield Span(part.start, min(part.end, LOW_END)), _AVAILABLE
            yield Span(LOW_END, 0xA0000), _RESERVED
            yield Span(0xF0000, HIGH_START), _RESERVED
        if part.end > HIGH_START:
            yield Span(max(part.start, HIGH_START), part.end), _AVAILABLE


def _memory_sizes(ram: Sequence[Span]) -> tuple[int, int]:
    """KiB of memory from 0, and from 1 MiB up to the first hole."""
    upper = next((part.end for part in ram if part.start <= HIGH_START < part.end), HIGH_START)
    return LOW_END // 1024, (upper - HIGH_START) // 1024
