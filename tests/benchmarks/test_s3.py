"""The benchmark of the lake on S3 runs over any store, at the smallest size."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import s3
from benchmarks.figures import write_into
from tests.support.fixtures import ROOT


def test_a_quick_run_has_a_line_for_each_distance_and_leaves_nothing_behind(tmp_path: Path) -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "benchmarks.s3", "--quick", "--folder", str(tmp_path)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr[-4000:]
    lines = [line.split("|")[1:-1] for line in ran.stdout.splitlines() if line.startswith("|")][2:]
    assert [line[0].split(" on ")[0].strip() for line in lines] == [
        "blocks of 20 kB acknowledged",
        *["query over 3 partitions"] * len(s3.LATENCIES_MS),
    ]
    assert all(f" {latency} ms a request" in line[0] for latency, line in zip(s3.LATENCIES_MS, lines[1:], strict=True))
    assert all(float(line[3]) > 0 for line in lines), "each has its limit"
    assert list(tmp_path.iterdir()) == []


def test_a_full_run_without_a_store_to_measure_says_what_is_missing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(s3, "versitygw_program", lambda: None)

    with pytest.raises(SystemExit, match="2"):
        s3.main([])

    assert "versitygw, which is not there: scripts/toolchains builds it" in capsys.readouterr().err


def test_its_table_has_a_place_of_its_own(tmp_path: Path) -> None:
    copy = tmp_path / "benchmarks.md"
    shutil.copy(ROOT / "docs" / "benchmarks.md", copy)

    write_into(copy, "a table", s3.BEGINS, s3.ENDS)

    assert f"{s3.BEGINS}\n\na table\n\n{s3.ENDS}" in copy.read_text()
