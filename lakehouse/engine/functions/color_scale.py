"""``color_scale``: the colour at a part of the way through a well-known scale.

``viridis``, ``magma``, ``plasma`` and ``inferno`` are the 256 colours that matplotlib gave to the public domain (CC0), ``cividis`` and
``turbo`` the polynomials that were published for them. A name that is not one of these is refused with those that are.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from lakehouse.engine.functions.declare import ArrowFunction

_STEPS: Final = 256
# Coefficients of 1, t, t², … for red, green and blue, in 0 to 255. Turbo: A. Mikhailov, 2019. Cividis: J. Nuñez et al., 2018.
_POLYNOMIALS: Final = {
    "cividis": (
        (-4.54, -35.34, 2381.73, -6402.7, 7024.72, -2710.57),
        (32.49, 170.73, 52.82, -131.46, 176.58, -67.37),
        (81.24, 442.36, -2482.43, 6167.24, -6614.94, 2475.67),
    ),
    "turbo": (
        (34.61, 1172.33, -10793.56, 33300.12, -38394.49, 14825.05),
        (23.31, 557.33, 1225.33, -3574.96, 1073.77, 707.56),
        (27.2, 3211.1, -15327.97, 27814.0, -22569.18, 6838.66),
    ),
}


@cache
def _tables() -> dict[str, NDArray[np.uint32]]:
    """256 colours each, evenly from 0 to 1; a row for each channel."""
    text = files(__package__).joinpath("color_scales.csv").read_text(encoding="ascii")
    rows = csv.DictReader(text.splitlines())
    return {
        row["name"]: np.frombuffer(bytes.fromhex(row["colors"]), np.uint8).reshape(_STEPS, 3).T.astype(np.uint32)
        for row in rows
    }


def colors(names: Any, parts: Any, alphas: Any) -> Any:
    """0xRRGGBBAA. Part and alpha are drawn into 0 to 1; what is no number is 0."""
    encoded = pc.dictionary_encode(_one_array(names))
    which, t = np.asarray(encoded.indices), _drawn_in(parts)
    answer = np.floor(_drawn_in(alphas) * 255 + 0.5).astype(np.uint32)
    for index, name in enumerate(encoded.dictionary.to_pylist()):
        rows = which == index
        for channel, shift in zip(_channels(name.lower(), t[rows]), (24, 16, 8), strict=True):
            answer[rows] |= channel << np.uint32(shift)
    return pa.array(answer, pa.uint32())


def _channels(name: str, t: NDArray[np.float64]) -> Sequence[NDArray[np.uint32]]:
    tables = _tables()
    if name in tables:
        return list(tables[name][:, np.rint(t * (_STEPS - 1)).astype(np.intp)])
    if name in _POLYNOMIALS:
        levels = [np.polynomial.polynomial.polyval(t, coefficients) for coefficients in _POLYNOMIALS[name]]
        return [np.clip(level, 0, 255).astype(np.uint32) for level in levels]
    known = ", ".join(sorted({*tables, *_POLYNOMIALS}))
    raise ValueError(f"color_scale does not know {name[:40]!r}: the scales are {known}")


def _drawn_in(values: Any) -> NDArray[np.float64]:
    return np.nan_to_num(np.clip(np.asarray(_one_array(values), dtype=np.float64), 0.0, 1.0), nan=0.0)


def _one_array(values: Any) -> Any:
    return values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values


FUNCTION: Final = ArrowFunction(
    signature="color_scale(name VARCHAR, part DOUBLE, alpha DOUBLE) -> UINTEGER",
    documentation="The colour, as 0xRRGGBBAA, at a part (0 to 1) of the scale viridis, magma, plasma, inferno, cividis or turbo:"
    " the nearest of 256 colours, of the last two the published curve. Part and alpha are drawn into 0 to 1.",
    listing="numeric",
    examples=(
        ("hex(color_scale('viridis', 0, 1))", "440154FF"),
        ("hex(color_scale('Turbo', 1, 0.5))", "900C0080"),
    ),
    function=colors,
)
