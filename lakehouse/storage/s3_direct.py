"""The two requests that come by the thousand, a small PUT and a GET, signed and sent without the client's machinery.

The client takes a millisecond of processor for each: it looks up rules of endpoints, fills in templates and parses what has no
content. Signing and sending alone take a third of that. Where requests go, in which region they are signed and with what is
asked of the client once. Whatever is not plainly done or plainly refused (a redirect, a signature that is not liked) is
left to the client, and for a while all the rest; where there is a proxy, everything.
"""

from __future__ import annotations

import re
import ssl
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import aiohttp
import structlog
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import ReadOnlyCredentials
from botocore.exceptions import ClientError
from botocore.httpsession import where
from botocore.utils import get_environ_proxies
from yarl import URL

from lakehouse.storage.options import S3Options

LEFT_FOR_S: Final = 300.0  # where a request had to be made twice, others would
_FOR_THE_CLIENT: Final = frozenset({301, 302, 307, 308, 400, 401, 403, 501})
_EMPTY: Final = sha256(b"").hexdigest()
_CODE: Final = re.compile(rb"<Code>([A-Za-z]{1,64})</Code>")
_BODY_BYTES_MAX: Final = 64 << 10  # of an error
_PROBE: Final = "k"

log = structlog.get_logger(__name__)


class LeftToTheClientError(Exception):
    """It has to ask."""


@dataclass(slots=True)
class Arriving:
    """An object whose bytes are on their way."""

    size: int
    sha256: str | None
    content: aiohttp.StreamReader


class _Signer(S3SigV4Auth):  # type: ignore[misc]
    def payload(self, request: Any) -> str:
        """Known already: whoever writes keeps it beside the object."""
        return str(request.context["sha256"])


class DirectRequests:
    """Requests for objects of one bucket. Errors are the client's, with their code and status; or those of the connection."""

    def __init__(self, base: str, region: str, credentials: Any, http: aiohttp.ClientSession) -> None:
        self._base, self._region, self._credentials, self._http = base, region, credentials, http
        self._again_at = 0.0

    @classmethod
    async def of(
        cls, client: Any, session: Any, bucket: str, options: S3Options, *, timeout: aiohttp.ClientTimeout, limit: int
    ) -> DirectRequests | None:
        """What is needed for it, from the client and the session that made it; ``None``: not here."""
        shown: str = await client.generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": _PROBE})
        base, region = shown.partition("?")[0].removesuffix(_PROBE), client.meta.region_name
        if options.access_key_id:
            credentials: Any = ReadOnlyCredentials(
                options.access_key_id, options.secret_access_key, options.session_token
            )
        else:
            credentials = await session.get_credentials()
        if not credentials or not region or region.startswith("aws-") or get_environ_proxies(base):
            return None
        certificates = session.get_config_variable("ca_bundle") or where()
        trust = ssl.create_default_context(**{"capath" if Path(certificates).is_dir() else "cafile": certificates})
        connector = aiohttp.TCPConnector(limit=limit, ssl=trust)
        http = aiohttp.ClientSession(connector=connector, timeout=timeout, auto_decompress=False)
        return cls(base, region, credentials, http)

    async def close(self) -> None:
        await self._http.close()

    async def put(self, key: str, data: bytes, digest: str, marks: Mapping[str, str], *, only_if_absent: bool) -> None:
        """Create or replace an object.

        Raises:
            LeftToTheClientError: It may not have happened.
            ClientError: It has not; 412 if there is one already.
        """
        headers = {f"x-amz-meta-{name}": value for name, value in marks.items()}
        if only_if_absent:
            headers["If-None-Match"] = "*"
        async with self._sent("PUT", key, headers, data, digest):
            pass

    @asynccontextmanager
    async def get(self, key: str) -> AsyncIterator[Arriving]:
        """An object, while it arrives.

        Raises:
            LeftToTheClientError, ClientError: As above.
        """
        async with self._sent("GET", key, {}, b"", _EMPTY) as answer:
            if answer.content_length is None:
                raise LeftToTheClientError
            yield Arriving(answer.content_length, answer.headers.get("x-amz-meta-sha256"), answer.content)

    @asynccontextmanager
    async def _sent(
        self, method: str, key: str, headers: Mapping[str, str], data: bytes, digest: str
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        if time.monotonic() < self._again_at:
            raise LeftToTheClientError
        url = f"{self._base}{quote(key, safe='/-._~')}"
        request = AWSRequest(method, url, headers={**headers, "Accept-Encoding": "identity"})
        request.context["sha256"] = digest
        credentials = self._credentials
        if not isinstance(credentials, ReadOnlyCredentials):  # those that expire are fetched anew
            credentials = await credentials.get_frozen_credentials()
        _Signer(credentials, "s3", self._region).add_auth(request)
        sent = {**dict(request.headers.items()), "User-Agent": "lakeflight", "Content-Type": "application/octet-stream"}
        async with self._http.request(
            method, URL(url, encoded=True), data=data or None, headers=sent, allow_redirects=False
        ) as answer:
            if answer.status == 200:
                yield answer
                return
            if answer.status in _FOR_THE_CLIENT:
                self._again_at = time.monotonic() + LEFT_FOR_S
                log.info("store.left_to_the_client", status=answer.status, retry_s=LEFT_FOR_S)
                raise LeftToTheClientError
            code = _CODE.search(await answer.content.read(_BODY_BYTES_MAX))
            raise ClientError(
                {
                    "Error": {"Code": code.group(1).decode() if code else str(answer.status)},
                    "ResponseMetadata": {"HTTPStatusCode": answer.status},
                },
                method,
            )
