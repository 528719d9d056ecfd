"""CPU profiles by name or from a JSON file, with features added or taken away, as `--cpu` takes them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gdbvmx import _core

_REGISTERS = ("eax", "ebx", "ecx", "edx")


class ProfileError(Exception):
    """There is no such profile, or the file is none; the text is one line."""


def default() -> _core.CpuProfile:
    """The profile of a machine for which none is named."""
    return _core.CpuProfile.builtin(_core.CpuProfile.names()[0])


def load(words: str | None) -> tuple[_core.CpuProfile, list[str]]:
    """A profile, and a warning for each capability that it promises and the core does not honour.

    What contains a slash or a dot is the file of a profile, anything else the name of a built-in one. CPUID
    features may follow, as `gdbvmx,-pku,+la57`. Raises ProfileError.
    """
    if words is None:
        return default(), []
    base, *changes = re.split(",(?=[-+])", words)
    try:
        if "/" in base or "." in base:
            profile, warnings = _from_file(Path(base))
        else:
            profile, warnings = _core.CpuProfile.builtin(base), []
        if not changes:
            return profile, warnings
        return profile.with_features(words, [(change[1:], change[0] == "+") for change in changes])
    except (_core.Error, ProfileError) as error:
        raise ProfileError(f"{words}: {error}") from error


def _from_file(path: Path) -> tuple[_core.CpuProfile, list[str]]:
    import json  # for a file alone: it would delay the start of every run

    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ProfileError(error.strerror or str(error)) from error
    except (ValueError, RecursionError) as error:
        raise ProfileError(f"no JSON: {error}") from error
    parts = _mapping("the profile", document)
    unknown = set(parts) - {"base", "msrs", "cpuid"}
    if unknown:
        raise ProfileError(f"'{min(unknown)}' is no part of a profile; expected base, msrs, cpuid")
    base = parts.get("base")
    if base is not None and not isinstance(base, str):
        raise ProfileError(f"base is {base!r}; expected the name of a profile")
    profile = default() if base is None else _core.CpuProfile.builtin(base)
    msrs = {
        _number("an MSR's number", number, 32): _number(f"MSR {number}", value, 64)
        for number, value in _mapping("msrs", parts.get("msrs", {})).items()
    }
    cpuid = {
        _leaf(leaf): _registers(leaf, registers)
        for leaf, registers in _mapping("cpuid", parts.get("cpuid", {})).items()
    }
    return profile.with_changes(path.stem, msrs, cpuid)


def _mapping(what: str, value: object) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise ProfileError(f"{what} is {value!r}; expected an object")
    return value


def _number(what: str, value: object, bits: int) -> int:
    try:
        number = int(value, 0) if isinstance(value, str) else value
    except ValueError:
        number = None
    if type(number) is not int or not 0 <= number < 1 << bits:
        raise ProfileError(f'{what} is {value!r}; expected a number of {bits} bits, or a "0x…" string')
    return number


def _leaf(text: str) -> tuple[int, int]:
    """Leaf and subleaf of `0x7:0`; the subleaf is 0 if it is left out."""
    match = re.fullmatch(r"([^:]+)(?::([^:]+))?", text)
    if not match:
        raise ProfileError(f"'{text}' is no CPUID leaf; expected LEAF:SUBLEAF, such as 0x7:0")
    return _number("a CPUID leaf", match[1], 32), _number("a CPUID subleaf", match[2] or "0", 32)


def _registers(leaf: str, value: object) -> dict[str, int]:
    registers = _mapping(f"CPUID leaf {leaf}", value)
    for name in registers:
        if name not in _REGISTERS:
            raise ProfileError(
                f"'{name}' is no register of CPUID leaf {leaf}; expected {', '.join(_REGISTERS)}"
            )
    return {name: _number(f"{name} of CPUID leaf {leaf}", it, 32) for name, it in registers.items()}
