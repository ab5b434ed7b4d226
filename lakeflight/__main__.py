"""The command ``lakeflight``: ``query`` and ``admin`` are the library's, the commands that run a server are there once it is installed."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec
from typing import Final

from lakeflight.commands.admin import add_admin_command
from lakeflight.commands.environment import begin_in_own_environment
from lakeflight.commands.query import add_query_command
from lakeflight.commands.terminal import silence
from lakeflight.version import VERSION

SERVER_PACKAGE: Final = "lakeflight_server"
SERVER_COMMANDS: Final = {
    "serve": "run a server: ingestion, queries, database and store, all in one",
    "demo": "start a server in the background, send it telemetry, show what to type next",
    "keys": "make, list and revoke the API keys of those who query and of those who send",
    "doctor": "check versions, folders, database, store and ports; say what is wrong",
}


def main(arguments: list[str] | None = None) -> None:
    """Run one command and exit with its code: 0 well, 2 wrong usage, others as the command's help says."""
    if arguments is None:  # this process is the command's alone
        begin_in_own_environment()
    words = sys.argv[1:] if arguments is None else arguments
    try:
        sys.exit(run(words))
    except KeyboardInterrupt:
        sys.exit(130)


def run(words: Sequence[str]) -> int:
    """Run one command; its exit code.

    Raises:
        SystemExit: The parser has said what is wrong, or helped.
    """
    try:
        parser = _parser(words[0] if words else "")
        given = parser.parse_args(words)
        if given.command is None:
            parser.print_help()
            return 2
        code: int = given.run(given)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader has what it wanted
        silence(sys.stdout)
        return 0
    except OSError as error:
        silence(sys.stdout)
        print(f"lakeflight: {_words_of(error)}", file=sys.stderr)
        return 1
    return code


def _words_of(error: OSError) -> str:
    reason = (error.strerror or str(error)).lower()
    return f"{reason}: {error.filename}" if error.filename else f"cannot write standard output: {reason}"


def _parser(command: str) -> argparse.ArgumentParser:
    """Every command, and the flags of ``command``: those of a server load more than a query should wait for."""
    parser = argparse.ArgumentParser(
        prog="lakeflight",
        description="A telemetry lakehouse: programs send logs, metrics and traces; you ask in SQL over Arrow Flight.",
        epilog="Every flag of serve is a setting too: LAKEFLIGHT_DATA_DIR and so on; docs/settings.md lists them all.",
    )
    parser.add_argument("--version", action="version", version=f"lakeflight {VERSION}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    for name, summary in SERVER_COMMANDS.items():
        added = commands.add_parser(name, help=summary)
        if name == command:
            _complete(added, name)
    add_query_command(commands)
    add_admin_command(commands)
    return parser


def _complete(parser: argparse.ArgumentParser, command: str) -> None:
    if find_spec(SERVER_PACKAGE) is None:
        parser.error(f"{command} runs a server, which is not installed here: pip install lakeflight-server")
    import_module(f"{SERVER_PACKAGE}.commands").complete(parser, command)


if __name__ == "__main__":
    main()
