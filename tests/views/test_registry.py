"""What a server offers, under which names, with which columns."""

from __future__ import annotations

import pyarrow as pa
import pytest

from lakehouse.errors import UnknownViewError
from lakehouse.model import ViewKey
from lakehouse.registry import MetadataView, ViewRegistry
from views import default_registry

PROCESS = "0a1b2c3d-0000-4000-8000-00000000000f"
REGISTRY = default_registry()


def test_the_offer() -> None:
    assert REGISTRY.names == (
        "processes", "streams", "blocks", "quarantined_blocks", "log_entries", "measures", "thread_spans",
    )  # fmt: skip
    assert [view.view_set for view in REGISTRY.global_tables] == [
        "processes", "streams", "blocks", "quarantined_blocks", "log_entries", "measures",
    ]  # fmt: skip
    assert REGISTRY.global_table("thread_spans") is None
    assert REGISTRY.global_table("pg_class") is None


@pytest.mark.parametrize(
    "view_set", ["processes", "streams", "blocks", "quarantined_blocks", "log_entries", "measures"]
)
def test_views_with_a_global_table_have_it_as_an_instance_too(view_set: str) -> None:
    view, key = REGISTRY.view_instance(view_set, "global")

    assert view is REGISTRY.global_table(view_set)
    assert key == ViewKey(view_set, "global")


@pytest.mark.parametrize("view_set", ["log_entries", "measures", "thread_spans"])
def test_ids_are_taken_in_any_spelling(view_set: str) -> None:
    for text in (PROCESS, PROCESS.upper(), "{" + PROCESS + "}", PROCESS.replace("-", "")):
        assert REGISTRY.view_instance(view_set, text)[1] == ViewKey(view_set, PROCESS)


@pytest.mark.parametrize(
    ("view_set", "instance", "reason"),
    [
        ("no_such", "global", "view set no_such not found"),
        ("log_stats", PROCESS, "view set log_stats not found"),
        ("", PROCESS, "view set  not found"),
        ("thread_spans", "global", "the global view is not implemented for thread_spans: give the id of a stream"),
        ("thread_spans", "x", "an instance of thread_spans is the id of a stream, not 'x'"),
        ("log_entries", "Global", "an instance of log_entries is 'global' or the id of a process, not 'Global'"),
        ("processes", PROCESS, "processes has no instances"),
        ("quarantined_blocks", PROCESS, "quarantined_blocks has no instances"),
    ],
)
def test_what_does_not_exist_is_refused_by_name(view_set: str, instance: str, reason: str) -> None:
    with pytest.raises(UnknownViewError, match=reason):
        REGISTRY.view_instance(view_set, instance)


TIMES = pa.schema([("id", pa.string()), ("t", pa.timestamp("ns"))])
A = MetadataView("a", TIMES, ("id",), "t", "t")


@pytest.mark.parametrize(
    ("view", "mistake"),
    [
        (A, "two views are called a"),
        (MetadataView("b", TIMES, (), "t", "u"), "b has no column u"),
        (MetadataView("b", TIMES, ("no_id",), "t", "t"), "b has no column no_id"),
        (MetadataView("b", TIMES, (), "t", "t", {"no_id": A}), "b has no column no_id"),
        (
            MetadataView("b", TIMES.append(pa.field("a.t", pa.int64())), (), "t", "t"),
            "b joins no view before it that has a.t",
        ),
        (
            MetadataView("b", TIMES.append(pa.field("a.u", pa.int64())), (), "t", "t", {"id": A}),
            "b joins no view before it that has a.u",
        ),
    ],
)
def test_a_view_that_contradicts_itself_or_another_is_refused(view: MetadataView, mistake: str) -> None:
    with pytest.raises(ValueError, match=mistake):
        ViewRegistry([A, view])


def described(view_set: str) -> list[str]:
    return [f"{f.name} {f.type}{'?' if f.nullable else ''}" for f in REGISTRY.find(view_set).schema]


SOURCE = [
    "process_id string", "stream_id string", "block_id string", "insert_time timestamp[ns]", "exe string",
    "username string", "computer string",
]  # fmt: skip
PAIRS = "list<property: struct<key: string not null, value: string not null> not null>"
TAGS = "list<tag: string not null>"
COLUMNS = {
    "log_entries": [
        *SOURCE, "time timestamp[ns]", "target string", "level int32", "msg string", "properties string",
        "process_properties string",
    ],
    "measures": [
        *SOURCE, "time timestamp[ns]", "target string", "name string", "unit string", "value double",
        "properties string", "process_properties string",
    ],
    "thread_spans": [
        "id int64", "parent int64", "depth uint32", "hash uint32", "begin timestamp[ns]", "end timestamp[ns]",
        "duration int64", "name string", "target string", "filename string", "line uint32",
    ],
    "processes": [
        "process_id string", "exe string?", "username string?", "realname string?", "computer string?",
        "distro string?", "cpu_brand string?", "tsc_frequency int64?", "start_time timestamp[ns]?",
        "start_ticks int64?", "insert_time timestamp[ns]?", "parent_process_id string?", f"properties {PAIRS}?",
        "last_update_time timestamp[ns]?", "last_block_end_ticks int64?", "last_block_end_time timestamp[ns]?",
    ],
    "streams": [
        "stream_id string", "process_id string?", "dependencies_metadata binary?", "objects_metadata binary?",
        f"tags {TAGS}?", f"properties {PAIRS}?", "insert_time timestamp[ns]?", "format string?",
        "last_update_time timestamp[ns]?",
    ],
    "blocks": [
        "block_id string", "stream_id string", "process_id string", "begin_time timestamp[ns]", "begin_ticks int64",
        "end_time timestamp[ns]", "end_ticks int64", "nb_objects int32", "object_offset int64", "payload_size int64",
        "insert_time timestamp[ns]", "streams.dependencies_metadata binary", "streams.objects_metadata binary",
        f"streams.tags {TAGS}?", f"streams.properties {PAIRS}", "streams.insert_time timestamp[ns]",
        "streams.format string", "processes.start_time timestamp[ns]", "processes.start_ticks int64",
        "processes.tsc_frequency int64", "processes.exe string", "processes.username string",
        "processes.realname string", "processes.computer string", "processes.distro string",
        "processes.cpu_brand string", "processes.insert_time timestamp[ns]", "processes.parent_process_id string",
        f"processes.properties {PAIRS}",
    ],
    "quarantined_blocks": [
        "block_id string", "stream_id string", "process_id string", "view_set string", "writer_version int32",
        "error string", "time timestamp[ns]",
    ],
}  # fmt: skip


@pytest.mark.parametrize("view_set", REGISTRY.names)
def test_columns(view_set: str) -> None:
    assert described(view_set) == COLUMNS[view_set]


def test_rows_are_in_a_range_by_the_time_columns_of_their_view() -> None:
    assert {v.view_set: (v.begin_column, v.end_column) for v in REGISTRY.views} == {
        "processes": ("insert_time", "last_update_time"),
        "streams": ("insert_time", "last_update_time"),
        "blocks": ("begin_time", "insert_time"),
        "quarantined_blocks": ("time", "time"),
        "log_entries": ("time", "time"),
        "measures": ("time", "time"),
        "thread_spans": ("begin", "end"),
    }
