#!/usr/bin/env python3
"""Records a trace of VM entries and exits from a running gdb stub.

    scripts/capture_trace.py localhost:1234 --seconds 5 --output trace.jsonl
    gdbvmx trace stats trace.jsonl

The stub is that of `gdbvmx run --gdb`, or another one on which the plugin can trace.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from gdbvmx.trace.capture import CaptureError, capture


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("target", metavar="[HOST:]PORT")
    parser.add_argument("--output", "-o", metavar="FILE", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=10, help="record for at most [%(default)s]")
    parser.add_argument("--command", action="append", default=[], help="gdb command to run after attaching")
    arguments = parser.parse_args()
    try:
        ended = capture(arguments.target, arguments.output, arguments.seconds, arguments.command)
    except CaptureError as error:
        print(f"capture_trace: {error}", file=sys.stderr)
        return 2
    print(f"capture_trace: {arguments.output} written; recording ended: {ended}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
