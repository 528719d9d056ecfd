"""One client, from its connection to its end: packets in, answers out."""

from __future__ import annotations

import asyncio
import inspect
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from enum import Enum, auto
from typing import TYPE_CHECKING

from gdbvmx import _core

from .arguments import PacketError
from .breakpoints import Breakpoints
from .debuggee import Debuggee
from .execution import Execution, Halt
from .packets import Decoder, Mark, Packet, frame
from .registers import RegisterFile
from .stop_reply import GONE, shut_down, stop_reply
from .threads import ALL, ANY, Threads, World

if TYPE_CHECKING:
    from .handlers.table import Find

# A client waits for each answer: one that has this many packets waiting is not speaking the protocol.
_BACKLOG = 64


class End(Enum):
    """How a session ended."""

    DETACHED = auto()
    KILLED = auto()
    VANISHED = auto()


class Session:
    """What belongs to one client. The machine and all that outlives the client is the `debuggee`."""

    def __init__(
        self, debuggee: Debuggee, find: Find, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.debuggee = debuggee
        self.client_features: frozenset[bytes] = frozenset()
        self.physical = False
        """Addresses in memory packets are physical (`Qqemu.PhyMemMode`)."""
        self.end: End | None = None
        self.gone = False
        """The client was told that the machine has left: for it there are no threads any more."""
        self.acknowledge = True
        self.halt = debuggee.last_halt()
        self._general = self.halt.world
        self._find = find
        self._reader = reader
        self._writer = writer
        self._packets: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._busy = False
        self._last_sent = b""

    @property
    def core(self) -> _core.Machine:
        return self.debuggee.machine.core

    @property
    def execution(self) -> Execution:
        return self.debuggee.execution

    @property
    def threads(self) -> Threads:
        return self.debuggee.threads

    @property
    def breakpoints(self) -> Breakpoints:
        return self.debuggee.breakpoints

    @property
    def registers(self) -> RegisterFile:
        return self.debuggee.registers

    @property
    def world(self) -> World:
        """The world that registers and memory are asked of."""
        return self._general

    def select(self, thread: int) -> None:
        """Makes the world of a thread the one that is asked; `ANY` and `ALL` mean the one that stopped."""
        self._general = self.halt.world if thread in (ANY, ALL) else self.threads.world(thread)

    async def run(self) -> End:
        """Serves the client until it goes, whatever it does."""
        reading = asyncio.create_task(self._read())
        try:
            while self.end is not End.DETACHED and (packet := await self._packets.get()) is not None:
                self._busy = True
                await self._serve(packet)
                self._busy = False
                if self._packets.empty():
                    self.execution.forget_interrupt()
        except ConnectionError:
            pass
        finally:
            reading.cancel()
            self._writer.close()
            with suppress(ConnectionError):
                await self._writer.wait_closed()
        return self.end or End.VANISHED

    async def resume(self, work: Callable[[], Halt]) -> bytes:
        """Runs the machine by `work`, one of Execution's, and gives the stop reply."""
        ended = self.execution.ending
        if ended is not None:
            self.gone = True
            return shut_down() if ended["kind"] == "shutdown" else stop_reply(self, self.halt)
        self.halt = self.debuggee.halt = await self.execution.run(work)
        self._general = self.halt.world
        self.gone = self.halt.kind in GONE
        return stop_reply(self, self.halt)

    def restart(self) -> None:
        """Starts the machine anew."""
        self.execution.restart()
        self.end = None
        self.gone = False
        self.halt = self.debuggee.halt = self.debuggee.first_halt()
        self._general = self.halt.world

    async def send(self, data: bytes) -> None:
        self._last_sent = frame(data)
        self._writer.write(self._last_sent)
        await self._writer.drain()

    async def _read(self) -> None:
        """Takes in what the client sends. Its end, or nonsense without end, is the packet None."""
        decoder = Decoder()
        with suppress(ConnectionError):
            while (data := await self._reader.read(1 << 16)) and self._packets.qsize() < _BACKLOG:
                for found in decoder.feed(data):
                    self._take(found)
        self._packets.put_nowait(None)
        self.execution.interrupt()

    def _take(self, found: Packet | Mark) -> None:
        if isinstance(found, Packet):
            if self.acknowledge:
                self._writer.write(b"+")
            self._packets.put_nowait(found.data)
        elif found is Mark.INTERRUPT:
            # One that comes when nothing runs or is about to was meant for a run that has ended since.
            if self._busy or not self._packets.empty():
                self.execution.interrupt()
        elif found is Mark.NAK:
            self._writer.write(self._last_sent)
        elif found is Mark.DAMAGED and self.acknowledge:
            self._writer.write(b"-")

    async def _serve(self, packet: bytes) -> None:
        answer = await self._answer(packet)
        if answer is not None:
            await self.send(answer)

    async def _answer(self, packet: bytes) -> bytes | None:
        """The answer to a packet: empty if it is not known, None if it gets none."""
        handler, arguments = self._find(packet)
        if handler is None:
            return b""
        try:
            answer = handler(self, arguments)
            return await answer if inspect.isawaitable(answer) else answer
        except PacketError as error:
            return self.error(str(error), error.number)
        except _core.Error as error:
            return self.error(str(error))
        except ConnectionError:
            raise
        except Exception as error:
            # A mistake of ours must not take the machine from the user.
            traceback.print_exc(file=sys.stderr)
            return self.error(f"the stub failed: {error!r}")

    def error(self, text: str, number: int = 1) -> bytes:
        """An error, in words for a client that shows them."""
        if b"error-message" in self.client_features:
            return b"E." + text.encode()
        return b"E%02x" % number
