"""The process that owns a Bochs with the system in it, and runs images there one after the other.

It speaks lines of JSON with its clients, over the socket that it is started with and, if it is to be kept,
over one in the user's runtime directory. From a client: `run` (a `Request`), `input` (base64), `keep`,
`stop`. To it: `say` (a line for the user), `serial` (base64), `gdb` (the port that waits), `started`, `end`
(QEMU's exit status) or `error`. A client that goes away takes its image with it, and unless the keeper is
kept, the keeper too. However it ends, Bochs and all files end with it.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import re
import secrets
import shlex
import signal
import socket
import tempfile
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gdbvmx.reference.qemu import PROGRAM, Guest

from . import places
from .machine import Machine, MachineError

BOOT_CPU_SECONDS = 400
ABORT_CPU_SECONDS = 20
IDLE_SECONDS = 30 * 60
_POLL_SECONDS = 0.5

_IMAGES = "/run/image"
_QUIT = b"\x01x"  # to QEMU's multiplexed console
_MARK = b"\x1e"


@dataclass(frozen=True)
class Request:
    """An image to run. Paths are of the host; `gdb` is where gdb is waited for."""

    image: str
    append: str = ""
    modules: list[str] = field(default_factory=list)
    memory_mb: int = 512
    cpus: int = 1
    machine: str = "pc"
    gdb: tuple[str, int] | None = None
    freeze: bool = False

    def files(self) -> dict[str, Path]:
        """The files that go into the machine, by their names there: numbered, so that none hides another."""
        paths = [Path(self.image), *map(Path, self.modules)]
        return {f"{number}/{path.name}": path for number, path in enumerate(paths)}

    def command(self, token: str, size: int) -> str:
        """The line for the shell in the machine, where the first `size` bytes of the disk hold the files.

        It frames what QEMU writes by `token`, and tells its end.
        """
        image, *modules = (f"{_IMAGES}/{name}" for name in self.files())
        guest = Guest(
            image,
            append=self.append,
            modules=modules,
            memory_mb=self.memory_mb,
            cpus=self.cpus,
            machine=self.machine,
        )
        # QEMU reads its input from the same line: two bytes of its console's escape end it.
        devices = ["-chardev", "stdio,id=s,mux=on,signal=off", "-serial", "chardev:s", "-mon", "chardev=s"]
        if self.gdb is not None:
            devices += ["-chardev", "serial,id=g,path=/dev/ttyS1", "-gdb", "chardev:g"]
        if self.freeze:
            devices += ["-S"]
        words = shlex.join([PROGRAM, *guest.arguments(devices)])
        mark = f"printf '\\036{token}\\036'"
        return (
            f"rm -rf {_IMAGES}; mkdir {_IMAGES}; blockdev --flushbufs /dev/sdb;"
            f" head -c {size} /dev/sdb | tar -x -C {_IMAGES};"
            f" {mark}; {words} 2>/run/errors; status=$?;"
            f" {mark}; printf '%d %s\\n' $status \"$(tail -c 1000 /run/errors | base64 | tr -d '\\n')\"\n"
        )


class Framing:
    """Takes apart what comes by the control line: the guest's bytes stand between two marks."""

    def __init__(self, token: str) -> None:
        self._mark = _MARK + token.encode() + _MARK
        self._buffer = b""
        self._marks = 0

    def feed(self, data: bytes) -> tuple[bytes, tuple[int, str] | None]:
        """The guest's bytes in `data`, and at the end QEMU's exit status and what it complained about."""
        self._buffer += data
        output = b""
        while self._marks < 2:
            before, found, rest = self._buffer.partition(self._mark)
            if not found:
                # What could be the start of a mark waits for the rest.
                keep = before.rfind(_MARK, -len(self._mark))
                ready = before if keep < 0 else before[:keep]
                if self._marks:
                    output += ready
                self._buffer = before[len(ready) :]
                return output, None
            if self._marks:
                output += before
            self._marks += 1
            self._buffer = rest
        if b"\n" not in self._buffer:
            return output, None
        match = re.match(rb"(\d+) (\S*)", self._buffer)
        if match is None:
            return output, (-1, "the shell inside Bochs did not tell QEMU's status")
        return output, (int(match[1]), base64.b64decode(match[2]).decode(errors="replace").strip())


