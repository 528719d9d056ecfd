#!/usr/bin/env python3
"""Measures the emulator's speed with the benchmark guest, and Debian's Bochs in the same run.

Each part of the guest runs twice in each machine, with one and with many iterations; the difference of
the CPU times is that of the iterations alone, without boot and start. Instructions are counted by the
emulator: the guest executes the same ones in Bochs. Figures are of CPU time, so other load on the host
distorts them little; they depend on the host: read them as ratios.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from gdbvmx.machine import Machine
from gdbvmx.reference import bochs

IMAGE = Path(__file__).resolve().parent.parent / "guests" / "build" / "bench.elf"
ONCE = 1
SECONDS = 1.0  # that a measurement takes at least
STRETCH = 1_000_000_000


class BenchError(Exception):
    """A run did not do what it should."""


@dataclass(frozen=True)
class Part:
    name: str
    unit: str  # what one iteration is, if it is the thing to report; else instructions are
    first: int  # iterations of the first try


PARTS = (
    Part("alu", "", 1_000_000),
    Part("copy", "", 100),
    Part("chase4m", "", 1_000_000),
    Part("chase512k", "", 1_000_000),
    Part("recursion", "", 100),
    Part("vmexit", "round trip", 10_000),
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
    result = bochs.run(IMAGE, f"part={part.name} n={iterations}", timeout=600)
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
    ours: float  # seconds of CPU time
    bochs: float | None

    def speed(self, seconds: float) -> str:
        if self.part.unit:
            return f"{seconds / self.iterations * 1e6:.3f} us"
        return f"{self.instructions / seconds / 1e6:.0f}"


def measure(part: Part, with_bochs: bool) -> Result:
    base = ours(part, ONCE)
    iterations, run = part.first, ours(part, part.first)
    while run.seconds - base.seconds < SECONDS:
        # Towards the goal, but not by more than tenfold: the first tries are mostly start-up.
        growth = SECONDS * 1.2 / max(run.seconds - base.seconds, 1e-3)
        iterations = int(iterations * min(max(growth, 1.5), 10))
        run = ours(part, iterations)
    reference = None
    if with_bochs:
        theirs, theirs_base = in_bochs(part, iterations), in_bochs(part, ONCE)
        if theirs.checksum != run.checksum:
            raise BenchError(f"{part.name}: checksum {run.checksum} here, {theirs.checksum} in Bochs")
        reference = theirs.seconds - theirs_base.seconds
    instructions = run.instructions - base.instructions
    return Result(part, iterations, instructions, run.seconds - base.seconds, reference)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--no-bochs", action="store_true", help="only the emulator")
    parser.add_argument("parts", metavar="PART", nargs="*", help="only these")
    arguments = parser.parse_args()
    chosen = [part for part in PARTS if not arguments.parts or part.name in arguments.parts]
    missing = bochs.missing_packages()
    if missing and not arguments.no_bochs:
        print(f"bench: without Bochs; it needs: apt-get install {' '.join(missing)}", file=sys.stderr)
    print("million guest instructions per second of CPU time; vmexit: the round trip of an exit")
    print(f"{'part':<10} {'gdbvmx':>10} {'Bochs':>10} {'ratio':>7}", flush=True)
    try:
        for part in chosen:
            result = measure(part, not (missing or arguments.no_bochs))
            line = f"{part.name:<10} {result.speed(result.ours):>10}"
            if result.bochs is not None:
                line += f" {result.speed(result.bochs):>10} {result.bochs / result.ours:>6.1f}x"
            print(line, flush=True)
    except (BenchError, bochs.BochsStartError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
