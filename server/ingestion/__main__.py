"""``python -m server.ingestion``: one ingestion process, started by the server with a listening socket to serve.

Not for users: ``lakeflight serve`` starts as many as its settings say. The settings come as JSON on standard input, so that
no credential of a database or a store is ever part of a command line.
"""

from __future__ import annotations

import json
import os
import socket
import sys
from pathlib import Path

from lakehouse.storage import S3Options
from server import logs
from server.access.tls import TlsFiles
from server.access.writers import WritersSpec
from server.ingestion.process import IngestionSettings, run_ingestion_process


def main() -> None:
    """Serve until SIGTERM; writes one byte to the descriptor ``ready_fd`` once requests are accepted."""
    given = json.load(sys.stdin)
    logs.set_up(given["log_level"])

    def ready() -> None:
        os.write(given["ready_fd"], b"+")
        os.close(given["ready_fd"])

    settings = IngestionSettings(
        database_url=given["database_url"],
        store_url=given["store_url"],
        object_cache=Path(given["object_cache"]),
        s3=S3Options(**given["s3"]),
        store_name=given["store_name"],
        otlp_grpc_address=given["otlp_grpc_address"],
        tls=None if given["tls"] is None else TlsFiles.of_json(given["tls"]),
        writers=None if given["writers"] is None else WritersSpec.of_json(given["writers"]),
    )
    run_ingestion_process(socket.socket(fileno=given["listener_fd"]), settings, given["parent_pid"], ready)


if __name__ == "__main__":
    main()
