"""`gdbvmx bochs`: the same image in a machine that we did not write."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest


@pytest.mark.bochs
def test_status_output_and_trace_are_those_of_our_machine(gdbvmx, minivisor, tmp_path):
    ours = gdbvmx("run", minivisor, "--trace", tmp_path / "ours")
    theirs = gdbvmx("bochs", minivisor, "--trace", tmp_path / "theirs", timeout=100)
    assert theirs.returncode == ours.returncode, theirs.stderr
    assert theirs.stdout.splitlines()[-1] == ours.stdout.splitlines()[-1]
    compared = gdbvmx("trace", "diff", tmp_path / "ours", tmp_path / "theirs")
    assert (compared.returncode, compared.stderr) == (0, "")
    assert compared.stdout.splitlines()[0].startswith("674 events compared")


@pytest.mark.bochs
def test_time_limit(gdbvmx, bench):
    endless = "part=alu n=1000000000000"
    result = gdbvmx("bochs", bench, "--append", endless, "--timeout", "5", timeout=100)
    assert result.returncode == 124
    assert "stopped at the time limit of 5 s" in result.stderr


@pytest.mark.bochs
@pytest.mark.parametrize("traced", [False, True])
def test_a_run_that_is_terminated_leaves_nothing(bench, tmp_path, traced):
    places = {**os.environ, "TMPDIR": str(tmp_path)}
    trace = ["--trace", tmp_path / "trace.jsonl"] if traced else []
    words = ["bochs", bench, "--append", "part=alu n=1000000000000", *trace]
    with subprocess.Popen([sys.executable, "-m", "gdbvmx", *words], env=places) as process:
        while not processes_in(tmp_path):
            assert process.poll() is None
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 143
    assert processes_in(tmp_path) == []
    assert [path.name for path in tmp_path.iterdir()] == (["trace.jsonl"] if traced else [])


def processes_in(directory: Path) -> list[str]:
    """Those whose working directory is below `directory`."""
    found = []
    for process in Path("/proc").glob("[0-9]*/cwd"):
        with suppress(OSError):
            if process.readlink().is_relative_to(directory):
                found.append(process.parent.name)
    return found


def test_unusable_arguments(gdbvmx):
    result = gdbvmx("bochs", "absent.elf")
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr == "gdbvmx: absent.elf: no such file\n"
