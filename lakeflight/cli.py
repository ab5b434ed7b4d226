"""``lakeflight query``: SQL to a running server, its rows to standard output or a file.

Data goes to standard output alone; counts, progress and complaints go to standard error. Exit codes say whose turn it
is: 0 done, 2 usage, 3 the statement, 4 access, 5 nobody answers or the server cannot now, 130 interrupted. Refuses to
guess the zone of a time, and the format of a file with an ending that it does not know.
"""

from __future__ import annotations

import argparse
import io
import os
import queue
import re
import secrets
import signal
import stat
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, BinaryIO, Final, TextIO

if TYPE_CHECKING:
    import pyarrow as pa

    from lakeflight.connection import QueryStream
    from lakeflight.output import Writer

OK: Final = 0
USAGE: Final = 2
FAILED: Final = 3
DENIED: Final = 4
UNAVAILABLE: Final = 5
INTERRUPTED: Final = 130

SERVER_VARIABLE: Final = "LAKEFLIGHT_SERVER"
TOKEN_VARIABLE: Final = "LAKEFLIGHT_TOKEN"
DEFAULT_SERVER: Final = "grpc://127.0.0.1:50051"
STATEMENT_BYTES_MAX: Final = 1 << 20
COLUMN_WIDTH_ON_TERMINAL: Final = 80
_FORMATS: Final = ("table", "csv", "json", "jsonl", "parquet", "arrow")
_SUFFIXES: Final = {
    ".csv": "csv",
    ".json": "json",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
    ".arrow": "arrow",
    ".arrows": "arrow",
    ".txt": "table",
}
_PROGRESS_AFTER_S: Final = 0.5
_PROGRESS_EVERY_S: Final = 0.2
_BATCHES_AHEAD: Final = 4

_EXAMPLES: Final = """\
examples:
  lakeflight query "SHOW TABLES"
  lakeflight query --last 1h "SELECT time, level, msg FROM log_entries ORDER BY time DESC" --limit 20
  lakeflight query "SELECT name, avg(value) FROM measures WHERE unit = ? GROUP BY name" --param ms
  lakeflight query -f report.sql --begin 2026-01-31T12:00:00Z --end 2026-01-31T13:00:00Z -o report.parquet
  echo "SELECT * FROM processes" | lakeflight query - --format jsonl | jq .exe

times: RFC 3339 with an offset (2026-01-31T12:00:00Z), a date (2026-01-31, UTC), now, now-2h
spans of time: 30s, 15m, 1h, 7d, 2w, 1d12h
exit codes: 0 done, 2 usage, 3 the statement failed, 4 access, 5 the server does not answer, or cannot now: try again
"""


