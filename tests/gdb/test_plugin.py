"""The `vmx` commands in a real gdb, on minivisor."""

from __future__ import annotations

import re
import sysconfig

import pytest

from gdbvmx.remote.handlers.table import TABLE
from gdbvmx.trace import events


@pytest.fixture
def at_cpuid(gdb):
    """gdb at the first CPUID exit of guest A."""
    assert "Catchpoint 1 (VM exit cpuid)" in gdb("vmx catch exit cpuid")
    gdb.said = gdb.run()
    return gdb


def test_a_stop_at_a_catchpoint_says_why(at_cpuid):
    assert re.search(
        r"vmx: catchpoint 1, exit #\d+ cpuid \(10\): .*guest RIP 0x400.* <demo_cpuid\+\d+>", at_cpuid.said
    )


def test_exits(at_cpuid):
    lines = at_cpuid("vmx exits 3").splitlines()
    assert "guest RIP" in lines[0]
    assert "cpuid (10)" in lines[-1] and "demo_cpuid" in lines[-1]
    assert any("port 0x3f8" in line for line in lines)


def test_worlds_are_threads(at_cpuid):
    threads = at_cpuid("info threads")
    assert re.search(r"\* 1 .*vCPU 0 host \(running\).*vm_enter", threads, re.DOTALL)
    assert re.search(r"2 .*vCPU 0 guest VMCS 0x[0-9a-f]+ \(suspended\)", threads)


def test_backtraces_of_guest_and_host(at_cpuid):
    at_cpuid("thread 2")
    guest = at_cpuid("backtrace")
    assert "demo_cpuid" in guest and "guest_a_main" in guest
    assert "cpuid" in at_cpuid("x/i $pc")
    at_cpuid("thread 1")
    host = at_cpuid("backtrace")
    assert "vm_run" in host and "main ()" in host


def test_the_vmcs_is_shown_and_filtered(at_cpuid):
    whole = at_cpuid("vmx vmcs")
    for heading in ("controls", "guest state", "host state", "VM-exit information"):
        assert f"\n{heading}\n" in f"\n{whole}"
    assert re.search(r"exit_reason +0x0000000a  cpuid", whole)
    guest = at_cpuid("vmx vmcs guest")
    assert "guest_cr0" in guest and "host_cr0" not in guest
    assert re.fullmatch(r"0x681e guest_rip 0x00000000400000[0-9a-f]{2}\n", at_cpuid("vmx vmcs -r guest_rip"))
    assert "near: guest_rip" in at_cpuid.error("vmx vmcs guest_ripp")


def test_what_changed_since_it_was_last_shown(at_cpuid):
    at_cpuid("vmx vmcs")
    assert "Nothing has changed" in at_cpuid("vmx vmcs -d")
    at_cpuid.run()
    changed = at_cpuid("vmx vmcs -d")
    assert "guest_rip" in changed and "guest_cr0" not in changed


def test_a_field_is_set_by_an_expression(at_cpuid):
    said = at_cpuid("vmx vmcs set cr0_read_shadow 1ul << 31 | 1")
    assert "cr0_read_shadow = 0x80000001 (was 0x" in said and "PG" in said
    assert at_cpuid.value('$vmcs("cr0_read_shadow")') == 0x80000001
    assert at_cpuid.value('$vmcs("guest_rip") + 2') == at_cpuid.value('(long)$vmcs("guest_rip")') + 2
    assert "0xffffffff, not" in at_cpuid.error("vmx vmcs set pin_based_controls 1ull << 40")
    assert "no VMCS field" in at_cpuid.error("vmx vmcs set frob 1")
    at_cpuid('vmx vmcs set cr0_read_shadow $vmcs("cr0_read_shadow") + 1')
    assert at_cpuid.value('$vmcs("cr0_read_shadow")') == 0x80000002
    assert "No symbol" in at_cpuid.error("vmx vmcs set guest_rip nonsense")


def test_stepping_a_suspended_guest_runs_it_again(at_cpuid):
    at_cpuid("thread 2")
    before = at_cpuid.value("$rip")
    at_cpuid("vmx catch delete 1")
    at_cpuid.run("stepi")
    # The host has handled the CPUID meanwhile, and the guest one instruction after it.
    assert at_cpuid.value("$rip") > before + 2
    assert "(running)" in next(
        line for line in at_cpuid("info threads").splitlines() if line.startswith("* 2")
    )


def test_next_goes_over_a_vm_entry(gdb):
    gdb("break vm.c:124")
    gdb.run()
    gdb.run("next")
    assert "minivisor/vm.c:125" in gdb("frame")


