#!/usr/bin/env python3
"""Holds system code against Bochs: the guest `privileged` makes random situations of it, here and there.

    tests/oracle/privileged.py                           20000 cases
    tests/oracle/privileged.py --cases 1000000 --seed 7
    tests/oracle/privileged.py --family enforcement
    tests/oracle/privileged.py --family tasks --first 300 --cases 1 --detail

A situation is a mode, a privilege level, random descriptors, gates, page tables, registers and a few
instructions; its line says which exception ended it, where, and digests of registers and memory. Each has
the memory that cases come to as the one before had it, and the timer's NMI ends those without an end. Lines
that differ are looked up in decisions.py, where each known disagreement stands with the section of the SDM
that decides it; the status is 1 where one is not there.

Covered: loads of segment registers and accesses near their limits; far JMP, CALL and RET, IRET and INT by
code segments, call, interrupt, trap and task gates, in 16-, 32- and 64-bit code; task switches of both
formats; SYSCALL, SYSRET, SYSENTER, SYSEXIT, SWAPGS; MOV of control and debug registers, LMSW, SMSW, CLTS;
LGDT, LIDT, LLDT, LTR and their stores, LAR, LSL, VERR, VERW, ARPL; PUSHF, POPF, CLI, STI, IN and OUT by
CPL, IOPL, VIF and I/O bitmap; STAC, CLAC, XGETBV, XSETBV, WBINVD, FS and GS bases; rights of pages,
alignment, breakpoints, stack and code limits; RDMSR and WRMSR of EFER, PAT, APIC_BASE, TSC_ADJUST, TSC_AUX,
XSS, MTRRs and those of the fast calls, of bases and of control-flow enforcement, with good values, reserved
bits and addresses that are not canonical, and of what is not there; RDPKRU and WRPKRU, and what a program may
do by protection keys; INVLPG and INVPCID, and pages whose entries change. Not: protection keys where a
supervisor accesses a program's pages, or a program the supervisor's, which Bochs holds against PKRU by who
accesses (kvm-unit-tests' access_test has them); upper halves of MSRs of 32 bits, and of INVPCID's type, which
Bochs drops; MSRs that count, and those of VMX but that they are constant.

The family `enforcement`, control-flow enforcement in force, is no part of the mix and has to be asked for.
Covered, in 64-bit, compatibility and protected mode and at each level: shadow stacks on pages of every kind,
below and above 4 GB, aligned by 8 and by 4; near and far CALL and RET, by call gate too, INT, exceptions and
IRET within a level and between them, to virtual-8086 mode, by IST or not, where a token is busy or wrong;
SYSCALL, SYSRET, SYSENTER, SYSEXIT; the instructions on shadow stacks; tracked and untracked indirect branches
with ENDBRANCH or none where they lead to, legacy code pages; changes of what is in force. The lines have SSP,
both controls and a digest of the shadow stacks, too. Not, as Bochs does otherwise: IRET within CPL 3 in
64-bit mode, an interrupt within CPL 3 in long mode, and ways to and from virtual-8086 mode, where it uses no
shadow stack; ENDBRANCH where SUPPRESS is set and nothing is tracked, which clears it there; INT1 where an
ENDBRANCH is due. Nor switches of tasks but to that of a double fault.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

from decisions import LOST_THERE, TABLE, Outcome, decided, decided_alone

from gdbvmx.reference import bochs

ROOT = Path(__file__).resolve().parents[2]
IMAGE = ROOT / "guests" / "build" / "privileged.elf"
# Of Bochs's models the one with all that a situation may turn on.
CPU = "tigerlake"
# All of which the guest fills.
MEMORY_MB = 32
# In one run of Bochs: a case that it does not survive costs a start.
CASES_PER_RUN = 50_000
_SECONDS_TO_BOOT, _SECONDS_PER_CASE = 60.0, 0.02
_INSTRUCTIONS_TO_BOOT, _INSTRUCTIONS_PER_CASE = 50_000_000, 200_000
_LINE = re.compile(
    r"^([0-9a-f]+) (\w+) (\w+)\.(\d) #([0-9a-f]+)/([0-9a-f]+) ip ([0-9a-f]+):([0-9a-f]+) flags ([0-9a-f]+) "
    r"sp ([0-9a-f]+):([0-9a-f]+) cr2 ([0-9a-f]+) dr6 ([0-9a-f]+) cr4 ([0-9a-f]+) code ([0-9a-f]+) "
    r"last ([0-9a-f]+) registers ([0-9a-f]+) memory ([0-9a-f]+)"
    r"(?: ssp ([0-9a-f]+) u-cet ([0-9a-f]+) s-cet ([0-9a-f]+) shadow ([0-9a-f]+))?\s*$"
)


@dataclass(frozen=True)
class Cases:
    first: int
    count: int
    seed: int = 1
    family: str = ""

    def command_line(self, *more: str) -> str:
        words = [f"seed={self.seed}", f"first={self.first}", f"cases={self.count}", *more]
        return " ".join(words + ([f"family={self.family}"] if self.family else []))


@dataclass
class Comparison:
    cases: int = 0
    decisions: Counter[str] = field(default_factory=Counter)
    undecided: list[tuple[Outcome, Outcome]] = field(default_factory=list)
    lost: list[int] = field(default_factory=list)
    """Cases that one of the two did not survive."""
    alike_alone: int = 0
    """Cases that are the same where none comes before: one that the two take differently may leave different
    memory beyond the sandbox, where a later one comes to."""

    neither: int = 0
    """Cases that shut both of the two down."""

    def add_lost(self, alone: Cases) -> None:
        """A case that one of the two did not survive, or neither."""
        here, there = _both(alone)
        if not here and not there:
            self.neither += 1
        elif there or (decision := decided_alone(here[alone.first])) is None:
            self.lost.append(alone.first)
        else:
            self.decisions[decision.name] += 1

    def add(self, ours: Outcome, theirs: Outcome, alone: Cases) -> None:
        """Two outcomes of the case `alone` that are not the same."""
        if decision := decided(ours, theirs):
            self.decisions[decision.name] += 1
            return
        here, there = _both(alone)
        if here and here == there:
            self.alike_alone += 1
        else:
            self.undecided.append((ours, theirs))


def outcomes(output: str) -> Iterator[Outcome]:
    for line in output.splitlines():
        if found := _LINE.match(line):
            number, family, mode, level, *rest = found.groups(default="0")
            vector, error, cs, ip, flags, ss, sp, cr2, dr6, cr4, code, last, registers, memory, *enforced = (
                int(text, 16) for text in rest
            )
            yield Outcome(
                int(number, 16),
                family,
                mode,
                int(level),
                vector,
                error,
                (cs, ip),
                flags,
                (ss, sp),
                cr2,
                dr6,
                cr4,
                code.to_bytes(8, "little"),
                last.to_bytes(8, "little"),
                registers,
                memory,
                *enforced,
            )


def output_here(cases: Cases, *more: str) -> str:
    command = [sys.executable, "-m", "gdbvmx", "run", str(IMAGE), "--append", cases.command_line(*more)]
    command += ["--memory", f"{MEMORY_MB}M", "--serial", "none", "--debugcon", "stderr"]
    limit = _INSTRUCTIONS_TO_BOOT + cases.count * _INSTRUCTIONS_PER_CASE
    command += ["--max-instructions", str(limit)]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    return done.stderr


def output_there(cases: Cases, *more: str) -> str:
    timeout = _SECONDS_TO_BOOT + cases.count * _SECONDS_PER_CASE
    run = bochs.run(IMAGE, cases.command_line(*more), memory_mb=MEMORY_MB, cpu=CPU, timeout=timeout)
    return run.output


def _both(cases: Cases) -> tuple[dict[int, Outcome], dict[int, Outcome]]:
    with ThreadPoolExecutor() as pool:
        here, there = [pool.submit(output, cases) for output in (output_here, output_there)]
    return tuple({outcome.number: outcome for outcome in outcomes(run.result())} for run in (here, there))


def compare(cases: Cases) -> Comparison:
    """Runs the cases on both; a run that ends early is begun again after the case that ended it."""
    result = Comparison()
    first, end = cases.first, cases.first + cases.count
    while first < end:
        part = Cases(first, min(CASES_PER_RUN, end - first), cases.seed, cases.family)
        here, there = _both(part)
        both = sorted(here.keys() & there.keys())
        result.cases += len(both)
        for number in both:
            if here[number] != there[number]:
                result.add(here[number], there[number], replace(cases, first=number, count=1))
        first += len(both)
        if len(both) < part.count:
            result.add_lost(replace(cases, first=first, count=1))
            first += 1
        if cases.count > CASES_PER_RUN:
            found = [ours.number for ours, _ in result.undecided] + result.lost
            done = f"{first - cases.first} of {cases.count} cases"
            print(f"privileged: {done}, undecided or lost: {found or 'none'}", file=sys.stderr, flush=True)
    return result


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cases", type=int, default=20_000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--family", default="", help="only situations of this family")
    parser.add_argument("--detail", action="store_true", help="show all of the cases, here and there")
    arguments = parser.parse_args()
    if packages := bochs.missing_packages():
        print(f"privileged: not run; Bochs needs {' '.join(packages)}")
        return 0
    cases = Cases(arguments.first, arguments.cases, arguments.seed, arguments.family)
    if arguments.detail:
        print("here", output_here(cases, "detail=all"), "there", output_there(cases, "detail=all"), sep="\n")
        return 0
    result = compare(cases)
    sections = {row.name: row.section for row in (*TABLE, *LOST_THERE)}
    for name, count in result.decisions.most_common():
        print(f"{count:8} {name} (SDM {sections[name]})")
    for ours, theirs in result.undecided:
        print(f"undecided:\n  here  {ours}\n  there {theirs}")
    print(
        f"{result.cases} cases, {sum(result.decisions.values())} decided by the SDM, "
        f"{result.alike_alone} alike when alone, {result.neither} that shut both down, "
        f"{len(result.undecided)} undecided, lost: {result.lost or 'none'}"
    )
    return 1 if result.undecided or result.lost else 0


if __name__ == "__main__":
    sys.exit(main())
