"""What an install brings: two wheels, one top-level package each, and nothing that a user's own files could break.

Both are built from the tree and installed into an environment of their own. There the checkout is not importable; only
third-party packages come from the environment that runs the tests.
"""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.fixtures import ROOT

LIBRARY = tomllib.loads((ROOT / "lakeflight" / "pyproject.toml").read_text())["project"]
SERVER = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
SHADOWS = (
    "server",
    "client",
    "views",
    "wire",
    "lakehouse",
    "migrations",
    "tests",
    "commands",
    "telemetry",
    "connection",
)
# What a program that only sends or asks must not wait for, nor have installed.
HEAVY = (
    "duckdb",
    "numba",
    "llvmlite",
    "grpc",
    "asyncpg",
    "uvicorn",
    "uvloop",
    "pydantic",
    "fsspec",
    "structlog",
    "xxhash",
)
START_S = 180


@dataclass(frozen=True)
class Installed:
    """An environment with wheels in it, and nothing of the checkout."""

    folder: Path
    kernels: Path  # compiled once for all servers that are started here

    def run(self, command: list[str], cwd: Path, environment: Mapping[str, str] | None = None) -> str:
        ran = subprocess.run(
            [str(self.folder / "bin" / command[0]), *command[1:]],
            cwd=cwd,
            env={**self.environment, **(environment or {})},
            capture_output=True,
            text=True,
            timeout=START_S,
        )
        assert ran.returncode == 0, f"{command}\n{ran.stdout}{ran.stderr}"
        return str(ran.stdout)

    @property
    def environment(self) -> dict[str, str]:
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("PYTHON", "LAKEFLIGHT", "VIRTUAL"))
        }
        return kept | {"NUMBA_CACHE_DIR": str(self.kernels)}


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The library's and the server's."""
    folder = tmp_path_factory.mktemp("wheels")
    for source in (ROOT / "lakeflight", ROOT):
        built = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
        subprocess.run(built, cwd=source, check=True, capture_output=True, timeout=120)
    (library,), (server,) = folder.glob("lakeflight-*.whl"), folder.glob("lakeflight_server-*.whl")
    return library, server


def _environment(folder: Path, wheels: tuple[Path, ...]) -> Installed:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True, timeout=120)
    (packages,) = folder.glob("lib/python*/site-packages")
    # A path in a .pth file is not searched for .pth files: the editable checkout does not come along.
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    for wheel in wheels:
        installed = [sys.executable, "-m", "pip", "--python", str(folder / "bin" / "python"), "install", "--no-deps"]
        subprocess.run([*installed, "--no-index", "--quiet", str(wheel)], check=True, timeout=120)
    return Installed(folder, Path(os.environ.get("NUMBA_CACHE_DIR", folder / "kernels")))


@pytest.fixture(scope="module")
def library(wheels: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Installed:
    return _environment(tmp_path_factory.mktemp("library") / "env", wheels[:1])


@pytest.fixture(scope="module")
def both(wheels: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Installed:
    return _environment(tmp_path_factory.mktemp("server") / "env", wheels)


@pytest.fixture(scope="module", params=["library", "both"])
def from_registry(
    request: pytest.FixtureRequest, wheels: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory
) -> Installed:
    """As a user installs: an empty environment, and whatever the wheels say that they need."""
    folder = tmp_path_factory.mktemp(request.param) / "env"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True, timeout=120)
    locked = folder / "constraints.txt"
    locked.write_text("\n".join(re.findall(r"^[a-z0-9._-]+==[^\\\n]+", (ROOT / "requirements.lock").read_text(), re.M)))
    pip = [sys.executable, "-m", "pip", "--python", str(folder / "bin" / "python"), "install", "--quiet"]
    chosen = wheels[:1] if request.param == "library" else wheels
    subprocess.run([*pip, "--constraint", str(locked), *map(str, chosen)], check=True, timeout=500)
    return Installed(folder, Path(os.environ.get("NUMBA_CACHE_DIR", folder / "kernels")))


@pytest.fixture
def crowded(tmp_path: Path) -> Path:
    """A folder of a user's whose files have the names of ours, and break whoever imports them."""
    for name in SHADOWS:
        (tmp_path / f"{name}.py").write_text(f"raise SystemExit('imported {name}.py of the user')\n")
    return tmp_path


