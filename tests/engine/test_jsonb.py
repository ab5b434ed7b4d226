"""JSON text -> JSONB bytes, against a decoder that knows nothing of the encoder."""

from __future__ import annotations

import json
import math
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lakehouse.engine.jsonb import DEPTH_MAX, encoded, encoded_dictionary
from tests.support.jsonb import decoded

TEXTS = st.text(st.sampled_from('ab"\\\n\x01\x7f/u{}[]:, é😀') | st.characters(exclude_categories=["Cs"]), max_size=8)
NUMBERS = (
    st.sampled_from([0, 1, -1, 127, 128, 255, 256, -128, -129, 65535, 65536, 1 << 32, 1 << 63, (1 << 64) - 1, 1 << 64])
    | st.integers(-(1 << 63) - 1, 1 << 65)
    | st.floats()
)
VALUES = st.recursive(
    st.none() | st.booleans() | TEXTS | NUMBERS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=12,
)
SPELLINGS: list[dict[str, Any]] = [
    {"ensure_ascii": False, "sort_keys": True, "separators": (",", ":")},
    {"ensure_ascii": False, "separators": (",", ":")},
    {"ensure_ascii": True},
    {"indent": 1},
]


def same(value: Any, other: Any) -> bool:
    """Equal in type and bits; an integer that 64 bits do not hold is a double."""
    if isinstance(value, int) and not isinstance(value, bool) and not -(1 << 63) <= value < 1 << 64:
        value = float(value)
    if type(value) is not type(other):
        return False
    if isinstance(value, float):
        if math.isnan(value):  # whose sign no spelling tells
            return math.isnan(other)
        return value == other and math.copysign(1, value) == math.copysign(1, other)
    if isinstance(value, list):
        return len(value) == len(other) and all(map(same, value, other))
    if isinstance(value, dict):
        return value.keys() == other.keys() and all(same(member, other[key]) for key, member in value.items())
    return bool(value == other)


def test_the_bytes_are_those_of_the_original() -> None:
    [document] = encoded(pa.array(['{"name":"value"}'])).to_pylist()

    assert document == bytes.fromhex("400000011000000410000005") + b"namevalue"


@settings(deadline=None, max_examples=150)
@given(st.lists(VALUES, max_size=8), st.sampled_from(SPELLINGS))
def test_documents_come_back_whole_in_whatever_spelling_they_are_written(values: list[Any], spelling: Any) -> None:
    texts = pa.array([json.dumps(value, **spelling) for value in values] + [None], pa.string())

    *documents, nothing = encoded(texts).to_pylist()

    assert nothing is None
    for value, document in zip(values, documents, strict=True):
        assert same(value, decoded(document)), (value, decoded(document))


def test_of_a_key_that_is_there_twice_the_last_counts() -> None:
    assert [decoded(one) for one in encoded(pa.array(['{"b":1,"a":2,"b":3}'])).to_pylist()] == [{"a": 2, "b": 3}]


def test_half_a_surrogate_pair_is_no_character() -> None:
    assert decoded(encoded(pa.array(['"\\ud83d"'])).to_pylist()[0]) == "?"


def test_a_slice_is_encoded_as_what_it_shows() -> None:
    texts = pa.array(["[1]", None, "[2]", "[3]"]).slice(1, 2)

    assert [None if one is None else decoded(one) for one in encoded(texts).to_pylist()] == [None, [2]]


def test_as_a_dictionary_every_document_is_there_once() -> None:
    kind = pa.dictionary(pa.int32(), pa.binary())

    column = encoded_dictionary(pa.array(["{}", "[]", None, "{}"]), kind)

    assert column.type == kind
    assert [decoded(one) for one in column.dictionary.to_pylist()] == [{}, []]
    assert column.indices.to_pylist() == [0, 1, None, 0]


@pytest.mark.parametrize("text", ["", "{", '{"a":1', '"a', "[1,2", "]", "1 2", "\\", '{"a" 1}', "1e", "--1"])
def test_what_is_no_json_is_refused(text: str) -> None:
    with pytest.raises(pa.ArrowInvalid):
        encoded(pa.array(["{}", text]))


def test_documents_nested_a_million_deep_are_refused_and_those_at_the_limit_are_not() -> None:
    with pytest.raises(pa.ArrowInvalid, match=f"deeper than {DEPTH_MAX}"):
        encoded(pa.array(["[" * 1_000_000 + "]" * 1_000_000]))
    assert len(encoded(pa.array(["[" * DEPTH_MAX + "]" * DEPTH_MAX]))[0].as_py()) == 8 * DEPTH_MAX - 4


def test_a_million_members_and_elements_are_encoded() -> None:
    members = json.dumps({f"{number:07}": number for number in range(1_000_000)}, separators=(",", ":"))
    [document] = encoded(pa.array([members])).to_pylist()

    assert decoded(document)["0999999"] == 999_999
