"""Traces compared: what must differ is left out, what does not is found where it begins."""

from __future__ import annotations

from dataclasses import replace

from gdbvmx.trace import diff
from gdbvmx.trace.events import Event

CPUID, IO, TIMER = (10, "cpuid"), (30, "io-instruction"), (52, "preemption-timer")


def run(*exits, vmcs: int = 0x5000, vcpu: int = 0, pace: int = 10) -> list[Event]:
    """A guest that is entered and exits for each of (reason, name), at increasing addresses."""
    events = []
    rip = 0x1000
    for number, (reason, name) in enumerate(exits):
        clock = number * 2 * pace
        events.append(Event(0, clock, vcpu, "entry", vmcs=vmcs, guest_rip=rip))
        rip += 0 if (reason, name) == TIMER else 2
        events.append(
            Event(0, clock + pace, vcpu, "exit", vmcs=vmcs, reason=reason, name=name, guest_rip=rip)
        )
    return events


def test_the_same_run_on_another_clock_with_another_vmcs():
    result = diff.compare(run(CPUID, IO, CPUID), run(CPUID, IO, CPUID, vmcs=0x9000, pace=33))
    assert (result.compared, result.differences) == (6, [])
    assert result.reasons == {"cpuid": (2, 2), "io-instruction": (1, 1)}


def test_exits_of_the_clock_are_left_out_with_the_entry_that_resumes():
    a, b = run(CPUID, IO), run(CPUID, TIMER, IO)
    result = diff.compare(a, b)
    assert result.differences == []
    assert result.left_out == {"preemption-timer": 1}
    assert diff.compare(a, b, ignored=()).differences


def test_guests_that_take_turns_differently():
    one, two = run(CPUID, IO, vmcs=0x5000), run(IO, IO, vmcs=0x6000)
    assert diff.compare([*one, *two], [*one[:2], *two[:2], *one[2:], *two[2:]]).differences == []
    assert diff.compare([*one, *two], [*two, *one]).differences


def test_the_first_difference_and_where_they_meet_again():
    common = (CPUID, IO) * 5
    a, b = run(*common), run(*common)
    b[5] = replace(b[5], qualification=1)
    a[5] = replace(a[5], qualification=2)
    b[13] = replace(b[13], reason=12, name="hlt")
    first, second = diff.compare(a, b, context=2).differences
    assert (first.fields, second.fields) == (("qualification",), ("reason",))
    assert (first.alike, first.before, first.a, first.b, first.met) == (5, a[3:5], [a[5]], [b[5]], True)
    (only,) = diff.compare(a, b, ignored=("qualification",)).differences
    assert (only.a, only.b) == (second.a, second.b)


def test_an_exit_too_many():
    a, b = run(*[CPUID] * 9), run(*[CPUID] * 9)
    b[6:6] = [
        Event(0, 55, 0, "entry", vmcs=0x5000, guest_rip=5),
        Event(0, 56, 0, "exit", vmcs=0x5000, reason=12),
    ]
    (difference,) = diff.compare(a, b).differences
    assert (difference.a, len(difference.b), difference.met) == ([], 2, True)


def test_one_ends_early():
    (difference,) = diff.compare(run(CPUID, IO), run(CPUID)).differences
    assert (len(difference.a), difference.b, difference.met) == (2, [], True)


def test_they_never_meet_again():
    a = run(*[CPUID] * 200)
    b = [replace(event, guest_rip=(event.guest_rip or 0) + 0x100000) for event in a]
    (difference,) = diff.compare(a, b).differences
    assert (difference.alike, len(difference.a), difference.met) == (0, 400, False)


def test_what_one_side_does_not_tell_is_no_difference():
    a = run(CPUID)
    assert diff.compare([replace(event, qualification=7) for event in a], a).differences == []


def test_writes_of_the_vmcs_on_request_with_patterns_to_leave_out():
    def write(field, value):
        return Event(0, 0, 0, "vmcs_write", vmcs=0x5000, field=field, value=value)

    a = [write("host_rip", 1), write("guest_rip", 2), write("guest_cr3", 3)]
    b = [write("host_rip", 9), write("guest_rip", 2), write("guest_cr3", 4)]
    kinds = (*diff.KINDS, "vmcs_write")
    assert diff.compare(a, b).compared == 0
    (difference,) = diff.compare(a, b, ("host_*",), kinds).differences
    assert (difference.alike, difference.fields) == (1, ("value",))


def test_no_events_at_all():
    assert diff.compare([], []).first is None


def test_advanced_information_on_ept_violations_is_not_every_processors():
    def violation(qualification):
        return [
            Event(0, 0, 0, "exit", vmcs=0x5000, reason=48, name="ept-violation", qualification=qualification)
        ]

    assert diff.compare(violation(0x582), violation(0x182)).differences == []
    assert diff.compare(violation(0x582), violation(0x181)).differences
    assert diff.compare(violation(0x582), violation(0x182), diff.TIMED).differences
