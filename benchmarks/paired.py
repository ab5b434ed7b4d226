"""Two versions on one machine, in turn: which figures of the second are worse, and by how much.

Each round runs the whole benchmark in both checkouts, the next round the other way round; what is compared is the median
of a version's rounds. A machine that is slow for an hour is slow for both.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from benchmarks.figures import aligned, number, write_into
from benchmarks.measure import median

WORSE_BY: Final = 0.05  # what rounds of one version differ by on a quiet machine
BEGINS: Final = "<!-- paired: written by benchmarks/paired --write-docs -->"
ENDS: Final = "<!-- end of paired -->"
_DOCUMENT: Final = Path(__file__).resolve().parents[1] / "docs" / "benchmarks.md"
_HEADINGS: Final = ("", "before", "after", "change")


@dataclass(frozen=True, slots=True)
class Pair:
    """One figure of both versions, in its unit."""

    what: str
    unit: str
    before: float
    after: float

    @property
    def change(self) -> float:
        """By which part of what it was the figure is better (above 0) or worse (below)."""
        if self.before == self.after:
            return 0.0
        if not self.before or not self.after:
            return float("inf") if (self.after > self.before) == self.more_is_better else float("-inf")
        return self.after / self.before - 1 if self.more_is_better else self.before / self.after - 1

    @property
    def more_is_better(self) -> bool:
        return self.unit.endswith("/s")

    @property
    def is_worse(self) -> bool:
        return self.change < -WORSE_BY

    def cells(self) -> tuple[str, ...]:
        change = f"{self.change:+.0%}"
        shown = (f"{number(value)} {self.unit}".strip() for value in (self.before, self.after))
        return (self.what, *shown, f"**{change}**" if self.is_worse else change)


def compare(before: Sequence[Mapping[str, Any]], after: Sequence[Mapping[str, Any]]) -> list[Pair]:
    """Figures that both versions have, in the order of the second. Each argument is what rounds of a version wrote."""
    first, second = _by_key(before), _by_key(after)
    return [
        Pair(described["what"], described["unit"], median(first[key][1]), median(values))
        for key, (described, values) in second.items()
        if key in first and first[key][0]["unit"] == described["unit"]
    ]


def _by_key(rounds: Sequence[Mapping[str, Any]]) -> dict[str, tuple[Mapping[str, Any], list[float]]]:
    found: dict[str, tuple[Mapping[str, Any], list[float]]] = {}
    for told in rounds:
        for figure in told["figures"]:
            found.setdefault(figure["key"], (figure, []))[1].append(float(figure["value"]))
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0 if both versions were measured, whatever the figures say."""
    parser = argparse.ArgumentParser(prog="benchmarks/paired", description="Compare this checkout with another one.")
    parser.add_argument("before", metavar="CHECKOUT", type=Path, help="the version to compare with, ready to run")
    parser.add_argument("--rounds", type=int, default=2, help="how often each is measured (default: 2)")
    parser.add_argument("--quick", action="store_true", help="the smallest sizes: shows that it works")
    parser.add_argument("--write-docs", action="store_true", help=f"put both tables into docs/{_DOCUMENT.name}")
    given = parser.parse_args(arguments)
    if not (given.before / "benchmarks" / "run").is_file():
        parser.error(f"there is no benchmarks/run in {given.before}")
    after = Path(__file__).resolve().parents[1]
    rounds: dict[Path, list[Mapping[str, Any]]] = {given.before.resolve(): [], after: []}
    if len(rounds) == 1:
        parser.error("that is this checkout")
    with tempfile.TemporaryDirectory(prefix="lakeflight-paired-") as folder:
        for turn in range(given.rounds):
            for checkout in list(rounds)[:: -1 if turn % 2 else 1]:
                print(f"round {turn + 1} of {given.rounds}: {checkout.name}", file=sys.stderr, flush=True)
                told = Path(folder) / "figures.json"
                command = [str(checkout / "benchmarks" / "run"), "--json", str(told)] + ["--quick"] * given.quick
                if given.write_docs and checkout == after:
                    command.append("--write-docs")  # its own table is of the last of these rounds
                subprocess.run(command, cwd=checkout, check=True, stdout=subprocess.DEVNULL)
                rounds[checkout].append(json.loads(told.read_text()))
    text = aligned([_HEADINGS, *(pair.cells() for pair in compare(*rounds.values()))])
    print(text)
    if given.write_docs:
        heading = (
            f"{given.rounds} rounds of each, in turn, on {rounds[after][0]['machine']}; {rounds[after][0]['input']}"
        )
        write_into(_DOCUMENT, f"{heading}.\n\n{text}", BEGINS, ENDS)
    return 0


if __name__ == "__main__":
    sys.exit(main())
