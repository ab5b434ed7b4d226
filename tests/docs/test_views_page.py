"""Whatever can be read has an entry among the pages, and the entry names all of its columns."""

from __future__ import annotations

import re

import pytest

from tests.support.fixtures import ROOT
from views import default_registry

REGISTRY = default_registry()
VIEWS = (ROOT / "docs" / "views.md").read_text()
QUERYING = (ROOT / "docs" / "querying.md").read_text()
OF_THREADS = QUERYING[QUERYING.index("column of `thread_spans`") :]

READ = [name for name in REGISTRY.names if name == "list_partitions" or "_partitions" not in name]  # others administer


@pytest.mark.parametrize("name", READ)
def test_every_column_is_on_the_page(name: str) -> None:
    found = re.search(rf"^## `{name}`\n(.*?)(?=^## )", VIEWS, re.DOTALL | re.MULTILINE)
    entry = OF_THREADS if name == "thread_spans" else found[1] if found is not None else ""
    columns = [column for column in REGISTRY.find(name).declaration.schema.names if "." not in column]  # of others
    if name == "process_spans":
        columns = columns[:2]  # the others are those of thread_spans, it says

    cells = [line.split("|")[1] for line in entry.splitlines() if line.startswith("|")]
    named = {column for cell in cells for column in re.findall(r"`([^`]+)`", cell)}

    assert named, f"{name} has no entry"
    assert not set(columns) - named, f"not described: {sorted(set(columns) - named)}"
