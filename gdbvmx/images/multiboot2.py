"""Multiboot 2 (specification 2.0) on a PC: ELF images, and headers that state their addresses."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from . import elf
from .address_fields import AddressFields
from .entry import protected_mode
from .image import ImageError, LoadedImage, Request, Segment, require_ram
from .memory_map import memory_map, memory_sizes
from .placement import ADDRESSABLE_END, PAGE, Placement, read_module

NAME = "multiboot 2"

# The header (section 3.1)
_MAGIC = 0xE85250D6
_SEARCH = 32768  # it lies within this many bytes, 8-byte aligned
_PROTECTED_MODE_I386 = 0
_TAG_END, _TAG_REQUEST, _TAG_ADDRESS, _TAG_ENTRY, _TAG_CONSOLE, _TAG_FRAMEBUFFER, _TAG_ALIGNMENT = range(7)
# Beside the first: 7 to 9 are for loaders under EFI, 10 lets the image be moved, which it need not be.
_UNDERSTOOD = range(11)
_OPTIONAL = 1

# The boot information (section 3.6)
_BOOT_MAGIC = 0x36D76289  # in EAX at entry
_END, _COMMAND_LINE, _LOADER_NAME, _MODULE, _MEMORY, _MEMORY_MAP = 0, 1, 2, 3, 4, 6
_OLD_RSDP, _NEW_RSDP = 14, 15
_GIVEN = (_COMMAND_LINE, _LOADER_NAME, _MODULE, _MEMORY, _MEMORY_MAP, _OLD_RSDP, _NEW_RSDP)
_LAST_KNOWN = 21  # the last type of information that the specification has
_OLD_RSDP_SIZE = 20
_LOADER = b"gdbvmx\0"


class _Tag(NamedTuple):
    kind: int
    optional: bool
    offset: int
    data: bytes


def recognise(data: bytes, name: str) -> bool:
    return _find(data) is not None


def load(data: bytes, request: Request) -> LoadedImage:
    at = _find(data)
    if at is None:
        raise ImageError("no Multiboot 2 header")
    tags = {tag.kind: tag for tag in _tags(data, at)}
    warnings = list(_check(tags.values()))
    segments, entry = _load_segments(data, at, tags)
    require_ram(segments, request.ram)
    if not 0 <= entry < ADDRESSABLE_END:
        raise ImageError(f"the entry point {entry:#x} is above 4 GiB; Multiboot 2 enters in 32-bit mode")
    placement = Placement(request.ram, [segment.span for segment in segments])
    information = placement.put("the boot information", _boot_information(request, placement), PAGE)
    return LoadedImage(
        format=NAME,
        segments=[*segments, *placement.segments],
        entry=protected_mode(entry, {"rax": _BOOT_MAGIC, "rbx": information}),
        command_line=request.command_line,
        warnings=warnings,
    )


def _find(data: bytes) -> int | None:
    """The offset of the header."""
    window = data[:_SEARCH]
    for offset in range(0, len(window) - 15, 8):
        header = struct.unpack_from("<4I", window, offset)
        if header[0] == _MAGIC and sum(header) & 0xFFFFFFFF == 0:
            return offset
    return None


def _tags(data: bytes, header: int) -> Iterator[_Tag]:
    architecture, length = struct.unpack_from("<II", data, header + 4)
    if architecture != _PROTECTED_MODE_I386:
        raise ImageError(f"a Multiboot 2 image for architecture {architecture}; expected 0, i386")
    offset, end = header + 16, header + length
    if end > len(data):
        raise ImageError(f"truncated in the Multiboot 2 header at offset {header:#x}")
    while offset + 8 <= end:
        kind, flags, size = struct.unpack_from("<HHI", data, offset)
        if kind == _TAG_END:
            return
        if size < 8 or offset + size > end:
            raise ImageError(
                f"damaged Multiboot 2 header: its tag at offset {offset:#x} has a size of {size}"
            )
        yield _Tag(kind, bool(flags & _OPTIONAL), offset, data[offset + 8 : offset + size])
        offset += (size + 7) // 8 * 8
    raise ImageError(f"the Multiboot 2 header at offset {header:#x} has no tag that ends it")


def _check(tags: Iterable[_Tag]) -> Iterator[str]:
    """What the image asks for and does not get, in words. Raises ImageError for what it cannot do without."""
    for tag in tags:
        if tag.kind == _TAG_REQUEST:
            yield from _check_request(tag)
        elif tag.kind == _TAG_FRAMEBUFFER:
            yield "the image asks for a video mode; there is no display"
        elif tag.kind not in _UNDERSTOOD and not tag.optional:
            raise ImageError(f"the Multiboot 2 header requires an unknown feature, tag {tag.kind}")


def _check_request(tag: _Tag) -> Iterator[str]:
    count = len(tag.data) // 4
    missing = [kind for kind in struct.unpack_from(f"<{count}I", tag.data) if kind not in _GIVEN]
    unknown = [kind for kind in missing if kind > _LAST_KNOWN]
    if unknown and not tag.optional:
        raise ImageError(f"the Multiboot 2 header requires unknown information, type {unknown[0]}")
    if missing and not tag.optional:
        kinds = ", ".join(str(kind) for kind in missing)
        yield f"the image asks for boot information of type {kinds}; this machine has none"


def _load_segments(data: bytes, header: int, tags: dict[int, _Tag]) -> tuple[list[Segment], int]:
    """What is loaded, and the entry point."""
    name = f"Multiboot 2 header at offset {header:#x}"
    entry = _fields(tags[_TAG_ENTRY], 1)[0] if _TAG_ENTRY in tags else None
    if _TAG_ADDRESS in tags:
        if entry is None:
            raise ImageError(f"the {name} states a load address and no entry point (tag {_TAG_ENTRY})")
        fields = AddressFields(*_fields(tags[_TAG_ADDRESS], 4))
        return [fields.segment(data, header, name)], entry
    if data.startswith(elf.MAGIC):
        image = elf.read(data)
        return image.segments, image.entry if entry is None else entry
    raise ImageError(
        "a Multiboot 2 image must be an ELF file or state its load address in its header"
        f" (tag {_TAG_ADDRESS})"
    )


def _fields(tag: _Tag, count: int) -> tuple[int, ...]:
    if len(tag.data) < 4 * count:
        raise ImageError(
            f"damaged Multiboot 2 header: tag {tag.kind} at offset {tag.offset:#x} is shorter than its fields"
        )
    return struct.unpack_from(f"<{count}I", tag.data)


def _boot_information(request: Request, placement: Placement) -> bytes:
    """The boot information; the modules that it names are put into memory."""
    ranges = b"".join(
        struct.pack("<QQII", span.start, span.size, kind, 0) for span, kind in memory_map(request.ram)
    )
    tags = [
        (_COMMAND_LINE, request.command_line.encode() + b"\0"),
        (_LOADER_NAME, _LOADER),
        (_MEMORY, struct.pack("<II", *memory_sizes(request.ram))),
        (_MEMORY_MAP, struct.pack("<II", 24, 0) + ranges),
        (_OLD_RSDP, request.rsdp.data[:_OLD_RSDP_SIZE]),
        (_NEW_RSDP, request.rsdp.data),
    ]
    for path in request.modules:
        data = read_module(path)
        start = placement.put(f"module {path}", data, PAGE)
        tags.append((_MODULE, struct.pack("<II", start, start + len(data)) + str(path).encode() + b"\0"))
    body = b"".join(_information_tag(kind, data) for kind, data in [*tags, (_END, b"")])
    return struct.pack("<II", 8 + len(body), 0) + body


def _information_tag(kind: int, data: bytes) -> bytes:
    return struct.pack("<II", kind, 8 + len(data)) + data + bytes(-len(data) % 8)
