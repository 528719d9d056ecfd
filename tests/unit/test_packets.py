"""Frames, escapes and the decoder, however the bytes are cut."""

from __future__ import annotations

import random

import pytest

from gdbvmx.remote.arguments import PacketError, address_range, number, numbers, unhex
from gdbvmx.remote.packets import Decoder, Mark, Packet, checksum, escape, frame, unescape


def decode(data: bytes, *, limit: int = 1000) -> list[Packet | Mark]:
    return list(Decoder(limit).feed(data))


def test_a_frame_has_the_manuals_checksum():
    assert frame(b"OK") == b"$OK#9a"
    assert frame(b"") == b"$#00"


@pytest.mark.parametrize("data", [b"", b"plain", b"#$}*", bytes(range(256)), b"}", b"}}"])
def test_what_is_framed_is_decoded(data: bytes):
    assert decode(frame(data)) == [Packet(data)]
    assert unescape(escape(data)) == data


def test_bytes_come_one_by_one():
    decoder = Decoder()
    stream = b"+" + frame(b"qSupported:a+;b-") + b"\x03" + frame(b"X1,1:}") + b"-"
    found = [item for byte in stream for item in decoder.feed(bytes((byte,)))]
    assert found == [Mark.ACK, Packet(b"qSupported:a+;b-"), Mark.INTERRUPT, Packet(b"X1,1:}"), Mark.NAK]


def test_an_interrupt_byte_inside_a_packet_is_data():
    assert decode(frame(b"X10,1:\x03")) == [Packet(b"X10,1:\x03")]


@pytest.mark.parametrize("data", [b"$OK#00", b"$OK#zz", b"$OK#9"])
def test_a_wrong_checksum_is_no_packet(data: bytes):
    assert not any(isinstance(item, Packet) for item in decode(data))


def test_after_a_half_packet_the_next_is_found():
    assert decode(b"$m1000,4" + frame(b"g")) == [Packet(b"g")]
    assert decode(b"$m1000,4#0" + b"0" + frame(b"g")) == [Mark.DAMAGED, Packet(b"g")]


def test_a_packet_without_end_is_dropped_and_not_kept():
    decoder = Decoder(100)
    found = [item for _ in range(1000) for item in decoder.feed(b"$" * 1 + b"a" * 150)]
    assert found == []
    found = list(decoder.feed(b"a" * 100))
    assert found == [Mark.DAMAGED]
    assert list(decoder.feed(frame(b"g"))) == [Packet(b"g")]


def test_garbage_hides_no_packet():
    source = random.Random(1)
    for _ in range(200):
        noise = bytes(source.randrange(256) for _ in range(source.randrange(300)))
        decoder = Decoder(100)
        list(decoder.feed(noise))
        # What stands open is closed by the first frame at the latest.
        list(decoder.feed(frame(b"?")))
        assert list(decoder.feed(frame(b"g"))) == [Packet(b"g")]


def test_checksums_wrap():
    assert checksum(b"\xff\xff") == 0xFE


def test_numbers_are_hexadecimal_and_of_64_bits():
    assert number(b"1f") == 31
    assert number(b"f" * 16) == 2**64 - 1
    assert numbers(b"1,2,3", 3) == [1, 2, 3]
    for bad in (b"", b"-1", b"0x1", b"1 ", b"1_0", b"f" * 17, b"\xff"):
        with pytest.raises(PacketError):
            number(bad)
    with pytest.raises(PacketError, match="expected 2"):
        numbers(b"1", 2)


def test_a_range_ends_within_64_bits():
    assert address_range(b"ffffffffffffffff,1") == (2**64 - 1, 1)
    with pytest.raises(PacketError, match="beyond 64 bits"):
        address_range(b"ffffffffffffffff,2")


def test_unhex_takes_pairs():
    assert unhex(b"00ffAa") == b"\x00\xff\xaa"
    for bad in (b"0", b"0g", b"0 00", b" 00 "):
        with pytest.raises(PacketError):
            unhex(bad)
