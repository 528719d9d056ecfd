"""What the Bochs launcher does before Bochs starts, and how it reads what came of a run."""

from __future__ import annotations

from pathlib import Path

import pytest

from gdbvmx.reference import bochs


def test_missing_packages_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert {"bochs", "grub-common", "xorriso", "mtools"} <= set(bochs.missing_packages())
    with pytest.raises(bochs.BochsMissingError, match=r"apt-get install bochs .*xorriso"):
        bochs.run(tmp_path / "image.elf")


def test_a_missing_file_counts_as_its_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(bochs, "_FILES", {tmp_path / "none": "bochsbios"})
    monkeypatch.setattr(bochs, "_PROGRAMS", {})
    assert bochs.missing_packages() == ["bochsbios"]


@pytest.mark.parametrize(
    ("serial", "value"),
    [
        ("end: value 0\n", 0),
        ("end: value 3\nmore\nend: value 54\n", 54),
        ("the end: value 3\n", None),
        ("", None),
    ],
)
def test_the_end_value_is_that_of_the_last_line(serial: str, value: int | None) -> None:
    run = bochs.BochsRun(serial, log="", powered_off=True, timed_out=False, cpu_seconds=1.0)
    assert run.value == value


def test_complaints_are_the_lines_that_name_a_failed_check() -> None:
    complaints = ["00[CPU0 ] VMFAIL: VMCS host CS selector 0", "01[CPU0 ] VMENTER FAIL: RFLAGS[1] cleared"]
    log = "\n".join(["00[CPU0 ] reset", *complaints, "02[CPU0 ] a word on something else"])
    run = bochs.BochsRun("", log, powered_off=False, timed_out=False, cpu_seconds=1.0)
    assert run.complaints == complaints


def test_words_reach_grub_unchanged() -> None:
    assert bochs._quoted("a'b$c") == "'a'\\''b$c'"
