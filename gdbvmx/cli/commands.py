"""Commands, and verbs of commands: modules with `NAME`, `HELP`, `configure` and `run`."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from types import ModuleType


def add_commands(parser: argparse.ArgumentParser, title: str, modules: Iterable[ModuleType]) -> None:
    """Gives `parser` one of `modules` to choose; the chosen one's `run` is `run_TITLE` of the arguments."""
    commands = parser.add_subparsers(title=f"{title}s", metavar=title.upper(), required=True)
    for module in modules:
        sub = commands.add_parser(
            module.NAME,
            help=module.HELP,
            description=module.__doc__,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        module.configure(sub)
        sub.set_defaults(**{f"run_{title}": module.run})
