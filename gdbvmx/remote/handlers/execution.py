"""Going on: `vCont` with its actions, and the older `c` and `s`."""

from __future__ import annotations

from collections.abc import Awaitable, Iterator
from dataclasses import dataclass
from functools import partial

from ..arguments import PacketError, number, numbers
from ..registers import set_linear_ip
from ..session import Session
from ..threads import ALL, ANY, World, thread_id
from .table import packet

_CONTINUE, _STEP, _RANGE, _STOP = b"csrt"


@dataclass(frozen=True, slots=True)
class _Action:
    verb: int
    range: tuple[int, int]
    thread: int


@packet(b"vCont")
def resume(session: Session, arguments: bytes) -> bytes | Awaitable[bytes]:
    """A world that is to step decides; the others go on as far as that needs."""
    if arguments == b"?":
        return b"vCont;c;C;s;S;t;r"
    actions = list(_actions(arguments))
    for action in actions:
        if action.verb in (_STEP, _RANGE):
            world = session.world if action.thread in (ANY, ALL) else session.threads.world(action.thread)
            return _step(session, world, action)
    going = [action.thread for action in actions if action.verb == _CONTINUE]
    if not going:
        raise PacketError("nothing is to go on: expected an action c, C, s, S or r")
    return session.resume(partial(session.execution.proceed, _only_vcpu(session, going)))


@packet(b"c")
def go_on(session: Session, arguments: bytes) -> Awaitable[bytes]:
    _set_rip(session, arguments)
    return session.resume(session.execution.proceed)


@packet(b"C")
def go_on_with_signal(session: Session, arguments: bytes) -> Awaitable[bytes]:
    return go_on(session, arguments.partition(b";")[2])


@packet(b"s")
def step(session: Session, arguments: bytes) -> Awaitable[bytes]:
    _set_rip(session, arguments)
    return session.resume(partial(session.execution.step, session.world))


@packet(b"S")
def step_with_signal(session: Session, arguments: bytes) -> Awaitable[bytes]:
    return step(session, arguments.partition(b";")[2])


def _set_rip(session: Session, address: bytes) -> None:
    """The old packets can say where to go on."""
    if address:
        set_linear_ip(session.core, session.world, number(address))


def _step(session: Session, world: World, action: _Action) -> Awaitable[bytes]:
    if action.verb == _RANGE:
        return session.resume(partial(session.execution.step_range, world, *action.range))
    return session.resume(partial(session.execution.step, world))


def _only_vcpu(session: Session, threads: list[int]) -> int | None:
    """The vCPU that runs alone: all that go on are worlds of it (`set scheduler-locking on`)."""
    if ANY in threads or ALL in threads:
        return None
    vcpus = {session.threads.world(thread).vcpu for thread in threads}
    return vcpus.pop() if len(vcpus) == 1 else None


def _actions(arguments: bytes) -> Iterator[_Action]:
    """`;ACTION[:THREAD]…`. The signal that C and S bring is none that a machine could take."""
    for text in arguments.removeprefix(b";").split(b";"):
        verb, colon, thread = text.partition(b":")
        span = (0, 0)
        match verb[:1]:
            case b"r":
                start, end = numbers(verb[1:], 2)
                span = (start, end)
            case b"C" | b"S":
                number(verb[1:])
            case b"c" | b"s" | b"t" if len(verb) == 1:
                pass
            case _:
                raise PacketError("expected the actions c, C, s, S, t or r")
        yield _Action(verb[:1].lower()[0], span, thread_id(thread) if colon else ALL)
