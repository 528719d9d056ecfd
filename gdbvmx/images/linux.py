"""Linux's boot protocol for x86 (the kernel's Documentation/arch/x86/boot.rst): bzImage from version 2.02 on.

The setup code, which calls a BIOS, is left out: the kernel is entered at its 64-bit entry point if it has
one, else at the 32-bit one, with the boot parameters that the setup code would have collected.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from .entry import Entry, long_mode, protected_mode
from .image import ImageError, LoadedImage, Request, Segment, Span
from .memory_map import memory_map, memory_sizes
from .placement import ADDRESSABLE_END, HIGH_START, PAGE, Placement, read_module

NAME = "Linux bzImage"

# The setup header, at the same offsets in the file and in the boot parameters
_SECTOR = 512
_HEADER_START = 0x1F1
_SHORTEST = 0x268  # the header of version 2.10 and later; older images go on with code
_MAGIC, _MAGIC_AT = b"HdrS", 0x202
_OLDEST = 0x0202  # the first with a command line of its own place
_LOADED_HIGH = 1
_UNKNOWN_LOADER = 0xFF
_ENTRY_64 = 1 << 0  # in xloadflags
_ENTRY_64_OFFSET = 0x200

# The boot parameters ("zero page")
_RSDP_AT = 0x70
_ALT_MEMORY_AT = 0x1E0
_E820_COUNT_AT, _E820_AT = 0x1E8, 0x2D0
_LOADER_AT, _CODE32_START_AT, _RAMDISK_AT, _COMMAND_LINE_AT = 0x210, 0x214, 0x218, 0x228
# struct screen_info of a VGA in mode 3: 80 columns, 25 lines, characters of 16 lines.
_SCREEN = struct.pack("<BBHHBBBBHHBBH", 0, 0, 0, 0, 3, 80, 0, 0, 0, 0, 25, 1, 16)

# The segments that the protocol wants, and the table that they stand in.
_CODE, _DATA = 0x10, 0x18
_CODE_32, _CODE_64, _FLAT_DATA = 0x00CF9B000000FFFF, 0x00AF9B000000FFFF, 0x00CF93000000FFFF

_ENTRY_BYTES, _PRESENT_WRITABLE, _LARGE_PAGE, _LARGE_PAGE_SIZE = 8, 0b11, 1 << 7, 2 << 20


class _Header(NamedTuple):
    """The fields of the setup header that matter to a loader, by the protocol's names; for those that came
    with a later version than the image's, what the protocol says of the older ones."""

    raw: bytes
    setup_size: int
    loadflags: int
    code32_start: int
    initrd_addr_max: int
    relocatable: bool
    kernel_alignment: int
    xloadflags: int
    cmdline_size: int
    pref_address: int
    init_size: int


def recognise(data: bytes, name: str) -> bool:
    return data[_MAGIC_AT : _MAGIC_AT + len(_MAGIC)] == _MAGIC


def load(data: bytes, request: Request) -> LoadedImage:
    header = _read_header(data)
    command_line = request.append.encode()
    if len(command_line) > header.cmdline_size:
        raise ImageError(
            f"the command line has {len(command_line)} bytes; this kernel takes {header.cmdline_size}"
        )
    kernel = data[header.setup_size :]
    place = _choose_place(header, len(kernel), request.ram)
    placement = Placement(request.ram, [place])
    parameters = _boot_parameters(header, place.start, request, placement)
    enter = _enter_64 if header.xloadflags & _ENTRY_64 else _enter_32
    entry = enter(place.start, parameters, placement)
    return LoadedImage(
        format=NAME,
        segments=[Segment.of(place.start, kernel), *placement.segments],
        entry=entry,
        command_line=request.append,
    )


def _read_header(data: bytes) -> _Header:
    if len(data) < _SHORTEST:
        raise ImageError(
            f"truncated Linux bzImage: {len(data)} bytes, the setup header ends at {_SHORTEST:#x}"
        )

    def field(kind: str, at: int, since: int, older: int) -> int:
        return int(struct.unpack_from(f"<{kind}", data, at)[0]) if version >= since else older

    version = struct.unpack_from("<H", data, 0x206)[0]
    if version < _OLDEST:
        raise ImageError(
            f"a Linux image of boot protocol {version >> 8}.{version & 0xFF:02}; expected 2.02 or later"
        )
    header = _Header(
        raw=data[_HEADER_START : _MAGIC_AT + data[_MAGIC_AT - 1]],
        setup_size=(1 + (data[_HEADER_START] or 4)) * _SECTOR,
        loadflags=data[0x211],
        code32_start=field("I", 0x214, 0x200, 0),
        initrd_addr_max=field("I", 0x22C, 0x203, 0x37FFFFFF),
        kernel_alignment=field("I", 0x230, 0x205, PAGE),
        relocatable=bool(field("B", 0x234, 0x205, 0)),
        xloadflags=field("H", 0x236, 0x20C, 0),
        cmdline_size=field("I", 0x238, 0x206, 255),
        pref_address=field("Q", 0x258, 0x20A, 0),
        init_size=field("I", 0x260, 0x20A, 0),
    )
    if not header.loadflags & _LOADED_HIGH:
        raise ImageError("a Linux zImage, which loads below 1 MiB; expected a bzImage")
    if len(data) <= header.setup_size:
        raise ImageError(
            f"truncated Linux bzImage: the kernel starts at {header.setup_size:#x},"
            f" the file ends at {len(data):#x}"
        )
    return header


