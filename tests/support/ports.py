"""An address where nobody listens, and nobody will: its port is held for as long as this process runs."""

from __future__ import annotations

import socket
from typing import Final

_HELD: Final = socket.socket()
_HELD.bind(("127.0.0.1", 0))  # bound and not listening: connections are refused

REFUSED: Final = f"127.0.0.1:{_HELD.getsockname()[1]}"
