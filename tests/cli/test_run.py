"""`gdbvmx run`: where output goes, and the exit status of every way to end."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest


def put(port: int, text: bytes) -> bytes:
    """32-bit code: writes `text` to `port`, a byte at a time."""
    code = b"\x66\xba" + port.to_bytes(2, "little")  # mov dx, port
    return code + b"".join(b"\xb0" + bytes([byte]) + b"\xee" for byte in text)  # mov al, byte; out dx, al


EXIT_3 = put(0xF4, b"\x03")
POWER_OFF = put(0x8900, b"Shutdown")
LOOP = b"\xeb\xfe"
HALT = b"\xfa\xf4"  # cli; hlt
UNDEFINED = b"\x0f\x0b"  # ud2, with no IDT


@pytest.fixture
def flat(tmp_path):
    def flat(code: bytes) -> Path:
        path = tmp_path / "image.bin"
        path.write_bytes(code)
        return path

    return flat


@pytest.mark.parametrize(
    ("code", "status"),
    [(EXIT_3, 7), (put(0xF4, b"\x00"), 1), (POWER_OFF, 0), (UNDEFINED, 4), (HALT, 124)],
    ids=["exit", "exit-0", "power-off", "triple-fault", "halted-for-good"],
)
def test_status(gdbvmx, flat, code, status):
    assert gdbvmx("run", flat(code)).returncode == status


def test_serial_is_standard_output_and_nothing_else_is(gdbvmx, flat):
    result = gdbvmx("run", flat(put(0x3F8, b"hello\n") + EXIT_3))
    assert (result.returncode, result.stdout, result.stderr) == (7, "hello\n", "")


def test_serial_to_a_file_or_nowhere(gdbvmx, flat, tmp_path):
    image = flat(put(0x3F8, b"hello\n") + EXIT_3)
    log = tmp_path / "serial.log"
    assert gdbvmx("run", image, "--serial", log).stdout == ""
    assert log.read_bytes() == b"hello\n"
    assert gdbvmx("run", image, "--serial", "none").stdout == ""


def test_debug_console_is_off_unless_asked_for(gdbvmx, flat, tmp_path):
    image = flat(put(0xE9, b"debug\n") + EXIT_3)
    assert gdbvmx("run", image).stderr == ""
    assert gdbvmx("run", image, "--debugcon", "stderr").stderr == "debug\n"
    assert gdbvmx("run", image, "--debugcon", tmp_path / "log").stderr == ""
    assert (tmp_path / "log").read_bytes() == b"debug\n"


def test_a_triple_fault_is_explained(gdbvmx, flat):
    result = gdbvmx("run", flat(UNDEFINED))
    assert result.returncode == 4
    assert "gdbvmx: vCPU 0: Triple fault at 0x100000" in result.stderr
    assert "#UD" in result.stderr


def test_limit_of_instructions(gdbvmx, flat):
    result = gdbvmx("run", flat(LOOP), "--max-instructions", 12345)
    assert result.returncode == 124
    assert result.stderr == "gdbvmx: stopped at the limit of 12345 instructions, after 12345 instructions\n"


def test_limit_of_time(gdbvmx, flat):
    start = time.monotonic()
    result = gdbvmx("run", flat(LOOP), "--timeout", 0.5)
    assert result.returncode == 124
    assert "the time limit" in result.stderr
    assert 0.5 <= time.monotonic() - start < 10


@pytest.mark.parametrize(
    ("sent", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_interrupt(flat, tmp_path, sent, status):
    trace = tmp_path / "t.jsonl"
    process = subprocess.Popen(
        [sys.executable, "-m", "gdbvmx", "run", flat(put(0x3F8, b"up\n") + LOOP), "--trace", trace],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stdout.read(3) == b"up\n"
    process.send_signal(sent)
    _, errors = process.communicate(timeout=20)
    assert (process.returncode, errors) == (status, b"")
    assert json.loads(trace.read_text())["format"] == "gdbvmx-trace"


def test_a_trace_is_the_same_twice(gdbvmx, minivisor, tmp_path):
    files = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    for file in files:
        assert gdbvmx("run", minivisor, "--trace", file).returncode in (0, 1)
    assert files[0].read_bytes() == files[1].read_bytes()
    header, *lines = map(json.loads, files[0].read_text().splitlines())
    assert (header["format"], header["version"], header["clock"]) == ("gdbvmx-trace", 1, "instructions")
    kinds = {line["kind"] for line in lines}
    assert {"entry", "exit", "vmcs_write"} <= kinds


def test_minivisor_runs_its_guests(gdbvmx, minivisor):
    result = gdbvmx("run", minivisor)
    assert result.returncode in (0, 1), result.stderr
    assert "minivisor: a small VMX hypervisor" in result.stdout
    assert result.stderr == ""


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ((), "required: IMAGE"),
        (("absent.elf",), "absent.elf: no such file"),
        (("IMAGE", "--memory", "lots"), "argument --memory: 'lots' is no size"),
        (("IMAGE", "--cpu", "z80"), "z80"),
        (("IMAGE", "--cpu", "./absent.json"), "./absent.json: No such file"),
        (("IMAGE", "--timeout", "-1"), "argument --timeout: '-1' is no positive number of seconds"),
        (("IMAGE", "--max-instructions", "0"), "argument --max-instructions: '0' is no positive number"),
        (("IMAGE", "--serial", "/absent/file"), "--serial /absent/file: No such file"),
        (("IMAGE", "--trace", "/absent/file"), "/absent/file: No such file"),
        (("IMAGE", "--append", "x"), "a flat binary takes neither a command line nor modules"),
        (("IMAGE", "--frobnicate"), "unrecognized arguments: --frobnicate"),
        (("IMAGE", "--", "-q"), "unexpected -- -q"),
    ],
)
def test_unusable_arguments_are_one_line_and_status_2(gdbvmx, flat, arguments, complaint):
    image = flat(EXIT_3)
    result = gdbvmx("run", *(image if word == "IMAGE" else word for word in arguments))
    assert result.returncode == 2
    assert complaint in result.stderr
    assert result.stderr.startswith("gdbvmx: ")
    assert result.stderr.count("\n") == 1
    assert result.stdout == ""


# Waits for a byte from COM1 and sends it back, with the line control set to 8 bits first; then exit status 7.
ECHO = (
    b"\x66\xba\xfb\x03\xb0\x03\xee"  # mov dx, 0x3fb; mov al, 3; out dx, al
    b"\x66\xba\xfd\x03\xec\xa8\x01\x74\xfb"  # mov dx, 0x3fd; again: in al, dx; test al, 1; jz again
    b"\x66\xba\xf8\x03\xec\xee"  # mov dx, 0x3f8; in al, dx; out dx, al
) + EXIT_3


def test_keys_at_a_terminal_go_to_the_guest_and_the_terminal_is_put_back(flat):
    controller, terminal = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "gdbvmx", "run", flat(ECHO)], stdin=terminal, stdout=terminal, stderr=terminal
    )
    try:
        before = _settings(terminal)
        _wait_for(lambda: _settings(terminal) != before)
        os.write(controller, b"k")
        assert process.wait(timeout=20) == 7
        assert os.read(controller, 100) == b"k"
        assert _settings(terminal) == before
    finally:
        process.kill()
        os.close(controller)
        os.close(terminal)


def test_a_pipe_goes_to_the_guest(flat):
    echo = [sys.executable, "-m", "gdbvmx", "run", flat(ECHO)]
    process = subprocess.run(echo, input=b"k", capture_output=True, timeout=60, check=False)
    assert (process.returncode, process.stdout, process.stderr) == (7, b"k", b"")


def test_a_pipe_that_nobody_reads_ends_no_later(flat):
    """Its other end stays open, and the guest waits for nothing."""
    halted = [sys.executable, "-m", "gdbvmx", "run", flat(HALT)]
    with subprocess.Popen(halted, stdin=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.wait(timeout=60) == 124


def _settings(terminal: int) -> list[object]:
    import termios

    return termios.tcgetattr(terminal)


def _wait_for(condition) -> None:
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)
