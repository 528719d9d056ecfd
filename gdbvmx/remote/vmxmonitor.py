"""`monitor vmx …`: the plugin's commands, run in the server."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from gdbvmx.plugin.commands import COMMANDS
from gdbvmx.plugin.commands.base import CommandError
from gdbvmx.plugin.target import Target
from gdbvmx.plugin.target.local import LocalTarget
from gdbvmx.plugin.views.style import Style

from . import vendor

if TYPE_CHECKING:
    from .session import Session


class _ServerContext:
    """What commands get here: the machine, but no symbols, no expressions and no files."""

    def __init__(self, session: Session) -> None:
        self.target: Target = LocalTarget(lambda method, params: vendor.call(session, method, params))
        self.style = Style()

    def evaluate(self, expression: str) -> int:
        try:
            return int(expression, 0)
        except ValueError:
            raise CommandError(
                f"'{expression}' is no number; expressions need gdb with the plugin (gdbvmx gdb-init)"
            ) from None

    def symbol(self, address: int) -> str:
        return ""

    def add_symbols(self, file: str, offset: int, world: str) -> str:
        raise CommandError("symbols are gdb's: use add-symbol-file, or the plugin (gdbvmx gdb-init)")

    def write_file(self, path: str, pieces: Iterable[str]) -> None:
        raise CommandError("the server writes no files: use gdb with the plugin (gdbvmx gdb-init)")


def run_vmx(session: Session, text: str) -> Iterator[str]:
    """The output of one command, or what is wrong with it."""
    try:
        words = shlex.split(text)
    except ValueError as error:
        yield f"{text}: {error}"
        return
    if not words or words == ["help"]:
        for command in COMMANDS.values():
            yield f"vmx {command.name:<8} {command.summary}"
        return
    if words[0] == "help":
        words = [*words[1:2], "--help"]
    if words[0] not in COMMANDS:
        yield f"There is no monitor vmx {words[0]} (monitor vmx help lists those there are)."
        return
    try:
        yield from COMMANDS[words[0]].execute(_ServerContext(session), words[1:])
    except CommandError as error:
        yield f"{error}"
