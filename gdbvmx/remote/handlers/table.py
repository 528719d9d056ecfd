"""The table of handlers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..session import Session

Answer = bytes | None | Awaitable[bytes | None]
Handler = Callable[["Session", bytes], Answer]

Find = Callable[[bytes], tuple[Handler | None, bytes]]

TABLE: dict[bytes, Handler] = {}


def packet(*names: bytes) -> Callable[[Handler], Handler]:
    """Puts a handler into the table, under each of its packet's names."""

    def register(handler: Handler) -> Handler:
        for name in names:
            TABLE[name] = handler
        return handler

    return register
