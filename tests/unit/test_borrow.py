"""Borrowing a processor: whatever happens, code, registers, memory and breakpoints are as they were."""

from __future__ import annotations

import pytest

from gdbvmx.plugin.target import TargetError
from gdbvmx.plugin.target.foreign.borrow import Borrower
from gdbvmx.plugin.target.foreign.stub import Stub

REGISTERS = (
    *"rax rbx rcx rdx rsi rdi rbp rsp r8 r9 r10 r11 r12 r13 r14 r15 rip eflags cs".split(),
    *"cr0 cr3 cr4 efer".split(),
)
NUMBERS = {name: number for number, name in enumerate(REGISTERS)}
DESCRIPTION = "".join(f'<reg name="{name}" bitsize="64"/>' for name in REGISTERS)
# The registers as instructions number them.
OPERANDS = "rax rcx rdx rbx rsp rbp rsi rdi r8 r9 r10 r11 r12 r13 r14 r15".split()

RIP, RSP, POINTER = 0x100, 0x200, 0x124000
FIELDS = {0x6C16: 0x1011E4, 0x681E: 0x40000010, 0x4402: 30}
START = {
    **{name: 0x11 * number for name, number in NUMBERS.items()},
    **{"rip": RIP, "rsp": RSP, "eflags": 2, "cs": 8, "cr0": 1, "cr4": 1 << 13, "efer": 1 << 10},
}


class Processor:
    """A stub in front of a hypervisor's processor, which knows the instructions that borrowing takes.

    At a hardware breakpoint it does not step. `interrupted`: the number of the packet at whose answer the
    user interrupts, before it is carried out where it takes a breakpoint away.
    """

    def __init__(self, interrupted: int | None = None) -> None:
        self.registers = dict(START)
        self.memory = bytearray(range(256)) * 4
        self.breakpoints = {RIP}
        self.left = interrupted

    def state(self) -> tuple[object, ...]:
        return self.registers, self.memory, self.breakpoints

    def send(self, packet: bytes) -> bytes | None:
        if self.left is not None:
            self.left -= 1
        now = self.left == 0
        if now and packet.startswith(b"z"):
            raise KeyboardInterrupt
        answer = self._answer(packet.decode())
        if now:
            raise KeyboardInterrupt
        return None if answer is None else answer.encode()

    def _answer(self, packet: str) -> str | None:
        if packet.startswith("qXfer"):
            offset, length = (int(word, 16) for word in packet.split(":")[-1].split(","))
            text = f"<target>{DESCRIPTION}</target>"[offset:]
            return ("l" if len(text) <= length else "m") + text[:length]
        if packet == "qC":
            return "QC1"
        if packet == "qqemu.sstep":
            return "0x3"
        if packet == "g":
            return "".join(self.registers[name].to_bytes(8, "little").hex() for name in REGISTERS)
        if packet.startswith("vCont;s"):
            if self.registers["rip"] not in self.breakpoints:
                self._step()
            return "T05"
        kind, place, *rest = packet[0], *packet[1:].replace("=", ",").replace(":", ",").split(",")
        at = int(place, 16)
        if kind == "P":
            self.registers[REGISTERS[at]] = int.from_bytes(bytes.fromhex(rest[0]), "little")
        elif kind == "m":
            return self.memory[at : at + int(rest[0], 16)].hex()
        elif kind == "M":
            self.memory[at : at + int(rest[0], 16)] = bytes.fromhex(rest[1])
        elif kind in "Zz":
            address = int(rest[0], 16)
            if kind == "z" and address not in self.breakpoints:
                return "E22"
            (self.breakpoints.add if kind == "Z" else self.breakpoints.remove)(address)
        else:
            return None
        return "OK"

    def _step(self) -> None:
        registers = self.registers
        code = bytes(self.memory[registers["rip"] :][:5])
        high = 8 if code[0] == 0x45 else 0
        code = code[bool(high) :]
        length = 2
        registers["eflags"] = 2
        if code[:2] == b"\x0f\x78":
            name = OPERANDS[high + (code[2] & 7)]
            field = FIELDS.get(registers[name])
            registers["eflags"] |= 0 if field is not None else 1 << 6
            registers[name] = registers[name] if field is None else field
            length = 3 + bool(high)
        elif code[:2] == b"\x0f\x32":
            registers["rax"], registers["rdx"] = registers["rcx"], 0xD8
        elif code[:5] == b"\x0f\xc7\x7c\x24\xf8":
            self.memory[RSP - 8 : RSP] = POINTER.to_bytes(8, "little")
            length = 5
        elif code[0] == 0xEB:
            length = 2 + int.from_bytes(code[1:2], "little", signed=True)
        else:
            registers["rip"] = 0xBAD
            return
        registers["rip"] += length


def borrow(processor: Processor) -> tuple[object, ...]:
    with Borrower(Stub(processor.send)).borrowed() as loan:
        fields = loan.read_fields([*FIELDS, 0x4828])
        return fields, loan.read_msr(0x480), loan.read_pointer()


def test_what_it_reads() -> None:
    processor = Processor()
    assert borrow(processor) == ([*FIELDS.values(), None], 0xD8_0000_0480, POINTER)
    assert processor.state() == Processor().state()


def test_an_interrupt_at_any_packet_leaves_nothing() -> None:
    count = 0
    while True:
        count += 1
        processor = Processor(interrupted=count)
        try:
            borrow(processor)
        except KeyboardInterrupt:
            assert processor.state() == Processor().state(), f"packet {count}"
        else:
            break
    assert count > 40


def test_a_processor_that_goes_astray_gets_its_code_back(monkeypatch: pytest.MonkeyPatch) -> None:
    processor = Processor()
    monkeypatch.setattr(processor, "_step", lambda: processor.registers.update(rip=0x300))
    with pytest.raises(TargetError, match="went to 0x300 instead of"):
        borrow(processor)
    assert processor.memory == Processor().memory
    assert processor.breakpoints == Processor().breakpoints
    assert processor.registers == {**START, "rip": 0x300}


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"cr4": 0}, "CR4.VMXE is 0"),
        ({"cr0": 0}, "real-address mode"),
        ({"cs": 0x2B}, "CPL 3"),
        ({"eflags": 0x102}, "RFLAGS.TF is 1"),
    ],
)
def test_where_it_is_not_borrowed(changed: dict[str, int], why: str) -> None:
    processor = Processor()
    processor.registers.update(changed)
    with pytest.raises(TargetError, match=why):
        borrow(processor)
    assert processor.registers == {**START, **changed}
