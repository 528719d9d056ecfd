"""A guest that waits for input: of a pipe, or of a terminal, where the program sleeps too, timer and all."""

from __future__ import annotations

import os
import pty
import subprocess
import sys

import pytest

from gdbvmx.machine import Machine

# It sends back what COM1's interrupt brings, if it LISTENS; an X ends it. It halts meanwhile; if it TICKS,
# the timer interrupts each 10 ms.
ECHO = """
    lgdt table
    ljmp $8, $1f
1:  mov $16, %eax; mov %eax, %ds; mov %eax, %ss; mov $0x200000, %esp
    lidt interrupts
    mov $ticked, %eax; mov %ax, timer; shr $16, %eax; mov %ax, timer + 6
    mov $received, %eax; mov %ax, com1; shr $16, %eax; mov %ax, com1 + 6
    mov $0x11, %al; outb %al, $0x20; mov $0x20, %al; outb %al, $0x21; mov $4, %al; outb %al, $0x21
    mov $1, %al; outb %al, $0x21; mov $(0xef - TICKS), %al; outb %al, $0x21
    .if TICKS
    mov $0x34, %al; outb %al, $0x43; mov $0x9c, %al; outb %al, $0x40; mov $0x2e, %al; outb %al, $0x40
    .endif
    mov $0x3fb, %dx; mov $3, %al; outb %al, %dx
    mov $0x3fa, %dx; mov $1, %al; outb %al, %dx
    mov $0x3fc, %dx; mov $8, %al; outb %al, %dx
    mov $0x3f9, %dx; mov $LISTENS, %al; outb %al, %dx
    sti
2:  hlt; jmp 2b
ticked:
    incl ticks
    mov $0x20, %al; outb %al, $0x20
    iret
received:
    mov $0x3fd, %dx; inb %dx, %al; test $1, %al; jz 3f
    mov $0x3f8, %dx; inb %dx, %al; outb %al, %dx
    cmp $'X', %al; jne received
    mov $0xf4, %dx; mov $3, %al; outb %al, %dx
3:  mov $0x20, %al; outb %al, $0x20
    iret
.balign 8
ticks: .quad 0
descriptors: .quad 0, 0x00cf9b000000ffff, 0x00cf93000000ffff
table: .short 23; .long descriptors
interrupts: .short 0x25 * 8 - 1; .long timer - 0x20 * 8
timer: .short 0, 8, 0x8e00, 0
.quad 0, 0, 0
com1: .short 0, 8, 0x8e00, 0
"""
SECOND = 10**9


@pytest.fixture
def echo(assembled):
    def echo(*, listens: bool = True, ticks: bool = True):
        return assembled(f".set LISTENS, {int(listens)}; .set TICKS, {int(ticks)}; {ECHO}")

    return echo


@pytest.mark.parametrize("ticks", [False, True])
def test_all_of_a_pipe_wakes_the_guest(echo, ticks):
    text = bytes(range(32, 88)) * 200 + b"X"
    run = [sys.executable, "-m", "gdbvmx", "run", echo(ticks=ticks)]
    process = subprocess.run(run, input=text, capture_output=True, timeout=60, check=False)
    assert (process.returncode, process.stdout, process.stderr) == (7, text, b"")


def test_a_pipe_that_ends_leaves_the_guest_halted_for_good(echo):
    run = [sys.executable, "-m", "gdbvmx", "run", echo(ticks=False)]
    process = subprocess.run(run, input=b"abc", capture_output=True, timeout=60, check=False)
    assert (process.returncode, process.stdout) == (124, b"abc")
    assert b"nothing is left that could wake one" in process.stderr


def test_a_run_ends_where_a_listener_idles_and_goes_on_as_if_it_had_not(echo):
    image = echo()
    cut, whole = Machine.boot(image), Machine.boot(image)
    for second in range(1, 4):
        assert cut.run(SECOND, patient_until=second * SECOND)["kind"] == "waiting"
        assert second * SECOND <= cut.core.clock() < second * SECOND + SECOND // 50
    for machine in (cut, whole):
        left = 10_000 - machine.core.instructions()
        assert machine.run(left)["kind"] == "count"
        machine.core.serial_input(b"X")
        assert machine.run(SECOND)["kind"] == "exit"
    assert cut.core.instructions() == whole.core.instructions()
    assert cut.core.clock() == whole.core.clock()


def test_who_does_not_listen_is_not_waited_for(echo):
    machine = Machine.boot(echo(listens=False))
    assert machine.run(10_000, patient_until=0)["kind"] == "count"


def test_a_key_wakes_a_guest_that_sleeps_at_a_terminal(echo):
    controller, terminal = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "gdbvmx", "run", echo()], stdin=terminal, stdout=terminal
    )
    try:
        # Long after its patience has ended, unless the host is slow, which it may be.
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(timeout=1)
        for key in (b"a", b"X"):
            os.write(controller, key)
        assert process.wait(timeout=60) == 7
    finally:
        process.kill()
        process.wait()
        os.close(controller)
        os.close(terminal)
