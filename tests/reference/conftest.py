"""A Bochs that is kept for the images of these tests, and gdb on the QEMU in it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from gdbvmx.trace.capture import Gdb

INSIDE = ("qemu", "--inside", "bochs")
# For an answer of gdb on a machine that shares its processors: reading a whole VMCS takes half a minute.
PATIENCE = 600

Command = Callable[..., subprocess.CompletedProcess[str]]
Served = Callable[..., AbstractContextManager[str]]
Attached = Callable[..., AbstractContextManager[Gdb]]


@pytest.fixture(scope="session")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """An environment in which a Bochs is kept; at its end nothing is left of it."""
    directory = tmp_path_factory.mktemp("runtime")
    environment = {**os.environ, "XDG_RUNTIME_DIR": str(directory)}
    yield environment
    stop = [sys.executable, "-m", "gdbvmx", *INSIDE, "--stop"]
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


@pytest.fixture
def served(runtime: dict[str, str]) -> Served:
    """Runs an image, which waits for gdb at the address that this gives."""

    @contextmanager
    def served(*words: object) -> Iterator[str]:
        with subprocess.Popen(
            [sys.executable, "-m", "gdbvmx", *map(str, words), "--gdb", "0", "--freeze"],
            env=runtime,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            try:
                assert process.stderr is not None
                while "target remote " not in (line := process.stderr.readline()):
                    assert line, "it ended before it waited for gdb"
                yield line.partition("target remote ")[2].split()[0]
            finally:
                process.terminate()

    return served


@pytest.fixture
def attached(served: Served) -> Attached:
    """gdb with the plugin on an image that runs by these words of the command line."""

    @contextmanager
    def attached(image: Path, *words: object) -> Iterator[Gdb]:
        with served(*words, image) as address, Gdb(timeout=PATIENCE) as gdb:
            gdb.command(f"file {image}")
            gdb.command(f"target remote {address}")
            yield gdb

    return attached
