"""Where Bochs 2.7 and gdbvmx do not agree on system code, and what the SDM says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

DEBUG, DOUBLE_FAULT, INVALID_TSS, NOT_PRESENT, STACK_FAULT, GENERAL_PROTECTION, PAGE_FAULT, ALIGNMENT = (
    1,
    8,
    10,
    11,
    12,
    13,
    14,
    17,
)
CONTROL_PROTECTION = 21
CARRY = 1 << 0
# What differs where the parts of a shadow stack are read in another order: that marks other pages accessed.
ENFORCED_PARTS = {"enforcement": {"cr2", "error", "registers", "memory"}}
# Of a page fault's error code: it was an access to a shadow stack.
TO_SHADOW_STACK = 0x40
SAVEPREVSSP, CLRSSBSY = b"\xf3\x0f\x01\xea", b"\xf3\x0f\xae"
# Whose code segment is flat, whatever its selector's descriptor has.
SYSENTER = b"\x0f\x34"
RESUME, ZERO, IOPL, VIRTUAL = 1 << 16, 1 << 6, 3 << 12, 0x180000
CONDITIONS, SINGLE_STEP, ACCESS_DETECTED = 0xF, 1 << 14, 1 << 13
VME, SMAP = 1 << 0, 1 << 21
IP_LIMIT = 0xFFFF
INTERRUPTS = b"\xcc\xcd\xce\xf1\x0f"
# RETF and IRET.
RETURNS = (b"\xca", b"\xcb", b"\xcf")
REPEATS = b"\xf2\xf3"
# Code selectors of the handlers, outside long mode and in it.
HANDLERS = (0x08, 0x18)
# Eight pages that only cases of paging come to.
WINDOW, WINDOW_OFFSETS = 0x800000, 0x7FFF
# Where the segment of a case's code begins.
CODE = 0x10000
# Where in it a case begins, but for those about limits.
START = 0x10
# The stack pointer of most cases, and what a far CALL pushes, at most, in bytes.
STACK_START = 0x800
FRAME = 16
# Of a page fault's error code: CPL 3 did it.
BY_PROGRAM = 4
LONG_MODES = ("long64", "compat32", "compat16")


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
    """The first eight."""
    last: bytes
    """Eight from where the exception was, which for a fault is the instruction that it comes of."""
    registers: int
    memory: int
    ssp: int = 0
    """The shadow-stack pointer where the exception was; it and the rest of control-flow enforcement only."""
    u_cet: int = 0
    s_cet: int = 0
    shadow: int = 0
    """A digest of the shadow stacks."""

    @property
    def at_fetch(self) -> bool:
        """A page fault that comes of fetching where it was."""
        bases = (0, CODE, self.ip[0] << 4)
        return self.vector == PAGE_FAULT and self.cr2 - self.ip[1] in bases

    def differs_in(self, other: Outcome) -> set[str]:
        return {name for name, value in vars(self).items() if value != getattr(other, name)}


def _opcode(code: bytes, mode: str) -> bytes:
    """What is left of an instruction after its prefixes."""
    at = 0
    while at < len(code) and code[at] in b"\x26\x2e\x36\x3e\x64\x65\x66\x67\xf0\xf2\xf3":
        at += 1
    if mode == "long64" and at < len(code) and code[at] & 0xF0 == 0x40:
        at += 1
    return code[at:]


def _is_group5(opcode: bytes, *forms: int) -> bool:
    return opcode[:1] == b"\xff" and len(opcode) > 1 and opcode[1] >> 3 & 7 in forms


def _is_near_call(opcode: bytes) -> bool:
    return opcode[:1] == b"\xe8" or _is_group5(opcode, 2)


def _loads_table(opcode: bytes) -> bool:
    """LGDT or LIDT."""
    return opcode[:2] == b"\x0f\x01" and len(opcode) > 2 and opcode[2] >> 3 & 7 in (2, 3)


def _takes_wide_address(opcode: bytes) -> bool:
    """LGDT, LIDT or INVPCID: their canonical addresses are those of 5-level paging, on or off."""
    return _loads_table(opcode) or opcode[:3] == b"\x0f\x38\x82"


def _is_far_call(opcode: bytes) -> bool:
    return opcode[:1] == b"\x9a" or _is_group5(opcode, 3)


def _calls(code: bytes, mode: str) -> bool:
    """A far CALL or INT."""
    return code[:1] in INTERRUPTS or _is_far_call(_opcode(code, mode))


def _is_store_of_table(opcode: bytes) -> bool:
    return opcode[:2] == b"\x0f\x01" and len(opcode) > 2 and opcode[2] >> 3 & 7 in (0, 1)


def _reads_parts(opcode: bytes) -> bool:
    """Far pointers in memory, and the frames of far returns."""
    far_loads = (b"\x0f\xb2", b"\x0f\xb4", b"\x0f\xb5")
    return opcode[:1] in (b"\xc4", b"\xc5", b"\xca", b"\xcb", b"\xcf") or (
        opcode[:2] in far_loads or _is_group5(opcode, 3, 5)
    )


@dataclass(frozen=True)
class Decision:
    """A known disagreement. gdbvmx does what the SDM says, or the SDM leaves it to the processor."""

    name: str
    section: str
    covers: Callable[[Outcome, Outcome, set[str]], bool]
    """Given ours, theirs, and the names of what differs."""


def _refused_by(outcome: Outcome, vector: int, error: int) -> bool:
    """An exception with this error code ended it, or a double fault where that could not be delivered."""
    return outcome.vector == DOUBLE_FAULT or (outcome.vector, outcome.error) == (vector, error)


def _refused(ours: Outcome, theirs: Outcome, differing: set[str]) -> bool:
    """The same instruction ended it, here as it may not go where it would."""
    return (
        differing <= {"vector", "error", "cr2", "registers", "memory", "shadow"}
        and ours.vector == GENERAL_PROTECTION
        and ours.error in (0, 1)
    )


def _same_but_for_flags(ours: Outcome, differing: set[str]) -> bool:
    """Of a debug exception; the flags are in the memory that it pushes to, as well."""
    return differing <= {"flags", "dr6", "memory"} and ours.vector == DEBUG


def _pushed_elsewhere(ours: Outcome, theirs: Outcome, differing: set[str]) -> bool:
    """By the rules of the mode that a far CALL goes to: with or without SS's base and limit."""
    if ours.mode != "long64" and differing <= {"memory"}:
        return True
    if ours.mode != "long64" and theirs.ip[0] == ours.ip[0] and 0 < STACK_START - theirs.ip[1] <= FRAME:
        # without SS's base what was pushed lies where they went on
        return True
    if theirs.last != theirs.code:
        return False
    if ours.mode == "long64":
        return (theirs.vector, theirs.error) == (STACK_FAULT, 0)
    return theirs.vector == PAGE_FAULT and 0 < theirs.stack[1] - theirs.cr2 <= FRAME


