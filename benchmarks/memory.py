"""Memory of a server's processes: the sum of their proportional set sizes, in which a shared page counts once.

``python -m benchmarks.memory PID`` is the watcher: a process of its own, because reading the sizes takes time that the
client under measurement should not give. It looks until its input ends, then prints what it saw.
"""

from __future__ import annotations

import json
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

_LOOK_EACH_S: Final = 0.01
_FIND_EACH_S: Final = 0.25  # new processes
_KB_PER_MB: Final = 1024.0
_ROOT: Final = Path(__file__).resolve().parents[1]


@dataclass(slots=True)
class Watched:
    """Megabytes (2**20). ``query`` is everything but the database and ingestion."""

    query: list[float] = field(default_factory=list)
    tree: list[float] = field(default_factory=list)

    @property
    def query_peak(self) -> float:
        return max(self.query)

    @property
    def tree_peak(self) -> float:
        return max(self.tree)


@contextmanager
def watching(pid: int) -> Iterator[Watched]:
    """What the tree below ``pid`` took during the block; complete when the block has ended."""
    seen = Watched()
    watcher = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.memory", str(pid)],
        cwd=_ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert watcher.stdout is not None
    watcher.stdout.readline()  # it has looked once
    try:
        yield seen
    finally:
        told, _ = watcher.communicate("\n")
    for query, tree in json.loads(told):
        seen.query.append(query)
        seen.tree.append(tree)


def look(pid: int) -> tuple[float, float]:
    """Megabytes of the query side and of the whole tree, now."""
    return _sum(_find(pid))


def _find(root: int) -> dict[int, bool]:
    """Processes of the tree; true for those of the query side."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                stat = (entry / "stat").read_text()
            except OSError:
                continue
            parents[int(entry.name)] = int(stat.rpartition(")")[2].split()[1])
    tree = {root}
    grown = True
    while grown:
        children = {pid for pid, parent in parents.items() if parent in tree} - tree
        tree |= children
        grown = bool(children)
    return {pid: _is_of_query_side(pid) for pid in tree}


def _is_of_query_side(pid: int) -> bool:
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False
    return b"server.ingestion" not in command and b"postgres" not in command


def _sum(processes: dict[int, bool]) -> tuple[float, float]:
    query = tree = 0
    for pid, of_query_side in processes.items():
        try:
            rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
        except OSError:  # it has gone
            continue
        size = next(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:"))
        tree += size
        query += size if of_query_side else 0
    return query / _KB_PER_MB, tree / _KB_PER_MB


def _watch(root: int) -> None:
    processes, found_at = _find(root), time.monotonic()
    samples = [_sum(processes)]
    print("watching", flush=True)
    while not select.select([sys.stdin], [], [], _LOOK_EACH_S)[0]:
        if time.monotonic() - found_at > _FIND_EACH_S:
            processes, found_at = _find(root), time.monotonic()
        samples.append(_sum(processes))
    print(json.dumps(samples), flush=True)


if __name__ == "__main__":
    _watch(int(sys.argv[1]))
