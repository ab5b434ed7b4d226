"""A server whose lake is on S3: what ``docs/operating.md`` says of it, and what becomes of telemetry while the store is in trouble."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import adbc_driver_manager
import pytest

from lakeflight.wire.envelope import decode_block
from tests.support.fixtures import ROOT, native_cases
from tests.support.postgres import PostgresServer
from tests.support.programs import Program
from tests.support.recorded import assert_answers_as_recorded
from tests.support.s3 import SECRET, Asked, Bucket, Fault, FaultyS3, faulty_s3, new_bucket, s3_server
from tests.support.serving import Server, renamed, serving

OPERATING = (ROOT / "docs" / "operating.md").read_text()


@pytest.fixture(scope="module")
def s3_endpoint() -> Iterator[str]:
    with s3_server() as endpoint:
        yield endpoint


@pytest.fixture(scope="module")
def proxy(s3_endpoint: str) -> Iterator[FaultyS3]:
    with faulty_s3(s3_endpoint) as proxy:
        yield proxy


@pytest.fixture(scope="module")
def bucket(s3_endpoint: str, proxy: FaultyS3) -> Bucket:
    return new_bucket(s3_endpoint).at(proxy.endpoint)


@pytest.fixture(scope="module")
def on_s3(bucket: Bucket, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(
        tmp_path_factory.mktemp("lake"), "--store-url", bucket.url, environment=environment_for(bucket)
    ) as running:
        yield running


@pytest.fixture(autouse=True)
def healed(proxy: FaultyS3) -> Iterator[None]:
    yield
    proxy.heal()


def environment_for(bucket: Bucket) -> dict[str, str]:
    return {
        "LAKEFLIGHT_STORE_ENDPOINT": str(bucket.options.endpoint),
        "LAKEFLIGHT_STORE_PATH_STYLE": "true",
        "LAKEFLIGHT_STORE_REGION": str(bucket.options.region),
        "LAKEFLIGHT_STORE_ACCESS_KEY_ID": str(bucket.options.access_key_id),
        "LAKEFLIGHT_STORE_SECRET_ACCESS_KEY": str(bucket.options.secret_access_key),
    }


def keys_in(bucket: Bucket, prefix: str) -> set[str]:
    pages = bucket.client().get_paginator("list_objects_v2").paginate(Bucket=bucket.name, Prefix=prefix)
    return {entry["Key"] for page in pages for entry in page.get("Contents", ())}


def test_rows_are_the_same_after_a_restart_with_an_empty_cache(bucket: Bucket, tmp_path: Path) -> None:
    """The commands of the page, but for names of places and of keys."""
    (block,) = re.findall(r"## The lake on S3\n.*?```sh\n(.*?)```", OPERATING, flags=re.S)
    documented = dict(re.findall(r"(LAKEFLIGHT_\w+)=(\S+)", block))
    commands = re.findall(r"^lakeflight (.*)$", block, flags=re.M)
    here = {"/var/lib/lakeflight": str(tmp_path / "lake"), "s3://telemetry/lake": f"s3://{bucket.name}/of-the-page"}
    doctor, serve = (" ".join(here.get(word, word) for word in command.split()).split() for command in commands)
    environment = environment_for(bucket)
    assert set(documented) == set(environment)
    assert serve[:3] == ["serve", "--data-dir", str(tmp_path / "lake")]
    case = renamed(min(native_cases(), key=lambda case: len(case.requests)))

    looked = subprocess.run(
        [sys.executable, "-m", "server", *doctor, "--flight-address", "127.0.0.1:0", "--http-address", "127.0.0.1:0"],
        env=environment, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert f"s3://{bucket.name}/of-the-page" in looked.stdout, looked.stdout + looked.stderr
    with serving(tmp_path / "lake", *serve[3:], environment=environment) as server:
        server.replay(case.requests)
        assert_answers_as_recorded(server, case)
        commands_of_all = [" ".join(process.cmdline()) for process in server.tree()]
        assert any("server" in command for command in commands_of_all)
        assert not any(SECRET in command for command in commands_of_all)
    assert list((tmp_path / "lake" / "objects" / "copies").iterdir())
    shutil.rmtree(tmp_path / "lake" / "objects")
    with serving(tmp_path / "lake", *serve[3:], environment=environment) as server:
        assert_answers_as_recorded(server, case)

    assert keys_in(bucket, "of-the-page/blobs/")
    assert not list((tmp_path / "lake").glob("store/*"))
    assert SECRET not in server.log.read_text() + looked.stdout + looked.stderr


@pytest.mark.parametrize("fault", ["503", "403", "reset", "lose answer"])
def test_a_sender_is_told_503_while_the_store_fails_and_loses_nothing(
    on_s3: Server, proxy: FaultyS3, bucket: Bucket, fault: Fault
) -> None:
    program = Program()
    on_s3.replay([*program.registration(), program.log_block()])
    late = program.log_block()
    blob = decode_block(late.body).block_id

    proxy.rule = lambda asked: fault if blob in asked.path else None
    refused = on_s3.post(late.path, late.body)
    lines = f"SELECT msg FROM view_instance('log_entries', '{program.process_id}') ORDER BY time"
    known = on_s3.query(lines)["msg"].to_pylist()
    proxy.heal()
    on_s3.replay([late, late])

    assert refused == 503
    assert known == [f"line {n}" for n in range(3)]
    assert on_s3.query(lines)["msg"].to_pylist() == [f"line {n}" for n in range(6)]
    assert len(keys_in(bucket, f"lake/blobs/{program.process_id}/")) == 2


@pytest.mark.parametrize(
    ("method", "fault"),
    [("GET", "503"), ("GET", "reset"), ("GET", "cut off"), ("GET", "damage"), ("PUT", "503"), ("PUT", "reset")],
)
def test_a_query_fails_while_the_store_does_and_is_right_again_by_itself(
    on_s3: Server, proxy: FaultyS3, method: str, fault: Fault
) -> None:
    program = Program()
    on_s3.replay([*program.registration(), program.log_block(), program.thread_block()])
    lines = f"SELECT msg FROM view_instance('log_entries', '{program.process_id}') ORDER BY time"

    def of_this_query(asked: Asked) -> Fault | None:
        return fault if asked.method == method and program.process_id in asked.path else None

    proxy.rule = of_this_query
    with pytest.raises(adbc_driver_manager.Error) as failed:
        on_s3.query(lines)
    proxy.heal()

    assert "store" in str(failed.value) or "stored" in str(failed.value)
    assert proxy.endpoint not in str(failed.value)
    assert on_s3.query(lines)["msg"].to_pylist() == ["line 0", "line 1", "line 2"]


def test_a_partition_that_is_damaged_in_the_store_is_made_again(on_s3: Server, bucket: Bucket) -> None:
    program = Program()
    on_s3.replay([*program.registration(), program.log_block(lines=2_000)])
    lines = f"SELECT msg FROM view_instance('log_entries', '{program.process_id}') ORDER BY time"
    first = on_s3.query(lines)
    (key,) = (key for key in keys_in(bucket, "lake/_schema/") if program.process_id in key)
    client = bucket.client()
    stored = client.get_object(Bucket=bucket.name, Key=key)
    content = bytearray(stored["Body"].read())
    content[len(content) // 2] ^= 1
    client.put_object(Bucket=bucket.name, Key=key, Body=bytes(content), Metadata=stored["Metadata"])
    for copy in (on_s3.data_dir / "objects" / "copies").iterdir():
        copy.unlink()

    assert on_s3.query(lines).equals(first)

    assert first.num_rows == 2_000
    assert re.search(r"store\.damaged.*partition\.lost", on_s3.log.read_text(), re.S)


def test_the_servers_of_a_machine_share_copies_and_measure_how_good_they_are(
    bucket: Bucket, tmp_path: Path, postgres_server: PostgresServer
) -> None:
    url = asyncio.run(postgres_server.create(migrated=False))
    shared = ("--postgres-url", url, "--store-url", f"s3://{bucket.name}/shared")
    cache = tmp_path / "cache"
    program = Program()
    lines = f"SELECT count(*) AS n FROM view_instance('log_entries', '{program.process_id}')"
    (measures,) = re.findall(r"```sql\n(SELECT time, name, value FROM measures.*?)```", OPERATING, flags=re.S)
    environment = environment_for(bucket) | {"LAKEFLIGHT_STORE_CACHE_DIR": str(cache)}
    with (
        serving(tmp_path / "one", *shared, environment=environment, self_telemetry=True) as one,
        serving(tmp_path / "two", *shared, environment=environment) as two,
    ):
        one.replay([*program.registration(), program.log_block()])
        assert [server.query(lines)["n"].to_pylist() for server in (one, two, one, two)] == [[3]] * 4

        deadline = time.monotonic() + 90
        while not (found := one.query(measures)).num_rows:
            assert time.monotonic() < deadline
            time.sleep(0.5)

    values = dict(zip(found["name"].to_pylist(), found["value"].to_pylist(), strict=True))
    assert values["object_cache_hits"] + values["object_cache_misses"] > 0
    assert values["object_cache_hit_ratio"] == pytest.approx(
        100 * values["object_cache_hits"] / (values["object_cache_hits"] + values["object_cache_misses"])
    )
    assert values["object_cache_kept"] > 0
    assert not (tmp_path / "two" / "objects").exists()


def test_a_bucket_that_is_not_there_is_said_at_the_start(bucket: Bucket, tmp_path: Path) -> None:
    arguments = ("--data-dir", str(tmp_path), "--flight-address", "127.0.0.1:0", "--http-address", "127.0.0.1:0")
    ended = subprocess.run(
        [sys.executable, "-m", "server", "serve", *arguments, "--store-url", "s3://not-there-at-all/lake"],
        env=os.environ | environment_for(bucket), cwd=ROOT, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip

    assert ended.returncode == 1
    assert ended.stderr.splitlines()[-1].endswith(
        "the store s3://not-there-at-all/lake cannot be used: the object store has no bucket of that name;"
        " choose another with --store-url or LAKEFLIGHT_STORE_URL"
    )
