"""The types of system registers for gdb: bits and numbers by their names, which are the core's."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from xml.sax.saxutils import quoteattr

from gdbvmx import _core

from .registers import CONTROLS, MODES

# Types whose bits are those of a VMCS field, which knows their names: (type, field, bits).
_AS_FIELD = (
    ("cr0", "guest_cr0", 64),
    ("cr4", "guest_cr4", 64),
    ("efer", "guest_ia32_efer", 64),
    *((name, name, 32) for name in CONTROLS),
)
# Segment access rights in the VMCS's format (SDM 25.4.1).
_ACCESS_RIGHTS = (
    ("type", 0, 3),
    ("S", 4, 4),
    ("DPL", 5, 6),
    ("P", 7, 7),
    ("AVL", 12, 12),
    ("L", 13, 13),
    ("DB", 14, 14),
    ("G", 15, 15),
    ("unusable", 16, 16),
)


_MXCSR = (
    *((name, bit) for bit, name in enumerate("IE DE ZE OE UE PE DAZ IM DM ZM OM UM PM".split())),
    ("FZ", 15),
)
# Bit 1 is always set; without a name gdb does not show it.
_EFLAGS = (
    *(("CF", 0), ("", 1), ("PF", 2), ("AF", 4), ("ZF", 6), ("SF", 7), ("TF", 8), ("IF", 9), ("DF", 10)),
    *(("OF", 11), ("NT", 14), ("RF", 16), ("VM", 17), ("AC", 18), ("VIF", 19), ("VIP", 20), ("ID", 21)),
)

# Name, lowest bit, highest bit, type if it is not a plain number.
_Bits = tuple[str, int, int, str | None]


def definitions() -> Iterator[str]:
    """The types as XML, each before the first that uses it."""
    yield from _vector()
    for name, field, bits in _AS_FIELD:
        yield from _flags(name, bits // 8, _bit_names(field, bits))
    yield from _flags("access_rights", 4, ((name, low, high, None) for name, low, high in _ACCESS_RIGHTS))
    yield from _enum("vmx_mode", 1, enumerate(_identifier(mode) for mode in MODES))
    reasons = ((row["number"], _identifier(row["name"])) for row in _core.reasons())
    yield from _enum("basic_reason", 2, reasons)
    reason = (("basic", 0, 15, "basic_reason"), ("entry_failure", 31, 31, None))
    yield from _flags("exit_reason", 4, reason)


def _bit_names(field: str, bits: int) -> Iterator[_Bits]:
    for bit in range(bits):
        words = _core.describe(field, 1 << bit)
        if words and not words[0].startswith("bit "):
            yield _identifier(words[0]), bit, bit, None


def _flags(name: str, size: int, fields: Iterable[_Bits]) -> Iterator[str]:
    yield f'<flags id="{name}" size="{size}">'
    for label, low, high, kind in fields:
        typed = f' type="{kind}"' if kind else ""
        yield f'<field name={quoteattr(label)} start="{low}" end="{high}"{typed}/>'
    yield "</flags>"


def _enum(name: str, size: int, values: Iterable[tuple[int, str]]) -> Iterator[str]:
    yield f'<enum id="{name}" size="{size}">'
    for number, label in values:
        yield f'<evalue name={quoteattr(label)} value="{number}"/>'
    yield "</enum>"


def _identifier(words: str) -> str:
    """What gdb can print without confusion: words joined by underscores."""
    return re.sub(r"[^0-9A-Za-z]+", "_", words).strip("_")


def _vector() -> Iterator[str]:
    """The type of an XMM register, as gdb has it for its own descriptions."""
    members = (
        ("v4_float", "v4f", "ieee_single", 4),
        ("v2_double", "v2d", "ieee_double", 2),
        ("v16_int8", "v16i8", "int8", 16),
        ("v8_int16", "v8i16", "int16", 8),
        ("v4_int32", "v4i32", "int32", 4),
        ("v2_int64", "v2i64", "int64", 2),
    )
    for _, name, kind, count in members:
        yield f'<vector id="{name}" type="{kind}" count="{count}"/>'
    yield '<union id="vec128">'
    for label, name, _, _ in members:
        yield f'<field name="{label}" type="{name}"/>'
    yield '<field name="uint128" type="uint128"/></union>'
    yield from _flags("i386_mxcsr", 4, ((name, bit, bit, None) for name, bit in _MXCSR))
    yield from _flags("i386_eflags", 4, ((name, bit, bit, None) for name, bit in _EFLAGS))
