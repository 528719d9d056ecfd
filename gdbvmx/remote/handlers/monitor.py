"""`monitor …` (`qRcmd`): for clients without the plugin, the same commands, and the server's own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from gdbvmx import _core

from ..arguments import PacketError, unhex
from ..session import Session
from ..vmxmonitor import run_vmx
from .table import packet


class _Command(NamedTuple):
    help: str
    run: Callable[[Session, str], Iterator[str]]


def _help(session: Session, rest: str) -> Iterator[str]:
    for name, command in _COMMANDS.items():
        yield f"{name:<8} {command.help}"


def _info(session: Session, rest: str) -> Iterator[str]:
    core = session.core
    yield f"{core.cpus} vCPU of {core.profile.name}, {core.memory >> 20} MiB of RAM"
    yield f"{core.instructions()} instructions retired, clock at {core.clock()} ns"
    for thread, name in sorted(session.threads.names().items()):
        yield f"thread {thread}: {name}"


def _reset(session: Session, rest: str) -> Iterator[str]:
    session.restart()
    yield "The machine is at its first instruction again (maintenance flush register-cache shows it)."


_COMMANDS = {
    "help": _Command("this list", _help),
    "info": _Command("the machine, and its worlds as threads", _info),
    "reset": _Command("start the machine anew", _reset),
    "vmx": _Command("the commands of the gdb plugin (monitor vmx help)", run_vmx),
}


@packet(b"qRcmd")
async def monitor(session: Session, arguments: bytes) -> bytes:
    """The output goes in packets of its own, `O`, so that it may be long."""
    try:
        text = unhex(arguments.removeprefix(b",")).decode()
    except UnicodeDecodeError as error:
        raise PacketError("the command is no UTF-8") from error
    for line in _output(session, text):
        for start in range(0, len(line), 1000):
            await session.send(b"O" + line[start : start + 1000].encode().hex().encode())
    return b"OK"


def _output(session: Session, text: str) -> Iterator[str]:
    name, _, rest = text.strip().partition(" ")
    command = _COMMANDS.get(name)
    if command is None:
        yield f"There is no monitor command '{name}' (monitor help lists those there are).\n"
        return
    try:
        for line in command.run(session, rest.strip()):
            yield f"{line}\n"
    except (PacketError, _core.Error) as error:
        yield f"{error}\n"
