"""Where Bochs 2.7 and gdbvmx do not agree on a VM entry, and what the SDM says.

Of an entry that fails here or there, all rules are looked at that it breaks: without those that Bochs does
not check (`Check`), the rest must be what Bochs found. Of an entry that gets as far as a VM exit on both, a
row tells why the exit is another one (`Exit`), or rows tell all that differs in it (`Information`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

from gdbvmx import _core

_NAMES = {field["encoding"]: field["name"] for field in _core.fields()}
_ENCODINGS = {name: encoding for encoding, name in _NAMES.items()}


ENDED = "ended"
_HOST_64_BIT = 1 << 9


def _short(outcome: str) -> str:
    """The outcome of a rule as the guest prints it."""
    number = int(outcome.split()[-1])
    if outcome.startswith("VMfailValid"):
        return f"F{number:x}"
    return f"E21 q{number:x}" if number else "E21"


_OUTCOMES = {rule["id"]: _short(rule["outcome"]) for rule in _core.rules()}


def _saved(name: str) -> str:
    """How the word begins that tells of a saved field."""
    return f"S{_ENCODINGS[name]:x}="


@dataclass(frozen=True)
class Case:
    """A case of which the two have different lines."""

    setup: str
    number: int
    fields: Mapping[int, int]
    """The fields at the entry, by encoding."""
    mutated: Mapping[int, int]
    """Those of them that are not as in the setup."""
    entries: Mapping[int, tuple[int, int, int]]
    """Those entries of the MSR list of VM entry that are not as in the setup: index, reserved, value."""
    ours: str
    theirs: str
    """What came of it. `ENDED` of Bochs where the case made it end."""
    profile: _core.CpuProfile | None
    """Of both."""
    mutations_differ: bool
    """The two had not the same fields: the machines had drifted apart before."""

    def __getitem__(self, name: str) -> int:
        return self.fields.get(_ENCODINGS[name], 0)

    @cached_property
    def broken(self) -> dict[str, str]:
        """The rules that the entry breaks, each with its outcome."""
        if self.profile is None:
            return {}
        fields = {_NAMES[at]: value for at, value in self.fields.items()}
        rules = [rule["id"] for rule in _core.check_vmcs(fields, self.profile)]
        # The check outside a machine takes the host's mode from the VMCS; the cases run in IA-32e mode.
        if not self["exit_controls"] & _HOST_64_BIT:
            rules.append("host.address_space.long_now")
        return {rule: _OUTCOMES[rule] for rule in rules}

    def both(self, name: str) -> tuple[int, int]:
        """What the field holds after the VM exit, ours first."""
        ours, theirs = (
            next(
                (int(word[len(mark) :], 16) for word in outcome.split() if word.startswith(mark)), self[name]
            )
            for mark in (_saved(name),)
            for outcome in (self.ours, self.theirs)
        )
        return ours, theirs

    def __str__(self) -> str:
        changed = ", ".join(f"{_NAMES.get(at, hex(at))}={value:#x}" for at, value in self.mutated.items())
        drifted = " (other mutations there)" if self.mutations_differ else ""
        lists = "".join(
            f", list[{at}]=({index:#x}, {reserved:#x}, {value:#x})"
            for at, (index, reserved, value) in self.entries.items()
        )
        return f"case {self.number}: here {self.ours!r}, there {self.theirs!r}{drifted}: {changed}{lists}"


@dataclass(frozen=True)
class Disagreement:
    """A known one. In all of them gdbvmx does what the SDM says, or the SDM leaves it to the processor."""

    name: str
    section: str
    """Of SDM vol. 3."""


def _always(case: Case) -> bool:
    return True


def _never(case: Case) -> bool:
    return False


@dataclass(frozen=True)
class Check(Disagreement):
    """Rules that Bochs does not check, or not as the SDM has them."""

    rules: frozenset[str]
    passes: Callable[[Case], bool] = _always
    """Where it takes them for kept though they are broken."""
    refuses: Callable[[Case], bool] = _never
    """Where it finds fault with the guest's state instead, whether or not they are broken."""
    ends: bool = False
    """It may end where it runs such a guest."""


@dataclass(frozen=True)
class Exit(Disagreement):
    """Another VM exit."""

    covers: Callable[[Case], bool]


