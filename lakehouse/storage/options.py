"""How an S3 store is reached, apart from its URL. Plain values: nothing here needs a library of a store."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class S3Options:
    """What is not given comes from where AWS tools look: variables, profiles, the role of the machine."""

    endpoint: str | None = None
    region: str | None = None
    path_style: bool = False
    access_key_id: str | None = None
    secret_access_key: str | None = field(default=None, repr=False)
    session_token: str | None = field(default=None, repr=False)
