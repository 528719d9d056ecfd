"""Listens for GDB, one client at a time, and lets the machine run while there is none."""

from __future__ import annotations

import asyncio
import socket
import sys
import threading
from contextlib import suppress
from ipaddress import ip_address
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from gdbvmx.machine import Machine

from .debuggee import Debuggee
from .handlers import find, find_stock
from .session import End, Session
from .threads import Processors, Threads

if TYPE_CHECKING:
    from gdbvmx._core import Stop

_Client = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class ServerError(Exception):
    """The server cannot start; the text is one line."""


class Server:
    """Serves one machine at `host` and `port` (0: any free one, see `address` once it listens).

    `freeze`: the machine waits for the first client, and stops for it in any case. A client that detaches
    lets the machine run on; one that vanishes leaves it as it is, for the next. `stock`: as another machine's
    stub would, it knows no packets of gdbvmx's own, and has a thread for each vCPU and none for each world.
    """

    def __init__(
        self,
        machine: Machine,
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        freeze: bool = True,
        executable: Path | None = None,
        stock: bool = False,
    ) -> None:
        self.address = (host, port)
        self._debuggee = Debuggee(machine, executable, Processors if stock else Threads)
        self._find = find_stock if stock else find
        self._free = not freeze
        self._busy = False
        self._listener: asyncio.Server | None = None
        self._clients: asyncio.Queue[_Client] = asyncio.Queue(1)

    async def listen(self) -> tuple[str, int]:
        """Opens the port, and gives the address. Raises ServerError, with the reason, if it cannot be had."""
        host, port = self.address
        if not _is_loopback(host):
            _say(f"listening on {host}: whoever reaches it controls the machine, with no password")
        try:
            self._listener = await asyncio.start_server(self._greet, host, port)
        except (OSError, OverflowError) as error:
            reason = getattr(error, "strerror", None) or error
            raise ServerError(f"cannot listen on {host}:{port}: {reason}") from error
        self.address = self._listener.sockets[0].getsockname()[:2]
        return self.address

    async def serve(self) -> Stop | None:
        """Serves until the machine has ended, which it tells, or a client kills it (None)."""
        if self._listener is None:
            await self.listen()
        debuggee = self._debuggee
        try:
            while (client := await self._next_client()) is not None:
                end = await Session(debuggee, self._find, *client).run()
                debuggee.execution.forget_interrupt()
                debuggee.release()
                self._busy = False
                if end is End.KILLED:
                    return None
                if debuggee.execution.ending is not None:
                    break
                self._free = end is End.DETACHED
            return debuggee.execution.ending
        finally:
            debuggee.close()
            if self._listener is not None:
                self._listener.close()

    def serve_in_thread(self) -> ServerThread:
        """Serves in a thread, for tests and scripts; a context manager."""
        return ServerThread(self)

    async def _next_client(self) -> _Client | None:
        """Waits for a client; None if the machine ends before, running freely."""
        execution = self._debuggee.execution
        waiting = asyncio.ensure_future(self._clients.get())
        try:
            while self._free and not waiting.done():
                await self._run_until(waiting)
                if execution.ending is not None:
                    return None
            return await waiting
        finally:
            waiting.cancel()

    async def _run_until(self, waiting: asyncio.Future[_Client]) -> None:
        """Runs the machine until there is a client, or it stops by itself."""
        execution = self._debuggee.execution
        running = asyncio.ensure_future(execution.run(execution.proceed))
        try:
            await asyncio.wait((waiting, running), return_when=asyncio.FIRST_COMPLETED)
        finally:
            execution.interrupt()
            await running
            execution.forget_interrupt()

    async def _greet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._busy:
            _say(f"turned away {_peer(writer)}: another client is connected")
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()
            return
        # A peer that is gone without a word, its machine switched off, must not hold the place for ever.
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        self._busy = True
        self._clients.put_nowait((reader, writer))


class ServerThread:
    """A server in a thread of its own. Leaving the context stops it; `result` is what `serve` gave."""

    def __init__(self, server: Server) -> None:
        self.result: Stop | None = None
        self._server = server
        self._loop = asyncio.new_event_loop()
        self._task: asyncio.Task[Stop | None] | None = None
        self._thread = threading.Thread(target=self._run, name="gdb server", daemon=True)

    @property
    def address(self) -> tuple[str, int]:
        return self._server.address

    def __enter__(self) -> Self:
        self._loop.run_until_complete(self._server.listen())
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def join(self, timeout: float | None = None) -> bool:
        """Waits for the server's own end: the machine's, or a kill. False if it did not come in time."""
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def stop(self) -> None:
        with suppress(RuntimeError):  # the loop may have ended by itself
            self._loop.call_soon_threadsafe(self._cancel)
        self._thread.join()
        self._loop.close()

    def _cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._task = self._loop.create_task(self._server.serve())
        with suppress(asyncio.CancelledError):
            self.result = self._loop.run_until_complete(self._task)


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _peer(writer: asyncio.StreamWriter) -> str:
    name = writer.get_extra_info("peername")
    return f"{name[0]}:{name[1]}" if name else "a client"


def _say(text: str) -> None:
    print(f"gdbvmx: {text}", file=sys.stderr, flush=True)
