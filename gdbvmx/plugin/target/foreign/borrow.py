"""The VMCS of a processor that runs elsewhere, read by borrowing it.

A stopped hypervisor's processor executes VMREAD, VMWRITE or RDMSR for us: the instructions are placed at its
RIP with a jump back behind them, stepped over, and everything is put back. RIP itself is never written.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

from .. import TargetError
from .stub import Stub

_CF, _ZF, _TF, _IF = 1 << 0, 1 << 6, 1 << 8, 1 << 9
_CR0_PE, _CR4_VMXE, _EFER_LMA = 1 << 0, 1 << 13, 1 << 10

# How often a step may tell of a breakpoint and do nothing.
_REPORTS = 3

# The registers that values go through, with their numbers in the encoding. RSP may be needed by an exception.
_REGISTERS = {
    "rax": 0, "rcx": 1, "rdx": 2, "rbx": 3, "rbp": 5, "rsi": 6, "rdi": 7, "r8": 8, "r9": 9, "r10": 10,
    "r11": 11, "r12": 12, "r13": 13, "r14": 14, "r15": 15,
}  # fmt: skip


class VmFail(TargetError):
    """VMREAD or VMWRITE failed; `invalid`: there is no current VMCS."""

    def __init__(self, what: str, invalid: bool) -> None:
        super().__init__(what)
        self.invalid = invalid


class Borrower:
    """Borrows the processor behind `stub`. Raises TargetError, with the reason, where that is not safe."""

    def __init__(self, stub: Stub) -> None:
        self._stub = stub
        self._long_mode: bool | None = None
        self._interrupts_masked: bool | None = None

    def refusal(self) -> str | None:
        """Why the processor may not be borrowed now, in words; None if it may.

        That it is in root operation no register tells: who calls must know.
        """
        stub = self._stub
        flags = stub.read("eflags")
        if stub.has("cr4") and not stub.read("cr4") & _CR4_VMXE:
            return "CR4.VMXE is 0: the processor is not in VMX operation"
        if stub.has("cr0") and not stub.read("cr0") & _CR0_PE:
            return "it is in real-address mode, where there is no VMREAD"
        if stub.read("cs") & 3:
            return f"it runs at CPL {stub.read('cs') & 3}, and VMREAD is for CPL 0"
        if flags & _TF:
            return "RFLAGS.TF is 1: the hypervisor single-steps itself"
        if self._interrupts_masked is None:
            self._interrupts_masked = stub.masks_interrupts()
        if flags & _IF and not self._interrupts_masked:
            return "RFLAGS.IF is 1 and the stub does not say that its steps hold interrupts back"
        return None

    def forget(self) -> None:
        """The machine has run: its mode may be another."""
        self._long_mode = None

    def read_fields(self, encodings: Sequence[int]) -> list[int]:
        """VMREAD of each. Raises VmFail for one that the processor does not have."""
        values: list[int] = []
        names = self._names()
        for at in range(0, len(encodings), len(names)):
            part = encodings[at : at + len(names)]
            chosen = names[: len(part)]
            before = dict(zip(chosen, part))
            after = self._execute(b"".join(_vmread(name) for name in chosen), len(chosen), before)
            for name, encoding in zip(chosen, part):
                # One that fails leaves the register as it was.
                values.append(after[name] if after[name] != encoding else self._read_alone(encoding))
        return values

    def _read_alone(self, encoding: int) -> int:
        after = self._execute(_vmread("rax"), 1, {"rax": encoding})
        _check(after["eflags"], f"VMREAD of {encoding:#x}")
        return after["rax"]

    def write_field(self, encoding: int, value: int) -> None:
        """VMWRITE. Raises VmFail."""
        after = self._execute(b"\x0f\x79\xc3", 1, {"rax": encoding, "rbx": value})  # VMWRITE RAX, RBX
        _check(after["eflags"], f"VMWRITE of {encoding:#x}")

    def read_msr(self, address: int) -> int:
        """RDMSR of an MSR that is there: another one would raise #GP in the hypervisor."""
        after = self._execute(b"\x0f\x32", 1, {"rcx": address, "rax": 0, "rdx": 0})
        return (after["rdx"] & 0xFFFFFFFF) << 32 | after["rax"] & 0xFFFFFFFF

    def _names(self) -> list[str]:
        if self._long_mode is None:
            self._long_mode = not self._stub.has("efer") or bool(self._stub.read("efer") & _EFER_LMA)
        return [name for name, number in _REGISTERS.items() if self._long_mode or number < 8]

    def _execute(self, code: bytes, steps: int, values: dict[str, int]) -> dict[str, int]:
        """Runs `code`, `steps` instructions, with these registers; gives the registers and flags after it."""
        with self._borrowed(code + bytes((0xEB, 0x100 - len(code) - 2)), values) as (thread, rip):
            for name, value in values.items():
                self._stub.write(name, value)
            self._run(thread, steps, rip + len(code))
            after = {name: self._stub.read(name) for name in (*values, "eflags")}
            self._run(thread, 1, rip)  # the jump
            return after

    def _run(self, thread: bytes | None, steps: int, end: int) -> None:
        """Steps so often, and again where KVM only reports the breakpoint at which the processor stands."""
        for _ in range(steps):
            self._stub.step(thread)
        for _ in range(_REPORTS):
            self._stub.refresh()
            if self._stub.read("rip") == end:
                return
            self._stub.step(thread)
        raise TargetError(
            f"the processor went to {self._stub.read('rip'):#x} instead of {end:#x} when it was borrowed;"
            " code and registers were put back, RIP is where it went"
        )

    @contextmanager
    def _borrowed(self, code: bytes, names: Iterable[str]) -> Iterator[tuple[bytes | None, int]]:
        """Puts `code` where the processor is, and it and the registers `names` back in any case."""
        refusal = self.refusal()
        if refusal:
            raise TargetError(f"the processor cannot be borrowed for VMREAD: {refusal}")
        stub = self._stub
        thread = stub.thread()
        stub.refresh()
        saved = {name: stub.read(name) for name in (*names, "eflags")}
        rip = stub.read("rip")
        overwritten = stub.read_memory(rip, len(code))
        try:
            stub.write_memory(rip, code)
            yield thread, rip
        finally:
            stub.write_memory(rip, overwritten)
            for name, value in saved.items():
                stub.write(name, value)


def _vmread(name: str) -> bytes:
    """VMREAD of the field that the register names, into the same register."""
    number = _REGISTERS[name]
    prefix = b"\x45" if number >= 8 else b""
    return prefix + bytes((0x0F, 0x78, 0xC0 | (number & 7) << 3 | number & 7))


def _check(flags: int, what: str) -> None:
    if flags & _CF:
        raise VmFail(f"{what}: there is no current VMCS", True)
    if flags & _ZF:
        raise VmFail(f"{what}: the processor has no such field", False)
