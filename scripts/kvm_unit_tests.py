#!/usr/bin/env python3
"""Runs kvm-unit-tests, unmodified: the images of its unittests.cfg, and the VMX tests, each alone.

    scripts/kvm_unit_tests.py DIR                 all of them; DIR is x86/ of a built tree, for x86-64 or i386
    scripts/kvm_unit_tests.py DIR --images        the images only
    scripts/kvm_unit_tests.py DIR --vmx           the VMX tests only
    scripts/kvm_unit_tests.py DIR vmenter EPT_A/D_disabled smap

kvm-unit-tests is not part of this project: get it from its public repository, then ./configure && make. The
VMX tests are those that vmx.flat itself names.
"""

from __future__ import annotations

import argparse
import configparser
import os
import re
import shlex
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from gdbvmx import profiles

LARGE_MEMORY, MEMORY = "2560M", "512M"
# VMX tests that need more than one processor or 512 MiB.
TWO_CPUS = {
    "nmi_hlt",
    "vmx_apic_passthrough_thread_test",
    "vmx_eoi_bitmap_ioapic_scan_test",
    "vmx_init_signal_test",
    "vmx_posted_interrupts_test",
    "vmx_sipi_signal_test",
}
LARGE = re.compile("ept_access_|vmx_apic_passthrough|vmx_eoi_bitmap|vmx_init|vmx_sipi|vmx_posted")

# What an image tests that is not a processor's or a PC's, or is another maker's.
NOT_OURS = {
    "asyncpf": "KVM's own interface",
    "kvmclock_test": "KVM's own interface",
    "hypercall": "KVM's own interface",
    "hyperv_clock": "Hyper-V's interface",
    "hyperv_connections": "Hyper-V's interface",
    "hyperv_stimer": "Hyper-V's interface",
    "hyperv_synic": "Hyper-V's interface",
    "svm": "AMD's",
    "svm_npt": "AMD's",
    "rdpru": "AMD's",
    "intel-iommu": "an IOMMU",
    "vmware_backdoors": "VMware's interface",
    "s3": "suspend to RAM, which a firmware wakes from",
    "vmx": "tests of its own, see above",
}
# The tests of unittests.cfg that are KVM's, of images that are not.
KVM_ONLY = {"vmexit_vmcall": "KVM's own interface"}
# Those with a part for KVM's hypercalls, or for SYSCALL as AMD has it: it is left out on a machine of Intel's
# that has no test device.
PARTLY = {"xapic", "x2apic", "syscall"}
NO_TEST_DEVICE = "TEST_DEVICE=0\n"
# Tests that fail where a processor is exact; with the SDM's values in their place both pass.
CONTRARY = {
    "vmx_db_test": "it wants an emulated WBINVD in a MOV SS shadow to be wrong, as KVM's is (report_xfail)",
    "atomic_switch_overflow_msrs_test": "it wants reason 33 of an MSR that cannot be loaded, which is 34",
}
# The CPU's features that a section of unittests.cfg may take away, as both call them.
FEATURES = {"invpcid", "la57", "pcid", "pku", "smap", "umip", "x2apic"}

# By exit status: the guest's own answers, then ours.
OUTCOMES = {1: "pass", 3: "fail", 77: "skip", 127: "abort", 4: "shutdown", 124: "timeout"}


@dataclass(frozen=True)
class Test:
    name: str
    image: Path
    arguments: str = ""
    memory: str = MEMORY
    cpus: int = 1
    without: tuple[str, ...] = ()
    """Features that its CPU has not."""
    environment: str = ""
    """What it finds there: a line `NAME=VALUE` for each."""
    excuse: str = ""
    """Why it is not run."""


@dataclass(frozen=True)
class Result:
    test: Test
    outcome: str
    seconds: float = 0.0
    summary: str = ""
    remarks: list[str] = field(default_factory=list)


def run(test: Test, timeout: float) -> tuple[int, str]:
    """Exit status and COM1 of one run."""
    command = [sys.executable, "-m", "gdbvmx", "run", str(test.image), "--append", test.arguments]
    command += ["--memory", test.memory, "--cpus", str(test.cpus), "--timeout", str(timeout)]
    if test.without:
        command += ["--cpu", ",-".join((profiles.default().name, *test.without))]
    with tempfile.NamedTemporaryFile("w") as environment:
        if test.environment:
            environment.write(test.environment)
            environment.flush()
            command += ["--initrd", environment.name]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    return done.returncode, (done.stdout + done.stderr).decode(errors="replace").replace("\r", "")


def vmx_tests(directory: Path) -> Iterator[Test]:
    """The tests of vmx.flat: with a filter that matches none it names them all."""
    image = directory / "vmx.flat"
    if not image.is_file():
        return
    config = sections(directory)
    _, output = run(Test("names", image, "no-such-test"), 60)
    for found in re.findall(r"^filter = .*, test = (.+)$", output, re.M):
        name = found.strip().replace(" ", "_")
        memory = LARGE_MEMORY if LARGE.match(name) else MEMORY
        without = taken_away(config[name]) if name in config else ()
        yield Test(name, image, name, memory, 2 if name in TWO_CPUS else 1, without)


