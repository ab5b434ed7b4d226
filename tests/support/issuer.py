"""A real issuer of tokens: discovery and public keys over HTTP, and tokens that are signed with the private ones."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

AUDIENCE = "lakeflight-tests"


class TokenIssuer:
    """Keys by their ids; ``asked`` counts how often somebody fetched them."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.asked = 0
        self.is_down = False
        self.private: dict[str, tuple[str, Any]] = {}
        self.add("first", "RS256")

    def add(self, key_id: str, algorithm: str) -> None:
        """A new signing key."""
        is_curve = algorithm.startswith("ES")
        private = ec.generate_private_key(ec.SECP256R1()) if is_curve else rsa.generate_private_key(65537, 2048)
        self.private[key_id] = (algorithm, private)

    def published(self) -> list[dict[str, Any]]:
        keys = []
        for key_id, (algorithm, private) in self.private.items():
            kind = ECAlgorithm if algorithm.startswith("ES") else RSAAlgorithm
            public = json.loads(kind.to_jwk(private.public_key()))
            keys.append({**public, "kid": key_id, "use": "sig", "alg": algorithm})
        return keys

    def claims(self, **other: Any) -> dict[str, Any]:
        """Those of a good token; ``None`` takes one away."""
        now = int(time.time())
        good = {"iss": self.url, "aud": AUDIENCE, "sub": "ann", "iat": now, "exp": now + 600}
        return {name: value for name, value in {**good, **other}.items() if value is not None}

    def token(self, key_id: str = "first", **other: Any) -> str:
        algorithm, private = self.private[key_id]
        return jwt.encode(self.claims(**other), private, algorithm, headers={"kid": key_id})


@contextlib.contextmanager
def token_issuer() -> Iterator[TokenIssuer]:
    """An issuer on a free port."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if issuer.is_down:
                self.send_error(503)
                return
            if self.path == "/realm/.well-known/openid-configuration":
                answer: Any = {"issuer": issuer.url, "jwks_uri": f"{issuer.url}/keys"}
            else:
                issuer.asked += 1
                answer = {"keys": issuer.published()}
            body = json.dumps(answer).encode()
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        issuer = TokenIssuer(f"http://127.0.0.1:{server.server_address[1]}/realm")
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield issuer
        finally:
            server.shutdown()
            thread.join()
