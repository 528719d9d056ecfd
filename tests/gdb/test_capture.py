"""`gdbvmx trace record`: a trace recorded through gdb is that of `gdbvmx run --trace`."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from gdbvmx.trace import events


@pytest.fixture
def served():
    """Serves an image in the background, frozen; gives the address."""
    processes = []

    def served(image: Path, *options: str) -> str:
        process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "gdbvmx",
                "run",
                image,
                "--gdb",
                "0",
                "--freeze",
                "--serial",
                "none",
                *options,
            ],
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        processes.append(process)
        assert process.stderr is not None
        return process.stderr.readline().split()[4]

    yield served
    for process in processes:
        process.terminate()
        process.communicate()


RECORD = (sys.executable, "-m", "gdbvmx", "trace", "record", "--target")


def capture(target: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*RECORD, target, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


def test_to_the_end_of_the_machine(served, gdbvmx, minivisor, tmp_path):
    captured, recorded = tmp_path / "captured.jsonl", tmp_path / "recorded.jsonl"
    result = capture(served(minivisor), "--output", captured, "--seconds", "60")
    assert result.returncode == 0, result.stderr
    assert "recording ended: exited" in result.stderr
    gdbvmx("run", minivisor, "--trace", recorded)
    assert events.read(captured).events == events.read(recorded).events


def test_for_a_time(served, tmp_path):
    image = tmp_path / "loop.bin"
    image.write_bytes(b"\xeb\xfe")
    captured = tmp_path / "captured.jsonl"
    result = capture(served(image), "--output", captured, "--seconds", "0.5")
    assert result.returncode == 0, result.stderr
    assert "recording ended: 0.5 s passed" in result.stderr
    assert events.read(captured).events == []


def test_with_so_many_events(served, bench, tmp_path):
    captured = tmp_path / "captured.jsonl"
    address = served(bench, "--append", "part=vmexit n=100000000")
    result = capture(address, "--output", captured, "--events", "1000")
    assert result.returncode == 0, result.stderr
    assert "recording ended: 1000 events recorded" in result.stderr
    assert [event.seq for event in events.read(captured).events] == list(range(1000))


def test_interrupted_it_keeps_what_it_has(served, bench, tmp_path):
    captured = tmp_path / "captured.jsonl"
    address = served(bench, "--append", "part=vmexit n=100000000")
    ours, terminal = os.openpty()
    with subprocess.Popen([*RECORD, address, "-o", captured], stderr=terminal) as process:
        os.close(terminal)
        said = b""
        while b" events" not in said:  # what it shows at a terminal, once it has looked at the recording
            said += os.read(ours, 1000)
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=100) == 130
    assert f"interrupted; {captured} holds what was recorded".encode() in os.read(ours, 1000)
    os.close(ours)
    assert events.read(captured).events


def test_a_command_that_fails(served, minivisor, tmp_path):
    result = capture(served(minivisor), "--output", tmp_path / "t.jsonl", "--command", "vmx catch exit bogus")
    assert result.returncode == 2
    assert result.stderr.startswith("gdbvmx: vmx catch exit bogus: ")


def test_symbols_of_the_image(served, minivisor, tmp_path):
    captured = tmp_path / "captured.jsonl"
    result = capture(
        served(minivisor), "-o", captured, "--image", minivisor, "--command", "info address main"
    )
    assert result.returncode == 0, result.stderr
