"""Files of partitions into fewer: how fast on one core, and with how much memory whatever the size.

``python -m benchmarks.merging FOLDER VIEW`` merges all files of a folder in a process of its own and prints what it took.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa

from benchmarks.figures import Figure, at_least, at_most
from benchmarks.measure import median
from benchmarks.sizes import Size
from lakehouse.buckets.merge_files import merge_files
from lakehouse.jobs.merge import LocalMerge, MergeJob
from lakehouse.parquet import write_file
from lakehouse.ports import View
from lakehouse.storage.digests import whole_digest
from views import default_registry

MB_PER_S: Final = 100.0
MEMORY_MB: Final = 512.0
_HOUR_NS: Final = 3_600_000_000_000
_BEGIN_NS: Final = 1_700_000_000_000_000_000
_ROOT: Final = Path(__file__).resolve().parents[1]


def measure(folder: Path, size: Size) -> list[Figure]:
    hours = _lake(folder / "hours", "thread_spans", 24, size.merged_rows, overlapping=False)
    more = _lake(folder / "more-hours", "thread_spans", 24, 4 * size.merged_rows, overlapping=False)
    mixed = _lake(folder / "mixed", "thread_spans", 8, size.merged_rows, overlapping=True)
    deltas = _lake(folder / "deltas", "log_entries", size.merged_deltas, 2_000, overlapping=False)
    found = {of.name: [_merged(of, view) for _ in range(size.rounds)] for of, view in (hours, more, mixed, deltas)}
    rates = {name: [took["mb"] / took["cpu_s"] for took in all_] for name, all_ in found.items()}
    peaks = [max(took["peak_mb"] for took in found[name]) for name in ("hours", "more-hours", "mixed")]
    return [
        _rate(
            "merge_hours_mb_per_s",
            "merging 24 hours of spans into a day, one core, Parquet in",
            rates["more-hours"],
            MB_PER_S,
        ),
        _rate("merge_overlapping_mb_per_s", "the same of 8 files whose rows are between each other's", rates["mixed"]),
        _rate("merge_deltas_mb_per_s", "merging deltas of 2,000 log lines, which are written again", rates["deltas"]),
        Figure(
            "merge_peak_mb",
            "memory of a merge, peak: a day, 4 times as many rows, overlapping files",
            max(peaks),
            "MB",
            series=tuple(peaks),
            targets=(at_most(max(peaks), MEMORY_MB, f"{MEMORY_MB:g} MB"),),
        ),
    ]


def _rate(key: str, what: str, rates: list[float], target: float | None = None) -> Figure:
    value = median(rates)
    targets = () if target is None else (at_least(value, target, f"{target:g} MB/s"),)
    return Figure(key, what, value, "MB/s", (min(rates), max(rates)), targets=targets)


def _merged(folder: Path, view: str) -> dict[str, float]:
    ran = subprocess.run(
        [sys.executable, "-m", "benchmarks.merging", str(folder), view],
        cwd=_ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    took: dict[str, float] = json.loads(ran.stdout)
    return took


def _lake(folder: Path, view_set: str, files: int, rows: int, *, overlapping: bool) -> tuple[Path, str]:
    folder.mkdir()
    view = default_registry().view(view_set)
    chance = np.random.default_rng(20)
    for number in range(files):
        begin_ns = _BEGIN_NS + (0 if overlapping else number * _HOUR_NS)
        begins = begin_ns + np.sort(chance.integers(0, _HOUR_NS, rows))
        batch = _batch(view, begins, chance)
        write_file(folder / f"{number:04}.parquet", view.schema, [batch], view.begin_column, view.end_column)
    return folder, view_set


def _batch(view: View, begins: Any, chance: Any) -> pa.RecordBatch:
    """Rows that look like those of programs: names repeat, messages do not, times go on."""
    rows = begins.size
    words = np.array([f"word{number}" for number in range(2_000)])

    def text(name: str) -> pa.Array:
        if name == "msg":
            return pa.array([" ".join(line) for line in words[chance.integers(0, words.size, (rows, 8))]])
        values = [f"{name} of place {number}" for number in range(300 if name in ("name", "target") else 3)]
        codes = pa.array(chance.integers(0, len(values), rows).astype(np.int32))
        return pa.DictionaryArray.from_arrays(codes, pa.array(values))

    makers: Mapping[Any, Callable[[str], pa.Array]] = {
        pa.string(): text,
        pa.int64(): lambda _: pa.array(np.arange(rows)),
        pa.int32(): lambda _: pa.array(chance.integers(1, 7, rows).astype(np.int32)),
        pa.uint32(): lambda _: pa.array(chance.integers(0, 20, rows).astype(np.uint32)),
        pa.timestamp("ns"): lambda name: pa.array(begins + (5_000 if name == "end" else 0)).view(pa.timestamp("ns")),
    }
    arrays = [makers[field.type](field.name) for field in view.schema]
    schema = pa.schema([field.with_type(array.type) for field, array in zip(view.schema, arrays, strict=True)])
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def main(folder: Path, view_set: str) -> None:
    paths = tuple(sorted(folder.glob("*.parquet")))
    keys = tuple(path.name for path in paths)
    job = MergeJob(view_set, keys, tuple(map(whole_digest, paths)), 128 << 20)
    output = folder / "merged"
    output.mkdir()
    before = time.process_time()
    result = merge_files(default_registry().view(view_set), LocalMerge(job, paths, output))
    cpu_s = time.process_time() - before
    for file in result.files:
        file.path.unlink()
    output.rmdir()
    took = {"mb": sum(path.stat().st_size for path in paths) / 1e6, "cpu_s": cpu_s, "peak_mb": _peak_mb()}
    print(json.dumps(took))


def _peak_mb() -> float:
    """Of this program: what ``getrusage`` says has the peak of the process in it that forked this one."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return float(line.split()[1]) / 1024


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
