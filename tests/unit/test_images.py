"""Image loaders: what is put where, and the one line that each unusable file earns."""

from __future__ import annotations

import struct
from contextlib import suppress
from random import Random

import pytest

from gdbvmx import images
from gdbvmx.images import ImageError, LoadedImage, Span

MIB = 1 << 20
RAM = [Span(0, 64 * MIB)]

MULTIBOOT = struct.pack("<III", 0x1BADB002, 0, -0x1BADB002 & 0xFFFFFFFF)


def elf(
    *segments: tuple[int, int, bytes, int],
    entry: int = 0x100000,
    bits: int = 32,
    machine: int = 3,
    kind: int = 2,
) -> bytes:
    """An ELF executable of `segments`: (virtual address, physical address, bytes, size in memory)."""
    if bits == 32:
        header_size, segment_size = 52, 32
        offset = header_size + segment_size * len(segments)
        header = struct.pack(
            "<16sHHIIIIIHHHHHH", b"\x7fELF\x01\x01\x01", kind, machine, 1, entry, header_size, 0, 0,
            header_size, segment_size, len(segments), 0, 0, 0,
        )  # fmt: skip
    else:
        header_size, segment_size = 64, 56
        offset = header_size + segment_size * len(segments)
        header = struct.pack(
            "<16sHHIQQQIHHHHHH", b"\x7fELF\x02\x01\x01", kind, machine, 1, entry, header_size, 0, 0,
            header_size, segment_size, len(segments), 0, 0, 0,
        )  # fmt: skip
    body = b""
    for virtual, physical, data, size in segments:
        at = offset + len(body)
        header += (
            struct.pack("<8I", 1, at, virtual, physical, len(data), size, 7, 0)
            if bits == 32
            else struct.pack("<IIQQQQQQ", 1, 7, at, virtual, physical, len(data), size, 0)
        )
        body += data
    return header + body


KERNEL = elf((0x100000, 0x100000, MULTIBOOT + b"code", 0x3000))


def info_of(image: LoadedImage) -> int:
    assert image.entry.registers["rax"] == 0x2BADB002
    return image.entry.registers["rbx"]


def test_elf32_segments_and_entry(load_image):
    image = load_image(KERNEL)
    assert image.format == "multiboot 1"
    assert image.entry.rip == 0x100000
    first = image.segments[0]
    assert (first.address, first.data, first.size) == (0x100000, MULTIBOOT + b"code", 0x3000)


def test_elf64_linked_high_enters_at_its_physical_address(load_image):
    high = 0xFFFFFFFF80000000
    image = load_image(elf((high, 0x200000, MULTIBOOT, 0x1000), entry=high + 0x20, bits=64, machine=62))
    assert image.entry.rip == 0x200020
    assert image.segments[0].address == 0x200000


def test_address_fields_load_any_format(load_image):
    header = struct.pack("<III", 0x1BADB002, 1 << 16, -(0x1BADB002 + (1 << 16)) & 0xFFFFFFFF)
    # The header stands at offset 8 and goes to 0x100008: so the file loads at 0x100000.
    addresses = struct.pack("<5I", 0x100008, 0x100000, 0x100030, 0x101000, 0x100028)
    image = load_image(b"\x90" * 8 + header + addresses + b"\xf4" * 100)
    segment = image.segments[0]
    assert (segment.address, len(segment.data), segment.size) == (0x100000, 0x30, 0x1000)
    assert image.entry.rip == 0x100028


def test_command_line_is_the_image_name_and_what_is_appended(load_image, memory_of, tmp_path):
    image = load_image(KERNEL, append="null -v")
    memory, info = memory_of(image), info_of(image)
    assert memory.word(info) & 1 << 2
    assert memory.string(memory.word(info + 16)) == f"{tmp_path}/kernel.elf null -v"
    assert image.command_line == f"{tmp_path}/kernel.elf null -v"


def memory_map(memory, info: int) -> list[tuple[int, int, int]]:
    assert memory.word(info) & 1 << 6
    length, at = memory.word(info + 44), memory.word(info + 48)
    entries, end = [], at + length
    while at < end:
        size, base, span, kind = struct.unpack("<IQQI", memory.read(at, 24))
        entries.append((base, span, kind))
        at += size + 4
    return entries


def test_memory_map_is_a_pcs(load_image, memory_of):
    image = load_image(KERNEL, ram=[Span(0, 0xC0000000), Span(1 << 32, (1 << 32) + MIB)])
    available = [entry for entry in memory_map(memory_of(image), info_of(image)) if entry[2] == 1]
    assert available == [(0, 0x9FC00, 1), (MIB, 0xC0000000 - MIB, 1), (1 << 32, MIB, 1)]


def test_memory_sizes_in_kib(load_image, memory_of):
    image = load_image(KERNEL)
    memory, info = memory_of(image), info_of(image)
    assert (memory.word(info + 4), memory.word(info + 8)) == (639, 63 * 1024)


