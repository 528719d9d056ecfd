#!/usr/bin/env python3
"""Holds VM entry against Bochs: the guest `mutate` enters with random VMCS fields, here and there.

    tests/conformance/differential.py                        1000 cases in each setup
    tests/conformance/differential.py --count 100000 --seed 7 long pae-ept

Both machines run the same cases, ours with a profile made of Bochs's capability MSRs and CPUID leaves. Lines
that differ are looked up in disagreements.py, where each known disagreement stands with the section of the
SDM that decides it; the status is 1 where one is not there.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from disagreements import ENDED, TABLE, Case, Disagreement, decided

from gdbvmx import _core, profiles
from gdbvmx.reference import bochs

ROOT = Path(__file__).resolve().parents[2]
IMAGE = ROOT / "guests" / "build" / "mutate.elf"
CPU = "tigerlake"
"""Of the models of Bochs 2.7 the one with most controls."""
SETUPS = ("long", "long-ept", "pae", "pae-ept", "v8086", "protected", "real")
_SECONDS_PER_CASE = 0.01
_SECONDS_TO_BOOT = 60.0
# Bochs 2.7 ends where it would have to inject a pending MTF VM exit.
_WORDS = "other-events=no"


@dataclass
class Output:
    """What a run of the guest said on the debug console."""

    msrs: dict[int, int] = field(default_factory=dict)
    cpuid: dict[tuple[int, int], list[int]] = field(default_factory=dict)
    baseline: dict[int, int] = field(default_factory=dict)
    cases: dict[int, str] = field(default_factory=dict)
    """The lines of the cases, mutations and outcome, by number."""
    ended: bool = False


def parse(lines: Iterator[str]) -> Output:
    output = Output()
    for line in lines:
        if not line.startswith("@"):
            continue
        head, _, rest = line[1:].partition(" ")
        if head == "msr":
            number, value = (int(word, 16) for word in rest.split())
            output.msrs[number] = value
        elif head == "cpuid":
            leaf, subleaf, *registers = (int(word, 16) for word in rest.split())
            output.cpuid[leaf, subleaf] = registers
        elif head == "base":
            output.baseline = dict(_fields(rest))
        elif head == "end":
            output.ended = True
        else:
            output.cases[int(head, 16)] = rest.strip()
    return output


def _fields(text: str) -> Iterator[tuple[int, int]]:
    for word in text.split():
        if word.startswith("M"):
            encoding, _, value = word[1:].partition("=")
            yield int(encoding, 16), int(value, 16)


def _entries(text: str) -> Iterator[tuple[int, tuple[int, int, int]]]:
    for word in text.split():
        if word.startswith("L"):
            at, _, entry = word[1:].partition("=")
            index, reserved, value = (int(part, 16) for part in entry.split(","))
            yield int(at, 16), (index, reserved, value)


def profile(output: Output) -> dict[str, object]:
    """The profile of the processor that a run was made on."""
    registers = ("eax", "ebx", "ecx", "edx")
    return {
        "msrs": {hex(number): hex(value) for number, value in output.msrs.items()},
        "cpuid": {
            f"{leaf:#x}:{subleaf:#x}": dict(zip(registers, map(hex, values), strict=True))
            for (leaf, subleaf), values in output.cpuid.items()
        },
    }


def words(setup: str, seed: int, start: int, count: int) -> str:
    # Each setup has cases of its own.
    seed = seed * len(SETUPS) + SETUPS.index(setup)
    return f"setup={setup} seed={seed} start={start} count={count} {_WORDS}"


def run_there(setup: str, seed: int, count: int, start: int = 0, cpu: str = CPU) -> tuple[Output, float]:
    """Bochs's lines, and its CPU time. Where a case makes Bochs end, the next run begins after it."""
    whole, seconds = Output(), 0.0
    at, end = start, start + count
    while at < end:
        run = bochs.run(
            IMAGE,
            words(setup, seed, at, end - at),
            memory_mb=64,
            cpu=cpu,
            timeout=_SECONDS_TO_BOOT + _SECONDS_PER_CASE * (end - at),
        )
        part = parse(iter(run.output.splitlines()))
        if not part.msrs:
            raise bochs.BochsStartError(f"the guest said nothing: {run.serial.strip()}")
        seconds += run.cpu_seconds
        whole.msrs, whole.cpuid, whole.baseline = part.msrs, part.cpuid, part.baseline
        whole.cases.update(part.cases)
        whole.ended |= part.ended
        if part.ended:
            break
        at = max(part.cases, default=at - 1) + 2
    return whole, seconds


