"""The plugin's commands without gdb: what they ask, what they say, and that the documentation knows them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest

from gdbvmx.plugin.commands import COMMANDS
from gdbvmx.plugin.commands.base import CommandError
from gdbvmx.plugin.target import ABILITIES, TargetError
from gdbvmx.plugin.target.gdbvmx import GdbvmxTarget, speaks
from gdbvmx.plugin.target.unknown import UnknownTarget
from gdbvmx.plugin.views.style import Style

DOCS = Path(__file__).resolve().parents[2] / "docs" / "gdb.md"


class Target:
    """Answers from a table, and notes what was asked."""

    lack = "this one does not"

    def __init__(self, answers: Mapping[str, Any]) -> None:
        self.answers = answers
        self.asked: list[tuple[str, dict[str, Any]]] = []

    def abilities(self) -> frozenset[str]:
        return frozenset(ABILITIES)

    def call(self, method: str, **params: Any) -> Any:
        self.asked.append((method, params))
        return self.answers[method]


class Context:
    def __init__(self, target: Any, *, colour: bool = False) -> None:
        self.target = target
        self.style = Style(colour)
        self.files: dict[str, str] = {}

    def evaluate(self, expression: str) -> int:
        return int(expression, 0)

    def symbol(self, address: int) -> str:
        return "main+4" if address == 0x1004 else ""

    def add_symbols(self, file: str, offset: int, world: str) -> str:
        return f"{world} {file} {offset:#x}"

    def write_file(self, path: str, pieces: Iterable[str]) -> None:
        self.files[path] = "".join(pieces)


def run(command: str, words: str, context: Context) -> list[str]:
    return list(COMMANDS[command].execute(context, words.split()))


EXIT = {"seq": 4, "icount": 99, "vcpu": 0, "kind": "exit", "reason": 10, "name": "cpuid", "guest_rip": 0x1004}


def test_exits_have_symbols():
    lines = run("exits", "", Context(Target({"exits": [EXIT]})))
    assert lines[1].split() == ["4", "99", "0", "cpuid", "(10)", "0x1004", "<main+4>"]


def test_colours_are_only_there_when_wanted():
    context = Context(Target({"exits": [EXIT]}))
    assert "\033" not in "".join(run("exits", "", context))
    assert "\033" in "".join(run("exits", "", Context(Target({"exits": [EXIT]}), colour=True)))


def field(name: str, group: str, value: int, *, changed: bool = False) -> dict[str, Any]:
    return {
        "name": name, "encoding": 0x681E, "group": group, "width": 16, "section": "", "value": value,
        "changed": changed, "text": [],
    }  # fmt: skip


FIELDS = [
    field("guest_rip", "guest", 1, changed=True),
    field("guest_rsp", "guest", 2),
    field("vpid", "control", 3),
]


@pytest.mark.parametrize(
    "words, shown",
    [
        ("-r", ["guest_rip", "guest_rsp", "vpid"]),
        ("-r guest", ["guest_rip", "guest_rsp"]),
        ("-r -d", ["guest_rip"]),
        ("-r vpid guest_rsp", ["guest_rsp", "vpid"]),
        ("-r *r?p", ["guest_rip", "guest_rsp"]),
        ("-r guest_rs", ["guest_rsp"]),
    ],
)
def test_fields_are_chosen(words: str, shown: list[str]):
    target = Target({"vmcs": FIELDS, "vmcs_seen": None})
    assert [line.split()[1] for line in run("vmcs", words, Context(target))] == shown
    assert target.asked[-1][0] == "vmcs_seen"


def test_a_negative_value_is_what_its_bits_are():
    target = Target({"vmcs": FIELDS, "write_field": None, "describe": []})
    run("vmcs", "set vpid -1", Context(target))
    assert ("write_field", {"field": "vpid", "value": 0xFFFF}) in target.asked


def test_a_trace_is_saved_piece_by_piece():
    class Pieces(Target):
        def call(self, method: str, **params: Any) -> Any:
            if method == "trace_status":
                return {"running": False, "events": 2}
            return {"text": {0: "ab\n", 3: "c\n"}.get(params["offset"], ""), "next": params["offset"] + 3}

    context = Context(Pieces({}))
    run("trace", "save out.jsonl", context)
    assert context.files == {"out.jsonl": "ab\nc\n"}


@pytest.mark.parametrize("words", ["", "frob", "exit --frob", "delete", "delete x"])
def test_wrong_words_are_one_line(words: str):
    with pytest.raises(CommandError) as caught:
        run("catch", words, Context(Target({})))
    assert "\n" not in str(caught.value)


def test_an_ability_that_is_missing_is_named():
    for name, command in COMMANDS.items():
        if command.needs:
            words = {"catch": "list", "watch": "x", "force": "x", "trace": "stop", "bitmap": "io"}.get(
                name, "1"
            )
            words = "" if name in ("info", "check", "why") else words
            with pytest.raises(TargetError, match=f"vmx {name} needs a target that .* and it is a toaster"):
                run(name, words, Context(UnknownTarget("it is a toaster")))


def test_every_need_is_an_ability():
    for command in COMMANDS.values():
        assert set(command.needs) <= set(ABILITIES)


def test_every_command_is_documented():
    text = DOCS.read_text(encoding="utf-8")
    for name in COMMANDS:
        assert f"vmx {name}" in text


def test_a_stub_that_is_not_ours():
    assert not speaks(lambda packet: None)
    with pytest.raises(TargetError, match="no JSON"):
        speaks(lambda packet: b"xyzzy")
    with pytest.raises(TargetError, match="E01"):
        speaks(lambda packet: b"E01")
    with pytest.raises(TargetError, match="neither"):
        GdbvmxTarget("it", lambda packet: b"{}".hex().encode(), lambda: None)
