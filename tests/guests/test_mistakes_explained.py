"""Every mistake that brokenvisor knows is explained, as what it is."""

from __future__ import annotations

from pathlib import Path

from gdbvmx.machine import Machine

LIMIT = 100_000_000
# What the explanation of an outcome begins with or holds.
HEADLINES = {
    "vmfail-invalid": "VMfailInvalid (CF = 1)",
    "vmfail-valid": "VMfailValid {number} (ZF = 1): ",
    "entry-failure": "VM entry failed: exit reason 0x{failure:x}",
    "vm-exit": "VM exit {number} (",
    "exception": " raised {exception}",
}
EXCEPTIONS = {6: "#UD", 13: "#GP"}
# Of mistakes with which nothing fails: after how many instructions there is a hint, and what it says.
HINTS = {
    "rip-not-advanced": (2_000_000, "add the VM-exit instruction length to GUEST_RIP"),
    "guest-without-exit": (60_000_000, "instructions since its last VM entry without an exit"),
    "invept-forgotten": (2_000_000, "EPT does not allow it any more at guest-physical"),
}
# VM-instruction errors and exit reasons that come from a rule on a field.
BY_RULE = {("vmfail-valid", 7), ("vmfail-valid", 8), ("entry-failure", 33)}


def boot(image: Path, mistake: str) -> Machine:
    return Machine.boot(image, append=f"mistake={mistake}")


def mistakes(image: Path) -> list[tuple[str, str, int]]:
    machine = boot(image, "list")
    machine.run(LIMIT)
    rows = [line.split("\t") for line in machine.serial_text().splitlines() if "\t" in line]
    return [(name, outcome, int(number)) for name, outcome, number, *_ in rows[1:]]


def test_every_mistake(brokenvisor: Path):
    found = mistakes(brokenvisor)
    assert len(found) > 60
    wrong = [f"{row}: {said}" for row in found if (said := explained_otherwise(brokenvisor, *row))]
    assert not wrong, "\n".join(wrong)


def explained_otherwise(image: Path, name: str, outcome: str, number: int) -> str:
    """What the explanation says if it is not what it should be."""
    core = (machine := boot(image, name)).core
    if outcome in ("vmfail-invalid", "vmfail-valid", "entry-failure"):
        core.add_catch("fail")
    elif outcome == "vm-exit":
        core.add_catch("exit", [number])
    limit, hint = HINTS.get(name, (LIMIT, ""))
    machine.run(limit)
    why = core.why()
    if why is None:
        return "nothing"
    if outcome == "runs-on":
        said = " ".join(why["paragraphs"])
        return "" if hint in said else said
    if outcome == "shutdown":
        return "" if why["headline"].startswith(("Triple fault", "VMX abort")) else why["headline"]
    expected = HEADLINES[outcome].format(
        number=number, failure=number | 1 << 31, exception=EXCEPTIONS.get(number)
    )
    deciding = [rule for rule in why["rules"] if rule["deciding"]]
    if expected not in why["headline"] or len(deciding) != ((outcome, number) in BY_RULE):
        return f"{why['headline']}, deciding {[rule['id'] for rule in deciding]}"
    return ""


def test_a_guest_that_gets_on_has_no_hints(minivisor: Path):
    core = (machine := Machine.boot(minivisor)).core
    core.add_catch("exit", [10])
    machine.run(LIMIT)
    why = core.why()
    assert why is not None
    assert not any("VM entries ended" in said or "cached" in said for said in why["paragraphs"])
