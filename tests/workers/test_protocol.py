"""What the edge believes of a worker's words: only what the protocol has."""

from __future__ import annotations

from typing import Any

import cbor2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lakeflight.wire.flight_data import FRAME_BYTES_MAX as WIRE_FRAME_BYTES_MAX
from server.workers.protocol import (
    FRAME_BYTES_MAX,
    Built,
    Cancel,
    Done,
    Failed,
    InRing,
    ProtocolError,
    Run,
    Splitter,
    decode,
    encode,
    pack,
)

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.text(max_size=20) | st.binary(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
MESSAGES = st.one_of(
    st.builds(Cancel, st.integers(0, 2**31)),
    st.builds(
        InRing, st.integers(0, 9), st.integers(0, 9), st.integers(0, 2**40), st.integers(0, 2**40), st.booleans()
    ),
    st.builds(Done, st.integers(0, 9), st.lists(st.binary(max_size=9), max_size=3), st.integers(0, 2**40)),
    st.builds(Built, st.integers(0, 9), st.dictionaries(st.text(max_size=9), PLAIN, max_size=4)),
    st.builds(Failed, st.integers(0, 9), st.text(max_size=9), st.text(max_size=9), st.text(max_size=9)),
    st.builds(
        Run,
        st.integers(0, 9),
        st.text(max_size=30),
        st.none() | st.binary(max_size=9),
        st.lists(PLAIN, max_size=2),
        st.dictionaries(st.text(max_size=5), PLAIN, max_size=2),
    ),
)
ALL = frozenset({Cancel, InRing, Done, Built, Failed, Run})


@settings(max_examples=60, deadline=None)
@given(messages=st.lists(MESSAGES, max_size=4), cut=st.integers(1, 50))
def test_messages_survive_any_cutting_of_the_stream(messages: list[Any], cut: int) -> None:
    stream = b"".join(map(pack, messages))
    splitter = Splitter(1 << 20)

    received = [
        decode(packet, ALL)
        for start in range(0, len(stream), cut)
        for packet in splitter.feed(stream[start : start + cut])
    ]

    assert received == messages


@settings(max_examples=200, deadline=None)
@given(data=st.binary(max_size=60))
def test_bytes_that_are_no_message_are_refused_and_do_no_harm(data: bytes) -> None:
    try:
        message = decode(data, ALL)
    except ProtocolError:
        return
    assert type(message) in ALL


@pytest.mark.parametrize(
    ("what", "data"),
    [
        ("a tag", cbor2.dumps([4, cbor2.CBORTag(1, 5)])),
        ("a pattern tag", cbor2.dumps([4, cbor2.CBORTag(35, "(a+)+")])),
        ("a big number", cbor2.dumps([4, 2**70])),
        ("a text where a number belongs", cbor2.dumps([4, "5"])),
        ("a boolean where a number belongs", cbor2.dumps([4, True])),
        ("a field too many", cbor2.dumps([4, 5, 6])),
        ("a field too few", cbor2.dumps([4])),
        ("an unknown kind", cbor2.dumps([99, 5])),
        ("a negative kind", cbor2.dumps([-1, 5])),
        ("no array", cbor2.dumps({"kind": 4})),
        ("deep nesting", b"\x81" * 100 + b"\x01"),
        ("duplicate keys", b"\x82\x04\xa2\x61a\x01\x61a\x02"),
        ("nothing", b""),
    ],
)
def test_decode_refuses(what: str, data: bytes) -> None:
    assert isinstance(decode(encode(Cancel(5)), ALL), Cancel)  # kind 4, which the cases distort

    with pytest.raises(ProtocolError):
        decode(data, ALL)


def test_a_kind_that_the_caller_does_not_expect_is_refused() -> None:
    with pytest.raises(ProtocolError, match="unexpected message Run"):
        decode(encode(Run(1, "SELECT 1", None, [], {})), frozenset({Cancel}))


def test_a_length_over_the_limit_is_refused_before_the_bytes_have_come() -> None:
    splitter = Splitter(1000)

    with pytest.raises(ProtocolError, match="1001 bytes, the limit is 1000"):
        list(splitter.feed((1001).to_bytes(4, "little")))


def test_both_frame_encoders_have_the_same_limit() -> None:
    assert FRAME_BYTES_MAX == WIRE_FRAME_BYTES_MAX
