#!/usr/bin/env python3
"""Damages running guests at random and asks the machine everything about what became of them.

    tests/fuzz/guests.py --seconds 600              new cases, until one fails
    tests/fuzz/guests.py --seed 1 --case 4711       one again

A case boots one of our guests, stops it somewhere, changes code, registers, tables or VMCS fields to what
they should never be, runs on and looks at all views. The guest may end as it likes: the machine may refuse
what it is asked with its own error, and nothing else. Exit status: 0, or 1 with the case and its seed.
"""

from __future__ import annotations

import argparse
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from random import Random

from gdbvmx import _core
from gdbvmx.explanation import explanation_lines, rule_lines
from gdbvmx.machine import Machine

BUILD = Path(__file__).resolve().parents[2] / "guests" / "build"
# Image, command lines, processors, and about how many instructions it runs.
GUESTS = (
    ("minivisor", ("", "poweroff=shutdown"), (1, 2), 250_000),
    ("brokenvisor", ("mistake=ept-empty", "mistake=host-cr4", "mistake=tr-type"), (1,), 90_000),
    ("virtapic", ("",), (1, 2), 400_000),
    ("modes", ("",), (1,), 16_000),
    ("mutate", ("seed=5 count=40 setup=protected", "seed=6 count=40 setup=pae-ept"), (1,), 400_000),
)
# How far a damaged guest runs, in instructions, and how long that may take in seconds before it counts as a
# hang: a thousand times what it takes.
STEPS, HANG = 20_000, 30.0
EDGES = (
    0,
    1,
    0x7F,
    0x80,
    0xFFF,
    0x1000,
    0x7FFF_FFFF,
    0x8000_0000,
    1 << 47,
    (1 << 47) - 1,
    1 << 63,
    (1 << 64) - 1,
)


def number(random: Random, near: int = 0) -> int:
    """64 bits: an edge, a neighbour of `near` or one bit away from it, or anything."""
    return (
        random.choice(EDGES),
        near ^ 1 << random.randrange(64),
        (near + random.randint(-16, 16)) % (1 << 64),
        random.getrandbits(64),
        random.getrandbits(random.randint(1, 64)),
    )[random.randrange(5)]


def spoil_code(core: _core.Machine, random: Random) -> None:
    # Half of the time a form with an escape byte or a VEX prefix, where most instructions are.
    start = random.choice((b"", b"", b"\x0f", b"\x0f\x01", b"\x66\x0f\x38", b"\xc5", b"\xc4", b"\xf3\x0f"))
    code = start + random.randbytes(random.randint(1, 15))
    core.write_memory((core.read_register("rip") + core.read_register("cs_base")) % (1 << 64), code)


def spoil_register(core: _core.Machine, random: Random) -> None:
    name, bits = random.choice(core.register_names())
    vcpu = random.randrange(core.cpus)
    value = number(random, core.read_register(name, vcpu)) | random.getrandbits(128) << 64
    core.write_register(name, value & (1 << bits) - 1, vcpu)


def spoil_field(core: _core.Machine, random: Random) -> None:
    field = random.choice(_core.fields())
    value = number(random, core.read_vmcs(field["name"]))
    core.write_vmcs(field["name"], value & (1 << field["width"]) - 1)


def spoil_table(core: _core.Machine, random: Random) -> None:
    """A byte of what the processor itself reads: descriptor and paging tables, bitmaps, the APIC page."""
    registers = ("cr3", "gdtr_base", "idtr_base", "tr_base", "ldtr_base", "rsp")
    fields = ("ept_pointer", "msr_bitmap_address", "io_bitmap_a_address", "virtual_apic_address")
    place = random.randrange(len(registers) + len(fields))
    if place < len(registers):
        base = core.read_register(registers[place])
        base = base if registers[place] == "cr3" else core.translate(base) or 0
    else:
        base = core.read_vmcs(fields[place - len(registers)])
    at = (base & ~0xFFF & (1 << 40) - 1) + random.choice((base & 0xFFF, 0, 8, random.randrange(4096)))
    core.write_physical(at, bytes([random.getrandbits(8)]))


