from __future__ import annotations

import uuid

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lakeflight.wire.errors import MalformedRequestError
from lakeflight.wire.identifiers import canonical_uuid

TEXT = "0a1b2c3d-4e5f-4607-8899-aabbccddeeff"


@pytest.mark.parametrize("form", ["{}", "{{{}}}", "urn:uuid:{}"])
def test_every_hyphenated_form_and_case_is_brought_to_one(form: str) -> None:
    assert canonical_uuid(form.format(TEXT)) == TEXT
    assert canonical_uuid(form.format(TEXT.upper())) == TEXT


def test_thirty_two_digits_are_hyphenated() -> None:
    assert canonical_uuid(TEXT.replace("-", "").upper()) == TEXT


@settings(max_examples=50)
@given(st.uuids())
def test_canonical_text_is_left_alone(value: uuid.UUID) -> None:
    assert canonical_uuid(str(value)) == canonical_uuid(value.hex) == str(value)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "..",
        "../" + TEXT,
        TEXT + "\n",
        TEXT + "\0",
        TEXT[:-1],
        "{" + TEXT,
        TEXT + "}",
        "{" + TEXT.replace("-", "") + "}",
        "URN:UUID:" + TEXT,
        TEXT.replace("0a1b", "٠a1b"),
        "0a1b2c3d4e5f-4607-8899-aabbccddeeff",
        "g" * 32,
    ],
)
def test_nothing_else_passes(text: str) -> None:
    with pytest.raises(MalformedRequestError, match="not a UUID"):
        canonical_uuid(text)


def test_a_refused_text_is_cut_in_the_message() -> None:
    with pytest.raises(MalformedRequestError) as refused:
        canonical_uuid("x" * 10_000)

    assert len(str(refused.value)) < 100
