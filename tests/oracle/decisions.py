"""Where Bochs 2.7 and gdbvmx do not agree on system code, and what the SDM says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

DEBUG, PAGE_FAULT, GENERAL_PROTECTION = 1, 14, 13
RESUME, ZERO, VIRTUAL = 1 << 16, 1 << 6, 0x180000
CONDITIONS, SINGLE_STEP, ACCESS_DETECTED = 0xF, 1 << 14, 1 << 13
VME, SMAP = 1 << 0, 1 << 21


@dataclass(frozen=True)
class Outcome:
    """A line of the guest `privileged`: what became of one case."""

    number: int
    family: str
    mode: str
    level: int
    vector: int
    error: int
    ip: tuple[int, int]
    flags: int
    stack: tuple[int, int]
    cr2: int
    dr6: int
    cr4: int
    code: bytes
    registers: int
    memory: int

    def differs_in(self, other: Outcome) -> set[str]:
        return {name for name, value in vars(self).items() if value != getattr(other, name)}


@dataclass(frozen=True)
class Decision:
    """A known disagreement. gdbvmx does what the SDM says, or the SDM leaves it to the processor."""

    name: str
    section: str
    covers: Callable[[Outcome, Outcome, set[str]], bool]
    """Given ours, theirs, and the names of what differs."""


def _only_resume_flag(ours: Outcome, theirs: Outcome, differing: set[str]) -> bool:
    return (
        differing <= {"flags", "dr6", "memory"}
        and ours.vector == DEBUG
        and ours.flags ^ theirs.flags == RESUME
        and ours.flags & RESUME != 0
    )


TABLE = (
    Decision(
        "general detect is a fault, which pushes RF set, and no single step",
        "vol. 3, 17.3.1.1 and 17.3.1.3",
        lambda ours, theirs, differing: (
            _only_resume_flag(ours, theirs, differing)
            and ours.dr6 & ACCESS_DETECTED != 0
            and (ours.dr6 ^ theirs.dr6) & ~(SINGLE_STEP | CONDITIONS) == 0
        ),
    ),
    Decision(
        "a trap between the parts of a repeated instruction pushes RF set",
        "vol. 3, 17.3.1.1",
        lambda ours, theirs, differing: (
            _only_resume_flag(ours, theirs, differing) and (ours.dr6 ^ theirs.dr6) & ~CONDITIONS == 0
        ),
    ),
    Decision(
        "B0 to B3 may be set where their condition is met, whatever caused the exception",
        "vol. 3, 17.2.3",
        lambda ours, theirs, differing: (
            differing <= {"dr6"} and ours.vector == DEBUG and (ours.dr6 ^ theirs.dr6) & ~CONDITIONS == 0
        ),
    ),
    Decision(
        "a near CALL to where no code can be faults before it pushes",
        "vol. 2, CALL",
        lambda ours, theirs, differing: (
            differing <= {"memory"} and ours.vector == GENERAL_PROTECTION and ours.error == 0
        ),
    ),
    Decision(
        "IRET in 64-bit mode pops SS:RSP whatever its operand size",
        "vol. 2, IRET",
        lambda ours, theirs, differing: ours.mode == "long64" and ours.family in ("returns", "far", "debug"),
    ),
    Decision(
        "VIF and VIP mean nothing in virtual-8086 mode without CR4.VME",
        "vol. 3, 21.3.2",
        lambda ours, theirs, differing: (
            ours.mode == "v86"
            and not ours.cr4 & VME
            and (theirs.vector, theirs.error) == (GENERAL_PROTECTION, 0)
            and theirs.flags & VIRTUAL == VIRTUAL
        ),
    ),
    Decision(
        "the vectors of a virtual-8086 program are read as the program would, which SMAP has no say in",
        "vol. 3, 21.3.3.4",
        lambda ours, theirs, differing: (
            ours.mode == "v86"
            and ours.cr4 & SMAP != 0
            and (theirs.vector, theirs.error) == (PAGE_FAULT, 1)
            and theirs.cr2 < 0x400
        ),
    ),
    Decision(
        "LAR and LSL do not look at the upper half of a 16-byte descriptor",
        "vol. 2, LAR and LSL",
        lambda ours, theirs, differing: (
            differing <= {"flags", "registers", "memory"}
            and ours.mode in ("long64", "compat32", "compat16")
            and ours.flags ^ theirs.flags == ZERO
            and (b"\x0f\x02" in ours.code or b"\x0f\x03" in ours.code)
        ),
    ),
    Decision(
        "a far CALL from compatibility mode pushes on the stack of compatibility mode",
        "vol. 3, 5.8.5",
        lambda ours, theirs, differing: (
            differing <= {"memory"} and ours.mode in ("compat32", "compat16") and ours.family == "far"
        ),
    ),
)


def decided(ours: Outcome, theirs: Outcome) -> Decision | None:
    differing = ours.differs_in(theirs)
    return next((row for row in TABLE if row.covers(ours, theirs, differing)), None)
