"""A stub as QEMU's is on KVM, as far as that is awkward for who borrows the processor.

* Registers are KVM's: p answers with what they were at the last g, and what P writes before a g is lost.
* A step from a hardware breakpoint reports the breakpoint again, and goes nowhere.
* The step after one of an instruction that KVM emulates goes nowhere, as where Bochs is the processor.
* To remove a breakpoint that is not there is an error.
* When the machine ends, the connection does, without a word.
"""

from __future__ import annotations

import inspect

from gdbvmx.remote import Server
from gdbvmx.remote.arguments import PacketError
from gdbvmx.remote.handlers import find_stock
from gdbvmx.remote.handlers.table import Answer, Handler
from gdbvmx.remote.registers import linear_ip
from gdbvmx.remote.session import Session

# VMREAD, VMWRITE and RDMSR, after a prefix or none.
_EMULATED = (b"\x0f\x78", b"\x0f\x79", b"\x0f\x32")
_HARDWARE = b"1,"
_STOPPED = b"T05thread:01;"


class KvmLikeServer(Server):
    def __init__(self, *arguments, **options) -> None:
        super().__init__(*arguments, stock=True, **options)
        self._breakpoints: set[bytes] = set()
        self._told: dict[bytes, bytes] | None = None
        """Registers as they were at the last g, if the processor has run since."""
        self._reports = False
        self._find = self._find_awkward

    def _find_awkward(self, packet: bytes) -> tuple[Handler | None, bytes]:
        handler, rest = find_stock(packet)
        awkward = {
            b"g": self._read_all, b"p": self._read, b"P": self._write,
            b"Z": self._insert, b"z": self._remove, b"q": self._monitor,
            b"s": self._step, b"vCont;s": self._step, b"c": self._go_on, b"vCont;c": self._go_on,
        }  # fmt: skip
        kind = packet[: 7 if packet.startswith(b"vCont;") else 1]
        if handler is None or kind not in awkward:
            return handler, rest

        def call(session: Session, arguments: bytes) -> Answer:
            return awkward[kind](handler, session, arguments)

        return call, rest

    def _read_all(self, handler: Handler, session: Session, arguments: bytes) -> Answer:
        self._told = None
        return handler(session, arguments)

    def _read(self, handler: Handler, session: Session, arguments: bytes) -> Answer:
        if self._told is None:
            return handler(session, arguments)
        return self._told[arguments]

    def _write(self, handler: Handler, session: Session, arguments: bytes) -> Answer:
        return handler(session, arguments) if self._told is None else b"OK"

    def _insert(self, handler: Handler, session: Session, arguments: bytes) -> Answer:
        if arguments.startswith(_HARDWARE):
            self._breakpoints.add(arguments)
        return handler(session, arguments)

    def _remove(self, handler: Handler, session: Session, arguments: bytes) -> Answer:
        if arguments.startswith(_HARDWARE):
            if arguments not in self._breakpoints:
                raise PacketError("there is no such breakpoint", 0x22)
            self._breakpoints.remove(arguments)
        return handler(session, arguments)

    def _step(self, handler: Handler, session: Session, arguments: bytes) -> Answer:
        rip = linear_ip(session.core, session.world)
        if self._reports or b"1,%x,1" % rip in self._breakpoints:
            self._reports = False
            return _STOPPED
        self._reports = any(code in session.core.read_memory(rip, 3) for code in _EMULATED)
        return self._go_on(handler, session, arguments)

    def _go_on(self, handler: Handler, session: Session, arguments: bytes) -> Answer:
        if self._told is None:
            registers = session.registers
            self._told = {
                b"%x" % number: registers.encode(register, session.world)
                for number, register in enumerate(registers.registers)
            }
        return self._until_it_ends(handler(session, arguments))

    async def _until_it_ends(self, answer: Answer) -> bytes | None:
        told = await answer if inspect.isawaitable(answer) else answer
        if told is not None and told.startswith(b"W"):
            raise ConnectionResetError
        return told

    def _monitor(self, handler: Handler, session: Session, arguments: bytes) -> Answer:
        if arguments == b"," + b"info kvm".hex().encode():
            return b"kvm support: enabled\n".hex().encode()
        return handler(session, arguments)
