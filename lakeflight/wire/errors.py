"""What goes wrong between bytes and values. Who was at fault decides the class, and with it what a server answers.

WireError
├── MalformedRequestError   the sender's envelope is unsound: HTTP 400, nothing is stored
└── CorruptPayloadError     a stored block cannot be decoded; the message names what, and where in the bytes

Messages are one lower-case clause without a full stop and carry the values.
"""

from __future__ import annotations


class WireError(ValueError):
    """Root of this floor's errors; never raised itself."""


class MalformedRequestError(WireError):
    """The body of a request is not the envelope its route expects."""


class CorruptPayloadError(WireError):
    """The bytes of a block do not follow its stream's type table, or its timing makes no sense."""
