"""The machine: an x86-64 processor with VMX and its platform, emulated. Written in Rust (`core/`).

Addresses: *linear* ones go through the paging (and EPT) of a world; *guest-physical* ones are those of the
machine's RAM as a hypervisor on it sees them, or of a nested guest where a method says so; the machine's
own host-physical addresses are the same as its guest-physical ones outside VMX non-root operation.

A *world* is the host of a vCPU (`vmcs=None`) or one of its guests, named by the address of its VMCS region.
Registers of a world that is not running are its saved ones.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Literal, TypedDict

__version__: str

class Error(Exception):
    """A request that cannot be carried out; the text says what was found and what was expected."""

class CpuProfile:
    """A named set of CPUID leaves and VMX capability MSRs."""

    @staticmethod
    def names() -> list[str]: ...
    @staticmethod
    def builtin(name: str) -> CpuProfile:
        """Raises `Error` for an unknown name, listing those there are."""
    name: str
    def with_changes(
        self, name: str, msrs: dict[int, int], cpuid: dict[tuple[int, int], dict[str, int]]
    ) -> tuple[CpuProfile, list[str]]:
        """A copy with other MSRs (by number) and CPUID registers (by leaf and subleaf: "eax" … "edx"), and
        a warning for each capability that it promises and the core does not honour."""
    def with_features(self, name: str, features: Sequence[tuple[str, bool]]) -> tuple[CpuProfile, list[str]]:
        """A copy with CPUID features added (True) or taken away, by name, and warnings as `with_changes`.
        Raises `Error` for an unknown name, listing those there are."""
    def vmx_msrs(self) -> dict[int, int]:
        """VMX capability MSRs by number."""
    def cpuid(self, leaf: int, subleaf: int = 0) -> tuple[int, int, int, int]: ...
    def capabilities(self) -> list[Capability]:
        """All of it in words, MSR by MSR."""

class Capability(TypedDict):
    msr: int
    msr_name: str
    bits: str
    """The bit, or the range `high:low`."""
    name: str
    setting: str
    """`required`, `allowed` or `forbidden` for a control; `yes` or `no` for a flag; otherwise the value."""

class Stop(TypedDict, total=False):
    """Why `Machine.run` came back. Present beside `kind`, `vcpu` and `vmcs` (the world that ran): what
    applies."""

    kind: Literal[
        "count",
        "idle",
        "waiting",
        "shutdown",
        "breakpoint",
        "watch",
        "catch",
        "attention",
        "interrupted",
        "exit",
        "poweroff",
        "reset",
    ]
    vcpu: int
    vmcs: int | None
    status: int
    """`exit`: the process's exit status, (value << 1) | 1."""
    catch: int
    """`catch`: the catchpoint's number."""
    address: int
    """`watch`: linear address of the watchpoint."""
    watch: Literal["write", "read", "access"]

class WorldInfo(TypedDict):
    vcpu: int
    vmcs: int | None
    running: bool
    """It is this world's registers that the vCPU holds now."""
    name: str
    """Such as `vCPU 0 guest VMCS 0x5000 (running)`."""

class TraceEvent(TypedDict, total=False):
    """One line of a trace file, numbers plain (the file's writer makes the "0x…" strings)."""

    seq: int
    icount: int
    vcpu: int
    kind: str
    vmcs: int
    reason: int
    name: str
    qualification: int
    guest_rip: int
    guest_linear: int
    guest_physical: int
    interruption_info: int
    instruction_length: int
    rule: str
    field: str
    value: int
    forced: bool

class FieldView(TypedDict):
    name: str
    encoding: int
    group: str
    """control, guest, host or exit-info."""
    width: int
    """Bits."""
    section: str
    value: int
    changed: bool
    """Since `Machine.vmcs_seen` was last called."""
    text: list[str]
    """What the value means, a phrase each; the names of set bits, decoded parts. Empty where the number
    says all."""

class FieldInfo(TypedDict):
    name: str
    encoding: int
    group: str
    width: int
    section: str
    writable: bool

class ReasonInfo(TypedDict):
    number: int
    name: str
    aliases: list[str]
    title: str
    section: str

class RuleInfo(TypedDict):
    id: str
    section: str
    fields: list[str]
    outcome: str
    text: str

class BrokenRule(TypedDict):
    id: str
    section: str
    fields: list[tuple[str, int]]
    found: str
    """A sentence: what was found and what is allowed."""
    outcome: str
    """Such as `VMfailValid 7` or `entry failure 0x80000021, qualification 0`."""
    deciding: bool

class Explanation(TypedDict):
    headline: str
    section: str
    paragraphs: list[str]
    rules: list[BrokenRule]
    fields: list[tuple[str, int, str]]
    """Name, value, meaning."""

