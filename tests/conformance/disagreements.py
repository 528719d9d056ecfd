"""Where Bochs 2.7 and gdbvmx do not agree on a VM entry, and what the SDM says."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from gdbvmx import _core

_NAMES = {field["encoding"]: field["name"] for field in _core.fields()}
_ENCODINGS = {name: encoding for encoding, name in _NAMES.items()}


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
    profile: _core.CpuProfile | None
    """Of both."""
    mutations_differ: bool
    """The two had not the same fields: the machines had drifted apart before."""

    def __getitem__(self, name: str) -> int:
        return self.fields.get(_ENCODINGS[name], 0)

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
    """Of SDM vol. 3; 3.4.1.1 is of vol. 1."""
    covers: Callable[[Case], bool]


_SEGMENTS = ("es", "cs", "ss", "ds", "fs", "gs", "ldtr", "tr")
_RIGHTS = tuple(f"guest_{name}_access_rights" for name in _SEGMENTS)
_CODE = 1 << 3
_UNRESTRICTED = 1 << 7
_PAGING = 1 << 31
_VPID = 1 << 5
_IA32E_GUEST = 1 << 9
_LOAD_PERF_ON_ENTRY = 1 << 13
_LOAD_PERF_ON_EXIT = 1 << 12
_EPT_FLAGS = 1 << 6
_SAVE_DEBUG_CONTROLS = 1 << 2
_UNUSABLE = 1 << 16
_OUTCOMES = {rule["id"]: rule["outcome"] for rule in _core.rules()}


def _canonical(address: int) -> bool:
    return address >> 47 in (0, (1 << 17) - 1)


def _entered(outcome: str) -> bool:
    """The checks of the guest's state were passed."""
    return outcome.startswith(("X", "E22"))


def _bad_guest(case: Case) -> bool:
    return case.ours == "E21" and _entered(case.theirs)


def _without(outcome: str, *fields: str) -> list[str]:
    """The words of an outcome without those on saved fields."""
    marks = tuple(f"S{_ENCODINGS[name]:x}=" for name in fields)
    return [word for word in outcome.split() if not word.startswith(marks)]


def _but_for(case: Case, *fields: str) -> bool:
    """The outcomes are the same but for these saved fields."""
    return _without(case.ours, *fields) == _without(case.theirs, *fields)


def _short(outcome: str) -> str:
    """The outcome of a rule as the guest prints it."""
    number = int(outcome.split()[-1])
    if outcome.startswith("VMfailValid"):
        return f"F{number:x}"
    return f"E21 q{number:x}" if number else "E21"


def _other_rule_first(case: Case) -> bool:
    if case.profile is None:
        return False
    broken = _core.check_vmcs({_NAMES[at]: value for at, value in case.fields.items()}, case.profile)
    return case.theirs in {_short(_OUTCOMES[rule["id"]]) for rule in broken}


def _fault_while_delivering(case: Case) -> bool:
    delivering = any(word.startswith("v8") for word in case.ours.split())
    return case.ours.startswith("X0 ") and delivering and _but_for(case, "guest_rflags", *_RIGHTS)


def _null_stack_segment(case: Case) -> bool:
    return case["guest_ss_selector"] & ~3 == 0 and not case["guest_ss_access_rights"] & _UNUSABLE


def _table_access(case: Case) -> bool:
    """An EPT violation by a walk of the guest's tables, with accessed and dirty flags for EPT."""
    read, *rest = case.ours.split()[1:] or [""]
    there, *rest_there = case.theirs.split()[1:] or [""]
    if not case.ours.startswith("X30 q") or not case.theirs.startswith("X30 q") or rest != rest_there:
        return False
    return case["ept_pointer"] & _EPT_FLAGS != 0 and int(read[1:], 16) == int(there[1:], 16) | 1


def _level(case: Case, segment: str) -> int:
    return case[f"guest_{segment}_access_rights"] >> 5 & 3


def _code_below_its_selector(case: Case) -> bool:
    for name in ("es", "ds", "fs", "gs"):
        rights = case[f"guest_{name}_access_rights"]
        if rights & _CODE and rights >> 5 & 3 < case[f"guest_{name}_selector"] & 3:
            return True
    return False