@contextmanager
def ended_by_interrupts(program: str) -> Iterator[None]:
    """While libraries load, Ctrl-C ends the process with one line: an exception would turn up in the middle of an import."""
    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield  # ignored, as for a background job, or somebody else's
        return

    def end(*_: object) -> None:
        with suppress(OSError):
            os.write(2, f"{program}: interrupted\n".encode())
        os._exit(INTERRUPTED)

    signal.signal(signal.SIGINT, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


class UsageError(Exception):
    """What was asked for makes no sense; the message is for the user."""


def add_query_command(subparsers: Any) -> argparse.ArgumentParser:
    """Add ``query`` to a command line. ``args.run(args)`` is the exit code."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "query",
        help="run a SQL statement on a running server",
        description="Run one SQL statement on a running server and print its rows.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("sql", nargs="?", metavar="SQL", help="the statement, or - to read it from standard input")
    parser.add_argument("-f", "--file", metavar="FILE", help="read the statement from a file")
    parser.add_argument(
        "--server",
        metavar="URI",
        help=f"Flight SQL server (default: ${SERVER_VARIABLE}, else {DEFAULT_SERVER})",
    )
    ranges = parser.add_argument_group("time range", "without one, all of time: the statement's own WHERE also narrows")
    ranges.add_argument("--begin", metavar="TIME", help="events at or after this time")
    ranges.add_argument("--end", metavar="TIME", help="events at or before this time")
    ranges.add_argument("--last", metavar="SPAN", help="events of the last span of time, such as 1h")
    ranges.add_argument("--all", action="store_true", help="all of time, said aloud")
    output = parser.add_argument_group("output")
    output.add_argument("--format", choices=_FORMATS, help="default: by the ending of -o's name, table without one")
    output.add_argument(
        "-o",
        "--output",
        metavar="FILE",
        help="write to a file, complete or not at all; into what is no regular file (a FIFO, a device) as rows come",
    )
    output.add_argument("--limit", type=int, metavar="ROWS", help="rows at most, applied by the server")
    output.add_argument(
        "--max-colwidth",
        type=int,
        metavar="CHARS",
        help=f"cut wider cells of a table, 0: never (default: {COLUMN_WIDTH_ON_TERMINAL} on a terminal, else 0)",
    )
    output.add_argument("--timing", action="store_true", help="print rows, time and query id to standard error")
    output.add_argument("--strict", action="store_true", help="fail if blocks are missing from the answer")
    parser.add_argument(
        "--param",
        action="append",
        default=[],
        metavar="VALUE",
        help="value of the next ? in the statement; repeat for more",
    )
    parser.set_defaults(run=run_query)
    return parser


def run_query(args: argparse.Namespace) -> int:
    """Run the statement that ``add_query_command``'s arguments describe; the exit code."""
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # what its log says of connections, the error says as well
    try:
        with ended_by_interrupts("lakeflight query"):
            _load_libraries()
        request = _request(args, os.environ, sys.stdin, time.time_ns())
    except UsageError as error:
        return _complain(str(error), USAGE)
    except KeyboardInterrupt:  # while it read the statement
        return _complain("interrupted", INTERRUPTED)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # missing blocks are said on standard error below
        try:
            return _run(request)
        except BrokenPipeError:  # the reader has what it wanted
            from lakeflight.output import silence

            silence(sys.stdout)
            return OK
        except KeyboardInterrupt:
            return _complain("interrupted", INTERRUPTED)


def _load_libraries() -> None:
    """What would otherwise be loaded on the way."""
    import lakeflight.connection
    import lakeflight.output  # noqa: F401


# --- what is asked --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Request:
    sql: str
    server: str
    token: str | None
    begin: str | None
    end: str | None
    limit: int | None
    params: tuple[str, ...]
    strict: bool
    format: str
    output: str | None
    column_width_max: int | None
    timing: bool


def _request(args: argparse.Namespace, environment: Mapping[str, str], stdin: TextIO, now_ns: int) -> _Request:
    begin, end = _time_range(args, now_ns)
    if args.limit is not None and args.limit < 0:
        raise UsageError(f"--limit must not be negative: {args.limit}")
    output = None if args.output in (None, "-") else args.output
    chosen = args.format or _format_of(output)
    if chosen in ("parquet", "arrow") and output is None and sys.stdout.isatty():
        raise UsageError(f"{chosen} is not for a terminal: write it to a file with -o")
    return _Request(
        sql=_statement(args, stdin),
        server=args.server or environment.get(SERVER_VARIABLE) or DEFAULT_SERVER,
        token=environment.get(TOKEN_VARIABLE) or None,
        begin=begin,
        end=end,
        limit=args.limit,
        params=tuple(args.param),
        strict=args.strict,
        format=chosen,
        output=output,
        column_width_max=args.max_colwidth,
        timing=args.timing,
    )


def _format_of(output: str | None) -> str:
    """By the ending of the name; a name without one gets what standard output gets."""
    suffix = os.path.splitext(output or "")[1].lower()
    if suffix and suffix not in _SUFFIXES:
        known = ", ".join(_SUFFIXES)
        raise UsageError(f"no format is known by the ending of {output!r}: use {known}, or say --format")
    return _SUFFIXES.get(suffix, "table")


def _statement(args: argparse.Namespace, stdin: TextIO) -> str:
    if (args.sql is None) == (args.file is None):
        raise UsageError("give one statement: as an argument, with -f FILE, or - for standard input")
    try:
        if args.file is not None:
            with open(args.file, encoding="utf-8-sig") as file:
                sql = file.read(STATEMENT_BYTES_MAX + 1)
        elif args.sql == "-":
            sql = stdin.read(STATEMENT_BYTES_MAX + 1)
        else:
            sql = args.sql
    except OSError as error:
        raise UsageError(f"cannot read {args.file or 'standard input'}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{args.file or 'standard input'} is not UTF-8") from error
    if len(sql) > STATEMENT_BYTES_MAX:
        raise UsageError(f"the statement is longer than {STATEMENT_BYTES_MAX} characters")
    if not sql.strip():
        raise UsageError("the statement is empty")
    return sql


_SPAN: Final = re.compile(r"(?:\d+(?:\.\d+)?(?:ms|[smhdw]))+", re.ASCII)
_SPAN_PART: Final = re.compile(r"(\d+(?:\.\d+)?)(ms|[smhdw])", re.ASCII)
_UNIT_NS: Final = {
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "m": 60_000_000_000,
    "h": 3_600_000_000_000,
    "d": 86_400_000_000_000,
    "w": 604_800_000_000_000,
}


def parse_span_ns(text: str) -> int:
    """``1h``, ``1d12h``, ``1.5h``, in nanoseconds.

    Raises:
        UsageError: The text is no span of time.
    """
    if not _SPAN.fullmatch(text):
        raise UsageError(f"not a span of time: {text!r} (for example 30s, 15m, 1h, 7d, 1d12h)")
    return sum(round(float(number) * _UNIT_NS[unit]) for number, unit in _SPAN_PART.findall(text))


def parse_time(text: str, now_ns: int) -> str:
    """A time as users write it, as RFC 3339 in UTC.

    Raises:
        UsageError: No time, or one without an offset.
    """
    from lakeflight.connection import TIME_RANGE, OutOfRangeError, instant_text

    stripped = text.strip()
    try:
        if stripped == "now":
            return instant_text(now_ns)
        if stripped.startswith("now-"):
            return instant_text(now_ns - parse_span_ns(stripped.removeprefix("now-")))
        if re.fullmatch(r"\d{4}-\d\d-\d\d", stripped, re.ASCII):
            return instant_text(datetime.fromisoformat(stripped).replace(tzinfo=UTC))
        return instant_text(stripped)
    except OutOfRangeError as error:
        raise UsageError(f"{text!r} is out of range: {TIME_RANGE}") from error
    except ValueError as error:
        if re.fullmatch(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d(\.\d+)?)?", stripped, re.ASCII):
            raise UsageError(f"a time needs its offset: {stripped}Z for UTC, {stripped}+02:00 for another") from error
        raise UsageError(f"not a time: {text!r} (for example 2026-01-31T12:00:00Z, 2026-01-31, now-2h)") from error


def _time_range(args: argparse.Namespace, now_ns: int) -> tuple[str | None, str | None]:
    bounds = args.begin is not None or args.end is not None
    if (args.last is not None) + bounds + args.all > 1:
        raise UsageError("--last, --begin/--end and --all exclude each other")
    if args.last is not None:
        return parse_time(f"now-{args.last}", now_ns), None
    begin = None if args.begin is None else parse_time(args.begin, now_ns)
    end = None if args.end is None else parse_time(args.end, now_ns)
    if begin is not None and end is not None and begin > end:  # one width, one zone: text sorts as time does
        raise UsageError(f"--begin lies after --end: {begin}, {end}")
    return begin, end


# --- what is answered -----------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Tally:
    rows: int = 0
    first_row_s: float | None = None
    query_id: str | None = None
    missing_blocks: int = 0


def _run(request: _Request) -> int:
    from lakeflight import connection as client

    begun = time.monotonic()
    tally = _Tally()
    try:
        with client.connect(request.server, token=request.token) as lake:
            answer = _Answer(
                lambda: lake.query_stream(
                    request.sql,
                    begin=request.begin,
                    end=request.end,
                    limit=request.limit,
                    params=request.params,
                    strict=request.strict,
                )
            )
            with answer:
                _copy(answer, request, tally, begun)
    except client.AccessError as error:
        return _complain(_sentence(error), DENIED)
    except client.UnavailableError as error:
        answered = error.query_id is not None  # it is there, and what it needs is not
        return _complain(_sentence(error) if answered else f"{error} (server {request.server})", UNAVAILABLE)
    except client.ClientError as error:
        return _complain(_sentence(error), FAILED)
    except ValueError as error:
        return _complain(str(error), USAGE)
    except BrokenPipeError:
        raise
    except OSError as error:
        return _complain(f"cannot write {request.output or 'standard output'}: {error.strerror or error}", USAGE)
    if tally.missing_blocks:
        _say(f"warning: {client.missing_blocks_text(tally.missing_blocks)}")
    if request.timing or (request.format == "table" and request.output is None):
        _say(_summary(tally, time.monotonic() - begun, request.timing))
    return OK


def _copy(answer: _Answer, request: _Request, tally: _Tally, begun: float) -> None:
    """Move the answer to where it belongs, a batch at a time."""
    stream = answer.stream()
    with _Target(request) as target:
        writer = target.writer(stream.schema)
        while (batch := answer.next_batch()) is not None:
            if tally.first_row_s is None and batch.num_rows:
                tally.first_row_s = time.monotonic() - begun
            tally.rows += batch.num_rows
            writer.write(batch)
        writer.finish()
        target.keep()
    tally.query_id = stream.query_id
    tally.missing_blocks = stream.missing_blocks


class _Answer:
    """Reads the stream on a thread of its own, so that progress can be drawn and Ctrl-C is heard meanwhile."""

    def __init__(self, start: Callable[[], QueryStream]) -> None:
        self._start = start
        self._items: queue.Queue[Any] = queue.Queue(_BATCHES_AHEAD)
        self._stopped = threading.Event()
        self._stream: QueryStream | None = None
        self._progress = _ProgressLine() if sys.stderr.isatty() else None
        self._thread = threading.Thread(target=self._read, name="lakeflight-answer", daemon=True)

    def __enter__(self) -> _Answer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._clear_progress()
        if self._thread.is_alive() and self._stream is not None:
            with suppress(Exception):
                self._stream.cancel()

    def stream(self) -> QueryStream:
        """Waits until the server has bound the statement."""
        opened: QueryStream = self._next()
        return opened

    def next_batch(self) -> pa.RecordBatch | None:
        return self._next()

    def _next(self) -> Any:
        begun = time.monotonic()
        while True:
            try:
                item = self._items.get(timeout=_PROGRESS_EVERY_S)
            except queue.Empty:
                if self._progress is not None and time.monotonic() - begun > _PROGRESS_AFTER_S:
                    self._progress.draw(self._stream)
                continue
            self._clear_progress()
            if isinstance(item, BaseException):
                raise item
            return item

    def _clear_progress(self) -> None:
        if self._progress is not None:
            self._progress.clear()

    def _read(self) -> None:
        try:
            stream = self._stream = self._start()
            self._put(stream)
            for batch in stream:
                if not self._put(batch):
                    stream.close()
                    return
            self._put(None)
        except BaseException as error:
            self._put(error)

    def _put(self, item: Any) -> bool:
        while not self._stopped.is_set():
            with suppress(queue.Full):
                self._items.put(item, timeout=0.1)
                return True
        return False


class _ProgressLine:
    """One line on a terminal that is drawn again and again while the server makes what the statement reads."""

    def __init__(self) -> None:
        self._begun = time.monotonic()
        self._drawn = False
        self._mute = False

    def draw(self, stream: QueryStream | None) -> None:
        known: Mapping[str, Any] | None = None
        if stream is not None and not self._mute:
            try:
                known = stream.progress()
            except Exception:  # progress is a courtesy
                self._mute = True
        elapsed = time.monotonic() - self._begun
        sys.stderr.write(f"\r\x1b[K{progress_text(known, elapsed)}")
        sys.stderr.flush()
        self._drawn = True

    def clear(self) -> None:
        if self._drawn:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
            self._drawn = False


def progress_text(known: Mapping[str, Any] | None, elapsed_s: float) -> str:
    """``making partitions 3/12 · 40 blocks · 18.2 MB · 2.1 s``, as much of it as is known."""
    parts = []
    numbers = {name: value for name, value in (known or {}).items() if isinstance(value, int) and value > 0}
    if "buckets" in numbers:
        parts.append(f"making partitions {numbers.get('buckets_done', 0)}/{numbers['buckets']}")
    else:
        parts.append("running")
    if "blocks" in numbers:
        parts.append(f"{numbers['blocks']:,} blocks")
    if "payload_bytes" in numbers:
        parts.append(f"{numbers['payload_bytes'] / 1e6:,.1f} MB")
    return " · ".join([*parts, f"{elapsed_s:.1f} s"])


class _Target:
    """Where rows go: standard output, or a file that appears when it is complete.

    A link is followed, and the file behind it replaced. What is no regular file is written into: a FIFO or a device that
    was replaced would be lost, and cannot be complete or not at all.
    """

    def __init__(self, request: _Request) -> None:
        self._request = request
        self._path: str | None = None  # of the file to replace
        self._temporary: str | None = None
        self._file: BinaryIO | None = None
        self._text: TextIO | None = None

    def __enter__(self) -> _Target:
        return self

    def _open(self, path: str) -> BinaryIO:
        try:
            there = os.stat(path)
        except FileNotFoundError:
            there = None
        if there is not None and not stat.S_ISREG(there.st_mode):
            return open(path, "wb")
        self._path = os.path.realpath(path)
        self._temporary = f"{self._path}.{secrets.token_hex(4)}.part"
        fd = os.open(self._temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        if there is not None:
            with suppress(PermissionError):  # somebody else's file becomes ours, as with any editor
                os.chown(fd, there.st_uid, there.st_gid)
            os.chmod(fd, there.st_mode & 0o777)
        return open(fd, "wb")

    def writer(self, schema: pa.Schema) -> Writer:
        from lakeflight import output

        request = self._request
        if request.output is not None:
            self._file = self._open(request.output)  # closed by __exit__
        binary: BinaryIO = self._file if self._file is not None else sys.stdout.buffer
        if request.format in output.BINARY_FORMATS:
            return output.binary_writer(request.format, schema, binary)
        if self._file is not None:
            self._text = io.TextIOWrapper(binary, encoding="utf-8", newline="", errors="replace")
        else:
            self._text = sys.stdout
            if isinstance(sys.stdout, io.TextIOWrapper):
                sys.stdout.reconfigure(encoding="utf-8", errors="replace")
        width = request.column_width_max
        if width is None:
            width = COLUMN_WIDTH_ON_TERMINAL if self._file is None and sys.stdout.isatty() else 0
        return output.text_writer(request.format, schema, self._text, column_width_max=width)

    def keep(self) -> None:
        if self._text is not None:
            self._text.flush()
        if self._file is None:
            sys.stdout.flush()
            return
        self._file.flush()
        if self._path is not None and self._temporary is not None:
            os.replace(self._temporary, self._path)
            self._temporary = None

    def __exit__(self, *_: object) -> None:
        if self._temporary is not None:
            with suppress(OSError):
                os.unlink(self._temporary)
        if self._file is not None:
            with suppress(OSError, ValueError):
                self._file.close()


def _summary(tally: _Tally, elapsed_s: float, full: bool) -> str:
    text = f"({tally.rows:,} {'row' if tally.rows == 1 else 'rows'}, {elapsed_s:.2f} s"
    if full and tally.first_row_s is not None:
        text += f", first row after {tally.first_row_s:.2f} s"
    if full and tally.query_id:
        text += f", query {tally.query_id}"
    return text + ")"


def _sentence(error: Exception) -> str:
    query_id = getattr(error, "query_id", None)
    return f"{error} (query {query_id})" if query_id else str(error)


def _say(text: str) -> None:
    with suppress(OSError):
        sys.stderr.write(text + "\n")
        sys.stderr.flush()


def _complain(text: str, code: int) -> int:
    from lakeflight.output import printable

    _say(f"lakeflight query: {printable(text)}")
    return code


def main(arguments: Sequence[str] | None = None) -> int:
    """The client's commands alone, for a machine that runs no server."""
    parser = argparse.ArgumentParser(prog="lakeflight")
    add_query_command(parser.add_subparsers(dest="command", required=True))
    args = parser.parse_args(arguments)
    code: int = args.run(args)
    return code


if __name__ == "__main__":
    sys.exit(main())
