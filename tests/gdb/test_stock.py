"""What gdb does by itself, with no command of ours."""

from __future__ import annotations

import time


def test_symbols_come_from_the_stub(gdb):
    assert "start" in gdb("info symbol $pc")


def test_registers(gdb):
    assert "PE" in gdb("info registers cr0")
    assert gdb.value("$rip") == gdb.value("(long)&start")
    gdb("set $rbx = 0x1122334455667788")
    assert gdb.value("$ebx") == 0x55667788
    assert gdb.machine.core.read_register("rbx") == 0x1122334455667788
    gdb("set $xmm3.uint128 = 7")
    assert gdb.value("$xmm3.v2_int64[0]") == 7


def test_a_breakpoint_in_the_host_and_a_backtrace(gdb):
    gdb("break vm_create")
    assert "Breakpoint 1, vm_create" in gdb.run()
    trace = gdb("backtrace")
    assert "vm_create" in trace and "main ()" in trace
    assert "id = 65 'A'" in gdb("print *image")


def test_source_lines_are_stepped(gdb):
    gdb("tbreak main")
    gdb.run()
    first = gdb("frame")
    gdb.run("next")
    second = gdb("frame")
    assert "main ()" in second and first != second
    gdb("tbreak vmx_on")
    gdb.run()
    gdb.run("stepi")
    gdb.run("finish")
    assert "main ()" in gdb("frame")


def test_a_watchpoint(gdb):
    gdb("tbreak main")
    gdb.run()
    gdb("watch vms[0].id")
    assert "New value = 65 'A'" in gdb.run()
    assert gdb.value("vms[0].id") == ord("A")


def test_memory_is_searched(gdb):
    gdb("tbreak main")
    gdb.run()
    assert "1 pattern found" in gdb("find /1 0x100000, +0x20000, 'm', 'i', 'n', 'i', 'v', 'i', 's', 'o', 'r'")


def test_the_machine_ends(gdb):
    assert "exited with code 01" in gdb.run()
    assert "minivisor: VMXOFF" in gdb.serial()
    assert gdb.server.join(5)


def in_a_loop(gdb):
    """Has main begin with a loop that does not end."""
    gdb("tbreak main")
    gdb.run()
    gdb("set var *(short *)$pc = 0xfeeb")


def test_detach_and_attach_again(gdb):
    in_a_loop(gdb)
    before = gdb.machine.core.instructions()
    gdb("detach")
    time.sleep(0.2)
    host, port = gdb.server.address
    gdb(f"target remote {host}:{port}")
    assert "main ()" in gdb("frame")
    assert gdb.machine.core.instructions() > before


def test_a_machine_that_is_left_runs_to_its_end(gdb):
    gdb("tbreak main")
    gdb.run()
    gdb("detach")
    assert gdb.server.join(60)
    assert "minivisor: VMXOFF" in gdb.serial()


def test_ctrl_c(gdb):
    in_a_loop(gdb)
    gdb.mi("-exec-continue")
    gdb.mi("-exec-interrupt")
    gdb.wait()
    assert "main ()" in gdb("frame")


def test_guest_physical_memory_by_qemus_packets(gdb):
    gdb("break guest_a_main")
    gdb.run()
    linear = gdb("output/x *(unsigned long *)0x40000000")
    assert "access memory" in gdb.error("output *(char *)0xfee00000")
    gdb("maintenance packet Qqemu.PhyMemMode:1")
    gdb("maintenance flush dcache")
    # minivisor maps guest-physical 0, where guest A begins, to linear 0x40000000 of the guest.
    assert gdb("output/x *(unsigned long *)0") == linear
    gdb("maintenance packet Qqemu.PhyMemMode:0")
    gdb("maintenance flush dcache")
    assert gdb("output/x *(unsigned long *)0x40000000") == linear


def test_a_breakpoint_for_one_world(gdb):
    gdb("break guest_a_entry")
    gdb.run()
    gdb("delete")
    # Both guests exit to it, but only the host's world is at that address.
    gdb("break vm_exit thread 1")
    assert "Breakpoint 2, vm_enter" in gdb.run()
    assert gdb.machine.core.current_world(0) is None
    gdb("delete")
    gdb("break say thread 1")
    gdb("tbreak guest_b_entry")
    assert "guest_b_entry" in gdb.run()  # guest A has said much, and was not stopped