def _first_selector(level: int) -> int:
    """Of the code that a case begins with."""
    return 0x80 + 25 * level


def _is_canonical(address: int) -> bool:
    return (address >> 47) + 1 & 0x1FFFF <= 1


def _faults_at_bitmap(outcome: Outcome) -> bool:
    """Of user's legacy code pages."""
    return outcome.vector == PAGE_FAULT and outcome.cr2 >> 12 == outcome.u_cet >> 12 != 0


TABLE = (
    Decision(
        "general detect is a fault, which pushes RF set, and no single step",
        "vol. 3, 17.3.1.1 and 17.3.1.3",
        lambda ours, theirs, differing: (
            _same_but_for_flags(ours, differing)
            and ours.dr6 & ACCESS_DETECTED != 0
            and ours.flags & ~theirs.flags in (0, RESUME)
            and theirs.flags & ~ours.flags == 0
            and (ours.dr6 ^ theirs.dr6) & ~(SINGLE_STEP | CONDITIONS) == 0
        ),
    ),
    Decision(
        "a trap between the parts of a repeated instruction pushes RF set",
        "vol. 3, 17.3.1.1",
        lambda ours, theirs, differing: (
            (
                _same_but_for_flags(ours, differing)
                and ours.last[0] in REPEATS
                and ours.flags ^ theirs.flags == RESUME
                and ours.flags & RESUME != 0
                and (ours.dr6 ^ theirs.dr6) & ~CONDITIONS == 0
            )
            # or it was taken, and its frame met a breakpoint
            or (
                differing <= {"memory"}
                and ours.vector == DEBUG
                and ours.ip[0] in HANDLERS
                and any(byte in ours.code for byte in REPEATS)
            )
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
            _refused(ours, theirs, differing)
            and theirs.vector in (GENERAL_PROTECTION, STACK_FAULT, PAGE_FAULT, ALIGNMENT)
            and _is_near_call(_opcode(ours.last, ours.mode))
        ),
    ),
    Decision(
        "a far CALL to where no code can be faults before it pushes",
        "vol. 2, CALL",
        lambda ours, theirs, differing: (
            _refused(ours, theirs, differing)
            and theirs.vector in (GENERAL_PROTECTION, STACK_FAULT, PAGE_FAULT, ALIGNMENT)
            and _is_far_call(_opcode(ours.last, ours.mode))
        ),
    ),
    Decision(
        "an interrupt gate to where no code can be faults before anything is pushed",
        "vol. 2, INT",
        lambda ours, theirs, differing: (
            ours.mode in LONG_MODES
            and (
                (
                    _refused(ours, theirs, differing)
                    and theirs.vector in (GENERAL_PROTECTION, STACK_FAULT, PAGE_FAULT)
                    and ours.last[0] in INTERRUPTS
                )
                # or of the gate for a fault; or the gate for that fault is none
                or (
                    differing <= {"vector", "error", "cr2", "registers", "memory"}
                    and ours.vector == DOUBLE_FAULT
                    and theirs.vector in (DOUBLE_FAULT, STACK_FAULT, PAGE_FAULT)
                    and ours.family == "interrupts"
                )
            )
        ),
    ),
    Decision(
        "IRET in 64-bit mode pops SS:RSP whatever its operand size",
        "vol. 2, IRET",
        lambda ours, theirs, differing: (
            ours.mode == "long64"
            and ours.family == "returns"
            and ours.code[:1] != b"\x48"
            and _opcode(ours.code, ours.mode)[:1] == b"\xcf"
            # theirs stayed where it was, with its stack
            and theirs.ip[0] & 3 == theirs.level
            and (differing <= {"stack", "registers", "memory"} or ours.last == ours.code)
        ),
    ),
    Decision(
        "a null SS that a return outwards loads for 64-bit mode has the RPL of the level gone to",
        "vol. 2, RET and IRET, 64-bit mode exceptions",
        lambda ours, theirs, differing: (
            ours.mode in LONG_MODES
            and _refused_by(ours, GENERAL_PROTECTION, 0)
            and _opcode(ours.last, ours.mode)[:1] in RETURNS
            and theirs.ip[0] & 3 != theirs.stack[0]
            and theirs.stack[0] <= 3
        ),
    ),
    Decision(
        "IRET in virtual-8086 mode holds EIP against the limit of CS before it goes there",
        "vol. 2, IRET",
        lambda ours, theirs, differing: (
            ours.mode == "v86"
            and (ours.vector, ours.error) == (GENERAL_PROTECTION, 0)
            # there, or before anything is done there
            and theirs.vector in (GENERAL_PROTECTION, DEBUG)
            and _opcode(ours.last, ours.mode)[:1] == b"\xcf"
            and ours.ip[1] <= IP_LIMIT < theirs.ip[1]
        ),
    ),
    Decision(
        "in which order the parts of an operand are read is the processor's choice",
        "vol. 3, 9.2.3.2",
        lambda ours, theirs, differing: (
            differing <= ENFORCED_PARTS.get(ours.family, {"cr2", "registers"})
            and ours.vector in (PAGE_FAULT, DOUBLE_FAULT)
            and abs(ours.cr2 - theirs.cr2) < 40
            and (
                _reads_parts(_opcode(ours.last, ours.mode))
                or _loads_table(_opcode(ours.last, ours.mode))
                or _reads_parts(_opcode(ours.code, ours.mode))
                # what stands there is not told
                or ours.ip[1] & ~WINDOW_OFFSETS == WINDOW
                or ours.code.startswith(SYSENTER)
            )
        ),
    ),
    Decision(
        "a call gate of 32 bits pushes all of ESP, however wide the stack that it leaves",
        "vol. 2, CALL",
        lambda ours, theirs, differing: (
            differing <= {"memory"}
            and ours.mode in ("prot32", "prot16")
            and ours.family == "far"
            and _is_far_call(_opcode(ours.code, ours.mode))
            and ours.ip[0] & 3 < ours.level
            # the stack gone to has the upper half that stayed in ESP
            and ours.stack[1] >> 16 != 0
        ),
    ),
    Decision(
        "whether a task keeps the error code pushed when its EIP is bad is the processor's choice",
        "vol. 2, INT",
        lambda ours, theirs, differing: (
            differing <= {"stack", "registers", "memory"}
            and ours.family == "tasks"
            and ours.vector == DOUBLE_FAULT
            and theirs.stack[1] - ours.stack[1] in (2, 4)
        ),
    ),
    Decision(
        "in which order a task switch looks at a segment's level and presence is the processor's choice",
        "vol. 3, 7.3",
        lambda ours, theirs, differing: (
            differing <= {"vector", "registers", "memory"}
            and ours.family == "tasks"
            and {ours.vector, theirs.vector} == {INVALID_TSS, STACK_FAULT}
        ),
    ),
    Decision(
        "VIF and VIP mean nothing in virtual-8086 mode without CR4.VME",
        "vol. 3, 21.3.2",
        lambda ours, theirs, differing: (
            ours.mode == "v86"
            and not ours.cr4 & VME
            and _refused_by(theirs, GENERAL_PROTECTION, 0)
            and theirs.flags & VIRTUAL == VIRTUAL
        ),
    ),
    Decision(
        "of VIF with VIP, a missing page and a breakpoint any may come first at an instruction",
        "vol. 3, 6.9",
        lambda ours, theirs, differing: (
            differing <= {"vector", "error", "cr2", "dr6", "flags", "registers", "memory"}
            and (ours.vector == DEBUG or ours.at_fetch)
            and (theirs.vector, theirs.error) == (GENERAL_PROTECTION, 0)
            and ours.flags & VIRTUAL == VIRTUAL
        ),
    ),
    Decision(
        "the vectors of a virtual-8086 program are read as the program would, which SMAP has no say in",
        "vol. 3, 21.3.3.4",
        lambda ours, theirs, differing: (
            ours.mode == "v86"
            and ours.cr4 & SMAP != 0
            and _refused_by(theirs, PAGE_FAULT, 1)
            and theirs.cr2 < 0x400
        ),
    ),
    Decision(
        "LAR and LSL do not look at the upper half of a 16-byte descriptor",
        "vol. 2, LAR and LSL",
        lambda ours, theirs, differing: (
            differing <= {"flags", "registers", "memory"}
            and ours.mode in LONG_MODES
            # what follows may change flags by the rights found, or all of them
            and not theirs.flags & ~ours.flags & ZERO
            and (b"\x0f\x02" in ours.code or b"\x0f\x03" in ours.code)
        ),
    ),
    Decision(
        "SGDT and SIDT that fault have not stored a part",
        "vol. 3, 6.5",
        lambda ours, theirs, differing: (
            differing <= {"memory"}
            and ours.vector in (PAGE_FAULT, ALIGNMENT, GENERAL_PROTECTION, STACK_FAULT)
            and _is_store_of_table(_opcode(ours.last, ours.mode))
        ),
    ),
    Decision(
        "POPF in virtual-8086 mode asks for IOPL before it reads the stack",
        "vol. 2, POPF",
        lambda ours, theirs, differing: (
            differing <= {"vector", "error", "cr2", "registers"}
            and ours.mode == "v86"
            and (ours.vector, ours.error) == (GENERAL_PROTECTION, 0)
            and theirs.vector in (STACK_FAULT, PAGE_FAULT, ALIGNMENT)
            and _opcode(ours.last, ours.mode)[:1] == b"\x9d"
            and ours.flags & IOPL != IOPL
        ),
    ),
    Decision(
        "a far jump of 64 bits holds all of its offset against the limit of the compatibility-mode segment",
        "vol. 2, JMP",
        lambda ours, theirs, differing: (
            ours.mode == "long64"
            and ours.family == "far"
            and (ours.vector, ours.error) == (GENERAL_PROTECTION, 0)
            and ours.ip[1] < theirs.ip[1]
            and b"\x48\xff" in ours.last[:3]
            and _is_group5(_opcode(ours.last, ours.mode), 5)
        ),
    ),
    Decision(
        "a far CALL or INT to a conforming segment pushes as the program that it stays",
        "vol. 3, 5.8.1.2",
        lambda ours, theirs, differing: (
            ours.level == 3
            and (
                (
                    theirs.vector == PAGE_FAULT
                    and not theirs.error & BY_PROGRAM
                    and ours.cr4 & SMAP != 0
                    and theirs.last == theirs.code
                    # an instruction that goes there, or an exception that went there
                    and (_calls(ours.code, ours.mode) or (theirs.ip[0] != ours.ip[0] and ours.ip[0] & 3 == 3))
                )
                or (
                    ours.vector == PAGE_FAULT
                    and ours.error & BY_PROGRAM != 0
                    and _calls(ours.last, ours.mode)
                )
            )
        ),
    ),
    Decision(
        "an interrupt that cannot push on the stack that it finds has no selector to name",
        "vol. 2, INT",
        lambda ours, theirs, differing: (
            differing <= {"error", "registers"}
            and ours.mode in LONG_MODES
            and ours.vector == STACK_FAULT
            and ours.error in (0, 1)
            and theirs.error & ~1 == ours.stack[0] & ~3
        ),
    ),
    Decision(
        "IRET to a stack segment that is not present is a stack fault",
        "vol. 3, 6.15, interrupt 12",
        lambda ours, theirs, differing: (
            differing <= {"vector", "registers"}
            and ours.mode == "long64"
            and (ours.vector, theirs.vector) == (STACK_FAULT, NOT_PRESENT)
            and ours.error != 0
            and _opcode(ours.last, ours.mode)[:1] == b"\xcf"
        ),
    ),
    Decision(
        "whether an access that goes around the end of 4 GB faults is the processor's choice",
        "vol. 3, 5.3",
        lambda ours, theirs, differing: (
            differing <= {"cr2", "registers"}
            and ours.mode != "long64"
            and ours.vector == DOUBLE_FAULT
            and (ours.cr2, theirs.cr2 >> 3) == (0, 0xFFFFFFFF >> 3)
        ),
    ),
    Decision(
        "tables' bases and INVPCID's address are canonical by the processor's width, 5-level paging or not",
        "vol. 1, 3.3.7.1",
        lambda ours, theirs, differing: (
            ours.mode == "long64"
            and (theirs.vector, theirs.error) == (GENERAL_PROTECTION, 0)
            and _takes_wide_address(_opcode(theirs.last, theirs.mode))
            and ours.ip[1] > theirs.ip[1]
        ),
    ),
    Decision(
        "a stack pointer that is not canonical comes before one that is not aligned",
        "vol. 3, table 6-2",
        lambda ours, theirs, differing: (
            differing <= {"vector", "registers"}
            and ours.mode == "long64"
            and (ours.vector, ours.error, theirs.vector) == (STACK_FAULT, 0, ALIGNMENT)
            and ours.stack[1] % 8 != 0
        ),
    ),
    Decision(
        "CLRSSBSY sets CF where the token was not busy",
        "vol. 2, CLRSSBSY",
        lambda ours, theirs, differing: (
            ours.family == "enforcement" and ours.flags ^ theirs.flags == CARRY and CLRSSBSY in ours.code
        ),
    ),
    Decision(
        "a far frame begins with four bytes of 0 on an aligned shadow stack, too",
        "vol. 2, CALL and INT",
        lambda ours, theirs, differing: (
            differing <= {"cr2", "registers", "memory"}
            and ours.family == "enforcement"
            and ours.cr2 - theirs.cr2 == 4
            and ours.cr2 % 8 == 4
        ),
    ),
    Decision(
        "the four bytes that SAVEPREVSSP pops where CF is set lie above the token",
        "vol. 2, SAVEPREVSSP",
        lambda ours, theirs, differing: (
            ours.family == "enforcement"
            and ours.mode != "long64"
            and (
                theirs.last.startswith(SAVEPREVSSP)
                # what stands there is not told
                or (SAVEPREVSSP in ours.code and theirs.vector == DOUBLE_FAULT)
            )
            and theirs.flags & CARRY != 0
        ),
    ),
    Decision(
        "what faults on a shadow stack leaves the program where it was",
        "vol. 3, 6.5",
        lambda ours, theirs, differing: (
            ours.family == "enforcement"
            and ours.vector in (DOUBLE_FAULT, GENERAL_PROTECTION, PAGE_FAULT, CONTROL_PROTECTION)
            and (ours.ip[1] & IP_LIMIT != START or ours.ip[0] == _first_selector(ours.level))
            and (
                (
                    ours.ip[1] == theirs.ip[1]
                    and (ours.ip[0], ours.stack[0]) != (theirs.ip[0], theirs.stack[0])
                )
                # or the exception has a frame where the outer stack pointer leads in the inner segment
                or (ours.ip[0] not in HANDLERS and theirs.ip[0] in HANDLERS)
            )
        ),
    ),
    Decision(
        "a far return to where SSP would not be canonical is refused",
        "vol. 2, RET and IRET",
        lambda ours, theirs, differing: (
            (ours.vector, ours.error) == (GENERAL_PROTECTION, 0) and not _is_canonical(theirs.ssp)
        ),
    ),
    Decision(
        "whether a return needs an SSP below 4 GB is for the code segment that it goes to",
        "vol. 2, RET and IRET",
        lambda ours, theirs, differing: (
            ours.mode in LONG_MODES
            and (theirs.vector, theirs.error) == (GENERAL_PROTECTION, 0)
            and _opcode(theirs.last, theirs.mode)[:1] in RETURNS
            and (ours.ssp | theirs.ssp) >> 32 != 0
        ),
    ),
    Decision(
        "IRET within a level frees the token of the shadow stack that it leaves, and no other",
        "vol. 2, IRET",
        lambda ours, theirs, differing: (
            ours.mode in LONG_MODES
            and ours.family == "enforcement"
            and b"\xcf" in ours.code
            and (
                differing <= {"shadow", "memory"}
                or (
                    theirs.vector == PAGE_FAULT
                    and theirs.error & TO_SHADOW_STACK != 0
                    and _opcode(theirs.last, ours.mode)[:1] == b"\xcf"
                )
            )
        ),
    ),
    Decision(
        "the bitmap of legacy code is read as the program would",
        "vol. 1, 17.3, and vol. 3, 4.6",
        lambda ours, theirs, differing: (
            ours.level == 3
            and (
                (_faults_at_bitmap(ours) and ours.error & BY_PROGRAM != 0)
                or (_faults_at_bitmap(theirs) and theirs.error & BY_PROGRAM == 0)
            )
        ),
    ),
    Decision(
        "a far CALL between 64-bit and compatibility mode pushes on the stack of the mode it is in",
        "vol. 2, CALL",
        lambda ours, theirs, differing: (
            ours.mode in LONG_MODES
            and ours.family == "far"
            and _is_far_call(_opcode(ours.code, ours.mode))
            and _pushed_elsewhere(ours, theirs, differing)
        ),
    ),
)


# Of cases that Bochs does not survive: what they come to here.
LOST_THERE = (
    Decision(
        "LTR takes 16 bytes of a descriptor in compatibility mode, too",
        "vol. 3, 8.2.3",
        lambda ours, _theirs, _differing: (
            ours.mode in ("compat32", "compat16")
            and (ours.vector, ours.level) == (GENERAL_PROTECTION, 0)
            and ours.error != 0
            and _opcode(ours.last, ours.mode)[:2] == b"\x0f\x00"
            and ours.last[2] >> 3 & 7 == 3
        ),
    ),
)


def decided(ours: Outcome, theirs: Outcome) -> Decision | None:
    differing = ours.differs_in(theirs)
    return next((row for row in TABLE if row.covers(ours, theirs, differing)), None)


def decided_alone(ours: Outcome) -> Decision | None:
    return next((row for row in LOST_THERE if row.covers(ours, ours, set())), None)
