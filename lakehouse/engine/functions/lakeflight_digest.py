"""``lakeflight_digest``: hashes that the engine has not, each value once, however many rows have it."""

from __future__ import annotations

import hashlib
from typing import Any, Final

import pyarrow as pa

from lakehouse.engine.functions.declare import ArrowFunction
from lakehouse.errors import QueryError

_ALGORITHMS: Final = ("md5", "sha224", "sha256", "sha384", "sha512", "blake2b", "blake2s")


def _digest(values: Any, algorithms: Any) -> Any:
    if isinstance(values, pa.ChunkedArray):
        values = values.combine_chunks()
    if isinstance(algorithms, pa.ChunkedArray):
        algorithms = algorithms.combine_chunks()
    names = algorithms.dictionary_encode()
    makers = [_maker(name) for name in names.dictionary.to_pylist()]
    if len(makers) == 1:
        encoded = values.dictionary_encode()
        made = [makers[0](value).digest() for value in encoded.dictionary.to_pylist()]
        return pa.array(made, pa.binary()).take(encoded.indices)
    return pa.array(
        [
            makers[which](value).digest()
            for which, value in zip(names.indices.to_pylist(), values.to_pylist(), strict=True)
        ],
        pa.binary(),
    )


def _maker(name: str) -> Any:
    if name.lower() not in _ALGORITHMS:
        raise QueryError(f"digest knows {', '.join(_ALGORITHMS)}, not {name[:50]!r}")
    return getattr(hashlib, name.lower())


FUNCTION: Final = ArrowFunction(
    signature="lakeflight_digest(value BLOB, algorithm VARCHAR) -> BLOB",
    documentation="The hash of bytes.",
    examples=(
        (
            "lower(hex(lakeflight_digest('abc'::BLOB, 'sha224')))",
            "23097d223405d8228642a477bda255b32aadbce4bda0b3f7e36c9da7",
        ),
    ),
    function=_digest,
)
