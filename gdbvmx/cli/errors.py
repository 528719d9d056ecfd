"""How the command line fails: one line on standard error, and an exit status."""

from __future__ import annotations

import sys
from enum import IntEnum


class Status(IntEnum):
    """Exit statuses of `gdbvmx`. A write to the debug-exit port gives `(value << 1) | 1`, always odd."""

    OK = 0
    UNUSABLE = 2  # arguments or an image that cannot be used
    SHUTDOWN = 4  # triple fault or VMX abort
    LIMIT = 124  # instructions or time
    INTERRUPTED = 130


class CommandError(Exception):
    """Unusable arguments or files; the text is the line that the user gets."""


def say(message: str) -> None:
    """Tells the user something, in one line on standard error."""
    print(f"gdbvmx: {message}", file=sys.stderr, flush=True)
