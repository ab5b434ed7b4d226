"""The commands that run a server: what a user types, turned into settings and calls. Decides nothing else."""

from __future__ import annotations

import argparse
import os
import sys
from typing import Any


def complete(parser: argparse.ArgumentParser, command: str) -> None:
    """Give the parser of ``command`` its flags, and what it runs: ``given.run(given)`` is the exit code."""
    match command:
        case "serve":
            parser.set_defaults(run=_serve)
            _add_setting_flags(parser)
        case "demo":
            parser.add_argument("--data-dir", metavar="DIR", help="the demo's own data folder")
            parser.add_argument("--stop", action="store_true", help="stop the server that an earlier demo left running")
            parser.set_defaults(run=_demo)
        case "doctor":
            parser.set_defaults(run=_doctor)
            _add_setting_flags(parser)
        case "keys":
            from server.keys_command import add_arguments

            add_arguments(parser)
            parser.set_defaults(run=_keys)
        case _:
            raise ValueError(f"no command of the server is called {command}")


def _add_setting_flags(parser: argparse.ArgumentParser) -> None:
    from server.settings import FLAGS, SWITCHES, Settings

    for name, metavar in FLAGS.items():
        description = Settings.model_fields[name].description
        parser.add_argument(f"--{name.replace('_', '-')}", metavar=metavar, help=description)
    for name in SWITCHES:
        description = Settings.model_fields[name].description
        parser.add_argument(f"--{name.replace('_', '-')}", action="store_const", const=True, help=description)
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

    from lakeflight.commands.environment import OF_DATABASES, OF_STORES, keep_own
    from server.settings import FLAGS, SECRET_VARIABLES, SWITCHES, Settings, mistakes, unknown_variables

    for sentence in unknown_variables(os.environ):
        print(f"lakeflight: warning: {sentence}", file=sys.stderr)
    flags = {name: getattr(given, name, None) for name in (*FLAGS, *SWITCHES, "self_telemetry")}
    chosen = {name: value for name, value in flags.items() if value is not None}
    try:
        settings = Settings(**chosen)
    except RuntimeError:
        sys.exit(_without_home())
    except ValidationError as error:
        for sentence in mistakes(error, chosen, os.environ):
            print(f"lakeflight: {sentence}", file=sys.stderr)
        sys.exit(2)
    others_databases = () if settings.postgres_url is None else OF_DATABASES  # the embedded one is nobody else's
    others_stores = () if settings.store_url is None else OF_STORES
    keep_own(os.environ, (*others_databases, *others_stores))
    for name in [name for name in os.environ if name.upper() in SECRET_VARIABLES]:
        del os.environ[name]  # none of the processes that are started from here has use for it
    return settings


def _without_home() -> int:
    print(
        "lakeflight: this user has no home folder to keep the data in: name a folder with --data-dir", file=sys.stderr
    )
    return 2


def _serve(given: argparse.Namespace) -> int:
    import asyncio

    import uvloop

    from lakehouse.catalog.schema import SchemaError
    from lakehouse.errors import LakeflightError
    from server import logs
    from server.access.tls import CertificateError
    from server.app import serve
    from server.data_folder import DataFolderError
    from server.embedded_postgres import EmbeddedPostgresError
    from server.surroundings import Problem, words_of

    settings = _settings(given)
    logs.set_up(settings.log_level)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(serve(settings))
    except (
        CertificateError,
        DataFolderError,
        EmbeddedPostgresError,
        LakeflightError,
        OSError,
        Problem,
        SchemaError,
    ) as error:
        print(f"lakeflight: {words_of(error)}", file=sys.stderr)
        return 1
    return 0


def _keys(given: argparse.Namespace) -> int:
    import asyncio

    from lakehouse.catalog.schema import SchemaError
    from lakehouse.errors import LakeflightError
    from server import logs
    from server.data_folder import DataFolderError
    from server.embedded_postgres import EmbeddedPostgresError
    from server.keys_command import run_keys
    from server.surroundings import Problem, words_of

    settings = _settings(given)
    logs.set_up("warning")
    try:
        return asyncio.run(run_keys(given, settings))
    except (DataFolderError, EmbeddedPostgresError, LakeflightError, OSError, Problem, SchemaError) as error:
        print(f"lakeflight: {words_of(error)}", file=sys.stderr)
        return 1


def _demo(given: argparse.Namespace) -> int:
    from pathlib import Path

    from server.demo import default_data_dir, run_demo, stop_demo

    try:
        data_dir = Path(given.data_dir).expanduser().absolute() if given.data_dir else default_data_dir()
    except RuntimeError:
        return _without_home()
    return stop_demo(data_dir) if given.stop else run_demo(data_dir)


def _doctor(given: argparse.Namespace) -> int:
    from server.doctor import run_doctor

    return run_doctor(_settings(given))
