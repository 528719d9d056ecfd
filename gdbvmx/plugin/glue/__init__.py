"""Between the commands and gdb: the one place that imports gdb."""

from __future__ import annotations

from . import commands, disassembler, foreign, functions, mi, stops

_loaded = False


def load() -> None:
    """Registers everything, once however often it is called."""
    global _loaded
    if _loaded:
        return
    for module in (commands, mi, functions, foreign, stops, disassembler):
        module.register()
    _loaded = True
