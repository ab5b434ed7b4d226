"""``lakeflight admin``: partitions of a running server made ahead, made again, or taken away, step by step.

What the server says of each step is a line on standard output; how far it is, a bar on standard error, if that is a terminal.
Ctrl-C ends the work after its last whole step. Exit codes are those of ``lakeflight query``. It decides nothing: see
``materialize_partitions`` and its kin in docs/functions.md.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
import time
from collections.abc import Mapping
from typing import Any, Final

from lakeflight.commands.answer import Answer, progress_text
from lakeflight.commands.query import DEFAULT_SERVER, SERVER_VARIABLE, TOKEN_VARIABLE, fault_of
from lakeflight.commands.terminal import (
    FAILED,
    INTERRUPTED,
    OK,
    USAGE,
    Ended,
    UsageError,
    complain,
    ended_by_interrupts,
    ends_raised,
    silence,
)
from lakeflight.commands.times import parse_span_ns, parse_time
from lakeflight.printable import printable

PROGRAM: Final = "lakeflight admin"
BAR_CELLS: Final = 24
NS_PER_S: Final = 1_000_000_000
_STEP: Final = re.compile(r"(\d+) of (\d+): ")
_REFUSED: Final = "can't find view "  # a row to the original's clients, and a failure of a command
_ACTIONS: Final = {
    "materialize": "make what is not fresh of a view set's global partitions, ahead of the queries that would",
    "regenerate": "make a view set's global partitions again from their blocks, although they are fresh",
    "retire": "remove partitions of an instance; a query that reads them makes them again",
}
_EXAMPLES: Final = """\
examples:
  lakeflight admin materialize log_entries --begin now-7d --end now --step 1d
  lakeflight admin regenerate measures --begin 2026-01-31T12:00:00Z --end 2026-01-31T18:00:00Z --dry-run
  lakeflight admin retire log_entries global --begin 2026-01-30 --end 2026-01-31

times are those at which telemetry came (insert times), half-open: RFC 3339 with an offset, a date (UTC), now, now-2h;
partitions are those of whole hours or days, UTC
exit codes: 0 done, 2 usage, 3 it failed, 4 access, 5 the server does not answer, or cannot now: try again, 130 Ctrl-C;
            what was told is done in any case, and each step is done whole or not at all
"""


def add_admin_command(subparsers: Any) -> None:
    """Add ``admin`` to a command line. ``args.run(args)`` is the exit code."""
    admin: argparse.ArgumentParser = subparsers.add_parser(
        "admin",
        help="make, make again or remove partitions of a running server",
        description="Administer the partitions of a running server, from its own machine.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    actions = admin.add_subparsers(dest="action", metavar="ACTION", required=True)
    for name, summary in _ACTIONS.items():
        parser: argparse.ArgumentParser = actions.add_parser(
            name,
            help=summary,
            description=f"{summary[0].upper()}{summary[1:]}.",
            epilog=_EXAMPLES,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        parser.add_argument("view_set", metavar="VIEW", help="a view set, such as log_entries")
        if name == "retire":
            parser.add_argument("instance", metavar="INSTANCE", help="global, or the id of a process or a stream")
        else:
            parser.add_argument(
                "--step", default="1h", metavar="SPAN", help="how much is one step, and one line (default: 1h)"
            )
        parser.add_argument("--begin", required=True, metavar="TIME", help="what came at or after this time")
        parser.add_argument("--end", required=True, metavar="TIME", help="and before this time")
        parser.add_argument("--dry-run", action="store_true", help="say what would be done, and do nothing")
        parser.add_argument(
            "--server",
            metavar="URI",
            help=f"Flight SQL server (default: ${SERVER_VARIABLE}, else {DEFAULT_SERVER})",
        )
        parser.set_defaults(run=run_admin)


def run_admin(args: argparse.Namespace) -> int:
    """Have done what ``add_admin_command``'s arguments describe; the exit code."""
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    try:
        with ended_by_interrupts(PROGRAM):
            import lakeflight.connection  # noqa: F401  it takes a while, and is not to be interrupted in the middle
        with ends_raised():
            return _administered(args, os.environ)
    except UsageError as error:
        return complain(str(error), USAGE, PROGRAM)
    except BrokenPipeError:  # the reader has what it wanted, and the server stops
        silence(sys.stdout)
        return OK
    except KeyboardInterrupt:
        return complain("interrupted", INTERRUPTED, PROGRAM)
    except Ended as end:
        return complain(end.word, end.code, PROGRAM)


def statement_of(args: argparse.Namespace, now_ns: int) -> tuple[str, list[Any]]:
    """The statement that does it, and the values of its parameters.

    Raises:
        UsageError: A time or a span is none.
    """
    values: list[Any] = [args.view_set]
    if args.action == "retire":
        values.append(args.instance)
    values += [parse_time(args.begin, now_ns), parse_time(args.end, now_ns)]
    if args.action != "retire":
        step_ns = parse_span_ns(args.step)
        if step_ns < NS_PER_S or step_ns % NS_PER_S:
            raise UsageError(f"--step takes whole seconds, such as 1h or 1d: {args.step}")
        values.append(step_ns // NS_PER_S)
    function = f"{args.action}_partitions{'_dry_run' if args.dry_run else ''}"
    return f"SELECT time, msg FROM {function}({', '.join('?' * len(values))})", values


class _Bar:
    """How far the work is, by what the last message said of it."""

    def __init__(self) -> None:
        self._done, self._steps = 0, 0

    def take(self, message: str) -> None:
        if found := _STEP.match(message):
            self._done, self._steps = int(found.group(1)), int(found.group(2))

    def text(self, known: Mapping[str, Any] | None, elapsed_s: float) -> str:
        """``[######------------------] 3/12 · 40 blocks · 18.2 MB · 2.1 s``."""
        if not self._steps:
            return progress_text(known, elapsed_s)
        cells = BAR_CELLS * self._done // self._steps
        facts = progress_text(known, elapsed_s).partition(" · ")[2]
        return f"[{'#' * cells}{'-' * (BAR_CELLS - cells)}] {self._done}/{self._steps} · {facts}"


def _administered(args: argparse.Namespace, environment: Mapping[str, str]) -> int:
    from lakeflight import connection as client

    sql, values = statement_of(args, time.time_ns())
    server = args.server or environment.get(SERVER_VARIABLE) or DEFAULT_SERVER
    bar, code = _Bar(), OK
    try:
        with client.connect(server, token=environment.get(TOKEN_VARIABLE) or None) as lake:
            answer = Answer(lambda: lake.query_stream(sql, params=values), bar.text)
            with answer:
                answer.stream()
                while (batch := answer.next_batch()) is not None:
                    for message in batch.column(batch.schema.get_field_index("msg")).to_pylist():
                        if message.startswith(_REFUSED):
                            code = complain(message, FAILED, PROGRAM)
                            continue
                        bar.take(message)
                        sys.stdout.write(f"{printable(message)}\n")
                        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except (client.ClientError, ValueError, OSError) as error:
        return complain(*fault_of(error, server, "standard output"), PROGRAM)
    return code
