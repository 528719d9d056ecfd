"""The scripting API: a machine with an image in it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from gdbvmx import _core
from gdbvmx.images import ImageError
from gdbvmx.machine import Machine

LIMIT = 10_000_000


def run_to_end(machine: Machine, stretch: int) -> str:
    """Runs in stretches of so many instructions; gives the kind of the end."""
    while machine.core.instructions() < LIMIT:
        stop = machine.run(stretch)
        if stop["kind"] not in ("count", "attention"):
            return stop["kind"]
    raise AssertionError("the guest runs wild")


def traced(machine: Machine, stretch: int) -> list[object]:
    machine.core.start_trace()
    events: list[object] = []
    machine.attach(lambda: events.extend(machine.core.drain_trace()))
    assert run_to_end(machine, stretch) == "exit"
    return events


def test_the_run_does_not_depend_on_how_it_is_cut(minivisor):
    whole, cut = Machine.boot(minivisor), Machine.boot(minivisor)
    assert traced(whole, LIMIT) == traced(cut, 777)
    assert whole.core.instructions() == cut.core.instructions()
    assert whole.serial_text() == cut.serial_text()


def test_restart_gives_the_same_run_again(minivisor):
    machine = Machine.boot(minivisor)
    run_to_end(machine, LIMIT)
    first = machine.serial_text()
    machine.restart()
    run_to_end(machine, LIMIT)
    assert machine.serial_text() == first != ""


def test_the_entry_state_is_flat_protected_mode(tmp_path):
    image = tmp_path / "image.bin"
    image.write_bytes(b"\xf4")
    core = Machine.boot(image, memory=16 << 20).core
    expected = {"rip": 0x100000, "cr0": 0x11, "eflags": 2, "cs_base": 0, "ds_limit": 0xFFFFFFFF, "efer": 0}
    assert {name: core.read_register(name) for name in expected} == expected
    assert core.code_bits() == 32
    assert core.memory == 16 << 20


def test_restart_clears_the_bss_again(tmp_path):
    # inc dword [0x100100]; mov al, [0x100100]; out 0xf4, al: the count of a fresh start is 1.
    image = tmp_path / "image.bin"
    code = b"\xff\x05\x00\x01\x10\x00\xa0\x00\x01\x10\x00\xe6\xf4"
    image.write_bytes(code.ljust(0x104, b"\0"))
    machine = Machine.boot(image)
    assert machine.run(100)["status"] == 3
    machine.restart()
    assert machine.run(100)["status"] == 3


def test_an_unusable_image(tmp_path):
    with pytest.raises(ImageError, match="no such file"):
        Machine.boot(tmp_path / "absent")


def test_an_ept_pointer_that_entry_refuses_is_said_to_be_one(minivisor):
    core = Machine.boot(minivisor).core
    core.add_catch("exit")
    core.run(LIMIT)
    (guest,) = [world["vmcs"] for world in core.worlds() if world["vmcs"] is not None]
    core.write_vmcs("ept_pointer", 0x1000 | 7 << 3 | 6)  # a page walk of 8 levels
    walk = core.walk_ept(0x1000, vmcs=guest)
    assert walk["steps"] == []
    assert walk["fault"] == "VM entry refuses the EPT pointer 0x103e: vmx check says why"


def test_a_walk_shows_the_sub_page_permissions():
    page, ept, permissions, vmcs = 0x5000, 0x10000, 0x20000, 0x30000
    core = _core.Machine(16 << 20)
    entries = {ept + level * 0x1000: ept + (level + 1) * 0x1000 | 7 for level in range(3)}
    entries |= {permissions + level * 0x1000: permissions + (level + 1) * 0x1000 | 1 for level in range(2)}
    entries[ept + 0x3000 + (page >> 9)] = page | 0x35 | 1 << 61
    entries[permissions + 0x3000 + (page >> 9)] = 1 << 6  # sub-page 3
    fields = {
        "primary_processor_based_controls": 1 << 31,
        "secondary_processor_based_controls": 1 << 1 | 1 << 23,
        "ept_pointer": ept | 3 << 3 | 6,
        "sub_page_permission_table_pointer": permissions,
    }
    core.adopt_vmcs(vmcs, fields)

    def write(sub_page: int) -> _core.Walk:
        for at, entry in entries.items():
            core.write_physical(at, entry.to_bytes(8, "little"))
        return core.walk_ept(page + sub_page * 128, vmcs=vmcs, access="write")

    walk = write(3)
    assert (walk["fault"], [step["table"] for step in walk["steps"][4:]]) == (
        "SPP miss",
        ["SPPL4E", "SPPL3E", "SPPL2E"],
    )
    assert walk["steps"][-1]["note"] == "is not valid"
    entries[permissions + 0x2000] = permissions + 0x3000 | 1
    walk = write(3)
    assert walk["physical"] == page + 3 * 128
    assert walk["steps"][-1]["rights"] == "sub-page 3 may be written"
    walk = write(2)
    assert walk["fault"] == "EPT violation: the tables allow r-x"
    assert (walk["steps"][-1]["table"], walk["steps"][-1]["note"]) == ("SPP vector", "denies it")


def test_what_few_runs_need_does_not_delay_the_start_of_all():
    """dataclasses brings inspect along, which takes longer than all of ours."""
    code = "import sys, gdbvmx.machine; print({'dataclasses', 'json'} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_memory_is_taken_when_the_guest_touches_it(tmp_path):
    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

    image = tmp_path / "image.bin"
    image.write_bytes(b"\xf4")
    before = resident()
    machine = Machine.boot(image, memory=2 << 30)
    machine.run(1)
    assert resident() - before < 64 << 20


def test_a_timed_wait_takes_no_time_of_the_host(assembled):
    """A billion counts, of which a processor that can wait executes none."""
    machine = Machine.boot(
        assembled(
            """
            rdtsc
            mov %eax, %esi; mov %edx, %edi
            add $1000000000, %eax; adc $0, %edx
            xor %ebx, %ebx
            tpause %ebx
            rdtsc
            sub %esi, %eax; sbb %edi, %edx; jnz 1f
            cmp $1000000000, %eax; jb 1f
            mov $1, %al; outb %al, $0xf4
        1:  mov $0, %al; outb %al, $0xf4
            """
        )
    )
    stop = machine.run(LIMIT)
    assert (stop["kind"], stop["status"]) == ("exit", 3)
    assert machine.core.instructions() < 100
