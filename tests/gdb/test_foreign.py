"""The plugin on a stub that is not gdbvmx's: our machine, with its own packets off, poses as one, and as QEMU
on KVM with what is awkward there.

So the processor is borrowed for real; what it tells is held against what the machine knows of itself.
"""

from __future__ import annotations

import pytest

from gdbvmx.machine import Machine
from gdbvmx.plugin.target.foreign.nested_state import KVM_FIELDS
from gdbvmx.trace import capture, diff, events

from .conftest import serve


@pytest.fixture
def foreign(gdb_on, minivisor):
    return gdb_on(minivisor, stub="kvm")


def state(machine: Machine) -> tuple[dict[str, int], bytes]:
    """Registers, and the memory that holds the hypervisor."""
    core = machine.core
    registers = {name: core.read_register(name) for name, _ in core.register_names()}
    return registers, core.read_physical(0x100000, 0x80000)


@pytest.mark.parametrize(
    ("stub", "kind"), [("stock", "a stub that speaks QEMU's packets"), ("kvm", "QEMU with KVM")]
)
def test_what_it_is_and_can_do(gdb_on, minivisor, stub, kind):
    told = gdb_on(minivisor, stub=stub)("vmx info")
    assert f": {kind}\n" in told
    assert (
        "can do   bitmaps, catch, events, force, info, rules, tables, trace, vmcs, vmcs-write, walk" in told
    )
    assert "VMCS     not readable now: CR4.VMXE is 0" in told


@pytest.mark.parametrize("stub", ["stock", "kvm"])
def test_the_vmcs_read_by_borrowing_the_processor(gdb_on, minivisor, stub):
    foreign = gdb_on(minivisor, stub=stub)
    foreign("vmx catch entry")
    foreign.run()
    before = state(foreign.machine)
    told = foreign("vmx vmcs -r")
    assert state(foreign.machine) == before
    assert f"current VMCS {foreign.machine.core.vmx_info()['current']:#x}\n" in foreign("vmx info")
    names = {line.split()[1]: int(line.split()[2], 16) for line in told.splitlines()}
    held = {row["name"]: row["value"] for row in foreign.machine.core.vmcs()}
    assert names == {name: held[name] for name in held if stub == "stock" or name in KVM_FIELDS}


@pytest.mark.parametrize(
    ("command", "refusal"),
    [
        ("vmx vmcs guest_rip", "CR4.VMXE is 0: the processor is not in VMX operation"),
        ("vmx check", "CR4.VMXE is 0"),
    ],
)
def test_before_vmx_operation_it_is_not_borrowed(foreign, command, refusal):
    before = state(foreign.machine)
    assert refusal in foreign.error(command)
    assert state(foreign.machine) == before


def test_in_a_guest_it_is_not_borrowed(foreign):
    foreign("hbreak demo_cpuid")
    foreign.run()
    before = state(foreign.machine)
    assert "as in a guest behind EPT" in foreign.error("vmx vmcs guest_rip")
    assert state(foreign.machine) == before


def test_the_user_has_the_last_word(foreign):
    foreign("vmx catch exit")
    foreign.run()
    foreign("set vmx-borrow off")
    assert "set vmx-borrow is off" in foreign.error("vmx vmcs guest_rip")


def test_catching_exits(foreign):
    foreign("vmx catch exit cpuid")
    assert "catchpoint 1, exit #47 cpuid (10): guest RIP 0x400000da <demo_cpuid+35>" in foreign.run()
    last = foreign("vmx exits 2").splitlines()
    assert last[-1].split()[3:5] == ["cpuid", "(10)"]
    assert foreign("vmx why").startswith("VM exit 10 (CPUID) at guest RIP 0x400000da")
    assert "Deleted catchpoint 1." in foreign("vmx catch delete 1")


def test_tables_and_bitmaps_as_on_our_own_stub(foreign, gdb_on, minivisor):
    own = gdb_on(minivisor)
    for debugger in (foreign, own):
        debugger("vmx catch exit")
        debugger.run()
    for command in (
        "vmx ept 0x1000",
        "vmx ept 0x3fffffff",
        "vmx walk $rip",
        "vmx bitmap msr",
        "vmx bitmap io",
    ):
        assert foreign(command) == own(command)


def test_a_mistake_is_explained_by_the_same_rule(gdb_on, brokenvisor):
    foreign = gdb_on(brokenvisor, append="mistake=guest-cs-type", stub="kvm")
    foreign("vmx catch entry")
    foreign.run()
    rule = foreign.machine.core.check_entry()[0]
    told = foreign("vmx check")
    assert f"=> {rule['id']}" in told
    assert rule["found"].split()[0] in told


def test_setting_a_field(foreign):
    foreign("vmx catch exit cpuid")
    foreign.run()
    foreign('vmx vmcs set guest_rip $vmcs("guest_rip") + 2')
    assert foreign.machine.core.read_vmcs("guest_rip") == 0x400000DC


def test_forcing_an_exit_leaves_the_controls_as_they_were(foreign):
    foreign("vmx catch entry")
    foreign.run()
    foreign("vmx catch delete 1")
    foreign("vmx catch exit monitor-trap-flag")
    before = foreign.machine.core.read_vmcs("primary_processor_based_controls")
    foreign("vmx force monitor-trap-flag")
    assert "monitor-trap-flag (37)" in foreign.run()
    assert foreign.machine.core.read_vmcs("primary_processor_based_controls") == before
    assert "can be made to exit for an NMI (0)" in foreign.error("vmx force cpuid")


def test_a_vmfail_is_caught(gdb_on, brokenvisor):
    foreign = gdb_on(brokenvisor, append="mistake=missing-control", stub="kvm")
    foreign("vmx catch fail")
    assert "vmfail" in foreign.run()
    assert foreign("vmx why").startswith("VM entry ended in VMfailValid 7")


def test_a_recorded_trace_is_that_of_the_machine(bench, gdbvmx, tmp_path):
    ours, theirs = tmp_path / "ours.jsonl", tmp_path / "theirs.jsonl"
    options = "part=vmexit n=10"
    with serve(bench, options, "kvm") as (host, port):
        ended = capture.capture(f"{host}:{port}", theirs, capture.Limits(seconds=100), [f"file {bench}"])
    assert ended.startswith("exited")
    gdbvmx("run", bench, "--append", options, "--trace", ours)
    recorded = [events.read(path).events for path in (ours, theirs)]
    guests = [{event.vmcs for event in trace if event.kind in diff.KINDS} for trace in recorded]
    assert guests[0] == guests[1]
    result = diff.compare(*recorded)
    assert result.compared > 20
    assert result.differences == []


def test_what_was_recorded_outlives_the_connection(gdb_on, brokenvisor):
    foreign = gdb_on(brokenvisor, append="mistake=missing-control", stub="kvm")
    foreign("vmx trace start")
    foreign("disconnect")
    assert foreign("vmx trace status") == "Not recording, 0 events recorded.\n"
    assert "has gone; what was recorded of it is still there" in foreign.error("vmx vmcs")
    assert "has gone" in foreign.error("vmx trace start")
