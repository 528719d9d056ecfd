"""`make demo`: every command of it works, and what it is there to show is shown."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

DEMO = Path(__file__).resolve().parents[2] / "scripts" / "demo.py"


@pytest.mark.usefixtures("minivisor", "brokenvisor")
def test_demo():
    result = subprocess.run(
        [sys.executable, DEMO],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert (result.returncode, result.stderr) == (0, "")
    for shown in (
        "vmx: catchpoint 1, exit #53 cpuid (10)",
        "demo_cpuid () at minivisor/guest_a.c",
        "EPT PTE",
        "pin_based_controls  0x0000001f  external-interrupt exiting, NMI exiting",
        "The debugger asked for this exit",
        "rule guest.tr.type",
        "A VM entry with this VMCS would fail: 1 rule broken.",
    ):
        assert shown in result.stdout
