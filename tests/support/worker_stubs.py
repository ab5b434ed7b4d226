"""Stand-ins for what runs inside workers: an engine that is bare DuckDB, with statements that misbehave on purpose."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.flight

from lakeflight.wire.flight_sql import FLIGHT
from lakehouse.errors import InternalError, LimitExceededError, QueryCancelledError, QueryError


def table_of(frames: list[bytes]) -> pa.Table:
    """Read frames as a Flight client would."""
    parts: list[bytes] = []
    for frame in frames:
        message = FLIGHT["FlightData"].FromString(frame)
        header, body = message.data_header, message.data_body
        assert len(header) % 8 == 0
        parts += [b"\xff\xff\xff\xff", len(header).to_bytes(4, "little"), header, body]
    return pa.ipc.open_stream(b"".join(parts)).read_all()


class StubEngine:
    """DuckDB without a gate. ``!name`` statements are methods of this class."""

    def __init__(self, options: dict[str, Any]) -> None:
        self._database = duckdb.connect()
        self._database.execute("SET threads=2")
        self._database.execute(f"SET memory_limit='{options['memory_bytes']}B'")
        self._folders = options.get("folders", [])
        if (spill := options.get("spill")) is not None:
            self._own = Path(spill["folder"]) / str(os.getpid())
            self._database.execute(f"SET temp_directory='{self._own / 'files'}'")
        self._cursor = self._database.cursor()
        self._catalog: dict[str, Any] = {}
        self._interrupted = False
        self._fetch: Callable[[str, Sequence[Any]], Sequence[str]] = lambda *_: []

    def change_files(self) -> list[str]:
        """Try everything on the folders that this was made with; returns what could be done."""
        done = []
        own = self._own / "own"
        own.write_bytes(b"x")
        for folder in map(Path, self._folders):
            there = folder / "there"
            attempts: dict[str, Callable[[], object]] = {
                "create": lambda: (folder / "new").write_bytes(b"x"),  # noqa: B023
                "overwrite": lambda: there.open("r+b"),  # noqa: B023
                "append": lambda: there.open("ab"),  # noqa: B023
                "truncate": lambda: os.truncate(there, 0),  # noqa: B023
                "delete": lambda: there.unlink(),  # noqa: B023
                "rename": lambda: there.rename(folder / "renamed"),  # noqa: B023
                "move in": lambda: own.rename(folder / "moved"),  # noqa: B023
                "move out": lambda: there.rename(self._own / "moved"),  # noqa: B023
                "link": lambda: os.link(own, folder / "linked"),  # noqa: B023
                "symbolic link": lambda: (folder / "symbolic").symlink_to(own),  # noqa: B023
                "pipe": lambda: os.mkfifo(folder / "pipe"),  # noqa: B023
                "folder": lambda: (folder / "folder").mkdir(),  # noqa: B023
                "copy by the engine": lambda: self._cursor.execute(f"COPY (SELECT 1) TO '{folder}/copied'"),  # noqa: B023
            }
            for name, attempt in attempts.items():
                with contextlib.suppress(OSError, duckdb.Error):
                    attempt()
                    done.append(f"{name} in {folder.name}")
        own.unlink()
        return done

    def describe(self, catalog: dict[str, Any]) -> None:
        self._catalog = catalog

    def inspect(self, sql: str, parameters: pa.RecordBatch | None, options: dict[str, Any]) -> dict[str, Any]:
        if sql.startswith("!"):
            return {"value": getattr(self, sql[1:])()}
        try:
            relation = self._cursor.sql(sql)
        except duckdb.Error as error:
            raise QueryError(str(error)) from error
        return {"columns": relation.columns, "catalog": self._catalog, "options": options}

    def run(
        self,
        sql: str,
        parameters: pa.RecordBatch | None,
        relations: list[Any],
        options: dict[str, Any],
        fetch: Callable[[str, Sequence[Any]], Sequence[str]],
    ) -> pa.RecordBatchReader:
        self._interrupted, self._fetch = False, fetch
        values = [] if parameters is None else [column[0].as_py() for column in parameters.columns]
        if sql.startswith("!"):
            result = getattr(self, sql[1:])()
            if isinstance(result, pa.RecordBatchReader):
                return result
            return pa.table({"value": [json.dumps(result)]}).to_reader()
        try:
            relation = self._cursor.sql(sql, params=values)
            return _Reader(relation.to_arrow_reader(options.get("rows", 65_536)))
        except duckdb.InterruptException as error:
            raise QueryCancelledError("interrupted") from error
        except duckdb.OutOfMemoryException as error:
            raise LimitExceededError("out of memory") from error
        except duckdb.Error as error:
            raise QueryError(str(error)) from error

    def interrupt(self) -> None:
        self._interrupted = True
        self._cursor.interrupt()

    def premake(self) -> None:
        pass

    def payloads(self) -> list[Sequence[str]]:
        """Ask twice, one after the other."""
        return [
            self._fetch("get_payload", [("p", "s", "b")]),
            self._fetch("get_payload", [("p", "s", "c"), ("p", "s", "d")]),
        ]

    # statements that misbehave

    def impatient(self) -> Any:
        """Ask for payloads again before there is an answer."""
        from server.workers.protocol import Fetch, pack

        for _ in range(2):
            os.write(3, pack(Fetch(1, "get_payload", [])))
        time.sleep(5)

    def pid(self) -> int:
        return os.getpid()

    def hoard(self) -> int:
        """Keep 100 MB for good, as code does that one kind of statement loads."""
        self._hoard = b"x" * (100 << 20)
        return os.getpid()

    def segfault(self) -> None:
        os.kill(os.getpid(), signal.SIGSEGV)
        time.sleep(5)

    def deaf(self) -> None:
        """Cannot be interrupted."""
        time.sleep(60)

    def attentive(self) -> None:
        for _ in range(6000):
            time.sleep(0.01)
            if self._interrupted:
                raise ValueError("interrupted")

    def greedy(self) -> int:
        return len(bytearray(1 << 40))

    def broken(self) -> None:
        raise ValueError("a secret path: /etc/shadow")

    def masked(self) -> None:
        """As the lake's engine fails: its own error says nothing, the cause is behind it."""
        raise InternalError("the engine failed") from KeyError("vi_8c1a3e")

    def liar(self) -> Any:
        """Say things over the connection that are not in the protocol."""
        os.write(3, b"\x05\x00\x00\x00hello")
        time.sleep(5)

    def thief(self) -> Any:
        """Claim a place beyond the ring."""
        from server.workers.protocol import InRing, pack

        os.write(3, pack(InRing(1, 3, 3 * (3 << 20) + 10, 3 << 20, False)))
        time.sleep(5)

    def writer(self) -> str:
        try:
            with open("/tmp/lakeflight-worker-was-here", "w", encoding="utf-8") as file:
                file.write("x")
        except OSError as error:
            return type(error).__name__
        finally:
            Path("/tmp/lakeflight-worker-was-here").unlink(missing_ok=True)
        return "written"

    def surroundings(self) -> dict[str, Any]:
        import resource

        descriptors = {}
        for name in os.listdir("/proc/self/fd"):
            try:
                descriptors[name] = os.readlink(f"/proc/self/fd/{name}")
            except FileNotFoundError:
                continue
        return {
            "environ": dict(os.environ),
            "born_with": Path("/proc/self/environ").read_bytes().decode().split("\0"),
            "descriptors": descriptors,
            "session": os.getsid(0) == os.getpid(),
            "core": resource.getrlimit(resource.RLIMIT_CORE)[0],
            "address_space": resource.getrlimit(resource.RLIMIT_AS)[0],
            "folder": os.getcwd(),
            "shrinks": _can_shrink(4),
        }

    def wide_row(self) -> pa.RecordBatchReader:
        return pa.table({"a": [1, 2, 3], "text": ["x", "y" * (10 << 20), "z"]}).to_reader()

    def dictionaries(self) -> pa.RecordBatchReader:
        """Batches whose dictionaries stay, change, and are larger than a frame."""

        def batches() -> Any:
            few = pa.array([f"value {i}" for i in range(100)])
            many = pa.array([f"{i:040}" for i in range(200_000)])
            for i in range(8):
                codes = pa.array([None if j % 7 == 0 else (j * 31 + i) % 100 for j in range(50_000)], pa.int32())
                wide = pa.array([(j * 7919 + i) % 200_000 for j in range(50_000)], pa.int32())
                changing = pa.array([f"batch {i // 3} value {j}" for j in range(100)])
                yield pa.record_batch(
                    [
                        pa.DictionaryArray.from_arrays(codes, few),
                        pa.DictionaryArray.from_arrays(codes, changing),
                        pa.DictionaryArray.from_arrays(wide, many),
                        pa.array(range(i * 50_000, (i + 1) * 50_000)),
                    ],
                    names=["few", "changing", "many", "n"],
                )

        first = next(iter(batches()))
        return pa.RecordBatchReader.from_batches(first.schema, batches())


class _Reader:
    """Gives DuckDB's errors in mid-stream their names."""

    def __init__(self, reader: pa.RecordBatchReader) -> None:
        self._reader = reader
        self.schema = reader.schema

    def read_next_batch(self) -> pa.RecordBatch:
        try:
            return self._reader.read_next_batch()
        except OSError as error:
            raise QueryError(str(error)) from error

    def close(self) -> None:
        self._reader.close()


def _can_shrink(descriptor: int) -> bool:
    try:
        os.ftruncate(descriptor, 1)
    except OSError:
        return False
    return True


def builder() -> Callable[[dict[str, Any]], dict[str, Any]]:
    def build(request: dict[str, Any]) -> dict[str, Any]:
        match request["do"]:
            case "crash":
                ctypes.string_at(0)
            case "sleep":
                time.sleep(60)
            case "fail":
                raise LimitExceededError("too much")
            case "memory":
                return {"size": len(bytearray(1 << 40))}
            case "full":
                raise OSError(errno.ENOSPC, "Error writing bytes to file", "/somewhere/private.parquet")
        return {"echo": request, "pid": os.getpid(), "modules": "duckdb" in sys.modules}

    return build
