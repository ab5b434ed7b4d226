"""``lakeflight query``: SQL to a running server, its rows to standard output or a file.

Data goes to standard output alone; counts, progress and complaints go to standard error. Exit codes say whose turn it
is: 0 done, 2 usage, 3 the statement, 4 access, 5 nobody answers or the server cannot now, 128 and its
number after a signal (130 is Ctrl-C). Refuses to
guess the zone of a time, and the format of a file with an ending that it does not know.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, TextIO

from lakeflight.commands.answer import Answer
from lakeflight.commands.target import COLUMN_WIDTH_ON_TERMINAL, Target
from lakeflight.commands.terminal import (
    DENIED,
    FAILED,
    INTERRUPTED,
    OK,
    UNAVAILABLE,
    USAGE,
    Ended,
    UsageError,
    complain,
    ended_by_interrupts,
    ends_raised,
    say,
    silence,
)
from lakeflight.commands.times import parse_time

SERVER_VARIABLE: Final = "LAKEFLIGHT_SERVER"
TOKEN_VARIABLE: Final = "LAKEFLIGHT_TOKEN"
DEFAULT_SERVER: Final = "grpc://127.0.0.1:50051"
STATEMENT_BYTES_MAX: Final = 1 << 20
_FORMATS: Final = ("table", "csv", "json", "jsonl", "parquet", "arrow", "arrows")
_SUFFIXES: Final = {
    ".csv": "csv",
    ".json": "json",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
    ".arrow": "arrow",
    ".arrows": "arrows",
    ".txt": "table",
}

_EXAMPLES: Final = """\
examples:
  lakeflight query "SHOW TABLES"
  lakeflight query --last 1h "SELECT time, level, msg FROM log_entries ORDER BY time DESC" --limit 20
  lakeflight query "SELECT name, avg(value) FROM measures WHERE unit = ? GROUP BY name" --param ms
  lakeflight query -f report.sql --begin 2026-01-31T12:00:00Z --end 2026-01-31T13:00:00Z -o report.parquet
  echo "SELECT * FROM processes" | lakeflight query - --format jsonl | jq .exe

times: RFC 3339 with an offset (2026-01-31T12:00:00Z), a date (2026-01-31, UTC), now, now-2h
spans of time: 30s, 15m, 1h, 7d, 2w, 1d12h
exit codes: 0 done, 2 usage, 3 the statement failed, 4 access, 5 the server does not answer, or cannot now: try again,
            128 + its number after a signal, whose file is then not written
"""


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
        with ends_raised():
            return _answered(args)
    except Ended as end:
        return complain(end.word, end.code)


def _answered(args: argparse.Namespace) -> int:
    try:
        request = _request(args, os.environ, sys.stdin, time.time_ns())
    except UsageError as error:
        return complain(str(error), USAGE)
    except KeyboardInterrupt:  # while it read the statement
        return complain("interrupted", INTERRUPTED)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # missing blocks are said on standard error below
        try:
            return _run(request)
        except BrokenPipeError:  # the reader has what it wanted
            silence(sys.stdout)
            return OK
        except KeyboardInterrupt:
            return complain("interrupted", INTERRUPTED)


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
    if chosen in ("parquet", "arrow", "arrows") and output is None and sys.stdout.isatty():
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
            answer = Answer(
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
    except BrokenPipeError:
        raise
    except (client.ClientError, ValueError, OSError) as error:
        return complain(*fault_of(error, request.server, request.output or "standard output"))
    if tally.missing_blocks:
        say(f"warning: {client.missing_blocks_text(tally.missing_blocks)}")
    if request.timing or (request.format == "table" and request.output is None):
        say(_summary(tally, time.monotonic() - begun, request.timing))
    return OK


def fault_of(error: Exception, server: str, output: str) -> tuple[str, int]:
    """What went wrong with a statement, or with writing its answer, in words, and the exit code that says so."""
    from lakeflight import connection as client

    if isinstance(error, client.AccessError):
        return _sentence(error), DENIED
    if isinstance(error, client.UnavailableError):
        answered = error.query_id is not None  # it is there, and what it needs is not
        return _sentence(error) if answered else f"{error} (server {server})", UNAVAILABLE
    if isinstance(error, client.ClientError):
        return _sentence(error), FAILED
    if isinstance(error, OSError):
        return f"cannot write {output}: {error.strerror or error}", USAGE
    return str(error), USAGE


def _copy(answer: Answer, request: _Request, tally: _Tally, begun: float) -> None:
    """Move the answer to where it belongs, a batch at a time."""
    stream = answer.stream()
    with Target(request.output, request.format, request.column_width_max) as target:
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
