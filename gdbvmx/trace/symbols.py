"""Names for code addresses, from the symbol table of an ELF file (pyelftools reads it)."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from pathlib import Path

from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection

# An address further than this from the symbol before it belongs to none.
_REACH = 1 << 20


class SymbolError(Exception):
    """The file has no symbols that can be read; the text is one line."""


class Symbols:
    """Functions and labels by address, as the file's linker placed them (linear addresses)."""

    def __init__(self, symbols: dict[int, str]) -> None:
        self._addresses = sorted(symbols)
        self._symbols = symbols

    @classmethod
    def of(cls, path: Path) -> Symbols:
        """The symbols of the ELF file `path`. Raises SymbolError."""
        try:
            with path.open("rb") as file:
                return cls(dict(_symbols(ELFFile(file))))
        except OSError as error:
            raise SymbolError(f"{path}: {error.strerror}") from error
        except Exception as error:  # on damaged input pyelftools raises nearly anything
            raise SymbolError(f"{path}: no ELF file with readable symbols ({error})") from error

    def name(self, address: int) -> str:
        """`name+0x…` of a linear address; empty if no symbol is near."""
        index = bisect_right(self._addresses, address) - 1
        if index < 0 or address - self._addresses[index] > _REACH:
            return ""
        start = self._addresses[index]
        return self._symbols[start] + (f"+{address - start:#x}" if address > start else "")


def _symbols(file: ELFFile) -> Iterator[tuple[int, str]]:
    for section in file.iter_sections():
        if isinstance(section, SymbolTableSection):
            for symbol in section.iter_symbols():
                if symbol.name and symbol["st_info"]["type"] in ("STT_FUNC", "STT_NOTYPE"):
                    yield symbol["st_value"], symbol.name
