"""Colours, where they are wanted."""

from __future__ import annotations


class Style:
    """Marks text. Without `colour` it leaves it as it is."""

    def __init__(self, colour: bool = False) -> None:
        self._colour = colour

    def title(self, text: str) -> str:
        return self._wrap("1", text)

    def name(self, text: str) -> str:
        return self._wrap("36", text)

    def dim(self, text: str) -> str:
        return self._wrap("2", text)

    def bad(self, text: str) -> str:
        return self._wrap("1;31", text)

    def changed(self, text: str) -> str:
        return self._wrap("33", text)

    def _wrap(self, code: str, text: str) -> str:
        return f"\033[{code}m{text}\033[0m" if self._colour and text else text


def place(address: int, symbol: str) -> str:
    """An address with its symbol, if it has one."""
    return f"{address:#x} <{symbol}>" if symbol else f"{address:#x}"
