"""Every setting, in one place: the only reader of the environment.

Each has a default that works on a laptop. Environment variables are ``LAKEFLIGHT_`` and the name in capitals; the command's
flags win over them. A value that cannot be used is named as it was given, unless it may hold a password. Below this file
plain values arrive by constructor.
"""

from __future__ import annotations

import difflib
import ipaddress
import os
import re
from collections.abc import Iterable, Mapping
from enum import Enum
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from pydantic import Field, ValidationError, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from lakehouse.storage import S3Options
from server.access.issuers import issuers_of
from server.access.keys import keyring

PREFIX: Final = "LAKEFLIGHT_"
FLAGS: Final[Mapping[str, str]] = {  # settings that the command has flags for, and what their values are called
    "data_dir": "DIR",
    "roles": "ROLES",
    "flight_address": "HOST:PORT",
    "http_address": "HOST:PORT",
    "otlp_grpc_address": "HOST:PORT",
    "ready_file": "FILE",
    "postgres_url": "URL",
    "store_url": "URL",
    "http_processes": "N",
    "query_workers": "N",
    "build_workers": "N",
    "log_level": "LEVEL",
    "identities": "none|required",
    "tls_cert_file": "FILE",
    "tls_key_file": "FILE",
    "tls_client_ca_file": "FILE",
    "flight_socket": "FILE",
}
_OF_CLIENTS: Final = ("LAKEFLIGHT_SERVER", "LAKEFLIGHT_TOKEN")
# What tests set, and what Kubernetes tells every container about a service called lakeflight.
_NOT_OURS: Final = re.compile(
    r"LAKEFLIGHT_(TEST_.*|SLOW_TESTS|FAILPOINT.*|SHARED|EXAMPLES|CANARY|(SERVICE|PORT)(_.*)?)"
)
SWITCHES: Final = (
    "tls_self_signed",
    "open_to_anybody",
    "plaintext_beyond_loopback",
)  # settings whose flag has no value
_SECRET: Final = (
    "postgres_url",
    "store_secret_access_key",
    "store_session_token",
    "reader_keys",
    "writer_keys",
    "telemetry_key",
)
SECRET_VARIABLES: Final = frozenset(f"{PREFIX}{name.upper()}" for name in _SECRET)
_OF_STORES: Final = ("store_url", "store_endpoint")  # where credentials do not belong, and some write them
_BUCKET: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,62}")


class Role(Enum):
    """What a server does for others."""

    FLIGHT = "flight"  # answers queries
    INGESTION = "ingestion"  # takes what programs send
    MAINTENANCE = "maintenance"  # keeps the lake in order


FOREVER: Final = "forever"
_NUMBER: Final = re.compile(r"[0-9]{1,6}(\.[0-9]{1,9})?", re.ASCII)
_PORT_MAX: Final = 65535
_PAIR: Final = re.compile(r"[A-Za-z_][\w.]*=.*")  # of a query, where user=me@example.org may stand as it is


def _default_data_dir() -> Path:
    return data_home() / "lakeflight"


def data_home() -> Path:
    """Where a user's programs keep their data.

    Raises:
        RuntimeError: The user has no home.
    """
    named = Path(os.environ.get("XDG_DATA_HOME", ""))
    return named if named.is_absolute() else Path.home() / ".local" / "share"