def force(core: _core.Machine, random: Random) -> None:
    names = (
        "qualification",
        "guest_linear",
        "guest_physical",
        "interruption_info",
        "instruction_length",
        "vector",
    )
    core.force(random.randrange(80), **{name: number(random) for name in names if random.random() < 0.2})


def watch(core: _core.Machine, random: Random) -> None:
    rip = core.read_register("rip")
    core.add_breakpoint((rip + random.randrange(64)) % (1 << 64))
    core.add_watchpoint(
        number(random, core.read_register("rsp")),
        random.choice((1, 2, 8, 4096)),
        random.choice(("write", "access")),
    )
    core.add_catch(random.choice(("entry", "exit", "fail")))


def type_keys(core: _core.Machine, random: Random) -> None:
    core.serial_input(random.randbytes(random.randrange(100)))


SPOILERS: tuple[Callable[[_core.Machine, Random], None], ...] = (
    spoil_code,
    spoil_code,
    spoil_register,
    spoil_register,
    spoil_field,
    spoil_field,
    spoil_table,
    spoil_table,
    force,
    watch,
    type_keys,
)


def look(core: _core.Machine, random: Random) -> None:
    """Asks for every view of every world."""
    for world in core.worlds():
        look_at(core, world["vcpu"], world["vmcs"], random)
    core.last_events(100)
    core.take_serial()


def look_at(core: _core.Machine, vcpu: int, vmcs: int | None, random: Random) -> None:
    rip = core.read_register("rip", vcpu, vmcs)
    views: tuple[Callable[[], object], ...] = (
        lambda: [core.read_register(name, vcpu, vmcs) for name, _ in core.register_names()],
        lambda: core.code_bits(vcpu, vmcs),
        lambda: core.read_memory(rip, 64, vcpu, vmcs),
        lambda: core.walk(number(random, rip), vcpu, vmcs),
        lambda: core.walk_ept(number(random), vcpu, vmcs, random.choice(("read", "write", "execute"))),
        lambda: core.bitmap(random.choice(("msr", "io")), vcpu, vmcs),
        lambda: core.vmx_info(vcpu),
        lambda: core.vmcs(vcpu, vmcs),
        lambda: list(rule_lines(core.check_entry(vcpu, vmcs))),
        lambda: list(explanation_lines(why)) if (why := core.why(vcpu)) else None,
    )
    for view in views:
        with suppress(_core.Error):
            view()


def case(random: Random) -> None:
    """One case. Raises what the machine should not have raised, or TimeoutError."""
    name, lines, cpus, length = random.choice(GUESTS)
    machine = Machine.boot(
        BUILD / f"{name}.elf", append=random.choice(lines), memory=32 << 20, cpus=random.choice(cpus)
    )
    core = machine.core
    core.run(random.randrange(length))
    for _ in range(random.randint(1, 4)):
        for _ in range(random.randint(1, 3)):
            with suppress(_core.Error):
                random.choice(SPOILERS)(core, random)
        start = time.process_time()
        core.run(STEPS, timeout=HANG)
        if time.process_time() - start > HANG / 2:
            raise TimeoutError(f"{STEPS} instructions took {HANG / 2} s of CPU time and more")
        look(core, random)


def generator(seed: int, number: int) -> Random:
    return Random(f"{seed} {number}")


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=60, help="how long [%(default)s]")
    parser.add_argument("--seed", type=int, default=time.time_ns() % 1_000_000, help="[by the clock]")
    parser.add_argument("--case", type=int, help="only this one")
    arguments = parser.parse_args()
    end = time.monotonic() + arguments.seconds
    at = arguments.case or 0
    while True:
        try:
            case(generator(arguments.seed, at))
        except KeyboardInterrupt:
            return 130
        except BaseException:  # a panic of the core is no Exception
            traceback.print_exc()
            print(f"fuzz: {sys.argv[0]} --seed {arguments.seed} --case {at} fails", file=sys.stderr)
            return 1
        at += 1
        if arguments.case is not None or time.monotonic() > end:
            print(f"fuzz: {at} cases of seed {arguments.seed}, none failed")
            return 0


if __name__ == "__main__":
    sys.exit(main())