def run_here(setup: str, seed: int, count: int, profile_file: Path, start: int = 0) -> tuple[Output, float]:
    """Our lines, and the time of the clock that they took."""
    with tempfile.TemporaryDirectory(prefix="gdbvmx-mutate-") as directory:
        console = Path(directory) / "console.txt"
        command = [sys.executable, "-m", "gdbvmx", "run", str(IMAGE), "--memory", "64M"]
        command += ["--append", words(setup, seed, start, count), "--cpu", str(profile_file)]
        command += [
            "--debugcon",
            str(console),
            "--timeout",
            str(_SECONDS_TO_BOOT + _SECONDS_PER_CASE * count),
        ]
        begun = time.monotonic()
        done = subprocess.run(
            command, cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )
        seconds = time.monotonic() - begun
        output = parse(iter(console.read_text().splitlines())) if console.exists() else Output()
        if not output.ended:
            raise RuntimeError(f"the guest did not reach its end here: {done.stdout}{done.stderr}")
    return output, seconds


@dataclass
class Comparison:
    """What came of the cases of one setup."""

    setup: str
    cases: int
    decided: Counter[Disagreement]
    undecided: list[Case]
    seconds_here: float
    seconds_there: float


def compare(setup: str, seed: int, count: int, start: int = 0, cpu: str = CPU) -> Comparison:
    there, seconds_there = run_there(setup, seed, count, start, cpu)
    with tempfile.TemporaryDirectory(prefix="gdbvmx-profile-") as directory:
        file = Path(directory) / "bochs.json"
        file.write_text(json.dumps(profile(there)))
        both, _ = profiles.load(str(file))
        here, seconds_here = run_here(setup, seed, count, file, start)
    result = Comparison(setup, count, Counter(), [], seconds_here, seconds_there)
    for number, ours in here.cases.items():
        theirs = there.cases.get(number)
        if ours != theirs:
            case = make_case(setup, number, here.baseline, ours, theirs, both)
            row = decided(case)
            if row is None:
                result.undecided.append(case)
            else:
                result.decided[row] += 1
    return result


def make_case(
    setup: str,
    number: int,
    baseline: dict[int, int],
    ours: str,
    theirs: str | None,
    cpu: _core.CpuProfile | None,
) -> Case:
    """The case of two lines, of which Bochs's is missing where the case made it end."""
    mutated = dict(_fields(ours))
    return Case(
        setup=setup,
        number=number,
        fields=baseline | mutated,
        mutated=mutated,
        entries=dict(_entries(ours)),
        ours=_outcome(ours),
        theirs=ENDED if theirs is None else _outcome(theirs),
        profile=cpu,
        mutations_differ=theirs is not None and dict(_fields(theirs)) != mutated,
    )


def _outcome(line: str) -> str:
    return " ".join(word for word in line.split() if word[0] not in "ML")


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("setups", metavar="SETUP", nargs="*", default=SETUPS, help="only these")
    parser.add_argument("--count", type=int, default=1000, help="cases in each [%(default)s]")
    parser.add_argument("--seed", type=int, default=1, help="of the cases [%(default)s]")
    parser.add_argument("--cpu", default=CPU, help="Bochs's model of the processor [%(default)s]")
    parser.add_argument("--start", type=int, default=0, help="the first case's number [%(default)s]")
    parser.add_argument("--show", type=int, default=20, help="undecided cases to show [%(default)s]")
    arguments = parser.parse_intermixed_args()
    bochs.require()
    undecided, needed = 0, Counter[Disagreement]()
    for setup in arguments.setups:
        result = compare(setup, arguments.seed, arguments.count, arguments.start, arguments.cpu)
        undecided += len(result.undecided)
        needed += result.decided
        print(
            f"{setup}: {result.cases} cases, {result.decided.total()} decided by the SDM,"
            f" {len(result.undecided)} undecided;"
            f" {result.cases / result.seconds_here:.0f} cases a second here,"
            f" {result.cases / result.seconds_there:.0f} a CPU-second there",
            flush=True,
        )
        for row, number in result.decided.most_common():
            print(f"  {number:6} {row.name} (SDM vol. 3, {row.section})")
        for case in result.undecided[: arguments.show]:
            print(f"  {case}")
    for row in TABLE:
        if row not in needed:
            print(f"no case needed: {row.name}")
    return 1 if undecided else 0


if __name__ == "__main__":
    sys.exit(main())
