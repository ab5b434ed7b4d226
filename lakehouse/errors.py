"""Every error that a caller can act on, split by what the caller can do next.

LakeflightError
├── QueryError                 change the request
│   ├── SqlSyntaxError         the text does not parse
│   ├── ForbiddenSqlError      it parses, and is not allowed here
│   └── UnknownViewError       no such view set, instance, process or stream
├── AccessError                be somebody else
│   ├── UnauthenticatedError   no credential, or one that is not known (any more)
│   └── PermissionDeniedError  known, and not allowed
├── UnsupportedError           a feature that is not there
├── NotFoundError              a handle or ticket that is not known (any more)
├── LimitExceededError         a named limit; the message has both values
├── QueryTimeoutError          the statement ran into its deadline
├── QueryCancelledError        the caller, or an operator, stopped it
├── BackendUnavailableError    Postgres or the object store does not answer: try again
│   └── UnreadableFileError    the engine could not read a file: it may be damaged, and is made again if it is
├── CorruptBlockError          a block that cannot be decoded; names it
├── IncompleteDataError        blocks are missing and the caller asked for ``strict``
└── InternalError              ours to mend; the caller sees the query id only

Messages are lower case without a full stop and carry the values. They are written for the user: no path of the
server, no traceback, no SQL of anybody else.
"""

from __future__ import annotations


class LakeflightError(Exception):
    """Root of the tree; never raised itself."""


class QueryError(LakeflightError):
    """The request cannot work as it stands."""


class SqlSyntaxError(QueryError):
    """DuckDB's parser refuses the text; the message has its reason and the position."""


class ForbiddenSqlError(QueryError):
    """The statement parses but uses something that is not on the allow-list; the message names it."""


class UnknownViewError(QueryError):
    """No such view set, or no such process or stream."""


class AccessError(LakeflightError):
    """The caller may not do this; the message says nothing of what is there."""


class UnauthenticatedError(AccessError):
    """Nobody is known by the request's credential, or it has none."""


class PermissionDeniedError(AccessError):
    """The caller is known, and this is not theirs to do."""


class UnsupportedError(LakeflightError):
    """A feature of SQL or of the protocol that this server does not have."""


class NotFoundError(LakeflightError):
    """A handle that is unknown, expired or somebody else's."""


class LimitExceededError(LakeflightError):
    """A named limit was passed; the message says which, the limit, the value, and how to stay below it."""


class QueryTimeoutError(LakeflightError):
    """The statement used up its engine time or the caller's deadline."""


class QueryCancelledError(LakeflightError):
    """Somebody stopped the statement."""


class BackendUnavailableError(LakeflightError):
    """Postgres or the object store failed or is too slow; the same request may work later."""


class UnreadableFileError(BackendUnavailableError):
    """The engine stumbled over a file that it was given; whoever knows what was written sees whether it is damaged."""


class CorruptBlockError(LakeflightError):
    """A block's bytes do not follow its stream's type table."""


class IncompleteDataError(LakeflightError):
    """The answer would miss blocks that could not be decoded, and the caller wants all or nothing."""


class InternalError(LakeflightError):
    """A fault of the server; the detail is in its log under the query id."""
