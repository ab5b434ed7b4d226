"""Merges Parquet files of one view into fewer, where the job runs: the same rows, in the view's order where it has one.

Row groups that are worth keeping are copied as they are. The others, which readers would pay for one by one, are decoded and
written again in groups of full size. Of a view whose rows are in order, groups that reach into each other are merged row by row.
Of a view whose files hold parts of rows, parts become one where they can. Memory: a few batches of each of the groups that reach
into each other, and one group that is being written, whatever the size.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lakehouse.errors import InternalError
from lakehouse.jobs.build import BuiltFile
from lakehouse.jobs.merge import LocalMerge, MergeResult
from lakehouse.parquet import ROW_GROUP_ROWS_MAX, FileWriter, filter_of_file
from lakehouse.parquet_groups import Footer, FooterError, GroupWriter, RowGroup, read_footer, same_schema
from lakehouse.ports import KeepsParts, View
from lakehouse.storage.digests import file_digests, whole_digest

COPIED_ROWS_MIN: Final = 1 << 14  # a row group of fewer rows, and …
COPIED_BYTES_MIN: Final = 1 << 19  # … of fewer bytes, is written again together with others
GROUP_BYTES_MAX: Final = 32 << 20  # of rows in memory that become one row group
READ_BYTES: Final = 64 << 20  # of rows in memory that are read of groups which reach into each other, all together
READ_ROWS: Final = 1 << 16
READ_ROWS_MIN: Final = 256

Key: TypeAlias = "tuple[Any, ...]"  # a row's values of the columns by which it is sorted


class UnsortedError(Exception):
    """Rows are not in the order that their view declares."""


def merge_files(view: View, merge: LocalMerge) -> MergeResult:
    """
    Raises:
        InternalError: A file has another schema than the view, or no footer.
    """
    job = merge.job
    damaged = tuple(
        key
        for key, sha256, path in zip(job.keys, job.sha256, merge.paths, strict=True)
        if sha256 is not None and not _is_as_written(path, sha256)
    )
    if damaged:
        return MergeResult(damaged=damaged)
    merging = _Merging(view, merge)
    if isinstance(view, KeepsParts):
        return MergeResult(merging.of_parts(view))
    is_sorted = bool(view.sorted_by)
    try:
        files = merging.run(view.sorted_by)
    except UnsortedError:  # as of threads whose clocks went back, in files of long ago
        is_sorted = False
        files = merging.run(())
    except FooterError as error:
        raise InternalError(f"a partition of {view.view_set} cannot be merged: {error}") from error
    return MergeResult(files, is_sorted=is_sorted)


def _is_as_written(path: Path, sha256: bytes) -> bool:
    """A copy that another reader has found damaged is taken away under whoever is about to read it."""
    try:
        return whole_digest(path) == sha256
    except FileNotFoundError:
        return False


@dataclass(slots=True)
class _Rewritten:
    """Row groups that become others, a few that reach into each other at a time."""

    clusters: list[list[RowGroup]]

    @property
    def groups(self) -> Iterator[RowGroup]:
        return (group for cluster in self.clusters for group in cluster)


@dataclass(slots=True)
class _Merging:
    view: View
    merge: LocalMerge
    _metadata: dict[Path, pq.FileMetaData] = field(default_factory=dict)

    def run(self, sorted_by: Sequence[str]) -> tuple[BuiltFile, ...]:
        footers = [read_footer(path) for path in self.merge.paths]
        if not all(same_schema(footer, footers[0]) for footer in footers):
            raise InternalError(f"partitions of {self.view.view_set} differ in type")
        groups = [group for footer in footers for group in footer.groups if group.rows]
        output = _Output(self.view, self.merge.output, footers[0], self.merge.job.file_bytes_max)
        try:
            for segment in _segments(groups, sorted_by):
                if isinstance(segment, RowGroup):
                    if sorted_by:
                        self._check_order(segment, sorted_by)
                    output.append(segment)
                else:
                    for written in self._written(segment, sorted_by):
                        output.append(written)
        finally:
            output.close()
        return output.files()

    def of_parts(self, view: KeepsParts) -> tuple[BuiltFile, ...]:
        """Parts of rows, of which several become one."""
        piece = self.merge.output / "piece"
        types = self.view.schema.types
        with FileWriter(piece, self.view.schema, types, self.view.begin_column, self.view.end_column) as writer:
            for batch in _full(view.merge_parts(self.merge.paths, self.merge.output)):
                writer.write(batch)
        footer = read_footer(piece)
        output = _Output(self.view, self.merge.output, footer, self.merge.job.file_bytes_max)
        for group in footer.groups:
            output.append(group)
        output.close()
        piece.unlink()
        return output.files()

    def _written(self, segment: _Rewritten, sorted_by: Sequence[str]) -> Iterator[RowGroup]:
        """The rows of a segment as row groups of a file that is there until the next is asked for."""
        types = self._types(segment)
        piece = self.merge.output / "piece"
        with FileWriter(piece, self.view.schema, types, self.view.begin_column, self.view.end_column) as writer:
            batches = (batch for cluster in segment.clusters for batch in self._rows(cluster, types, sorted_by))
            for batch in _full(batches):
                writer.write(batch)
        yield from read_footer(piece).groups
        piece.unlink()

    def _types(self, segment: _Rewritten) -> list[pa.DataType]:
        """Text whose values all are in dictionaries stays in them."""
        plain = frozenset[str]().union(*(group.plain for group in segment.groups))
        return [
            pa.dictionary(pa.int32(), f.type) if f.type == pa.string() and f.name not in plain else f.type
            for f in self.view.schema
        ]

    def _rows(
        self, cluster: Sequence[RowGroup], types: Sequence[pa.DataType], sorted_by: Sequence[str]
    ) -> Iterator[pa.RecordBatch]:
        streams: dict[Path, list[RowGroup]] = {}
        for group in cluster:
            streams.setdefault(group.path, []).append(group)
        ordered = [sorted(groups, key=lambda group: group.number) for groups in streams.values()]
        batches = [self._read(groups, types, READ_BYTES // len(ordered)) for groups in ordered]
        return merge_sorted(batches, sorted_by) if sorted_by else (batch for stream in batches for batch in stream)

    def _read(
        self, groups: Sequence[RowGroup], types: Sequence[pa.DataType], bytes_max: int
    ) -> Iterator[pa.RecordBatch]:
        schema = pa.schema([f.with_type(type_) for f, type_ in zip(self.view.schema, types, strict=True)])
        dictionaries = [f.name for f in schema if pa.types.is_dictionary(f.type)]
        for group in groups:
            with self._open(group.path, dictionaries) as file:
                described = file.metadata.row_group(group.number)
                rows = max(READ_ROWS_MIN, min(READ_ROWS, bytes_max * group.rows // max(1, described.total_byte_size)))
                for batch in file.iter_batches(rows, row_groups=[group.number], use_threads=False):
                    if batch.schema.types != schema.types or batch.schema.names != schema.names:
                        raise InternalError(f"a partition of {self.view.view_set} has other columns than the view")
                    yield pa.RecordBatch.from_arrays(batch.columns, schema=schema)

    def _check_order(self, group: RowGroup, sorted_by: Sequence[str]) -> None:
        with self._open(group.path, []) as file:
            last = None
            for batch in file.iter_batches(
                READ_ROWS, row_groups=[group.number], columns=list(sorted_by), use_threads=False
            ):
                last = _checked(batch, sorted_by, last)

    def _open(self, path: Path, dictionaries: Sequence[str]) -> pq.ParquetFile:
        file = pq.ParquetFile(
            path, metadata=self._metadata.get(path), read_dictionary=list(dictionaries), pre_buffer=False
        )
        self._metadata.setdefault(path, file.metadata)
        return file


class _Output:
    """Files that are filled one after the other."""

    def __init__(self, view: View, folder: Path, like: Footer, bytes_max: int) -> None:
        self._view, self._folder, self._like, self._bytes_max = view, folder, like, bytes_max
        self._writer: GroupWriter | None = None
        self._made: list[tuple[Path, list[RowGroup]]] = []

    def append(self, group: RowGroup) -> None:
        if self._writer is not None and self._writer.size_bytes + group.size_bytes > self._bytes_max:
            self.close()
        if self._writer is None:
            path = self._folder / f"{len(self._made):05}.parquet"
            path.unlink(missing_ok=True)  # of an attempt to keep an order that there is not
            self._writer = GroupWriter(path, self._like)
            self._made.append((path, []))
        self._writer.append(group)
        self._made[-1][1].append(group)

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def files(self) -> tuple[BuiltFile, ...]:
        return tuple(self._file(path, groups) for path, groups in self._made)

    def _file(self, path: Path, groups: Sequence[RowGroup]) -> BuiltFile:
        begins = [group.bounds(self._view.begin_column) for group in groups]
        ends = [group.bounds(self._view.end_column) for group in groups]
        sha256, tail = file_digests(path)
        return BuiltFile(
            path=path,
            rows=sum(group.rows for group in groups),
            size_bytes=path.stat().st_size,
            # Over both columns: a thread whose clock went back has spans that end before they begin.
            min_event_ns=min(least for least, _ in (*begins, *ends)),
            max_event_ns=max(most for _, most in (*begins, *ends)),
            max_sort_key_ns=max(most for _, most in begins),
            sha256=sha256,
            tail_digest=tail,
            filter=filter_of_file(path),
        )


def _segments(groups: Sequence[RowGroup], sorted_by: Sequence[str]) -> Iterator[RowGroup | _Rewritten]:
    """What comes out, in order: groups that are copied, and runs of those that are written again."""
    run: list[list[RowGroup]] = []
    for cluster in _clusters(groups, sorted_by):
        if len(cluster) > 1 or not _is_worth_copying(cluster[0]):
            run.append(cluster)
            continue
        yield from _ended(run)
        run = []
        yield cluster[0]
    yield from _ended(run)


def _ended(run: list[list[RowGroup]]) -> Iterator[RowGroup | _Rewritten]:
    if len(run) == 1 and len(run[0]) == 1:
        yield run[0][0]  # small, and nothing beside it to make it larger
    elif run:
        yield _Rewritten(run)


def _is_worth_copying(group: RowGroup) -> bool:
    return group.rows >= COPIED_ROWS_MIN or group.size_bytes >= COPIED_BYTES_MIN


def _clusters(groups: Sequence[RowGroup], sorted_by: Sequence[str]) -> Iterator[list[RowGroup]]:
    """Groups one by one, or together where their rows are between each other's."""
    if not sorted_by:
        yield from ([group] for group in groups)
        return
    places = {group.path: place for place, group in reversed(list(enumerate(groups)))}
    bounds = {(group.path, group.number): group.bounds(sorted_by[0]) for group in groups}

    def order(group: RowGroup) -> tuple[int, int, int]:
        return bounds[group.path, group.number][0], places[group.path], group.number

    cluster: list[RowGroup] = []
    reach = 0
    for group in sorted(groups, key=order):
        least, most = bounds[group.path, group.number]
        # Equal bounds are in order only if nothing else decides.
        if cluster and (least < reach or (least == reach and len(sorted_by) > 1)):
            cluster.append(group)
            reach = max(reach, most)
            continue
        if cluster:
            yield cluster
        cluster, reach = [group], most
    if cluster:
        yield cluster