def test_next_does_not_swallow_a_catchpoint(gdb):
    gdb("break vm.c:124")
    gdb.run()
    gdb("vmx catch exit")
    assert "vmx: catchpoint 1" in gdb.run("next")


def test_a_breakpoint_in_a_guest(gdb):
    gdb("break guest_b_entry")
    assert "guest_b_entry" in gdb.run()
    assert gdb.machine.core.current_world(0) is not None


def test_code_of_32_bits_is_decoded_as_such(gdb_on, minivisor, monkeypatch):
    monkeypatch.setenv("GDBVMX_SITE", sysconfig.get_path("platlib"))
    gdb = gdb_on(minivisor)
    gdb("set var *(char *)$pc = 0x40")
    assert "incl\t%eax" in gdb("x/i $pc")
    gdb("set disassembly-flavor intel")
    assert "inc\teax" in gdb("x/i $pc")


def test_entries_and_field_writes_are_caught(gdb):
    gdb("vmx catch entry")
    assert re.search(r"vmx: catchpoint 1, entry #\d+: guest RIP", gdb.run())
    gdb("vmx catch delete 1")
    assert "write to guest_rip" in gdb("vmx watch guest_rip")
    assert "guest_rip = 0x" in gdb.run()
    assert "2  write to guest_rip" in gdb("vmx catch list")
    assert "no catchpoint 1" in gdb.error("vmx catch delete 1")
    assert "did you mean" in gdb.error("vmx catch exit cpuidd")


def test_a_trace(gdb, tmp_path):
    file = tmp_path / "a trace.jsonl"
    assert "nothing was recorded" in gdb.error("vmx trace show")
    gdb("vmx trace start")
    gdb("vmx catch exit hlt")
    gdb.run()
    assert re.search(r"Recording, \d+ events", gdb("vmx trace status"))
    assert "io-instruction" in gdb("vmx trace stats")
    assert "0x3f8" in gdb("vmx trace stats --by port")
    assert len(gdb("vmx trace show 5").splitlines()) == 6
    assert "Not recording" in gdb("vmx trace stop")
    gdb(f"vmx trace save '{file}'")
    trace = events.read(file)
    assert trace.events[-1].name == "hlt"
    assert [event.seq for event in trace.events] == list(range(len(trace.events)))
    assert "No such file" in gdb.error("vmx trace save /nonexistent/x")


def test_capabilities(gdb):
    assert re.search(r"enable EPT +allowed", gdb("vmx caps enable ept"))


def test_the_machine_interface_has_twins(at_cpuid):
    at_cpuid.mi("-vmx-catch list")
    with pytest.raises(Exception, match="no VMCS field or group"):
        at_cpuid.mi("-vmx-vmcs frobnicate")


def test_help_names_arguments_and_gives_an_example(gdb):
    for name in re.findall(r"^vmx (\w+)", gdb("vmx"), re.MULTILINE):
        text = gdb(f"help vmx {name}")
        assert f"usage: vmx {name}" in text and f"example:\n  vmx {name}" in text


def test_completion(gdb):
    assert gdb("complete vmx vmcs guest_cr").splitlines() == [f"vmx vmcs guest_cr{n}" for n in (0, 3, 4)]
    assert "vmx catch exit ept-violation" in gdb("complete vmx catch exit ept-")
    assert gdb("complete vmx trace sta").splitlines() == [
        "vmx trace start",
        "vmx trace stats",
        "vmx trace status",
    ]


def test_without_a_machine_commands_say_what_is_missing(gdb_on, minivisor):
    gdb = gdb_on(minivisor, attach=False)
    said = gdb.error("vmx vmcs")
    assert "reads the VMCS" in said and "connected to nothing" in said and "gdbvmx debug" in said
    assert "connected to nothing" in gdb.error('print $vmcs("guest_rip")')
    gdb(f"file {minivisor}")
    assert "guest_a_main" in gdb("info symbol guest_a_main")


def test_nothing_but_vmx_is_defined(gdb_on, minivisor):
    """No other plugin's names are taken: the commands that gdb knows are its own and those under vmx."""
    gdb = gdb_on(minivisor, attach=False)
    assert [line.split()[0] for line in gdb("help user-defined").splitlines() if line.startswith("vmx")] == []
    for name in ("context", "vmmap", "telescope", "monitor-vmx"):
        assert "Undefined" in gdb.error(f"help {name}")


