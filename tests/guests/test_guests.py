"""The guests on our machine. tests/oracle/ holds the same images against Bochs."""

from __future__ import annotations

from pathlib import Path

import pytest

from gdbvmx.machine import Machine

LIMIT = 200_000_000  # instructions; the longest of these runs takes a hundredth
RUNS_ON = 2_000_000  # for those that do not end
ENDINGS = {"shutdown": ("shutdown", None), "runs-on": ("count", None)}

MINIVISOR_SAYS = """\
guest A: hello from 64-bit code
guest A: CPUID says that I run on minivisor
guest A: frames gone down 0x7
guest A: microcode revision 0x1234
guest A: FS base, without an exit 0x40000000
guest A: #GP for an MSR that is not there: 0x1
guest A: sum over pages that came on demand 0xa
guest A: and from the 2-MB page 0x1122334455667788
guest B: hello from 32-bit code
guest A: woken by tick 0x1
guest B: the preemption timer took the CPU from me, and gave it back
guest A: woken by tick 0x2
minivisor: guest B: first write to page 0x200000, now writable
guest B: wrote the log page
guest B: done
guest A: woken by tick 0x3
minivisor: guest A: 327 exits
  cpuid                    2
  hlt                      3
  vmcall                   1
  io-instruction         314
  rdmsr                    2
  wrmsr                    1
  ept-violation            4
minivisor: guest B: 13 exits
  cpuid                    1
  vmcall                   8
  ept-violation            1
  preemption-timer         3
minivisor: VMXOFF
end: value 0
"""

VIRTAPIC_SAYS = """\
guest: interrupts are off
guest: vector 0x31
guest: interrupts are on
guest: vector 0x41
guest: they wait while the task priority is 0x50
guest: vector 0x52
host: the guest has ended vector 0x52
guest: vector 0x41
host: the guest wrote 0xc4500 at 0x300
host: the guest reads at 0x390
guest: current count 0x1234
end: value 0
"""


def run(image: Path, command_line: str = "", limit: int = LIMIT) -> tuple[str, int | None, str]:
    """How a run ended: the kind of stop, the status of an exit, and all text on COM1."""
    machine = Machine.boot(image, append=command_line, memory=64 << 20)
    stop = machine.run(limit)
    return stop["kind"], stop.get("status"), machine.serial_text().replace("\r\n", "\n")


def test_minivisor_says_what_it_says_on_bochs(minivisor: Path) -> None:
    kind, status, text = run(minivisor)
    assert text.endswith(MINIVISOR_SAYS)
    assert (kind, status) == ("exit", 1)


def test_virtual_interrupts_are_delivered_and_ended(virtapic: Path) -> None:
    kind, status, text = run(virtapic)
    assert text == VIRTAPIC_SAYS
    assert (kind, status) == ("exit", 1)


def test_exits_of_the_virtual_apic_are_explained(virtapic: Path) -> None:
    machine = Machine.boot(virtapic, memory=64 << 20)
    machine.core.add_catch("exit")
    said = []
    while machine.run(LIMIT)["kind"] == "catch":
        why = machine.core.why()
        assert why is not None
        said.append(" ".join(why["paragraphs"]))
    for text, words in zip(
        said,
        ["bit 18 of eoi_exit_bitmap1", "interrupt command 0xc4500", "offset 0x390", "No control"],
        strict=True,
    ):
        assert words in text


@pytest.mark.parametrize("image", ["minivisor", "brokenvisor"])
def test_power_off_is_clean(image: str, request: pytest.FixtureRequest) -> None:
    kind, _, text = run(request.getfixturevalue(image), "poweroff=shutdown")
    assert text.endswith("end: value 0\n")
    assert kind == "poweroff"


def test_every_mistake_gets_the_answer_of_the_table(brokenvisor: Path) -> None:
    _, status, text = run(brokenvisor, "mistake=list")
    assert status == 1
    header, *rows = [line.split("\t") for line in text.splitlines() if line.count("\t") == 4]
    assert header == ["name", "outcome", "number", "value", "breaks"]
    assert len(rows) > 60
    wrong = []
    for name, outcome, _, value, _ in rows:
        ended = run(brokenvisor, f"mistake={name}", RUNS_ON if outcome == "runs-on" else LIMIT)
        expected = ENDINGS.get(outcome, ("exit", int(value) << 1 | 1))
        if ended[:2] != expected:
            wrong.append(f"{name}: {ended[0]} {ended[1]}, {' / '.join(ended[2].splitlines()[-4:])}")
    assert not wrong, "\n".join(wrong)


def test_an_unknown_mistake_is_refused(brokenvisor: Path) -> None:
    kind, status, text = run(brokenvisor, "mistake=none-such")
    assert "mistake=none-such is unknown; mistake=list prints all" in text
    assert (kind, status) == ("exit", 9)
