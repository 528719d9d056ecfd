"""The registers that the stub shows, in GDB's order: those that gdb knows, then the system's and VMX's.

A row says how a register is called, how wide it is, where its value comes from and how gdb shows it. The
target description, `g`, `p` and `P` are all made from these rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from gdbvmx import _core

from .threads import World

Reader = Callable[[_core.Machine, World], int]
Writer = Callable[[_core.Machine, World, int], None]


@dataclass(frozen=True, slots=True)
class Register:
    """`type` is one of gdb's, or the id of one in `register_types.py`; `bits` the width in the packets.

    `core` is the core's name for it, if it is one of the core's: a CPU profile need not have it.
    """

    name: str
    bits: int
    type: str
    group: str
    read: Reader
    write: Writer | None = None
    core: str | None = None


@dataclass(frozen=True, slots=True)
class Feature:
    """A set of registers. Those with gdb's own names are known to gdb, the others are shown as described."""

    name: str
    registers: tuple[Register, ...]


def _plain(name: str, bits: int, type: str, group: str, core_name: str | None = None) -> Register:
    """A register of the core, under gdb's name for it."""
    known_as = core_name or name

    def read(machine: _core.Machine, world: World) -> int:
        return machine.read_register(known_as, world.vcpu, world.vmcs)

    def write(machine: _core.Machine, world: World, value: int) -> None:
        machine.write_register(known_as, value, world.vcpu, world.vmcs)

    return Register(name, bits, type, group, read, write, known_as)


def linear_ip(machine: _core.Machine, world: World) -> int:
    """The linear address of the world's next instruction.

    gdb compares its `$pc` with the addresses of symbols and breakpoints and reads code there, so this is
    what it gets for RIP, which is an offset where CS has a base: in real-address and virtual-8086 mode, and
    in segments.
    """
    return _with_base(machine, world, machine.read_register("rip", world.vcpu, world.vmcs), 1)


def set_linear_ip(machine: _core.Machine, world: World, value: int) -> None:
    """Has the world go on at the linear address `value`."""
    machine.write_register("rip", _with_base(machine, world, value, -1), world.vcpu, world.vmcs)


def _with_base(machine: _core.Machine, world: World, address: int, sign: int) -> int:
    if machine.code_bits(world.vcpu, world.vmcs) == 64:
        return address
    try:
        base = machine.read_register("cs_base", world.vcpu, world.vmcs)
    except _core.Error:
        base = 0  # that of a suspended host, into which exits load it (SDM 28.5.2)
    return address + sign * base & 0xFFFF_FFFF


def _field(name: str, type: str) -> Register:
    """A field of the world's own VMCS, or of the vCPU's current one where the world is the host."""
    width = _core.field(name)["width"]

    def read(machine: _core.Machine, world: World) -> int:
        return machine.read_vmcs(name, world.vcpu, world.vmcs)

    def write(machine: _core.Machine, world: World, value: int) -> None:
        machine.write_vmcs(name, value, world.vcpu, world.vmcs)

    return Register(name, width, type, "system", read, write)


def _vmx(name: str, bits: int, type: str, read: Callable[[dict[str, Any]], int]) -> Register:
    """A piece of the vCPU's VMX state, read only."""
    return Register(name, bits, type, "system", lambda machine, world: read(machine.vmx_info(world.vcpu)))


_GENERAL = "rax rbx rcx rdx rsi rdi rbp rsp r8 r9 r10 r11 r12 r13 r14 r15".split()
_POINTERS = {"rbp": "data_ptr", "rsp": "data_ptr"}
_SELECTORS = "cs ss ds es fs gs".split()
_X87 = "fctrl fstat ftag fiseg fioff foseg fooff fop".split()
_SEGMENTS = [*_SELECTORS, "ldtr", "tr"]
# The modes that `vmx_info` names, in the order of the values of the type vmx_mode.
MODES = ("off", "root", "non-root")

_CORE = (
    *(_plain(name, 64, _POINTERS.get(name, "int64"), "general") for name in _GENERAL),
    Register("rip", 64, "code_ptr", "general", linear_ip, set_linear_ip, "rip"),
    _plain("eflags", 32, "i386_eflags", "general"),
    *(_plain(name, 32, "int32", "general") for name in _SELECTORS),
    *(_plain(f"st{number}", 80, "i387_ext", "float") for number in range(8)),
    *(_plain(name, 32, "int", "float") for name in _X87),
)
_SSE = (
    *(_plain(f"xmm{number}", 128, "vec128", "vector") for number in range(16)),
    _plain("mxcsr", 32, "i386_mxcsr", "vector"),
)
_AVX = tuple(_plain(f"ymm{number}h", 128, "uint128", "vector", f"ymmh{number}") for number in range(16))
_PKEYS = (_plain("pkru", 32, "uint32", "system"),)
# RIP as the processor has it.
_OFFSET = _plain("cs_offset", 64, "uint64", "system", "rip")
_BASES = (_plain("fs_base", 64, "int", "general"), _plain("gs_base", 64, "int", "general"))


