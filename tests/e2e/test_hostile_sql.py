"""Whatever SQL a reader sends: nothing leaks, nothing changes, the server lives, and others get their right answers.

Every statement goes to a real server with a statement timeout of two seconds and one worker, so that a worker which does
not come free shows at once. Files with a canary lie where the statements reach for them.
"""

from __future__ import annotations

import hashlib
import re
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import duckdb
import psutil
import pyarrow as pa
import pyarrow.flight as flight
import pyarrow.parquet as pq
import pytest

from tests.support.flight_calls import raw_flight
from tests.support.hostile_sql import ATTACKS, BOMBS, HARMLESS, RUNAWAYS, RUNAWAYS_OF_EVERY_RUN, fill
from tests.support.programs import Program
from tests.support.serving import Server, serving
from tests.support.sizes import size

STATEMENT_TIMEOUT_S = 2
FREE_AFTER_S = 4.0
BUSY_MACHINE_S = 1.5  # on top, where tests share their cores
CANARY = "canary-6f1e9a"
CANARY_OF_THE_ENVIRONMENT = "canary-c77b02"
_PATH = re.compile(r"(?:/[\w.=%+@-]+){2,}")
_SIGNS_OF_INSIDES = ("Traceback", "site-packages", ".py:", 'File "', "duckdb.", "pyarrow.lib")


@dataclass
class Siege:
    """A server, its good client's data, and what attackers would like to read or change."""

    server: Server
    mine: Program
    other: Program
    outside: Path
    partition: Path
    other_partition: Path
    canaries: tuple[str, ...]
    pids: frozenset[int] = frozenset()
    before: dict[str, str] = field(default_factory=dict)

    def fill(self, statement: str) -> str:
        return fill(
            statement,
            secret=str(self.outside / "secret"),
            partition=str(self.partition),
            other=str(self.other_partition),
            folder=str(self.other_partition.parent),
        )

    @property
    def store(self) -> Path:
        return self.server.data_dir / "store"

    def files(self) -> dict[str, str]:
        """Every file that somebody might have changed, with its digest."""
        return {
            str(path): hashlib.sha256(path.read_bytes()).hexdigest()
            for folder in (self.store, self.outside)
            for path in sorted(folder.rglob("*"))
            if path.is_file()
        }

    def lasting_pids(self) -> frozenset[int]:
        """The server and the processes that must not be replaced: all of its own but the workers."""
        root = psutil.Process(self.server.process.pid)
        return frozenset({root.pid, *(child.pid for child in root.children() if _is_ours(child))})

    @property
    def good_question(self) -> str:
        return f"SELECT count(*) AS n, min(msg) AS first FROM view_instance('log_entries', '{self.mine.process_id}')"

    @property
    def good_answer(self) -> list[dict[str, Any]]:
        return [{"n": self.mine.logged, "first": "line 0"}]

    def assert_silent(self, text: str, statement: str) -> None:
        """No canary and no path in a text, but those that the attacker wrote."""
        for canary in self.canaries:
            assert canary not in text, f"{statement!r} leaks {canary}: {text[:500]}"
        for path in _PATH.findall(text):
            assert path.lower() in statement.lower(), f"{statement!r} shows {path}: {text[:500]}"

    def assert_contained(self, ask: Callable[[str], pa.Table], statement: str) -> bool:
        """A statement may fail or answer; whether it answered. Neither may tell anything."""
        try:
            table = ask(statement)
        except Exception as error:
            text = str(error)
            self.assert_silent(text, statement)
            for sign in _SIGNS_OF_INSIDES:
                assert sign not in text, f"{statement!r} shows {sign}: {text[:500]}"
            return False
        self.assert_silent(str(table.to_pylist()), statement)
        return True


def _is_ours(process: psutil.Process) -> bool:
    return "server.ingestion" in process.cmdline() or "server.workers.zygote" in process.cmdline()


