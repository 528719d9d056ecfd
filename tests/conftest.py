"""What all tests share: the guests, and the command line run as users run it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
GUESTS = ROOT / "guests" / "build"


def guest(name: str) -> Path:
    """The image of one of our guests."""
    path = GUESTS / f"{name}.elf"
    if not path.exists():
        pytest.fail(f"{path} is not built: make guests")
    return path


@pytest.fixture(scope="session")
def minivisor() -> Path:
    return guest("minivisor")


@pytest.fixture(scope="session")
def brokenvisor() -> Path:
    return guest("brokenvisor")


@pytest.fixture(scope="session")
def virtapic() -> Path:
    return guest("virtapic")


@pytest.fixture(scope="session")
def bench() -> Path:
    return guest("bench")


@pytest.fixture
def gdbvmx():
    """Runs `gdbvmx` with these arguments; standard input is empty."""

    def gdbvmx(*arguments: object, timeout: float = 60) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "gdbvmx", *map(str, arguments)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    return gdbvmx
