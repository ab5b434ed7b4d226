"""``date_format``: ``to_char`` by another name."""

from __future__ import annotations

from typing import Final

from lakehouse.engine.functions.declare import Rewording
from lakehouse.engine.functions.to_char import translate

FUNCTION: Final = Rewording(
    signature="date_format(time TIMESTAMP_NS, format VARCHAR) -> VARCHAR",
    documentation="The same as to_char.",
    listing="datetime",
    examples=(("date_format(TIMESTAMP '2026-01-02 03:04:05', '%F %R')", "2026-01-02 03:04"),),
    translate=translate,
)