def _segment_registers() -> Iterator[Register]:
    for name in ("ldtr", "tr"):
        yield _plain(name, 16, "uint16", "system")
    for name in _SEGMENTS:
        if name not in ("fs", "gs"):  # gdb has these two in a feature of its own
            yield _plain(f"{name}_base", 64, "uint64", "system")
    for name in _SEGMENTS:
        yield _plain(f"{name}_limit", 32, "uint32", "system")
        yield _plain(f"{name}_rights", 32, "access_rights", "system")
    for name in ("gdtr", "idtr"):
        yield _plain(f"{name}_base", 64, "uint64", "system")
        yield _plain(f"{name}_limit", 16, "uint16", "system")


_SYSTEM = (
    _plain("cr0", 64, "cr0", "system"),
    _plain("cr2", 64, "uint64", "system"),
    _plain("cr3", 64, "uint64", "system"),
    _plain("cr4", 64, "cr4", "system"),
    _plain("cr8", 64, "uint64", "system"),
    _plain("efer", 64, "efer", "system"),
    _plain("xcr0", 64, "uint64", "system"),
    _plain("xss", 64, "uint64", "system"),
    *(_plain(name, 64, "uint64", "system") for name in ("ssp", "u_cet", "s_cet")),
    *(_plain(f"dr{number}", 64, "uint64", "system") for number in (0, 1, 2, 3, 6, 7)),
    _plain("cpl", 8, "uint8", "system"),
)


def _vmx_registers() -> Iterator[Register]:
    yield _vmx("vmx_mode", 8, "vmx_mode", lambda info: MODES.index(info["mode"]))
    yield _vmx("vmxon_pointer", 64, "uint64", lambda info: _pointer(info["vmxon"]))
    yield _vmx("vmcs_pointer", 64, "uint64", lambda info: _pointer(info["current"]))
    yield _field("exit_reason", "exit_reason")
    yield _field("exit_qualification", "uint64")
    yield _field("vm_instruction_error", "uint32")
    for name in CONTROLS:
        yield _field(name, name)


# Control words that are shown as flags.
CONTROLS = (
    "pin_based_controls",
    "primary_processor_based_controls",
    "secondary_processor_based_controls",
    "exit_controls",
    "entry_controls",
)


def _pointer(address: int | None) -> int:
    """No current VMCS and no VMXON region read as all ones, as VMPTRST stores it (SDM 31.3)."""
    return (1 << 64) - 1 if address is None else address


def _features() -> Iterator[Feature]:
    yield Feature("org.gnu.gdb.i386.core", _CORE)
    yield Feature("org.gnu.gdb.i386.sse", _SSE)
    yield Feature("org.gnu.gdb.i386.avx", _AVX)
    yield Feature("org.gnu.gdb.i386.pkeys", _PKEYS)
    yield Feature("org.gnu.gdb.i386.segments", _BASES)
    yield Feature("org.gdbvmx.segments", (*_segment_registers(), _OFFSET))
    yield Feature("org.gdbvmx.system", _SYSTEM)
    yield Feature("org.gdbvmx.vmx", tuple(_vmx_registers()))


class RegisterFile:
    """The registers of a machine by gdb's numbers: the place in the order of the features."""

    def __init__(self, machine: _core.Machine) -> None:
        there = {name for name, _ in machine.register_names()}
        described = (
            Feature(
                feature.name, tuple(row for row in feature.registers if not row.core or row.core in there)
            )
            for feature in _features()
        )
        self.features = [feature for feature in described if feature.registers]
        self.registers = [register for feature in self.features for register in feature.registers]
        # `g` carries what gdb wants at every stop; it asks for the others one by one, with `p`.
        self.in_g = sum(
            len(feature.registers) for feature in self.features if feature.name.startswith("org.gnu.gdb.")
        )
        self._machine = machine

    def encode(self, register: Register, world: World) -> bytes:
        """The value in hexadecimal, lowest byte first; `x` for each digit where there is none to be had."""
        size = register.bits // 8
        try:
            value = register.read(self._machine, world)
        except _core.Error:
            return b"xx" * size
        return (value & (1 << register.bits) - 1).to_bytes(size, "little").hex().encode()

    def encode_all(self, world: World) -> bytes:
        return b"".join(self.encode(register, world) for register in self.registers[: self.in_g])

    def sizes_in_g(self) -> Iterable[tuple[Register, int]]:
        for register in self.registers[: self.in_g]:
            yield register, register.bits // 8
