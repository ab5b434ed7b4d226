"""A figure, the limit that it is held against, and the table of all. Measures nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

TABLE_BEGINS: Final = "<!-- table: written by benchmarks/run --write-docs -->"
TABLE_ENDS: Final = "<!-- end of table -->"
_HEADINGS: Final = ("", "measured", "limit, same run", "ratio", "target", "met", "the original")


@dataclass(frozen=True, slots=True)
class Limit:
    """What the machine does with nothing in the way, in the figure's unit."""

    value: float
    what: str


@dataclass(frozen=True, slots=True)
class Target:
    """A promise, and whether this run kept it."""

    text: str
    met: bool


def at_most(value: float, bound: float, text: str) -> Target:
    return Target(f"≤ {text}", value <= bound)


def at_least(value: float, bound: float, text: str) -> Target:
    return Target(f"≥ {text}", value >= bound)


@dataclass(frozen=True, slots=True)
class Figure:
    """One line. ``series`` are the figure at growing sizes, its last is ``value``; ``spread`` that of the rounds."""

    key: str
    what: str
    value: float
    unit: str
    spread: tuple[float, float] | None = None
    series: tuple[float, ...] = ()
    limit: Limit | None = None
    targets: tuple[Target, ...] = ()
    original: float | None = None

    @property
    def ratio(self) -> float | None:
        return None if self.limit is None or self.limit.value == 0 else self.value / self.limit.value

    def cells(self) -> tuple[str, ...]:
        measured = " → ".join(map(number, self.series or (self.value,)))
        spread = f" ({number(self.spread[0])}–{number(self.spread[1])})" if self.spread else ""
        limit = "" if self.limit is None else f"{number(self.limit.value)}: {self.limit.what}"
        return (
            self.what,
            f"{measured} {self.unit}{spread}".strip(),
            limit,
            "" if self.ratio is None else number(self.ratio),
            "; ".join(target.text for target in self.targets),
            "" if not self.targets else "yes" if all(target.met for target in self.targets) else "**no**",
            "" if self.original is None else number(self.original),
        )

    def as_dict(self) -> dict[str, Any]:
        return {
            "key": self.key,
            "what": self.what,
            "value": self.value,
            "unit": self.unit,
            "spread": self.spread,
            "series": self.series,
            "limit": None if self.limit is None else {"value": self.limit.value, "what": self.limit.what},
            "ratio": self.ratio,
            "targets": [{"text": target.text, "met": target.met} for target in self.targets],
            "original": self.original,
        }


def table(figures: Sequence[Figure]) -> str:
    """Markdown whose columns line up, so that it can be read in a terminal too."""
    return aligned([_HEADINGS, *(figure.cells() for figure in figures)])


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; its first row is the headings."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in rows
    ]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(lines)


def write_into(document: Path, text: str, begins: str = TABLE_BEGINS, ends: str = TABLE_ENDS) -> None:
    """Put ``text`` between the two markers of ``document``.

    Raises:
        ValueError: The markers are not there, once each and in order.
    """
    before, begin, rest = document.read_text().partition(begins)
    _, end, after = rest.partition(ends)
    if not begin or not end:
        raise ValueError(f"{document.name} has no place for the table: {begins} … {ends}")
    document.write_text(f"{before}{begin}\n\n{text}\n\n{end}{after}")


def number(value: float) -> str:
    """Three digits that count, no exponent."""
    if value == 0:
        return "0"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.2f}" if abs(value) < 10 else f"{value:.1f}"