@dataclass(frozen=True)
class Information(Disagreement):
    """A part of what the VM exit tells is another one."""

    words: tuple[str, ...]
    """How the words of the outcome begin that differ."""
    covers: Callable[[Case], bool]
    """Whether their difference is this one."""


_PENDING_DEBUG_RESERVED = 0xFFFEAFF0
"""Below bit 32."""
_CODE = 1 << 3
_UNRESTRICTED = 1 << 7
_PROTECTED = 1 << 0
_IA32E_GUEST = 1 << 9
_IA32_VMX_BASIC = 0x480
_LOAD_CET = 1 << 20
_EPT_FLAGS = 1 << 6
_SAVE_DEBUG_CONTROLS = 1 << 2
_UNUSABLE = 1 << 16
_INTERRUPTS = 1 << 9
_RESUME = 1 << 16
_ERROR_CODE = 1 << 11
_EXCEPTIONS = (3, 4, 5, 6)
"""Types of events."""
_VIRTUAL_8086 = 1 << 17
_LONG_CODE = 1 << 13
_VALID = 1 << 31
_MONITOR_TRAP_FLAG = 1 << 27

_LEVELS_OF_DATA = frozenset(f"guest.{segment}.dpl" for segment in ("ds", "es", "fs", "gs"))

# What these rules read of memory is not known here, so they count as broken or not as need be.
_OF_MEMORY = {
    "control.tpr_threshold.above_virtual_tpr",
    "guest.vmcs_link.revision",
    "guest.vmcs_link.shadow",
    "guest.cr3.pdptes",
}


def _entered(outcome: str) -> bool:
    """The checks of controls, host and guest were passed."""
    return outcome.startswith(("X", "E22"))


def _unrestricted(case: Case) -> bool:
    return (
        case["primary_processor_based_controls"] >> 31 & 1 != 0
        and case["secondary_processor_based_controls"] & _UNRESTRICTED != 0
    )


def _ia32e(case: Case) -> bool:
    return case["entry_controls"] & _IA32E_GUEST != 0


def _loads_cet(case: Case) -> bool:
    return case["entry_controls"] & _LOAD_CET != 0


def _ssp_of_another_mode(case: Case) -> bool:
    ssp = case["guest_ssp"]
    canonical = ssp >> 47 in (0, (1 << 17) - 1)
    return _loads_cet(case) and (not canonical or (not _ia32e(case) and ssp >> 32 != 0))


def _level(case: Case, segment: str) -> int:
    return case[f"guest_{segment}_access_rights"] >> 5 & 3


def _code_segment(case: Case) -> bool:
    """CS is a code segment and compared with another privilege level."""
    return (
        _unrestricted(case)
        and case["guest_rflags"] & _VIRTUAL_8086 == 0
        and case["guest_cs_access_rights"] & _CODE != 0
    )


def _level_of_code_is_the_selectors(case: Case) -> bool:
    level, requested = _level(case, "cs"), case["guest_cs_selector"] & 3
    conforming = case["guest_cs_access_rights"] & 4 != 0
    return level <= requested if conforming else level == requested


def _null_stack_segment(case: Case) -> bool:
    """Null and usable, in 64-bit mode."""
    return (
        case["guest_ss_selector"] & ~3 == 0
        and case["guest_ss_access_rights"] & _UNUSABLE == 0
        and _ia32e(case)
        and case["guest_cs_access_rights"] & _LONG_CODE != 0
    )


def _breakpoint_alone(case: Case) -> bool:
    """Only the enabled-breakpoint bit is set. A #DB comes of that here: its VM exit, one of its delivery, or
    the VM exit after that, by the preemption timer or the monitor trap flag."""
    ours = case.ours.split()
    alone = case["guest_pending_debug_exceptions"] & 0x500F == 0x1000
    delivered = ours[0] in ("X25", "X34") and case.both("guest_rsp")[0] != case["guest_rsp"]
    if case["entry_interruption_info"] & _VALID or not alone or not case.theirs.startswith("X34"):
        return False
    return "i80000301" in ours or "v80000301" in ours or delivered


def _debug_exception_in_shutdown(case: Case) -> bool:
    theirs = case.theirs.split()
    shut_down = case["guest_activity_state"] == 2 and not case["entry_interruption_info"] & _VALID
    return shut_down and case.ours.startswith("X34") and "i80000301" in theirs


