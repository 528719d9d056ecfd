"""A target whose stub is not gdbvmx's: what it can do is found out, and the rest is done from what it tells.

The VMCS is read by borrowing the processor; rules, walks and words come from the core, in gdb's own Python.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Callable, Protocol

from .. import TargetError
from .borrow import Borrower, Refusal
from .nested_state import KVM_FIELDS, NestedState, parse
from .stub import Stub

try:
    from gdbvmx import _core

    from .mirror import Mirror

    CORE_PROBLEM = ""
except ImportError as error:  # gdb's Python cannot load the core: what needs no rules still works
    CORE_PROBLEM = f"gdb's Python cannot load gdbvmx's core ({error})"

_QEMU_KVM = "QEMU with KVM"
_MSR_BASIC = 0x480
# What is asked for among the fields to learn which VMCS they are of: its physical address.
POINTER = "vmcs_pointer"
_PAGING = ("cr0", "cr3", "cr4", "efer")


class Debugger(Protocol):
    """What is needed of gdb."""

    def allowed(self) -> str:
        """Whether the processor may be borrowed: auto, on or off."""

    def select(self) -> None:
        """Makes the stub speak of the selected thread. Raises TargetError."""

    def monitor(self, command: str) -> str:
        """What the stub's monitor prints; empty if it has none."""

    def migration_stream(self) -> bytes | None:
        """QEMU's migration stream, of a machine that stands still; None where it cannot be had."""


class Events(Protocol):
    """Stops at VM entries and exits, by breakpoints. Methods are those of `remote.vendor`."""

    abilities: frozenset[str]

    def call(self, method: str, **params: Any) -> Any:
        """Raises TargetError."""

    def take_caught(self) -> tuple[int, Mapping[str, Any]] | None:
        """The catchpoint that has just stopped the machine and its event, told once."""

    def at_root(self) -> bool:
        """Whether the machine stands where the processor is in root operation for certain."""

    def close(self) -> None:
        """The target has gone: nothing stops there any more."""


@dataclass
class _Seen:
    """What was read since the machine last ran."""

    fields: dict[str, int] = field(default_factory=dict)
    whole: bool = False
    """All fields that there are."""


