"""What a process is, as the lake is told: its program, its user, its machine, its parent."""

from __future__ import annotations

import getpass
import os
import platform
from collections.abc import Mapping
from typing import Final

from lakeflight.telemetry.recorder import TICKS_PER_SECOND, Stamp
from lakeflight.wire.envelope import ProcessRequest
from lakeflight.wire.identifiers import canonical_uuid

PARENT_VARIABLE: Final = "MICROMEGAS_TELEMETRY_PARENT_PROCESS"  # set by programs on any sink, ours included


def describe_process(
    process_id: str, parent_process_id: str | None, exe: str, properties: Mapping[str, str], start: Stamp
) -> ProcessRequest:
    """This process, as it announces itself; ``properties`` win over what is known of it."""
    host = {
        "exe": exe,
        "username": _username(),
        "realname": _real_name(),
        "computer": platform.node() or "unknown",
        "distro": _distribution(),
        "cpu_brand": _cpu_brand(),
    }
    host = {key: encodable(text) for key, text in host.items()}
    known = {
        **host,
        "logical_cpu_count": str(os.cpu_count() or 0),
        "pid": str(os.getpid()),
        "python_version": platform.python_version(),
    }
    return ProcessRequest(
        process_id=process_id,
        **host,
        tsc_frequency=TICKS_PER_SECOND,
        start_time_ns=start.time_ns,
        start_ticks=start.ticks,
        parent_process_id=parent_process_id,
        properties={**known, **{encodable(key): encodable(text) for key, text in properties.items()}},
    )


def encodable(text: object) -> str:
    """Text that CBOR can hold: without lone surrogates, which file names and arguments may have."""
    return str(text).encode("utf-8", "replace").decode()


def parent_process_id() -> str | None:
    try:
        return canonical_uuid(os.environ[PARENT_VARIABLE])
    except (KeyError, ValueError):
        return None


def _username() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):
        return "unknown"


def _real_name() -> str:
    try:
        import pwd

        return pwd.getpwuid(os.getuid()).pw_gecos.split(",")[0] or _username()
    except (ImportError, KeyError, AttributeError):
        return _username()


def _distribution() -> str:
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError, AttributeError):
        return platform.platform()


def _cpu_brand() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as lines:
            for line in lines:
                if line.startswith("model name"):
                    return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine() or "unknown"
