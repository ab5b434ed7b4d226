"""``lakeflight_selected``: what paths with filters and ranges find, which the engine's own paths have not."""

from __future__ import annotations

from typing import Any, Final

from lakehouse.engine.functions.declare import ArrowFunction


def _selected(documents: Any, paths: Any) -> Any:
    from lakehouse.engine.json_paths import select_paths  # has an engine

    return select_paths(documents, paths)


FUNCTION: Final = ArrowFunction(
    signature="lakeflight_selected(document VARCHAR, path VARCHAR) -> VARCHAR",
    documentation="What a path with filters or ranges finds, as an array of JSON.",
    examples=(
        ("""lakeflight_selected('{"a":[{"b":1,"c":2},{"b":3,"c":4}]}', '$.a[*] ? (@.b > 1).c')""", "[4]"),
        ("""lakeflight_selected('{"a":[1,2,3,4]}', '$.a[1 to last - 1]')""", "[2,3]"),
    ),
    function=_selected,
)