def image_tests(directory: Path) -> Iterator[Test]:
    """The sections of unittests.cfg that are for this architecture."""
    makefile = directory.parent / "config.mak"
    found = re.search(r"^ARCH=(\w+)", makefile.read_text() if makefile.is_file() else "", re.M)
    architecture = found.group(1) if found else "x86_64"
    for name, section in sections(directory).items():
        if section.get("arch", architecture) != architecture or "file" not in section:
            continue
        image = directory / section["file"]
        yield Test(
            name,
            image,
            section.get("test_args", "").strip("'\""),
            option(section, "-m", MEMORY.rstrip("M")) + "M",
            section.getint("smp", 1),
            taken_away(section),
            NO_TEST_DEVICE if name in PARTLY else "",
            excuse(name, image, section),
        )


def sections(directory: Path) -> configparser.ConfigParser:
    config = configparser.ConfigParser(interpolation=None, strict=False)
    config.read(directory / "unittests.cfg")
    return config


def option(section: configparser.SectionProxy, name: str, default: str) -> str:
    """What follows `name` among QEMU's options."""
    options = shlex.split(section.get("qemu_params", ""))
    return options[options.index(name) + 1] if name in options else default


def taken_away(section: configparser.SectionProxy) -> tuple[str, ...]:
    """The features that the section's CPU has not."""
    flags = option(section, "-cpu", "").split(",")
    return tuple(flag[1:] for flag in flags if flag[0:1] == "-" and flag[1:] in FEATURES)


def excuse(name: str, image: Path, section: configparser.SectionProxy) -> str:
    if refused := NOT_OURS.get(image.stem) or KVM_ONLY.get(name):
        return refused
    if not image.is_file():
        return "not built"
    if "/sys/module/kvm" in section.get("check", "") and "allow_smaller" in section["check"]:
        return "a setting of KVM's"
    return "needs KVM's forced emulation" if section.get("test_args", "") == "force_emulation" else ""


def judge(timeout: float, test: Test) -> Result:
    if test.excuse:
        return Result(test, "not run", remarks=[test.excuse])
    start = time.monotonic()
    status, output = run(test, timeout)
    seconds = time.monotonic() - start
    remarks = re.findall(r"^(?:FAIL|SKIP|gdbvmx|Unhandled|Assert|ASSERT).*", output, re.M)
    outcome = OUTCOMES.get(status, f"status {status}")
    if outcome != "pass" and (known := CONTRARY.get(test.name)):
        remarks.insert(0, known)
    summary = re.findall(r"^SUMMARY: (.*)", output, re.M)
    return Result(test, outcome, seconds, "; ".join(summary), remarks)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("directory", metavar="DIR", type=Path)
    parser.add_argument("tests", metavar="NAME", nargs="*", help="only these")
    parser.add_argument("--vmx", action="store_true", help="only the tests of vmx.flat")
    parser.add_argument("--images", action="store_true", help="only the images of unittests.cfg")
    parser.add_argument("--timeout", type=float, default=300, help="seconds for each [%(default)s]")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="at a time [%(default)s]")
    arguments = parser.parse_intermixed_args()
    if not (arguments.directory / "unittests.cfg").is_file():
        print(
            f"kvm_unit_tests: {arguments.directory} holds no unittests.cfg; DIR is x86/ of a built "
            "kvm-unit-tests",
            file=sys.stderr,
        )
        return 2
    tests = [] if arguments.images else list(vmx_tests(arguments.directory))
    if not arguments.vmx:
        tests += image_tests(arguments.directory)
    if unknown := set(arguments.tests) - {test.name for test in tests}:
        print(f"kvm_unit_tests: there is no test {min(unknown)}", file=sys.stderr)
        return 2
    tests = [test for test in tests if not arguments.tests or test.name in arguments.tests]
    counts: Counter[str] = Counter()
    with ThreadPoolExecutor(arguments.jobs) as pool:
        for result in pool.map(partial(judge, arguments.timeout), tests):
            counts[result.outcome] += 1
            remark = f"  {result.remarks[0][:90]}" if result.remarks else ""
            summary = f"  ({result.summary})" if result.summary else ""
            line = f"{result.outcome:<11} {result.seconds:6.1f} s  {result.test.name}{summary}{remark}"
            print(line, flush=True)
    print(", ".join(f"{count} {outcome}" for outcome, count in sorted(counts.items())), f"of {len(tests)}")
    return 0 if set(counts) <= {"pass", "skip", "not run"} else 1


if __name__ == "__main__":
    sys.exit(main())
