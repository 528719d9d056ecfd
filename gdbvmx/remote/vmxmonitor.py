"""`monitor vmx …`: the plugin's commands, run in the server."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .session import Session


def run_vmx(session: Session, text: str) -> Iterator[str]:
    yield "not yet"
