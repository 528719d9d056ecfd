"""What gdb sources: `source …/gdbvmx/plugin/load.py`. Finds the package by its own place.

This file alone must run in any Python that a gdb may have, so that an old one gets a sentence.
"""

import os
import sys
from pathlib import Path


def _load() -> None:
    if sys.version_info < (3, 9):  # noqa: UP036
        found = ".".join(map(str, sys.version_info[:3]))
        sys.stderr.write(f"gdbvmx: this gdb has Python {found}; its plugin needs 3.9 or later\n")
        return
    # At the end: what gdb and other plugins import stays what it was. GDBVMX_SITE is set by `gdbvmx debug` to
    # where capstone is, which gdb's own Python seldom has.
    package = str(Path(__file__).resolve().parents[2])
    for place in (package, os.environ.get("GDBVMX_SITE", "")):
        if place and place not in sys.path:
            sys.path.append(place)
    from gdbvmx.plugin import glue

    glue.load()


_load()
del _load
