"""Names of fields and exit reasons, as the target's tables have them."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from .base import Context, unknown

GROUPS = ("control", "guest", "host", "exit-info")


def field_names(context: Context) -> Iterator[str]:
    for field in context.target.call("fields"):
        yield field["name"]


def reason_names(context: Context) -> Iterator[str]:
    for reason in context.target.call("reasons"):
        yield reason["name"]


def reason_number(context: Context, text: str) -> int:
    """A basic exit reason by name or number. Raises what the target raises for an unknown one."""
    reason = context.target.call("reason", name=int(text, 0) if text[:1].isdigit() else text)
    return int(reason["number"])


def chosen(fields: Sequence[Mapping[str, Any]], words: Sequence[str]) -> list[Mapping[str, Any]]:
    """The fields that any of `words` names: a group, a field, a pattern with `*`, or the start of names."""
    if not words:
        return list(fields)
    found = []
    for word in words:
        matching = _matching(fields, word)
        if not matching:
            raise unknown("VMCS field or group", word, [*(field["name"] for field in fields), *GROUPS])
        found += matching
    picked = {field["name"] for field in found}
    return [field for field in fields if field["name"] in picked]


def _matching(fields: Sequence[Mapping[str, Any]], word: str) -> list[Mapping[str, Any]]:
    for test in (
        lambda field: field["name"] == word,
        lambda field: field["group"] in (word, f"{word}-info"),
        lambda field: fnmatch.fnmatchcase(field["name"], word if "*" in word else f"{word}*"),
    ):
        matching = [field for field in fields if test(field)]
        if matching:
            return matching
    return []
