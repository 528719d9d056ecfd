"""The target description: one for the whole session, 64-bit whatever mode the processor is in.

A description that followed the mode would have to change in the middle of a session, which gdb cannot do: it
ends in "'g' packet reply is too long".
"""

from __future__ import annotations

from collections.abc import Iterator

from .register_types import definitions
from .registers import Feature, RegisterFile

_HEAD = '<?xml version="1.0"?><!DOCTYPE target SYSTEM "gdb-target.dtd"><target version="1.0">'


def target_description(registers: RegisterFile) -> bytes:
    """The document that answers `qXfer:features:read:target.xml`."""
    return "\n".join(_lines(registers)).encode()


def _lines(registers: RegisterFile) -> Iterator[str]:
    yield _HEAD
    yield "<architecture>i386:x86-64</architecture>"
    # Types belong to a feature: gdb looks each up in the one that uses it.
    types = list(definitions())
    number = 0
    for feature in registers.features:
        yield f'<feature name="{feature.name}">'
        yield from types
        yield from _registers(feature, number)
        yield "</feature>"
        number += len(feature.registers)
    yield "</target>"


def _registers(feature: Feature, first: int) -> Iterator[str]:
    for number, it in enumerate(feature.registers, first):
        save = "" if it.write else ' save-restore="no"'
        yield (
            f'<reg name="{it.name}" bitsize="{it.bits}" type="{it.type}"'
            f' regnum="{number}" group="{it.group}"{save}/>'
        )
