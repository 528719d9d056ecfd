"""KVM's nested state in a migration stream of QEMU."""

from __future__ import annotations

import struct

import pytest

from gdbvmx import _core
from gdbvmx.plugin.target import TargetError
from gdbvmx.plugin.target.foreign import nested_state


def subsection(name: str, data: bytes) -> bytes:
    return bytes((5, len(name))) + name.encode() + struct.pack(">I", 1) + data


def stream(
    *, flags: int = 0, address: int = 0x5000, revision: int = nested_state.REVISION, **at: int
) -> bytes:
    """A stream around a vmcs12 with these values at offsets (`o544=…`), eight bytes each."""
    vmcs12 = bytearray(4096)
    struct.pack_into("<III", vmcs12, 0, revision, 0, 1)
    for place, value in at.items():
        struct.pack_into("<Q", vmcs12, int(place[1:]), value)
    state = "cpu/kvm_nested_state"
    return (
        b"QEVM" + bytes(5000)
        + subsection(state, struct.pack(">HHI", flags, 0, 8320))
        + subsection(f"{state}/vmx", struct.pack(">QQH", 0x4000, address, 0))
        + subsection(f"{state}/vmx/vmcs12", bytes(vmcs12))
    )  # fmt: skip


def test_fields_lie_where_kvm_keeps_them():
    # Offsets of the ABI, from both ends of each stretch.
    offsets = {
        "io_bitmap_a": 40, "tsc_multiplier": 328, "cr4_read_shadow": 368, "exit_qualification": 408,
        "guest_rip": 544, "host_rip": 672,
    }  # fmt: skip
    state = nested_state.parse(stream(**{f"o{at}": at + 7 for at in offsets.values()}))
    assert {name: state.fields[name] for name in offsets} == {name: at + 7 for name, at in offsets.items()}
    assert (state.guest, state.vmcs, state.launched) == (False, 0x5000, True)


def test_narrow_fields():
    state = nested_state.parse(stream(o812=0x8000_0021 | 5 << 32, o994=0x18 | 0x1FF << 16))
    assert state.fields["exit_reason"] == 0x8000_0021
    assert state.fields["exit_interruption_info"] == 5
    assert (state.fields["host_tr_selector"], state.fields["guest_pml_index"]) == (0x18, 0x1FF)


def test_every_name_is_a_field_of_the_core():
    known = {row["name"]: row["width"] for row in _core.fields()}
    for name, _, size in nested_state._places():
        assert known[name] <= size * 8


def test_in_the_guest_and_without_a_vmcs():
    state = nested_state.parse(stream(flags=1, address=(1 << 64) - 1))
    assert (state.guest, state.vmcs) == (True, None)


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (b"QEVM" + bytes(100), "not in VMX operation"),
        (stream(revision=0x11E57ED1), "revision 0x11e57ed1"),
        (stream()[:-10], "revision"),
    ],
)
def test_what_cannot_be_read(data, complaint):
    with pytest.raises(TargetError, match=complaint):
        nested_state.parse(data)
