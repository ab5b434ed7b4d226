"""Who may ask and who may send: credentials, API keys, tokens of issuers, certificates -> ``Caller``."""

from server.access.callers import CALLER_TIMEOUT_S, ELSEWHERE, Authenticate, Origin, anonymous
from server.access.identities import Identities

__all__ = ["CALLER_TIMEOUT_S", "ELSEWHERE", "Authenticate", "Identities", "Origin", "anonymous"]
