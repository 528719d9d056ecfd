"""gdb in each mode of the processor, with the one description of registers, which is a 64-bit one.

`modes` has a function in_MODE for each, which calls MODE_inner. Its 16-bit segments begin at 0x60000.
"""

from __future__ import annotations

import re
import sysconfig
from pathlib import Path

import pytest

GUESTS = Path(__file__).resolve().parents[2] / "guests" / "build"

LOW = 0x60000
# Mode, the bits of its code, where its CS begins.
MODES = [
    ("compatibility", 32, 0),
    ("protected32", 32, 0),
    ("protected16", 16, LOW),
    ("real", 16, LOW),
    ("virtual8086", 16, LOW),
]
# What in_MODE begins with.
FRAME = {32: ["push %ebp", "mov %esp,%ebp"], 16: ["push %bp", "mov %sp,%bp"]}


@pytest.fixture
def modes(gdb_on, monkeypatch):
    # Where capstone is, as `gdbvmx debug` tells gdb.
    monkeypatch.setenv("GDBVMX_SITE", sysconfig.get_path("platlib"))
    return gdb_on(GUESTS / "modes.elf")


def texts(gdb, command: str) -> list[str]:
    """The instructions that an `x/i` shows, as AT&T writes them, with no sizes."""
    lines = re.findall(r"^(?:=>)?\s+0x[0-9a-f]+[^:]*:\s*(.+)$", gdb(command), re.MULTILINE)
    return [re.sub(r"^(push|mov|call)[wl]?\s+", r"\1 ", line).replace(", ", ",") for line in lines]


def go_to(gdb, place: str) -> str:
    gdb(f"tbreak *{place}")
    return gdb.run()


@pytest.mark.parametrize(("mode", "bits", "base"), MODES)
def test_a_breakpoint_stops_there(modes, mode: str, bits: int, base: int):
    assert f"in_{mode} ()" in go_to(modes, f"in_{mode}")
    assert modes.value("$pc") == modes.value(f"(long)&in_{mode}")
    assert modes.value("$cs_base") == base
    assert modes.value("$cs_offset") == modes.value("$pc") - base
    assert modes.machine.core.code_bits() == bits
    # It is left again, and met only once.
    modes(f"break *{mode}_inner")
    assert f"{mode}_inner ()" in modes.run()


@pytest.mark.parametrize(("mode", "bits", "base"), MODES)
def test_code_is_shown_as_the_processor_decodes_it(modes, mode: str, bits: int, base: int):
    go_to(modes, f"in_{mode}")
    if mode != "protected32":
        assert texts(modes, "x/2i $pc") == FRAME[bits]
    shown = texts(modes, f"x/8i in_{mode}")
    assert any(re.match(rf"call .*{mode}_inner", text) for text in shown), shown


@pytest.mark.parametrize(("mode", "bits", "base"), MODES)
def test_instructions_are_stepped(modes, mode: str, bits: int, base: int):
    go_to(modes, f"{mode}_inner")
    start = modes.value("$pc")
    length = 6 if mode == "protected32" else 1
    modes.run("stepi")
    assert modes.value("$pc") == start + length
    assert f"{mode}_inner+{length}" in modes("info symbol $pc").replace(" + ", "+")
    # Up to the caller, which comes after the call.
    for _ in range(4):
        if modes("info symbol $pc").startswith(f"in_{mode}"):
            break
        modes.run("stepi")
    assert modes("info symbol $pc").startswith(f"in_{mode} ")


@pytest.mark.parametrize(("mode", "base"), [("real", LOW), ("virtual8086", LOW), ("protected16", LOW)])
def test_pc_is_set_by_its_linear_address(modes, mode: str, base: int):
    go_to(modes, f"{mode}_inner")
    modes(f"set $pc = in_{mode}")
    assert modes.machine.core.read_register("rip") == modes.value(f"(long)&in_{mode}") - base
    modes.run("stepi")
    assert modes.value("$pc") == modes.value(f"(long)&in_{mode}") + 1


def test_frames_are_unwound_in_flat_code(modes):
    """By the frame pointer, of 4 bytes where gdb expects 8: it is followed by hand."""
    go_to(modes, "compatibility_inner")
    modes.run("stepi")
    modes.run("stepi")
    caller = modes("output/a *(unsigned int *)($rbp + 4)")
    assert "in_compatibility" in caller


def test_a_watchpoint_in_real_address_mode(modes):
    go_to(modes, "in_real")
    modes("watch *(unsigned int *)((long)&low_visits + 12)")
    assert "New value = 1" in modes.run()
    assert modes("info symbol $pc").startswith("in_real")


def test_the_modes_come_in_their_order(modes):
    for mode, *_ in MODES:
        modes(f"tbreak *in_{mode}")
    seen = [re.search(r"in_(\w+) \(\)", modes.run()).group(1) for _ in MODES]
    assert seen == [mode for mode, *_ in MODES]
    assert "exited with code 01" in modes.run()