class ForeignTarget:
    """`name` is what gdb is connected to, as `vmx info` shows it."""

    def __init__(self, name: str, stub: Stub, debugger: Debugger) -> None:
        self.name = name
        self.stub = stub
        self.events: Events | None = None
        self._debugger = debugger
        self._borrower = Borrower(stub)
        self._seen = _Seen()
        self._shown: dict[str, int] = {}
        self._profile: Any = None
        self.kind = _kind(stub, debugger)

    @property
    def lack(self) -> str:
        if CORE_PROBLEM:
            return f"{CORE_PROBLEM}; rebuild it for this gdb's Python, or use gdbvmx debug"
        if not self._has_vmx():
            return (
                f"{self.kind} has no VMX. Use `gdbvmx debug IMAGE`, or QEMU with nested VT:"
                " `gdbvmx qemu IMAGE`, or `gdbvmx qemu --inside bochs IMAGE` where the host has none"
            )
        return f"{self.kind} does not; gdbvmx's own machine does (`gdbvmx debug IMAGE`)"

    def forget(self) -> None:
        """The machine has run: nothing that was read holds any more."""
        self._seen = _Seen()

    def abilities(self) -> frozenset[str]:
        found = {"info"}
        if not CORE_PROBLEM:
            found.add("tables")
            if self._has_vmx():
                found |= {"vmcs", "vmcs-write", "rules"}
                found |= self.events.abilities if self.events else frozenset()
                if self.stub.knows(b"qqemu.PhyMemMode") is not None:
                    found |= {"walk", "bitmaps"}
        return frozenset(found)

    def call(self, method: str, **params: Any) -> Any:
        run = _METHODS.get(method)
        if run is None:
            if self.events is None:
                raise TargetError(f"this needs a target that answers {method}, and {self.lack}")
            return self.events.call(method, **params)
        self._debugger.select()
        try:
            return run(self, **params)
        except _error() as error:
            raise TargetError(str(error)) from error

    def _has_vmx(self) -> bool:
        return "TCG" not in self.kind

    # The VMCS.

    def profile(self) -> Any:
        """The processor's own capabilities, by RDMSR; gdbvmx's while they cannot be read."""
        if self._profile is None:
            if self._no_root() or self._borrower.refusal():
                return self._builtin()
            with self._borrower.borrowed() as loan:
                msrs = dict(_capability_msrs(loan.read_msr))
            self._profile = self._builtin().with_changes("the target", msrs, {})[0]
        return self._profile

    def _require_root(self) -> None:
        problem = self._no_root()
        if problem:
            raise Refusal(problem)

    def _no_root(self) -> str | None:
        """Why the processor is not known to be in VMX root operation; None if it is.

        In a guest VMREAD would exit to the hypervisor. No register tells which of the two runs, but the
        paging does: a guest behind EPT has tables whose addresses are not the machine's.
        """
        allowed = self._debugger.allowed()
        if allowed == "off":
            return "set vmx-borrow is off"
        if allowed == "on" or (self.events is not None and self.events.at_root()):
            return None
        if self.stub.knows(b"qqemu.PhyMemMode") is None:
            return (
                "the stub does not tell whether the hypervisor or its guest runs; if it is the hypervisor,"
                " set vmx-borrow on"
            )
        registers = self.stub.read_all()
        rip = registers["rip"]
        mirror = Mirror(self._builtin(), 0, {}, _paging(registers), self._read_physical)
        physical = mirror.walk("walk", rip, None, "read")["physical"]
        length = min(16, 0x1000 - (rip & 0xFFF))
        code = self.stub.read_memory(rip, length)
        if physical is not None and self._read_physical(physical, length) == code:
            return None
        return (
            f"the code at {rip:#x} is not where CR3 leads to in the machine's memory, as in a guest behind"
            " EPT; stop in the hypervisor, as at its exit handler (if this is it: set vmx-borrow on)"
        )

    def _builtin(self) -> Any:
        return _core.CpuProfile.builtin(_core.CpuProfile.names()[0])

    def fields(self, wanted: Sequence[str] | None = None, known: bool = False) -> dict[str, int]:
        """Fields of the current VMCS by name, all that the processor has unless some are `wanted`, of which
        POINTER can be one. Raises TargetError where the VMCS cannot be had, or has not what is wanted.

        `known`: that the processor is in root operation is known.
        """
        seen = self._seen.fields
        if not self._seen.whole if wanted is None else any(name not in seen for name in wanted):
            self._read(wanted, known)
        return {name: seen[name] for name in (wanted or seen) if wanted or name != POINTER}

    def _read(self, wanted: Sequence[str] | None, known: bool) -> None:
        try:
            if not known:
                self._require_root()
            found = self._read_borrowed([name for name in wanted or self._field_names() if self._has(name)])
        except Refusal:
            state = self._nested_state()
            if state is None:
                raise
            found = dict(state.fields)
        absent = [name for name in wanted or () if name not in found]
        if absent:
            raise TargetError(f"{self.kind} does not tell {', '.join(absent)} of this VMCS")
        self._seen.fields.update(found)
        self._seen.whole = self._seen.whole or wanted is None

    def _read_borrowed(self, names: Sequence[str]) -> dict[str, int]:
        """Those of the fields that the processor has, and POINTER if it is asked for."""
        encodings = {row["name"]: row["encoding"] for row in _core.fields()}
        plain = [name for name in names if name != POINTER]
        with self._borrower.borrowed() as loan:
            values = loan.read_fields([encodings[name] for name in plain])
            found = dict(zip(plain, values))
            if POINTER in names:
                found[POINTER] = loan.read_pointer()
        return {name: value for name, value in found.items() if value is not None}

    def _field_names(self) -> list[str]:
        """The fields that the processor has, by its capabilities."""
        machine = _core.Machine(1 << 20, profile=self.profile())
        machine.adopt_vmcs(0, {})
        return [row["name"] for row in machine.vmcs()]

    def _has(self, field: str) -> bool:
        """VMREAD of a field that is not there would leave its error number in the VMCS."""
        return self.kind != _QEMU_KVM or field in KVM_FIELDS or field == POINTER

    def _nested_state(self) -> NestedState | None:
        """What KVM holds of the VMCS; None where that cannot be had."""
        if self.kind != _QEMU_KVM:
            return None
        stream = self._debugger.migration_stream()
        return None if stream is None else parse(stream)

    def _mirror(self, last: str | None = None) -> Any:
        paging = _paging(self.stub.read_all())
        return Mirror(self.profile(), 0x1000, self.fields(), paging, self._read_physical, last)

    def _read_physical(self, address: int, length: int) -> bytes:
        with self.stub.physical():
            return self.stub.read_memory(address, length)

    # Methods of `remote.vendor`.

    def info(self) -> dict[str, Any]:
        abilities = self.abilities()
        facts = [("target", f"{self.name}: {self.kind}"), ("can do", ", ".join(sorted(abilities)))]
        if CORE_PROBLEM:
            facts.append(("rules", CORE_PROBLEM))
        if "vmcs" in abilities:
            problem = self._borrower.refusal() or self._no_root()
            readable = f"not readable now: {problem}" if problem else "readable, by borrowing the processor"
            facts.append(("VMCS", readable))
            if not problem:
                current = self._read_borrowed([POINTER]).get(POINTER)
                facts.append(("current VMCS", "none" if current is None else f"{current:#x}"))
        else:
            facts.append(("VMX", self.lack))
        return {"facts": facts}

    def vmcs(self) -> list[dict[str, Any]]:
        read = self.fields()
        shown = self._shown
        return [
            {**row, "changed": shown.get(row["name"], row["value"]) != row["value"]}
            for row in self._mirror().machine.vmcs()
            if row["name"] in read
        ]

    def vmcs_seen(self) -> None:
        self._shown = dict(self._seen.fields)

    def read_field(self, field: str) -> int:
        return self.fields([_core.field(field)["name"]])[field]

    def write_field(self, field: str, value: int) -> None:
        self._require_root()
        self.write_known(field, value)

    def write_known(self, field: str, value: int) -> None:
        """VMWRITE where the processor is known to be in root operation."""
        with self._borrower.borrowed() as loan:
            loan.write_field(_core.field(field)["encoding"], value)
        self._seen.fields.pop(field, None)

    def check(self) -> Any:
        mirror = self._mirror()
        if "walk" in self.abilities():
            mirror.fetch_areas()
        return mirror.machine.check_entry()

    def why(self) -> Any:
        values = self.fields()
        failed = self.stub.read_all()["eflags"] & 1 << 6 and values["vm_instruction_error"]
        mirror = self._mirror("fail" if failed else "exit")
        if "walk" in self.abilities():
            mirror.fetch_areas()
        return mirror.machine.why()

    def bitmap(self, which: str) -> Any:
        mirror = self._mirror()
        mirror.fetch_areas()
        return mirror.machine.bitmap(which)

    def walk_ept(self, address: int, access: str = "read") -> Any:
        mirror = self._mirror()
        return mirror.walk("walk_ept", address, mirror.address, access)

    def walk(self, address: int, access: str = "read") -> Any:
        """The host's own tables: in root operation these are what the selected world has."""
        return self._mirror().walk("walk", address, None, access)