def _full(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Batches that are worth a row group each."""
    run: list[pa.RecordBatch] = []
    rows = size = 0
    for whole in batches:
        start = 0
        while start < whole.num_rows:
            batch = whole.slice(start, ROW_GROUP_ROWS_MAX - rows)
            start += batch.num_rows
            run.append(batch)
            rows += batch.num_rows
            size += batch.nbytes
            if rows >= ROW_GROUP_ROWS_MAX or size >= GROUP_BYTES_MAX:
                yield _joined(run)
                run, rows, size = [], 0, 0
    if run:
        yield _joined(run)


def _joined(batches: Sequence[pa.RecordBatch]) -> pa.RecordBatch:
    return batches[0] if len(batches) == 1 else pa.concat_batches(batches)


def merge_sorted(streams: Sequence[Iterator[pa.RecordBatch]], sorted_by: Sequence[str]) -> Iterator[pa.RecordBatch]:
    """Rows of streams that are each in order, in order; equal ones in that of the streams. A batch of each is held.

    Columns of ``sorted_by`` are whole numbers, times or text without nulls.

    Raises:
        UnsortedError: A stream is not in order.
    """
    live = [stream for stream in (_Stream(batches, sorted_by) for batches in streams) if stream.advance()]
    while live:
        # Nothing that comes later precedes the least of the ends. What equals it may still come in the stream that it is
        # of, so that later streams keep theirs.
        bound = min(stream.end for stream in live)
        first = next(number for number, stream in enumerate(live) if stream.end == bound)
        parts = [stream.take(bound, inclusive=number <= first) for number, stream in enumerate(live)]
        parts = [part for part in parts if part.num_rows]
        joined = _joined(parts)
        if len(parts) > 1:
            keys = pa.table(_keys(joined, sorted_by), names=list(sorted_by))
            order = pc.sort_indices(keys, sort_keys=[(name, "ascending") for name in sorted_by])  # a stable sort
            joined = joined.take(order)
        yield joined
        live = [stream for stream in live if stream.rows or stream.advance()]


class _Stream:
    """One of several, and what is left of its batch."""

    def __init__(self, batches: Iterator[pa.RecordBatch], sorted_by: Sequence[str]) -> None:
        self._batches, self._sorted_by = batches, sorted_by
        self._batch: pa.RecordBatch | None = None
        self._end: Key | None = None

    @property
    def rows(self) -> int:
        return 0 if self._batch is None else self._batch.num_rows

    @property
    def end(self) -> Key:
        """The last row of the batch."""
        assert self._end is not None
        return self._end

    def advance(self) -> bool:
        """The next batch; false if there is none."""
        for batch in self._batches:
            if batch.num_rows:
                self._batch, self._end = batch, _checked(batch, self._sorted_by, self._end)
                return True
        return False

    def take(self, bound: Key, *, inclusive: bool) -> pa.RecordBatch:
        """The rows before ``bound``, or up to it."""
        assert self._batch is not None
        count = pc.sum(_before(_keys(self._batch, self._sorted_by), bound, inclusive=inclusive)).as_py() or 0
        taken, self._batch = self._batch.slice(0, count), self._batch.slice(count)
        return taken


def _checked(batch: pa.RecordBatch, sorted_by: Sequence[str], previous: Key | None) -> Key:
    """The last row of a batch that is in order, and after ``previous``.

    Raises:
        UnsortedError: It is not.
    """
    keys = _keys(batch, sorted_by)
    ordered = _before([key.slice(0, len(key) - 1) for key in keys], [key.slice(1) for key in keys], inclusive=True)
    if pc.all(ordered).as_py() is False or (previous is not None and tuple(key[0].as_py() for key in keys) < previous):
        raise UnsortedError
    return tuple(key[-1].as_py() for key in keys)


def _keys(batch: pa.RecordBatch, sorted_by: Sequence[str]) -> list[pa.Array]:
    """In types that compare as Python's values do."""
    columns = [batch.column(name) for name in sorted_by]
    return [
        column.dictionary_decode()
        if pa.types.is_dictionary(column.type)
        else column.view(pa.int64())
        if pa.types.is_timestamp(column.type)
        else column
        for column in columns
    ]


def _before(keys: Sequence[pa.Array], others: Sequence[Any], *, inclusive: bool) -> pa.Array:
    """Which rows come before others, by the first column in which they differ."""
    *before, last = zip(keys, others, strict=True)
    result = (pc.less_equal if inclusive else pc.less)(*last)
    for key, other in reversed(before):
        result = pc.or_(pc.less(key, other), pc.and_(pc.equal(key, other), result))
    return result
