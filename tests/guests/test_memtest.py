"""Debian's memtest86+ boots: Linux's boot protocol, ACPI and a second processor, as others use them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from gdbvmx.machine import Machine


@pytest.mark.parametrize(
    ("build", "cpus", "found"), [("ia32", 1, "1 Cores 1 Threads"), ("x64", 2, "2S / 2C / 2T")]
)
def test_it_finds_the_machine_and_begins_to_test(build: str, cpus: int, found: str):
    image = Path(f"/boot/memtest86+{build}.bin")
    if not image.exists():
        pytest.skip(f"no {image}: apt-get install memtest86+")
    machine = Machine.boot(image, append="console=ttyS0 nopause nobench", memory=8 << 20, cpus=cpus)
    text = ""
    while "Test #" not in text or not re.search(r"\d%.* #0  ", text, re.DOTALL):
        assert machine.core.instructions() < 400_000_000, text
        machine.run(10_000_000)
        text += machine.serial_text()
    assert "Memtest86+ v" in text
    assert f"CPU: {found}" in text
    assert "Memory  :    8MB" in text
