"""What the commands ask: a target. It has abilities, and says of each that it lacks what to do about it."""

from __future__ import annotations

from typing import Any, Protocol

# What a command may need, in the words of "this needs a target that …".
ABILITIES = {
    "info": "tells the state of its VMX",
    "code": "tells how code is decoded",
    "tables": "names fields and exit reasons",
    "vmcs": "reads the VMCS",
    "vmcs-write": "writes the VMCS",
    "rules": "knows the rules of VM entry",
    "bitmaps": "reads the bitmaps",
    "walk": "walks page tables and EPT",
    "events": "records VMX events",
    "catch": "stops at VMX events",
    "force": "makes VM exits happen",
    "trace": "records traces",
}


class TargetError(Exception):
    """The target refuses, or cannot; the text says what and why."""


class Target(Protocol):
    """Answers the methods of `remote.vendor`."""

    @property
    def lack(self) -> str:
        """Why an ability may be missing and what to do then, in words that follow "and"."""

    def abilities(self) -> frozenset[str]:
        """Those of ABILITIES that it has."""

    def call(self, method: str, **params: Any) -> Any:
        """Raises TargetError."""


def require(target: Target, needs: tuple[str, ...], what: str) -> None:
    """Raises TargetError for the first ability in `needs` that the target lacks. `what` is the command."""
    have = target.abilities()
    for need in needs:
        if need not in have:
            raise TargetError(f"{what} needs a target that {ABILITIES[need]}, and {target.lack}")
