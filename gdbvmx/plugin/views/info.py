"""The state of each processor's VMX."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from .style import Style

_MODES = {
    "off": "not in VMX operation",
    "root": "VMX root operation",
    "non-root": "VMX non-root operation",
}


def info(state: Mapping[str, Any], style: Style) -> Iterator[str]:
    if "facts" in state:  # a target that is not gdbvmx's
        width = max(8, *(len(name) for name, _ in state["facts"]))
        for name, text in state["facts"]:
            yield f"{style.title(f'{name:<{width}}')} {text}"
        return
    memory = f"{state['memory'] >> 20} MiB"
    yield f"CPU {state['cpu']}, {memory} of RAM, {state['instructions']} instructions retired"
    for number, vcpu in enumerate(state["vcpus"]):
        yield style.title(f"vCPU {number}: {_MODES[vcpu['mode']]}")
        for name, text in _lines(vcpu):
            yield f"  {name:<14} {text}"
    if state["forced"]:
        yield f"forced next: {', '.join(_forced(state['forced']))}"


def _forced(forced: Mapping[str, int]) -> Iterator[str]:
    numbered = {"reason": "VM exit", "error": "VM-instruction error"}
    for name, value in forced.items():
        yield f"{numbered[name]} {value}" if name in numbered else f"{name} {value:#x}"


def _lines(vcpu: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    if vcpu["vmxon"] is not None:
        yield "VMXON region", f"{vcpu['vmxon']:#x}"
        yield "current VMCS", _current(vcpu)
        yield "active VMCSs", ", ".join(map(hex, vcpu["active"])) or "none"
    for name in ("last_exit", "last_failure"):
        if vcpu[name]:
            yield name.replace("_", " "), vcpu[name]


def _current(vcpu: Mapping[str, Any]) -> str:
    if vcpu["current"] is None:
        return "none"
    text = f"{vcpu['current']:#x} ({'launched' if vcpu['launched'] else 'clear'})"
    if others := vcpu.get("also_active_on"):
        text += f"; active on vCPU {', '.join(map(str, others))} too, without VMCLEAR there"
    return text
