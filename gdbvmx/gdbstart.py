"""How a gdb gets the plugin and an image's symbols."""

from __future__ import annotations

from pathlib import Path

# gdb's Python is not the one that gdbvmx is installed into: the file finds the package by its own place.
LOAD_COMMAND = f"source {Path(__file__).resolve().parent / 'plugin' / 'load.py'}"

_ELF64, _ELF32 = b"\x7fELF\x02", b"\x7fELF\x01"


def executable(image: Path) -> Path | None:
    """The file that gdb can take for the program: the image, or the ELF64 that its ELF32 was made from.

    A 64-bit kernel for Multiboot 1 is often wrapped into an ELF32, `NAME.flat` or such, beside `NAME.elf`.
    Told of an ELF32, gdb believes in a 32-bit target and fails at the first register.
    """
    return next((file for file in (image, image.with_suffix(".elf")) if _starts_with(file, _ELF64)), None)


def symbol_commands(image: Path) -> list[str]:
    """gdb's commands for the image's symbols. They have to come before the one that attaches."""
    program = executable(image)
    if program is not None:
        return [f"file {_quoted(program)}"]
    if not _starts_with(image, _ELF32):
        return []
    return ["set architecture i386:x86-64", f"symbol-file {_quoted(image)}"]


def symbol_options(image: Path) -> list[str]:
    """`symbol_commands` as options of gdb's command line."""
    return [word for command in symbol_commands(image) for word in ("-ex", command)]


def _quoted(path: Path) -> str:
    name = str(path).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{name}"'


def _starts_with(file: Path, magic: bytes) -> bool:
    try:
        with file.open("rb") as opened:
            return opened.read(len(magic)) == magic
    except OSError:
        return False
