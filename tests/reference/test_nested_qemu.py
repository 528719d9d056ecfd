"""The guests on QEMU with nested VT, on this host's KVM where it offers VMX, else inside Bochs.

Long: booted once, Bochs takes about ten seconds of CPU time for each image. `make reference` runs this.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from gdbvmx.reference import kvm

from .conftest import INSIDE, Command, Served

pytestmark = [
    pytest.mark.bochs,
    pytest.mark.long,
    pytest.mark.timeout(1800),
]

# One for each way in which the CPU can refuse, and a few that KVM checks by itself.
MISTAKES = ("vmxon-revision", "vmlaunch-not-clear", "missing-control", "host-cr4", "tr-type", "ept-empty")


def test_minivisor_does_the_same_on_three_machines(command: Command, minivisor: Path, tmp_path: Path) -> None:
    runs = {
        name: command(*words, minivisor, "--trace", tmp_path / name)
        for name, words in (
            ("ours", ("run",)),
            ("bochs", ("bochs", "--timeout", "600")),
            ("qemu", (*INSIDE, "--keep")),
        )
    }
    for name, run in runs.items():
        assert run.returncode == 1, f"{name}: {run.stderr}"
        assert run.stdout.splitlines()[-1] == "end: value 0"
    for name in ("bochs", "qemu"):
        compared = command("trace", "diff", tmp_path / "ours", tmp_path / name)
        assert compared.returncode == 0, f"{name}: {compared.stdout}"


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_has_the_same_end(command: Command, brokenvisor: Path, mistake: str) -> None:
    words = (brokenvisor, "--append", f"mistake={mistake}")
    ours = command("run", *words)
    theirs = command(*INSIDE, "--keep", *words)
    assert theirs.returncode == ours.returncode, theirs.stdout
    assert "brokenvisor: as expected" in theirs.stdout


def test_gdb_stops_in_the_hypervisor_and_in_its_guest(served: Served, minivisor: Path) -> None:
    with served(*INSIDE, "--keep", minivisor) as address:
        commands = (
            "set remotetimeout 300",
            f"target remote {address}",
            "hbreak vm_exit",
            "continue",
            "bt",
            "delete",
            "hbreak touch",
            "continue",
            "bt",
            "kill",
        )
        words = [word for command in commands for word in ("-ex", command)]
        gdb = subprocess.run(
            ["gdb", "-nx", "-q", "-batch", *words, str(minivisor)],
            capture_output=True,
            text=True,
            check=False,
        )
    assert "Breakpoint 1, vm_enter () at vmx/enter.S" in gdb.stdout, gdb.stdout + gdb.stderr
    assert "main () at minivisor/main.c" in gdb.stdout
    assert "Breakpoint 2, touch (" in gdb.stdout, gdb.stdout + gdb.stderr


@pytest.mark.skipif(kvm.Host().obstacle() is not None, reason=f"no nested VT here: {kvm.Host().obstacle()}")
def test_hardware_does_the_same(command: Command, minivisor: Path) -> None:
    ours, theirs = command("run", minivisor), command("qemu", minivisor)
    assert theirs.returncode == ours.returncode, theirs.stderr
    assert theirs.stdout.splitlines()[-1] == ours.stdout.splitlines()[-1]
