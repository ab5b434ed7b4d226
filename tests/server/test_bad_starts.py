"""Every way to start badly: why, in one sentence, once, with exit code 1 (2 for usage). doctor finds the same."""

from __future__ import annotations

import os
import re
import resource
import shutil
import socket
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from server.postgres_launcher import LAUNCH_FAILED
from server.surroundings import OPEN_FILES_MIN
from tests.support.fixtures import ROOT
from tests.support.ports import REFUSED

FREE = ("--flight-address", "127.0.0.1:0", "--http-address", "127.0.0.1:0")


@dataclass
class Start:
    """How ``serve`` is started in one case; the folder of the case is free to be made a mess of."""

    folder: Path
    arguments: list[str] = field(default_factory=list)
    environment: dict[str, str] = field(default_factory=dict)
    limits: dict[int, int] = field(default_factory=dict)
    closed: tuple[int, ...] = ()

    @property
    def lake(self) -> Path:
        return self.folder / "lake"

    def run(self, command: str, *more: str) -> subprocess.CompletedProcess[str]:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("LAKEFLIGHT_")}
        arguments = [*FREE, "--no-self-telemetry", "--data-dir", str(self.lake), *more, *self.arguments]
        return subprocess.run(
            [sys.executable, "-m", "server", command, *arguments],
            cwd=ROOT,
            env={name: value for name, value in (inherited | self.environment).items() if value},
            capture_output=True,
            text=True,
            timeout=100,
            preexec_fn=self._begin_badly,
        )

    def _begin_badly(self) -> None:
        for kind, limit in self.limits.items():
            resource.setrlimit(kind, (limit, limit))
        for number in self.closed:
            os.close(number)


def few_files(start: Start) -> None:
    start.limits = {resource.RLIMIT_NOFILE: 512}


def small_files(start: Start) -> None:
    start.limits = {resource.RLIMIT_FSIZE: 1 << 20}


def little_memory(start: Start) -> None:
    start.limits = {resource.RLIMIT_AS: 3 << 30}


def little_data(start: Start) -> None:
    start.limits = {resource.RLIMIT_DATA: 3 << 30}


def home_of_nobody(start: Start) -> None:
    start.arguments = ["--data-dir=~nobody-is-called-this/lake"]


def dangling_link(start: Start) -> None:
    start.lake.symlink_to(start.folder / "away")


def below_a_dangling_link(start: Start) -> None:
    (start.folder / "link").symlink_to(start.folder / "away")
    start.arguments = ["--data-dir", str(start.folder / "link" / "lake")]


def link_to_itself(start: Start) -> None:
    start.lake.symlink_to(start.lake)


def a_file(start: Start) -> None:
    start.lake.write_text("not a folder")


def below_a_file(start: Start) -> None:
    (start.folder / "file").write_text("not a folder")
    start.arguments = ["--data-dir", str(start.folder / "file" / "lake")]


def somebody_elses(start: Start) -> None:
    start.lake.mkdir()
    (start.lake / "thesis.tex").write_text("precious")


def a_name_too_long(start: Start) -> None:
    start.arguments = ["--data-dir", str(start.folder / ("x" * 300))]


def store_behind_a_dangling_link(start: Start) -> None:
    (start.folder / "store").symlink_to(start.folder / "away")
    start.arguments = ["--store-url", (start.folder / "store").as_uri()]


def store_is_a_file(start: Start) -> None:
    (start.folder / "store").write_text("not a folder")
    start.arguments = ["--store-url", (start.folder / "store").as_uri()]


def ready_file_nowhere(start: Start) -> None:
    start.arguments = ["--ready-file", str(start.folder / "nowhere" / "ready.json")]


def bare_ipv6(start: Start) -> None:
    start.arguments = ["--flight-address", "::1:0"]


def one_address_for_both(start: Start) -> None:
    start.arguments = ["--flight-address", "127.0.0.1:7999", "--http-address", "localhost:7999"]


def one_address_for_all_of_ingestion(start: Start) -> None:
    start.arguments = ["--http-address", "127.0.0.1:7999", "--otlp-grpc-address", "127.0.0.1:7999"]


def no_port(start: Start) -> None:
    start.arguments = ["--http-address", "127.0.0.1"]


