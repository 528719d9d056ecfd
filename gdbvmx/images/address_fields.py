"""The address fields of both versions of Multiboot: where the bytes of a file go, whatever its format."""

from __future__ import annotations

import struct
from typing import NamedTuple

from .image import ImageError, Segment


class AddressFields(NamedTuple):
    """Guest-physical addresses: of the header, of the first byte loaded, of the ends of data and bss (0: all
    of the file, no bss)."""

    header: int
    load: int
    load_end: int
    bss_end: int

    @classmethod
    def unpack(cls, data: bytes, offset: int) -> AddressFields:
        return cls(*struct.unpack_from("<4I", data, offset))

    def segment(self, data: bytes, header_offset: int, header_name: str) -> Segment:
        """What is loaded of the file `data`, whose header stands at `header_offset`."""
        start = header_offset - (self.header - self.load)
        if self.header < self.load or start < 0:
            raise ImageError(
                f"the {header_name} puts itself at {self.header:#x} and the load address at {self.load:#x},"
                f" but stands at offset {header_offset:#x} of the file"
            )
        size = self.load_end - self.load if self.load_end else len(data) - start
        if size < 0 or start + size > len(data):
            raise ImageError(
                f"truncated: the {header_name} loads {self.load:#x}-{self.load_end:#x}"
                f" from offset {start:#x}, the file ends at {len(data):#x}"
            )
        memory = self.bss_end - self.load if self.bss_end else size
        if memory < size:
            raise ImageError(
                f"the {header_name} ends the bss at {self.bss_end:#x},"
                f" before the data at {self.load + size:#x}"
            )
        return Segment(self.load, data[start : start + size], memory)
