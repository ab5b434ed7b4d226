"""The Arrow Flight SQL JDBC driver, called as DBeaver and DataGrip call it: grids, parameters, metadata, pools, cancel."""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.support.fixtures import native_cases
from tests.support.java import with_packages
from tests.support.serving import Server

SOURCE = Path(__file__).parent / "jdbc"
pytestmark = [pytest.mark.needs("java"), pytest.mark.needs("mvn"), pytest.mark.needs("registry")]


@dataclass
class Driver:
    """A Java process with one connection."""

    process: subprocess.Popen[str]

    def ask(self, *words: str) -> Any:
        """What the driver answers, or the error that it raises as ``{"error": …}``."""
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write("\t".join(words) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def rows(self, *words: str) -> list[list[str | None]]:
        answer = self.ask(*words)
        assert "rows" in answer, answer
        found: list[list[str | None]] = answer["rows"]
        return found

    def prepared(self, sql: str, *values: str) -> str | None:
        """The first value of the first row."""
        return self.rows("prepared", sql, *values)[0][0]


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the program with the driver."""
    return with_packages(SOURCE, tmp_path_factory.mktemp("jdbc") / "program")


@contextlib.contextmanager
def connected(server: Server, program: Path, properties: str, zone: str = "UTC") -> Iterator[Driver]:
    url = f"jdbc:arrow-flight-sql://{urlsplit(server.flight).netloc}/?useEncryption=false{properties}"
    java = ["java", "--add-opens=java.base/java.nio=ALL-UNNAMED", f"-Duser.timezone={zone}", "-cp", "lib/*"]
    process = subprocess.Popen(
        [*java, "Ask.java", url],
        cwd=program,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        encoding="utf-8",
    )
    with process:
        assert process.stdin is not None and process.stdout is not None
        assert json.loads(process.stdout.readline()) == {"connected": True}
        yield Driver(process)
        process.stdin.close()
        assert process.wait(30) == 0


@pytest.fixture(scope="module")
def driver(server: Server, program: Path) -> Iterator[Driver]:
    """Of a machine that is not in UTC, with the properties that docs/clients.md gives."""
    for case in native_cases():
        server.replay(case.requests)
    with connected(server, program, "&timeZone=UTC", zone="Europe/Berlin") as driver:
        yield driver


def tables(driver: Driver) -> list[str]:
    return [str(row[2]) for row in driver.rows("metadata", "tables", "%")]


def test_the_grid_of_every_table_shows_every_value(driver: Driver) -> None:
    names = tables(driver)

    assert {"log_entries", "measures", "processes", "streams", "blocks"} <= set(names)
    for name in names:
        answer = driver.ask("query", f"SELECT * FROM {name} LIMIT 20")
        assert "rows" in answer, (name, answer)
        described = [row[3] for row in driver.rows("metadata", "columns", name)]
        twice = 1 if answer["rows"] else 2  # of a result without rows the driver names every column twice
        assert answer["columns"] == described * twice, name


def test_a_time_is_shown_as_it_is_in_utc(server: Server, driver: Driver) -> None:
    expected = server.query("SELECT CAST(min(time) AS VARCHAR) AS t FROM log_entries").column("t")[0].as_py()

    shown = driver.rows("query", "SELECT min(time) AS t FROM log_entries")[0][0]

    assert shown == expected


@pytest.mark.parametrize(
    ("sql", "value", "expected"),
    [
        ("SELECT CAST(? AS BIGINT) AS v", "int:5", "5"),
        ("SELECT CAST(? AS BIGINT) AS v", "long:9007199254740993", "9007199254740993"),
        ("SELECT CAST(? AS INTEGER) AS v", "short:5", "5"),
        ("SELECT CAST(? AS INTEGER) AS v", "byte:5", "5"),
        ("SELECT CAST(? AS DOUBLE) AS v", "double:2.5", "2.5"),
        ("SELECT CAST(? AS DOUBLE) AS v", "float:2.5", "2.5"),
        ("SELECT CAST(? AS VARCHAR) AS v", "string:x'y", "x'y"),
        ("SELECT ? AS v", "object:text", "text"),
        ("SELECT CAST(? AS BOOLEAN) AS v", "boolean:true", "true"),
        ("SELECT ? * 2 AS v", "double:1.5", "3.0"),
        ("SELECT ? * 2 AS v", "int:3", "6.0"),
        ("SELECT 1 + ? AS v", "object_double:1.5", "2.5"),
        ("SELECT ? > 2 AS v", "double:2.5", "true"),
        ("SELECT ? BETWEEN 1 AND 2 AS v", "double:2.5", "false"),
        ("SELECT ? IN (1, 2) AS v", "double:1.5", "false"),
        ("SELECT count(*) FROM range(?)", "int:7", "7"),
        ("SELECT count(*) FROM range(100) t(n) WHERE n < ?", "object_int:5", "5"),
        ("SELECT n FROM range(100) t(n) ORDER BY n LIMIT 1 OFFSET ?", "int:7", "7"),
        ("SELECT msg FROM (SELECT 'abc' AS msg) WHERE msg LIKE ?", "string:a%", "abc"),
        ("SELECT epoch_ms(CAST(? AS TIMESTAMP_NS)) AS v", "timestamp:2024-01-31T12:00:00.123Z", "1706702400123"),
        ("SELECT epoch_ms(CAST(? AS TIMESTAMPTZ)) AS v", "timestamp:2024-01-31T12:00:00.123Z", "1706702400123"),
        ("SELECT epoch_ms(CAST(? AS TIMESTAMP)) AS v", "timestamp_utc:2024-07-31T12:00:00Z", "1722427200000"),
        ("SELECT epoch_ms(CAST(? AS TIMESTAMP)) AS v", "object_timestamp:1969-12-31T23:59:59.999Z", "-1"),
    ],
)
def test_a_parameter_arrives_as_it_was_set(driver: Driver, sql: str, value: str, expected: str) -> None:
    assert driver.prepared(sql, value) == expected


@pytest.mark.parametrize("kind", ["12", "4", "-5", "8", "93"])
def test_null_is_null_in_every_type(driver: Driver, kind: str) -> None:
    assert driver.prepared("SELECT count(*) FROM log_entries WHERE level = ?", f"null:{kind}") == "0"
    assert driver.prepared("SELECT count(*) FROM log_entries WHERE time = ?", f"null:{kind}") == "0"


def test_a_time_that_is_set_compares_with_the_instants_of_the_rows(server: Server, driver: Driver) -> None:
    sql = "SELECT count(*) FROM log_entries WHERE time {} ?"
    total = server.query("SELECT count(*) AS n FROM log_entries").column("n")[0].as_py()
    split = "2026-09-21T14:28:30Z"
    before = server.query(f"SELECT count(*) AS n FROM log_entries WHERE time < '{split}'").column("n")[0].as_py()

    assert 0 < before < total
    assert driver.prepared(sql.format("<"), f"timestamp:{split}") == str(before)
    assert driver.prepared(sql.format(">="), f"timestamp:{split}") == str(total - before)
    assert driver.prepared(sql.format("<"), "timestamp:2000-01-01T00:00:00Z") == "0"


@pytest.mark.parametrize(
    "sql",
    ["SET TimeZone='UTC'", "USE lakeflight", "USE main", "SET schema='main'", "BEGIN", "BEGIN TRANSACTION", "COMMIT", "ROLLBACK"],
)  # fmt: skip
def test_what_a_console_sends_beside_select_succeeds(driver: Driver, sql: str) -> None:
    assert "error" not in driver.ask("execute", sql)


def test_what_a_console_lists_is_listed(driver: Driver) -> None:
    assert driver.rows("execute", "SHOW DATABASES") == [["lakeflight"]]
    assert ["lakeflight", "main"] in driver.rows("execute", "SHOW SCHEMAS")
    assert [row[2] for row in driver.rows("execute", "SHOW ALL TABLES")] == tables(driver)
    assert [row[2] for row in driver.rows("execute", "SHOW TABLES")] == tables(driver)
    described = [row[3] for row in driver.rows("metadata", "columns", "measures")]
    assert [row[1] for row in driver.rows("execute", "PRAGMA table_info('measures')")] == described


@pytest.mark.parametrize(
    ("sql", "said"),
    [
        ("SET TimeZone='Europe/Berlin'", "times are UTC"),
        ("USE other", "the only catalog is lakeflight"),
        ("DELETE FROM log_entries", "only SELECT statements are allowed, not DELETE"),
        ("CREATE TABLE t (a INT)", "only SELECT statements are allowed, not CREATE"),
        ("SELECT nothing FROM log_entries", "nothing"),
    ],
)
def test_what_is_refused_is_refused_with_a_sentence(driver: Driver, sql: str, said: str) -> None:
    error = driver.ask("execute", sql)["error"]

    assert error.startswith("SQLException") and said in error
    assert "Traceback" not in error


def test_the_getters_of_the_metadata_answer(driver: Driver) -> None:
    assert driver.ask("connection", "every_getter")["value"].endswith("called, failed: []")
    for getter in ("catalogs", "schemas", "table_types", "type_info", "functions", "procedures"):
        driver.rows("metadata", getter)
    for getter in ("primary_keys", "imported_keys", "exported_keys", "index_info"):
        assert driver.rows("metadata", getter, "log_entries") == []
    assert driver.rows("metadata", "catalogs") == [["lakeflight"]]
    assert driver.rows("metadata", "schemas") == [["main", "lakeflight"]]


def test_the_modes_of_a_connection_are_taken(driver: Driver) -> None:
    values = {
        "valid": "true",
        "product": "lakeflight",
        "read_only": "true",
        "transactions": "false",
        "manual_commit": "true",
        "set_read_only": "true",
    }
    for call, value in values.items():
        assert driver.ask("connection", call) == {"value": value}, call
    assert driver.ask("connection", "set_catalog", "lakeflight") == {"value": "lakeflight"}
    assert driver.ask("connection", "set_schema", "main") == {"value": "main"}


def test_a_statement_is_cancelled(driver: Driver) -> None:
    endless = "SELECT sum(a.range * b.range) FROM range(1000000) a, range(1000000) b"

    answer = driver.ask("cancel", endless, "300")

    assert "ancel" in answer["value"]
    assert driver.rows("query", "SELECT 1 AS a") == [["1"]]


def test_a_pool_of_connections_is_served(driver: Driver) -> None:
    assert (
        driver.ask("pool", "SELECT count(*) FROM log_entries", "8")["values"]
        == [driver.rows("query", "SELECT count(*) FROM log_entries")[0][0]] * 8
    )


def test_the_types_of_other_clients_are_sent_to_who_asks_for_them(server: Server, program: Path) -> None:
    with connected(server, program, "&x-output-profile=default") as driver:
        assert "not implemented" in driver.ask("query", "SELECT now() AS t")["error"]


def test_a_day_that_is_set_is_that_day(server: Server, program: Path) -> None:
    """The driver sends its midnight where it runs, so it has to run in the zone that the URL gives."""
    with connected(server, program, "&timeZone=UTC") as driver:
        assert driver.prepared("SELECT CAST(? AS DATE) AS v", "date:2024-01-31") == "2024-01-31"


def test_the_url_may_hold_a_range_and_a_limit(server: Server, program: Path) -> None:
    with connected(server, program, "&limit=3") as driver:
        assert len(driver.rows("query", "SELECT * FROM range(100)")) == 3
