"""Multiboot 2 and PVH: what the image asks for, and what it is told."""

from __future__ import annotations

import struct

import pytest

from gdbvmx.images import ImageError, Span

MIB = 1 << 20
ADDRESS = 2 * MIB


def tag(kind: int, data: bytes = b"", *, optional: bool = False) -> bytes:
    return struct.pack("<HHI", kind, optional, 8 + len(data)) + data + bytes(-len(data) % 8)


def header(*tags: bytes, architecture: int = 0) -> bytes:
    body = b"".join([*tags, tag(0)])
    length = 16 + len(body)
    checksum = -(0xE85250D6 + architecture + length) & 0xFFFFFFFF
    return struct.pack("<4I", 0xE85250D6, architecture, length, checksum) + body


def elf32(*segments: tuple[int, int, bytes], entry: int = ADDRESS) -> bytes:
    """An ELF executable of `segments`: (type, address, bytes)."""
    at = 52 + 32 * len(segments)
    head = struct.pack(
        "<16sHHIIIIIHHHHHH",
        b"\x7fELF\x01\x01\x01", 2, 3, 1, entry, 52, 0, 0, 52, 32, len(segments), 0, 0, 0,
    )  # fmt: skip
    body = b""
    for kind, address, data in segments:
        head += struct.pack("<8I", kind, at + len(body), address, address, len(data), len(data), 7, 4)
        body += data
    return head + body


def multiboot2(*tags: bytes) -> bytes:
    code = header(*tags)
    # The header must stand at a multiple of 8: after the ELF header and one program header it does not.
    return elf32((1, ADDRESS, bytes(4) + code))


def pvh(entry: int = ADDRESS + 4, descriptor: int = 4) -> bytes:
    note = struct.pack("<3I4s", 4, descriptor, 18, b"Xen") + entry.to_bytes(descriptor, "little")
    return elf32((1, ADDRESS, b"\xf4" * 16), (4, ADDRESS, note))


def information(image, memory_of) -> dict[int, list[bytes]]:
    """The boot information's tags by type."""
    assert image.entry.registers["rax"] == 0x36D76289
    memory, base = memory_of(image), image.entry.registers["rbx"]
    assert base % 8 == 0
    size, tags, at = memory.word(base), {}, 8
    while at < size:
        kind, length = struct.unpack("<II", memory.read(base + at, 8))
        tags.setdefault(kind, []).append(memory.read(base + at + 8, length - 8))
        at += (length + 7) // 8 * 8
    assert kind == 0 and at == size
    return tags


def test_multiboot2_elf(load_image, memory_of, rsdp, tmp_path):
    module = tmp_path / "disk"
    module.write_bytes(b"data")
    image = load_image(multiboot2(), append="-v", modules=[module])
    assert (image.format, image.entry.rip) == ("multiboot 2", ADDRESS)
    told = information(image, memory_of)
    assert told[1] == [f"{tmp_path}/kernel.elf -v".encode() + b"\0"]
    start, end = struct.unpack("<II", told[3][0][:8])
    assert (memory_of(image).read(start, end - start), told[3][0][8:]) == (b"data", f"{module}\0".encode())
    assert told[4] == [struct.pack("<II", 639, 63 * 1024)]
    assert (told[14], told[15]) == ([rsdp.data[:20]], [rsdp.data])


def test_multiboot2_memory_map(load_image, memory_of):
    image = load_image(multiboot2(), ram=[Span(0, 64 * MIB)])
    (table,) = information(image, memory_of)[6]
    assert struct.unpack("<II", table[:8]) == (24, 0)
    entries = list(struct.iter_unpack("<QQII", table[8:]))
    assert (MIB, 63 * MIB, 1, 0) in entries and (0xF0000, 0x10000, 2, 0) in entries


def test_multiboot2_address_and_entry_tags_load_any_format(load_image):
    addresses = tag(2, struct.pack("<4I", ADDRESS + 8, ADDRESS, 0, ADDRESS + 0x1000))
    image = load_image(bytes(8) + header(addresses, tag(3, struct.pack("<I", ADDRESS + 0x60))) + b"\xf4" * 64)
    assert image.entry.rip == ADDRESS + 0x60
    assert (image.segments[0].address, image.segments[0].size) == (ADDRESS, 0x1000)


def test_multiboot2_says_what_the_image_does_not_get(load_image):
    request = tag(1, struct.pack("<II", 6, 8))
    assert load_image(multiboot2(tag(5, bytes(12)), request)).warnings == [
        "the image asks for a video mode; there is no display",
        "the image asks for boot information of type 8; this machine has none",
    ]
    quiet = (tag(1, struct.pack("<I", 8), optional=True), tag(99, optional=True), tag(4, bytes(4)), tag(6))
    assert load_image(multiboot2(*quiet)).warnings == []


@pytest.mark.parametrize("descriptor", [4, 8])
def test_pvh_enters_where_the_note_says(load_image, memory_of, rsdp, tmp_path, descriptor):
    module = tmp_path / "initrd"
    module.write_bytes(b"data")
    image = load_image(pvh(descriptor=descriptor), append="quiet", modules=[module])
    assert (image.format, image.entry.rip) == ("PVH", ADDRESS + 4)
    memory, at = memory_of(image), image.entry.registers["rbx"]
    magic, version, flags, modules, module_list, command_line, root, memory_map, ranges = struct.unpack(
        "<4I4QI", memory.read(at, 52)
    )
    assert (magic, version, flags, modules, root) == (0x336EC578, 1, 0, 1, rsdp.address)
    assert memory.string(command_line) == "quiet"
    start, size = struct.unpack("<QQ", memory.read(module_list, 16))
    assert memory.read(start, size) == b"data"
    entries = list(struct.iter_unpack("<QQII", memory.read(memory_map, 24 * ranges)))
    assert (MIB, 63 * MIB, 1, 0) in entries


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (multiboot2(tag(99)), "requires an unknown feature, tag 99"),
        (multiboot2(tag(1, struct.pack("<I", 77))), "requires unknown information, type 77"),
        (bytes(8) + header(architecture=4), "for architecture 4; expected 0"),
        (bytes(8) + header(), "must be an ELF file or state its load address"),
        (bytes(8) + header(tag(2, bytes(16))), "states a load address and no entry point"),
        (
            bytes(8) + header(tag(2, bytes(8)), tag(3, bytes(4))),
            "tag 2 at offset 0x18 is shorter than its fields",
        ),
        (bytes(8) + header()[:-8], "truncated in the Multiboot 2 header"),
        (pvh(entry=1 << 40, descriptor=8), "the entry point 0x10000000000 is above 4 GiB"),
    ],
)
def test_unusable_images(load_image, data, complaint):
    with pytest.raises(ImageError) as caught:
        load_image(data)
    assert complaint in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("data", [multiboot2(tag(5, bytes(12))), pvh()], ids=["multiboot 2", "PVH"])
def test_every_truncation_is_refused_in_one_line(load_image, data: bytes):
    for size in range(len(data)):
        with pytest.raises(ImageError):
            load_image(data[:size])
