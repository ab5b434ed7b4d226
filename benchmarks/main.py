"""Runs all measurements in one go and prints the table. Exit code 0 if every figure was measured, whatever it is."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from benchmarks import (
    access,
    catalog_rows,
    crowd,
    events,
    foreign_sender,
    functions,
    growth,
    ingestion,
    merging,
    otlp,
    planning,
    queries,
    starting,
    traces,
    workload,
)
from benchmarks.figures import Figure, table, write_into
from benchmarks.sizes import FULL, QUICK

_DOCUMENT: Final = Path(__file__).resolve().parents[1] / "docs" / "benchmarks.md"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = _parser()
    given = parser.parse_args(arguments)
    for option, folder in (("--folder", given.folder), ("--json", given.json and given.json.absolute().parent)):
        if folder is not None and not folder.is_dir():
            parser.error(f"{option}: there is no folder {folder}")
    load = os.getloadavg()[0]
    folder = Path(tempfile.mkdtemp(prefix="lakeflight-benchmarks-", dir=given.folder))
    if not given.quick:
        # This process decodes with the kernels that the first start compiles; nothing has loaded the compiler yet.
        os.environ[starting.KERNELS] = str(folder / "kernels")
    try:
        figures, input_name, elapsed_s = _measure(folder, quick=given.quick)
    finally:
        if not given.keep:
            shutil.rmtree(folder, ignore_errors=True)
    heading = f"{_machine()}; {input_name}; load average {load:.1f} before the run; {elapsed_s / 60:.1f} min"
    text = table(figures)
    print(f"{heading}\n\n{text}")
    if given.json:
        told = {
            "machine": _machine(),
            "input": input_name,
            "load": load,
            "figures": [figure.as_dict() for figure in figures],
        }
        given.json.write_text(json.dumps(told, indent=1) + "\n")
    if given.write_docs:
        write_into(_DOCUMENT, f"{heading}.\n\n{text}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="benchmarks/run", description="Measure this checkout on this machine.")
    parser.add_argument(
        "--quick", action="store_true", help="the smallest sizes: shows that it works, measures nothing"
    )
    parser.add_argument("--json", metavar="FILE", type=Path, help="write the figures there as well")
    parser.add_argument("--write-docs", action="store_true", help=f"put the table into docs/{_DOCUMENT.name}")
    parser.add_argument("--folder", metavar="DIR", type=Path, help="where the lakes are made; must be on a real disk")
    parser.add_argument("--keep", action="store_true", help="leave the lakes and their logs there")
    return parser


def _measure(folder: Path, *, quick: bool) -> tuple[list[Figure], str, float]:
    """All figures, what was sent, and how long it took."""
    size = QUICK if quick else FULL
    started = time.perf_counter()
    figures: list[Figure] = []

    def note(what: str) -> None:
        os.sync()  # what the last part has left to write would be the next one's slow disk
        print(f"{time.perf_counter() - started:6.1f} s  {what}", file=sys.stderr, flush=True)

    note("starting servers")
    starts, server = starting.measure(folder, size)
    try:
        recorded = workload.recorded() if size.recorded else None
        telemetry = recorded or workload.made_up(size.events, size.event_blocks)
        note("ingestion")
        figures += ingestion.measure(server, size, folder)
        note("ingestion by a program that is not Python")
        figures += foreign_sender.measure(server, size, folder)
        note("decoding")
        from benchmarks import decoding  # late: it loads the kernels

        found, decoding_s = decoding.measure(telemetry, size)
        figures += found
        note("merging")
        figures += merging.measure(folder, size)
        note("planning")
        figures += planning.measure(size)
        note("who calls")
        figures += access.measure(size)
        note("functions of our own")
        figures += functions.measure(size)
        note("cold queries")
        found, thread = queries.ask_cold(server, telemetry, size, decoding_s)
        figures += found
        note("cold queries of other events")
        figures += events.ask_cold(server, size)
        note("traces")
        figures += traces.measure(server, size)
        note("spans by OTLP")
        figures += otlp.measure(server, size)
        note("first queries of small logs")
        figures += queries.ask_small_log(server, size)
        note("warm queries")
        figures += queries.ask_warm(server, thread, size)
        note("all rows")
        figures += queries.stream_all(server, thread, size)
        note("statements that read nothing")
        figures += queries.ask_small(server, size)
        note("statements about the catalog")
        figures += catalog_rows.measure(server, size)
        note("a small statement in a crowd")
        figures += crowd.measure(server, size)
        note("visibility")
        figures += growth.see_at_once(server, size)
        note("memory")
        figures += queries.watch_memory(server, telemetry, thread, size)
        figures += starts
        note("growth")
        figures += growth.grow(server, thread, size)
        server.stop()
    except BaseException:
        server.kill()
        raise
    note("done")
    return figures, "a made-up game" if recorded is None else "a recorded game", time.perf_counter() - started


def _machine() -> str:
    cores = len(os.sched_getaffinity(0))
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{cores} cores, {memory:.0f} GiB of memory"


if __name__ == "__main__":
    sys.exit(main())
