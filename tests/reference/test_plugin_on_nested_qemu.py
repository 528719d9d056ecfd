"""The plugin on a gdb that is attached to the nested QEMU, held against gdb on our own machine.

Long: reading a whole VMCS of KVM's takes some hundred steps. `make reference` runs this.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from gdbvmx.trace.capture import Gdb

from .conftest import INSIDE, PATIENCE, Attached, Command, Served

pytestmark = [
    pytest.mark.bochs,
    pytest.mark.long,
    pytest.mark.timeout(3600),
]

NESTED = (*INSIDE, "--keep")

CR0_ET = 1 << 4

# Fields that an exit for OUT leaves undefined (SDM 28.2).
UNDEFINED = {"guest_linear_address", "exit_instruction_info"}

# Mistakes that end in an entry failure and in each VMfail of an entry.
MISTAKES = ("tr-type", "host-cr4", "missing-control")


def run(gdb: Gdb) -> None:
    gdb.resume()
    assert gdb.wait_for_stop(PATIENCE) is not None


def fields(gdb: Gdb) -> dict[str, int]:
    """The value of each field of the VMCS that the two have to agree on."""
    lines = [line.split() for line in gdb.command("vmx vmcs -r").splitlines()]
    values = {name: int(value, 16) for _, name, value in lines if name not in UNDEFINED}
    # KVM keeps what the hypervisor wrote; a processor has ET at 1 whatever an entry says (SDM 27.3.2.1).
    values["guest_cr0"] |= CR0_ET
    return values


def rules(gdb: Gdb) -> list[str]:
    return re.findall(r"^ *=> (\S+ .*)", gdb.command("vmx why"), re.MULTILINE)


def test_it_tells_what_it_tells_on_our_machine(attached: Attached, minivisor: Path) -> None:
    with attached(minivisor, "run") as ours, attached(minivisor, *NESTED) as theirs:
        assert "QEMU with KVM" in theirs.command("vmx info")
        for gdb in (ours, theirs):
            gdb.command("vmx catch exit")
            run(gdb)
        current = re.compile(r"current VMCS +(\w+)")
        found = [current.search(gdb.command("vmx info")) for gdb in (ours, theirs)]
        assert found[0] and found[1] and found[0][1] == found[1][1]
        # But for the numbers of the event and its time.
        last = [gdb.command("vmx exits 1").splitlines()[1:] for gdb in (ours, theirs)]
        assert [line.split()[2:] for line in last[0]] == [line.split()[2:] for line in last[1]]
        held, told = fields(ours), fields(theirs)
        common = held.keys() & told.keys()
        assert len(common) > 100
        assert {name: told[name] for name in common} == {name: held[name] for name in common}
        for command in (
            "vmx check",
            "vmx ept 0x1000",
            "vmx ept 0x3fffffff",
            "vmx walk $rip",
            "vmx bitmap msr",
            "vmx bitmap io",
        ):
            assert theirs.command(command) == ours.command(command)
        # Which bit of a bitmap made it exit, only our machine tells.
        cause = [gdb.command("vmx why").splitlines()[0] for gdb in (ours, theirs)]
        assert cause[0] == cause[1]


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_breaks_the_same_rule(attached: Attached, brokenvisor: Path, mistake: str) -> None:
    words = ("--append", f"mistake={mistake}")
    found = []
    for machine in (("run",), NESTED):
        with attached(brokenvisor, *machine, *words) as gdb:
            gdb.command("vmx catch fail")
            run(gdb)
            found.append(rules(gdb))
    assert found[0]
    assert found[0] == found[1]


def test_the_traces_that_gdb_records_are_alike(
    served: Served, command: Command, minivisor: Path, tmp_path: Path
) -> None:
    for name, machine in (("ours", ("run",)), ("qemu", NESTED)):
        with served(*machine, minivisor) as address:
            words = ("--target", address, "--image", minivisor, "--output", tmp_path / name)
            recorded = command("trace", "record", *words)
        assert "recording ended: exited" in recorded.stderr, recorded.stderr
    compared = command("trace", "diff", tmp_path / "ours", tmp_path / "qemu")
    assert compared.returncode == 0, compared.stdout
