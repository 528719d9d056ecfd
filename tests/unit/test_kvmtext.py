"""Text of KVM's tracepoints, in the shapes that kernels and tools give it."""

from __future__ import annotations

import pytest

from gdbvmx.trace import export, kvmtext
from gdbvmx.trace.events import Event, Trace

NESTED = """\
# tracer: nop
 qemu-system-x86-4242    [002] d..2.  8123.456789: kvm_entry: vcpu 0, rip 0xfff0
 qemu-system-x86-4242    [002] d..2.  8123.456999: kvm_exit: vcpu 0 reason VMLAUNCH rip 0x1000 info1 0x0 info2 0x0 intr_info 0x0 error_code 0x0
 qemu-system-x86-4242    [002] .....  8123.457100: kvm_nested_vmenter: rip: 0x1000 vmcs: 0x124000 nested_rip: 0x40000 int_ctl: 0x0 event_inj: 0x0 nested_ept=y nested_eptp: 0x12701e
 qemu-system-x86-4242    [002] d..2.  8123.457200: kvm_exit: vcpu 0 reason EPT_VIOLATION rip 0x40010 info1 0x182 info2 0x0 intr_info 0x0 error_code 0x0
 qemu-system-x86-4242    [002] .....  8123.457201: kvm_nested_vmexit: vcpu 0 reason EPT_VIOLATION rip 0x40010 info1 0x182 info2 0x0 intr_info 0x0 error_code 0x0
 qemu-system-x86-4242    [002] .....  8123.457301: kvm_nested_vmexit: vcpu 0 reason EXCEPTION_NMI rip 0x40012 info1 0x80 info2 0x0 intr_info 0x80000b0e error_code 0x2
 qemu-system-x86-4242    [002] .....  8123.457302: kvm_nested_vmexit_inject: reason: EXCEPTION_NMI ext_inf1: 0x80 ext_inf2: 0x0 ext_int: 0x80000b0e ext_int_err: 0x2
"""  # noqa: E501  (the lines are as long as the kernel makes them)


def test_what_a_nested_hypervisor_saw():
    imported = kvmtext.read(NESTED.splitlines())
    assert (imported.level, imported.lines) == ("nested", 8)
    assert imported.events == [
        Event(0, 311_000, 0, "entry", vmcs=0x124000, guest_rip=0x40000),
        Event(1, 513_000, 0, "exit", vmcs=0x124000, reason=0, name="exception-or-nmi", qualification=0x80,
              guest_rip=0x40012, interruption_info=0x80000B0E, more={"error_code": "0x2"}),
    ]  # fmt: skip


def test_without_reflected_exits_all_of_the_nested_guest_are_taken():
    lines = [line for line in NESTED.splitlines() if "_inject" not in line]
    exits = [event.name for event in kvmtext.read(lines).events if event.kind == "exit"]
    assert exits == ["ept-violation", "exception-or-nmi"]


def test_the_machine_that_kvm_runs():
    events = kvmtext.read(NESTED.splitlines(), "host").events
    assert [(event.kind, event.name) for event in events] == [
        ("entry", None), ("exit", "vmlaunch"), ("exit", "ept-violation"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "line",
    [
        "CPU 1/KVM  1234/1240 [003]  99.5:   kvm:kvm_exit: vcpu 2 reason HLT rip 0x10 info1 0x0 info2 0x0",
        "<...>-1234  [003]    99.500000: kvm_exit:             vcpu 2 reason HLT rip 0x10 info 0 0",
        "<...>-1234  (-----) [003] d..2. 99.5: kvm_exit: vcpu 2 reason HLT rip 0x10 info1 0x0",
    ],
)
def test_shapes_of_a_line(line):
    (event,) = kvmtext.read([line]).events
    assert (event.vcpu, event.reason, event.guest_rip, event.qualification) == (2, 12, 0x10, 0)


def test_threads_stand_for_vcpus_that_are_not_named():
    lines = [f" qemu-{thread} [000] 1.0: kvm_exit: reason HLT rip 0x10 info 0 0" for thread in (70, 71, 70)]
    assert [event.vcpu for event in kvmtext.read(lines).events] == [0, 1, 0]


def test_a_failed_entry_and_a_reason_by_number():
    text = " qemu-1 [000] 1.0: kvm_exit: vcpu 0 reason {} rip 0x10 info1 0x0 info2 0x0"
    names = ("INVALID_STATE FAILED_VMENTRY", "0x80000021", "0x4a", "no such")
    events = kvmtext.read(text.format(name) for name in names).events
    assert [(event.kind, event.reason) for event in events] == [
        ("entry_failure", 33), ("entry_failure", 33), ("exit", 74), ("exit", None),
    ]  # fmt: skip


def test_text_without_exits():
    with pytest.raises(kvmtext.NoTrace, match="no kvm_exit or kvm_nested_vmexit in its 1 lines"):
        kvmtext.read(["bash-1 [000] 1.0: sched_switch: prev_comm=bash"])
    with pytest.raises(kvmtext.NoTrace, match="no exit of level nested"):
        kvmtext.read([NESTED.splitlines()[2]], "nested")


def test_what_is_exported_is_imported():
    events = [
        Event(0, 100, 0, "entry", guest_rip=0x1000),
        Event(1, 110, 0, "exit", reason=10, name="cpuid", guest_rip=0x1002, qualification=0),
        Event(2, 150, 0, "entry", guest_rip=0x1004),
        Event(3, 190, 0, "exit", reason=48, name="ept-violation", guest_rip=0x1008, qualification=0x182),
    ]
    imported = kvmtext.read(export.ftrace(Trace({}, events))).events
    assert imported == [Event(**{**_plain(event), "icount": event.icount - 100}) for event in events]


def _plain(event):
    return {name: getattr(event, name) for name in Event.__dataclass_fields__}