class Client:
    """One who asks. Lines that it cannot take any more are lost."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def next(self) -> dict[str, Any] | None:
        """What the client says next; None when it is gone, or says what is no line of JSON."""
        try:
            line = await self._reader.readline()
            said = json.loads(line) if line else None
        except (OSError, ValueError):
            return None
        return said if isinstance(said, dict) else None

    def tell(self, **said: Any) -> None:
        with suppress(OSError):
            self._writer.write(json.dumps(said).encode() + b"\n")

    async def close(self) -> None:
        with suppress(OSError):
            await self._writer.drain()
            self._writer.close()
            await self._writer.wait_closed()


class StubPort:
    """Waits for gdb on a port and passes its bytes to the stub's serial line and back."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._server: asyncio.Server | None = None
        self._gdb: asyncio.StreamWriter | None = None

    async def open(self, host: str, port: int) -> tuple[str, int]:
        self._server = await asyncio.start_server(self._serve, host, port)
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
            while (said := await client.next()) is not None:
                if "run" in said:
                    await self._run(client, said["run"])
                elif "keep" in said:
                    await self._keep()
                elif "stop" in said:
                    self._kept_stops()
                    self.ended.set()
                    break
        except MachineError as error:
            client.tell(error=str(error))
            self.ended.set()
        except (TypeError, KeyError) as error:
            client.tell(error=f"the request cannot be read: {error}")
        finally:
            await client.close()
            if self._kept is None:
                self.ended.set()

    async def expire(self) -> None:
        """Ends the keeper when it has been idle for too long."""
        loop = asyncio.get_running_loop()
        while not self.ended.is_set():
            await asyncio.sleep(_POLL_SECONDS)
            if self._busy or not self._booted:
                self._idle_since = loop.time()
            elif not self._machine.alive or loop.time() - self._idle_since > IDLE_SECONDS:
                self.ended.set()

    async def _keep(self) -> None:
        """From now on other clients can come, and the keeper outlives them."""
        if self._kept is None:
            path = places.kept_socket()
            path.unlink(missing_ok=True)
            self._kept = await asyncio.start_unix_server(self.serve, path)

    def _kept_stops(self) -> None:
        places.kept_socket().unlink(missing_ok=True)

    async def _run(self, client: Client, wanted: dict[str, Any]) -> None:
        if self._busy is not None:
            client.tell(error=f"the Bochs that was kept is busy with {self._busy}")
            return
        gdb = wanted.pop("gdb", None)
        request = Request(**wanted, gdb=None if gdb is None else (str(gdb[0]), int(gdb[1])))
        self._busy = request.image
        try:
            self._machine.go_on() if self._booted else await self._boot(client)
            await self._run_image(client, request)
        finally:
            self._stub.close()
            self._busy = None
            if self._kept is not None:
                self._machine.pause()

    async def _boot(self, client: Client) -> None:
        client.tell(say="booting Linux with KVM inside Bochs: this takes one to two minutes of CPU time")
        await self._machine.start(self._medium)
        self._passing = asyncio.ensure_future(self._pass_stub())
        text = b""
        while b"gdbvmx: ready\n" not in text:
            text = text.rpartition(b"\n")[2] + await self._read(BOOT_CPU_SECONDS)
            for line in text.split(b"\n")[:-1]:
                client.tell(say=line.decode(errors="replace").strip().removeprefix("gdbvmx: "))
        self._booted = True

    async def _read(self, cpu_limit: float) -> bytes:
        """What comes by the control line. Raises MachineError at Bochs's end and its limit of CPU time."""
        reading = asyncio.ensure_future(self._machine.control.read())
        try:
            while not reading.done():
                await asyncio.wait({reading}, timeout=_POLL_SECONDS)
                if self._machine.cpu_seconds() > cpu_limit:
                    raise MachineError(f"{self._machine.obituary()} (after {cpu_limit} s of CPU time)")
            if not reading.result():
                raise MachineError(self._machine.obituary())
            return reading.result()
        finally:
            reading.cancel()

    async def _run_image(self, client: Client, request: Request) -> None:
        token = secrets.token_hex(8)
        try:
            size = self._machine.give(request.files())
            if request.gdb is not None:
                host, port = await self._stub.open(*request.gdb)
                client.tell(gdb=[host, port])
        except OSError as error:
            client.tell(error=f"{error.filename or request.gdb}: {error.strerror}")
            return
        self._machine.control.write(request.command(token, size).encode())
        client.tell(started=True)
        framing = Framing(token)
        listening = asyncio.ensure_future(client.next())
        reading = asyncio.ensure_future(self._machine.control.read())
        limit: float | None = None
        try:
            while True:
                await asyncio.wait(
                    {listening, reading}, timeout=_POLL_SECONDS, return_when=asyncio.FIRST_COMPLETED
                )
                if reading.done():
                    if not (data := reading.result()):
                        raise MachineError(self._machine.obituary())
                    output, end = framing.feed(data)
                    if output:
                        client.tell(serial=base64.b64encode(output).decode())
                    if end is not None:
                        status, complaint = end
                        client.tell(end=status, complaint=complaint)
                        return
                    reading = asyncio.ensure_future(self._machine.control.read())
                if listening.done() and limit is None:
                    said = listening.result()
                    if said is not None and "input" in said:
                        # The escape of QEMU's console stands for itself when it is doubled.
                        keys = base64.b64decode(said["input"]).replace(b"\x01", b"\x01\x01")
                        self._machine.control.write(keys)
                        listening = asyncio.ensure_future(client.next())
                    else:
                        self._machine.control.write(_QUIT)
                        limit = self._machine.cpu_seconds() + ABORT_CPU_SECONDS
                if limit is not None and self._machine.cpu_seconds() > limit:
                    raise MachineError("QEMU inside Bochs did not end when told to")
        finally:
            listening.cancel()
            reading.cancel()

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
