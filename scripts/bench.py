#!/usr/bin/env python3
"""Measures the emulator's speed with the benchmark guest, beside Debian's Bochs; start and memory too.

Each part of the guest runs in each machine, with one and with many iterations; the difference of the CPU
times is that of the iterations alone, without boot and start. The two machines take turns, and a ratio is
the median of those of the pairs: other load on the host then distorts it little. Instructions are counted
by the emulator: the guest executes the same ones in Bochs. With --write the tables go into
docs/performance.md.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gdbvmx.machine import Machine
from gdbvmx.reference import bochs

ROOT = Path(__file__).resolve().parent.parent
IMAGE = ROOT / "guests" / "build" / "bench.elf"
DOCUMENT = ROOT / "docs" / "performance.md"
# What stands between these lines of the document is written here.
BEGIN, END = "<!-- measured by make bench -->\n", "<!-- end -->\n"
ONCE = 1
SECONDS = 0.7  # that the emulator's share of a measurement takes at least
STRETCH = 1_000_000_000


class BenchError(Exception):
    """A run did not do what it should."""


@dataclass(frozen=True)
class Part:
    name: str
    first: int  # iterations of the first try
    unit: str = ""  # what one iteration is, if it is the thing to report; else instructions are


PARTS = (
    Part("alu", 1_000_000),
    Part("copy", 100),
    Part("chase4m", 1_000_000),
    Part("chase512k", 1_000_000),
    Part("recursion", 100),
    Part("vmexit", 10_000, "round trip"),
    Part("vmexit-vpid", 10_000, "round trip"),
)


@dataclass(frozen=True)
class Run:
    seconds: float
    instructions: int
    checksum: str


def ours(part: Part, iterations: int) -> Run:
    machine = Machine.boot(IMAGE, append=f"part={part.name} n={iterations}")
    start = time.process_time()
    while (stop := machine.run(STRETCH))["kind"] in ("count", "attention"):
        pass
    seconds = time.process_time() - start
    if stop["kind"] not in ("exit", "poweroff"):
        raise BenchError(f"{part.name}: the guest ended with {stop['kind']}")
    return Run(seconds, machine.core.instructions(), checksum(part, machine.serial_text()))


def in_bochs(part: Part, iterations: int) -> Run:
    result = bochs.run(IMAGE, f"part={part.name} n={iterations}", timeout=900)
    if not result.powered_off:
        raise BenchError(f"{part.name}: the guest did not end in Bochs")
    return Run(result.cpu_seconds, 0, checksum(part, result.serial))


def checksum(part: Part, serial: str) -> str:
    """What the guest computed: the same in both machines, or the comparison is none."""
    for line in serial.splitlines():
        words = line.split()
        if words[:3] == ["bench:", "part", part.name]:
            return words[words.index("checksum") + 1]
    raise BenchError(f"{part.name}: no result from the guest; it said: {serial!r}")


@dataclass(frozen=True)
class Result:
    part: Part
    iterations: int
    instructions: int
    pairs: Sequence[tuple[float, float | None]]  # CPU seconds: ours, Bochs's

    def figure(self, seconds: float) -> str:
        if self.part.unit:
            return f"{seconds / self.iterations * 1e6:.3f} µs"
        return f"{self.instructions / seconds / 1e6:.0f}"

    def row(self) -> list[str]:
        cells = [self.part.name, self.figure(statistics.median(ours for ours, _ in self.pairs))]
        compared = [(ours, theirs) for ours, theirs in self.pairs if theirs is not None]
        if not compared:
            return [*cells, "", ""]
        ratio = statistics.median(theirs / ours for ours, theirs in compared)
        return [*cells, self.figure(statistics.median(theirs for _, theirs in compared)), f"{ratio:.1f}"]


def measure(part: Part, rounds: int, with_bochs: bool) -> Result:
    base = ours(part, ONCE)
    iterations, run = part.first, ours(part, part.first)
    while run.seconds - base.seconds < SECONDS:
        # Towards the goal, but not by more than tenfold: the first tries are mostly start-up.
        growth = SECONDS * 1.2 / max(run.seconds - base.seconds, 1e-3)
        iterations = int(iterations * min(max(growth, 1.5), 10))
        run = ours(part, iterations)
    reference_base = in_bochs(part, ONCE) if with_bochs else None
    pairs: list[tuple[float, float | None]] = []
    for _ in range(rounds):
        run = ours(part, iterations)
        reference = None
        if reference_base is not None:
            theirs = in_bochs(part, iterations)
            if theirs.checksum != run.checksum:
                raise BenchError(f"{part.name}: checksum {run.checksum} here, {theirs.checksum} in Bochs")
            reference = theirs.seconds - reference_base.seconds
        pairs.append((run.seconds - base.seconds, reference))
    return Result(part, iterations, run.instructions - base.instructions, pairs)


# Run by a fresh interpreter; prints CPU times in ms and sizes in MiB. The guest touches its 6 MiB image.
START = """
import json, re, sys, time
def now(): return time.process_time() * 1e3
def peak(): return int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1]) / 1024
start = now()
import gdbvmx
package = now()
from gdbvmx.machine import Machine
scripting, empty = now(), peak()
machine = Machine.boot(sys.argv[1], append="part=alu n=1", memory=256 << 20)
machine.run(1)
first, booted = now(), peak()
while machine.run(1_000_000_000)["kind"] in ("count", "attention"): pass
print(json.dumps([package - start, scripting - start, first - start, booted - empty, peak() - empty]))
"""
START_ROWS = (
    "`import gdbvmx`, ms",
    "`from gdbvmx.machine import Machine`, ms",
    "from there, imports included, to the first guest instruction, ms",
    "host memory of a machine with 256 MiB at its first instruction, MiB",
    "the same when the guest has ended, MiB",
)


def start(rounds: int) -> list[list[str]]:
    """The least of several starts: whatever else runs can only add to it."""
    command = [sys.executable, "-c", START, str(IMAGE)]
    runs = [
        json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        for _ in range(rounds * 3)
    ]
    least = [min(figures) for figures in zip(*runs, strict=True)]
    return [[name, f"{figure:.1f}"] for name, figure in zip(START_ROWS, least, strict=True)]


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """In Markdown, its columns in line."""
    widths = [max(len(row[column]) for row in [head, *rows]) for column in range(len(head))]
    lines = [head, ["-" * width for width in widths], *rows]
    return "".join(
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |\n"
        for line in lines
    )


def host() -> str:
    """The machine that this runs on, in a sentence."""
    found = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    model = found.group(1) if found else "unknown processor"
    return f"Measured on {os.cpu_count()} processors of {model}.\n"


def write(text: str) -> None:
    document = DOCUMENT.read_text()
    before, begin, rest = document.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise BenchError(f"{DOCUMENT} has no place for the tables: the lines {BEGIN!r} and {END!r}")
    DOCUMENT.write_text(before + begin + "\n" + text + "\n" + end + after)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--no-bochs", action="store_true", help="only the emulator")
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="pairs of runs (default: 3)")
    parser.add_argument("--write", action="store_true", help="put the tables into docs/performance.md")
    parser.add_argument("parts", metavar="PART", nargs="*", help="only these")
    arguments = parser.parse_args()
    chosen = [part for part in PARTS if not arguments.parts or part.name in arguments.parts]
    missing = bochs.missing_packages()
    if missing and not arguments.no_bochs:
        print(f"bench: without Bochs; it needs: apt-get install {' '.join(missing)}", file=sys.stderr)
    rows = []
    try:
        for part in chosen:
            rows.append(measure(part, arguments.rounds, not (missing or arguments.no_bochs)).row())
            print(*rows[-1], sep="\t", file=sys.stderr, flush=True)
        speed = table(["part", "gdbvmx", "Bochs", "ratio"], rows)
        text = f"{host()}\n{speed}\n{table(['start and memory', ''], start(arguments.rounds))}"
        print(text)
        if arguments.write:
            write(text)
    except (BenchError, bochs.BochsStartError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
