"""Code of 16 and 32 bits, decoded as the processor would.

The target description is a 64-bit one whatever the mode, so gdb decodes everything as 64-bit code. Here
capstone decodes the rest, where gdb's Python can import it.
"""

from __future__ import annotations

from typing import Any

import gdb

from ..target import TargetError
from .connection import current_target, thread_id

_ARCHITECTURE = "i386:x86-64"
_LONGEST = 15

# Code size by thread; forgotten when the machine runs or a register changes.
_bits: dict[int | None, int] = {}


def register() -> None:
    """gdb takes disassemblers in Python from 13 on."""
    try:
        import capstone
        import gdb.disassembler
    except ImportError:
        return
    decoders = {
        bits: capstone.Cs(capstone.CS_ARCH_X86, mode)
        for bits, mode in ((16, capstone.CS_MODE_16), (32, capstone.CS_MODE_32))
    }
    syntaxes = {"att": capstone.CS_OPT_SYNTAX_ATT, "intel": capstone.CS_OPT_SYNTAX_INTEL}
    for events in (gdb.events.cont, gdb.events.stop, gdb.events.register_changed):
        events.connect(lambda event: _bits.clear())

    class Disassembler(gdb.disassembler.Disassembler):
        previous: Any = None

        def __call__(self, info: Any) -> Any:
            decoder = decoders.get(_code_bits())
            if decoder is not None:
                decoder.syntax = syntaxes[gdb.parameter("disassembly-flavor")]
                found = _decode(decoder, info)
                if found is not None:
                    return gdb.disassembler.DisassemblerResult(*found)
            return self.previous(info) if self.previous is not None else None

    ours = Disassembler("gdbvmx")
    ours.previous = gdb.disassembler.register_disassembler(ours, _ARCHITECTURE)


def _code_bits() -> int:
    """16, 32 or 64; the last where the target does not say."""
    thread = thread_id()
    if thread not in _bits:
        try:
            _bits[thread] = current_target().call("code_bits") if thread is not None else 64
        except TargetError:
            _bits[thread] = 64
    return _bits[thread]


def _decode(decoder: Any, info: Any) -> tuple[int, str] | None:
    """Length and text of the instruction; None for bytes that are none."""
    code = b""
    for length in (_LONGEST, *range(_LONGEST - 1, 0, -1)):
        try:
            code = bytes(info.read_memory(length))
            break
        except gdb.MemoryError:
            continue
    for _, size, name, operands in decoder.disasm_lite(code, info.address, 1):
        return size, _with_symbols(name, operands)
    return None


def _with_symbols(name: str, operands: str) -> str:
    """The instruction, with the symbol of the place that a jump or call goes to."""
    text = f"{name}\t{operands}".rstrip()
    if operands.startswith("0x") and name[0] in "jcl":
        symbol = gdb.execute(f"info symbol {operands}", to_string=True)
        if " in section " in symbol:
            text += f" <{symbol.split(' in section ')[0].replace(' + ', '+')}>"
    return text
