"""What runs in a build worker: one bucket at a time, from localised payloads or files to Parquet files in a scratch folder.

A block that cannot be decoded is the view's to quarantine; one that kills the process is the pool's to notice. The
worker touches no store and no catalog: the files it is named are all it reads, and one folder is all it writes.
"""

from __future__ import annotations

import ctypes
import importlib
import os
import select
import socket
import traceback
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from lakehouse.errors import LakeflightError
from server.workers.protocol import (
    DETAIL_TEXT_MAX,
    ERROR_TEXT_MAX,
    REQUEST_BYTES_MAX,
    Build,
    Built,
    Failed,
    Ready,
    Splitter,
    decode,
    pack,
)

Builder = Callable[[dict[str, Any]], dict[str, Any]]
IDLE_BEFORE_TRIM_S: Final = 2.0  # after this long without a job, memory goes back to the system
RECEIVE_BYTES: Final = 256 << 10
_EXPECTED: Final = frozenset({Build})


def prepare(settings: dict[str, Any]) -> Callable[[socket.socket, int | None], None]:
    """In the zygote: load the views, and every kernel from its cache."""
    module, _, name = settings["builder"].partition(":")
    builder: Builder = getattr(importlib.import_module(module), name)()

    def work(connection: socket.socket, _ring: int | None) -> None:
        serve(connection, builder)

    return work


def bucket_builder() -> Builder:
    """The builder of the lake's own views."""
    from lakehouse.buckets.work import do
    from views import default_registry, warm_up

    warm_up()
    registry = default_registry()

    return partial(do, registry.view)


def serve(connection: socket.socket, builder: Builder) -> None:
    """Answer requests until the edge is gone."""
    connection.sendall(pack(Ready(os.getpid())))
    arrivals = select.poll()
    arrivals.register(connection, select.POLLIN)
    splitter = Splitter(REQUEST_BYTES_MAX)
    used = False
    while True:
        if used and not arrivals.poll(IDLE_BEFORE_TRIM_S * 1e3):
            ctypes.CDLL(None).malloc_trim(0)
            used = False
        data = connection.recv(RECEIVE_BYTES)
        if not data:
            return
        for packet in splitter.feed(data):
            request: Build = decode(packet, _EXPECTED)
            connection.sendall(pack(_answer(builder, request)))
            used = True


def _answer(builder: Builder, request: Build) -> Built | Failed:
    try:
        return Built(request.job, builder(request.request))
    except MemoryError:
        os._exit(4)  # as good as a crash: some block is more than its decoder can take
    except LakeflightError as error:
        return Failed(request.job, type(error).__name__, str(error)[:ERROR_TEXT_MAX], "")
    except OSError as error:  # the machine's trouble, most often a full disk; the path in it is nobody's business
        reason = os.strerror(error.errno).lower() if error.errno else "input/output error"
        said = f"the server cannot write partitions: {reason}; ask again once that is mended"
        return Failed(request.job, "BackendUnavailableError", said, traceback.format_exc()[-DETAIL_TEXT_MAX:])
    except Exception:
        return Failed(request.job, "InternalError", "building failed", traceback.format_exc()[-DETAIL_TEXT_MAX:])
