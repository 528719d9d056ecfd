"""Linux images: where the kernel goes, the boot parameters, and the state at either entry point."""

from __future__ import annotations

import struct
from random import Random

import pytest

from gdbvmx.images import ImageError, Span

MIB = 1 << 20
CODE = b"\xf4" * 0x1000


def bzimage(
    code: bytes = CODE,
    *,
    version: int = 0x20F,
    loadflags: int = 1,
    alignment: int = 2 * MIB,
    relocatable: int = 1,
    xloadflags: int = 1,
    preferred: int = 16 * MIB,
    init_size: int = 8 * MIB,
    initrd_max: int = 0x7FFFFFFF,
    cmdline_size: int = 2047,
) -> bytes:
    setup = bytearray(2 * 512)
    setup[0x1F1] = 1
    setup[0x200:0x202] = b"\xeb\x66"
    struct.pack_into("<4sH", setup, 0x202, b"HdrS", version)
    setup[0x211] = loadflags
    struct.pack_into("<I", setup, 0x214, MIB)
    struct.pack_into("<IIBxHI", setup, 0x22C, initrd_max, alignment, relocatable, xloadflags, cmdline_size)
    struct.pack_into("<QI", setup, 0x258, preferred, init_size)
    return bytes(setup) + code


def parameters(image, memory_of):
    """Reads a field of the boot parameters."""
    memory, at = memory_of(image), image.entry.registers["rsi"]

    def field(kind: str, offset: int) -> tuple:
        return struct.unpack(f"<{kind}", memory.read(at + offset, struct.calcsize(f"<{kind}")))

    return field


def test_the_kernel_goes_where_it_prefers_to_be(load_image, memory_of):
    image = load_image(bzimage())
    assert image.format == "Linux bzImage"
    assert memory_of(image).read(16 * MIB, len(CODE)) == CODE
    assert parameters(image, memory_of)("I", 0x214) == (16 * MIB,)


def test_a_relocatable_kernel_takes_what_little_ram_there_is(load_image, memory_of):
    image = load_image(bzimage(), ram=[Span(0, 12 * MIB)])
    assert memory_of(image).read(2 * MIB, len(CODE)) == CODE
    with pytest.raises(ImageError, match="needs guest-physical 0x200000-0xa00000, but RAM is 0x0-0x900000"):
        load_image(bzimage(), ram=[Span(0, 9 * MIB)])
    with pytest.raises(ImageError, match="needs guest-physical 0x1000000-"):
        load_image(bzimage(relocatable=0), ram=[Span(0, 12 * MIB)])


def test_the_64_bit_entry_point_is_in_64_bit_mode_with_memory_mapped(load_image, memory_of):
    image = load_image(bzimage())
    registers, memory = image.entry.registers, memory_of(image)
    assert image.entry.rip == 16 * MIB + 0x200
    assert registers["efer"] == 0x500 and registers["cr0"] >> 31 == 1 and registers["cr4"] == 1 << 5
    assert (registers["cs"], registers["ds"], registers["ss"]) == (0x10, 0x18, 0x18)

    def entry(table: int, index: int) -> int:
        return struct.unpack("<Q", memory.read(table + 8 * index, 8))[0]

    for address in (0, 16 * MIB, 0xFEE00000):
        pointers = entry(registers["cr3"], 0) & ~0xFFF
        directory = entry(pointers, address >> 30) & ~0xFFF
        assert entry(directory, address >> 21 & 511) == address & ~0x1FFFFF | 0x83


def test_the_32_bit_entry_point_is_for_kernels_with_no_other(load_image, memory_of):
    image = load_image(bzimage(xloadflags=0))
    registers = image.entry.registers
    assert image.entry.rip == 16 * MIB
    assert registers["cr0"] == 0x11 and "cr3" not in registers
    table = memory_of(image).read(registers["gdtr_base"], registers["gdtr_limit"] + 1)
    assert struct.unpack("<4Q", table)[2:] == (0x00CF9B000000FFFF, 0x00CF93000000FFFF)


