"""Images as the loaders make them of bytes."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from gdbvmx import images
from gdbvmx.images import LoadedImage, Segment, Span

RAM = [Span(0, 64 << 20)]


@pytest.fixture
def rsdp() -> Segment:
    return Segment.of(0xF0000, b"RSD PTR ".ljust(36))


@pytest.fixture
def load_image(tmp_path: Path, rsdp: Segment) -> Callable[..., LoadedImage]:
    """Writes bytes to a file and loads that."""

    def load(
        data: bytes,
        name: str = "kernel.elf",
        ram: Sequence[Span] = RAM,
        append: str = "",
        modules: Sequence[Path] = (),
    ) -> LoadedImage:
        path = tmp_path / name
        path.write_bytes(data)
        return images.load(path, ram, rsdp, append, modules)

    return load


class Memory:
    """Guest-physical memory as an image leaves it."""

    def __init__(self, image: LoadedImage) -> None:
        self.image = image

    def read(self, address: int, size: int) -> bytes:
        for segment in self.image.segments:
            if segment.span.contains(Span.of(address, size)):
                data = segment.data + bytes(segment.size - len(segment.data))
                return data[address - segment.address :][:size]
        raise AssertionError(f"nothing at {address:#x}")

    def word(self, address: int) -> int:
        return struct.unpack("<I", self.read(address, 4))[0]

    def string(self, address: int) -> str:
        text = b""
        while (byte := self.read(address + len(text), 1)) != b"\0":
            text += byte
        return text.decode()


@pytest.fixture
def memory_of() -> type[Memory]:
    return Memory
