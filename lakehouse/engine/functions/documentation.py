"""``docs/functions.md`` as the declarations have it; a test compares.  ``python -m lakehouse.engine.functions.documentation``"""

from __future__ import annotations

from collections.abc import Iterator

from lakehouse.engine.functions.registry import own_functions, relation_functions

_INTRODUCTION = """# Functions

What a statement may call beside DuckDB's own functions. Written from the declarations in `lakehouse/engine/functions/` by
`python -m lakehouse.engine.functions.documentation > docs/functions.md`.

| function | what it gives |
|---|---|
"""


def page() -> str:
    """The whole page."""
    return _INTRODUCTION + "".join(f"| {name} | {text} |\n" for name, text in _rows())


def _rows() -> Iterator[tuple[str, str]]:
    for table in relation_functions().values():
        yield f"`{table.name}({', '.join(argument.name for argument in table.arguments)})`", table.documentation
    for function in own_functions():
        if not function.is_private:
            shown = "".join(f" `{call}` is `{answer}`." for call, answer in function.examples)
            yield f"`{function.signature}`", function.documentation + shown


if __name__ == "__main__":
    print(page(), end="")
