"""What an edge asks of the rest: somebody who prepares and runs statements.

An edge itself runs no SQL and decodes no block. Everything here may be called from the event loop only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, Protocol

import pyarrow as pa

from lakehouse.errors import LakeflightError
from lakehouse.model import Caller, QueryOptions
from server.query.statement import BoundValues


class PreparedQuery(Protocol):
    """What can be said of a statement without running it."""

    @property
    def schema(self) -> bytes:
        """Encapsulated IPC schema message of the result: what ``execute`` sends first, equal to the nullability bit."""
        ...

    @property
    def parameter_schema(self) -> bytes:
        """Encapsulated IPC schema message, one field per parameter; present also for none."""
        ...

    async def missing_blocks(self) -> int:
        """Blocks that the catalog knows to be missing from what the statement reads. Asks for it, makes nothing."""
        ...


class QueryStream(Protocol):
    """The result of one running statement: serialized ``FlightData`` messages, the schema first, also without rows.

    Nothing runs before the first item is asked for. Iteration raises errors of the ``LakeflightError`` tree.
    """

    def __aiter__(self) -> QueryStream: ...

    async def __anext__(self) -> bytes: ...

    @property
    def missing_blocks(self) -> int:
        """Valid after the end."""
        ...

    @property
    def progress(self) -> Mapping[str, object]:
        """How far it is, as JSON values."""
        ...

    def refuse(self, error: LakeflightError) -> None:
        """It will not run, for this reason; in place of the first frame. Leaves the log line of every statement."""
        ...

    async def aclose(self) -> None:
        """Stop the statement if it still runs and free what it holds; may be called at any time, and twice."""
        ...


class TableDescription(Protocol):
    """A table as users see it, in catalog ``lakeflight``, schema ``main``."""

    @property
    def name(self) -> str: ...

    @property
    def kind(self) -> Literal["TABLE", "VIEW"]: ...

    @property
    def schema(self) -> pa.Schema:
        """What ``SELECT * FROM name`` sends."""
        ...


class QueryService(Protocol):
    """Prepares and runs statements, and knows the tables."""

    async def prepare(
        self, sql: str, caller: Caller, options: QueryOptions, values: BoundValues | None = None
    ) -> PreparedQuery:
        """Bind without running. ``values`` has exactly one row, one column per parameter, by position."""
        ...

    def execute(
        self, sql: str, caller: Caller, options: QueryOptions, values: BoundValues | None = None
    ) -> QueryStream: ...

    async def tables(self, caller: Caller, options: QueryOptions) -> Sequence[TableDescription]:
        """The tables this caller may read, with the types that results have for this client."""
        ...
