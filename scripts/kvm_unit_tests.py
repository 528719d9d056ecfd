#!/usr/bin/env python3
"""Runs the VMX tests of kvm-unit-tests, unmodified, each alone, and says what each of them does.

    scripts/kvm_unit_tests.py DIR                 all of them; DIR holds vmx.flat
    scripts/kvm_unit_tests.py DIR vmenter EPT_A/D_disabled

kvm-unit-tests is not part of this project: get it from its public repository, then ./configure && make; its
x86/ is DIR. The tests are those that vmx.flat itself names.

Its other images run by themselves: `gdbvmx run DIR/xsave.flat`. They take their environment from a module, as under
QEMU: with a file that says TEST_DEVICE=0 as --initrd, syscall.flat does not ask an Intel processor for SYSCALL in
compatibility mode, which is AMD's.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

# Tests that need more than one processor or 512 MiB.
CPUS = dict.fromkeys(
    (
        "nmi_hlt",
        "vmx_apic_passthrough_thread_test",
        "vmx_eoi_bitmap_ioapic_scan_test",
        "vmx_init_signal_test",
        "vmx_posted_interrupts_test",
        "vmx_sipi_signal_test",
    ),
    2,
)
LARGE = re.compile("ept_access_|vmx_apic_passthrough|vmx_eoi_bitmap|vmx_init|vmx_sipi|vmx_posted")
LARGE_MEMORY, MEMORY = "2560M", "512M"

# By exit status: the guest's own answers, then ours.
OUTCOMES = {1: "pass", 3: "fail", 77: "skip", 127: "abort", 4: "shutdown", 124: "timeout"}


@dataclass(frozen=True)
class Result:
    name: str
    outcome: str
    seconds: float
    remarks: list[str]


def run(image: Path, name: str, timeout: float) -> tuple[int, str]:
    """Exit status and COM1 of one run."""
    memory = LARGE_MEMORY if LARGE.match(name) else MEMORY
    command = [sys.executable, "-m", "gdbvmx", "run", str(image), "--append", name, "--memory", memory]
    command += ["--cpus", str(CPUS.get(name, 1)), "--timeout", str(timeout)]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    return done.returncode, (done.stdout + done.stderr).decode(errors="replace").replace("\r", "")


def names(image: Path) -> list[str]:
    """The tests of the image: with a filter that matches none it names them all."""
    _, output = run(image, "no-such-test", 60)
    return [
        name.strip().replace(" ", "_") for name in re.findall(r"^filter = .*, test = (.+)$", output, re.M)
    ]


def judge(image: Path, timeout: float, name: str) -> Result:
    start = time.monotonic()
    status, output = run(image, name, timeout)
    seconds = time.monotonic() - start
    outcome = OUTCOMES.get(status, f"status {status}")
    remarks = re.findall(r"^(?:FAIL|SKIP|gdbvmx|Unhandled|Assert|ASSERT).*", output, re.M)
    return Result(name, outcome, seconds, remarks)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("directory", metavar="DIR", type=Path)
    parser.add_argument("tests", metavar="NAME", nargs="*", help="only these")
    parser.add_argument("--timeout", type=float, default=120, help="seconds for each [%(default)s]")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="at a time [%(default)s]")
    arguments = parser.parse_intermixed_args()
    image = arguments.directory / "vmx.flat"
    if not image.is_file():
        print(
            f"kvm_unit_tests: {image}: no such file; DIR is x86/ of a built kvm-unit-tests", file=sys.stderr
        )
        return 2
    tests = arguments.tests or names(image)
    if not tests:
        print(f"kvm_unit_tests: {image} names no tests", file=sys.stderr)
        return 2
    counts: dict[str, int] = {}
    with ThreadPoolExecutor(arguments.jobs) as pool:
        for result in pool.map(partial(judge, image, arguments.timeout), tests):
            counts[result.outcome] = counts.get(result.outcome, 0) + 1
            remark = f"  {result.remarks[0][:90]}" if result.remarks else ""
            print(f"{result.outcome:<11} {result.seconds:6.1f} s  {result.name}{remark}", flush=True)
    print(", ".join(f"{count} {outcome}" for outcome, count in sorted(counts.items())), f"of {len(tests)}")
    return 0 if set(counts) <= {"pass", "skip"} else 1


if __name__ == "__main__":
    sys.exit(main())
