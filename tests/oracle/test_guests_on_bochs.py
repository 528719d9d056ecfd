"""The guests on machines that the project did not write: Bochs, which has VMX, and QEMU's TCG, which has not.

Every mistake of brokenvisor takes Bochs two seconds: a few are made by default, all of them with
GDBVMX_ORACLE=all in the environment.
"""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from gdbvmx.machine import Machine
from gdbvmx.reference import bochs

BUILD = Path(__file__).parents[2] / "guests" / "build"

# One for each way in which the CPU can refuse.
SAMPLE = (
    "no-vmxe",
    "vmxon-revision",
    "vmlaunch-not-clear",
    "missing-control",
    "host-cr4",
    "tr-type",
    "ept-empty",
)

# Bochs 2.7 has no VMCALL in root operation (it panics), and lets a guest RIP pass whose bits 63:48 are not
# alike (SDM vol. 3, 27.3.1.4 asks for that).
BOCHS_IS_WRONG = {"vmcall-in-root", "guest-rip-noncanonical"}

needs_qemu = pytest.mark.skipif(
    shutil.which("qemu-system-x86_64") is None, reason="QEMU: missing package qemu-system-x86"
)


@dataclass(frozen=True)
class Mistake:
    """A row of brokenvisor's own table."""

    name: str
    outcome: str
    number: int
    value: int


def on_qemu(image: str, command_line: str = "") -> subprocess.CompletedProcess[str]:
    """The image on QEMU's TCG; its COM1 is the standard output."""
    machine = ["-accel", "tcg", "-m", "64", "-nodefaults", "-display", "none", "-serial", "stdio"]
    device = ["-device", "isa-debug-exit,iobase=0xf4,iosize=4"]
    return subprocess.run(
        ["qemu-system-x86_64", *machine, *device, "-kernel", str(BUILD / image), "-append", command_line],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def mistakes() -> dict[str, Mistake]:
    rows = on_qemu("brokenvisor.elf", "mistake=list").stdout.replace("\r", "").splitlines()
    table = [row.split("\t") for row in rows if row.count("\t") == 4]
    assert table[0] == ["name", "outcome", "number", "value", "breaks"]
    return {
        name: Mistake(name, outcome, int(number), int(value)) for name, outcome, number, value, _ in table[1:]
    }


@pytest.mark.bochs
def test_minivisor_runs_both_guests_to_their_end() -> None:
    run = bochs.run(BUILD / "minivisor.elf", "poweroff=shutdown")
    assert run.powered_off, run.serial
    assert run.value == 0
    lines = run.serial.splitlines()
    assert "guest A: CPUID says that I run on minivisor" in lines
    assert "guest A: #GP for an MSR that is not there: 0x1" in lines
    assert "guest A: and from the 2-MB page 0x1122334455667788" in lines
    assert "guest A: woken by tick 0x3" in lines
    assert "guest B: the preemption timer took the CPU from me, and gave it back" in lines
    assert "guest B: wrote the log page" in lines
    assert "minivisor: VMXOFF" in lines
    assert not run.complaints


@pytest.mark.bochs
def test_a_virtual_apic_does_the_same() -> None:
    ours = Machine.boot(BUILD / "virtapic.elf", append="poweroff=shutdown", memory=64 << 20)
    ours.run(100_000_000)
    there = bochs.run(BUILD / "virtapic.elf", "poweroff=shutdown")
    assert there.powered_off, there.serial
    assert there.serial.splitlines() == ours.serial_text().splitlines()
    assert "host: the guest has ended vector 0x52" in there.serial


@needs_qemu
@pytest.mark.bochs
@pytest.mark.parametrize("name", SAMPLE)
def test_bochs_reports_what_the_table_expects(name: str) -> None:
    assert_as_expected(mistakes()[name])


@needs_qemu
@pytest.mark.bochs
@pytest.mark.long
@pytest.mark.timeout(1200)
def test_bochs_reports_what_the_table_expects_of_all() -> None:
    for mistake in mistakes().values():
        if mistake.name not in BOCHS_IS_WRONG:
            assert_as_expected(mistake)


def assert_as_expected(mistake: Mistake) -> None:
    # a VMX abort hangs Bochs, and some mistakes run on: the limit is for them
    run = bochs.run(BUILD / "brokenvisor.elf", f"mistake={mistake.name}", timeout=20)
    if mistake.outcome in ("shutdown", "runs-on"):
        assert not run.powered_off, run.serial
    else:
        assert run.value == mistake.value, run.serial
        assert "brokenvisor: as expected" in run.serial


@needs_qemu
@pytest.mark.parametrize("image", ["minivisor.elf", "brokenvisor.elf"])
def test_a_cpu_without_vmx_is_told(image: str) -> None:
    run = on_qemu(image)
    assert "no VMX: CPUID.1:ECX bit 5 is 0" in run.stdout
    assert run.returncode == 3


@needs_qemu
def test_an_unknown_mistake_is_refused() -> None:
    run = on_qemu("brokenvisor.elf", "mistake=none-such")
    assert "mistake=none-such is unknown" in run.stdout
    assert run.returncode == 9


@needs_qemu
@pytest.mark.bochs
@pytest.mark.parametrize("part", ["alu n=1k", "copy n=3", "chase512k n=5k", "recursion n=2"])
def test_the_benchmark_counts_the_same_everywhere(part: str) -> None:
    """TSC ticks differ, checksums may not."""

    def checksum(text: str) -> str:
        return text.partition("checksum ")[2].split()[0]

    there = bochs.run(BUILD / "bench.elf", f"part={part}")
    assert checksum(there.serial) == checksum(on_qemu("bench.elf", f"part={part}").stdout)
