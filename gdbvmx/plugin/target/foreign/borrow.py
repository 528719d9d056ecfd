"""The VMCS of a processor that runs elsewhere, read by borrowing it.

A stopped hypervisor's processor executes VMREAD, VMWRITE or RDMSR for us: the instructions are placed at its
RIP with a jump back behind them, stepped over, and everything is put back. RIP itself is never written: KVM
would not step from there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager

from .. import TargetError
from .stub import Stub, surely

_CF, _ZF, _TF, _IF = 1 << 0, 1 << 6, 1 << 8, 1 << 9
_CR0_PE, _CR4_VMXE, _EFER_LMA = 1 << 0, 1 << 13, 1 << 10

_NO_VMCS = (1 << 64) - 1

# How often in a row a step may do nothing. An instruction that KVM emulates leaves the report of its step
# pending where the processor beneath is Bochs's; a breakpoint is reported before its instruction.
_REPORTS = 8

# The registers that values go through, with their numbers in the encoding. RSP may be needed by an exception.
_REGISTERS = {
    "rax": 0, "rcx": 1, "rdx": 2, "rbx": 3, "rbp": 5, "rsi": 6, "rdi": 7, "r8": 8, "r9": 9, "r10": 10,
    "r11": 11, "r12": 12, "r13": 13, "r14": 14, "r15": 15,
}  # fmt: skip


class Refusal(TargetError):
    """The processor may not be borrowed."""

    def __init__(self, why: str) -> None:
        super().__init__(f"the processor cannot be borrowed: {why}")


class Borrower:
    """Borrows the processor behind `stub`."""

    def __init__(self, stub: Stub) -> None:
        self._stub = stub
        self._interrupts_masked: bool | None = None

    def refusal(self, registers: Mapping[str, int] | None = None) -> str | None:
        """Why the processor may not be borrowed now, in words; None if it may.

        `registers`: as the stub has just told them. That it is in root operation no register tells: who calls
        must know.
        """
        now = registers or self._stub.read_all()
        if not now.get("cr4", _CR4_VMXE) & _CR4_VMXE:
            return "CR4.VMXE is 0: the processor is not in VMX operation"
        if not now.get("cr0", _CR0_PE) & _CR0_PE:
            return "it is in real-address mode, where there is no VMREAD"
        if now["cs"] & 3:
            return f"it runs at CPL {now['cs'] & 3}, and VMREAD is for CPL 0"
        if now["eflags"] & _TF:
            return "RFLAGS.TF is 1: the hypervisor single-steps itself"
        if self._interrupts_masked is None:
            self._interrupts_masked = self._stub.masks_interrupts()
        if now["eflags"] & _IF and not self._interrupts_masked:
            return "RFLAGS.IF is 1 and the stub does not say that its steps hold interrupts back"
        return None

    @contextmanager
    def borrowed(self) -> Iterator[Loan]:
        """The processor where it stands, put back as it was in any case. Raises Refusal if it is not safe."""
        registers = self._stub.read_all()
        refusal = self.refusal(registers)
        if refusal:
            raise Refusal(refusal)
        loan = Loan(self._stub, registers)
        try:
            loan.begin()
            yield loan
        finally:
            loan.end()


class Loan:
    """The processor while it is borrowed; `registers` are what it had."""

    def __init__(self, stub: Stub, registers: Mapping[str, int]) -> None:
        self._stub = stub
        self._thread = stub.thread()
        self._registers = registers
        self._rip = registers["rip"]
        long_mode = registers.get("efer", _EFER_LMA) & _EFER_LMA
        self._names = [name for name, number in _REGISTERS.items() if long_mode or number < 8]
        self._code = b""
        self._places: Sequence[int] = ()
        """Where our instructions are, while the processor is on its way through them."""
        self._overwritten: dict[int, bytes] = {}
        self._changed = {"eflags"}
        self._removed: list[int] = []

    def begin(self) -> None:
        """KVM does not step from a hardware breakpoint: it reports it again."""
        self._remove_breakpoint(self._rip)

    def read_fields(self, encodings: Sequence[int]) -> list[int | None]:
        """VMREAD of each; None for a field that the processor does not have."""
        values: list[int | None] = []
        for at in range(0, len(encodings), len(self._names)):
            part = dict(zip(self._names, encodings[at : at + len(self._names)]))
            after = self._run([_vmread(name) for name in part], part)
            for name, encoding in part.items():
                # One that fails leaves the register as it was.
                there = after[name] != encoding or self._is_there(encoding)
                values.append(after[name] if there else None)
        return values

    def read_pointer(self) -> int | None:
        """VMPTRST: the physical address of the current VMCS, None if there is none.

        It goes by the 8 bytes below the stack, which are put back.
        """
        place = self._registers["rsp"] - 8
        self._overwritten[place] = self._stub.read_memory(place, 8)
        self._run([b"\x0f\xc7\x7c\x24\xf8"], {})  # VMPTRST [RSP - 8]
        pointer = int.from_bytes(self._stub.read_memory(place, 8), "little")
        return None if pointer == _NO_VMCS else pointer

    def _is_there(self, encoding: int) -> bool:
        flags = self._run([_vmread("rax")], {"rax": encoding})["eflags"]
        if flags & _CF:
            raise TargetError("VMREAD: there is no current VMCS")
        return not flags & _ZF

    def write_field(self, encoding: int, value: int) -> None:
        """VMWRITE. Raises TargetError where it fails."""
        # VMWRITE RAX, RBX
        flags = self._run([b"\x0f\x79\xc3"], {"rax": encoding, "rbx": value})["eflags"]
        if flags & (_CF | _ZF):
            why = "there is no current VMCS" if flags & _CF else "the processor does not let it be written"
            raise TargetError(f"VMWRITE of {encoding:#x}: {why}")

    def read_msr(self, address: int) -> int:
        """RDMSR of an MSR that is there: another one would raise #GP in the hypervisor."""
        after = self._run([b"\x0f\x32"], {"rcx": address})
        self._changed |= {"rax", "rdx"}
        return (after["rdx"] & 0xFFFFFFFF) << 32 | after["rax"] & 0xFFFFFFFF

    def _run(self, instructions: Sequence[bytes], values: Mapping[str, int]) -> Mapping[str, int]:
        """Runs `instructions` with these registers; gives all registers as they are after it."""
        places = [self._rip]
        for instruction in instructions:
            places.append(places[-1] + len(instruction))
        jump = bytes((0xEB, self._rip - places[-1] - 2 & 0xFF))
        self._place(b"".join(instructions) + jump)
        for name, value in values.items():
            self._changed.add(name)
            self._stub.write(name, value)
        self._places = places
        after = self._step_along(places)
        self._step_along([places[-1], self._rip])
        self._places = ()
        return after

    def end(self) -> None:
        """Puts everything back, also where an interrupt came while the processor was on its way."""
        with ExitStack() as back:  # the last comes first, and each comes whatever becomes of the others
            for address in self._removed:
                back.callback(surely, self._stub.insert_breakpoint, address)
            for name in sorted(self._changed):
                back.callback(surely, self._stub.write, name, self._registers[name])
            for address, data in self._overwritten.items():
                back.callback(surely, self._stub.write_memory, address, data)
            back.callback(surely, self._leave)

    def _leave(self) -> None:
        """Steps on to where the processor was, should it be within our code."""
        if self._places:
            rip = self._stub.read_all()["rip"]
            if rip in self._places[1:]:
                self._step_along([*self._places[self._places.index(rip) :], self._rip])
            self._places = ()

    def _place(self, code: bytes) -> None:
        """Puts `code` at RIP."""
        before = self._overwritten.get(self._rip, b"")
        known = len(before)
        if len(code) > known:
            more = self._stub.read_memory(self._rip + known, len(code) - known)
            self._overwritten[self._rip] = before + more
        if code != self._code:
            self._stub.write_memory(self._rip, code)
            self._code = code

    def _step_along(self, places: Sequence[int]) -> Mapping[str, int]:
        """Steps through instructions at these addresses; gives the registers at the last."""
        at = still = 0
        while True:
            for _ in places[at + 1 :]:
                self._stub.step(self._thread)
            registers = self._stub.read_all()
            rip = registers["rip"]
            if rip == places[-1]:
                return registers
            moved = rip in places[at + 1 :]
            still = 0 if moved else still + 1
            if rip not in places or still > _REPORTS:
                raise TargetError(
                    f"the processor went to {rip:#x} instead of {places[-1]:#x} when it was borrowed;"
                    " code and registers were put back, RIP is where it went"
                )
            if still > 1:
                self._remove_breakpoint(rip)
            at = places.index(rip)

    def _remove_breakpoint(self, address: int) -> None:
        if self._stub.remove_breakpoint(address):
            self._removed.append(address)


def _vmread(name: str) -> bytes:
    """VMREAD of the field that the register names, into the same register."""
    number = _REGISTERS[name]
    prefix = b"\x45" if number >= 8 else b""
    return prefix + bytes((0x0F, 0x78, 0xC0 | (number & 7) << 3 | number & 7))
