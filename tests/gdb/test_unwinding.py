"""Backtraces in each world of minivisor, where its call frame information has something special to say."""

from __future__ import annotations

import re


def frames(gdb, command: str = "backtrace") -> list[str]:
    """The functions of a backtrace, the innermost first."""
    return re.findall(r"^#\d+ +(?:0x[0-9a-f]+ in )?(\w+) \(", gdb(command), re.MULTILINE)


def stop_at(gdb, place: str) -> None:
    gdb(f"tbreak {place}")
    gdb.run()


def test_in_the_first_instruction_after_an_exit(gdb):
    stop_at(gdb, "vm_exit")
    assert frames(gdb)[:3] == ["vm_enter", "vm_run", "main"]


def test_in_the_exit_handler(gdb):
    stop_at(gdb, "on_cpuid")
    assert frames(gdb)[:4] == ["on_cpuid", "handle_exit", "vm_run", "main"]


def test_deep_in_the_64_bit_guest(gdb):
    stop_at(gdb, "descend if depth == 0")
    assert frames(gdb) == ["descend"] * 6 + ["guest_a_main", "guest_a_entry"]


def test_in_an_interrupt_handler_of_the_guest(gdb):
    stop_at(gdb, "guest_a_on_tick")
    assert frames(gdb) == ["guest_a_on_tick", "demo_ticks", "guest_a_main", "guest_a_entry"]


def test_in_the_32_bit_guest(gdb):
    """gdb takes the CPU for a 64-bit one: 4-byte stack slots are told by expressions."""
    stop_at(gdb, "guest_b_say")
    assert frames(gdb) == ["guest_b_say", "guest_b_main", "guest_b_entry"]
    for _ in range(3):  # PUSH EBP, MOV EBP ESP, and the one after them
        gdb.run("stepi")
        assert frames(gdb) == ["guest_b_say", "guest_b_main", "guest_b_entry"]
    gdb("up")
    assert gdb.value("$rsp") > gdb.value("(long)&guest_b_pd")


def test_in_all_worlds_at_once(gdb):
    stop_at(gdb, "guest_b_demo_timer")
    functions = frames(gdb, "thread apply all backtrace")
    assert {"vm_enter", "main", "demo_ticks", "guest_a_entry", "guest_b_demo_timer", "guest_b_entry"} <= set(
        functions
    )
