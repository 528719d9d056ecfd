"""gdbvmx's own server, asked by packets of its own."""

from __future__ import annotations

import json
from typing import Any, Callable, Optional

from . import TargetError

# Sends a packet and gives the answer; None for the empty one, which says that the stub knows no such packet.
Send = Callable[[bytes], Optional[bytes]]


class GdbvmxTarget:
    """A stub that answers `qgdbvmx.call`. `thread` gives the selected thread's id, if there is one."""

    def __init__(self, name: str, send: Send, thread: Callable[[], int | None]) -> None:
        self.lack = f"{name} does not, which is an older gdbvmx"
        self._name = name
        self._send = send
        self._thread = thread
        self._abilities = frozenset(self.call("abilities"))

    def abilities(self) -> frozenset[str]:
        return self._abilities

    def call(self, method: str, **params: Any) -> Any:
        thread = self._thread()
        if thread is not None:
            params["thread"] = thread
        answer = _ask(self._send, method, params)
        if answer is None:
            raise TargetError(f"{self._name} answers gdbvmx's packets no more")
        if "error" in answer:
            raise TargetError(answer["error"])
        return answer["result"]


def speaks(send: Send) -> bool:
    """Whether the stub behind `send` is gdbvmx's."""
    return _ask(send, "abilities", {}) is not None


def _ask(send: Send, method: str, params: dict[str, Any]) -> dict[str, Any] | None:
    request = json.dumps({"method": method, "params": params})
    answer = send(b"qgdbvmx.call:" + request.encode().hex().encode())
    if not answer:
        return None
    if answer.startswith(b"E"):
        raise TargetError(f"the stub failed at {method}: {answer.decode('ascii', 'replace')}")
    try:
        found = json.loads(bytes.fromhex(answer.decode("ascii")))
    except ValueError as error:
        raise TargetError(f"the answer to {method} is no JSON in hexadecimal: {answer[:40]!r}") from error
    if not isinstance(found, dict) or not ("error" in found or "result" in found):
        raise TargetError(f"the answer to {method} holds neither result nor error")
    return found
