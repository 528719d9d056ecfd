"""`qgdbvmx.call:HEX`: a method with parameters, as JSON in hexadecimal; so is the answer."""

from __future__ import annotations

import json
from typing import Any

from gdbvmx import _core

from .. import vendor
from ..arguments import PacketError, unhex
from ..session import Session
from .table import packet


@packet(b"qgdbvmx.call")
def call(session: Session, arguments: bytes) -> bytes:
    """`{"method": …, "params": {…}}` gives `{"result": …}` or `{"error": "…"}`."""
    answer: dict[str, Any]
    try:
        method, params = _request(unhex(arguments.removeprefix(b":")))
        answer = {"result": vendor.call(session, method, params)}
    except (PacketError, _core.Error) as error:
        answer = {"error": str(error)}
    return json.dumps(answer).encode().hex().encode()


def _request(text: bytes) -> tuple[str, dict[str, Any]]:
    try:
        request = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise PacketError(f"no JSON: {error}") from error
    if not isinstance(request, dict):
        raise PacketError('expected {"method": …, "params": {…}}')
    method, params = request.get("method"), request.get("params", {})
    if not isinstance(method, str) or not isinstance(params, dict):
        raise PacketError('expected {"method": …, "params": {…}}')
    return method, params
