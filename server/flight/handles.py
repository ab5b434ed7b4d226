"""Statement handles that any replica can read.

A statement without parameters is its own handle: the SQL text, which carries no authority. One with parameters gets a
sealed handle: text, owner, expiry and, once bound, the values, authenticated with the installation's key. Nothing is
kept for a client that uses the handle it was given last; only for those that bind values and then go on with the old
handle are the newest bound values remembered, in this process and within limits.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import os
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import cbor2
import pyarrow as pa

from lakehouse.engine.values import check_bindable
from lakehouse.errors import LimitExceededError, NotFoundError, QueryError
from lakehouse.model import Caller
from server.query.statement import BoundValues

HANDLE_LIFETIME_S: Final = 15 * 60
BOUND_VALUES_BYTES_MAX: Final = 1 << 20  # a handle travels twice in a FlightInfo, and stock clients take 4 MiB
BOUND_ROWS_MAX: Final = 1_000  # each row is one execution
REMEMBERED_HANDLES_MAX: Final = 1_000
REMEMBERED_BYTES_MAX: Final = 32 << 20
KEY_BYTES_MIN: Final = 32

_MARKER: Final = b"lakeflight-statement:"
_MAC_BYTES: Final = 32


@dataclass(frozen=True, slots=True)
class Statement:
    """What a handle stands for."""

    sql: str
    parameter_count: int = 0
    values: BoundValues | None = None  # ``None``: nothing bound yet


class HandleSealer:
    """Makes and opens handles. One key per installation, so that replicas understand each other."""

    def __init__(self, key: bytes, *, clock: Callable[[], float] = time.time) -> None:
        if len(key) < KEY_BYTES_MIN:
            raise ValueError(f"handle key of {len(key)} bytes, needs {KEY_BYTES_MIN}")
        self._key = key
        self._clock = clock
        self._remembered: OrderedDict[tuple[str, bytes], bytes] = OrderedDict()  # by caller and handle
        self._remembered_bytes = 0

    def prepare(self, caller: Caller, sql: str, parameter_count: int) -> bytes:
        """The handle of a statement nobody bound values to yet."""
        if parameter_count == 0:
            return sql.encode()
        return self._seal(caller, sql, parameter_count, None)

    def bind(self, caller: Caller, handle: bytes, values: pa.Table) -> bytes:
        """A new handle with values; the handle of the preparation stands for them too from now on, in this process.

        Raises:
            NotFoundError: The handle is not this caller's, or expired.
            QueryError: The number of values is not the number of parameters.
            LimitExceededError: Too many rows or bytes of values.
        """
        statement = self.open(caller, handle)
        if values.num_columns != statement.parameter_count:
            raise QueryError(f"{values.num_columns} values were bound to {statement.parameter_count} parameters")
        if statement.parameter_count == 0:
            return handle
        if values.num_rows > BOUND_ROWS_MAX:
            raise LimitExceededError(f"{values.num_rows} rows of values were bound, at most {BOUND_ROWS_MAX} may be")
        bound = self._seal(caller, statement.sql, statement.parameter_count, _encode_values(values))
        if statement.values is None:
            self._remember(caller, handle, bound)
        return bound

    def latest(self, caller: Caller, handle: bytes) -> bytes:
        """The handle with the values that this caller bound to this one last, or the handle itself."""
        return self._remembered.get((caller.name, handle), handle)

    def open(self, caller: Caller, handle: bytes) -> Statement:
        """Read a handle.

        Raises:
            NotFoundError: It has our marker and is forged, expired or somebody else's.
            QueryError: It is no text at all.
        """
        if not handle.startswith(_MARKER):
            try:
                return Statement(handle.decode())
            except UnicodeDecodeError:
                raise QueryError("the statement handle is neither SQL text nor a handle of this server") from None
        try:
            sealed = base64.urlsafe_b64decode(handle[len(_MARKER) :])
        except (binascii.Error, ValueError):
            raise NotFoundError("unknown statement handle") from None
        content = sealed[_MAC_BYTES:]
        if not hmac.compare_digest(sealed[:_MAC_BYTES], hmac.digest(self._key, content, "sha256")):
            raise NotFoundError("unknown statement handle")
        expires_s, _nonce, owner, sql, parameter_count, values = cbor2.loads(content)
        if owner != caller.name:
            raise NotFoundError("unknown statement handle")
        if self._clock() >= expires_s:
            raise NotFoundError(f"the prepared statement expired after {HANDLE_LIFETIME_S} s: prepare it again")
        return Statement(sql, parameter_count, None if values is None else BoundValues(*values))

    @property
    def remembered_bytes(self) -> int:
        """What the memory takes."""
        return self._remembered_bytes

    def forget(self, caller: Caller, handle: bytes) -> None:
        """Drop what is remembered of the caller's for a handle; an unknown one is no error."""
        bound = self._remembered.pop((caller.name, handle), None)
        if bound is not None:
            self._remembered_bytes -= len(handle) + len(bound)

    def _seal(self, caller: Caller, sql: str, parameter_count: int, values: BoundValues | None) -> bytes:
        expires_s = int(self._clock()) + HANDLE_LIFETIME_S
        # The nonce keeps two preparations of one text apart, so that closing or binding one leaves the other alone.
        bound = None if values is None else [values.encoded, values.rows]
        content = cbor2.dumps([expires_s, os.urandom(12), caller.name, sql, parameter_count, bound])
        mac = hmac.digest(self._key, content, "sha256")
        return _MARKER + base64.urlsafe_b64encode(mac + content)

    def _remember(self, caller: Caller, handle: bytes, bound: bytes) -> None:
        self.forget(caller, handle)
        self._remembered[caller.name, handle] = bound
        self._remembered_bytes += len(handle) + len(bound)
        while len(self._remembered) > REMEMBERED_HANDLES_MAX or self._remembered_bytes > REMEMBERED_BYTES_MAX:
            (_, oldest), its_bound = self._remembered.popitem(last=False)
            self._remembered_bytes -= len(oldest) + len(its_bound)


def _encode_values(values: pa.Table) -> BoundValues:
    check_bindable(values.schema)
    plain = values.replace_schema_metadata(None).combine_chunks()
    bound = BoundValues.of((plain.to_batches() or [_no_rows(plain.schema)])[0])
    size = len(bound.encoded)
    if size > BOUND_VALUES_BYTES_MAX:
        raise LimitExceededError(f"the bound values take {size} bytes, at most {BOUND_VALUES_BYTES_MAX} may")
    return bound


def _no_rows(schema: pa.Schema) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays([pa.array([], field.type) for field in schema], schema=schema)