def test_info(at_cpuid):
    said = at_cpuid("vmx info")
    assert "vCPU 0: VMX root operation" in said
    assert re.search(r"current VMCS +0x[0-9a-f]+ \(launched\)", said)
    assert re.search(r"last exit +.*cpuid", said, re.IGNORECASE)
    at_cpuid("vmx catch entry")
    at_cpuid.run()
    assert "VMX non-root operation" in at_cpuid("vmx info")
    assert "non_root" in at_cpuid("info registers vmx_mode")
    assert "basic=cpuid" in at_cpuid("info registers exit_reason")


def test_translations_are_walked(at_cpuid):
    at_cpuid("thread 2")
    walk = at_cpuid("vmx walk $rip")
    assert "PML4E" in walk and "EPT" in walk and re.search(r"guest-physical 0x[0-9a-f]+, physical 0x", walk)
    ept = at_cpuid("vmx ept 0")
    assert "EPT PML4E" in ept and "physical 0x104000" in ept
    unmapped = at_cpuid("vmx ept 0x7000000000")
    assert "physical" not in unmapped.splitlines()[-1] or "not" in unmapped
    assert "invalid choice" in at_cpuid.error("vmx ept 0 --access frob")


def test_bitmaps(at_cpuid):
    # minivisor opens one port, 0x80, and closes one MSR, IA32_BIOS_SIGN_ID.
    assert "0x0-0x7f, 0x81-0xffff" in at_cpuid("vmx bitmap io")
    assert "read exits: 0x8b" in at_cpuid("vmx bitmap msr")


def test_a_check_of_a_good_vmcs_and_of_a_bad_one(at_cpuid):
    assert "breaks no rule" in at_cpuid("vmx check")
    at_cpuid("vmx vmcs set guest_activity_state 7")
    said = at_cpuid("vmx check")
    assert "1 rule broken" in said and "guest_activity_state = 0x7" in said


def test_why_after_an_exit(at_cpuid):
    assert "cpuid" in at_cpuid("vmx why").lower()


def test_a_forced_exit(gdb):
    gdb("vmx catch exit external-interrupt")
    said = gdb("vmx force external-interrupt vector=0x20")
    assert "VM exit 1 will happen" in said
    said = gdb.run()
    assert "external-interrupt (1)" in said and "forced" in said
    assert "0x80000020" in gdb("vmx vmcs exit_interruption_info")
    assert "no value" in gdb.error("vmx force cpuid frob=1")


def test_a_forced_vmfail(gdb):
    gdb("tbreak vm_run")
    gdb.run()
    gdb("vmx catch fail")
    gdb("vmx force vmfail 7")
    assert "invalid control fields (7): forced" in gdb.run()
    assert "no VM-instruction error 99" in gdb.error("vmx force vmfail 99")


def test_a_forced_vmfail_without_a_vmcs_has_no_number(gdb):
    gdb("vmx catch fail")
    gdb("vmx force vmfail 7")
    assert "VMfailInvalid (0): forced" in gdb.run()


def test_an_unknown_stub_lacks_abilities_and_that_is_told(gdb_on, minivisor, monkeypatch):
    monkeypatch.delitem(TABLE, b"qqemu.PhyMemMode")
    gdb = gdb_on(minivisor, stub="stock")
    said = gdb.error("vmx ept 0")
    assert "walks page tables" in said and "an unknown stub does not" in said and "gdbvmx debug IMAGE" in said
    gdb("tbreak main")
    assert "main ()" in gdb.run()  # the stop hook keeps quiet


def test_a_gdb_without_connections_in_python_asks_by_maintenance_packet(gdb):
    gdb("python from gdbvmx.plugin.glue import connection")
    gdb("python from gdbvmx.plugin.target.gdbvmx import GdbvmxTarget")
    gdb("python target = GdbvmxTarget('it', connection._send_by_maintenance, connection.thread_id)")
    assert gdb("python print(target.call('reason', name='cpuid')['number'])") == "10\n"
    assert gdb("python print(connection._send_by_maintenance(b'qFrobnicate'))") == "None\n"


def test_symbols_are_moved(gdb, minivisor):
    assert "0x1000000000" in gdb(f"vmx symbols guest {minivisor} 1ul << 36")
    assert "vm_run" in gdb("info symbol (char *)&vm_run + (1ul << 36)") or "vm_run" in gdb("info line vm_run")
    assert "no such file" in gdb.error("vmx symbols host /nonexistent")


def test_commands_work_after_the_machine_has_ended(gdb_on, minivisor):
    gdb = gdb_on(minivisor, attach=False)
    host, port = gdb.server.address
    gdb(f"target extended-remote {host}:{port}")
    assert "exited with code 01" in gdb.run()
    assert "vmcall" in gdb("vmx exits")
    # And it can run again.
    gdb("break vm_create")
    assert "vm_create" in gdb.run("run")
