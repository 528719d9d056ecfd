"""The methods of the `qgdbvmx.call` packet: what the plugin asks, and `monitor vmx` too.

Parameters and results are JSON values; numbers are plain. A method is a function of the call and its
parameters. Each belongs to an ability, and a target has an ability or has it not: see `plugin.target`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import gdbvmx
from gdbvmx import _core
from gdbvmx.trace import show, stats

from .arguments import PacketError
from .threads import World

if TYPE_CHECKING:
    from gdbvmx._core import TraceEvent

    from .session import Session


@dataclass(frozen=True, slots=True)
class Call:
    """Who asks, and the world that the question is about."""

    session: Session
    world: World

    @property
    def core(self) -> _core.Machine:
        return self.session.core


Method = Callable[..., Any]
_METHODS: dict[str, tuple[str, Method]] = {}


def call(session: Session, name: str, params: Mapping[str, Any]) -> Any:
    """Calls a method. `thread` among the parameters names the world; else it is the selected one.

    Raises PacketError or `_core.Error`.
    """
    if name not in _METHODS:
        raise PacketError(f"this server has no method {name}")
    rest = {key: value for key, value in params.items() if key != "thread"}
    thread = params.get("thread")
    try:
        world = session.world if thread is None else session.threads.world(thread)
        return _METHODS[name][1](Call(session, world), **rest)
    except (TypeError, ValueError, OverflowError) as error:
        raise PacketError(f"{name}: {error}") from error


def _method(ability: str) -> Callable[[Method], Method]:
    def register(method: Method) -> Method:
        _METHODS[method.__name__] = (ability, method)
        return method

    return register


@_method("info")
def abilities(call: Call) -> list[str]:
    return sorted({ability for ability, _ in _METHODS.values()})


@_method("info")
def info(call: Call) -> dict[str, Any]:
    core = call.core
    return {
        "version": gdbvmx.__version__,
        "cpu": core.profile.name,
        "memory": core.memory,
        "instructions": core.instructions(),
        "vcpus": [core.vmx_info(vcpu) for vcpu in range(core.cpus)],
        "worlds": core.worlds(),
        "forced": core.forced(),
    }


@_method("info")
def last_stop(call: Call) -> dict[str, Any]:
    """Why the machine stands still. At a catchpoint: with the event that it caught."""
    stop = call.session.halt.stop
    return {**stop, "event": _caught(call, stop["catch"]) if stop["kind"] == "catch" else None}


# What each kind of catchpoint catches.
_CAUGHT = {
    "entry": ("entry",),
    "exit": ("exit", "entry_failure"),
    "fail": ("entry_failure", "vmfail"),
    "field": ("vmcs_write",),
}


def _caught(call: Call, number: int) -> dict[str, Any] | None:
    """The event that stopped the machine: the newest of its kind."""
    kinds = [catch["kind"] for catch in call.core.catches() if catch["number"] == number]
    newest = call.core.last_events(1, _CAUGHT[kinds[0]]) if kinds else []
    return _explained(newest[0]) if newest else None


@_method("code")
def code_bits(call: Call) -> int:
    return call.core.code_bits(*call.world)


# Tables.


@_method("tables")
def fields(call: Call) -> Sequence[Mapping[str, Any]]:
    return _core.fields()


@_method("tables")
def reasons(call: Call) -> Sequence[Mapping[str, Any]]:
    return _core.reasons()


@_method("tables")
def reason(call: Call, name: str | int) -> Mapping[str, Any]:
    return _core.reason(name)


@_method("tables")
def describe(call: Call, field: str, value: int) -> list[str]:
    return _core.describe(field, value)


@_method("tables")
def qualification(call: Call, reason: int, value: int, interruption: int = 0) -> list[tuple[str, str]]:
    return _core.qualification(reason, value, interruption)


@_method("tables")
def capabilities(call: Call) -> Sequence[Mapping[str, Any]]:
    return call.core.profile.capabilities()


# The VMCS. A guest's own, or the current one where the world is the host.


@_method("vmcs")
def vmcs(call: Call) -> Sequence[Mapping[str, Any]]:
    return call.core.vmcs(*call.world)


@_method("vmcs")
def vmcs_seen(call: Call) -> None:
    call.core.vmcs_seen(*call.world)


@_method("vmcs")
def read_field(call: Call, field: str) -> int:
    return call.core.read_vmcs(field, *call.world)


@_method("vmcs-write")
def write_field(call: Call, field: str, value: int) -> None:
    call.core.write_vmcs(field, value, *call.world)


@_method("rules")
def check(call: Call) -> Sequence[Mapping[str, Any]]:
    return call.core.check_entry(*call.world)


@_method("rules")
def why(call: Call) -> Mapping[str, Any] | None:
    return call.core.why(call.world.vcpu)


@_method("bitmaps")
def bitmap(call: Call, which: str) -> dict[str, Any]:
    return call.core.bitmap(which, *call.world)


@_method("walk")
def walk(call: Call, address: int, access: str = "read") -> Mapping[str, Any]:
    return call.core.walk(address, *call.world, access=access)


@_method("walk")
def walk_ept(call: Call, address: int, access: str = "read") -> Mapping[str, Any]:
    return call.core.walk_ept(address, *call.world, access=access)


# Events.


@_method("events")
def last_events(call: Call, count: int, kinds: Sequence[str] = ()) -> Sequence[Mapping[str, Any]]:
    return call.core.last_events(count, kinds)


@_method("events")
def exits(call: Call, count: int) -> list[dict[str, Any]]:
    """The last VM exits and failed VM entries, each with its qualification decoded (`details`)."""
    return [_explained(event) for event in call.core.last_events(count, ("exit", "entry_failure"))]


def _explained(event: TraceEvent) -> dict[str, Any]:
    decoded: list[tuple[str, str]] = []
    if "reason" in event and "qualification" in event:
        information = event.get("interruption_info", 0)
        decoded = _core.qualification(event["reason"], event["qualification"], information)
    return {**event, "details": decoded}


@_method("catch")
def add_catch(call: Call, kind: str, numbers: Sequence[int] | None = None) -> int:
    return call.core.add_catch(kind, numbers)


@_method("catch")
def delete_catch(call: Call, number: int) -> bool:
    return call.core.delete_catch(number)


@_method("catch")
def catches(call: Call) -> list[dict[str, Any]]:
    return call.core.catches()


@_method("force")
def force(call: Call, reason: int, fields: Mapping[str, int]) -> None:
    call.core.force(reason, **fields)


@_method("force")
def force_vmfail(call: Call, error: int) -> None:
    call.core.force_vmfail(error)


# The trace that a client asks for.


@_method("trace")
def trace_start(call: Call) -> None:
    call.session.debuggee.recorder.start()


@_method("trace")
def trace_stop(call: Call) -> None:
    call.session.debuggee.recorder.stop()


@_method("trace")
def trace_status(call: Call) -> dict[str, Any]:
    recorder = call.session.debuggee.recorder
    return {"running": recorder.running, "events": recorder.count}


@_method("trace")
def trace_lines(call: Call, offset: int) -> dict[str, Any] | None:
    """A piece of the trace file, and where the next begins; None if nothing was recorded."""
    piece = call.session.debuggee.recorder.lines(offset)
    return None if piece is None else {"text": piece[0], "next": piece[1]}


@_method("trace")
def trace_show(call: Call, count: int) -> list[str] | None:
    trace = call.session.debuggee.recorder.trace()
    return None if trace is None else [show.HEADING, *map(show.line, trace.events[-count:])]


@_method("trace")
def trace_stats(call: Call, by: str = "reason") -> dict[str, Any] | None:
    if by not in stats.KEYS:
        raise PacketError(f"cannot count by {by}; expected {', '.join(stats.KEYS)}")
    trace = call.session.debuggee.recorder.trace()
    if trace is None:
        return None
    result = stats.summarise(trace.events, by)
    return {"kinds": result.kinds, "rows": [asdict(row) for row in result.rows]}