def an_address_of_another_machine(start: Start) -> None:
    start.arguments = ["--http-address", "127.0.0.1:0", "--flight-address", "10.0.0.1:5000"]


def no_database_there(start: Start) -> None:
    with socket.socket() as taken:  # bound, and nobody listens
        taken.bind(("127.0.0.1", 0))
        start.arguments = ["--postgres-url", f"postgresql://lake:hidden@127.0.0.1:{taken.getsockname()[1]}/lake"]


def database_folder_is_not_one(start: Start) -> None:
    (start.lake / "postgres").mkdir(parents=True)
    (start.lake / "postgres" / "PG_VERSION").write_text("18\n")


def no_such_role(start: Start) -> None:
    start.arguments = ["--roles", "flight,ingest"]


def no_role(start: Start) -> None:
    start.arguments = ["--roles", ""]


def no_days(start: Start) -> None:
    start.environment = {"LAKEFLIGHT_PARTITION_RETENTION_DAYS": "90,log_stats=always"}


def no_days_of_the_others(start: Start) -> None:
    start.environment = {"LAKEFLIGHT_PARTITION_RETENTION_DAYS": "log_stats=90"}


def blocks_of_no_time(start: Start) -> None:
    start.environment = {"LAKEFLIGHT_BLOCK_RETENTION_DAYS": "0"}


def no_such_view_set(start: Start) -> None:
    start.environment = {"LAKEFLIGHT_PARTITION_RETENTION_DAYS": "90,log_stat=forever"}


CASES: dict[str, tuple[Callable[[Start], None], int, str]] = {
    "few open files": (few_files, 1, f"no more than 512 open files, a server needs {OPEN_FILES_MIN}: .*ulimit -n"),
    "small files": (small_files, 1, r"no more than files of 1 MiB, a server needs 1\.0 GiB: .*ulimit -f"),
    "little memory": (little_memory, 1, r"no more than 3\.0 GiB of address space, a server needs .* GiB: .*ulimit -v"),
    "little data": (little_data, 1, r"no more than 3\.0 GiB of data, a server needs .* GiB: .*ulimit -d"),
    "home of nobody": (
        home_of_nobody,
        2,
        "--data-dir ~nobody-is-called-this/lake names a home folder that is not known",
    ),
    "dangling link": (dangling_link, 1, "lake is a link to .*away, which is not there"),
    "below a dangling link": (below_a_dangling_link, 1, "link is a link to .*away, which is not there"),
    "link to itself": (link_to_itself, 1, "lake.*(is a link to|too many levels of symbolic links)"),
    "a file": (a_file, 1, "lake.* (is not a folder|not a directory)"),
    "below a file": (below_a_file, 1, "file.* (is not a folder|not a directory)"),
    "somebody else's": (somebody_elses, 1, "is not empty and is not a data folder of lakeflight .it has thesis.tex"),
    "a name too long": (a_name_too_long, 1, "file name too long"),
    "store behind a link": (
        store_behind_a_dangling_link,
        1,
        "the store's folder .*is a link to .*away, which is not there",
    ),
    "store is a file": (store_is_a_file, 1, "the store's folder .*(is not a folder|not a directory|file exists)"),
    "ready file nowhere": (ready_file_nowhere, 1, "the ready file .*: there is no folder .*nowhere"),
    "bare IPv6": (bare_ipv6, 2, r"--flight-address ::1:0 .* stands in brackets, as in \[::1\]:9000"),
    "one address for both": (one_address_for_both, 2, "--http-address localhost:7999 is where Flight SQL listens"),
    "one address for ingestion": (
        one_address_for_all_of_ingestion,
        2,
        "--otlp-grpc-address 127.0.0.1:7999 is where ingestion listens",
    ),
    "no port": (no_port, 2, "--http-address 127.0.0.1 is not HOST:PORT"),
    "another machine": (an_address_of_another_machine, 2, "--flight-address 10.0.0.1:5000 is not a loopback address"),
    "no database there": (
        no_database_there,
        1,
        "the database 127.0.0.1:[0-9]+/lake is not available: nobody listens there",
    ),
    "no such role": (
        no_such_role,
        2,
        "--roles flight,ingest names ingest, which is no role: there are flight, ingestion",
    ),
    "no role": (no_role, 2, "--roles names nothing, which is no role: there are flight, ingestion, maintenance"),
    "no days": (no_days, 2, "LAKEFLIGHT_PARTITION_RETENTION_DAYS=90,log_stats=always is not a number of days"),
    "no days of the others": (
        no_days_of_the_others,
        2,
        "LAKEFLIGHT_PARTITION_RETENTION_DAYS=log_stats=90 does not say how long partitions of other view sets are kept",
    ),
    "blocks of no time": (blocks_of_no_time, 2, "LAKEFLIGHT_BLOCK_RETENTION_DAYS=0 is too small: more than 0"),
    "no such view set": (no_such_view_set, 1, "LAKEFLIGHT_PARTITION_RETENTION_DAYS names log_stat, which keeps no"),
    "no database in its folder": (database_folder_is_not_one, 1, "postgres"),
}


