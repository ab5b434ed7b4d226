"""What the pages show is run: statements, programs and commands, against a real server."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from lakeflight.commands.query import SERVER_VARIABLE, TOKEN_VARIABLE
from server.embedded_postgres import postgres_binaries
from server.settings import FLAGS, PREFIX, Settings
from tests.support.fixtures import ROOT, otlp_cases
from tests.support.programs import Program
from tests.support.serving import Server

EXAMPLE_ID = "7c9e6679-7425-40de-944b-e07fc1f90ae7"
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
LIBRARY = tomllib.loads((ROOT / "lakeflight" / "pyproject.toml").read_text())["project"]["dependencies"]
OTHERS = "from micromegas"  # programs of other environments: tests/clients runs them
ROUTES = {"grpc://127.0.0.1:50051": "flight", "http://127.0.0.1:9000": "http"}


def _blocks(language: str) -> list[tuple[str, str]]:
    found = []
    for page in PAGES:
        texts = re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)
        found += [(f"{page.name}-{number}", text) for number, text in enumerate(texts)]
    return found


@pytest.fixture(scope="module")
def program(server: Server) -> Program:
    sent = Program()
    server.replay([*sent.registration(), sent.log_block(), sent.thread_block()])
    server.replay([*sent.async_requests(), *sent.net_requests(), *sent.image_requests()])
    for case in otlp_cases():
        server.replay(case.requests)
    names = {"X-Micromegas-Service-Name": "gitlab", "X-Micromegas-Service-Namespace": "ci"}
    assert server.post("/ingestion/webhook", b'{"action":"opened"}', names) == 200
    return sent


@pytest.mark.parametrize(("page", "sql"), _blocks("sql"))
def test_every_statement_of_the_pages_runs(server: Server, program: Program, page: str, sql: str) -> None:
    instance = program.thread_stream if "thread_spans" in sql else program.process_id
    if "otel_spans" in sql:
        instance = otlp_cases()[0].process_id
    if "parse_block" in sql:
        of_points = f""" process_id = '{otlp_cases()[0].process_id}' AND "streams.format" = 'otlp/v1/metrics'"""
        which = of_points if "otlp." in sql else f"stream_id = '{program.thread_stream}'"
        found = server.query(f"SELECT block_id FROM blocks WHERE {which}")
        instance = found.column("block_id")[0].as_py()

    table = server.query(sql.replace(EXAMPLE_ID, instance).replace("my-game", "made-up"))

    assert table.num_columns > 0
    assert table.num_rows > 0 or "lakeflight" in sql  # what a server or a client says of itself


@pytest.mark.parametrize(("page", "source"), [block for block in _blocks("python") if OTHERS not in block[1]])
def test_every_program_of_the_pages_runs(
    server: Server, program: Program, page: str, source: str, tmp_path: Path
) -> None:
    for shown, attribute in ROUTES.items():
        source = source.replace(shown, getattr(server, attribute))

    ran = subprocess.run([sys.executable, "-c", source], cwd=tmp_path, capture_output=True, text=True, timeout=60)

    assert ran.returncode == 0, ran.stderr
    assert all(path.stat().st_size for path in tmp_path.iterdir())
    assert "rror" not in ran.stderr


def _commands() -> list[str]:
    return [
        command.strip()
        for _, text in _blocks("sh")
        for line in text.replace("\\\n", " ").splitlines()
        for command in line.split("#")[0].split("&&")
        if command.strip()
    ]


def _run(command: str, folder: Path, **environment: str) -> None:
    ran = subprocess.run(
        ["sh", "-c", command.replace("lakeflight", f"{sys.executable} -m lakeflight", 1)],
        cwd=folder,
        env=os.environ | environment | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
    )

    assert ran.returncode == 0, f"{command}\n{ran.stdout}{ran.stderr}"


def test_the_commands_that_ask_run(server: Server, program: Program, tmp_path: Path) -> None:
    (tmp_path / "report.sql").write_text("SELECT 1 AS one")
    asking = [command for command in _commands() if command.startswith(("lakeflight query", "lakeflight admin"))]
    assert len(asking) >= 7

    for command in asking:
        _run(command.replace(EXAMPLE_ID, program.thread_stream), tmp_path, LAKEFLIGHT_SERVER=server.flight)

    assert (tmp_path / "report.csv").read_text() == "one\n1\n"
    assert (tmp_path / "spans.parquet").stat().st_size > 0


def test_every_other_command_of_the_pages_is_one_that_there_is(server: Server, tmp_path: Path) -> None:
    """What installs, serves or needs a database is read and not run here; other tests do."""
    declared = {re.split(r"[=>]", name)[0] for name in LIBRARY}
    variables = {f"{PREFIX}{name.upper()}" for name in Settings.model_fields} | {SERVER_VARIABLE, TOKEN_VARIABLE}
    for command in _commands():
        words = command.split()
        while "=" in words[0]:  # set for this command alone
            assert words.pop(0).partition("=")[0] in variables
        match words:
            case ["lakeflight", "query" | "admin", *_]:
                pass
            case ["lakeflight", "keys", action, *_]:
                _run(f"lakeflight keys {action} --help", tmp_path)
            case ["lakeflight", "doctor"]:
                _run(command, tmp_path, LAKEFLIGHT_DATA_DIR=str(server.data_dir))
            case ["lakeflight", "serve", *flags]:
                assert {flag for flag in flags if flag.startswith("-")} <= {
                    f"--{name.replace('_', '-')}" for name in FLAGS
                }
            case ["pip", "install", *names]:
                assert {name for name in names if not name.startswith(("--", "/path/"))} <= declared
            case [".", ".venv/bin/activate"]:
                pass
            case ["export", *assignments]:
                named = {assignment.partition("=")[0] for assignment in assignments}
                assert named <= variables
            case ["mkdir" | "cp", *_]:
                pass
            case ["pg_dump" | "pg_restore" | "createdb" as program, *_]:
                assert (postgres_binaries() / program).exists()
            case [script, *_]:
                assert os.access(ROOT / script, os.X_OK), f"{command}: no such command"


def test_the_client_needs_no_more_to_send_than_the_page_says() -> None:
    (installed,) = [command for command in _commands() if command.startswith("pip install c")]
    source = (
        "import sys; before = set(sys.modules); import lakeflight.telemetry\n"
        "roots = {name.split('.')[0] for name in set(sys.modules) - before} - set(sys.stdlib_module_names)\n"
        "print(*sorted(roots - {'lakeflight'}))"
    )

    ran = subprocess.run([sys.executable, "-c", source], cwd=ROOT, capture_output=True, text=True, timeout=60)

    assert ran.stdout.split() == installed.split()[2:], ran.stderr


def test_links_between_pages_lead_somewhere() -> None:
    for page in [*PAGES, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"]:
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
            assert "://" in target or (page.parent / target).exists(), f"{page.name} -> {target}"


def test_the_map_names_what_is_in_the_tree_and_nothing_else() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text()
    chart = text[text.index("```text") : text.index("```\n", text.index("```text") + 7)]
    packages = ("lakeflight", "lakehouse", "views", "server")
    modules = {path.name for package in (*packages, "benchmarks") for path in (ROOT / package).rglob("*.py")}

    named = set(re.findall(r"\b[a-z_]+\.py\b", chart)) | {"__init__.py", "__main__.py"}

    assert named <= modules, f"not in the tree: {named - modules}"
    folders = {
        str(path.relative_to(ROOT))
        for package in packages
        for path in (ROOT / package).rglob("*")
        if path.is_dir() and "__pycache__" not in path.parts
    }
    for folder in folders:
        assert f"{Path(folder).name}/" in chart, f"{folder} is not on the map"
