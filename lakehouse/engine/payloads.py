"""What a statement that runs asks of the server: payloads of blocks, and what only administrators may have done.

The engine has no store and no catalog. It names blocks, or what is to be done, a vector of rows at a time, and is told the
files where their bytes lie, or how it went.
"""

from __future__ import annotations

import inspect
import os
import threading
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeAlias

import pyarrow as pa

from lakehouse.errors import BackendUnavailableError, InternalError, LakeflightError, LimitExceededError

BYTES_AT_ONCE_MAX: Final = (
    256 << 20
)  # of the payloads of one vector: they are all in memory, beside what is made of them

PAYLOADS: Final = "get_payload"
Block: TypeAlias = tuple[str, str, str]  # ids of process, stream and block
Fetch: TypeAlias = Callable[[str, Sequence[Sequence[str | None]]], Sequence[str]]
"""The answers to a function for these rows of arguments, in order. Of ``get_payload``: files with the payloads of these blocks,
good until it is called again, or the statement ends."""


class Payloads:
    """What ``get_payload`` reads with, in one database."""

    def __init__(self) -> None:
        self.fault: LakeflightError | None = None  # why the statement failed: the engine keeps only the words
        self._fetch: Fetch | None = None
        self._one_at_a_time = threading.Lock()  # the engine calls from any of its threads

    def begin(self, fetch: Fetch | None) -> None:
        """Another statement begins."""
        self.fault, self._fetch = None, fetch

    def read(self, processes: Any, streams: Any, blocks: Any) -> Any:
        """The payloads, as a binary array. Each block of a vector is fetched once."""
        ids = list(zip(processes.to_pylist(), streams.to_pylist(), blocks.to_pylist(), strict=True))
        try:
            with self._one_at_a_time:
                known = self._read(list(dict.fromkeys(ids)))
        except LakeflightError as error:
            self.fault = error
            raise
        return pa.array([known[block] for block in ids], pa.binary())

    def asking(self, function: str, arguments: int) -> Callable[..., Any]:
        """What the engine calls for a function of the server's: of so many arguments, every row as it is."""

        def ask(*columns: Any) -> Any:
            rows = list(zip(*map(_texts, columns), strict=True))
            try:
                with self._one_at_a_time:
                    if self._fetch is None:
                        raise InternalError(f"nobody answers {function} here")
                    return pa.array(self._fetch(function, rows), pa.string())
            except LakeflightError as error:
                self.fault = error
                raise

        names = [f"a{place}" for place in range(arguments)]
        ask.__signature__ = inspect.Signature(  # type: ignore[attr-defined]  # the engine counts parameters
            [inspect.Parameter(name, inspect.Parameter.POSITIONAL_ONLY) for name in names]
        )
        return ask

    def _read(self, blocks: Sequence[Block]) -> dict[Block, bytes]:
        if self._fetch is None:
            raise InternalError("nobody fetches payloads here")
        files = self._fetch(PAYLOADS, blocks)
        try:
            size = sum(map(os.path.getsize, files))
            if size > BYTES_AT_ONCE_MAX:
                raise LimitExceededError(
                    f"get_payload: the payloads of {len(blocks)} blocks take {size} bytes, the limit at once is"
                    f" {BYTES_AT_ONCE_MAX}: choose fewer blocks, or add a LIMIT"
                )
            found = {}
            for block, path in zip(blocks, files, strict=True):
                with open(path, "rb") as file:
                    found[block] = file.read()
            return found
        except OSError as error:
            raise BackendUnavailableError("get_payload: a payload could not be read: ask again") from error


def _texts(column: Any) -> list[str | None]:
    """Values as they are told: a time by its nanoseconds since 1970, bytes in hexadecimal."""
    if pa.types.is_timestamp(column.type):
        column = column.cast(pa.timestamp("ns")).cast(pa.int64()).cast(pa.string())
    elif pa.types.is_binary(column.type):
        return [None if value is None else value.hex() for value in column.to_pylist()]
    texts: list[str | None] = column.to_pylist()
    return texts
