"""What a server offers, under which names, with which columns."""

from __future__ import annotations

from collections.abc import Callable

import pyarrow as pa
import pytest

from lakehouse.catalog.tables import CatalogTable
from lakehouse.errors import UnknownViewError, UnsupportedError
from lakehouse.sources import CatalogSource, SourceRegistry
from views import default_registry

PROCESS = "0a1b2c3d-0000-4000-8000-00000000000f"
REGISTRY = default_registry()
OF_A_PROCESS = ("async_events", "net_spans", "images", "otel_spans")
ADMINISTRATION = tuple(
    f"{verb}_partitions{ending}" for verb in ("materialize", "regenerate", "retire") for ending in ("", "_dry_run")
)


def test_the_offer() -> None:
    assert REGISTRY.names == (
        "processes", "streams", "blocks", "quarantined_blocks", "log_entries", "measures", "thread_spans",
        "async_events", "net_spans", "images", "otel_spans", "log_stats", "process_spans",
        "perfetto_trace_chunks", "parse_block", "list_partitions", "list_view_sets", *ADMINISTRATION,
    )  # fmt: skip
    assert REGISTRY.tables == (
        "processes", "streams", "blocks", "quarantined_blocks", "log_entries", "measures", "log_stats",
    )  # fmt: skip
    assert [view.view_set for view in REGISTRY.views] == [
        "log_entries", "measures", "thread_spans", "async_events", "net_spans", "images", "otel_spans", "log_stats",
        "process_spans", "parse_block",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "view_set", ["processes", "streams", "blocks", "quarantined_blocks", "log_entries", "measures", "log_stats"]
)
def test_a_table_is_the_same_as_its_global_instance(view_set: str) -> None:
    source = REGISTRY.find(view_set)

    assert source.resolve(()) == source.resolve(("global",)) == ("global",)


@pytest.mark.parametrize(
    "view_set", ["log_entries", "measures", "thread_spans", "async_events", "net_spans", "images", "otel_spans"]
)
def test_ids_are_taken_in_any_spelling(view_set: str) -> None:
    for text in (PROCESS, PROCESS.upper(), "{" + PROCESS + "}", PROCESS.replace("-", "")):
        assert REGISTRY.find(view_set).resolve((text,)) == (PROCESS,)


@pytest.mark.parametrize(
    ("view_set", "instance", "reason"),
    [
        ("no_such", "global", "view set no_such not found"),
        ("", PROCESS, "view set  not found"),
        ("thread_spans", "global", "the global view is not implemented for thread_spans: give the id of a stream"),
        *((name, "global", f"not implemented for {name}: give the id of a process") for name in OF_A_PROCESS),
        *((name, "x", f"an instance of {name} is the id of a process, not 'x'") for name in OF_A_PROCESS),
        ("thread_spans", "x", "an instance of thread_spans is the id of a stream, not 'x'"),
        ("log_entries", "Global", "an instance of log_entries is 'global' or the id of a process, not 'Global'"),
        ("processes", PROCESS, "processes has no instances"),
        ("quarantined_blocks", PROCESS, "quarantined_blocks has no instances"),
    ],
)
def test_what_does_not_exist_is_refused_by_name(view_set: str, instance: str, reason: str) -> None:
    with pytest.raises(UnknownViewError, match=reason):
        REGISTRY.find(view_set).resolve((instance,))


TIMES = pa.schema([("id", pa.string()), ("t", pa.timestamp("ns"))])
A = CatalogTable("a", TIMES, ("id",), "t", "t")


@pytest.mark.parametrize(
    ("declare", "mistake"),
    [
        (lambda: A, "two views are called a"),
        (lambda: CatalogTable("b", TIMES, (), "t", "u"), "b has no column u"),
        (lambda: CatalogTable("b", TIMES, ("no_id",), "t", "t"), "b has no column no_id"),
        (lambda: CatalogTable("b", TIMES, (), "t", "t", {"no_id": A}), "b has no column no_id"),
        (
            lambda: CatalogTable("b", TIMES.append(pa.field("a.t", pa.int64())), (), "t", "t"),
            "b joins no view before it that has a.t",
        ),
        (
            lambda: CatalogTable("b", TIMES.append(pa.field("a.u", pa.int64())), (), "t", "t", {"id": A}),
            "b joins no view before it that has a.u",
        ),
    ],
)
def test_a_table_that_contradicts_itself_or_another_is_refused(
    declare: Callable[[], CatalogTable], mistake: str
) -> None:
    with pytest.raises(ValueError, match=mistake):
        SourceRegistry([CatalogSource(A), CatalogSource(declare())])


def test_what_is_not_made_from_blocks_is_nothing_to_build() -> None:
    assert REGISTRY.view("log_entries").view_set == "log_entries"
    with pytest.raises(UnsupportedError, match="processes is not made from blocks"):
        REGISTRY.view("processes")


