"""QEMU's command line, and what its end means."""

from __future__ import annotations

from itertools import pairwise

import pytest

from gdbvmx.reference import qemu


def test_the_arguments_say_what_the_options_say() -> None:
    guest = qemu.Guest("image.elf", append="a b", modules=("x,y", "z"), memory_mb=64, cpus=2, machine="q35")
    words = guest.arguments(["-S"])
    values = dict(pairwise(words))
    assert values["-accel"] == "kvm"
    assert values["-cpu"] == "host,+vmx"
    assert (values["-kernel"], values["-append"], values["-initrd"]) == ("image.elf", "a b", "x,,y,z")
    assert (values["-m"], values["-smp"], values["-M"]) == ("64", "2", "q35")
    assert words[-1] == "-S"


def test_tcg_is_not_asked_for_vmx() -> None:
    words = qemu.Guest("image.elf", accel="tcg").arguments([])
    assert words[words.index("-cpu") + 1] == "max"
    assert "-append" not in words
    assert "-initrd" not in words


@pytest.mark.parametrize(
    ("status", "complaint", "refusal"),
    [
        (1, "", None),
        (1, "qemu: warning: host doesn't support requested feature", None),
        (1, "qemu: warning: one\nqemu: could not open disk\n", "qemu: could not open disk"),
        (3, "qemu: said something", None),
        (None, "qemu: said something", None),
    ],
)
def test_a_refusal_is_told_from_a_guests_status(
    status: int | None, complaint: str, refusal: str | None
) -> None:
    assert qemu.refusal(status, complaint) == refusal
