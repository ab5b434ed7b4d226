"""The command ``lakeflight``: what a user types, turned into settings and calls. Decides nothing else."""

from __future__ import annotations

import argparse
import os
import sys
from typing import Any


def main(arguments: list[str] | None = None) -> None:
    """Run one command and exit with its code: 0 well, 2 wrong usage, others as the command's help says."""
    words = sys.argv[1:] if arguments is None else arguments
    try:
        parser = _parser(words[0] if words else "")
        given = parser.parse_args(words)
        if given.command is None:
            parser.print_help()
            sys.exit(2)
        sys.exit(given.run(given))
    except KeyboardInterrupt:
        sys.exit(130)


def _parser(command: str) -> argparse.ArgumentParser:
    """Every command, and the flags of ``command``: those of settings load more than a query should wait for."""
    from lakeflight.cli import add_query_command
    from server.version import VERSION

    parser = argparse.ArgumentParser(
        prog="lakeflight",
        description="A telemetry lakehouse: programs send logs, metrics and traces; you ask in SQL over Arrow Flight.",
        epilog="Every flag of serve is a setting too: LAKEFLIGHT_DATA_DIR and so on; docs/settings.md lists them all.",
    )
    parser.add_argument("--version", action="version", version=f"lakeflight {VERSION}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")

    serve = commands.add_parser("serve", help="run a server: ingestion, queries, database and store, all in one")
    serve.set_defaults(run=_serve)

    demo = commands.add_parser(
        "demo", help="start a server in the background, send it telemetry, show what to type next"
    )
    demo.add_argument("--data-dir", metavar="DIR", help="the demo's own data folder")
    demo.add_argument("--stop", action="store_true", help="stop the server that an earlier demo left running")
    demo.set_defaults(run=_demo)

    doctor = commands.add_parser("doctor", help="check versions, folders, database, store and ports; say what is wrong")
    doctor.set_defaults(run=_doctor)

    add_query_command(commands)
    if command in ("serve", "doctor"):
        _add_setting_flags(commands.choices[command])
    return parser


def _add_setting_flags(parser: argparse.ArgumentParser) -> None:
    from server.settings import FLAGS, Settings

    for name, metavar in FLAGS.items():
        description = Settings.model_fields[name].description
        parser.add_argument(f"--{name.replace('_', '-')}", metavar=metavar, help=description)
    parser.add_argument(
        "--no-self-telemetry",
        dest="self_telemetry",
        action="store_const",
        const=False,
        help="keep the server's own logs and metrics out of its lake",
    )


def _settings(given: argparse.Namespace) -> Any:
    """The settings of environment and flags; a wrong one is one sentence and exit code 2."""
    from pydantic import ValidationError

    from server.settings import FLAGS, Settings, mistakes, unknown_variables

    for sentence in unknown_variables(os.environ):
        print(f"lakeflight: warning: {sentence}", file=sys.stderr)
    flags = {name: getattr(given, name) for name in (*FLAGS, "self_telemetry")}
    chosen = {name: value for name, value in flags.items() if value is not None}
    try:
        return Settings(**chosen)
    except ValidationError as error:
        for sentence in mistakes(error, chosen, os.environ):
            print(f"lakeflight: {sentence}", file=sys.stderr)
        sys.exit(2)


def _serve(given: argparse.Namespace) -> int:
    import asyncio

    import uvloop

    from lakehouse.catalog.migrate import SchemaError
    from lakehouse.errors import LakeflightError
    from server import logs
    from server.app import serve
    from server.data_folder import DataFolderError
    from server.embedded_postgres import EmbeddedPostgresError
    from server.surroundings import Problem, words_of

    settings = _settings(given)
    logs.set_up(settings.log_level)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(serve(settings))
    except (DataFolderError, EmbeddedPostgresError, LakeflightError, OSError, Problem, SchemaError) as error:
        print(f"lakeflight: {words_of(error)}", file=sys.stderr)
        return 1
    return 0


def _demo(given: argparse.Namespace) -> int:
    from pathlib import Path

    from server.demo import default_data_dir, run_demo, stop_demo

    data_dir = Path(given.data_dir).absolute() if given.data_dir else default_data_dir()
    return stop_demo(data_dir) if given.stop else run_demo(data_dir)


def _doctor(given: argparse.Namespace) -> int:
    from server.doctor import run_doctor

    return run_doctor(_settings(given))


if __name__ == "__main__":
    main()
