"""What gdb is told of an image."""

from __future__ import annotations

from gdbvmx import gdbstart

ELF64, ELF32 = b"\x7fELF\x02rest", b"\x7fELF\x01rest"


def test_elf64_is_the_program(tmp_path):
    image = tmp_path / "kernel"
    image.write_bytes(ELF64)
    assert gdbstart.executable(image) == image
    assert gdbstart.symbol_options(image) == ["-ex", f'file "{image}"']


def test_elf32_with_the_elf64_that_it_was_made_from(tmp_path):
    image = tmp_path / "kernel.flat"
    image.write_bytes(ELF32)
    (tmp_path / "kernel.elf").write_bytes(ELF64)
    assert gdbstart.executable(image) == tmp_path / "kernel.elf"
    assert gdbstart.symbol_options(image) == ["-ex", f'file "{tmp_path}/kernel.elf"']


def test_elf32_alone_gives_symbols_and_no_architecture(tmp_path):
    image = tmp_path / 'a "kernel".elf'
    image.write_bytes(ELF32)
    assert gdbstart.executable(image) is None
    assert gdbstart.symbol_options(image) == [
        "-ex",
        "set architecture i386:x86-64",
        "-ex",
        f'symbol-file "{tmp_path}/a \\"kernel\\".elf"',
    ]


def test_a_flat_binary_has_no_symbols(tmp_path):
    image = tmp_path / "boot.bin"
    image.write_bytes(b"\xeb\xfe")
    assert gdbstart.executable(image) is None
    assert gdbstart.symbol_options(image) == []
