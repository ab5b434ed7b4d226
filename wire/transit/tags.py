"""Columns that follow from a row's description and property set, made once for each distinct one.

Both arrive as ordinals of the dependency table. Rows by the million use descriptions and sets by the dozen, so the text
work is done on the distinct ordinals, and the rows get theirs through one look-up in a table by ordinal.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import numpy as np

from wire.errors import CorruptPayloadError
from wire.transit import kernels
from wire.transit.columns import Codes, Int32Array, Interner
from wire.transit.dependencies import PROPERTY_TEXT_CHARS_MAX, Dependencies, PropertySet

NO_PROPERTIES: Final = "{}"


class OrdinalColumn:
    """One ordinal per row, or -1 for none; ``used`` has the distinct ones, ascending."""

    def __init__(self, dependencies: Dependencies, ordinals: Int32Array) -> None:
        self._ordinals = ordinals
        self._size = len(dependencies.values)
        seen = np.zeros(self._size, np.uint8)
        kernels.mark(ordinals, seen)
        self.used: list[int] = np.flatnonzero(seen).tolist()

    def numbers(self, number_of: Callable[[int], int], none: int = 0) -> Int32Array:
        """``number_of`` each row's ordinal."""
        by_ordinal = np.zeros(self._size + 1, np.int32)
        by_ordinal[-1] = none
        for ordinal in self.used:
            by_ordinal[ordinal] = number_of(ordinal)
        rows = np.empty(len(self._ordinals), np.int32)
        kernels.look_up(by_ordinal, self._ordinals, rows)
        return rows

    def texts(self, text_of: Callable[[int], str]) -> Codes:
        """``text_of`` each row's ordinal; every row must have one."""
        interner = Interner()
        return Codes(self.numbers(lambda ordinal: interner.number(text_of(ordinal))), interner.values)


class PropertyColumn(OrdinalColumn):
    """The property sets of all rows."""

    def __init__(self, dependencies: Dependencies, ordinals: Int32Array) -> None:
        super().__init__(dependencies, ordinals)
        self._sets: dict[int, PropertySet] = {ordinal: dependencies.property_set(ordinal) for ordinal in self.used}

    def json(self) -> Codes:
        """Canonical JSON text of each row's set."""
        chars = 0
        for properties in self._sets.values():  # before any text is made: many sets may share a few long strings
            chars += sum(len(name) + len(value) for name, value in properties.pairs)
        if chars > PROPERTY_TEXT_CHARS_MAX:
            raise CorruptPayloadError(
                f"properties of the block have {chars} characters, over {PROPERTY_TEXT_CHARS_MAX}"
            )
        interner = Interner()
        interner.number(NO_PROPERTIES)
        return Codes(self.numbers(lambda ordinal: interner.number(self._sets[ordinal].to_json())), interner.values)

    def override(self, name: str, column: Codes) -> Codes:
        """``column``, but with the property of this name where a row has one."""
        values = self._values(name)
        if not values:
            return column
        interner = Interner()
        old = np.fromiter((interner.number(text) for text in column.values), np.int32, len(column.values))
        overriding = self.numbers(
            lambda ordinal: interner.number(values[ordinal]) if ordinal in values else -1, none=-1
        )
        return Codes(np.where(overriding >= 0, overriding, old[column.codes]), interner.values)

    def override_numbers(self, name: str, known: Mapping[str, int], column: Int32Array) -> Int32Array:
        """``column``, but with the positive number that the property of this name stands for, where there is one."""
        numbers = {ordinal: known[text] for ordinal, text in self._values(name).items() if text in known}
        if not numbers:
            return column
        overriding = self.numbers(lambda ordinal: numbers.get(ordinal, 0))
        result: Int32Array = np.where(overriding > 0, overriding, column)
        return result

    def _values(self, name: str) -> dict[int, str]:
        return {ordinal: text for ordinal, found in self._sets.items() if (text := found.find(name)) is not None}