def _choose_place(header: _Header, size: int, ram: Sequence[Span]) -> Span:
    """Where the kernel is loaded, with the room that it needs to unpack itself: where it prefers to be, or as
    low as its alignment lets it if that is no RAM."""
    size = max(size, header.init_size)
    places = [header.pref_address or header.code32_start]
    if header.relocatable:
        alignment = max(header.kernel_alignment, PAGE)
        places.append(-(-HIGH_START // alignment) * alignment)
    spans = [Span.of(place, size) for place in places]
    for span in spans:
        if span.start >= HIGH_START and any(part.contains(span) for part in ram):
            return span
    where = ", ".join(str(part) for part in ram)
    raise ImageError(f"the kernel needs guest-physical {spans[-1]}, but RAM is {where} (--memory gives more)")


def _boot_parameters(header: _Header, address: int, request: Request, placement: Placement) -> int:
    """Puts the boot parameters into memory, and what they point to; gives their address."""
    initrd = _join(request.modules)
    # A kernel that maps all memory may have its initial file system above 4 GiB; below is right for all.
    limit = min(header.initrd_addr_max + 1, ADDRESSABLE_END)
    ramdisk = placement.put_high("the initial RAM disk", initrd, limit) if initrd else 0
    ranges = list(memory_map(request.ram))
    parameters = bytearray(PAGE)

    def put(at: int, data: bytes) -> None:
        parameters[at : at + len(data)] = data

    put(_HEADER_START, header.raw)
    put(0, _SCREEN)
    put(_RSDP_AT, struct.pack("<Q", request.rsdp.address))
    put(_ALT_MEMORY_AT, struct.pack("<I", memory_sizes(request.ram)[1]))
    put(_E820_COUNT_AT, struct.pack("<B", len(ranges)))
    put(_E820_AT, b"".join(struct.pack("<QQI", span.start, span.size, kind) for span, kind in ranges))
    put(_LOADER_AT, bytes([_UNKNOWN_LOADER]))
    put(_CODE32_START_AT, struct.pack("<I", address))
    put(_RAMDISK_AT, struct.pack("<II", ramdisk, len(initrd)))
    command_line = placement.put("the command line", request.append.encode() + b"\0")
    put(_COMMAND_LINE_AT, struct.pack("<I", command_line))
    return placement.put("the boot parameters", bytes(parameters), PAGE)


def _join(paths: Sequence[Path]) -> bytes:
    """One initial RAM disk of several: the kernel unpacks one archive after the other, at multiples of 4."""
    joined = b""
    for path in paths:
        joined += bytes(-len(joined) % 4) + read_module(path)
    return joined


def _enter_32(kernel: int, parameters: int, placement: Placement) -> Entry:
    registers = {"rsi": parameters} | _descriptor_table(_CODE_32, placement)
    return protected_mode(kernel, registers, code=_CODE, data=_DATA)


def _enter_64(kernel: int, parameters: int, placement: Placement) -> Entry:
    registers = {"rsi": parameters} | _descriptor_table(_CODE_64, placement)
    tables = _identity_map(placement)
    return long_mode(kernel + _ENTRY_64_OFFSET, tables, registers, code=_CODE, data=_DATA)


def _descriptor_table(code: int, placement: Placement) -> dict[str, int]:
    table = struct.pack("<4Q", 0, 0, code, _FLAT_DATA)
    return {"gdtr_base": placement.put("the descriptor table", table), "gdtr_limit": len(table) - 1}


def _identity_map(placement: Placement) -> int:
    """Page tables that map the first 4 GiB to themselves; gives the address of the PML4."""
    directories = ADDRESSABLE_END // _LARGE_PAGE_SIZE * _ENTRY_BYTES // PAGE
    base = placement.place("the page tables", (2 + directories) * PAGE, PAGE)
    pointers = [base + (2 + number) * PAGE for number in range(directories)]
    large_pages = range(0, ADDRESSABLE_END, _LARGE_PAGE_SIZE)
    tables = (
        struct.pack("<Q", base + PAGE | _PRESENT_WRITABLE).ljust(PAGE, b"\0")
        + b"".join(struct.pack("<Q", at | _PRESENT_WRITABLE) for at in pointers).ljust(PAGE, b"\0")
        + b"".join(struct.pack("<Q", at | _PRESENT_WRITABLE | _LARGE_PAGE) for at in large_pages)
    )
    placement.segments.append(Segment.of(base, tables))
    return base
