"""The listening socket of ingestion, made by whoever starts its processes."""

from __future__ import annotations

import socket
from typing import Final

BACKLOG: Final = 1024


def reserve(host: str, port: int) -> socket.socket:
    """A socket that keeps a port for processes which listen on it, each with a socket of its own; port 0 takes a free one."""
    reserved = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    try:
        reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        reserved.bind((host, port))  # nobody else has it
    finally:
        taken = reserved.getsockname()[:2]
        reserved.close()
    shared = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    try:
        shared.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        shared.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        shared.bind(taken)
    except BaseException:
        shared.close()
        raise
    return shared


def listen(host: str, port: int, *, share: bool = False) -> socket.socket:
    """A listening socket; port 0 takes a free one. ``share``: other processes may bind the same address."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        # Accepted sockets inherit it. An answer is two writes, and the second must not wait for an acknowledgement.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if share:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind((host, port))
        listener.listen(BACKLOG)
        listener.setblocking(False)
    except BaseException:
        listener.close()
        raise
    return listener
