"""The protocol against a real machine, packet by packet."""

from __future__ import annotations

import json
import re
import time
import xml.etree.ElementTree as ET

import pytest

from gdbvmx.remote import ServerError
from gdbvmx.remote.packets import frame

CODE = 0x1000
# inc eax; inc eax; inc eax; jmp back to the first
LOOP = bytes.fromhex("404040ebfb")
# mov [0x2000], eax; inc eax; jmp
STORES = bytes.fromhex("a30020000040ebf8")
# mov al, 21; out 0xf4, al
EXITS = bytes.fromhex("b015e6f4")


def registers(client) -> dict[str, int]:
    """By the description's names and numbers, with `p`."""
    root = ET.fromstring(read_object(client, "features", "target.xml"))
    return {reg.get("name"): int(reg.get("regnum")) for reg in root.iter("reg")}


def read_register(client, name: str) -> int:
    return int.from_bytes(bytes.fromhex(client.ask(b"p%x" % registers(client)[name]).decode()), "little")


def read_object(client, name: str, annex: str = "", size: int = 1000) -> bytes:
    content = b""
    while True:
        answer = client.ask(f"qXfer:{name}:read:{annex}:{len(content):x},{size:x}".encode())
        assert answer[:1] in (b"m", b"l"), answer
        content += answer[1:]
        if answer[:1] == b"l":
            return content


def call(client, method: str, **params):
    request = json.dumps({"method": method, "params": params}).encode().hex().encode()
    return json.loads(bytes.fromhex(client.ask(b"qgdbvmx.call:" + request).decode()))


@pytest.fixture
def client(serve, connect):
    return connect(serve(LOOP))


def test_what_is_supported_is_said(client):
    features = client.ask(b"qSupported:swbreak+;hwbreak+").split(b";")
    assert {b"swbreak+", b"QStartNoAckMode+", b"qXfer:features:read+"} <= set(features)
    assert not any(b"exec-file" in feature for feature in features)  # this machine has no file


def test_unknown_packets_get_the_empty_answer(client):
    for packet in (
        b"vMustReplyEmpty",
        b"qFrobnicate",
        b"QNonStop:1",
        b"_",
        b"\xff",
        b"qXfer:auxv:read::0,10",
    ):
        assert client.ask(packet) == b""


def test_acknowledgements_end_when_asked_to(client):
    assert client.ask(b"QStartNoAckMode") == b"OK"
    client.send(frame(b"?"))
    assert client.socket.recv(1) == b"$"


def test_a_damaged_packet_is_asked_for_again(client):
    client.send(b"$g#00")
    assert client.nak()
    assert client.ask(b"?").startswith(b"T05")


def test_an_answer_that_did_not_arrive_is_sent_again(client):
    first = client.ask(b"?")
    client.send(b"-")
    assert client.receive() == first


def test_the_description_is_64_bit_and_numbers_follow_one_another(client):
    root = ET.fromstring(read_object(client, "features", "target.xml"))
    assert root.findtext("architecture") == "i386:x86-64"
    numbers = [int(reg.get("regnum")) for reg in root.iter("reg")]
    assert numbers == list(range(len(numbers)))
    names = [reg.get("name") for reg in root.iter("reg")]
    assert len(set(names)) == len(names)
    assert {"rip", "fs_base", "cr3", "efer", "vmx_mode", "exit_reason", "pin_based_controls"} <= set(names)


def test_g_holds_the_registers_that_gdb_knows(client):
    root = ET.fromstring(read_object(client, "features", "target.xml"))
    bits = sum(
        int(reg.get("bitsize"))
        for feature in root.iter("feature")
        if feature.get("name").startswith("org.gnu.gdb.")
        for reg in feature.iter("reg")
    )
    answer = client.ask(b"g")
    assert len(answer) == bits // 4
    assert client.ask(b"G" + answer) == b"OK"
    assert client.ask(b"G" + answer[:-2]) == b"E01"


def test_registers_are_written(client):
    number = registers(client)["rbx"]
    assert client.ask(b"P%x=8877665544332211" % number) == b"OK"
    assert client.ask(b"p%x" % number) == b"8877665544332211"
    assert client.ask(b"P%x=00" % number) == b"E01"
    assert client.ask(b"pffff") == b"E01"


def test_the_features_that_the_processor_has_are_described(client):
    root = ET.fromstring(read_object(client, "features", "target.xml"))
    names = {feature.get("name") for feature in root.iter("feature")}
    assert {"org.gnu.gdb.i386.pkeys", "org.gnu.gdb.i386.avx"} <= names
    assert {"pkru", "xcr0", "xss", "mxcsr", "ymm0h", "ymm15h"} <= registers(client).keys()


def test_a_floating_point_register_that_is_set_is_not_empty(client):
    assert read_register(client, "ftag") == 0xFFFF
    one = "000000000000008" + "0ff3f"
    assert client.ask(b"P%x=%s" % (registers(client)["st2"], one.encode())) == b"OK"
    assert read_register(client, "ftag") == 0xFFCF