class Settings(BaseSettings):
    """What a server may be told. Sizes in bytes, times in seconds."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="ignore")

    data_dir: Path = Field(
        default_factory=_default_data_dir,
        description="Folder of everything this server keeps on disk; it has one owner at a time.",
    )
    roles: str = Field(
        "flight,ingestion,maintenance",
        description="What this server does: queries (flight), ingestion, maintenance, or several, joined by commas.",
    )
    reader_keys: str | None = Field(
        None,
        repr=False,
        description="Keys of those who query: grafana=KEY, others after a comma. `lakeflight keys` makes more at any time.",
    )
    writer_keys: str | None = Field(None, repr=False, description="The same of those who send. No key is for both.")
    oidc_issuers: str | None = Field(
        None,
        description="Whose tokens people may query with: https://login.example.org/realm=AUDIENCE, others after a comma.",
    )
    tls_cert_file: Path | None = Field(
        None,
        description="A certificate in PEM, with those between it and its authority: all ports then speak TLS alone.",
    )
    tls_key_file: Path | None = Field(
        None, validate_default=True, description="Its key, in PEM and without a password."
    )
    tls_client_ca_file: Path | None = Field(
        None, description="Authorities in PEM: clients then need a certificate of theirs, and are known by it."
    )
    tls_self_signed: bool = Field(
        False, description="TLS with a certificate that the server makes itself, in `tls` below the data folder."
    )
    identities: str | None = Field(
        None,
        description="Whether callers need a credential: none or required. Without it, required if keys or issuers are given.",
    )
    admins: str | None = Field(
        None,
        description="Who may administer the lake, joined by commas; keys may not. Without identities, whoever calls from"
        " this machine.",
    )
    open_to_anybody: bool = Field(
        False, description="Listen beyond loopback without identities: whoever reaches the ports reads and writes all."
    )
    plaintext_beyond_loopback: bool = Field(
        False, description="Listen beyond loopback without TLS, as behind a proxy that speaks it."
    )
    flight_address: str = Field("127.0.0.1:50051", description="Where Flight SQL listens; port 0 takes a free one.")
    http_address: str = Field("127.0.0.1:9000", description="Where ingestion listens; port 0 takes a free one.")
    otlp_grpc_address: str | None = Field(
        None,
        description="Where OTLP over gRPC listens; port 0 takes a free one. Without it, port 4317 beside the HTTP address"
        " if it is free, or a free one if the HTTP port is 0.",
    )
    flight_socket: Path | None = Field(
        None,
        description="A socket of Flight SQL besides, which this user alone can open: whoever calls over it is an admin.",
    )
    ready_file: Path | None = Field(
        None, description="Written once both ports answer: JSON with their URLs and the pid."
    )
    postgres_url: str | None = Field(
        None, description="An existing Postgres 14 or newer. Without it, one is run below the data folder."
    )
    store_url: str | None = Field(
        None,
        description="Where objects go: file:///folder or s3://bucket/prefix. Without it, a folder below the data folder.",
    )
    store_endpoint: str | None = Field(
        None, description="Where an S3 store answers that is not Amazon's: http://host:9000 or https://host."
    )
    store_region: str | None = Field(None, description="The region of an S3 store. Without it, what AWS tools find.")
    store_path_style: bool = Field(
        False, description="Whether the bucket stands in the path of requests to S3, and not in the host's name."
    )
    store_access_key_id: str | None = Field(
        None,
        description="Who asks an S3 store. Without it, what AWS tools find: variables, profile, role of the machine.",
    )
    store_secret_access_key: str | None = Field(None, repr=False, description="The secret of that access key.")
    store_session_token: str | None = Field(
        None, repr=False, description="The token that temporary credentials of an S3 store have besides."
    )
    store_cache_dir: Path | None = Field(
        None,
        description="Where copies of the objects of an S3 store are kept; servers of one machine may share a folder."
        " Without it, below the data folder.",
    )
    store_cache_bytes_max: int = Field(
        4 << 30, ge=64 << 20, description="What these copies may take; what statements read at once has to fit."
    )
    http_processes: int = Field(1, ge=1, le=64, description="Processes that accept telemetry on the HTTP address.")
    query_workers: int = Field(
        default_factory=lambda: max(2, os.cpu_count() or 2),
        ge=1,
        le=256,
        description="Statements that run at once; each has a process of its own.",
    )
    short_query_workers: int = Field(
        1,
        ge=0,
        le=256,
        description="Processes beside these for short statements alone; what runs on for 0.25 s leaves.",
    )
    build_workers: int = Field(
        default_factory=lambda: max(2, os.cpu_count() or 2),
        ge=1,
        le=256,
        description="Buckets that are decoded at once; each in a process of its own.",
    )
    query_memory_bytes_max: int = Field(
        1 << 30, ge=64 << 20, description="Engine memory of one statement; beyond it it uses the disk, or fails."
    )
    query_spill_bytes_max: int = Field(
        4 << 30,
        ge=0,
        description="Disk that one statement may use beyond its memory, below the data folder; 0: none. Needs Linux 5.13.",
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
    statements_per_identity_max: int = Field(
        256, ge=1, le=1_000, description="Statements of one identity at once, each until its result is read."
    )
    stall_timeout_s: float = Field(1800.0, gt=0, description="A reader that takes nothing for this long is cut off.")
    spool_bytes_max: int = Field(
        8 << 30, ge=0, description="What half-read results may keep on this server's disk, below its data folder."
    )
    spool_bytes_per_identity_max: int = Field(4 << 30, ge=0, description="The same, of one identity.")
    silent_call_timeout_s: float = Field(
        30.0, gt=0, description="A call whose client neither sends what it owes nor takes its answer ends after this."
    )
    idle_connection_timeout_s: float = Field(
        1800.0, gt=0, description="A Flight connection without a call is closed after this; clients open a new one."
    )
    calls_per_connection_max: int = Field(
        256, ge=1, le=4_000, description="Flight calls that one connection may have open at once."
    )
    calls_max: int = Field(2_000, ge=1, description="Flight calls of all connections at once; health is not one.")
    metadata_bytes_max: int = Field(
        256 << 20, ge=1 << 20, description="Rows of processes, streams and blocks one statement may read, as text."
    )
    maintenance_interval_s: float = Field(
        60.0, gt=0, description="Pause between rounds of housekeeping: compaction, leftovers of crashes, old files."
    )
    retired_grace_s: float = Field(
        7200.0, ge=0, description="How long a replaced partition stays readable for queries that began before."
    )
    block_retention_days: float | None = Field(
        90.0,
        gt=0,
        description="How long blocks are kept after they came, with the processes and streams that sent them; `forever`"
        " keeps all.",
    )
    partition_retention_days: str = Field(
        "90",
        description="How long partitions are kept after their blocks came; of some view sets for longer or shorter, as in"
        " `90,log_stats=forever,thread_spans=7`.",
    )
    drain_s: float = Field(25.0, ge=0, description="What running statements get to finish when the server is stopped.")
    self_telemetry: bool = Field(True, description="Whether the server's own logs, metrics and spans go into its lake.")
    telemetry_url: str | None = Field(
        None,
        description="Where these go if not to this server's own ingestion, such as that of another: http://127.0.0.1:9000.",
    )
    telemetry_key: str | None = Field(
        None, repr=False, description="The writer's key for that ingestion. This server's own needs none."
    )
    log_level: str = Field("info", description="debug, info, warning or error.")

    @property
    def roles_served(self) -> frozenset[Role]:
        return _roles(self.roles)

    @property
    def requires_identities(self) -> bool:
        """Whether callers need a credential."""
        return _requires_identities(self.__dict__)

    @property
    def has_tls(self) -> bool:
        """Whether the ports speak TLS."""
        return self.tls_cert_file is not None or self.tls_self_signed

    @property
    def admins_named(self) -> frozenset[str]:
        """Names of identities."""
        return frozenset(name for part in (self.admins or "").split(",") if (name := part.strip()))

    @property
    def partition_retention(self) -> dict[str | None, float | None]:
        """Days by view set, and of all others under ``None``; days that are ``None`` are for ever."""
        return _days_by_view_set(self.partition_retention_days)

    @property
    def s3(self) -> S3Options:
        """How an S3 store is reached."""
        return S3Options(
            endpoint=self.store_endpoint,
            region=self.store_region,
            path_style=self.store_path_style,
            access_key_id=self.store_access_key_id,
            secret_access_key=self.store_secret_access_key,
            session_token=self.store_session_token,
        )

    @field_validator(
        "data_dir",
        "ready_file",
        "store_cache_dir",
        "postgres_url",
        "store_url",
        "store_endpoint",
        "reader_keys",
        "writer_keys",
        "identities",
        "oidc_issuers",
        "flight_socket",
        "telemetry_key",
        mode="before",
    )
    @classmethod
    def _not_empty(cls, value: object) -> object:
        if value == "":
            raise ValueError("is empty: give it a value, or leave it out")
        return value

    @field_validator(
        "data_dir",
        "ready_file",
        "store_cache_dir",
        "flight_socket",
        "tls_cert_file",
        "tls_key_file",
        "tls_client_ca_file",
    )
    @classmethod
    def _of_home(cls, path: Path | None) -> Path | None:
        """``~`` is a home folder here as well: a shell leaves it alone in ``--data-dir=~/lake`` and in env files."""
        if path is None or not str(path).startswith("~"):
            return path
        try:
            return path.expanduser()
        except RuntimeError:
            raise ValueError("names a home folder that is not known here") from None

    @field_validator("reader_keys", "writer_keys")
    @classmethod
    def _keys(cls, text: str | None) -> str | None:
        keyring(text)
        return text

    @field_validator("oidc_issuers")
    @classmethod
    def _issuers(cls, text: str | None) -> str | None:
        issuers_of(text)
        return text

    @field_validator("tls_key_file")
    @classmethod
    def _of_a_certificate(cls, key: Path | None, info: ValidationInfo) -> Path | None:
        if (key is None) != (info.data.get("tls_cert_file") is None):
            raise ValueError(f"and {spelled('tls_cert_file')} are of no use without each other")
        return key

    @field_validator("tls_client_ca_file", "tls_self_signed")
    @classmethod
    def _beside_a_certificate(cls, value: Any, info: ValidationInfo) -> Any:
        has_certificate = info.data.get("tls_cert_file") is not None
        if info.field_name == "tls_self_signed" and value and has_certificate:
            raise ValueError(f"is of no use beside {spelled('tls_cert_file')}")
        if info.field_name == "tls_client_ca_file" and value is not None and not has_certificate:
            raise ValueError(f"is of no use without {spelled('tls_cert_file')}")
        return value

    @field_validator("identities")
    @classmethod
    def _known_identities(cls, text: str | None, info: ValidationInfo) -> str | None:
        if text is not None and text.lower() not in ("none", "required"):
            raise ValueError("is neither none nor required")
        if text is not None and text.lower() == "none" and _requires_identities(info.data):
            raise ValueError("contradicts the keys that are given: leave out one or the other")
        return None if text is None else text.lower()

    @field_validator("flight_address", "http_address", "otlp_grpc_address")
    @classmethod
    def _reached_by_those_who_may(cls, address: str | None, info: ValidationInfo) -> str | None:
        if address is None:
            return None
        host, _, port = address.rpartition(":")
        if ":" in host and not re.fullmatch(r"\[.*\]", host):
            raise ValueError("is not HOST:PORT: an IPv6 address stands in brackets, as in [::1]:9000")
        if not host or not re.fullmatch(r"[0-9]{1,5}", port) or int(port) > _PORT_MAX:
            raise ValueError("is not HOST:PORT, as in 127.0.0.1:9000")
        if _is_loopback(host):
            return address
        if not _requires_identities(info.data):
            if info.data.get("open_to_anybody"):
                return address
            raise ValueError(
                "is not a loopback address, and without identities whoever reaches the port could read and write"
                " everything: use --identities required (docs/security.md), or --open-to-anybody if that is meant"
            )
        has_tls = info.data.get("tls_cert_file") or info.data.get("tls_self_signed")
        if not has_tls and not info.data.get("plaintext_beyond_loopback"):
            raise ValueError(
                "is not a loopback address, and keys would be sent to it without encryption: use --tls-cert-file and"
                " --tls-key-file, or --plaintext-beyond-loopback if a proxy before it speaks TLS"
            )
        return address

    @field_validator("http_address", "otlp_grpc_address")
    @classmethod
    def _of_its_own(cls, address: str | None, info: ValidationInfo) -> str | None:
        for name, what in (("flight_address", "Flight SQL"), ("http_address", "ingestion")):
            other = info.data.get(name)  # absent where it is this one, comes later, or is wrong itself
            if address is not None and other is not None and _are_one(address, other):
                raise ValueError(f"is where {what} listens ({spelled(name)}): give each a port of its own")
        return address

    @field_validator("postgres_url")
    @classmethod
    def _known_database(cls, url: str | None) -> str | None:
        """A URL whose parts are where they seem to be, so that no part of a password is taken for a host."""
        if url is None:
            return None
        if not url.startswith(("postgresql://", "postgres://")):
            raise ValueError("is not a URL of Postgres: write postgresql://user:password@host:5432/database")
        parts = urlsplit(url)
        pairs = all(_PAIR.fullmatch(pair) for pair in parts.query.split("&"))
        password_in_query = "@" in parts.query and "@" not in parts.netloc and not pairs
        if "@" in parts.path + parts.fragment or password_in_query:
            raise ValueError(
                "has a character in its password that ends a part of a URL: write / as %2F, ? as %3F, # as %23"
            )
        for host in parts.netloc.rpartition("@")[2].split(","):
            port = re.sub(r"^(\[.*\]|[^:\[\]]*)", "", host)
            if not re.fullmatch(r"(:[0-9]{1,5})?", port) or int(port[1:] or 0) > _PORT_MAX:
                raise ValueError("has no number after its host: write postgresql://user:password@host:5432/database")
        return url

    @field_validator("store_url")
    @classmethod
    def _known_store(cls, url: str | None) -> str | None:
        if url is None:
            return None
        parts = urlsplit(url)
        if parts.scheme == "file":
            if parts.netloc not in ("", "localhost") or not parts.path.startswith("/"):
                raise ValueError("is not the URL of an absolute path, which has three slashes: file:///folder")
            return url
        if parts.scheme == "memory":
            raise ValueError(
                "is not possible: each process of a server has a memory of its own, so what one stores no other could"
                " read; use file:///folder"
            )
        if not parts.scheme or "://" not in url:
            raise ValueError(f"is not a URL: write {Path(url).absolute().as_uri()}")
        if parts.scheme != "s3":
            raise ValueError(
                f"is not supported: {parts.scheme} stores are not; use s3://bucket/prefix or file:///folder"
            )
        if not _BUCKET.fullmatch(parts.netloc) or parts.query or parts.fragment:
            raise ValueError("is not the URL of a store in S3: write s3://bucket/prefix, and no credentials in it")
        return url

    @field_validator("store_endpoint")
    @classmethod
    def _known_endpoint(cls, url: str | None) -> str | None:
        if url is None:
            return None
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc or parts.query:
            raise ValueError("is not the URL of an S3 server: write http://host:9000, and no credentials in it")
        return url

    @field_validator("store_secret_access_key")
    @classmethod
    def _of_a_key(cls, secret: str | None, info: ValidationInfo) -> str | None:
        if secret is not None and info.data.get("store_access_key_id") is None:
            raise ValueError(f"is of no use without {spelled('store_access_key_id')}")
        return secret

    @field_validator("roles")
    @classmethod
    def _known_roles(cls, text: str) -> str:
        _roles(text)
        return text

    @field_validator("telemetry_url")
    @classmethod
    def _known_ingestion(cls, url: str | None) -> str | None:
        if url is None:
            return None
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc:
            raise ValueError("is not the URL of an ingestion server: write http://host:9000")
        return url

    @field_validator("block_retention_days", mode="before")
    @classmethod
    def _for_ever(cls, days: object) -> object:
        return None if isinstance(days, str) and days.strip().lower() == FOREVER else days

    @field_validator("partition_retention_days", mode="before")
    @classmethod
    def _days_of_view_sets(cls, days: object) -> object:
        text = str(days)
        _days_by_view_set(text)
        return text

    @field_validator("log_level")
    @classmethod
    def _known_level(cls, level: str) -> str:
        if level.lower() not in ("debug", "info", "warning", "error"):
            raise ValueError("is not a level: debug, info, warning or error")
        return level.lower()


def _roles(text: str) -> frozenset[Role]:
    known = {role.value: role for role in Role}
    named = [name.strip().lower() for name in text.split(",")]
    if unknown := sorted(set(named) - set(known)):
        wrong = ", ".join(name or "nothing" for name in unknown)
        raise ValueError(f"names {wrong}, which is no role: there are {', '.join(known)}")
    return frozenset(known[name] for name in named)


def _requires_identities(values: Mapping[str, Any]) -> bool:
    """Whether settings, as far as they are known, ask for credentials."""
    chosen = values.get("identities")
    if chosen is not None:
        return bool(chosen == "required")
    return any(values.get(name) for name in ("reader_keys", "writer_keys", "oidc_issuers", "tls_client_ca_file"))


def _days_by_view_set(text: str) -> dict[str | None, float | None]:
    found: dict[str | None, float | None] = {}
    for part in text.split(","):
        view_set, equals, value = part.rpartition("=")
        name = view_set.strip() if equals else None
        days = _days(value.strip())
        if days == 0 or name == "":
            raise ValueError(
                "is not a number of days: write 90, or forever, and others after it, as in 90,log_stats=forever"
            )
        if name in found:
            raise ValueError(f"says twice how long {'partitions' if name is None else name} should be kept")
        found[name] = days
    if None not in found:
        raise ValueError("does not say how long partitions of other view sets are kept: begin with 90, or forever")
    return found


def _days(text: str) -> float | None:
    """``None`` is for ever; 0 is what is no number of days."""
    if text.lower() == FOREVER:
        return None
    return float(text) if _NUMBER.fullmatch(text) else 0


# --- in words ---------------------------------------------------------------------------------------------------------


def spelled(name: str) -> str:
    """How a setting is given: its flag, if it has one, and its variable."""
    variable = f"{PREFIX}{name.upper()}"
    return f"{_flag(name)} or {variable}" if name in FLAGS or name in SWITCHES else variable


def mistakes(error: ValidationError, given: Mapping[str, object], environment: Mapping[str, str]) -> list[str]:
    """One sentence for each value that cannot be used, beginning with the value as the user gave it.

    Args:
        given: Values of flags, by the names of settings.
    """
    return [_mistake(problem, given, environment) for problem in error.errors()]


def unknown_variables(environment: Iterable[str]) -> list[str]:
    """One sentence for each variable that looks like a setting and is none."""
    by_capitals = {name.upper(): name for name in environment if name.upper().startswith(PREFIX)}  # either case counts
    known = {name.upper() for name in Settings.model_fields}
    sentences = []
    for capitals, name in sorted(by_capitals.items()):
        setting = capitals.removeprefix(PREFIX)
        if setting in known or capitals in _OF_CLIENTS or _NOT_OURS.fullmatch(capitals):
            continue
        nearest = difflib.get_close_matches(setting, sorted(known), n=1)
        hint = f"did you mean {PREFIX}{nearest[0]}?" if nearest else "docs/settings.md has them all"
        sentences.append(f"{name} is not a setting and has no effect; {hint}")
    return sentences


def _mistake(problem: Any, given: Mapping[str, object], environment: Mapping[str, str]) -> str:
    name = str(problem["loc"][0])
    variable = f"{PREFIX}{name.upper()}"
    what = _flag(name) if name in given else variable
    value = given[name] if name in given else next((v for n, v in environment.items() if n.upper() == variable), "")
    holds_secret = name in _SECRET or (name in _OF_STORES and "@" in str(value))
    if not holds_secret and value != "":
        what += f" {value}" if name in given else f"={value}"
    return f"{what} {_wrong(problem)}"


def _wrong(problem: Any) -> str:
    limits = problem.get("ctx", {})
    match problem["type"]:
        case "value_error":
            return str(problem["msg"]).removeprefix("Value error, ")
        case "int_parsing" | "int_from_float" | "int_type":
            return "is not a whole number"
        case "float_parsing" | "float_type":
            return "is not a number"
        case "bool_parsing" | "bool_type":
            return "is neither true nor false"
        case "greater_than_equal":
            return f"is too small: at least {limits['ge']:g}"
        case "greater_than":
            return f"is too small: more than {limits['gt']:g}"
        case "less_than_equal":
            return f"is too large: at most {limits['le']:g}"
        case _:
            return f"cannot be used: {problem['msg'][:1].lower()}{problem['msg'][1:]}"


def _flag(name: str) -> str:
    """How the command spells a setting."""
    return f"--{name.replace('_', '-')}"


def host_and_port(address: str) -> tuple[str, int]:
    """The parts of an address that was checked; of ``[::1]:9000`` without the brackets."""
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


def _are_one(one: str, other: str) -> bool:
    """Whether two addresses cannot both be listened at: ``localhost`` may be either kind of loopback."""
    (host, port), (other_host, other_port) = host_and_port(one), host_and_port(other)
    return port == other_port != 0 and (host == other_host or "localhost" in (host, other_host))


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
