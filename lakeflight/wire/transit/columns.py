"""The shape of decoded text columns: few distinct values, many rows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

BoolArray = npt.NDArray[np.bool_]
Float64Array = npt.NDArray[np.float64]
Int32Array = npt.NDArray[np.int32]
Int64Array = npt.NDArray[np.int64]
UInt8Array = npt.NDArray[np.uint8]
UInt32Array = npt.NDArray[np.uint32]


@dataclass(slots=True)
class Codes:
    """Dictionary-encoded text: row ``i`` is ``values[codes[i]]``. Every row has one; two values may be equal."""

    codes: Int32Array
    values: list[str]
