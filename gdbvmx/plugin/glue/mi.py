"""The commands for front ends: `-vmx-NAME WORD…` gives `lines=[…]`."""

from __future__ import annotations

from typing import Any

import gdb

from ..commands import COMMANDS
from ..commands.base import Command, CommandError
from ..target import TargetError
from .context import GdbContext


def register() -> None:
    """gdb has machine-interface commands in Python from 13 on; an older one does without."""
    if not hasattr(gdb, "MICommand"):
        return

    class Registered(gdb.MICommand):
        def __init__(self, command: Command) -> None:
            super().__init__(f"-vmx-{command.name}")
            self._command = command

        def invoke(self, words: list[str]) -> dict[str, Any]:
            try:
                return {"lines": list(self._command.execute(GdbContext(colour=False), words))}
            except (CommandError, TargetError) as error:
                raise gdb.GdbError(f"{error}") from error

    for command in COMMANDS.values():
        Registered(command)
