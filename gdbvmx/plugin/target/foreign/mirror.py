"""A VMCS and memory around it, copied into a machine of our own, whose rules, walks and words serve it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Callable

from gdbvmx import _core

from .. import TargetError

# Reads guest RAM of the other machine by its physical address. Raises TargetError.
ReadPhysical = Callable[[int, int], bytes]

_ENTRY = 8  # bytes of an entry of any table
_LEAST, _MOST = 1 << 30, 1 << 33  # bytes of RAM that the copy has

# Memory that the rules of VM entry and the bitmaps look at: fields that hold its address, and its length.
_AREAS: Mapping[str, int] = {
    "vmcs_link_pointer": 8,
    "virtual_apic_address": 0x88,
    "io_bitmap_a": 4096,
    "io_bitmap_b": 4096,
    "msr_bitmap": 4096,
    "guest_cr3": 32,
}
# Those that hold as many entries of 16 bytes as another field says.
_LISTS: Mapping[str, str] = {
    "entry_msr_load_address": "entry_msr_load_count",
    "exit_msr_load_address": "exit_msr_load_count",
    "exit_msr_store_address": "exit_msr_store_count",
}
_MOST_MSRS = 512


class Mirror:
    """`registers` are those of the host's world that its paging depends on, as gdbvmx calls them."""

    def __init__(
        self,
        profile: _core.CpuProfile,
        address: int,
        fields: Mapping[str, int],
        registers: Mapping[str, int],
        read_physical: ReadPhysical,
        last: str | None = None,
    ) -> None:
        self.address = address
        self._read = read_physical
        self._known: set[int] = set()
        self._profile = profile
        self._fields = fields
        self._registers = registers
        self._last = last
        self.machine = self._machine(_LEAST)

    def _machine(self, memory: int) -> _core.Machine:
        machine = _core.Machine(memory, profile=self._profile)
        if self._fields:
            machine.adopt_vmcs(self.address, dict(self._fields), self._last)
        for name, value in self._registers.items():
            machine.write_register(name, value)
        return machine

    def fetch_areas(self) -> None:
        """Copies what the rules and the bitmaps look at; what cannot be read stays 0."""
        lengths = dict(_AREAS)
        for area, count in _LISTS.items():
            lengths[area] = 16 * min(self._fields.get(count, 0), _MOST_MSRS)
        for area, length in lengths.items():
            address = self._fields.get(area, 0) & ~7
            if length and 0 < address < _MOST:
                self._copy(address, length)

    def walk(self, method: str, address: int, vmcs: int | None, access: str) -> Any:
        """`walk` or `walk_ept` of the machine, with each entry on the way copied before it is read."""
        while True:
            result = getattr(self.machine, method)(address, vmcs=vmcs, access=access)
            missing = [entry for step in result["steps"] for entry in self._entry(step, vmcs)]
            if not missing:
                return result
            for entry in missing:
                self._copy(entry, _ENTRY)

    def _entry(self, step: Mapping[str, Any], vmcs: int | None) -> list[int]:
        """The entries to copy, by host-physical address, before this step can be believed."""
        address: int | None = step["address"] & ~7
        if vmcs is not None and not step["table"].startswith(("EPT", "SPP")) and self._uses_ept():
            nested = self.walk("walk_ept", step["address"], vmcs, "read")
            address = None if nested["physical"] is None else nested["physical"] & ~7
        return [] if address is None or address in self._known else [address]

    def _uses_ept(self) -> bool:
        return bool(self._fields.get("ept_pointer")) and "enable EPT" in " ".join(
            _core.describe(
                "secondary_processor_based_controls",
                self._fields.get("secondary_processor_based_controls", 0),
            )
        )

    def _copy(self, address: int, length: int) -> None:
        self._known.update(range(address, address + length, _ENTRY))
        try:
            data = self._read(address, length)
        except TargetError:
            return
        try:
            self.machine.write_physical(address, data)
        except _core.Error:
            self._grow(address + length)
            self.machine.write_physical(address, data)

    def _grow(self, end: int) -> None:
        """Makes the copy larger; what was copied is copied anew."""
        memory = self.machine.memory
        # 1 GiB below 4 GiB is for devices.
        while memory < min(end, _MOST) + (1 << 30):
            memory *= 2
        if end > _MOST or memory <= self.machine.memory:
            raise TargetError(f"physical address {end - 1:#x} lies beyond what can be looked at ({_MOST:#x})")
        known, self._known = self._known, set()
        self.machine = self._machine(memory)
        for address in known:
            self._copy(address, _ENTRY)
