"""The published crates of micromegas as a sender: every line, metric, span and image of a Rust program is there, row by row."""

from __future__ import annotations

import json
import os
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from tests.support.fixtures import rows_of
from tests.support.serving import Server

SOURCE = Path(__file__).parent / "micromegas_rust"
NUMBER = 240
pytestmark = [pytest.mark.needs("cargo"), pytest.mark.needs("registry")]


RUST_MIN = (1, 85)  # the crates are of its edition


@pytest.fixture(scope="module")
def process(server: Server, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The id of a process that has sent everything and is gone."""
    said = subprocess.run(["cargo", "--version"], capture_output=True, text=True, check=True).stdout
    if tuple(map(int, said.split()[1].split(".")[:2])) < RUST_MIN:
        pytest.skip(f"the crates need Rust 1.85, here is {said.strip()}")
    target = Path(os.environ.get("CARGO_TARGET_DIR") or tmp_path_factory.mktemp("micromegas-rust"))
    build = ["cargo", "build", "--locked", "--quiet", "--target-dir", str(target)]
    subprocess.run(build, cwd=SOURCE, check=True, timeout=580)
    ran = subprocess.run(
        [str(target / "debug" / "sender"), server.http, str(NUMBER)], capture_output=True, text=True, timeout=120
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.strip()


def test_the_process_is_who_it_says(server: Server, process: str) -> None:
    (row,) = rows_of(
        server.query(
            "SELECT exe, tsc_frequency, property_get(properties, 'flavour') AS flavour FROM processes WHERE process_id = ?",
            [process],
        )
    )
    assert Path(row["exe"]).name == "sender"
    assert row["flavour"] == "ü😀"
    tags = server.query("SELECT tags FROM streams WHERE process_id = ?", [process]).column(0).to_pylist()
    assert {tag for of_stream in tags for tag in of_stream} >= {"log", "metrics", "cpu", "image"}
    assert server.query("SELECT count(*) FROM quarantined_blocks").column(0).to_pylist() == [0]


def test_lines(server: Server, process: str) -> None:
    found = rows_of(
        server.query(
            f"""
            SELECT level, msg, properties FROM view_instance('log_entries', '{process}') WHERE target = 'shop' ORDER BY time
            """
        )
    )

    assert [(row["level"], row["msg"]) for row in found] == [
        *((number % 6 + 1, f"line {number} 😀") for number in range(NUMBER)),
        (4, "a constant"),
    ]
    for number, row in enumerate(found[:-1]):
        expected = {"order": str(number), "kind": "plain"} if number % 6 == 2 else {}
        assert json.loads(row["properties"]) == expected


def test_metrics(server: Server, process: str) -> None:
    found = rows_of(
        server.query(
            f"""
            SELECT name, unit, value, properties FROM view_instance('measures', '{process}') WHERE target = 'shop'
            """
        )
    )

    named = Counter(row["name"] for row in found)
    assert named == {"queue": NUMBER, "wait": NUMBER, "most": 1, "at run time": 1}
    values = {name: sorted(row["value"] for row in found if row["name"] == name) for name in named}
    assert values["queue"] == [float(number) for number in range(NUMBER)]
    assert values["wait"] == [number + 0.25 for number in range(NUMBER)]
    assert values["most"] == [float((1 << 64) - 1)]
    assert values["at run time"] == [1.0]
    for row in found:
        if row["name"] == "wait":
            assert (row["unit"], json.loads(row["properties"])) == ("ms", {"country": "ca"})


def test_spans_of_a_thread_are_its_call_tree(server: Server, process: str) -> None:
    streams = server.query(
        "SELECT stream_id FROM streams WHERE process_id = ? AND array_has(tags, 'cpu')", [process]
    ).column(0)
    trees = [
        rows_of(server.query(f"SELECT * FROM view_instance('thread_spans', '{stream}') ORDER BY id"))
        for stream in streams.to_pylist()
    ]
    (tree,) = [rows for rows in trees if any(row["name"].endswith("outer") for row in rows)]
    names = {row["id"]: row["name"].rsplit("::", 1)[-1] for row in tree}

    paths = [(names.get(row["parent"], ""), names[row["id"]], row["depth"]) for row in tree]

    root = tree[0]["depth"] if names[tree[0]["id"]] == "outer" else tree[0]["depth"] + 1
    expected = []
    for number in range(NUMBER):
        expected += [
            ("outer", "inner", root + 1),
            ("inner", "even" if number % 2 == 0 else "odd", root + 2),
            ("outer", f"of {number}", root + 1),
            (f"of {number}", "told", root + 2),
            (f"of {number}", "told by name", root + 2),
        ]
    assert [path for path in paths if path[1] != "outer" and path[2] > root] == expected
    assert sum(name == "outer" for name in names.values()) == NUMBER
    assert all(row["begin"] <= row["end"] for row in tree)


def test_what_a_span_was_told_is_in_its_block(server: Server, process: str) -> None:
    blocks = server.query(
        "SELECT block_id FROM blocks WHERE process_id = ? AND array_has(\"streams.tags\", 'cpu')", [process]
    ).column(0)
    told = []
    for block in blocks.to_pylist():
        found = server.query(f"SELECT value FROM parse_block('{block}') WHERE type_name = 'TaggedEndThreadSpanEvent'")
        told += [json.loads(value)["properties"] for value in found.column(0).to_pylist()]

    assert sorted(told, key=lambda one: int(one["rows"])) == [
        {"__type": "property_set", "region": "eu", "rows": str(number)} for number in range(NUMBER)
    ]


def test_spans_of_tasks_are_pairs_whatever_threads_they_were_on(server: Server, process: str) -> None:
    rows = rows_of(
        server.query(
            f"""
            SELECT name, event_type, span_id, parent_span_id, depth FROM view_instance('async_events', '{process}')
            """
        )
    )

    begun = {row["span_id"]: row for row in rows if row["event_type"] == "begin"}
    ended = {row["span_id"] for row in rows if row["event_type"] == "end"}
    assert begun.keys() == ended
    tasks = {span for span, row in begun.items() if row["name"] == "task"}
    steps = [row for row in begun.values() if row["name"].rsplit("::", 1)[-1] == "step"]
    assert (len(tasks), len(steps)) == (NUMBER, NUMBER)
    assert {row["parent_span_id"] for row in steps} == tasks
    waits = {row["name"]: row["parent_span_id"] for row in begun.values() if row["name"].startswith("wait ")}
    assert waits.keys() == {f"wait {number}" for number in range(NUMBER)}
    assert set(waits.values()) == tasks


def test_an_image(server: Server, process: str) -> None:
    rows = rows_of(server.query(f"SELECT name, format, data FROM view_instance('images', '{process}')"))

    assert rows == [{"name": "dot", "format": "png", "data": b"\x89PNG\xff"}]