class WalkStep(TypedDict):
    table: str
    """Such as `PML4E`, `PDE`, `EPT PTE`."""
    address: int
    """Of the entry: guest-physical of its own space."""
    entry: int
    maps: int | None
    """What it leads to."""
    rights: str
    note: str
    """Empty, or who denies and why."""

class Walk(TypedDict):
    steps: list[WalkStep]
    physical: int | None
    """Host-physical of the machine, if the translation succeeds."""
    guest_physical: int | None
    fault: str
    """Empty if it succeeds."""

class Interrupter:
    """Stops a run from another thread."""

    def stop(self) -> None: ...

class Machine:
    def __init__(
        self, memory: int, cpus: int = 1, profile: CpuProfile | None = None, features: Iterable[str] = ()
    ) -> None:
        """`memory` in bytes. `features`: optional devices, such as `debugcon` (port 0xE9)."""
    memory: int
    cpus: int
    profile: CpuProfile
    # Running.
    def run(
        self,
        count: int,
        *,
        vcpu: int | None = None,
        leave_breakpoint: bool = False,
        mask_interrupts: bool = False,
        timeout: float | None = None,
        patient_until: int | None = None,
    ) -> Stop:
        """Retires at most `count` instructions (all vCPUs together, or of `vcpu` alone). The GIL is
        released meanwhile. `leave_breakpoint`: do not stop at a breakpoint right where it starts.
        `timeout`: seconds of host time. `patient_until`: from this tick of the clock on the run ends
        (`waiting`) where every vCPU is halted and COM1 was asked for an interrupt when a byte arrives."""
    def interrupter(self) -> Interrupter: ...
    def reset(self) -> None: ...
    def instructions(self, vcpu: int | None = None) -> int:
        """Retired so far."""
    def clock(self) -> int:
        """Machine time in ticks of 1 ns: instructions and skipped idle time."""
    # Physical memory.
    def ram_ranges(self) -> list[tuple[int, int]]:
        """(start, length) of each range of RAM."""
    def acpi_root(self) -> tuple[int, bytes]:
        """The guest-physical address of ACPI's root pointer (RSDP), and its bytes."""
    def read_physical(self, address: int, length: int) -> bytes:
        """RAM only: raises `Error` naming the first address that is not RAM. Devices are not touched."""
    def write_physical(self, address: int, data: bytes) -> None: ...
    # Worlds.
    def worlds(self) -> list[WorldInfo]: ...
    def current_world(self, vcpu: int) -> int | None: ...
    def register_names(self) -> list[tuple[str, int]]:
        """Names and sizes in bits: rax … r15, rip, eflags, es … gs (selectors), es_base …, ldtr, tr (with
        _base, _limit, _rights), gdtr_base, gdtr_limit, idtr_base, idtr_limit, cr0, cr2, cr3, cr4, cr8,
        efer, dr0 … dr3, dr6, dr7, cpl, st0 … st7, fctrl …, mxcsr, xmm0 … xmm15; as the CPU profile has them
        xcr0, xss, ymm0h …, pkru, ssp, u_cet, s_cet."""
    def read_register(self, name: str, vcpu: int = 0, vmcs: int | None = None) -> int: ...
    def write_register(self, name: str, value: int, vcpu: int = 0, vmcs: int | None = None) -> None: ...
    def code_bits(self, vcpu: int = 0, vmcs: int | None = None) -> int:
        """16, 32 or 64: how code at RIP is decoded."""
    def translate(self, address: int, vcpu: int = 0, vmcs: int | None = None) -> int | None:
        """Linear to the machine's physical address; no flag is set, no right asked for."""
    def read_memory(self, address: int, length: int, vcpu: int = 0, vmcs: int | None = None) -> bytes:
        """By linear address. Raises `Error` naming the first byte that cannot be read."""
    def write_memory(self, address: int, data: bytes, vcpu: int = 0, vmcs: int | None = None) -> None: ...
    # Breakpoints: by linear address, in all worlds unless named.
    def add_breakpoint(
        self, address: int, vcpu: int | None = None, vmcs: int | None = None, host: bool = False
    ) -> None:
        """`vmcs`: only in this guest; `host`: only in the host's world; neither: in every world."""
    def remove_breakpoint(
        self, address: int, vcpu: int | None = None, vmcs: int | None = None, host: bool = False
    ) -> bool: ...
    def add_watchpoint(
        self,
        address: int,
        length: int,
        kind: str,
        vcpu: int | None = None,
        vmcs: int | None = None,
        host: bool = False,
    ) -> None:
        """`kind`: write, read or access."""
    def remove_watchpoint(
        self,
        address: int,
        length: int,
        kind: str,
        vcpu: int | None = None,
        vmcs: int | None = None,
        host: bool = False,
    ) -> bool: ...
    def clear_breakpoints(self) -> None:
        """All breakpoints and watchpoints go; catchpoints stay."""
    # Catchpoints on VMX events.
    def add_catch(self, kind: str, numbers: Iterable[int] | None = None) -> int:
        """`kind`: entry, exit, fail or field; `numbers`: basic exit reasons, or VM-instruction errors and
        exit reasons for fail, or one field encoding for field. Gives the catchpoint's number."""
    def delete_catch(self, number: int) -> bool: ...
    def catches(self) -> list[dict[str, Any]]: ...
    def force(self, reason: int, **fields: int) -> None:
        """Makes a VM exit at the guest's next instruction boundary; armed while the CPU is in root mode.
        `fields`: qualification, guest_linear, guest_physical, interruption_info, interruption_error_code,
        instruction_length, instruction_info, vector. Raises `Error` for what the architecture does not
        know."""
    def force_vmfail(self, number: int) -> None: ...
    def forced(self) -> dict[str, int] | None: ...
    # VMX views.
    def vmx_info(self, vcpu: int = 0) -> dict[str, Any]:
        """mode (`root`, `non-root`, `off`), vmxon, current VMCS, launched, active VMCSs, last exit, last
        failure."""
    def vmcs(self, vcpu: int = 0, vmcs: int | None = None) -> list[FieldView]:
        """Every field that the profile has, of the current VMCS unless one is named. Raises `Error` if
        there is none."""
    def vmcs_seen(self, vcpu: int = 0, vmcs: int | None = None) -> None:
        """Starts a new list of changes for `FieldView.changed`."""
    def read_vmcs(self, field: str, vcpu: int = 0, vmcs: int | None = None) -> int: ...
    def write_vmcs(self, field: str, value: int, vcpu: int = 0, vmcs: int | None = None) -> None:
        """Any field, read-only ones included."""
    def check_entry(self, vcpu: int = 0, vmcs: int | None = None) -> list[BrokenRule]:
        """Every VM-entry rule that the VMCS breaks now."""
    def why(self, vcpu: int = 0) -> Explanation | None:
        """The last VM-entry failure, VMfail, exit, triple fault or abort in words; `None` if there was
        none."""
    def adopt_vmcs(
        self,
        address: int,
        fields: dict[str, int],
        last: str | None = None,
        rip: int = 0,
        vcpu: int = 0,
    ) -> None:
        """Takes over a VMCS of another machine as the current one, launched. `last`: what happened last with
        it, `exit` (also a failed entry) or `fail` (VMfailValid), for `why`; `rip`: the linear address of the
        instruction that entered or failed to, if it is known."""
    def walk(self, address: int, vcpu: int = 0, vmcs: int | None = None, access: str = "read") -> Walk:
        """Each level of the translation of a linear address: guest tables and EPT. `access`: read, write or
        execute."""
    def walk_ept(self, address: int, vcpu: int = 0, vmcs: int | None = None, access: str = "read") -> Walk:
        """Each level of the EPT translation of a guest-physical address."""
    def bitmap(self, which: str, vcpu: int = 0, vmcs: int | None = None) -> dict[str, Any]:
        """`msr`: {"address", "read": [(first, last)], "write": [...]}; `io`: {"a", "b", "ports": [(first,
        last)]}."""
    # Events.
    def events(self, since: int = 0) -> list[TraceEvent]: ...
    def last_events(self, count: int, kinds: Iterable[str] = ()) -> list[TraceEvent]: ...
    def event_count(self) -> int: ...
    def start_trace(self) -> None:
        """From here on no event is lost: `run` comes back with `attention` before the ring overflows."""
    def drain_trace(self) -> list[TraceEvent]: ...
    def stop_trace(self) -> None: ...
    # Devices.
    def take_serial(self) -> bytes: ...
    def take_debugcon(self) -> bytes: ...
    def serial_input(self, data: bytes) -> int:
        """Gives the number of bytes that found room."""
    def serial_interrupts_on_input(self) -> bool:
        """Whether the guest has asked COM1 for an interrupt when a byte arrives."""

def fields() -> list[FieldInfo]:
    """The whole field table."""

def field(name_or_encoding: str | int) -> FieldInfo: ...
def reasons() -> list[ReasonInfo]: ...
def reason(name_or_number: str | int) -> ReasonInfo:
    """Raises `Error` for an unknown one, with the nearest names."""

def error_text(number: int) -> str:
    """A VM-instruction error in words."""

def rules() -> list[RuleInfo]: ...
def describe(field: str, value: int) -> list[str]:
    """What a value of the field means."""

def qualification(reason: int, value: int, interruption: int = 0) -> list[tuple[str, str]]:
    """An exit qualification decoded: (name, meaning)."""

def check_vmcs(fields: dict[str, int], profile: CpuProfile) -> list[BrokenRule]:
    """Which rules a VMCS from anywhere breaks, on a processor with these capabilities."""