def test_boot_parameters(load_image, memory_of):
    image = load_image(bzimage(), append="console=ttyS0 quiet")
    field = parameters(image, memory_of)
    assert field("4sH", 0x202) == (b"HdrS", 0x20F)
    assert field("B", 0x210) == (0xFF,)
    assert field("Q", 0x70) == (0xF0000,)
    (command_line,) = field("I", 0x228)
    # The kernel alone has it: what it does not know would become arguments of init.
    assert memory_of(image).string(command_line) == "console=ttyS0 quiet"
    assert image.command_line == "console=ttyS0 quiet"


def test_memory_map(load_image, memory_of):
    ram = [Span(0, 0xC0000000), Span(1 << 32, (1 << 32) + MIB)]
    field = parameters(load_image(bzimage(), ram=ram), memory_of)
    (count,) = field("B", 0x1E8)
    entries = [field("QQI", 0x2D0 + 20 * number) for number in range(count)]
    assert [entry for entry in entries if entry[2] == 1] == [
        (0, 0x9FC00, 1),
        (MIB, 0xC0000000 - MIB, 1),
        (1 << 32, MIB, 1),
    ]
    assert (0xF0000, 0x10000, 2) in entries


def test_initial_ram_disks_follow_each_other_at_multiples_of_four(load_image, memory_of, tmp_path):
    paths = [tmp_path / "first", tmp_path / "second"]
    paths[0].write_bytes(b"abcde")
    paths[1].write_bytes(b"xyz")
    image = load_image(bzimage(), modules=paths)
    at, size = parameters(image, memory_of)("II", 0x218)
    assert memory_of(image).read(at, size) == b"abcde\0\0\0xyz"
    assert at % 4096 == 0 and at > 24 * MIB

    low = load_image(bzimage(initrd_max=0xFFFFFF, preferred=32 * MIB), modules=paths)
    at, size = parameters(low, memory_of)("II", 0x218)
    assert at + size <= 16 * MIB


def test_a_header_shorter_than_ours_has_its_version_s_defaults(load_image):
    with pytest.raises(ImageError, match="the command line has 256 bytes; this kernel takes 255"):
        load_image(bzimage(version=0x202), append="x" * 256)
    image = load_image(bzimage(version=0x202, xloadflags=0xFFFF, preferred=5), append="x" * 255)
    assert image.entry.rip == MIB, "neither a preferred address nor a 64-bit entry point was known then"


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (bzimage()[:0x250], "truncated Linux bzImage: 592 bytes, the setup header ends at 0x268"),
        (bzimage(b""), "the kernel starts at 0x400, the file ends at 0x400"),
        (bzimage(version=0x201), "boot protocol 2.01; expected 2.02 or later"),
        (bzimage(loadflags=0), "a Linux zImage, which loads below 1 MiB"),
        (bzimage(init_size=0xFFFFFFFF), "but RAM is 0x0-0x4000000"),
        (bzimage(alignment=0xFFFFFFFF, preferred=1 << 60), "but RAM is"),
    ],
)
def test_unusable_images(load_image, data, complaint):
    with pytest.raises(ImageError) as caught:
        load_image(data)
    assert complaint in str(caught.value)
    assert "\n" not in str(caught.value)


def test_damaged_headers_never_raise_anything_else(load_image):
    random, whole = Random(1), bzimage()
    for _ in range(500):
        damaged = bytearray(whole)
        for _ in range(random.randint(1, 6)):
            damaged[random.randrange(0x1F1, 0x268)] = random.choice((0, 1, 0x7F, 0xFF, random.randrange(256)))
        try:
            load_image(bytes(damaged[: random.choice((len(whole), random.randrange(len(whole))))]))
        except ImageError as error:
            assert "\n" not in str(error)
