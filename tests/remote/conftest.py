"""A machine with a few instructions in it, served, and a client that speaks the protocol byte by byte."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from gdbvmx import _core
from gdbvmx.images import LoadedImage, Segment, protected_mode
from gdbvmx.machine import Machine
from gdbvmx.remote import Server, ServerThread
from gdbvmx.remote.packets import Decoder, Mark, Packet, frame

CODE = 0x1000


def machine_with(code: bytes) -> Machine:
    """A machine that starts at CODE, in 32-bit mode with paging off."""
    image = LoadedImage("test", [Segment.of(CODE, code)], protected_mode(CODE), "test")
    return Machine(_core.Machine(2 << 20), image)


class Client:
    """A GDB of its own: packets out, packets in."""

    def __init__(self, address: tuple[str, int]) -> None:
        self.socket = socket.create_connection(address, timeout=10)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._decoder = Decoder(1 << 20)
        self._marks: list[Mark] = []
        self._packets: list[bytes] = []

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def receive(self) -> bytes:
        """The next packet; ConnectionError if the server hangs up."""
        while not self._packets:
            data = self.socket.recv(1 << 16)
            if not data:
                raise ConnectionError("the server hung up")
            for item in self._decoder.feed(data):
                if isinstance(item, Packet):
                    self._packets.append(item.data)
                    self.socket.sendall(b"+")
                else:
                    self._marks.append(item)
        return self._packets.pop(0)

    def ask(self, packet: bytes) -> bytes:
        self.send(frame(packet))
        return self.receive()

    def nak(self) -> bool:
        """Whether the server has asked for a packet again."""
        while not self._marks:
            data = self.socket.recv(100)
            if not data:
                raise ConnectionError("the server hung up")
            self._marks += [item for item in self._decoder.feed(data) if isinstance(item, Mark)]
        return self._marks.pop(0) is Mark.NAK

    def monitor(self, command: str) -> str:
        """What `monitor command` prints."""
        self.send(frame(b"qRcmd," + command.encode().hex().encode()))
        text = ""
        while (answer := self.receive()) != b"OK":
            assert answer.startswith(b"O"), answer
            text += bytes.fromhex(answer[1:].decode()).decode()
        return text

    def hung_up(self) -> bool:
        """Whether the server ends the connection."""
        try:
            while self.socket.recv(1 << 16):
                pass
        except ConnectionError:
            pass
        return True

    def close(self) -> None:
        self.socket.close()


@pytest.fixture
def serve() -> Iterator[Callable[..., ServerThread]]:
    """Serves a machine with this code until the test ends."""
    with ExitStack() as stack:

        def start(code: bytes, **options: object) -> ServerThread:
            server = Server(machine_with(code), **options)
            return stack.enter_context(server.serve_in_thread())

        yield start


@pytest.fixture
def connect() -> Iterator[Callable[[ServerThread], Client]]:
    """A client of that server."""
    with ExitStack() as stack:

        def start(thread: ServerThread) -> Client:
            client = Client(thread.address)
            stack.callback(client.close)
            return client

        yield start