def assert_one_sentence(said: subprocess.CompletedProcess[str], code: int, sentence: str) -> None:
    lines = said.stderr.splitlines()
    assert [line.startswith("lakeflight: ") for line in lines] == [True], said.stderr
    assert re.search(sentence, lines[0]), said.stderr
    assert said.returncode == code
    assert "hidden" not in said.stderr


@pytest.mark.parametrize("case", CASES)
def test_a_bad_start_says_why_once(tmp_path: Path, case: str) -> None:
    prepare, code, sentence = CASES[case]
    start = Start(tmp_path)
    prepare(start)

    assert_one_sentence(start.run("serve"), code, sentence)


@pytest.mark.parametrize("case", [case for case, (_, code, _) in CASES.items() if code == 1])
def test_doctor_finds_the_same(tmp_path: Path, case: str) -> None:
    prepare, _, sentence = CASES[case]
    start = Start(tmp_path)
    prepare(start)
    # Where the database is not what the case is about, doctor need not try whether one can be made here.
    elsewhere = () if "database" in case else ("--postgres-url", f"postgresql://lake@{REFUSED}/lake")

    looked = start.run("doctor", *elsewhere)

    failed = [line for line in looked.stdout.splitlines() if line.startswith("FAIL ")]
    assert any(re.search(sentence, line) for line in failed), looked.stdout
    assert (looked.returncode, looked.stderr) == (1, "")


def test_a_tilde_is_the_home_folder_wherever_it_is_written(tmp_path: Path) -> None:
    (tmp_path / "sea").write_text("")
    for arguments, environment in ((["--data-dir=~/sea"], {}), ([], {"LAKEFLIGHT_DATA_DIR": "~/sea"})):
        said = subprocess.run(
            [sys.executable, "-m", "server", "serve", *FREE, *arguments],
            cwd=tmp_path,
            env=os.environ | {"HOME": str(tmp_path), "PYTHONPATH": str(ROOT), **environment},
            capture_output=True,
            text=True,
            timeout=100,
        )
        assert_one_sentence(said, 1, f"the data folder {tmp_path}/sea cannot be used: not a directory")
    assert not (tmp_path / "~").exists()


@pytest.mark.parametrize("command", ["doctor", "demo", "--version"])
@pytest.mark.parametrize("how", ["closed", "full"])
def test_standard_output_that_takes_nothing_is_a_sentence(tmp_path: Path, command: str, how: str) -> None:
    arguments = [] if command == "--version" else ["--data-dir", str(tmp_path / "lake")]
    with open("/dev/full", "wb") as full:
        said = subprocess.run(
            [sys.executable, "-m", "server", command, *arguments],
            cwd=ROOT,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=100,
            preexec_fn=(lambda: os.close(1)) if how == "closed" else None,
        )

    assert "Traceback" not in said.stderr
    if command != "--version":  # argparse keeps that to itself
        reason = "bad file descriptor" if how == "closed" else "no space left on device"
        assert (said.returncode, said.stderr) == (1, f"lakeflight: cannot write standard output: {reason}\n")


