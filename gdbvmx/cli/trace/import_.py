"""Makes a trace of what Linux's tracepoints of KVM recorded: text of ftrace, trace-cmd or perf script.

    trace-cmd record -e kvm:kvm_entry -e kvm:kvm_exit -e 'kvm:kvm_nested_*' …
    trace-cmd report | gdbvmx trace import - -o kvm.jsonl
    perf script | gdbvmx trace import - -o kvm.jsonl

Where the file has events of nested virtualisation, the trace is what the hypervisor inside KVM saw;
--level host takes KVM's own entries and exits all the same. Times are nanoseconds.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from gdbvmx.cli.errors import CommandError, Status, say
from gdbvmx.trace import kvmtext
from gdbvmx.trace.events import TraceWriter

NAME = "import"
HELP = "a trace of KVM's tracepoints (ftrace, trace-cmd, perf script)"


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", type=Path, help="the text, - for standard input")
    parser.add_argument("--output", "-o", metavar="FILE", type=Path, required=True)
    parser.add_argument(
        "--level", choices=tuple(kvmtext.LEVELS), help="whose entries and exits [nested if any]"
    )


def run(arguments: argparse.Namespace) -> int:
    name = str(arguments.file)
    try:
        if name == "-":
            imported = kvmtext.read(sys.stdin, arguments.level)
        else:
            with arguments.file.open(encoding="utf-8", errors="replace") as file:
                imported = kvmtext.read(file, arguments.level)
    except OSError as error:
        raise CommandError(f"{name}: {error.strerror}") from error
    except kvmtext.NoTrace as error:
        raise CommandError(f"{name}: {error}") from error
    with TraceWriter(
        arguments.output, {"clock": "nanoseconds", "source": "kvm", "level": imported.level}
    ) as writer:
        writer.write(imported.events)
    say(f"{len(imported.events)} events of level '{imported.level}'; {imported.lines} lines read")
    return Status.OK
