"""What a command is. Commands know no gdb: what they need of it is in their `Context`."""

from __future__ import annotations

import argparse
import difflib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Callable, NoReturn, Protocol

from ..target import Target, require
from ..views.style import Style


class CommandError(Exception):
    """Wrong words, or something that cannot be done; the text is one line for the user."""


class Context(Protocol):
    """Where a command runs: in gdb, or in the server."""

    target: Target
    style: Style

    def evaluate(self, expression: str) -> int:
        """The value of an expression. Raises CommandError."""

    def symbol(self, address: int) -> str:
        """`name+offset` of a linear address, empty if no symbol is near."""

    def add_symbols(self, file: str, offset: int, world: str) -> str:
        """Loads symbols and says what was done. Raises CommandError."""

    def write_file(self, path: str, pieces: Iterable[str]) -> None:
        """Writes a file where the user is. Raises CommandError."""


Run = Callable[[Context, argparse.Namespace], Iterator[str]]


class Parser(argparse.ArgumentParser):
    """Raises CommandError where argparse would end the program."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs.setdefault("add_help", False)
        kwargs.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        kwargs["allow_abbrev"] = False
        super().__init__(*args, **kwargs)

    def error(self, message: str) -> NoReturn:
        raise CommandError(f"{message} (see help {self.prog})")

    def exit(self, status: int = 0, message: str | None = None) -> NoReturn:
        raise CommandError(message or f"{self.prog} ended with {status}")


def _nothing(parser: Parser) -> None:
    """For a command that takes no words."""


def _no_words(context: Context) -> Iterable[str]:
    return ()


@dataclass(frozen=True)
class Command:
    """`vmx NAME`. `needs` are abilities that the target must have; `words` completes arguments. Where these
    can be `expressions`, quotes in them are the expression's and stay."""

    name: str
    summary: str
    example: str
    needs: tuple[str, ...]
    run: Run
    configure: Callable[[Parser], None] = _nothing
    words: Callable[[Context], Iterable[str]] = _no_words
    expressions: bool = False

    def parser(self) -> Parser:
        parser = Parser(prog=f"vmx {self.name}", description=self.summary, epilog=f"example:\n{self.example}")
        self.configure(parser)
        return parser

    def help(self) -> str:
        """Summary, usage, arguments and example, as gdb's help shows them."""
        text = self.parser().format_help().strip()
        # gdb takes the first line of a command's help as its summary.
        usage, _, rest = text.partition("\n\n")
        _, _, rest = rest.partition("\n\n")
        return f"{self.summary}\n\n{usage}\n\n{rest}"

    def execute(self, context: Context, words: Sequence[str]) -> Iterator[str]:
        """The output, line by line. Raises CommandError and TargetError."""
        if words and words[-1] in ("-h", "--help"):
            yield from self.help().splitlines()
            return
        arguments = self.parser().parse_args(list(words))
        require(context.target, self.needs, f"vmx {self.name}")
        yield from self.run(context, arguments)

    def complete(self, context: Context, words: Sequence[str]) -> list[str]:
        """What may stand for the last of `words`, which is begun or empty."""
        actions = self.parser()._actions
        verbs = [action for action in actions if isinstance(action, argparse._SubParsersAction)]
        choices: set[str] = set()
        if verbs and len(words) == 1:
            choices.update(verbs[0].choices)
        else:
            choices.update(self.words(context))
            for action in actions:
                choices.update(
                    action.option_strings or (() if action in verbs else map(str, action.choices or ()))
                )
        return sorted(choice for choice in choices if choice.startswith(words[-1]))


def integer(text: str) -> int:
    """An argument that is a plain number, decimal or 0x…."""
    try:
        return int(text, 0)
    except ValueError:
        raise argparse.ArgumentTypeError(f"'{text}' is no number") from None


def count(text: str) -> int:
    number = integer(text)
    if number <= 0:
        raise argparse.ArgumentTypeError(f"'{text}' is not above 0")
    return number


def unknown(what: str, name: str, known: Iterable[str]) -> CommandError:
    """The error for a name that is none, with the nearest that are."""
    near = difflib.get_close_matches(name, list(known), n=3, cutoff=0.5)
    hint = f"; near: {', '.join(near)}" if near else ""
    return CommandError(f"'{name}' is no {what}{hint}")
