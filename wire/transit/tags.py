"""Columns that follow from a row's description and property set, made once for each distinct one.

Both arrive as ordinals of the dependency table. Rows by the million use descriptions and sets by the dozen, so the text
work is done on the distinct ordinals, and the rows get theirs through one look-up in a table by ordinal.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import numpy as np

from wire.errors import CorruptPayloadError
from wire.transit.columns import Codes, Int32Array, Interner
from wire.transit.dependencies import PROPERTY_TEXT_CHARS_MAX, Dependencies, PropertySet

NO_PROPERTIES: Final = "{}"


def used_ordinals(ordinals: Int32Array, size: int) -> list[int]:
    """The distinct ordinals that are not -1, ascending."""
    seen = np.zeros(size + 1, np.bool_)
    seen[ordinals] = True  # -1 lands on the spare last place
    distinct: list[int] = np.flatnonzero(seen[:size]).tolist()
    return distinct


def text_column(dependencies: Dependencies, ordinals: Int32Array, text_of: Callable[[int], str]) -> Codes:
    """``text_of`` each row's ordinal."""
    interner = Interner()
    by_ordinal = np.zeros(max(1, len(dependencies.values)), np.int32)
    for ordinal in used_ordinals(ordinals, len(dependencies.values)):
        by_ordinal[ordinal] = interner.number(text_of(ordinal))
    return Codes(by_ordinal[ordinals], interner.values)


def described_texts(dependencies: Dependencies, subjects: Int32Array, member: str) -> Codes:
    """One text member of each row's description."""
    return text_column(dependencies, subjects, lambda ordinal: dependencies.record(ordinal).text(member))


class PropertyColumn:
    """The property sets of all rows; -1 in ``ordinals`` is a row without."""

    def __init__(self, dependencies: Dependencies, ordinals: Int32Array) -> None:
        self._ordinals = ordinals
        self._size = len(dependencies.values)
        self.sets: dict[int, PropertySet] = {
            ordinal: dependencies.property_set(ordinal) for ordinal in used_ordinals(ordinals, self._size)
        }

    def json(self) -> Codes:
        """Canonical JSON text of each row's set."""
        interner = Interner()
        interner.number(NO_PROPERTIES)
        by_ordinal = np.zeros(self._size + 1, np.int32)
        chars = 0
        for ordinal, properties in self.sets.items():
            # before the text is made: a few long strings in many sets are long texts
            chars += sum(len(name) + len(value) for name, value in properties.pairs)
            if chars > PROPERTY_TEXT_CHARS_MAX:
                raise CorruptPayloadError(
                    f"properties of the block have more than {PROPERTY_TEXT_CHARS_MAX} characters"
                )
            by_ordinal[ordinal] = interner.number(properties.to_json())
        return Codes(by_ordinal[self._ordinals], interner.values)

    def override(self, name: str, column: Codes) -> Codes:
        """``column``, but with the property of this name where a row has one."""
        values = {ordinal: value for ordinal, found in self.sets.items() if (value := found.find(name)) is not None}
        if not values:
            return column
        interner = Interner()
        old = np.fromiter((interner.number(text) for text in column.values), np.int32, len(column.values))
        by_ordinal = np.full(self._size + 1, -1, np.int32)
        for ordinal, value in values.items():
            by_ordinal[ordinal] = interner.number(value)
        overriding = by_ordinal[self._ordinals]
        return Codes(np.where(overriding >= 0, overriding, old[column.codes]), interner.values)

    def override_numbers(self, column: Int32Array, values: Mapping[int, int]) -> Int32Array:
        """``column``, but with the number of a row's set where that set (by ordinal) has one."""
        if not values:
            return column
        by_ordinal = np.zeros(self._size + 1, np.int32)
        has_one = np.zeros(self._size + 1, np.bool_)
        for ordinal, value in values.items():
            by_ordinal[ordinal], has_one[ordinal] = value, True
        result: Int32Array = np.where(has_one[self._ordinals], by_ordinal[self._ordinals], column)
        return result