def _breakpoints_without_one_enabled(case: Case) -> bool:
    """A #DB that exits, for which no breakpoint was enabled, with B3 to B0."""
    ours, theirs = (_word(outcome, "q") for outcome in (case.ours, case.theirs))
    debug = case.ours.startswith("X0 ") and _word(case.ours, "i") == 0x80000301
    return debug and not case["guest_pending_debug_exceptions"] & 0x1000 and 0 < ours ^ theirs < 0x10


def _instruction_first(case: Case) -> bool:
    """With blocking by STI or MOV SS Bochs tries the guest's first instruction, which faults."""
    reason, *saved = case.ours.split()
    ours, theirs = (state & 3 != 0 for state in case.both("guest_interruptibility_state"))
    if reason != "X34" or not ours:
        return False
    delivered = case.theirs.startswith("X34") and not theirs
    return delivered or (case.theirs.startswith(("X0 ", "X30 ")) and set(saved) <= set(case.theirs.split()))


def _trap_flag_after_injection(case: Case) -> bool:
    steps = case["primary_processor_based_controls"] & _MONITOR_TRAP_FLAG != 0
    injects = case["entry_interruption_info"] & _VALID != 0
    return steps and injects and case.ours.split()[0] == "X25" and case.theirs.split()[0] == "X34"


def _error_code_in_real_address_mode(case: Case) -> bool:
    ours, theirs = (_word(outcome, "i") for outcome in (case.ours, case.theirs))
    return case["guest_cr0"] & _PROTECTED == 0 and ours != theirs and ours | _ERROR_CODE == theirs


def _word(outcome: str, name: str) -> int:
    """An item of the VM-exit information, such as the interruption information `i`."""
    return next((int(word[1:], 16) for word in outcome.split() if word.startswith(name)), 0)


def _table_access(case: Case) -> bool:
    """An EPT violation by a walk of the guest's tables, with accessed and dirty flags for EPT."""
    read, *rest = case.ours.split()[1:] or [""]
    there, *rest_there = case.theirs.split()[1:] or [""]
    if not case.ours.startswith("X30 q") or not case.theirs.startswith("X30 q") or rest != rest_there:
        return False
    return case["ept_pointer"] & _EPT_FLAGS != 0 and int(read[1:], 16) == int(there[1:], 16) | 1


def _exclusive_or(values: tuple[int, int]) -> int:
    return values[0] ^ values[1]


def _resume_flag(case: Case) -> bool:
    ours, theirs = case.both("guest_rflags")
    delivering = any(word.startswith("v8") for word in case.ours.split())
    return case.ours.startswith("X0 ") and delivering and ours != theirs and ours == theirs | _RESUME


def _bases_of_null_segments(case: Case) -> bool:
    left = case["guest_rflags"] & _VIRTUAL_8086 != 0 and case.both("guest_rflags")[0] & _VIRTUAL_8086 == 0
    bases = ("guest_fs_base", "guest_gs_base")
    return left and all(case.both(base) == (0, case[base]) for base in bases)


def _high_half_of_rsp(case: Case) -> bool:
    in_64_bit_mode = _ia32e(case) and case["guest_cs_access_rights"] & _LONG_CODE != 0
    difference = _exclusive_or(case.both("guest_rsp"))
    return not in_64_bit_mode and difference != 0 and difference & 0xFFFFFFFF == 0


def _data_segment_for_code(case: Case) -> bool:
    ours, theirs = case.both("guest_cs_access_rights")
    return case["guest_cr0"] & _PROTECTED == 0 and 0 < ours ^ theirs < 0x10 and theirs & 0xF == 3


_ANY_ORDER = Disagreement(
    "of several broken rules each processor may find another one first", "27.2 and 27.3.1"
)

