"""`gdbvmx qemu --inside bochs` from its first word to its last trace, with a stand-in for Bochs.

What the stand-in is told to do is done on this machine, where QEMU has no VMX; the processes, sockets and
files are those of a real run.
"""

from __future__ import annotations

import hashlib
import json
import os
import pty
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from gdbvmx.reference import qemu
from gdbvmx.reference.inside import system
from gdbvmx.trace import events as trace

pytestmark = [pytest.mark.bochs]

STAND_IN = Path(__file__).with_name("bochs_stand_in.py")
ENDLESS = ("--append", "part=alu n=1000000000000")
SHORT = ("--append", "part=recursion n=2")


class Inside:
    """The command line, with the stand-in as Bochs, and places of its own for all files."""

    def __init__(self, directory: Path) -> None:
        self.runtime = directory / "runtime"
        programs, cache = directory / "bin", directory / "cache"
        for made in (self.runtime, programs, cache / "gdbvmx" / "inside-bochs"):
            made.mkdir(parents=True)
        (programs / "bochs").write_text(f'#!/bin/sh\nexec {sys.executable} {STAND_IN} "$@"\n')
        (programs / "bochs").chmod(0o755)
        self.environment = {
            **os.environ,
            "PATH": f"{programs}:{os.environ['PATH']}",
            "XDG_RUNTIME_DIR": str(self.runtime),
            "XDG_CACHE_HOME": str(cache),
        }
        # A system that counts as whole, so that none is built.
        medium = b"no system"
        manifest = {"made_from": system._made_from(qemu.find()), "sha256": hashlib.sha256(medium).hexdigest()}
        (cache / "gdbvmx" / "inside-bochs" / "system.iso").write_bytes(medium)
        (cache / "gdbvmx" / "inside-bochs" / "manifest.json").write_text(json.dumps(manifest))

    def command(self, *words: object) -> list[str]:
        return [sys.executable, "-m", "gdbvmx", "qemu", "--inside", "bochs", *map(str, words)]

    def __call__(self, *words: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*words),
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )

    @contextmanager
    def started(self, *words: object, stdin: int = subprocess.DEVNULL) -> Iterator[subprocess.Popen[str]]:
        with subprocess.Popen(
            self.command(*words),
            env=self.environment,
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            try:
                yield process
            finally:
                process.kill()

    def pids(self) -> list[int]:
        """Of the stand-ins that have written theirs."""
        return [int(path.read_text() or 0) for path in self.runtime.glob("gdbvmx/inside-*/pid")]

    def keeper_pid(self) -> int:
        directory = next(self.runtime.glob("gdbvmx/inside-*"))
        return int(directory.name.split("-")[1])

    def files(self) -> list[str]:
        """What is left in the runtime directory."""
        return sorted(path.name for path in self.runtime.glob("gdbvmx/*"))


@pytest.fixture
def inside(tmp_path: Path) -> Iterator[Inside]:
    inside = Inside(tmp_path)
    yield inside
    for pid in inside.pids():
        if alive(pid):
            os.kill(pid, signal.SIGKILL)


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def paused(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


def eventually(happens: Callable[[], object], what: str) -> None:
    for _ in range(600):
        if happens():
            return
        time.sleep(0.05)
    pytest.fail(f"did not happen: {what}")


def nothing_is_left(inside: Inside, pids: list[int]) -> bool:
    return not inside.files() and not any(map(alive, pids))


def test_an_image_runs_and_nothing_is_left(inside: Inside, bench: Path) -> None:
    result = inside(bench, *SHORT)
    assert result.returncode == 1, result.stderr
    assert "checksum" in result.stdout
    assert result.stdout.splitlines()[-1] == "end: value 0"
    said = result.stderr.splitlines()
    assert said[0].startswith("gdbvmx: booting Linux with KVM inside Bochs")
    assert said[1:] == ["gdbvmx: Linux is up", "gdbvmx: ready"]
    assert inside.files() == []


def test_a_kept_bochs_takes_the_next_image(inside: Inside, bench: Path, minivisor: Path) -> None:
    assert inside(bench, *SHORT, "--keep").returncode == 1
    (pid,) = inside.pids()
    eventually(lambda: paused(pid), "Bochs takes no CPU time between images")
    result = inside(minivisor)
    assert (result.returncode, result.stderr) == (3, "")
    assert "no VMX: CPUID.1:ECX bit 5 is 0" in result.stdout
    assert inside.pids() == [pid]
    assert inside("--stop").returncode == 0
    assert nothing_is_left(inside, [pid])
    assert inside("--stop").stderr == "gdbvmx: no Bochs was kept\n"


def test_time_limit(inside: Inside, bench: Path) -> None:
    assert inside(bench, *SHORT, "--keep").returncode == 1
    pids = inside.pids()
    result = inside(bench, *ENDLESS, "--timeout", "1")
    assert (result.returncode, result.stderr) == (124, "gdbvmx: stopped at the time limit of 1 s\n")
    eventually(lambda: paused(pids[0]), "the image is ended, and Bochs paused")
    assert inside(bench, *SHORT).returncode == 1
    assert inside.pids() == pids
    inside("--stop")
    assert nothing_is_left(inside, pids)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize("when", ["boot", "run"])
def test_an_interrupted_run_leaves_nothing(
    inside: Inside, bench: Path, number: signal.Signals, when: str
) -> None:
    if when == "boot":
        inside.environment["BOCHS_STAND_IN"] = "hang"
    with inside.started(bench, *ENDLESS) as process:
        assert process.stderr is not None
        last = {"boot": "Linux is up", "run": "ready"}[when]
        while last not in process.stderr.readline():
            assert process.poll() is None
        pids = inside.pids()
        assert pids
        process.send_signal(number)
        status = process.wait(60)
    assert status == {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGKILL: -9}[number]
    eventually(lambda: nothing_is_left(inside, pids), "all is gone")


def test_a_boot_that_is_interrupted_is_not_kept(inside: Inside, bench: Path) -> None:
    inside.environment["BOCHS_STAND_IN"] = "hang"
    with inside.started(bench, "--keep") as process:
        assert process.stderr is not None
        while "Linux is up" not in process.stderr.readline():
            assert process.poll() is None
        pids = inside.pids()
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
    eventually(lambda: nothing_is_left(inside, pids), "all is gone")


def test_a_keeper_that_is_killed_takes_bochs_with_it(inside: Inside, bench: Path) -> None:
    assert inside(bench, *SHORT, "--keep").returncode == 1
    (pid,) = inside.pids()
    keeper = inside.keeper_pid()
    os.kill(keeper, signal.SIGKILL)
    eventually(lambda: not alive(pid), "Bochs dies with its keeper")
    # The next start sweeps up the files.
    assert inside(bench, *SHORT).returncode == 1
    assert inside.files() == []


def test_a_bochs_that_ends_is_told(inside: Inside, bench: Path) -> None:
    inside.environment["BOCHS_STAND_IN"] = "panic"
    result = inside(bench)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.splitlines()[-1] == (
        "gdbvmx: Bochs ended: [HD    ] ata0-0: could not open hard drive image file"
    )
    assert inside.files() == []


def test_what_is_typed_reaches_the_guest(inside: Inside, assembled: Callable[[str], Path]) -> None:
    echo = """
        1: mov $0x3fd, %dx; in %dx, %al; test $1, %al; jz 1b
        mov $0x3f8, %dx; in %dx, %al; out %al, %dx; cmp $'q', %al; jne 1b
        mov $0xf4, %dx; xor %eax, %eax; out %eax, %dx
    """
    ours, its = pty.openpty()
    with inside.started(assembled(echo), stdin=its) as process:
        os.close(its)
        assert process.stderr is not None
        while "ready" not in process.stderr.readline():
            assert process.poll() is None
        os.write(ours, b"a\x01xb\rq")  # the escape of QEMU's console is a byte like others
        assert process.wait(60) == 1
        assert process.stdout is not None
        assert process.stdout.buffer.read() == b"a\x01xb\rq"
    os.close(ours)
    assert inside.files() == []


def test_a_trace_is_what_kvm_recorded(inside: Inside, minivisor: Path, tmp_path: Path) -> None:
    """The stand-in hands out what KVM recorded of minivisor in a real Bochs: its start, and a later piece."""
    recorded = tmp_path / "trace.jsonl"
    result = inside(minivisor, "--trace", recorded)
    assert result.returncode == 3, result.stderr
    assert result.stderr.splitlines()[-1] == f"gdbvmx: {recorded}: the oldest 3 of 30 events are lost"
    events = trace.read(recorded).events
    assert [event.kind for event in events].count("entry") == 8
    exits = [event for event in events if event.kind == "exit"]
    assert [event.name for event in exits] == ["io-instruction"] * 6 + ["ept-violation"]
    assert (exits[0].vmcs, exits[0].guest_rip, exits[0].qualification) == (0x124000, 0x40000010, 0x3F80000)
    assert exits[-1].guest_rip == 0x400001B0


def test_gdb_reaches_the_stub(inside: Inside, bench: Path) -> None:
    with inside.started(bench, *SHORT, "--gdb", "0", "--freeze") as process:
        assert process.stderr is not None
        while "gdb: target remote " not in (line := process.stderr.readline()):
            assert process.poll() is None
        assert "(the machine waits for it); before that, set remotetimeout 60" in line
        host, port = line.partition("target remote ")[2].split()[0].rsplit(":", 1)
        commands = ["set remotetimeout 60", f"target remote {host}:{port}", "info registers rip", "kill"]
        words = [word for command in commands for word in ("-ex", command)]
        gdb = subprocess.run(
            ["gdb", "-nx", "-q", "-batch", *words], capture_output=True, text=True, timeout=100, check=False
        )
        assert "0xfff0" in gdb.stdout, gdb.stderr
        assert process.wait(60) == 0
        assert process.stdout is not None
        assert process.stdout.read() == ""
    assert inside.files() == []


def test_a_port_that_is_taken_is_told(inside: Inside, bench: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = inside(bench, "--gdb", port, "--keep")
    assert result.returncode == 2
    assert result.stderr == f"gdbvmx: 127.0.0.1:{port}: Address already in use\n"
    eventually(lambda: inside.files() == [], "the keeper, which has nothing to keep, ends")


def test_only_one_image_at_a_time(inside: Inside, bench: Path, minivisor: Path) -> None:
    assert inside(bench, *SHORT, "--keep").returncode == 1
    pids = inside.pids()
    with inside.started(bench, *ENDLESS):
        eventually(lambda: not paused(pids[0]), "the image runs")
        result = inside(minivisor)
    assert result.returncode == 2
    assert result.stderr == f"gdbvmx: the Bochs that was kept is busy with {bench}\n"
    inside("--stop")
    assert nothing_is_left(inside, pids)
