"""The page about settings says of each what the program does."""

from __future__ import annotations

from pathlib import Path

import pytest

from server.settings import Settings

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "settings.md").read_text()


@pytest.mark.parametrize("name", sorted(Settings.model_fields))
def test_every_setting_stands_in_the_page_with_its_meaning_and_default(name: str) -> None:
    field = Settings.model_fields[name]

    (line,) = [line for line in PAGE.splitlines() if f"`LAKEFLIGHT_{name.upper()}`" in line]

    assert field.description is not None
    assert field.description in line
    if isinstance(field.default, bool):
        assert f"`{str(field.default).lower()}`" in line
    elif isinstance(field.default, int | float | str):
        assert f"`{field.default}`" in line


def test_the_page_names_no_setting_that_is_not_there() -> None:
    documented = {word.split("`")[1] for word in PAGE.split("| ") if word.startswith("`LAKEFLIGHT_")}

    assert documented == {f"LAKEFLIGHT_{name.upper()}" for name in Settings.model_fields}


@pytest.mark.parametrize("address", ["0.0.0.0:50051", "192.168.1.5:9000", "[::]:9000", "example.org:80"])
def test_an_address_that_others_can_reach_is_refused_with_the_reason(address: str) -> None:
    with pytest.raises(ValueError, match="not a loopback address, and without identities whoever"):
        Settings(flight_address=address)
    with pytest.raises(ValueError, match="keys would be sent to it without encryption"):
        Settings(flight_address=address, identities="required")

    assert Settings(flight_address=address, open_to_anybody=True).flight_address == address
    assert Settings(flight_address=address, identities="required", plaintext_beyond_loopback=True).requires_identities


def test_identities_are_required_where_keys_are_given_and_cannot_be_switched_off_beside_them() -> None:
    key = "grafana=0123456789abcdef0123456789abcdef"

    assert Settings(reader_keys=key).requires_identities
    assert not Settings().requires_identities
    with pytest.raises(ValueError, match="contradicts the keys that are given"):
        Settings(reader_keys=key, identities="none")


def test_a_data_folder_without_a_name_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAKEFLIGHT_DATA_DIR", "")

    with pytest.raises(ValueError, match="is empty: give it a value, or leave it out"):
        Settings()


def test_a_store_in_memory_is_refused_because_processes_could_not_share_it() -> None:
    with pytest.raises(ValueError, match="each process of a server has a memory of its own"):
        Settings(store_url="memory://bucket/lake")