def test_rows_for_a_closed_standard_output_are_not_lost_in_silence(tmp_path: Path) -> None:
    """The first file that a process opens would get them: it would have the number of the standard output."""
    program = textwrap.dedent(
        """
        import os, sys
        from lakeflight.commands.environment import begin_in_own_environment
        begin_in_own_environment()
        taken = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT)
        try:
            print("rows", flush=True)
        except OSError as error:
            os.write(2, error.strerror.encode())
        """
    )
    (tmp_path / "program.py").write_text(program)

    said = subprocess.run(
        [sys.executable, str(tmp_path / "program.py"), str(tmp_path / "file")],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
        preexec_fn=lambda: os.close(1),
    )

    assert said.stderr == "Bad file descriptor"
    assert (tmp_path / "file").read_bytes() == b""


def test_an_encoding_that_arguments_insist_on_is_worked_with_and_not_started_over_for_ever() -> None:
    said = subprocess.run(
        [sys.executable, "-X", "utf8=0", "-m", "lakeflight", "--version"],
        cwd=ROOT,
        env=os.environ | {"LC_ALL": "POSIX"},
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert (said.returncode, said.stderr) == (0, "")
    assert re.fullmatch(r"lakeflight \d+\.\d+\.\d+\n", said.stdout)


def test_a_worker_that_cannot_be_started_ends_the_start(tmp_path: Path) -> None:
    program = textwrap.dedent(
        """
        import sys
        from unittest import mock
        from lakeflight.__main__ import main

        async def refused(self, *given, **more):
            raise BlockingIOError(11, "Resource temporarily unavailable")

        with mock.patch("server.workers.processes.Zygote.spawn", refused):
            main(["serve", "--no-self-telemetry", *sys.argv[1:]])
        """
    )

    said = subprocess.run(
        [sys.executable, "-c", program, *FREE, "--data-dir", str(tmp_path / "lake")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
    )

    ours = [line for line in said.stderr.splitlines() if line.startswith("lakeflight: ")]
    assert (said.returncode, len(ours)) == (1, 1), said.stderr
    assert "it was refused memory, processes or open files" in ours[0]


def test_a_database_program_that_cannot_run_is_a_sentence(tmp_path: Path) -> None:
    said = subprocess.run(
        [
            *(sys.executable, "-I", "-S", str(ROOT / "server" / "postgres_launcher.py")),
            *("-1", "-1", "0", str(tmp_path), str(tmp_path / "postgres")),
        ],
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert (said.returncode, said.stderr) == (
        LAUNCH_FAILED,
        f"cannot run {tmp_path}/postgres: no such file or directory\n",
    )


@pytest.fixture
def small_shared_memory() -> Iterator[list[str]]:
    """A command that runs another one where /dev/shm has 64 KiB, as in many a container."""
    unshare = shutil.which("unshare")
    command = [unshare or "", "-m", "sh", "-c", 'mount -t tmpfs -o size=64k none /dev/shm && exec "$@"', "sh"]
    if unshare is None or subprocess.run([*command, "true"], capture_output=True).returncode != 0:
        pytest.skip("needs the right to mount")
    yield command


def test_a_server_needs_no_shared_memory_of_the_system(small_shared_memory: list[str], tmp_path: Path) -> None:
    program = textwrap.dedent(
        """
        import asyncio, sys
        from pathlib import Path
        import asyncpg
        from server.embedded_postgres import EmbeddedPostgres

        async def main():
            postgres = EmbeddedPostgres(Path(sys.argv[1]))
            await postgres.start()
            connection = await asyncpg.connect(postgres.url)
            print(await connection.fetchval("SELECT count(*) FROM generate_series(1, 100000)"))
            await connection.close()
            await postgres.stop()

        asyncio.run(main())
        """
    )

    said = subprocess.run(
        [*small_shared_memory, sys.executable, "-c", program, str(tmp_path / "postgres")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
    )

    assert (said.returncode, said.stdout) == (0, "100000\n"), said.stderr


def test_a_port_of_otlp_that_somebody_has_is_named_by_both_commands(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        start = Start(tmp_path, ["--otlp-grpc-address", address])
        said = {command: start.run(command) for command in ("serve", "doctor")}

    for command, ran in said.items():
        assert ran.returncode == 1, command
        assert f"{address} is taken" in ran.stdout + ran.stderr, command