@pytest.fixture(scope="module")
def siege(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Siege]:
    outside = tmp_path_factory.mktemp("outside")
    _plant(outside)
    environment = {
        "LAKEFLIGHT_STATEMENT_TIMEOUT_S": str(STATEMENT_TIMEOUT_S),
        "LAKEFLIGHT_QUERY_WORKERS": "1",
        "LAKEFLIGHT_MAINTENANCE_INTERVAL_S": "86400",
        "LAKEFLIGHT_CANARY": CANARY_OF_THE_ENVIRONMENT,
        "SECRET_CANARY": CANARY_OF_THE_ENVIRONMENT,
    }
    with serving(tmp_path_factory.mktemp("besieged"), environment=environment) as server:
        mine, other = Program(), Program()
        for program in (mine, other):
            server.replay([*program.registration(), program.log_block(), program.thread_block()])
            server.query(f"SELECT count(*) FROM view_instance('log_entries', '{program.process_id}')")
            server.query(f"SELECT count(*) FROM view_instance('thread_spans', '{program.thread_stream}')")
        server.query("SELECT count(*) FROM log_entries")  # what attacks may freshen is fresh
        server.query("SELECT count(*) FROM measures")
        found = Siege(
            server=server,
            mine=mine,
            other=other,
            outside=outside,
            partition=_partition(server, mine.process_id),
            other_partition=_partition(server, other.process_id),
            canaries=(CANARY, CANARY_OF_THE_ENVIRONMENT, other.log_stream),
        )
        found.pids, found.before = found.lasting_pids(), found.files()
        yield found


def _plant(outside: Path) -> None:
    """A secret of every kind that the engine could read."""
    (outside / "secret").write_text(f"{CANARY}\n")
    (outside / "secret.csv").write_text(f"a,b\n{CANARY},1\n")
    (outside / "secret.json").write_text(f'{{"a": "{CANARY}"}}\n')
    pq.write_table(pa.table({"a": [CANARY]}), outside / "secret.parquet")
    with duckdb.connect(str(outside / "secret.db")) as database:
        database.execute(f"CREATE TABLE t AS SELECT '{CANARY}' AS a")


def _partition(server: Server, instance: str) -> Path:
    found = [path for path in (server.data_dir / "store").rglob("*.parquet") if instance in str(path)]
    assert len(found) == 1
    return found[0]


@pytest.fixture(autouse=True)
def unharmed(siege: Siege) -> Iterator[None]:
    """Around each test: a good client asks all the time; afterwards nothing has changed and everybody lives."""
    stop = threading.Event()
    wrong: list[object] = []
    asked = [0]

    def keep_asking() -> None:
        with siege.server.connect() as connection, connection.cursor() as cursor:
            while True:
                try:
                    cursor.execute(siege.good_question)
                    rows = cursor.fetch_arrow_table().to_pylist()
                except Exception as error:
                    wrong.append(error)
                    return
                asked[0] += 1
                if rows != siege.good_answer:
                    wrong.append(rows)
                if stop.wait(0.1):
                    return

    good_client = threading.Thread(target=keep_asking)
    good_client.start()
    yield
    stop.set()
    good_client.join()
    assert wrong == [], "the good client was disturbed"
    assert asked[0] > 0
    assert siege.server.process.poll() is None
    assert siege.lasting_pids() == siege.pids
    after = siege.files()
    assert {path: digest for path, digest in after.items() if siege.before.get(path) != digest} == {}
    assert after.keys() == siege.before.keys()


def wrapped(attack: str, siege: Siege) -> dict[str, str]:
    """The attack where a statement could hide it, beside a relation whose file the engine may open."""
    return {
        "as it is": attack,
        "in a CTE": f"WITH x AS ({attack}) SELECT * FROM x",
        "in a subquery": f"SELECT * FROM ({attack}) AS t",
        "beside a partition": f"SELECT ({attack}), * FROM view_instance('log_entries', '{siege.mine.process_id}')",
        "under EXPLAIN ANALYZE": f"EXPLAIN ANALYZE {attack}",
    }


@pytest.mark.parametrize(
    "form", ["as it is", "in a CTE", "in a subquery", "beside a partition", "under EXPLAIN ANALYZE"]
)
def test_every_attack_is_refused_by_its_ticket_alone(siege: Siege, form: str) -> None:
    answered = []
    with raw_flight(siege.server.flight) as client:
        for attack in ATTACKS:
            statement = wrapped(siege.fill(attack), siege)[form]
            if siege.assert_contained(client.get, statement):
                answered.append(statement)
    assert answered == []


