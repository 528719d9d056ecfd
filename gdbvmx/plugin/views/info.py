"""The state of each processor's VMX."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Callable

from .style import Style


def info(state: Mapping[str, Any], symbol: Callable[[int], str], style: Style) -> Iterator[str]:
    memory = f"{state['memory'] >> 20} MiB"
    yield f"{state['cpu']}, {memory} of RAM, {state['instructions']} instructions retired"
    for number, vcpu in enumerate(state["vcpus"]):
        yield style.title(f"vCPU {number}")
        for name, value in vcpu.items():
            yield f"  {name}: {value}"
