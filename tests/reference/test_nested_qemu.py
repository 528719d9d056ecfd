"""The guests on QEMU with nested VT, on this host's KVM where it offers VMX, else inside Bochs.

Long: booted once, Bochs takes about ten seconds of CPU time for each image. `make reference` runs this.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gdbvmx.reference import kvm

pytestmark = [
    pytest.mark.bochs,
    pytest.mark.skipif(os.environ.get("GDBVMX_ORACLE") != "all", reason="long: make reference"),
    pytest.mark.timeout(1800),
]

Command = Callable[..., subprocess.CompletedProcess[str]]

# One for each way in which the CPU can refuse, and a few that KVM checks by itself.
MISTAKES = ("vmxon-revision", "vmlaunch-not-clear", "missing-control", "host-cr4", "tr-type", "ept-empty")


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """An environment in which a Bochs is kept for the images of these tests."""
    directory = tmp_path_factory.mktemp("runtime")
    environment = {**os.environ, "XDG_RUNTIME_DIR": str(directory)}
    yield environment
    stop = [sys.executable, "-m", "gdbvmx", "qemu", "--inside", "bochs", "--stop"]
    subprocess.run(stop, env=environment, check=True)
    assert list(directory.glob("gdbvmx/inside-*")) == []


@pytest.fixture
def command(runtime: dict[str, str]) -> Command:
    def command(*words: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "gdbvmx", *map(str, words)],
            env=runtime,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )

    return command


def test_minivisor_does_the_same_on_three_machines(command: Command, minivisor: Path, tmp_path: Path) -> None:
    runs = {
        name: command(*words, minivisor, "--trace", tmp_path / name)
        for name, words in (
            ("ours", ("run",)),
            ("bochs", ("bochs", "--timeout", "600")),
            ("qemu", ("qemu", "--inside", "bochs", "--keep")),
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
    theirs = command("qemu", "--inside", "bochs", "--keep", *words)
    assert theirs.returncode == ours.returncode, theirs.stdout
    assert "brokenvisor: as expected" in theirs.stdout


def test_gdb_stops_in_the_hypervisor_and_in_its_guest(runtime: dict[str, str], minivisor: Path) -> None:
    words = ["qemu", "--inside", "bochs", "--keep", str(minivisor), "--gdb", "0", "--freeze"]
    with subprocess.Popen(
        [sys.executable, "-m", "gdbvmx", *words],
        env=runtime,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stderr is not None
            while "target remote " not in (line := process.stderr.readline()):
                assert process.poll() is None
            address = line.partition("target remote ")[2].split()[0]
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
        finally:
            process.kill()
    assert "Breakpoint 1, vm_enter () at vmx/enter.S" in gdb.stdout, gdb.stdout + gdb.stderr
    assert "main () at minivisor/main.c" in gdb.stdout
    assert "Breakpoint 2, touch (" in gdb.stdout, gdb.stdout + gdb.stderr


@pytest.mark.skipif(kvm.Host().obstacle() is not None, reason=f"no nested VT here: {kvm.Host().obstacle()}")
def test_hardware_does_the_same(command: Command, minivisor: Path) -> None:
    ours, theirs = command("run", minivisor), command("qemu", minivisor)
    assert theirs.returncode == ours.returncode, theirs.stderr
    assert theirs.stdout.splitlines()[-1] == ours.stdout.splitlines()[-1]
