"""A target that is not gdbvmx's, or none at all: it lacks every ability, and this says so."""

from __future__ import annotations

from typing import Any

from . import TargetError


class UnknownTarget:
    """`what` is what gdb is connected to, in a sentence."""

    def __init__(self, what: str) -> None:
        self.lack = (
            f"{what}. Run the image in gdbvmx: `gdbvmx debug IMAGE`, or `gdbvmx run IMAGE --gdb PORT` and"
            " `target remote :PORT`."
        )

    def abilities(self) -> frozenset[str]:
        return frozenset()

    def call(self, method: str, **params: Any) -> Any:
        raise TargetError(f"this needs a target that answers {method}, and {self.lack}")
