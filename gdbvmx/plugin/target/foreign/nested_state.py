"""What KVM holds of a nested hypervisor: the VMCS in QEMU's migration stream.

While a VMCS is current, KVM keeps it in a structure of its own, vmcs12, whose layout is stable across kernels
since migration depends on it. The stream tells it unnoticed, in the hypervisor and in its guest.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from .. import TargetError

REVISION = 0x11E57ED0
_SIZE = 4096
_GUEST_MODE = 1  # KVM_STATE_NESTED_GUEST_MODE
_NONE = (1 << 64) - 1
# A subsection of QEMU's stream: a mark, the length of its name, the name, its version.
_SUBSECTION = 5
_SEGMENTS = ("es", "cs", "ss", "ds", "fs", "gs", "ldtr", "tr")


@dataclass(frozen=True)
class NestedState:
    """`guest`: the processor runs the nested guest. `vmcs`: physical address of the current VMCS in the
    hypervisor's memory, None if there is none. `fields`: what vmcs12 holds, by gdbvmx's names."""

    guest: bool
    vmcs: int | None
    launched: bool
    fields: Mapping[str, int]


def parse(stream: bytes) -> NestedState:
    """Finds the nested state of the first processor in a migration stream. Raises TargetError."""
    at = _after(stream, b"cpu/kvm_nested_state")
    header = _after(stream, b"cpu/kvm_nested_state/vmx") if at is not None else None
    if at is None or header is None:
        raise TargetError("QEMU holds no nested VMX state: the processor is not in VMX operation")
    (flags,) = struct.unpack_from(">H", stream, at)
    _, address = struct.unpack_from(">QQ", stream, header)
    place = _after(stream, b"cpu/kvm_nested_state/vmx/vmcs12")
    if place is None:
        return NestedState(bool(flags & _GUEST_MODE), None, False, {})
    vmcs12 = stream[place : place + _SIZE]
    revision = int.from_bytes(vmcs12[:4], "little")
    if len(vmcs12) < _SIZE or revision != REVISION:
        raise TargetError(
            f"KVM's vmcs12 has revision {revision:#x}; its layout is known for {REVISION:#x} only"
        )
    return NestedState(
        bool(flags & _GUEST_MODE),
        None if address == _NONE else address,
        int.from_bytes(vmcs12[8:12], "little") != 0,
        {name: int.from_bytes(vmcs12[at : at + size], "little") for name, at, size in _places()},
    )


def _after(stream: bytes, name: bytes) -> int | None:
    """Where the data of a subsection begins."""
    mark = bytes((_SUBSECTION, len(name))) + name
    at = stream.find(mark)
    return None if at < 0 else at + len(mark) + 4


def _places() -> Iterator[tuple[str, int, int]]:
    """Name, offset and bytes of each field of vmcs12."""
    for (start, size), names in _LAYOUT.items():
        for number, name in enumerate(names):
            yield name, start + number * size, size


def _each(pattern: str, names: tuple[str, ...] = _SEGMENTS) -> tuple[str, ...]:
    return tuple(pattern.format(name) for name in names)


# Fields that lie one behind the other, by the offset of the first and the bytes of each.
_LAYOUT: Mapping[tuple[int, int], tuple[str, ...]] = {
    (40, 8): (
        "io_bitmap_a", "io_bitmap_b", "msr_bitmap", "exit_msr_store_address", "exit_msr_load_address",
        "entry_msr_load_address", "tsc_offset", "virtual_apic_address", "apic_access_address",
        "posted_interrupt_descriptor_address", "ept_pointer", *_each("eoi_exit_bitmap{}", tuple("0123")),
        "xss_exiting_bitmap", "guest_physical_address", "vmcs_link_pointer", "guest_ia32_debugctl",
        "guest_ia32_pat", "guest_ia32_efer", "guest_ia32_perf_global_ctrl",
        *_each("guest_pdpte{}", tuple("0123")), "guest_ia32_bndcfgs", "host_ia32_pat", "host_ia32_efer",
        "host_ia32_perf_global_ctrl", "vmread_bitmap", "vmwrite_bitmap", "vm_function_controls",
        "eptp_list_address", "pml_address", "encls_exiting_bitmap", "tsc_multiplier",
    ),
    (344, 8): ("cr0_guest_host_mask", "cr4_guest_host_mask", "cr0_read_shadow", "cr4_read_shadow"),
    (408, 8): (
        "exit_qualification", "guest_linear_address", "guest_cr0", "guest_cr3", "guest_cr4",
        *_each("guest_{}_base"), "guest_gdtr_base", "guest_idtr_base", "guest_dr7", "guest_rsp", "guest_rip",
        "guest_rflags", "guest_pending_debug_exceptions", "guest_ia32_sysenter_esp",
        "guest_ia32_sysenter_eip", "host_cr0", "host_cr3", "host_cr4", "host_fs_base", "host_gs_base",
        "host_tr_base", "host_gdtr_base", "host_idtr_base", "host_ia32_sysenter_esp",
        "host_ia32_sysenter_eip", "host_rsp", "host_rip",
    ),
    (744, 4): (
        "pin_based_controls", "primary_processor_based_controls", "exception_bitmap",
        "page_fault_error_code_mask", "page_fault_error_code_match", "cr3_target_count", "exit_controls",
        "exit_msr_store_count", "exit_msr_load_count", "entry_controls", "entry_msr_load_count",
        "entry_interruption_info", "entry_exception_error_code", "entry_instruction_length", "tpr_threshold",
        "secondary_processor_based_controls", "vm_instruction_error", "exit_reason", "exit_interruption_info",
        "exit_interruption_error_code", "idt_vectoring_info", "idt_vectoring_error_code",
        "exit_instruction_length", "exit_instruction_info", *_each("guest_{}_limit"), "guest_gdtr_limit",
        "guest_idtr_limit", *_each("guest_{}_access_rights"), "guest_interruptibility_state",
        "guest_activity_state", "guest_ia32_sysenter_cs", "host_ia32_sysenter_cs",
        "guest_preemption_timer_value",
    ),
    (960, 2): (
        "virtual_processor_identifier", "posted_interrupt_notification_vector", *_each("guest_{}_selector"),
        "guest_interrupt_status", *_each("host_{}_selector", ("es", "cs", "ss", "ds", "fs", "gs", "tr")),
        "guest_pml_index",
    ),
}  # fmt: skip

# What KVM's VMREAD knows.
KVM_FIELDS = frozenset(name for names in _LAYOUT.values() for name in names)