def test_modules(load_image, memory_of, tmp_path):
    small, large = tmp_path / "environment", tmp_path / "disk"
    small.write_bytes(b"NR_CPUS=1\n")
    large.write_bytes(b"x" * 2 * MIB)
    image = load_image(KERNEL, modules=[small, large])
    memory, info = memory_of(image), info_of(image)
    assert memory.word(info) & 1 << 3
    assert memory.word(info + 20) == 2
    for number, path in enumerate((small, large)):
        start, end, name, _ = struct.unpack("<4I", memory.read(memory.word(info + 24) + 16 * number, 16))
        assert start % 4096 == 0
        assert memory.read(start, end - start) == path.read_bytes()
        assert memory.string(name) == str(path)


def test_boot_data_is_off_the_first_page_and_off_the_room_after_the_image(load_image):
    image = load_image(KERNEL)
    boot_data = image.segments[1:]
    assert boot_data
    for segment in boot_data:
        assert segment.span.start >= 0x1000
        assert segment.span.end <= 0x9FC00


def test_boot_data_avoids_an_image_that_fills_low_memory(load_image, memory_of):
    image = load_image(elf((0x1000, 0x1000, MULTIBOOT, 0x9EC00), entry=0x1000))
    info = info_of(image)
    assert info >= MIB
    assert memory_of(image).word(info) & 1


def test_video_mode_is_warned_about(load_image):
    header = struct.pack("<III", 0x1BADB002, 4, -(0x1BADB002 + 4) & 0xFFFFFFFF)
    assert load_image(elf((MIB, MIB, header, 0x1000))).warnings == [
        "the image asks for a video mode; there is no display"
    ]
    assert load_image(KERNEL).warnings == []


def test_flat_binary(load_image):
    image = load_image(b"\xf4", name="stub.bin")
    assert (image.entry.rip, image.segments[0].address) == (MIB, MIB)


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (b"", "an empty file"),
        (b"hello, world\n", "no known image: no Multiboot 1 header in its first 8192 bytes; expected"),
        (elf((MIB, MIB, b"code", 0x1000)), "an ELF file, but no Multiboot 1 header in its first 8192"),
        (elf((MIB, MIB, MULTIBOOT[:8] + bytes(4), 64)), "has a wrong checksum"),
        (KERNEL[:-3], "truncated ELF file: segment 0 needs bytes 0x54-0x64, the file ends at 0x61"),
        (KERNEL[:20], "damaged or truncated ELF file of 20 bytes"),
        (elf((MIB, MIB, MULTIBOOT, 0x1000), machine=183), "an ELF file for machine 183; expected 3 (EM_386)"),
        (elf((MIB, MIB, MULTIBOOT, 0x1000), kind=3), "of type ET_DYN; expected ET_EXEC"),
        (elf((MIB, MIB, MULTIBOOT, 4)), "0xc bytes in the file and 0x4 in memory"),
        (elf((0, 64 * MIB - 0x800, MULTIBOOT, 0x1000)), "0x3fff800-0x4000800, but RAM is 0x0-0x4000000"),
        (elf((MIB, MIB, MULTIBOOT, 64), entry=1 << 40, bits=64, machine=62), "above 4 GiB"),
        (struct.pack("<III", 0x1BADB002, 8, -(0x1BADB002 + 8) & 0xFFFFFFFF), "unknown features, 0x8"),
        (MULTIBOOT, "must be an ELF file or state its load address in its header"),
        (b"MZ" + bytes(100), "a PE file (EFI application); expected an image for Multiboot 1 or 2"),
    ],
)  # fmt: skip
def test_unusable_files(load_image, tmp_path, data, complaint):
    with pytest.raises(ImageError) as caught:
        load_image(data)
    message = str(caught.value)
    assert complaint in message
    assert message.startswith(f"{tmp_path}/kernel.elf: ")
    assert "\n" not in message


def test_every_truncation_is_refused_in_one_line(load_image):
    """An ELF file cut anywhere is an error, never an image and never another exception."""
    for size in range(len(KERNEL)):
        with pytest.raises(ImageError):
            load_image(KERNEL[:size])


def test_damaged_bytes_never_raise_anything_else(load_image):
    random = Random(1)
    for _ in range(500):
        damaged = bytearray(KERNEL)
        for _ in range(random.randint(1, 4)):
            damaged[random.randrange(84)] = random.choice((0, 1, 0x7F, 0xFF, random.randrange(256)))
        with suppress(ImageError):
            load_image(bytes(damaged))


def test_missing_file_and_directory(tmp_path, rsdp):
    with pytest.raises(ImageError, match="no such file"):
        images.load(tmp_path / "absent", RAM, rsdp)
    with pytest.raises(ImageError, match="not a regular file"):
        images.load(tmp_path, RAM, rsdp)


def test_missing_module_is_named(load_image, tmp_path):
    with pytest.raises(ImageError, match=r"module .*absent: No such file"):
        load_image(KERNEL, modules=[tmp_path / "absent"])


def test_no_room_for_a_module(load_image, tmp_path):
    module = tmp_path / "large"
    module.write_bytes(bytes(4 * MIB))
    with pytest.raises(ImageError, match=r"no room in RAM for module .* \(4194304 bytes\)"):
        load_image(KERNEL, ram=[Span(0, 4 * MIB)], modules=[module])
