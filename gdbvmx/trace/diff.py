"""Two traces compared: each guest's entries and exits in turn, not by the clock.

A guest is a VMCS on a vCPU; those of the two traces belong together by the order in which they first appear,
so neither the addresses of the VMCSs nor how the guests take turns matters. A field that one of the two
events lacks, as in traces from other machines, is not compared.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase as fnmatch

from .events import Event

# What is compared unless more is asked for: the transitions, which every recorder sees.
KINDS = ("entry", "exit", "entry_failure", "vmfail")

# What is compared of an event.
COMPARED = (
    "kind", "reason", "qualification", "guest_rip", "guest_linear", "guest_physical", "interruption_info",
    "instruction_length", "rule", "field", "value",
)  # fmt: skip

# Exits whose moment is the clock's: two machines cannot agree on it.
TIMED = ("external-interrupt", "interrupt-window", "nmi-window", "preemption-timer")

# The name of what only some processors tell: bits 11:9 of an EPT violation's qualification (SDM 28.2.1).
ADVANCED = "advanced-ept-information"
_EPT_VIOLATION, _ADVANCED_BITS = 48, 0xE00

# What is left out unless all is wanted.
DECLARED = (*TIMED, ADVANCED)

# How far the two may differ before they are said to have parted for good, in events, and how many alike in
# sequence show that they have met again.
_REACH = 128
_MEETING = 4
_SKIPS = sorted(
    ((x, total - x) for total in range(1, _REACH) for x in range(total + 1)),
    key=lambda skip: (sum(skip), abs(skip[0] - skip[1])),
)


@dataclass(frozen=True)
class Difference:
    """The guest that is the `number`-th VMCS of `vcpu` does `a` in the one trace and `b` in the other.

    Either can be empty. `met` says that both go on alike then; else `a` and `b` are all that is left.
    `before` are the last events of the first trace that both have, `alike` how many these are in all.
    """

    vcpu: int
    number: int
    alike: int
    before: Sequence[Event]
    a: Sequence[Event]
    b: Sequence[Event]
    met: bool

    @property
    def fields(self) -> tuple[str, ...]:
        """In what the first of each differ; empty where one has none."""
        return tuple(_unlike(self.a[0], self.b[0], frozenset())) if self.a and self.b else ()

    @property
    def icount(self) -> int:
        """When it happened: of the event that has no counterpart, or of the last that both have."""
        return (*self.a, *self.b, *self.before[-1:])[0].icount


@dataclass
class Comparison:
    """What `compare` found. `reasons` counts exits by reason in each trace, those left out included."""

    compared: int = 0
    left_out: Counter[str] = field(default_factory=Counter)
    differences: list[Difference] = field(default_factory=list)
    reasons: dict[str, tuple[int, int]] = field(default_factory=dict)

    @property
    def first(self) -> Difference | None:
        """The difference that came first on the clock of the first trace."""
        return min(self.differences, key=lambda difference: difference.icount, default=None)


def compare(
    a: Sequence[Event],
    b: Sequence[Event],
    ignored: Iterable[str] = DECLARED,
    kinds: Iterable[str] = KINDS,
    context: int = 5,
) -> Comparison:
    """Compares the events `a` and `b`.

    `ignored` are names: of exit reasons, of fields of events, and of VMCS fields, these with `*` for many;
    and ADVANCED.
    """
    ignored, kinds = frozenset(ignored), frozenset(kinds)
    result = Comparison()
    guests = [_guests(events, ignored, kinds, result.left_out) for events in (a, b)]
    for key in dict.fromkeys((*guests[0], *guests[1])):
        ours, theirs = (found.get(key, []) for found in guests)
        result.compared += max(len(ours), len(theirs))
        result.differences.extend(_differences(key, ours, theirs, ignored, context))
    counts = [Counter(_reason(event) for event in events if event.kind == "exit") for events in (a, b)]
    result.reasons = {reason: (counts[0][reason], counts[1][reason]) for reason in counts[0] | counts[1]}
    return result


def _reason(event: Event) -> str:
    return event.name or str(event.reason)


def _guests(
    events: Iterable[Event], ignored: frozenset[str], kinds: frozenset[str], left_out: Counter[str]
) -> dict[tuple[int, int], list[Event]]:
    """The events to compare, by vCPU and by which of its VMCSs."""
    numbers: dict[int, dict[int | None, int]] = {}
    guests: dict[tuple[int, int], list[Event]] = {}
    resumes: set[tuple[int, int]] = (
        set()
    )  # guests whose next entry only goes on after an exit that is left out
    for event in events:
        if event.kind not in kinds or (event.field and any(fnmatch(event.field, word) for word in ignored)):
            continue
        known = numbers.setdefault(event.vcpu, {})
        key = event.vcpu, known.setdefault(event.vmcs, len(known))
        if event.kind == "exit" and not ignored.isdisjoint((_reason(event), str(event.reason))):
            left_out[_reason(event)] += 1
            resumes.add(key)
        elif event.kind == "entry" and key in resumes:
            resumes.discard(key)
        else:
            guests.setdefault(key, []).append(event)
    return guests


def _unlike(a: Event, b: Event, ignored: frozenset[str]) -> Iterator[str]:
    """The fields in which the two differ."""
    for name in COMPARED:
        if name not in ignored:
            ours, theirs = (_value(event, name, ignored) for event in (a, b))
            if ours is not None and theirs is not None and ours != theirs:
                yield name


def _value(event: Event, name: str, ignored: frozenset[str]) -> object:
    value = getattr(event, name)
    if name == "qualification" and value and event.reason == _EPT_VIOLATION and ADVANCED in ignored:
        return value & ~_ADVANCED_BITS
    return value


def _differences(
    key: tuple[int, int], a: Sequence[Event], b: Sequence[Event], ignored: frozenset[str], context: int
) -> Iterator[Difference]:
    def alike(i: int, j: int) -> bool:
        return next(_unlike(a[i], b[j], ignored), None) is None

    def meet(i: int, j: int) -> bool:
        """Whether the two go on alike from `a[i]` and `b[j]`, or both end there."""
        length = min(_MEETING, max(len(a) - i, len(b) - j))
        return (
            i + length <= len(a) and j + length <= len(b) and all(alike(i + k, j + k) for k in range(length))
        )

    i = j = same = 0
    while i < len(a) or j < len(b):
        if i < len(a) and j < len(b) and alike(i, j):
            i, j, same = i + 1, j + 1, same + 1
            continue
        # The nearest place where both go on alike: the fewest events passed over in both together.
        met = next(((i + x, j + y) for x, y in _SKIPS if meet(i + x, j + y)), None)
        end_a, end_b = met or (len(a), len(b))
        yield Difference(*key, same, a[max(0, i - context) : i], a[i:end_a], b[j:end_b], met is not None)
        i, j = end_a, end_b
