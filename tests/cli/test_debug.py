"""`gdbvmx run --gdb` and `gdbvmx debug`: the server's start and end, and gdb beside it."""

from __future__ import annotations

import socket
import subprocess
import sys

import pytest


def gdb(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["gdb", "-nx", "-batch", *arguments], capture_output=True, text=True, timeout=60, check=False
    )


@pytest.fixture
def served(minivisor):
    """A frozen machine that waits for gdb, and the address where."""
    process = subprocess.Popen(
        [sys.executable, "-m", "gdbvmx", "run", minivisor, "--gdb", "0", "--freeze"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    said = process.stderr.readline()
    assert said.startswith("gdbvmx: gdb: target remote 127.0.0.1:"), said
    yield process, said.split()[4]
    process.kill()
    process.communicate()


def test_stock_gdb_attaches_and_runs_to_the_end(served, minivisor):
    process, address = served
    result = gdb(str(minivisor), "-ex", f"target remote {address}", "-ex", "continue")
    assert "exited" in result.stdout, result.stdout + result.stderr
    output, _ = process.communicate(timeout=60)
    assert process.returncode in (0, 1)
    assert "minivisor: a small VMX hypervisor" in output


def test_kill_ends_the_server(served, minivisor):
    process, address = served
    gdb(str(minivisor), "-ex", f"target remote {address}", "-ex", "kill")
    process.communicate(timeout=60)
    assert process.returncode == 0


def test_time_limit_of_a_machine_that_waits(gdbvmx, minivisor):
    result = gdbvmx("run", minivisor, "--gdb", "0", "--freeze", "--timeout", "0.5")
    assert result.returncode == 124
    assert "stopped at the time limit, after 0 instructions" in result.stderr


def test_a_port_in_use(gdbvmx, minivisor):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = gdbvmx("run", minivisor, "--gdb", port)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith(f"gdbvmx: cannot listen on 127.0.0.1:{port}: ")
    assert "address already in use" in result.stderr.lower()
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (("--freeze",), "--freeze waits for gdb, but there is no --gdb"),
        (("--gdb", "70000"), "argument --gdb: '70000' is no [HOST:]PORT"),
        (("--gdb", "host:"), "argument --gdb: 'host:' is no [HOST:]PORT"),
        (("--gdb", "0", "--max-instructions", "5"), "--max-instructions ends a run that nobody debugs"),
    ],
)
def test_unusable_options(gdbvmx, minivisor, options, complaint):
    result = gdbvmx("run", minivisor, *options)
    assert (result.returncode, result.stdout) == (2, "")
    assert complaint in result.stderr
    assert result.stderr.count("\n") == 1


def test_debug_starts_gdb_attached_with_the_plugin(gdbvmx, minivisor):
    result = gdbvmx(
        "debug", minivisor, "--serial", "none", "--", "-batch", "-ex", "print $pc", "-ex", "vmx info"
    )
    assert result.returncode == 0, result.stderr
    assert "$1 = " in result.stdout
    assert "vCPU 0" in result.stdout


def test_debug_without_gdb(gdbvmx, minivisor):
    result = gdbvmx("debug", minivisor, "--with-gdb", "/absent/gdb")
    assert (result.returncode, result.stdout) == (2, "")
    assert "/absent/gdb is not installed" in result.stderr


def test_gdb_init_is_a_command_that_gdb_takes(gdbvmx, tmp_path):
    line = gdbvmx("gdb-init").stdout
    assert line.count("\n") == 1
    script = tmp_path / "gdbinit"
    script.write_text(line)
    result = gdb("-x", str(script), "-ex", "help vmx")
    assert result.returncode == 0, result.stderr
    assert "vmx" in result.stdout
