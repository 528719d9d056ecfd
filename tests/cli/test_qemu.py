"""`gdbvmx qemu`: what it says where there is no nested VT, and QEMU's TCG."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys

import pytest

from gdbvmx.reference import kvm

needs_qemu = pytest.mark.skipif(
    shutil.which("qemu-system-x86_64") is None, reason="apt-get install qemu-system-x86"
)


@needs_qemu
@pytest.mark.skipif(kvm.Host().obstacle() is None, reason="this host's KVM gives guests VMX")
def test_the_obstacle_and_the_ways_round_it_are_told(gdbvmx, minivisor):
    result = gdbvmx("qemu", minivisor)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr == (
        f"gdbvmx: {kvm.Host().obstacle()}. Without hardware VT: --inside bochs; without VMX: --accel tcg\n"
    )


@needs_qemu
def test_tcg_runs_what_needs_no_vmx(gdbvmx, bench):
    ours = gdbvmx("run", bench, "--append", "part=recursion n=2")
    theirs = gdbvmx("qemu", bench, "--accel", "tcg", "--append", "part=recursion n=2")
    assert theirs.returncode == ours.returncode == 1
    assert checksum(theirs.stdout) == checksum(ours.stdout)
    assert "a processor without VMX" in theirs.stderr


def checksum(text: str) -> str:
    return text.partition("checksum ")[2].split()[0]


@needs_qemu
def test_tcg_has_no_vmx_and_the_image_tells(gdbvmx, minivisor):
    result = gdbvmx("qemu", minivisor, "--accel", "tcg")
    assert result.returncode == 3
    assert "no VMX: CPUID.1:ECX bit 5 is 0" in result.stdout


@needs_qemu
def test_a_triple_fault_is_told_from_a_reset(gdbvmx, assembled):
    image = assembled("lidt 0; ud2")
    result = gdbvmx("qemu", image, "--accel", "tcg")
    assert (result.returncode, result.stderr.splitlines()[-1]) == (
        4,
        "gdbvmx: the processor shut down on a triple fault",
    )


@needs_qemu
def test_the_serial_port_goes_to_a_file_or_nowhere(gdbvmx, bench, tmp_path):
    serial = tmp_path / "a,b.txt"  # a comma separates QEMU's options
    words = ("--accel", "tcg", "--append", "part=recursion n=2", "--serial")
    result = gdbvmx("qemu", bench, *words, serial)
    assert (result.returncode, result.stdout) == (1, "")
    assert "checksum" in serial.read_text()
    assert gdbvmx("qemu", bench, *words, "none").stdout == ""


@needs_qemu
def test_time_limit(gdbvmx, bench):
    endless = "part=alu n=1000000000000"
    result = gdbvmx("qemu", bench, "--accel", "tcg", "--append", endless, "--timeout", "1")
    assert result.returncode == 124
    assert "stopped at the time limit of 1 s" in result.stderr


@needs_qemu
def test_gdb_attaches(minivisor):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    words = ["qemu", minivisor, "--accel", "tcg", "--serial", "none", "--gdb", str(port), "--freeze"]
    with subprocess.Popen(
        [sys.executable, "-m", "gdbvmx", *words], stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        while (
            f"gdb: target remote 127.0.0.1:{port} (the machine waits for it)" not in process.stderr.readline()
        ):
            assert process.poll() is None
        commands = (f"target remote :{port}", "break lib_main", "continue", "bt", "kill")
        given = [word for command in commands for word in ("-ex", command)]
        gdb = subprocess.run(
            ["gdb", "-nx", "-q", "-batch", "-ex", "set tcp auto-retry on", *given, minivisor],
            capture_output=True,
            text=True,
            check=False,
        )
        assert process.wait(60) == 0
    assert "#0  lib_main" in gdb.stdout, gdb.stderr


@needs_qemu
def test_what_qemu_refuses_is_no_status_of_the_guest(gdbvmx, minivisor):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        result = gdbvmx("qemu", minivisor, "--accel", "tcg", "--gdb", taken.getsockname()[1])
    assert (result.returncode, result.stdout) == (2, "")
    assert "Address already in use" in result.stderr.splitlines()[-1]


@needs_qemu
def test_an_old_qemu_is_refused(gdbvmx, minivisor, tmp_path, monkeypatch):
    old = tmp_path / "qemu-system-x86_64"
    old.write_text("#!/bin/sh\necho QEMU emulator version 2.12.1\n")
    old.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    result = gdbvmx("qemu", minivisor)
    assert result.returncode == 2
    assert f"{old} is QEMU 2.12; 4.1 or later is needed" in result.stderr


def test_no_qemu(gdbvmx, minivisor, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    result = gdbvmx("qemu", minivisor)
    assert (result.returncode, result.stderr) == (
        2,
        "gdbvmx: qemu-system-x86_64 is not installed: apt-get install qemu-system-x86\n",
    )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "which IMAGE? (see gdbvmx qemu --help)"),
        (("absent.elf",), "absent.elf: no such file"),
        ((__file__, "--freeze"), "--freeze waits for gdb, but there is no --gdb [HOST:]PORT"),
        ((__file__, "--keep"), "--keep goes with --inside bochs"),
        (
            (__file__, "--inside", "bochs", "--accel", "tcg"),
            "--inside bochs is for KVM; --accel tcg needs no Bochs around it",
        ),
    ],
)
def test_unusable_arguments(gdbvmx, words, message):
    result = gdbvmx("qemu", *words)
    assert (result.returncode, result.stdout, result.stderr) == (2, "", f"gdbvmx: {message}\n")
