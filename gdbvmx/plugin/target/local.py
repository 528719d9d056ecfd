"""The machine itself, for commands that run in its server (`monitor vmx …`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Callable

from . import ABILITIES


class LocalTarget:
    """Calls methods where they are. `call` raises what the server raises."""

    lack = "this server does not"

    def __init__(self, call: Callable[[str, Mapping[str, Any]], Any]) -> None:
        self._call = call

    def abilities(self) -> frozenset[str]:
        return frozenset(ABILITIES)

    def call(self, method: str, **params: Any) -> Any:
        return self._call(method, params)
