"""`vmx why` in gdb, on mistakes that hypervisors make: it names what was wrong."""

from __future__ import annotations

import pytest

# Mistakes of brokenvisor (guests/broken/table.c), and what the explanation must say: the field that is wrong,
# or the words of the error.
MISTAKES = {
    "missing-control": ("pin_based_controls", "must be 1"),
    "eptp-memory-type": ("ept_pointer",),
    "vpid-zero": ("VPID",),
    "host-selector-rpl": ("host_ds_selector",),
    "host-tr-base-noncanonical": ("host_tr_base", "canonical"),
    "tr-type": ("guest_tr_access_rights",),
    "activity-state": ("guest_activity_state",),
    "cr4-fixed": ("guest_cr4",),
    "guest-rip-noncanonical": ("guest_rip", "canonical"),
    "vmcs-link-pointer": ("vmcs_link_pointer",),
    "vmlaunch-not-clear": ("VMLAUNCH", "clear"),
    "vmread-no-such-field": ("0x4ffe",),
    "msr-load-bad": ("MSR",),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_explained(gdb_on, brokenvisor, mistake):
    gdb = gdb_on(brokenvisor, append=f"mistake={mistake}")
    gdb("vmx catch fail")
    stop = gdb.run()
    assert "vmx: catchpoint 1" in stop, stop
    said = gdb("vmx why")
    for words in MISTAKES[mistake]:
        assert words in said, said
    assert "SDM" in said


def test_a_triple_fault_is_explained_at_the_stop(gdb_on, brokenvisor):
    gdb = gdb_on(brokenvisor, append="mistake=exit-handler-triple-fault")
    stop = gdb.run()
    assert "shut down" in stop and "triple fault" in stop.lower()
    assert "SIGABRT" in stop
    # The machine can still be looked at.
    assert "fault_without_idt" in gdb("backtrace")
    assert "#UD" in gdb("vmx why")