_CHECKS = (
    Check(
        "Bochs takes a guest RIP that is not canonical",
        "27.3.1.4",
        frozenset({"guest.rip.canonical"}),
    ),
    Check(
        "Bochs takes an IA-32e mode guest without paging where the guest is unrestricted",
        "27.3.1.1",
        frozenset({"guest.cr0.ia32e_paging"}),
        _unrestricted,
        ends=True,
    ),
    Check(
        "Bochs does not look at bits 63:32 of the pending debug exceptions",
        "27.3.1.5",
        frozenset({"guest.pending_debug.reserved"}),
        lambda case: not case["guest_pending_debug_exceptions"] & _PENDING_DEBUG_RESERVED,
    ),
    Check(
        "Bochs does not look at the reserved bits of IA32_DEBUGCTL",
        "27.3.1.1",
        frozenset({"guest.debugctl.reserved"}),
    ),
    Check(
        "Bochs does not look at the reserved bits of IA32_PERF_GLOBAL_CTRL",
        "27.2.2 and 27.3.1.1",
        frozenset({"host.perf_global_ctrl.reserved", "guest.perf_global_ctrl.reserved"}),
    ),
    Check(
        "Bochs takes SS with a null selector for unusable in 64-bit mode",
        "27.3.1.2",
        frozenset(rule for rule in _OUTCOMES if rule.startswith("guest.ss.")),
        _null_stack_segment,
    ),
    Check(
        "Bochs does not compare DPL and RPL of a DS, ES, FS or GS that is a code segment",
        "27.3.1.2",
        _LEVELS_OF_DATA,
        lambda case: all(
            case[f"{rule.removesuffix('.dpl').replace('.', '_')}_access_rights"] & _CODE != 0
            for rule in _LEVELS_OF_DATA & case.broken.keys()
        ),
    ),
    Check(
        "Bochs compares the DPL of CS with its RPL, not with the DPL of SS",
        "27.3.1.2",
        frozenset({"guest.cs.dpl"}),
        passes=lambda case: _code_segment(case) and _level_of_code_is_the_selectors(case),
        refuses=lambda case: _code_segment(case) and not _level_of_code_is_the_selectors(case),
    ),
    Check(
        "Bochs injects other exceptions than #DB and #MC into the activity state HLT",
        "27.3.1.5",
        frozenset({"guest.activity_state.event"}),
        lambda case: (
            case["guest_activity_state"] == 1 and case["entry_interruption_info"] >> 8 & 7 in _EXCEPTIONS
        ),
    ),
    Check(
        "Bochs takes all events of vector 18 for machine checks where the guest has shut down",
        "27.3.1.5",
        frozenset({"guest.activity_state.event"}),
        lambda case: case["guest_activity_state"] == 2 and case["entry_interruption_info"] & 0xFF == 18,
    ),
    Check(
        "Bochs does not ask for BS where a guest that single-steps is halted",
        "27.3.1.5",
        frozenset({"guest.pending_debug.bs"}),
        lambda case: case["guest_activity_state"] == 1 and case["guest_interruptibility_state"] & 3 == 0,
    ),
    Check(
        "Bochs does not check which events have an error code where IA32_VMX_BASIC[56] is 1",
        "27.2.1.3",
        frozenset({"control.event.error_code"}),
        lambda case: case.profile is not None and case.profile.vmx_msrs()[_IA32_VMX_BASIC] >> 56 & 1 != 0,
    ),
    Check(
        "Bochs asks for a canonical SSP, and for one of 32 bits outside IA-32e mode",
        "27.3.1.4",
        frozenset(),
        refuses=_ssp_of_another_mode,
    ),
    Check(
        "Bochs asks for an IA32_S_CET of 32 bits outside IA-32e mode",
        "27.3.1.1",
        frozenset(),
        refuses=lambda case: _loads_cet(case) and not _ia32e(case) and case["guest_ia32_s_cet"] >> 32 != 0,
    ),
    Check(
        "Bochs takes \u201centry to SMM\u201d outside SMM for a fault of the guest's state",
        "27.2.1.3",
        frozenset({"control.entry.smm"}),
        refuses=lambda case: "control.entry.smm" in case.broken,
    ),
)

_EXITS = (
    Exit(
        "Bochs does not take the enabled-breakpoint bit alone for a pending debug exception",
        "27.7.3",
        _breakpoint_alone,
    ),
    Exit(
        "Bochs delivers pending debug exceptions to a guest that has shut down",
        "27.7.3",
        _debug_exception_in_shutdown,
    ),
    Exit(
        "Bochs holds the preemption timer's exit back in the shadow of STI and MOV SS",
        "27.7.4",
        _instruction_first,
    ),
    Exit(
        "Bochs does not set bit 0 of the qualification for walks of the guest's tables that count as writes",
        "28.2.1",
        _table_access,
    ),
)

