"""Asks a keeper to run an image: the one that was kept, or one that is started now."""

from __future__ import annotations

import base64
import dataclasses
import json
import os
import select
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from . import places
from .request import Request

# A keeper that was told to end, or lost its client, has so long before it is killed.
_END_SECONDS = 10


class InsideError(RuntimeError):
    """The image could not be run inside Bochs; the message is one line."""


@dataclass(frozen=True)
class Outcome:
    """QEMU's exit status, what it wrote to standard error, and what was traced."""

    status: int
    complaint: str
    trace: str
    """The text of KVM's tracepoints, if the request wanted it."""


class Keeper:
    """The connection to a keeper. Leaving the context ends the image that runs, and a keeper of our own."""

    def __init__(self, connection: socket.socket, process: subprocess.Popen[bytes] | None) -> None:
        self._connection = connection
        self._process = process
        self._received = b""
        self._keys: list[int] = []

    @classmethod
    def kept(cls) -> Self | None:
        """The keeper that was kept, or None."""
        path = places.kept_socket()
        connection = socket.socket(socket.AF_UNIX)
        try:
            connection.connect(str(path))
        except ConnectionRefusedError:
            path.unlink(missing_ok=True)  # its keeper was killed
        except OSError:
            pass
        else:
            return cls(connection, None)
        connection.close()
        return None

    @classmethod
    def start(cls, medium: Path) -> Self:
        """A new keeper; it boots when it is asked to run the first image."""
        places.sweep()
        ours, its = socket.socketpair()
        with its:
            module = "gdbvmx.reference.inside.keeper"
            command = [sys.executable, "-m", module, "--socket", str(its.fileno()), "--medium", str(medium)]
            # A session of its own: Ctrl-C at the terminal is for us, who then leave it in good order.
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=[its.fileno()],
                start_new_session=True,
            )
        return cls(ours, process)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._connection.close()
        if self._process is not None:
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(_END_SECONDS)
                return
            self._process.terminate()
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(_END_SECONDS)
                return
            self._process.kill()
            self._process.wait()

    def keep(self) -> None:
        """The keeper outlives this connection, and takes others."""
        self._tell(keep=True)
        self._process = None

    def stop(self) -> None:
        """Ends the keeper, and returns when it has ended."""
        self._tell(stop=True)
        self._connection.settimeout(_END_SECONDS)
        while self._receive():
            pass

    def run(
        self,
        request: Request,
        *,
        say: Callable[[str], None],
        serial: Callable[[bytes], None],
        listening: Callable[[str, int], None],
        keys: int | None,
        timeout: float | None,
    ) -> Outcome | None:
        """Runs the image to its end; None at the time limit, counted from the start of QEMU.

        `serial` gets what the guest writes to COM1, `listening` the address where gdb is waited for, `keys`
        is a descriptor whose bytes go to COM1. Raises InsideError.
        """
        self._tell(run=dataclasses.asdict(request))
        self._keys = [] if keys is None else [keys]
        deadline = None
        traced = b""
        while True:
            for said in self._messages(deadline):
                match said:
                    case {"say": text}:
                        say(text)
                    case {"started": _, "gdb": address}:
                        deadline = None if timeout is None else time.monotonic() + timeout
                        if address is not None:
                            listening(*address)
                    case {"serial": data}:
                        serial(base64.b64decode(data))
                    case {"trace": data}:
                        traced += base64.b64decode(data)
                    case {"error": text}:
                        raise InsideError(text)
                    case {"end": status} if status < 0:
                        raise InsideError(said["complaint"])
                    case {"end": status}:
                        return Outcome(status, said["complaint"], traced.decode(errors="replace"))
            if deadline is not None and time.monotonic() >= deadline:
                return None

    def _tell(self, **said: Any) -> None:
        try:
            self._connection.sendall(json.dumps(said).encode() + b"\n")
        except OSError as error:
            raise InsideError("the process that keeps Bochs has ended") from error

    def _messages(self, deadline: float | None) -> Iterator[dict[str, Any]]:
        """What the keeper says next, waiting for it until `deadline`; keys are passed on meanwhile."""
        watched = [self._connection.fileno(), *self._keys]
        left = None if deadline is None else max(deadline - time.monotonic(), 0)
        ready, _, _ = select.select(watched, [], [], left)
        for descriptor in set(ready) & set(self._keys):
            if typed := os.read(descriptor, 4096):
                self._tell(input=base64.b64encode(typed).decode())
            else:
                self._keys.remove(descriptor)
        if self._connection.fileno() in ready and not self._receive():
            raise InsideError("the process that keeps Bochs has ended")
        *lines, self._received = self._received.split(b"\n")
        for line in lines:
            yield json.loads(line)

    def _receive(self) -> bool:
        """Takes what the keeper has sent; False at its end."""
        try:
            data = self._connection.recv(1 << 16)
        except OSError:
            return False
        self._received += data
        return bool(data)
