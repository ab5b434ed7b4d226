"""The page about dependencies names each, and says which are pinned."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "dependencies.md").read_text()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
SERVER = PROJECT["dependencies"] + [name for extra in PROJECT["optional-dependencies"].values() for name in extra]
LIBRARY = tomllib.loads((ROOT / "lakeflight" / "pyproject.toml").read_text())["project"]["dependencies"]


def _line(requirement: str) -> list[str]:
    name = re.split(r"[<>=]", requirement)[0]
    (line,) = [line for line in PAGE.splitlines() if line.startswith("|") and f"`{name}`" in line.split("|")[1]]
    return [cell.strip() for cell in line.split("|")]


@pytest.mark.parametrize("requirement", [name for name in SERVER if not name.startswith("lakeflight=")])
def test_every_dependency_is_explained(requirement: str) -> None:
    assert ("exactly" in _line(requirement)[2]) == ("==" in requirement)


def test_the_page_says_what_the_library_needs_of_them() -> None:
    named = [line.split("|")[1] for line in PAGE.splitlines() if line.startswith("|") and "yes" in line.split("|")[3]]

    assert set(re.findall(r"`(.+?)`", " ".join(named))) == {re.split(r"[<>=]", name)[0] for name in LIBRARY}


def test_the_lock_has_hashes_and_names_no_index() -> None:
    lock = (ROOT / "requirements.lock").read_text()

    assert lock.count("--hash=sha256:") > 100
    assert "://" not in lock
    assert all(re.match(r"[a-z0-9._-]+==", line) for line in lock.splitlines() if line and not line.startswith(" "))