def test_memory_is_read_and_written(client):
    assert client.ask(b"m1000,5") == LOOP.hex().encode()
    assert client.ask(b"M3000,3:010203") == b"OK"
    assert client.ask(b"X3003,4:#$}*".replace(b"#$}*", b"\x23\x24\x7d\x2a")) == b"OK"
    assert client.ask(b"m3000,7") == b"01020323247d2a"
    assert client.ask(b"x3000,7") == b"b\x01\x02\x03#$}*"
    assert client.ask(b"X3000,0:") == b"OK"
    assert client.ask(b"M3000,3:0102") == b"E01"


def test_a_read_gives_what_there_is(client):
    end = 2 << 20
    assert client.ask(b"m%x,10" % (end - 4)) == b"00000000"
    assert client.ask(b"m%x,10" % end) == b"E01"
    assert client.ask(b"mffffffffffffffff,2") == b"E01"


def test_errors_are_in_words_for_who_reads_them(client):
    client.ask(b"qSupported:error-message+")
    answer = client.ask(b"m%x,10" % (2 << 20))
    assert answer.startswith(b"E.") and b"0x200000" in answer


def test_physical_memory_by_qemus_packets(client):
    assert client.ask(b"qqemu.PhyMemMode") == b"0"
    assert client.ask(b"Qqemu.PhyMemMode:1") == b"OK"
    assert client.ask(b"qqemu.PhyMemMode") == b"1"
    assert client.ask(b"m1000,5") == LOOP.hex().encode()
    assert client.ask(b"Qqemu.PhyMemMode:2") == b"E01"


def test_memory_is_searched(client):
    client.ask(b"X12ffff,4:GRMP")
    assert client.ask(b"qSearch:memory:1000;1ff000;GRMP") == b"1,12ffff"
    assert client.ask(b"qSearch:memory:130000;1000;GRMP") == b"0"
    assert client.ask(b"qSearch:memory:1000;ffffffffff;nowhere") == b"0"


def test_a_step_is_one_instruction(client):
    for count in (1, 2, 3):
        assert client.ask(b"vCont;s:1").startswith(b"T05")
        assert read_register(client, "rip") == CODE + count
        assert read_register(client, "rax") == count
    assert client.ask(b"s").startswith(b"T05")
    assert read_register(client, "rip") == CODE
    assert client.ask(b"S05;1002").startswith(b"T05")
    assert read_register(client, "rip") == CODE + 3


def test_a_range_is_stepped_through(client):
    answer = client.ask(b"vCont;r1000,1003:1;c")
    assert answer.startswith(b"T05")
    assert read_register(client, "rip") == CODE + 3


@pytest.mark.parametrize("kind, reason", [(0, b"swbreak"), (1, b"hwbreak")])
def test_a_breakpoint_stops_and_says_of_which_kind(client, kind, reason):
    client.ask(b"qSupported:swbreak+;hwbreak+")
    assert client.ask(b"Z%d,1002,1" % kind) == b"OK"
    assert client.ask(b"Z%d,1002,1" % kind) == b"OK"  # twice is once
    answer = client.ask(b"vCont;c")
    assert reason + b":;" in answer and b"thread:1;" in answer
    assert read_register(client, "rip") == CODE + 2
    assert client.ask(b"m1000,5") == LOOP.hex().encode()  # memory shows no breakpoint
    assert client.ask(b"z%d,1002,1" % kind) == b"OK"
    client.send(frame(b"vCont;c"))
    time.sleep(0.2)
    client.send(b"\x03")
    assert client.receive().startswith(b"T02")


def test_a_range_ends_at_a_breakpoint(client):
    client.ask(b"Z0,1002,1")
    client.ask(b"vCont;r1000,1005:1")
    assert read_register(client, "rip") == CODE + 2


@pytest.mark.parametrize("kind, reason", [(2, b"watch"), (4, b"awatch")])
def test_a_watchpoint_stops_after_the_access(serve, connect, kind, reason):
    client = connect(serve(STORES))
    client.ask(b"vCont;s:1")
    client.ask(b"vCont;s:1")
    assert client.ask(b"Z%d,2000,4" % kind) == b"OK"
    answer = client.ask(b"vCont;c")
    assert reason + b":2000;" in answer
    assert client.ask(b"m2000,4") == b"01000000"
    assert read_register(client, "rip") == CODE + 5
    assert client.ask(b"z%d,2000,4" % kind) == b"OK"


def test_breakpoints_that_cannot_be(client):
    assert client.ask(b"Z7,1000,1") == b""
    assert client.ask(b"Z2,1000,0") == b"E01"
    assert client.ask(b"Z0,1000") == b"E01"
    assert client.ask(b"z0,5000,1") == b"OK"  # taking away what is not there is no error


