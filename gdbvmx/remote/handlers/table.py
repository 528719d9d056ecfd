"""The table of handlers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from ..session import Session

Answer = bytes | None | Awaitable[bytes | None]
Handler = Callable[["Session", bytes], Answer]

Find = Callable[[bytes], tuple[Handler | None, bytes]]

TABLE: dict[bytes, Handler] = {}


_H = TypeVar("_H", bound=Handler)


def packet(*names: bytes) -> Callable[[_H], _H]:
    """Puts a handler into the table, under each of its packet's names."""

    def register(handler: _H) -> _H:
        for name in names:
            TABLE[name] = handler
        return handler

    return register