TABLE: tuple[Disagreement, ...] = (
    Disagreement(
        "of several broken rules each processor may find another one first",
        "27.2",
        lambda case: case.ours[0] in "FE" and case.theirs[0] in "FE" and _other_rule_first(case),
    ),
    Disagreement(
        "Bochs takes a guest RIP that is not canonical",
        "27.3.1.4",
        lambda case: _bad_guest(case) and not _canonical(case["guest_rip"]),
    ),
    Disagreement(
        "Bochs takes an IA-32e mode guest without paging where the guest is unrestricted",
        "27.3.1.1",
        lambda case: (
            _bad_guest(case)
            and case["secondary_processor_based_controls"] & _UNRESTRICTED != 0
            and case["entry_controls"] & _IA32E_GUEST != 0
            and case["guest_cr0"] & _PAGING == 0
        ),
    ),
    Disagreement(
        "Bochs does not look at bits 63:32 of the pending debug exceptions",
        "27.3.1.5",
        lambda case: _bad_guest(case) and case["guest_pending_debug_exceptions"] >> 32 != 0,
    ),
    Disagreement(
        "Bochs does not look at the reserved bits of IA32_DEBUGCTL",
        "27.3.1.1",
        lambda case: _bad_guest(case) and case["guest_ia32_debugctl"] != 0,
    ),
    Disagreement(
        "Bochs takes SS with a null selector for unusable",
        "27.3.1.2",
        lambda case: _bad_guest(case) and _null_stack_segment(case),
    ),
    Disagreement(
        "Bochs does not compare DPL and RPL of a DS, ES, FS or GS that is a code segment",
        "27.3.1.2",
        lambda case: _bad_guest(case) and _code_below_its_selector(case),
    ),
    Disagreement(
        "Bochs takes \u201centry to SMM\u201d outside SMM for a fault of the guest's state",
        "27.2.1.3",
        lambda case: case.ours == "F7" and case.theirs == "E21" and case["entry_controls"] & 0xC00 != 0,
    ),
    Disagreement(
        "Bochs does not take the enabled-breakpoint bit alone for a pending debug exception",
        "27.7.3",
        lambda case: (
            (case.ours.startswith(("X0 i80000301", "X34 S681c=")) or "v80000301" in case.ours.split())
            and case.theirs.startswith("X34")
            and case["guest_pending_debug_exceptions"] & 0x500F == 0x1000
        ),
    ),
    Disagreement(
        "Bochs holds the preemption timer's exit back in the shadow of STI and MOV SS",
        "27.7.4",
        lambda case: case.ours.startswith("X34") and case["guest_interruptibility_state"] & 3 != 0,
    ),
    Disagreement(
        "Bochs compares the DPL of CS with its RPL, not with the DPL of SS",
        "27.3.1.2",
        lambda case: (
            case["secondary_processor_based_controls"] & _UNRESTRICTED != 0
            and {case.ours, case.theirs} & {"E21"} != set()
            and (case["guest_cs_selector"] & 3 != 0 or _level(case, "ss") != _level(case, "cs"))
        ),
    ),
    Disagreement(
        "Bochs injects software exceptions into the activity state HLT",
        "27.3.1.5",
        lambda case: (
            _bad_guest(case)
            and case["guest_activity_state"] == 1
            and case["entry_interruption_info"] >> 8 & 7 in (4, 5, 6)
        ),
    ),
    Disagreement(
        "Bochs does not set bit 0 of the qualification for walks of the guest's tables that count as writes",
        "28.2.1",
        _table_access,
    ),
    Disagreement(
        "what was cached under the VPID may serve where the PDPTE that led there is gone",
        "30.4.3.3",
        lambda case: (
            case["secondary_processor_based_controls"] & _VPID != 0
            and any(
                case[f"guest_pdpte{n}"] & 1 == 0 and _ENCODINGS[f"guest_pdpte{n}"] in case.mutated
                for n in range(4)
            )
            and case.ours.startswith("X0 ")
            and case.theirs.startswith("X0 ")
            and "i80000b0e" in case.ours.split()
            and "i80000b0e" in case.theirs.split()
        ),
    ),
    Disagreement(
        "Bochs does not look at the reserved bits of IA32_PERF_GLOBAL_CTRL",
        "27.3.1.1",
        lambda case: (
            _bad_guest(case)
            and case["guest_ia32_perf_global_ctrl"] != 0
            and case["entry_controls"] & _LOAD_PERF_ON_ENTRY != 0
        ),
    ),
    Disagreement(
        "Bochs does not look at the reserved bits of the host's IA32_PERF_GLOBAL_CTRL",
        "27.2.2",
        lambda case: (
            case.ours == "F8"
            and case["host_ia32_perf_global_ctrl"] != 0
            and case["exit_controls"] & _LOAD_PERF_ON_EXIT != 0
        ),
    ),
    Disagreement(
        "the upper half of RSP outside 64-bit mode is not defined",
        "3.4.1.1",
        lambda case: case["guest_cs_access_rights"] >> 13 & 1 == 0 and _but_for(case, "guest_rsp"),
    ),
    Disagreement(
        "Bochs does not save IA32_DEBUGCTL",
        "28.3.1",
        lambda case: (
            case["exit_controls"] & _SAVE_DEBUG_CONTROLS != 0 and _but_for(case, "guest_ia32_debugctl")
        ),
    ),
    Disagreement(
        "Bochs does not keep all access rights of segment registers",
        "28.3.2",
        lambda case: _but_for(case, *_RIGHTS),
    ),
    Disagreement(
        "Bochs does not set RF for all faults that come of delivering an injected event",
        "28.3.3",
        _fault_while_delivering,
    ),
    Disagreement(
        "the bases of FS and GS made null on the way out of virtual-8086 mode are not defined",
        "21.3.1",
        lambda case: (
            case["guest_rflags"] >> 17 & 1 != 0 and _but_for(case, "guest_fs_base", "guest_gs_base", *_RIGHTS)
        ),
    ),
)


def decided(case: Case) -> Disagreement | None:
    """The known disagreement that the case is one of."""
    return next((row for row in TABLE if row.covers(case)), None)