def _top_level(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return {name.split("/")[0] for name in archive.namelist() if ".dist-info/" not in name}


def test_each_wheel_has_one_name_at_the_top(wheels: tuple[Path, Path]) -> None:
    library, server = wheels

    assert _top_level(library) == {"lakeflight"}
    assert _top_level(server) == {"lakeflight_server"}


def test_the_wheels_have_every_file_of_their_folders(wheels: tuple[Path, Path]) -> None:
    library, server = wheels

    def of_tree(*folders: str) -> set[str]:
        listed = subprocess.run(["git", "ls-files", *folders], cwd=ROOT, capture_output=True, text=True, check=True)
        return set(listed.stdout.split())

    with zipfile.ZipFile(library) as archive:
        assert of_tree("lakeflight/*.py", "lakeflight/*.typed") <= set(archive.namelist())
    with zipfile.ZipFile(server) as archive:
        found = {name.removeprefix("lakeflight_server/") for name in archive.namelist()}
        assert of_tree("server", "lakehouse", "views", "migrations") <= found


def test_both_are_of_one_version_and_one_needs_the_other() -> None:
    version = re.search(r'VERSION = "(.+)"', (ROOT / "lakeflight" / "version.py").read_text())

    assert version is not None
    assert f"lakeflight=={version[1]}" in SERVER["dependencies"]


def _imported(folder: Path) -> Iterator[str]:
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                yield node.module


def test_the_library_declares_what_it_imports_and_no_more() -> None:
    declared = {re.split(r"[<>=]", requirement)[0] for requirement in LIBRARY["dependencies"]}
    names = {"google": "protobuf"}
    imported = {name.split(".")[0] for name in _imported(ROOT / "lakeflight")} - set(sys.stdlib_module_names)

    # Blocks are decoded where a server is: nobody who sends or asks loads these modules of the wire formats.
    assert {names.get(name, name) for name in imported} - {"lakeflight", "numba", "xxhash"} == declared


@pytest.mark.parametrize(
    "module", ["lakeflight", "lakeflight.telemetry", "lakeflight.connection", "lakeflight.commands.query"]
)
def test_the_library_loads_no_engine_no_compiler_and_no_server(library: Installed, tmp_path: Path, module: str) -> None:
    source = f"import sys, json, {module}; json.dump(sorted(sys.modules), sys.stdout)"

    loaded = set(json.loads(library.run(["python", "-c", source], tmp_path)))

    assert not loaded & {*HEAVY, "server", "lakehouse", "views"}


def test_a_program_that_sends_loads_no_arrow(library: Installed, tmp_path: Path) -> None:
    source = "import sys, lakeflight.telemetry; print('pyarrow' in sys.modules)"

    assert library.run(["python", "-c", source], tmp_path) == "False\n"


@pytest.mark.parametrize("where", ["current folder", "PYTHONPATH"])
def test_files_of_a_user_do_not_break_the_library(
    library: Installed, crowded: Path, tmp_path: Path, where: str
) -> None:
    source = (
        "import lakeflight; from lakeflight.telemetry import Telemetry, span\n"
        "print(lakeflight.connect.__name__, Telemetry.__name__, span.__name__)"
    )
    cwd, environment = (crowded, {}) if where == "current folder" else (ROOT.parent, {"PYTHONPATH": str(crowded)})

    assert library.run(["python", "-c", source], cwd, environment) == "connect Telemetry span\n"
    assert library.run(["lakeflight", "--version"], cwd, environment) == f"lakeflight {_version()}\n"
    assert "usage: lakeflight query" in library.run(["lakeflight", "query", "--help"], cwd, environment)


def test_without_the_server_its_commands_say_what_to_install(library: Installed, tmp_path: Path) -> None:
    ran = subprocess.run(
        [library.folder / "bin" / "lakeflight", "serve"],
        cwd=tmp_path,
        env=library.environment,
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert ran.returncode == 2
    assert ran.stderr.splitlines()[-1].endswith(
        "serve runs a server, which is not installed here: pip install lakeflight-server"
    )


@pytest.mark.parametrize("where", ["current folder", "PYTHONPATH"])
def test_the_demo_runs_from_the_installed_server_among_a_users_files(
    both: Installed, crowded: Path, tmp_path: Path, where: str
) -> None:
    """The whole of it: database, ingestion processes, workers, the game that sends, the questions."""
    lake = str(tmp_path / "lake")
    cwd, environment = (crowded, {}) if where == "current folder" else (ROOT.parent, {"PYTHONPATH": str(crowded)})

    try:
        shown = both.run(["lakeflight", "demo", "--data-dir", lake], cwd, environment)
        flight = re.search(r"SQL over Arrow Flight at +(\S+)", shown)
        assert flight is not None
        asked = ["lakeflight", "query", "--server", flight[1], "SELECT count(*) > 0 AS has_rows FROM log_entries"]
        answer = both.run([*asked, "--format", "csv"], cwd, environment)
    finally:
        stopped = both.run(["lakeflight", "demo", "--data-dir", lake, "--stop"], cwd, environment)

    assert "Where its main thread spent its time" in shown
    assert answer == "has_rows\ntrue\n"
    assert "has stopped" in stopped


@pytest.mark.needs("registry")
def test_empty_environments_get_all_that_the_wheels_need(from_registry: Installed, tmp_path: Path) -> None:
    """The server's own needs are declared, and nothing of the server's comes with the library."""
    source = (
        "import json, importlib.metadata as m; print(json.dumps(sorted(d.name.lower() for d in m.distributions())))"
    )
    has = set(json.loads(from_registry.run(["python", "-c", source], tmp_path)))

    from_registry.run(["python", "-c", "import lakeflight.connection, lakeflight.telemetry"], tmp_path)
    if "lakeflight-server" not in has:
        assert has == {re.split(r"[<>=]", requirement)[0] for requirement in LIBRARY["dependencies"]} | {"lakeflight"}
        return
    lake = str(tmp_path / "lake")
    try:
        shown = from_registry.run(["lakeflight", "demo", "--data-dir", lake], tmp_path)
    finally:
        from_registry.run(["lakeflight", "demo", "--data-dir", lake, "--stop"], tmp_path)
    assert "Where its main thread spent its time" in shown


def _version() -> str:
    namespace: dict[str, str] = {}
    exec((ROOT / "lakeflight" / "version.py").read_text(), namespace)
    return namespace["VERSION"]
