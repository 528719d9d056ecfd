"""Registers of the selected world."""

from __future__ import annotations

from ..arguments import PacketError, number, unhex
from ..registers import Register
from ..session import Session
from .table import packet


@packet(b"g")
def read_all(session: Session, arguments: bytes) -> bytes:
    return session.registers.encode_all(session.world)


@packet(b"G")
def write_all(session: Session, arguments: bytes) -> bytes:
    """Writes those registers that change: the others keep what is not in the packet, such as a base."""
    have = session.registers.encode_all(session.world)
    if len(arguments) != len(have):
        raise PacketError(f"found {len(arguments)} digits, expected {len(have)}")
    position = 0
    for register, size in session.registers.sizes_in_g():
        digits = slice(position, position + 2 * size)
        if arguments[digits].lower() != have[digits] and b"x" not in arguments[digits]:
            _write(session, register, unhex(arguments[digits]))
        position += 2 * size
    return b"OK"


@packet(b"p")
def read_one(session: Session, arguments: bytes) -> bytes:
    return session.registers.encode(_register(session, arguments), session.world)


@packet(b"P")
def write_one(session: Session, arguments: bytes) -> bytes:
    which, _, value = arguments.partition(b"=")
    _write(session, _register(session, which), unhex(value))
    return b"OK"


def _register(session: Session, digits: bytes) -> Register:
    index = number(digits)
    if index >= len(session.registers.registers):
        raise PacketError(f"there is no register {index}; they end at {len(session.registers.registers) - 1}")
    return session.registers.registers[index]


def _write(session: Session, register: Register, value: bytes) -> None:
    if len(value) != register.bits // 8:
        raise PacketError(f"found {len(value)} bytes for {register.name}, expected {register.bits // 8}")
    if register.write is None:
        raise PacketError(f"{register.name} cannot be written")
    register.write(session.core, session.world, int.from_bytes(value, "little"))