def test_control_c_stops_the_machine(client):
    client.send(frame(b"c"))
    time.sleep(0.1)
    start = time.monotonic()
    client.send(b"\x03")
    assert client.receive().startswith(b"T02")
    assert time.monotonic() - start < 1


def test_control_c_right_behind_the_packet_is_not_lost(client):
    client.send(frame(b"c") + b"\x03")
    assert client.receive().startswith(b"T02")


def test_a_control_c_that_comes_too_late_is_forgotten(client):
    client.send(b"\x03")
    client.ask(b"Z0,1002,1")
    assert client.ask(b"c").startswith(b"T05")


def test_threads_are_worlds(client):
    assert client.ask(b"qfThreadInfo") == b"m1"
    assert client.ask(b"qsThreadInfo") == b"l"
    assert client.ask(b"qC") == b"QC1"
    assert bytes.fromhex(client.ask(b"qThreadExtraInfo,1").decode()) == b"vCPU 0 host (running)"
    assert b'<thread id="1"' in read_object(client, "threads")
    assert client.ask(b"T1") == b"OK"
    assert client.ask(b"T2") == b"E01"
    assert client.ask(b"Hg1") == client.ask(b"Hg0") == client.ask(b"Hc-1") == b"OK"
    assert client.ask(b"Hg7") == b"E01"
    assert client.ask(b"vCont;s:7") == b"E01"


def test_vcont_says_what_it_takes_and_refuses_the_rest(client):
    assert client.ask(b"vCont?") == b"vCont;c;C;s;S;t;r"
    for bad in (b"vCont", b"vCont;", b"vCont;x", b"vCont;r10", b"vCont;t:1", b"vCont;s1"):
        assert client.ask(bad) == b"E01"


def test_the_end_of_the_machine_is_told(serve, connect):
    thread = serve(EXITS)
    client = connect(thread)
    assert client.ask(b"vCont;c") == b"W2b"
    client.close()
    assert thread.join(5)
    assert thread.result["kind"] == "exit" and thread.result["status"] == 43


def test_a_shutdown_can_be_looked_at_before_it_ends(serve, connect):
    client = connect(serve(b"\x0f\x0b"))  # ud2, with no IDT
    assert client.ask(b"c").startswith(b"T06")
    assert client.ask(b"m1000,2") == b"0f0b"
    assert client.ask(b"c") == b"X06"


def test_the_machine_is_started_anew(serve, connect):
    client = connect(serve(EXITS))
    client.ask(b"!")
    assert client.ask(b"c") == b"W2b"
    assert client.ask(b"qfThreadInfo") == b"l"
    assert read_object(client, "threads") == b"<threads/>"
    assert client.ask(b"c") == b"W2b"
    assert client.ask(b"vRun;;61") == b"E01"  # arguments
    assert client.ask(b"vRun;").startswith(b"T05")
    assert read_register(client, "rip") == CODE
    assert client.ask(b"c") == b"W2b"
    client.send(frame(b"R00"))
    assert read_register(client, "rip") == CODE
    assert "first instruction" in client.monitor("reset")


def test_vendor_calls(client):
    assert "vmcs" in call(client, "abilities")["result"]
    assert call(client, "reason", name="cpuid")["result"]["number"] == 10
    assert "no method" in call(client, "frobnicate")["error"]
    assert "error" in call(client, "reason")
    assert "error" in call(client, "describe", field=3, value="x")
    assert "VMXON" in call(client, "read_field", field="guest_rip")["error"]
    assert "no thread 9" in call(client, "code_bits", thread=9)["error"]
    assert "error" in call(client, "code_bits", thread=[])
    for bad in (b"", b"00", b"5b5d", b"7b7d", b"zz", b"5b" * 30000):
        assert b"error" in bytes.fromhex(client.ask(b"qgdbvmx.call:" + bad).decode())


def test_monitor_commands(client):
    listed = client.monitor("help")
    assert "reset" in listed and "vmx" in listed
    assert re.search(r"thread 1: vCPU 0 host", client.monitor("info"))
    assert "no monitor command" in client.monitor("frobnicate")
    assert "usage: vmx catch" in client.monitor("vmx help catch")
    assert "Catchpoint 1 (VM exit cpuid)" in client.monitor("vmx catch exit cpuid")
    assert "1  VM exit cpuid" in client.monitor("vmx catch list")
    assert "no catchpoint 5" in client.monitor("vmx catch delete 5")
    assert "did you mean cpuid" in client.monitor("vmx catch exit cpuidd")
    assert "VMXON" in client.monitor("vmx vmcs")
    assert "writes no files" in client.monitor("vmx trace save /tmp/x")


def test_a_port_in_use_is_one_line(serve):
    thread = serve(LOOP)
    with (
        pytest.raises(ServerError, match=r"cannot listen on 127.0.0.1:\d+: "),
        serve(LOOP, port=thread.address[1]),
    ):
        pass


def test_an_open_address_is_warned_of(serve, capfd):
    serve(LOOP, host="0.0.0.0")
    assert "no password" in capfd.readouterr().err
