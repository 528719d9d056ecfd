"""Clients that behave badly, or go without a word: the server outlives them all."""

from __future__ import annotations

import random
import socket
import time

from gdbvmx.remote.packets import frame

LOOP = bytes.fromhex("404040ebfb")


def rip(client) -> bytes:
    return client.ask(b"p10")


def alive(connect, thread) -> bool:
    """Whether a new client gets a stopped machine, soon after the last one went."""
    end = time.monotonic() + 5
    while time.monotonic() < end:
        client = connect(thread)
        try:
            return client.ask(b"?").startswith(b"T05")
        except ConnectionError:  # the server still has the old one
            time.sleep(0.02)
        finally:
            client.close()
    return False


def test_a_client_that_vanishes(serve, connect):
    thread = serve(LOOP)
    connect(thread).close()
    assert alive(connect, thread)


def test_a_client_that_vanishes_in_mid_packet(serve, connect):
    thread = serve(LOOP)
    client = connect(thread)
    client.send(b"$m1000,")
    client.close()
    assert alive(connect, thread)


def test_a_client_that_vanishes_while_the_machine_runs(serve, connect):
    thread = serve(LOOP)
    client = connect(thread)
    client.send(frame(b"c"))
    time.sleep(0.1)
    client.close()
    assert alive(connect, thread)


def test_a_client_that_resets_the_connection(serve, connect):
    thread = serve(LOOP)
    client = connect(thread)
    client.send(frame(b"c"))
    client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    client.close()
    assert alive(connect, thread)


def test_what_a_client_set_goes_with_it(serve, connect):
    thread = serve(LOOP)
    client = connect(thread)
    client.ask(b"Z0,1002,1")
    client.close()
    time.sleep(0.1)
    client = connect(thread)
    client.send(frame(b"c"))
    time.sleep(0.2)
    client.send(b"\x03")
    assert client.receive().startswith(b"T02")


def test_a_second_client_is_turned_away_and_the_first_stays(serve, connect, capfd):
    thread = serve(LOOP)
    first = connect(thread)
    assert first.ask(b"?").startswith(b"T05")
    assert connect(thread).hung_up()
    assert first.ask(b"?").startswith(b"T05")
    assert "turned away" in capfd.readouterr().err


def test_detaching_lets_the_machine_run_and_attaching_stops_it(serve, connect):
    thread = serve(LOOP)
    client = connect(thread)
    before = client.ask(b"p0")
    assert client.ask(b"D") == b"OK"
    assert client.hung_up()
    time.sleep(0.2)
    client = connect(thread)
    assert client.ask(b"?").startswith(b"T05")
    after = client.ask(b"p0")
    assert after != before
    assert client.ask(b"p0") == after


def test_a_machine_that_is_not_frozen_runs_at_once(serve, connect):
    thread = serve(LOOP, freeze=False)
    time.sleep(0.2)
    client = connect(thread)
    assert client.ask(b"p0") != b"0000000000000000"


def test_a_kill_ends_the_server(serve, connect):
    for packet in (b"k", b"vKill;1"):
        thread = serve(LOOP)
        client = connect(thread)
        client.send(frame(packet))
        time.sleep(0.05)
        client.close()
        assert thread.join(5)
        assert thread.result is None


def test_the_machine_ends_without_a_client(serve):
    thread = serve(bytes.fromhex("b015e6f4"), freeze=False)
    assert thread.join(5)
    assert thread.result["kind"] == "exit"


def test_garbage(serve, connect):
    thread = serve(LOOP)
    source = random.Random(2)
    for _ in range(20):
        client = connect(thread)
        try:
            for _ in range(20):
                client.send(bytes(source.randrange(256) for _ in range(source.randrange(2000))))
        except ConnectionError:
            pass
        client.close()
        assert alive(connect, thread)


def test_garbage_in_good_packets(serve, connect, capfd):
    """Packets with arguments that they do not take get an answer, and none finds a mistake of ours."""
    client = connect(serve(LOOP))
    names = (
        b"G",
        b"P",
        b"p",
        b"m",
        b"M",
        b"x",
        b"X",
        b"Z",
        b"z",
        b"H",
        b"T",
        b"vCont",
        b"qXfer:features:read:",
    )
    names += (
        b"qSearch",
        b"qThreadExtraInfo",
        b"qRcmd,",
        b"qXfer:",
        b"vRun;zz",
        b"Qqemu.PhyMemMode",
        b"C",
        b"qC",
    )
    source = random.Random(3)
    for name in names:
        for _ in range(30):
            noise = bytes(source.randrange(32, 127) for _ in range(source.randrange(1, 30)))
            client.send(frame(name + b":" + noise if name != b"C" else b"vCont;C" + noise))
            while client.receive().startswith(b"O4"):
                pass  # the output of a monitor command comes first
    assert client.ask(b"?").startswith(b"T05")
    assert "Traceback" not in capfd.readouterr().err


def test_a_flood_of_packets_ends_the_session_and_not_the_server(serve, connect):
    thread = serve(LOOP)
    client = connect(thread)
    client.send(frame(b"c"))
    try:
        for _ in range(1000):
            client.send(frame(b"?") * 100)
    except (ConnectionError, TimeoutError):
        pass
    client.close()
    assert alive(connect, thread)