def test_every_attack_is_refused_as_a_prepared_statement(siege: Siege) -> None:
    answered = []
    with siege.server.connect() as connection, connection.cursor() as cursor:

        def ask(statement: str) -> pa.Table:
            cursor.execute(statement)
            return cursor.fetch_arrow_table()

        for attack in ATTACKS:
            statement = siege.fill(attack)
            if siege.assert_contained(ask, statement):
                answered.append(statement)
    assert answered == []


@pytest.mark.parametrize(
    ("sql", "may_answer"),
    [
        ("SELECT ? AS text", True),
        ("SELECT count(*) FROM log_entries WHERE msg = ?", True),
        ("SELECT * FROM view_instance('log_entries', ?)", False),
        ("SELECT * FROM read_text(?)", False),
        ("SELECT * FROM query(?)", False),
        ("SELECT * FROM query_table(?)", False),
    ],
)
def test_attacks_as_values_of_parameters_are_only_text(siege: Siege, sql: str, may_answer: bool) -> None:
    values = [siege.fill(attack) for attack in ATTACKS[:: size(12, 1)]]
    values += [str(siege.outside / "secret.csv"), str(siege.partition), "'; DROP VIEW log_entries; --", "../../x", "\0"]
    with siege.server.connect() as connection, connection.cursor() as cursor:
        for value in values:

            def ask(statement: str, value: str = value) -> pa.Table:
                cursor.execute(sql, (value,))
                return cursor.fetch_arrow_table()

            answered = siege.assert_contained(ask, f"{sql} {value}")

            assert answered == may_answer, (sql, value)


def test_what_looks_alike_and_harms_nobody_is_answered(siege: Siege) -> None:
    siege = replace(siege, canaries=(CANARY, CANARY_OF_THE_ENVIRONMENT))  # the global tables show every stream
    with raw_flight(siege.server.flight) as client:
        for statement in HARMLESS:
            assert client.get(statement).num_rows > 0, statement


@pytest.mark.parametrize(
    "sql", ["SELECT count(*) FROM range(1000000000000)", "SELECT len(list_distinct(range(20000000)))"]
)
def test_a_statement_past_its_time_is_told_so(siege: Siege, sql: str) -> None:
    """Planning counts as well: constants are computed there."""
    with raw_flight(siege.server.flight) as client:
        with pytest.raises(flight.FlightTimedOutError, match=f"took more than {STATEMENT_TIMEOUT_S} s"):
            client.get(sql)


def test_statements_that_crash_or_wedge_an_engine_do_not_get_in(siege: Siege) -> None:
    with raw_flight(siege.server.flight) as client:
        for bomb in BOMBS:
            begun = time.monotonic()
            siege.assert_contained(client.get, siege.fill(bomb))
            assert client.get(siege.good_question).to_pylist() == siege.good_answer
            assert time.monotonic() - begun < FREE_AFTER_S + BUSY_MACHINE_S, bomb[:200]


@pytest.mark.parametrize("number", range(size(RUNAWAYS_OF_EVERY_RUN, len(RUNAWAYS))))
def test_a_runaway_frees_its_worker_within_seconds(siege: Siege, number: int) -> None:
    """There is one worker, so a good answer means that it is free or replaced."""
    runaway = siege.fill(RUNAWAYS[number])
    with raw_flight(siege.server.flight) as client:
        begun = time.monotonic()

        siege.assert_contained(_until_the_end(client.reader), runaway)

        assert client.get(siege.good_question).to_pylist() == siege.good_answer
        assert time.monotonic() - begun < FREE_AFTER_S + BUSY_MACHINE_S


def _until_the_end(open_reader: Callable[[str], Any]) -> Callable[[str], pa.Table]:
    """Reads a stream to its end and keeps only the last rows: runaways may be long."""

    def ask(statement: str) -> pa.Table:
        reader = open_reader(statement)
        last = pa.table({})
        for chunk in reader:
            last = pa.Table.from_batches([chunk.data.slice(0, 10)])
        return last

    return ask
