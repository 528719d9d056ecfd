"""gdb as the place where commands run."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable
from pathlib import Path

import gdb

from ..commands.base import CommandError
from ..target import Target
from ..views.style import Style
from .connection import current_target


class GdbContext:
    """What commands need of gdb. Raises TargetError where the target cannot be asked now."""

    def __init__(self, colour: bool = True) -> None:
        self.target: Target = current_target()
        self.style = Style(colour and colours_wanted())

    def evaluate(self, expression: str) -> int:
        try:
            return int(gdb.parse_and_eval(expression))
        except gdb.error as error:
            raise CommandError(f"{expression}: {error}") from error

    def symbol(self, address: int) -> str:
        text = gdb.execute(f"info symbol {address:#x}", to_string=True)
        found = re.match(r"(\S+)(?: \+ (\d+))? in section ", text)
        if not found:
            return ""
        return f"{found[1]}+{found[2]}" if found[2] else found[1]

    def add_symbols(self, file: str, offset: int, world: str) -> str:
        if not Path(file).expanduser().is_file():
            raise CommandError(f"{file}: no such file")
        try:
            quoted = file.replace("\\", "\\\\").replace('"', '\\"')
            gdb.execute(f'add-symbol-file "{quoted}" -o {offset:#x}', to_string=True)
        except gdb.error as error:
            raise CommandError(f"{file}: {error}") from error
        return f"Symbols of the {world} from {file}, {offset:#x} added to their addresses."

    def write_file(self, path: str, pieces: Iterable[str]) -> None:
        try:
            with Path(path).expanduser().open("w", encoding="utf-8", newline="\n") as file:
                file.writelines(pieces)
        except OSError as error:
            raise CommandError(f"{path}: {error.strerror}") from error


def colours_wanted() -> bool:
    """gdb's own styling is on, and its output is a terminal."""
    try:
        enabled = bool(gdb.parameter("style enabled"))
    except RuntimeError:
        enabled = False
    terminal = sys.__stdout__ is not None and sys.__stdout__.isatty()
    return enabled and terminal and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"
