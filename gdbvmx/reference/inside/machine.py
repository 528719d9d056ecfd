"""Bochs with the system booted in it: a process, and its two serial lines as streams."""

from __future__ import annotations

import asyncio
import io
import os
import signal
import socket
import tarfile
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from gdbvmx.reference import bochs
from gdbvmx.reference.child import die_with_parent

MEMORY_MB = 1024
_DISK_BYTES = 256 << 20
_PIECE_BYTES = 32 << 10

# The model's features decide what KVM offers; this one has no CPUID leaf 15H, by which Linux would take the
# TSC to run at 3.5 GHz, though Bochs counts instructions (`ips` a second).
_BOCHSRC = """\
romimage: file={bios}
vgaromimage: file={vga_bios}
cpu: model=corei7_haswell_4770, count=1, ips=50000000, reset_on_triple_fault=0
megs: {megabytes}
clock: sync=none, time0=0
ata0-master: type=disk, mode=flat, path={medium}
ata0-slave: type=disk, mode=flat, path={disk}
boot: disk
display_library: rfb, options="timeout=0"
sound: driver=dummy
com1: enabled=1, mode=socket-client, dev=127.0.0.1:{control}
com2: enabled=1, mode=socket-client, dev=127.0.0.1:{stub}
com3: enabled=1, mode=file, dev={console}
log: {log}
panic: action=fatal
error: action=ignore
info: action=ignore
debug: action=ignore
"""


class MachineError(RuntimeError):
    """Bochs did not start or ended; the message is one line with the last that it said."""


class Line:
    """One serial line of the machine: bytes from it and to it."""

    def __init__(self) -> None:
        self._connected: asyncio.Future[tuple[asyncio.StreamReader, asyncio.StreamWriter]]
        self._connected = asyncio.get_running_loop().create_future()
        self._server: asyncio.Server | None = None
        self._reader: asyncio.StreamReader
        self._writer: asyncio.StreamWriter

    async def listen(self) -> int:
        """Waits for Bochs on a port of the loopback interface, which it returns."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def connected(self) -> None:
        """Returns when Bochs has connected; the port is closed then."""
        self._reader, self._writer = await self._connected
        assert self._server is not None
        self._server.close()

    async def read(self) -> bytes:
        """What came, empty at the end."""
        try:
            data = await self._reader.read(1 << 16)
        except ConnectionError:
            return b""
        # Bochs sends byte by byte, and the next not before this one is acknowledged (Nagle's algorithm), for
        # which TCP left alone takes 40 ms.
        self._writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
        return data

    def write(self, data: bytes) -> None:
        self._writer.write(data)

    def close(self) -> None:
        if self._server is not None:
            self._server.close()
        if self._connected.done() and not self._connected.cancelled():
            self._connected.result()[1].close()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._connected.done():
            writer.close()
        else:
            self._connected.set_result((reader, writer))


class Machine:
    """Bochs from its start to its end. `work` is a directory of its own for its files."""

    def __init__(self, work: Path) -> None:
        self._work = work
        self._process: asyncio.subprocess.Process | None = None
        self.control = Line()
        self.stub = Line()

    async def start(self, medium: Path) -> None:
        """Starts Bochs with the boot medium `medium`. Raises MachineError."""
        with (self._work / "disk").open("wb") as disk:
            disk.truncate(_DISK_BYTES)
        rc, commands = self._work / "bochsrc", self._work / "commands"
        rc.write_text(
            _BOCHSRC.format(
                bios=bochs.BIOS,
                vga_bios=bochs.VGA_BIOS,
                megabytes=MEMORY_MB,
                medium=self._private(medium),
                disk=self._work / "disk",
                control=await self.control.listen(),
                stub=await self.stub.listen(),
                console=self._work / "console",
                log=self._work / "log",
            )
        )
        commands.write_text("c\n")
        with (self._work / "output").open("wb") as output:
            self._process = await asyncio.create_subprocess_exec(
                *("bochs", "-q", "-f", str(rc), "-rc", str(commands)),
                cwd=self._work,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=asyncio.subprocess.STDOUT,
                preexec_fn=die_with_parent,
            )
        connected = asyncio.ensure_future(self._connected())
        ended = asyncio.ensure_future(self._process.wait())
        try:
            await asyncio.wait((connected, ended), return_when=asyncio.FIRST_COMPLETED)
            if not connected.done():
                raise MachineError(self.obituary())
        finally:
            ended.cancel()
            connected.cancel()

    async def _connected(self) -> int:
        await self.control.connected()
        await self.stub.connected()
        return 0

    def _private(self, medium: Path) -> Path:
        """The medium under a name of our own: Bochs puts a lock file beside a disk's image."""
        link = self._work / "medium"
        link.symlink_to(medium)
        return link

    def give(self, files: Mapping[str, Path]) -> int:
        """Puts `files` on the second disk, as a tar archive whose size in bytes it returns.

        Raises MachineError if they do not fit, OSError for a file that cannot be read.
        """
        archive = io.BytesIO()
        with tarfile.open(fileobj=archive, mode="w") as tar:
            for name, path in files.items():
                tar.add(path.resolve(), name)
        data = archive.getvalue()
        if len(data) > _DISK_BYTES:
            raise MachineError(f"the image and its modules take more than {_DISK_BYTES >> 20} MiB")
        with (self._work / "disk").open("r+b") as disk:
            disk.write(data)
        return len(data)

    def taken(self, size: int) -> Iterator[bytes]:
        """The first `size` bytes of the second disk, in pieces: what the machine has put there."""
        with (self._work / "disk").open("rb") as disk:
            while size > 0 and (piece := disk.read(min(size, _PIECE_BYTES))):
                size -= len(piece)
                yield piece

    def cpu_seconds(self) -> float:
        """The CPU time that Bochs has used, user and system."""
        assert self._process is not None
        try:
            fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return 0.0
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def pause(self) -> None:
        """Bochs takes no CPU time until `go_on`; what is emulated does not notice."""
        self._signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self._signal(signal.SIGCONT)

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.returncode is None

    async def stop(self) -> None:
        """Ends Bochs, if it was started, and waits for its end."""
        self._signal(signal.SIGKILL)
        if self._process is not None:
            await self._process.wait()
        self.control.close()
        self.stub.close()

    def obituary(self) -> str:
        """What Bochs and Linux said last, in one line."""
        said = []
        for name in ("output", "console"):
            with suppress(OSError):
                lines = (self._work / name).read_text(errors="replace").splitlines()
                said += [line.strip() for line in lines if line.strip(" =")][-2:]
        return f"Bochs ended: {' … '.join(said) or 'it said nothing'}"

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.returncode is None:
            with suppress(ProcessLookupError):
                self._process.send_signal(number)
