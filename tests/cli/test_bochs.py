"""`gdbvmx bochs`: the same image in a machine that we did not write."""

from __future__ import annotations

import pytest

from gdbvmx.reference import bochs

needs_bochs = pytest.mark.skipif(
    bool(bochs.missing_packages()), reason=f"apt-get install {' '.join(bochs.missing_packages())}"
)


@needs_bochs
def test_status_output_and_trace_are_those_of_our_machine(gdbvmx, minivisor, tmp_path):
    ours = gdbvmx("run", minivisor, "--trace", tmp_path / "ours")
    theirs = gdbvmx("bochs", minivisor, "--trace", tmp_path / "theirs", timeout=100)
    assert theirs.returncode == ours.returncode, theirs.stderr
    assert theirs.stdout.splitlines()[-1] == ours.stdout.splitlines()[-1]
    compared = gdbvmx("trace", "diff", tmp_path / "ours", tmp_path / "theirs")
    assert (compared.returncode, compared.stderr) == (0, "")
    assert compared.stdout.splitlines()[0].startswith("674 events compared")


@needs_bochs
def test_time_limit(gdbvmx, bench):
    endless = "part=alu n=1000000000000"
    result = gdbvmx("bochs", bench, "--append", endless, "--timeout", "5", timeout=100)
    assert result.returncode == 124
    assert "stopped at the time limit of 5 s" in result.stderr


def test_unusable_arguments(gdbvmx):
    result = gdbvmx("bochs", "absent.elf")
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr == "gdbvmx: absent.elf: no such file\n"
