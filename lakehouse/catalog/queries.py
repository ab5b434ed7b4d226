"""SQL kept in ``.sql`` files: each statement has a name, Python only names it."""

from __future__ import annotations

import re
from functools import cache
from importlib import resources

_NAME = re.compile(r"^-- name: (\w+)$", re.MULTILINE)


@cache
def load(file_name: str) -> dict[str, str]:
    """The statements of ``lakehouse/catalog/sql/<file_name>.sql`` by name, without the closing semicolon."""
    text = resources.files("lakehouse.catalog").joinpath("sql", f"{file_name}.sql").read_text()
    parts = _NAME.split(text)
    statements = {name: body.strip().removesuffix(";") for name, body in zip(parts[1::2], parts[2::2], strict=True)}
    if len(statements) != len(parts) // 2:
        raise ValueError(f"a statement of {file_name}.sql has the name of another")
    return statements
