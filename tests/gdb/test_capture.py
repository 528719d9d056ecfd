"""scripts/capture_trace.py: a trace recorded through gdb is that of `gdbvmx run --trace`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from gdbvmx.trace import events

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "capture_trace.py"


@pytest.fixture
def served():
    """Serves an image in the background, frozen; gives the address."""
    processes = []

    def served(image: Path) -> str:
        process = subprocess.Popen(
            [sys.executable, "-m", "gdbvmx", "run", image, "--gdb", "0", "--freeze", "--serial", "none"],
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        processes.append(process)
        assert process.stderr is not None
        return process.stderr.readline().split()[4]

    yield served
    for process in processes:
        process.kill()
        process.communicate()


def capture(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, SCRIPT, *map(str, arguments)],
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


def test_nobody_there(tmp_path):
    result = capture("localhost:1", "--output", tmp_path / "t.jsonl")
    assert result.returncode == 2
    assert result.stderr.startswith("capture_trace: target extended-remote localhost:1: ")


def test_a_command_that_fails(served, minivisor, tmp_path):
    result = capture(served(minivisor), "--output", tmp_path / "t.jsonl", "--command", "vmx catch exit bogus")
    assert result.returncode == 2
    assert result.stderr.startswith("capture_trace: vmx catch exit bogus: ")
