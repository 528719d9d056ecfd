"""The states in which boot protocols start a processor.

Access rights are in the VMCS's format (SDM 25.4.1): present segments of 4 GiB, accessed; code to execute and
read, data to read and write.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

_CODE_32, _CODE_64, _DATA = 0xC09B, 0xA09B, 0xC093
_DATA_SEGMENTS = ("ds", "es", "fs", "gs", "ss")

_CR0_PROTECTED = 0x11  # PE and ET
_CR0_PAGING = 1 << 31
_CR4_PAE = 1 << 5
_EFER_LONG_MODE_ACTIVE = 1 << 8 | 1 << 10  # LME and LMA


class Entry(NamedTuple):
    """The boot processor at its first instruction: `registers`, by gdb's names, are those that are not as
    after RESET; `rip` is guest-physical, which is linear in all the states here."""

    rip: int
    registers: Mapping[str, int]


def protected_mode(
    rip: int, registers: Mapping[str, int] | None = None, *, code: int = 0x8, data: int = 0x10
) -> Entry:
    """32-bit protected mode, flat segments of the selectors `code` and `data`; paging and interrupts off."""
    return Entry(
        rip,
        _flat_segments(code, _CODE_32, data) | {"cr0": _CR0_PROTECTED, "eflags": 2} | dict(registers or {}),
    )


def long_mode(
    rip: int, tables: int, registers: Mapping[str, int] | None = None, *, code: int = 0x8, data: int = 0x10
) -> Entry:
    """64-bit mode with paging by the PML4 at guest-physical `tables`; interrupts off."""
    state = {
        "cr3": tables,
        "cr4": _CR4_PAE,
        "efer": _EFER_LONG_MODE_ACTIVE,
        "cr0": _CR0_PROTECTED | _CR0_PAGING,
        "eflags": 2,
    }
    return Entry(rip, _flat_segments(code, _CODE_64, data) | state | dict(registers or {}))


def _flat_segments(code: int, code_rights: int, data: int) -> dict[str, int]:
    segments = {"cs": (code, code_rights)} | dict.fromkeys(_DATA_SEGMENTS, (data, _DATA))
    state: dict[str, int] = {}
    for name, (selector, rights) in segments.items():
        state |= {
            name: selector,
            f"{name}_base": 0,
            f"{name}_limit": 0xFFFFFFFF,
            f"{name}_rights": rights,
        }
    return state
