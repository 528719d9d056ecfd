"""`vmx …` in gdb's command line."""

from __future__ import annotations

import gdb

from ..commands import COMMANDS
from ..commands.base import Command, CommandError
from ..target import TargetError
from .context import GdbContext


class _Prefix(gdb.Command):
    """Debug a hypervisor: its VMCS, VM entries and VM exits.

    `help vmx NAME` tells of a command, with an example."""

    def __init__(self) -> None:
        super().__init__("vmx", gdb.COMMAND_RUNNING, gdb.COMPLETE_NONE, prefix=True)

    def invoke(self, text: str, from_tty: bool) -> None:
        if text:
            raise gdb.GdbError(f"there is no vmx {text.split()[0]} (vmx lists those there are)")
        for command in COMMANDS.values():
            gdb.write(f"vmx {command.name:<8} {command.summary}\n")


class _Registered(gdb.Command):
    def __init__(self, command: Command) -> None:
        self._command = command
        self.__doc__ = command.help()
        super().__init__(f"vmx {command.name}", gdb.COMMAND_RUNNING)

    def invoke(self, text: str, from_tty: bool) -> None:
        self.dont_repeat()
        words = text.split() if self._command.expressions else gdb.string_to_argv(text)
        try:
            for line in self._command.execute(GdbContext(), words):
                gdb.write(f"{line}\n")
        except (CommandError, TargetError) as error:
            raise gdb.GdbError(f"{error}") from error

    def complete(self, text: str, word: str) -> list[str]:
        words = text.split(" ")
        # gdb replaces `word`, which begins after the last character that it takes for a break: a dash, say.
        skipped = len(words[-1]) - len(word)
        try:
            found = self._command.complete(GdbContext(), [it for it in words[:-1] if it] + words[-1:])
        except (CommandError, TargetError):
            return []
        return [choice[skipped:] for choice in found]


def register() -> None:
    _Prefix()
    for command in COMMANDS.values():
        _Registered(command)
