"""The process that owns a Bochs with the system in it, and runs images there one after the other.

It speaks lines of JSON with its clients, over the socket that it is started with and, if it is to be kept,
over one in the user's runtime directory. From a client: `run` (a `Request`), `input` (base64), `keep`,
`stop`. To it: `say` (a line for the user), `started` with `gdb` (where gdb is waited for, or null), `serial`
(base64), `trace` (base64, a piece of ftrace's text), `end` (QEMU's exit status) or `error`. A client that
goes away takes its image with it, and unless the keeper is kept, the keeper too. However it ends, Bochs and
all files end with it.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import math
import os
import secrets
import signal
import socket
import tempfile
from collections.abc import Awaitable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from . import places
from .machine import Machine, MachineError
from .request import ESCAPE, QUIT, Framing, Request

BOOT_CPU_SECONDS = 400
QUIT_CPU_SECONDS = 20
IDLE_SECONDS = 30 * 60
_POLL_SECONDS = 0.5

T = TypeVar("T")


class Gone(Exception):
    """The client that something was done for is no longer there."""


class Client:
    """One who asks. What cannot be told it any more is lost."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._said: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._listening = asyncio.ensure_future(self._listen())

    async def next(self) -> dict[str, Any]:
        """What the client says next. Raises Gone when it is, or says what is no line of JSON."""
        return await self.unless_gone(self._said.get())

    async def unless_gone(self, awaited: Awaitable[T], timeout: float | None = None) -> T:
        """The result of `awaited`. Raises Gone, or TimeoutError after `timeout` seconds."""
        task = asyncio.ensure_future(awaited)
        try:
            await asyncio.wait((task, self._listening), timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                return task.result()
            raise Gone if self._listening.done() else TimeoutError
        finally:
            task.cancel()

    def tell(self, **said: Any) -> None:
        with suppress(OSError):
            self._writer.write(json.dumps(said).encode() + b"\n")

    async def close(self) -> None:
        self._listening.cancel()
        with suppress(OSError):
            await self._writer.drain()
            self._writer.close()
            await self._writer.wait_closed()

    async def _listen(self) -> None:
        with suppress(OSError, ValueError):
            while line := await self._reader.readline():
                self._said.put_nowait(dict(json.loads(line)))


class StubPort:
    """Waits for gdb on a port and passes its bytes to the stub's serial line and back."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._server: asyncio.Server | None = None
        self._gdb: asyncio.StreamWriter | None = None

    async def bind(self, host: str, port: int) -> None:
        """Takes the port, so that one that is taken is told before the boot. Raises OSError."""
        try:
            self._server = await asyncio.start_server(self._serve, host, port, start_serving=False)
        except OSError as error:
            raise OSError(error.errno, error.strerror, f"{host}:{port}") from error

    async def listen(self) -> tuple[str, int] | None:
        """Lets gdb in from now on; the address, or None if no port was taken."""
        if self._server is None:
            return None
        await self._server.start_serving()
        address = self._server.sockets[0].getsockname()
        return str(address[0]), int(address[1])

    def from_stub(self, data: bytes) -> None:
        if self._gdb is not None:
            self._gdb.write(data)

    def close(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        if self._gdb is not None:
            self._gdb.close()
            self._gdb = None

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._gdb is not None:
            writer.close()
            return
        self._gdb = writer
        with suppress(ConnectionError):
            while data := await reader.read(1 << 16):
                self._machine.stub.write(data)
        if self._gdb is writer:
            self._gdb = None
        writer.close()


class Keeper:
    def __init__(self, medium: Path, work: Path) -> None:
        self._medium = medium
        self._machine = Machine(work)
        self._stub = StubPort(self._machine)
        self._booted = False
        self._busy: str | None = None
        self._settled = asyncio.Event()
        """No image is left of a client that has gone."""
        self._settled.set()
        self._kept: asyncio.Server | None = None
        self._idle_since = 0.0
        self._passing: asyncio.Future[None] | None = None
        self.ended = asyncio.Event()

    async def close(self) -> None:
        self._stub.close()
        if self._kept is not None:
            self._kept.close()
            places.kept_socket().unlink(missing_ok=True)
        await self._machine.stop()
        if self._passing is not None:
            self._passing.cancel()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Does what one client says, until it goes."""
        client = Client(reader, writer)
        try:
            while not self.ended.is_set():
                said = await client.next()
                if "run" in said:
                    await self._run(client, said["run"])
                elif "keep" in said:
                    await self._keep()
                elif "stop" in said:
                    self.ended.set()
                    await asyncio.Event().wait()  # the end of the connection tells of the end of all
        except Gone:
            pass
        except MachineError as error:
            client.tell(error=str(error))
            self.ended.set()
        except Exception as error:
            client.tell(error=f"the process that keeps Bochs failed: {error!r}")
            self.ended.set()
        finally:
            await client.close()
            if self._kept is None:
                self.ended.set()

    async def expire(self) -> None:
        """Ends the keeper when it has been idle for too long."""
        loop = asyncio.get_running_loop()
        while not self.ended.is_set():
            await asyncio.sleep(_POLL_SECONDS)
            idle = self._booted and self._busy is None
            if idle and (not self._machine.alive or loop.time() - self._idle_since > IDLE_SECONDS):
                self.ended.set()

    async def _keep(self) -> None:
        """From now on other clients can come, and the keeper outlives them."""
        if self._kept is None:
            path = places.kept_socket()
            path.unlink(missing_ok=True)
            self._kept = await asyncio.start_unix_server(self.serve, path)

    async def _run(self, client: Client, wanted: dict[str, Any]) -> None:
        await client.unless_gone(self._settled.wait())
        if self._busy is not None:
            client.tell(error=f"the Bochs that was kept is busy with {self._busy}")
            return
        request = Request(**wanted)
        self._busy = request.image
        try:
            if request.gdb is not None:
                await self._stub.bind(*request.gdb)
            if self._booted:
                self._machine.go_on()
            else:
                await self._boot(client)
            await self._run_image(client, request)
        except OSError as error:
            client.tell(error=f"{error.filename}: {os.strerror(error.errno or 0)}")
        finally:
            self._stub.close()
            self._busy = None
            self._settled.set()
            self._idle_since = asyncio.get_running_loop().time()
            if not self._booted:
                self.ended.set()  # half a boot is of no use to the next client
            elif self._kept is not None:
                self._machine.pause()

    async def _boot(self, client: Client) -> None:
        client.tell(
            say="booting Linux with KVM inside Bochs: about a minute of CPU time, twice that by the clock"
        )
        await client.unless_gone(self._machine.start(self._medium))
        self._passing = asyncio.ensure_future(self._pass_stub())
        text = b""
        while b"gdbvmx: ready\n" not in text:
            text = text.rpartition(b"\n")[2] + await self._read(client, BOOT_CPU_SECONDS)
            for line in text.split(b"\n")[:-1]:
                client.tell(say=line.decode(errors="replace").strip().removeprefix("gdbvmx: "))
        self._booted = True

    async def _read(self, client: Client, cpu_limit: float) -> bytes:
        """What comes by the control line.

        Raises MachineError at Bochs's end and when it has used `cpu_limit` seconds of CPU time, and Gone.
        """
        while self._machine.cpu_seconds() < cpu_limit:
            with suppress(TimeoutError):
                data = await client.unless_gone(self._machine.control.read(), _POLL_SECONDS)
                if data:
                    return data
                raise MachineError(self._machine.obituary())
        raise MachineError(f"Linux inside Bochs hangs: {self._machine.obituary()}")

    async def _run_image(self, client: Client, request: Request) -> None:
        token = secrets.token_hex(8)
        size = self._machine.give(request.files())
        self._machine.control.write(request.command(token, size).encode())
        typing = asyncio.ensure_future(self._pass_keys(client))
        framing = Framing(token)
        try:
            while True:
                waiting = not framing.begun
                output, end = framing.feed(await self._read(client, math.inf))
                if waiting and framing.begun:
                    # Not earlier: what gdb says before the stub's line is open in there is lost.
                    client.tell(started=True, gdb=await self._stub.listen())
                if output:
                    client.tell(serial=base64.b64encode(output).decode())
                if end is not None:
                    for piece in self._machine.taken(end.traced):
                        client.tell(trace=base64.b64encode(piece).decode())
                    client.tell(end=end.status, complaint=end.complaint)
                    return
        except Gone:
            self._settled.clear()
            await self._quit(framing)
            raise
        finally:
            typing.cancel()

    async def _pass_keys(self, client: Client) -> None:
        with suppress(Gone):
            while True:
                typed = base64.b64decode((await client.next()).get("input", ""))
                self._machine.control.write(typed.replace(ESCAPE, ESCAPE * 2))

    async def _quit(self, framing: Framing) -> None:
        """Ends QEMU, whose output is lost. Raises MachineError if it does not end."""
        limit = self._machine.cpu_seconds() + QUIT_CPU_SECONDS
        self._machine.control.write(QUIT)
        while self._machine.cpu_seconds() < limit:
            with suppress(TimeoutError):
                data = await asyncio.wait_for(self._machine.control.read(), _POLL_SECONDS)
                if not data or framing.feed(data)[1] is not None:
                    return
        raise MachineError("QEMU inside Bochs did not end when told to")

    async def _pass_stub(self) -> None:
        while data := await self._machine.stub.read():
            self._stub.from_stub(data)


async def _main(first: socket.socket, medium: Path) -> None:
    with tempfile.TemporaryDirectory(prefix=places.work_prefix(), dir=places.runtime_directory()) as work:
        keeper = Keeper(medium, Path(work))
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            loop.add_signal_handler(number, keeper.ended.set)
        reader, writer = await asyncio.open_connection(sock=first)
        tasks = [asyncio.ensure_future(keeper.serve(reader, writer)), asyncio.ensure_future(keeper.expire())]
        try:
            await keeper.ended.wait()
        finally:
            await keeper.close()
            for task in tasks:
                task.cancel()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--socket", type=int, required=True, help="the descriptor of the first client")
    parser.add_argument("--medium", type=Path, required=True)
    arguments = parser.parse_args()
    asyncio.run(_main(socket.socket(fileno=arguments.socket), arguments.medium))


if __name__ == "__main__":
    main()