def described(view_set: str) -> list[str]:
    return [f"{f.name} {f.type}{'?' if f.nullable else ''}" for f in REGISTRY.find(view_set).declaration.schema]


SOURCE = [
    "process_id string", "stream_id string", "block_id string", "insert_time timestamp[ns]", "exe string",
    "username string", "computer string",
]  # fmt: skip
PAIRS = "list<property: struct<key: string not null, value: string not null> not null>"
TAGS = "list<tag: string not null>"
COLUMNS = {
    "log_stats": ["time_bin timestamp[ns]", "process_id string", "level int32", "target string", "count int64"],
    "otel_spans": [
        *SOURCE, "process_properties string", "trace_id fixed_size_binary[16]", "span_id fixed_size_binary[8]",
        "parent_span_id fixed_size_binary[8]?", "start_time timestamp[ns]", "end_time timestamp[ns]", "duration int64",
        "name string", "kind string", "status string", "status_message string?", "properties string", "events string",
        "links string",
    ],
    "log_entries": [
        *SOURCE, "time timestamp[ns]", "target string", "level int32", "msg string", "properties string",
        "process_properties string",
    ],
    "measures": [
        *SOURCE, "time timestamp[ns]", "target string", "name string", "unit string", "value double",
        "properties string", "process_properties string",
    ],
    "process_spans": [
        "stream_id string", "thread_name string", "id int64", "parent int64", "depth uint32", "hash uint32",
        "begin timestamp[ns]", "end timestamp[ns]", "duration int64", "name string", "target string",
        "filename string", "line uint32",
    ],
    "perfetto_trace_chunks": ["chunk_id int32", "chunk_data binary"],
    "parse_block": ["object_index int64", "type_name string", "value string"],
    "list_view_sets": [
        "view_set_name string", "current_schema_hash binary", "schema string", "has_view_maker bool",
        "global_instance_available bool",
    ],
    "list_partitions": [
        "view_set_name string", "view_instance_id string", "begin_insert_time timestamp[ns]",
        "end_insert_time timestamp[ns]", "min_event_time timestamp[ns]?", "max_event_time timestamp[ns]?",
        "updated timestamp[ns]", "file_path string?", "file_size int64", "file_schema_hash binary",
        "source_data_hash binary", "num_rows int64", "partition_format_version int32", f"sort_order {TAGS}?",
        "max_sort_key_time timestamp[ns]?",
    ],
    "thread_spans": [
        "id int64", "parent int64", "depth uint32", "hash uint32", "begin timestamp[ns]", "end timestamp[ns]",
        "duration int64", "name string", "target string", "filename string", "line uint32",
    ],
    "async_events": [
        "stream_id string", "block_id string", "time timestamp[ns]", "event_type string", "span_id int64",
        "parent_span_id int64", "depth uint32", "hash uint32", "name string", "filename string", "target string",
        "line uint32",
    ],
    "net_spans": [
        "process_id string", "stream_id string", "span_id int64", "parent_span_id int64", "depth uint32", "kind string",
        "name string", "connection_name string", "is_outgoing bool", "begin_bits int64", "end_bits int64",
        "bit_size int64", "begin_time timestamp[ns]", "end_time timestamp[ns]",
    ],
    "images": [
        *SOURCE, "time timestamp[ns]", "name string", "format string", "payload_size int64", "data binary",
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
    **{name: ["time timestamp[ns]", "msg string"] for name in ADMINISTRATION},
}  # fmt: skip


@pytest.mark.parametrize("view_set", REGISTRY.names)
def test_columns(view_set: str) -> None:
    assert described(view_set) == COLUMNS[view_set]


def test_rows_are_in_a_range_by_the_time_columns_of_their_view() -> None:
    assert {name: (declared.begin_column, declared.end_column) for name, declared in REGISTRY.declarations.items()} == {
        "processes": ("insert_time", "last_update_time"),
        "streams": ("insert_time", "last_update_time"),
        "blocks": ("begin_time", "insert_time"),
        "quarantined_blocks": ("time", "time"),
        "log_entries": ("time", "time"),
        "measures": ("time", "time"),
        "thread_spans": ("begin", "end"),
        "otel_spans": ("start_time", "end_time"),
        "log_stats": ("time_bin", "time_bin"),
        "process_spans": ("begin", "end"),
        "perfetto_trace_chunks": (None, None),
        "parse_block": (None, None),
        "list_partitions": (None, None),
        "list_view_sets": (None, None),
        "async_events": ("time", "time"),
        "net_spans": ("begin_time", "end_time"),
        "images": ("time", "time"),
        **dict.fromkeys(ADMINISTRATION, (None, None)),
    }
