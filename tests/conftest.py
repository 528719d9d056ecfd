"""What all tests share: the guests, and the command line run as users run it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from gdbvmx.reference import bochs

ROOT = Path(__file__).resolve().parent.parent
GUESTS = ROOT / "guests" / "build"


def guest(name: str) -> Path:
    """The image of one of our guests."""
    path = GUESTS / f"{name}.elf"
    if not path.exists():
        pytest.fail(f"{path} is not built: make guests")
    return path


def pytest_configure() -> None:
    # In the background or behind nohup these are ignored, and the programs under test would inherit that.
    for number in (signal.SIGINT, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_IGN:
            default = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
            signal.signal(number, default)


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("bochs") and (missing := bochs.missing_packages()):
        pytest.skip(f"apt-get install {' '.join(missing)}")
    if item.get_closest_marker("long") and os.environ.get("GDBVMX_ORACLE") != "all":
        pytest.skip("long: make reference")


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


@pytest.fixture
def assembled(tmp_path: Path) -> Callable[[str], Path]:
    """Makes a Multiboot 1 image of 32-bit code, which runs in protected mode without paging."""

    def assembled(code: str) -> Path:
        source, linked, image = (tmp_path / f"image.{suffix}" for suffix in ("S", "o", "elf"))
        source.write_text(f".globl _start\n.long 0x1badb002, 0, -0x1badb002\n_start: {code}\n")
        subprocess.run(["as", "--32", "-o", linked, source], check=True)
        subprocess.run(["ld", "-melf_i386", "-Ttext=0x100000", "-o", image, linked], check=True)
        return image

    return assembled