def _capability_msrs(read: Callable[[int], int]) -> Iterator[tuple[int, int]]:
    """Each that is there (SDM, appendix A): RDMSR of another would raise #GP."""
    basic = read(_MSR_BASIC)
    yield _MSR_BASIC, basic
    for address in range(0x481, 0x48B):
        yield address, read(address)
    primary = read(0x482)
    secondary = 0
    if primary >> 63:
        secondary = read(0x48B) >> 32
        yield 0x48B, secondary << 32
    if secondary & (1 << 1 | 1 << 5):
        yield 0x48C, read(0x48C)
    if basic >> 55 & 1:
        for address in range(0x48D, 0x491):
            yield address, read(address)
    if secondary >> 13 & 1:
        yield 0x491, read(0x491)
    if primary >> (32 + 17) & 1:
        yield 0x492, read(0x492)
    if read(0x483) >> 63:
        yield 0x493, read(0x493)


def _paging(registers: Mapping[str, int]) -> dict[str, int]:
    """The registers that translation depends on."""
    return {name: registers[name] for name in _PAGING if name in registers}


def _kind(stub: Stub, debugger: Debugger) -> str:
    """What answers: QEMU by its packets, and how it executes by its monitor."""
    if stub.knows(b"qqemu.PhyMemMode") is None:
        return "an unknown stub"
    accelerator = debugger.monitor("info kvm")
    if "enabled" in accelerator:
        return _QEMU_KVM
    if "disabled" in accelerator or "not compiled" in accelerator:
        return "QEMU with TCG"
    return "a stub that speaks QEMU's packets"


def _error() -> type[Exception]:
    return TargetError if CORE_PROBLEM else _core.Error


_Method = Callable[..., Any]
_METHODS: Mapping[str, _Method] = {
    "info": ForeignTarget.info,
    "fields": lambda target: _core.fields(),
    "reasons": lambda target: _core.reasons(),
    "reason": lambda target, name: _core.reason(name),
    "describe": lambda target, field, value: _core.describe(field, value),
    "qualification": lambda target, **params: _core.qualification(**params),
    "capabilities": lambda target: target.profile().capabilities(),
    "vmcs": ForeignTarget.vmcs,
    "vmcs_seen": ForeignTarget.vmcs_seen,
    "read_field": ForeignTarget.read_field,
    "write_field": ForeignTarget.write_field,
    "check": ForeignTarget.check,
    "why": ForeignTarget.why,
    "bitmap": ForeignTarget.bitmap,
    "walk": ForeignTarget.walk,
    "walk_ept": ForeignTarget.walk_ept,
}
