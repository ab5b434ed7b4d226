"""The benchmarks run, whatever they measure: the smallest size, and the shape of what comes out."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks import functions
from benchmarks.figures import Figure, Limit, at_least, at_most, table, write_into
from benchmarks.main import main
from benchmarks.measure import percentile, take_turns
from tests.support.fixtures import ROOT

EXPECTED_KEYS = {
    *("ingest_blocks_per_s", "ingest_p99_ms", "decode_events_per_s", "lz4_mb_per_s", "decode_log_blocks_per_s"),
    *("cold_count_s", "cold_count_first_s", "cold_events_per_s", "again_count_ms", "parquet_bytes_per_span"),
    *(
        f"warm_{statement}_{client}_{percent}_ms"
        for statement in ("count", "group_by", "window")
        for client in ("raw", "adbc")
        for percent in ("p50", "p95")
    ),
    *(
        "stream_s",
        "stream_duckdb_arrow_s",
        "stream_mb_per_s",
        "stream_rows_per_s",
        "stream_memory_growth_mb",
        "query_peak_mb",
        "idle_tree_mb",
    ),
    *("select_1_do_get_p50_ms", "select_1_do_get_p95_ms", "select_1_adbc_p50_ms", "select_1_adbc_16_per_s"),
    *("invisible_blocks", "visible_ms", "visible_p95_ms", "later_start_s"),
    *("trace_spans_per_s", "trace_memory_growth_mb", "plan_buckets_ms", "plan_recent_ms"),
    *("grow_blocks_cold_ms", "grow_blocks_warm_ms", "grow_partitions_warm_ms"),
    *("grow_instances_cold_ms", "grow_instances_warm_ms"),
    *("select_1_beside_heavy_loops_p99_ms", "select_1_beside_paused_readers_p99_ms"),
    *("grow_clients_select_1_per_s", "grow_clients_count_per_s"),
    "first_small_log_ms",
    *("count_processes_ms", "count_blocks_ms"),
    *("cold_async_rows_per_s", "async_bytes_per_row", "cold_log_rows_per_s", "log_bytes_per_row"),
    "recorded_log_bytes_per_line",
    *("otlp_http_spans_per_s", "otlp_grpc_spans_per_s", "cold_otel_rows_per_s"),
    *("plan_window_ms", "plan_join_ms"),
    "access_key_us",
    *(f"function_{name}_ratio" for name in functions.NAMES),
    *("merge_hours_mb_per_s", "merge_overlapping_mb_per_s", "merge_deltas_mb_per_s", "merge_peak_mb"),
}
# Lines that need a compiler of another language.
FOREIGN_KEYS = {"ingest_go_blocks_per_s", "ingest_go_p99_ms", "ingest_go_large_mb_per_s"}


def test_a_quick_run_fills_the_whole_table_and_loses_no_block(tmp_path: Path) -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "benchmarks.main", "--quick", "--json", "figures.json", "--folder", str(tmp_path)],
        cwd=tmp_path,
        env=_environment(),
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr[-4000:]
    told = json.loads((tmp_path / "figures.json").read_text())
    figures: dict[str, dict[str, Any]] = {figure["key"]: figure for figure in told["figures"]}
    assert set(figures) == EXPECTED_KEYS | (FOREIGN_KEYS if shutil.which("go") else set())
    assert figures["invisible_blocks"]["value"] == 0
    assert all(figure["value"] > 0 for key, figure in figures.items() if key != "invisible_blocks")
    assert all(figure["limit"]["value"] > 0 for figure in figures.values() if figure["limit"])
    lines = [line for line in ran.stdout.splitlines() if line.startswith("|")]
    assert len(lines) == len(figures) + 2
    assert {line.count("|") for line in lines} == {8}
    assert list(tmp_path.iterdir()) == [tmp_path / "figures.json"], "it leaves nothing behind"


@pytest.mark.parametrize("option", [("--folder", "absent"), ("--json", "absent/figures.json")])
def test_a_folder_that_is_not_there_is_said_before_anything_runs(
    option: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)

    with pytest.raises(SystemExit, match="2"):
        main([*option, "--quick"])

    assert f"{option[0]}: there is no folder " in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_figure_stands_beside_its_limit_as_a_ratio() -> None:
    figure = Figure(
        "key", "what", 3.0, "ms", (2.5, 4.0), limit=Limit(1.5, "bare"), targets=(at_most(3.0, 2.0, "2 ms"),)
    )
    assert figure.ratio == 2.0
    assert figure.cells() == ("what", "3.00 ms (2.50–4.00)", "1.50: bare", "2.00", "≤ 2 ms", "**no**", "")


def test_a_figure_without_limit_has_no_ratio() -> None:
    assert Figure("key", "what", 3.0, "").ratio is None


def test_all_targets_of_a_figure_must_be_met() -> None:
    kept, broken = at_least(3.0, 2.0, "2"), at_most(3.0, 2.0, "2")
    assert Figure("key", "what", 3.0, "", targets=(kept,)).cells()[5] == "yes"
    assert Figure("key", "what", 3.0, "", targets=(kept, broken)).cells()[5] == "**no**"


def test_the_table_replaces_the_one_before_and_nothing_else(tmp_path: Path) -> None:
    document = tmp_path / "benchmarks.md"
    begin, _, rest = (ROOT / "docs" / "benchmarks.md").read_text().partition("<!-- table: ")
    document.write_text(f"{begin}<!-- table: {rest}")
    text = table([Figure("key", "what", 3.0, "ms")])
    write_into(document, "before")
    write_into(document, text)
    written = document.read_text()
    assert text in written
    assert "before\n\n<!--" not in written
    assert written.startswith(begin)


def test_a_document_without_a_place_for_the_table_is_left_alone(tmp_path: Path) -> None:
    document = tmp_path / "benchmarks.md"
    document.write_text("# Benchmarks\n")
    with pytest.raises(ValueError, match="no place for the table"):
        write_into(document, "text")
    assert document.read_text() == "# Benchmarks\n"


@pytest.mark.parametrize(("percent", "expected"), [(50, 2.0), (75, 3.0), (95, 4.0), (100, 4.0), (1, 1.0)])
def test_a_percentile_is_one_of_the_values(percent: float, expected: float) -> None:
    assert percentile([4.0, 1.0, 3.0, 2.0], percent) == expected


def test_configurations_take_turns_and_each_round_begins_with_another() -> None:
    called: list[str] = []
    found = take_turns(3, {name: lambda name=name: called.append(name) for name in "abc"}, samples=2)  # type: ignore[misc]
    assert "".join(called) == "abc" + "aabbcc" + "bbccaa" + "ccaabb"
    assert all(len(samples.all) == 6 and len(samples.rounds) == 3 for samples in found.values())


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT)}
