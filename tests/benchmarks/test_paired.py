"""Two versions beside each other: what counts as worse, and what the table says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from benchmarks.figures import write_into
from benchmarks.paired import BEGINS, ENDS, Pair, compare, main
from tests.support.fixtures import ROOT


def told(**values: tuple[float, str]) -> dict[str, Any]:
    figures = [{"key": key, "what": key, "value": value, "unit": unit} for key, (value, unit) in values.items()]
    return {"figures": figures}


def test_each_figure_is_the_median_of_its_rounds_and_new_ones_are_left_out() -> None:
    before = [told(time=(value, "ms"), gone=(1, "s")) for value in (1.0, 9.0, 3.0)]
    after = [told(new=(1, "s"), time=(2.0, "ms"))]

    assert compare(before, after) == [Pair("time", "ms", 3.0, 2.0)]


@pytest.mark.parametrize(
    ("unit", "before", "after", "is_worse"),
    [
        ("ms", 10, 10.4, False),
        ("ms", 10, 11, True),
        ("ms", 10, 5, False),
        ("/s", 100, 97, False),
        ("/s", 100, 90, True),
        ("M events/s", 100, 200, False),
        ("", 0, 0, False),
        ("", 0, 1, True),
    ],
)
def test_worse_is_more_time_or_fewer_a_second_by_more_than_rounds_differ(
    unit: str, before: float, after: float, is_worse: bool
) -> None:
    pair = Pair("it", unit, before, after)

    assert pair.is_worse == is_worse
    assert pair.cells()[3].startswith("**") == is_worse


def test_the_page_has_a_place_for_the_comparison(tmp_path: Path) -> None:
    copy = tmp_path / "page.md"
    copy.write_text((ROOT / "docs" / "benchmarks.md").read_text())

    write_into(copy, "a table", BEGINS, ENDS)

    assert f"{BEGINS}\n\na table\n\n{ENDS}" in copy.read_text()


@pytest.mark.parametrize(("folder", "said"), [("absent", "no benchmarks/run in"), (".", "that is this checkout")])
def test_it_compares_with_another_checkout_only(
    folder: str, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)

    with pytest.raises(SystemExit, match="2"):
        main([folder])

    assert said in capsys.readouterr().err
