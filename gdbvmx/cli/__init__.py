"""The command line, `gdbvmx COMMAND …`."""

from __future__ import annotations

import argparse
import importlib
import os
import signal
import sys
from collections.abc import Sequence
from types import FrameType
from typing import NoReturn

import gdbvmx
from gdbvmx import _core
from gdbvmx.images import ImageError
from gdbvmx.profiles import ProfileError
from gdbvmx.trace.events import TraceError
from gdbvmx.vmcsfile import VmcsFileError

from .commands import add_commands
from .errors import CommandError, Status, say

__all__ = ["main"]

# Each is a module here, with `_` for `-`.
COMMANDS = ("run", "debug", "trace", "check", "caps", "qemu", "bochs", "gdb-init")

# What a user can get wrong; the text of each is the line to print.
_UNUSABLE = (CommandError, ImageError, ProfileError, TraceError, VmcsFileError, _core.Error)


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, where argparse prints the whole usage first."""

    def error(self, message: str) -> NoReturn:
        raise CommandError(f"{message} (see {self.prog} --help)")


def _parser(words: Sequence[str]) -> argparse.ArgumentParser:
    """The parser for `words`. Only the command that they begin with is imported: a run starts sooner so."""
    parser = _Parser(prog="gdbvmx", description=gdbvmx.__doc__)
    parser.add_argument("--version", action="version", version=f"gdbvmx {gdbvmx.__version__}")
    names = words[:1] if words and words[0] in COMMANDS else COMMANDS
    modules = (importlib.import_module(f"{__name__}.{name.replace('-', '_')}") for name in names)
    add_commands(parser, "command", modules)
    return parser


def _terminate(number: int, _: FrameType | None) -> NoReturn:
    """Ends as by an exception: files are closed and the terminal is put back."""
    raise SystemExit(128 + number)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit status."""
    words = list(sys.argv[1:] if argv is None else argv)
    # What follows `--` belongs to another program; argparse would take it for positional arguments.
    end = words.index("--") if "--" in words else len(words)
    for number in (signal.SIGTERM, signal.SIGHUP):
        # nohup has it ignored.
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _terminate)
    try:
        arguments = _parser(words).parse_args(words[:end])
        arguments.rest = words[end + 1 :]
        if arguments.rest and not getattr(arguments, "takes_rest", False):
            raise CommandError(f"unexpected -- {' '.join(arguments.rest)}")
        status: int = arguments.run_command(arguments)
        sys.stdout.flush()
        return status
    except _UNUSABLE as error:
        say(str(error))
        return Status.UNUSABLE
    except KeyboardInterrupt:
        return Status.INTERRUPTED
    except BrokenPipeError:
        # Whoever read the output has seen enough. Python would complain again when it closes standard output.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