_INFORMATION = (
    Information(
        "Bochs takes the preemption timer's exit before the MTF VM exit that follows an injected event",
        "26.5.2",
        ("X25", "X34"),
        _trap_flag_after_injection,
    ),
    Information(
        "B3 to B0 of the qualification may be set for breakpoints that are not enabled",
        "28.2.1",
        ("q",),
        _breakpoints_without_one_enabled,
    ),
    Information(
        "Bochs gives exceptions of real-address mode an error code",
        "28.2.2",
        ("i", "e"),
        _error_code_in_real_address_mode,
    ),
    Information(
        "the upper half of RSP is not defined outside 64-bit mode",
        "27.3.2.3",
        (_saved("guest_rsp"),),
        _high_half_of_rsp,
    ),
    Information(
        "Bochs does not save IA32_DEBUGCTL",
        "28.3.1",
        (_saved("guest_ia32_debugctl"),),
        lambda case: (
            case["exit_controls"] & _SAVE_DEBUG_CONTROLS != 0
            and case.both("guest_ia32_debugctl")[1] == case["guest_ia32_debugctl"]
        ),
    ),
    *(
        Information(
            f"Bochs does not keep bit 13 of {name.upper()}'s access rights",
            "28.3.2",
            (_saved(f"guest_{name}_access_rights"),),
            lambda case, rights=f"guest_{name}_access_rights": _exclusive_or(case.both(rights)) == 1 << 13,
        )
        for name in ("ldtr", "tr")
    ),
    Information(
        "Bochs makes CS a data segment where CR0.PE is 0",
        "28.3.2",
        (_saved("guest_cs_access_rights"),),
        _data_segment_for_code,
    ),
    Information(
        "Bochs does not set RF for all faults that come of delivering an injected event",
        "28.3.3",
        (_saved("guest_rflags"),),
        _resume_flag,
    ),
    Information(
        "Bochs clears IF of a guest that enters the activity state shutdown",
        "28.3.3",
        (_saved("guest_rflags"),),
        lambda case: (
            case["guest_activity_state"] == 2 and _exclusive_or(case.both("guest_rflags")) == _INTERRUPTS
        ),
    ),
    Information(
        "the bases of FS and GS made null on the way out of virtual-8086 mode are not defined",
        "21.3.1",
        (_saved("guest_fs_base"), _saved("guest_gs_base")),
        _bases_of_null_segments,
    ),
)

TABLE: tuple[Disagreement, ...] = (_ANY_ORDER, *_CHECKS, *_EXITS, *_INFORMATION)


def decided(case: Case) -> Disagreement | None:
    """The known disagreement that the case is one of."""
    if case.mutations_differ:
        return None
    if _entered(case.ours) and _entered(case.theirs):
        return next((row for row in _EXITS if row.covers(case)), None) or _of_information(case)
    return _of_checks(case)


def _of_information(case: Case) -> Disagreement | None:
    """The first of the rows that together tell all that differs."""
    rows = [row for row in _INFORMATION if row.covers(case)]
    told = tuple(mark for row in rows for mark in row.words)
    ours, theirs = (
        [word for word in outcome.split() if not word.startswith(told)]
        for outcome in (case.ours, case.theirs)
    )
    return rows[0] if rows and ours == theirs else None


def _of_checks(case: Case) -> Disagreement | None:
    """The row for an entry of which Bochs found another rule broken, or none, or a rule that is not one."""
    passed = {rule: row for row in _CHECKS if row.passes(case) for rule in row.rules & case.broken.keys()}
    left = {rule: outcome for rule, outcome in case.broken.items() if rule not in passed}
    sure = {outcome for rule, outcome in left.items() if rule not in _OF_MEMORY}
    missed = next(iter(passed.values()), None)
    if case.theirs.startswith("F"):
        return (missed or _ANY_ORDER) if case.theirs in left.values() else None
    # Controls and the host's state come first, in any order; only then does the guest's state matter.
    if any(outcome.startswith("F") for outcome in sure):
        return None
    if case.theirs in left.values():
        return missed or _ANY_ORDER
    if case.theirs == "E21":
        return next((row for row in _CHECKS if row.refuses(case)), None)
    if sure or missed is None:
        return None
    return missed if _entered(case.theirs) or (case.theirs == ENDED and missed.ends) else None
