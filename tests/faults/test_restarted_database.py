"""Postgres is restarted while programs send and somebody asks: no wrong answer, no block lost or doubled, and only trouble that
passes when it is tried again."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import adbc_driver_manager

from server.embedded_postgres import EmbeddedPostgres
from tests.support.programs import Program
from tests.support.serving import Server, serving
from tests.support.sizes import SEED, size

RESTARTS = size(2, 20)
RECOVERY_S_MAX = 30.0  # on a machine that others use as well; what it took is printed
LINES = 3  # of a block


class Traffic:
    """One sender, which delivers again until it is acknowledged, and one reader."""

    def __init__(self, server: Server) -> None:
        self.server, self.program = server, Program()
        self.acknowledged = 0  # lines, which are numbered from 0
        self.answered_s = 0.0  # when the last right answer came
        self.acknowledged_s = 0.0
        self.troubles: Counter[str] = Counter()
        self.done = threading.Event()
        server.replay(self.program.registration())

    def send(self) -> None:
        while not self.done.is_set():
            block = self.program.log_block(LINES)
            while (status := self.server.post(block.path, block.body)) != 200:
                assert status == 503, "a sender may always try again"
                self.troubles["503"] += 1
                time.sleep(0.02)
            self.acknowledged += LINES
            self.acknowledged_s = time.monotonic()
            time.sleep(0.01)

    def ask(self) -> None:
        while not self.done.is_set():
            self._ask_once()

    def _ask_once(self) -> None:
        before = self.acknowledged
        try:
            lines = self.lines()
        except adbc_driver_manager.Error as error:
            assert "Unavailable" in str(error), error
            self.troubles["UNAVAILABLE"] += 1
            time.sleep(0.02)
            return
        assert lines == Counter(f"line {number}" for number in range(len(lines)))
        assert len(lines) >= before, "what was acknowledged before is in the answer"
        self.answered_s = time.monotonic()

    def lines(self) -> Counter[str]:
        answer = self.server.query(f"SELECT msg FROM view_instance('log_entries', '{self.program.process_id}')")
        return Counter(answer.column(0).to_pylist())


def test_a_restart_of_the_database_costs_nobody_more_than_another_try(tmp_path: Path) -> None:
    print(f"seed {SEED}")
    chance = random.Random(SEED)
    postgres = EmbeddedPostgres(tmp_path / "postgres")
    asyncio.run(postgres.start())
    try:
        shared = ("--postgres-url", postgres.url, "--store-url", (tmp_path / "store").as_uri())
        with serving(tmp_path / "server", *shared) as server, ThreadPoolExecutor(2) as threads:
            traffic = Traffic(server)
            working = [threads.submit(traffic.send), threads.submit(traffic.ask)]
            try:
                took_s = [_restart(postgres, traffic, chance.uniform(0.1, 1.0)) for _ in range(RESTARTS)]
            finally:
                traffic.done.set()
            for work in working:
                work.result()
            print(f"{RESTARTS} restarts, recovery {max(took_s):.2f} s at most, {dict(traffic.troubles)}")

            assert traffic.lines() == Counter(f"line {number}" for number in range(traffic.acknowledged))
            assert max(took_s) < RECOVERY_S_MAX
    finally:
        asyncio.run(postgres.stop())


def _restart(postgres: EmbeddedPostgres, traffic: Traffic, after_s: float) -> float:
    """Seconds from when the database is there again until a block is acknowledged and an answer is right."""
    time.sleep(after_s)
    asyncio.run(postgres.stop())
    time.sleep(0.1)
    asyncio.run(postgres.start())
    back_s = time.monotonic()
    while min(traffic.answered_s, traffic.acknowledged_s) <= back_s:
        assert time.monotonic() < back_s + RECOVERY_S_MAX, traffic.server.log.read_text()[-3000:]
        time.sleep(0.01)
    return max(traffic.answered_s, traffic.acknowledged_s) - back_s
