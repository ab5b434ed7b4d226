"""Every setting, in one place: the only reader of the environment.

Each has a default that works on a laptop. Environment variables are ``LAKEFLIGHT_`` and the name in capitals; the command's
flags win over them. Below this file plain values arrive by constructor.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

_LOOPBACK: Final = ("127.", "localhost", "[::1]", "::1", "unix:")


def _default_data_dir() -> Path:
    base = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(base) / "lakeflight"


class Settings(BaseSettings):
    """What a server may be told. Sizes in bytes, times in seconds."""

    model_config = SettingsConfigDict(env_prefix="LAKEFLIGHT_", extra="ignore")

    data_dir: Path = Field(
        default_factory=_default_data_dir,
        description="Folder of everything this server keeps on disk; it has one owner at a time.",
    )
    flight_address: str = Field("127.0.0.1:50051", description="Where Flight SQL listens; port 0 takes a free one.")
    http_address: str = Field("127.0.0.1:9000", description="Where ingestion listens; port 0 takes a free one.")
    ready_file: Path | None = Field(
        None, description="Written once both ports answer: JSON with their URLs and the pid."
    )
    postgres_url: str | None = Field(
        None, description="An existing Postgres 14 or newer. Without it, one is run below the data folder."
    )
    store_url: str | None = Field(
        None, description="Where objects go: file:///folder. Without it, a folder below the data folder."
    )
    http_processes: int = Field(1, ge=1, le=64, description="Processes that accept telemetry on the HTTP address.")
    query_workers: int = Field(
        default_factory=lambda: max(2, os.cpu_count() or 2),
        ge=1,
        le=256,
        description="Statements that run at once; each has a process of its own.",
    )
    build_workers: int = Field(
        default_factory=lambda: max(2, os.cpu_count() or 2),
        ge=1,
        le=256,
        description="Buckets that are decoded at once; each in a process of its own.",
    )
    query_memory_bytes_max: int = Field(
        1 << 30, ge=64 << 20, description="Engine memory of one statement; beyond it the statement fails."
    )
    query_threads: int = Field(
        default_factory=lambda: max(1, min(4, os.cpu_count() or 1)),
        ge=1,
        le=64,
        description="Threads of one statement.",
    )
    build_memory_bytes_max: int = Field(
        4 << 30, ge=256 << 20, description="Address space that decoding one bucket may add to its process."
    )
    statement_timeout_s: float = Field(
        60.0, gt=0, description="Engine time of one statement; waiting for a slow reader does not count."
    )
    freshen_timeout_s: float = Field(600.0, gt=0, description="Time one query may spend making partitions.")
    freshen_bytes_max: int = Field(
        16 << 30, ge=1 << 20, description="Payload bytes one query may have decoded; what is done is kept."
    )
    event_margin_s: float = Field(
        300.0, ge=0, description="How far outside the times its block claims an event may lie and still be found."
    )
    stall_timeout_s: float = Field(300.0, gt=0, description="A reader that takes nothing for this long is cut off.")
    metadata_bytes_max: int = Field(
        256 << 20, ge=1 << 20, description="Rows of processes, streams and blocks one statement may read, as text."
    )
    maintenance_interval_s: float = Field(
        60.0, gt=0, description="Pause between rounds of housekeeping: compaction, leftovers of crashes, old files."
    )
    retired_grace_s: float = Field(
        7200.0, ge=0, description="How long a replaced partition stays readable for queries that began before."
    )
    drain_s: float = Field(25.0, ge=0, description="What running statements get to finish when the server is stopped.")
    self_telemetry: bool = Field(True, description="Whether the server's own logs, metrics and spans go into its lake.")
    log_level: str = Field("info", description="debug, info, warning or error.")

    @field_validator("data_dir", mode="before")
    @classmethod
    def _names_a_folder(cls, value: object) -> object:
        if value == "":
            raise ValueError("is empty: name a folder, or leave it out for the default")
        return value

    @field_validator("flight_address", "http_address")
    @classmethod
    def _only_loopback(cls, address: str) -> str:
        if not address.startswith(_LOOPBACK):
            raise ValueError(
                f"{address} is not a loopback address: there are no identities yet, so whoever reaches the port could read"
                " and write everything; use 127.0.0.1 and a tunnel"
            )
        host, _, port = address.rpartition(":")
        if not address.startswith("unix:") and (not host or not port.isdigit() or int(port) > 65535):
            raise ValueError(f"{address} is not HOST:PORT")
        return address

    @field_validator("store_url")
    @classmethod
    def _known_store(cls, url: str | None) -> str | None:
        if url is None or url.startswith("file://"):
            return url
        kind = url.split(":", 1)[0]
        if kind == "memory":
            raise ValueError(
                "memory: each process of a server has a memory of its own, so what one stores no other could read;"
                " use file:///folder"
            )
        raise ValueError(f"{kind}: stores are not supported yet; use file:///folder")

    @field_validator("log_level")
    @classmethod
    def _known_level(cls, level: str) -> str:
        if level.lower() not in ("debug", "info", "warning", "error"):
            raise ValueError(f"{level} is not a level: debug, info, warning or error")
        return level.lower()
