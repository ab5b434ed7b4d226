"""What administrators have done to the lake: partitions made ahead of queries, made again, taken away; or what that would be.

Everything goes through ``Materializer`` and the catalog's own operations, so a query is right before, after and in between,
and each step happens whole or not at all: whoever stops reading stops the work before its next step. What is taken away is
made again when a query reads it. A bucket that is kept without its blocks, which nothing could make again, stays as it is.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, TypeAlias

import structlog

from lakehouse.buckets.catalog import BucketCatalog
from lakehouse.buckets.materialize import Materializer
from lakehouse.buckets.model import HeldBucket, InstanceGoneError, PartitionFile, PartitionsOf, Retired
from lakehouse.buckets.planning import version_of
from lakehouse.buckets.sharing import Allowance, Progress
from lakehouse.errors import BackendUnavailableError, PermissionDeniedError, QueryError
from lakehouse.model import BUCKET_SECONDS, GLOBAL_INSTANCE, NS_PER_US, Caller, CallerKind, ViewKey
from lakehouse.ports import View
from lakehouse.sources import SourceRegistry

log = structlog.get_logger(__name__)

Messages: TypeAlias = AsyncGenerator[str, None]
Row: TypeAlias = Sequence[str | None]

DRY_RUN: Final = "_dry_run"
_BUCKET: Final = timedelta(seconds=BUCKET_SECONDS)
_DAY: Final = timedelta(days=1)  # no bucket is longer
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST, _LAST = datetime(1, 1, 2, tzinfo=UTC), datetime(9999, 12, 30, tzinfo=UTC)  # Postgres and Python have both
_SHOWN_CHARS_MAX: Final = 200
_NOTHING: Final = PartitionFile("")


def require_admin(caller: Caller, functions: Sequence[str]) -> None:
    """
    Raises:
        PermissionDeniedError: The caller may not have this done.
    """
    if functions and not caller.is_admin:
        if caller.kind is CallerKind.ANONYMOUS:
            who = "without identities, whoever calls from the server's own machine, over its loopback address"
        else:
            who = f"{caller.name} is none of those whom the server was told"
        raise PermissionDeniedError(f"{functions[0]} is for administrators: {who}")


@dataclass(frozen=True, slots=True)
class Administration:
    """For one server."""

    registry: SourceRegistry
    catalog: BucketCatalog
    materializer: Materializer

    def run(self, function: str, arguments: Sequence[str], progress: Progress) -> Messages:
        """The messages of one of the table functions as it works, one for each step; the arguments as its source has them."""
        name = function.removesuffix(DRY_RUN)
        is_dry = name != function
        if name == "retire_partitions":
            view_set, instance, begin, end = arguments
            return self.retire(ViewKey(view_set, instance), _Window.of(begin, end), is_dry=is_dry)
        view_set, begin, end, step = arguments
        window = _Window.of(begin, end, step)
        if name == "materialize_partitions":
            return self.materialize(view_set, window, progress, is_dry=is_dry)
        return self.regenerate(view_set, window, is_dry=is_dry)

    async def materialize(self, view_set: str, window: _Window, progress: Progress, *, is_dry: bool) -> Messages:
        """Make what is stale of a global instance."""
        view, reason = self._global_view(view_set)
        if view is None:
            yield reason
            return
        with _gone_is_trouble():
            stale = await self.materializer.stale_within(view, GLOBAL_INSTANCE, window.begin, window.end)
            steps = window.steps(stale)
            if not steps:
                yield f"all partitions of {view_set} from {window.words} are fresh"
            for number, (step, begins) in enumerate(steps, 1):
                if not is_dry:
                    await self.materializer.ensure_buckets(view, GLOBAL_INSTANCE, begins, self._allowance(progress))
                made = "would be made" if is_dry else "made"
                yield f"{number} of {len(steps)}: {view_set} from {step.words}: {_buckets(len(begins))} {made}"

    async def regenerate(self, view_set: str, window: _Window, *, is_dry: bool) -> Messages:
        """Make what there is of a global instance again."""
        view, reason = self._global_view(view_set)
        if view is None:
            if view_set not in self.registry.names:
                raise QueryError(reason)
            yield reason
            return
        window.require_whole_hours()
        with _gone_is_trouble():
            held = await self._held(view, window)
            frozen = [bucket for bucket in held if bucket.frozen]
            if frozen:
                raise QueryError(
                    f"{len(frozen)} of {len(held)} partitions of {view_set} from {window.words} are kept without their blocks,"
                    f" the first of {frozen[0].begin:%Y-%m-%d %H:%M}: made again they would lose their rows, so nothing was"
                    " made; choose a window without them"
                )
            steps = window.steps([bucket.bucket_begin for bucket in held])
            if not steps:
                yield f"there are no partitions of {view_set} from {window.words}"
            for number, (step, begins) in enumerate(steps, 1):
                for begin in begins if not is_dry else ():
                    await self.materializer.regenerate(view, GLOBAL_INSTANCE, begin)
                made = "would be made again" if is_dry else "made again"
                yield f"{number} of {len(steps)}: {view_set} from {step.words}: {_buckets(len(begins))} {made}"

    async def _held(self, view: View, window: _Window) -> list[HeldBucket]:
        """What is kept of the global instance in the version of this server, and lies in the window.

        Raises:
            QueryError: A merged day is cut by it.
        """
        key, version = ViewKey(view.view_set, GLOBAL_INSTANCE), version_of(view)
        around = await self.catalog.held_buckets(key, max(window.begin - _DAY, _FIRST), min(window.end + _DAY, _LAST))
        held = [
            bucket
            for bucket in around
            if bucket.instance.version == version and bucket.end > window.begin and bucket.begin < window.end
        ]
        for bucket in held:
            if bucket.begin < window.begin or bucket.end > window.end:
                raise QueryError(
                    f"partitions must align with the window: those from {_Window(bucket.begin, bucket.end).words} are one,"
                    f" and the window {window.words} cuts it"
                )
        return held

    async def retire(self, key: ViewKey, window: _Window, *, is_dry: bool) -> Messages:
        """Take away what there is of an instance, in every version."""
        held = await self.catalog.held_buckets(key, window.begin, window.end)
        ranges: dict[tuple[datetime, datetime], list[HeldBucket]] = {}
        for bucket in held:
            ranges.setdefault((bucket.begin, bucket.end), []).append(bucket)
        if not ranges:
            yield f"there are no partitions of {_shown(key.view_set)} of {_shown(key.instance)} from {window.words}"
        for number, ((begin, end), buckets) in enumerate(ranges.items(), 1):
            kept = any(bucket.frozen for bucket in buckets)
            outcome = Retired.KEPT if kept else Retired.GONE
            if not is_dry:
                (outcome,) = await self.catalog.retire([PartitionsOf(key.view_set, key.instance, begin, end)])
            files, rows = sum(bucket.files for bucket in buckets), sum(bucket.rows for bucket in buckets)
            size = sum(bucket.size_bytes for bucket in buckets)
            yield (
                f"{number} of {len(ranges)}: {key.view_set} of {key.instance} from {_Window(begin, end).words}:"
                f" {files} files, {rows} rows, {size} bytes {_OUTCOMES[outcome, is_dry]}"
            )
            if not is_dry and outcome is Retired.GONE:
                log.info("partitions.retired", view_set=key.view_set, instance=key.instance, begin=begin.isoformat())

    async def retire_by_metadata(self, rows: Sequence[Row], caller: Caller) -> list[str]:
        """The answers of ``retire_partition_by_metadata`` to a vector of rows."""
        return await self._retire(
            "retire_partition_by_metadata",
            [_partitions_of(row) for row in rows],
            "all arguments must be non-null",
            caller,
        )

    async def retire_by_file(self, rows: Sequence[Row], caller: Caller) -> list[str]:
        """The answers of ``retire_partition_by_file``."""
        chosen = [None if path is None else PartitionFile(path) for (path,) in rows]
        return await self._retire("retire_partition_by_file", chosen, "file_path cannot be null", caller)

    async def _retire(
        self, function: str, chosen: Sequence[PartitionsOf | PartitionFile | str | None], of_null: str, caller: Caller
    ) -> list[str]:
        """All of them, or none: what stands in the way of one is an error of the others as well."""
        require_admin(caller, [function])
        wanted = dict.fromkeys(one for one in chosen if isinstance(one, PartitionsOf | PartitionFile))
        is_whole = all(one in wanted for one in chosen)
        asked = [*wanted] if is_whole else [*wanted, _NOTHING]  # which keeps the others from going
        outcomes = dict(zip(wanted, await self.catalog.retire(asked) if wanted else (), strict=False))
        gone = [
            one for one in chosen if isinstance(one, PartitionsOf | PartitionFile) and outcomes[one] is Retired.GONE
        ]
        is_undone = len(gone) < len(chosen)
        if gone and not is_undone:
            log.info("partitions.retired", caller=caller.name, partitions=len(outcomes))
        answers = []
        for one in chosen:
            if one is None:
                answers.append(f"ERROR: {of_null}")
            elif isinstance(one, str):
                answers.append(f"ERROR: {one}")
            elif outcomes[one] is Retired.NOT_FOUND:
                answers.append(f"ERROR: Partition not found: {_words(one)}")
            elif outcomes[one] is Retired.KEPT:
                answers.append(
                    f"ERROR: Partition is kept without its blocks, nothing could make it again: {_words(one)}"
                )
            elif is_undone:
                answers.append(f"ROLLED_BACK: All {len(gone)} previous changes were reverted due to errors in batch")
            else:
                answers.append(f"SUCCESS: Retired partition {_words(one)}")
        return answers

    def _global_view(self, view_set: str) -> tuple[View | None, str]:
        """What is made ahead of time, or why nothing is."""
        if view_set not in self.registry.names or not self._is_view_set(view_set):
            return None, f"can't find view {_shown(view_set)}"
        view = self.registry.find(view_set).view
        if view is None:
            return (
                None,
                f"{view_set} has no partitions: its rows are read from the catalog, as they are when it is asked",
            )
        if not view.has_global:
            return (
                None,
                f"{view_set} has no global instance: its partitions are made when somebody asks for an instance",
            )
        return view, ""

    def _is_view_set(self, name: str) -> bool:
        source = self.registry.find(name)
        return source.is_table or source.view is not None

    def _allowance(self, progress: Progress) -> Allowance:
        """Of one step."""
        return self.materializer.allowance(progress)


@dataclass(frozen=True, slots=True)
class _Window:
    """A half-open range of insert time, in steps from its begin."""

    begin: datetime
    end: datetime
    step: timedelta = _BUCKET

    @classmethod
    def of(cls, begin_ns: str, end_ns: str, step_s: str | None = None) -> _Window:
        """From what the arguments of a call say."""
        begin, end = _time(int(begin_ns)), _time(int(end_ns))
        if begin >= end:
            raise QueryError(f"the window must end after it begins: {begin.isoformat()}, {end.isoformat()}")
        step = BUCKET_SECONDS if step_s is None else int(step_s)
        if step <= 0:
            raise QueryError(f"a step must last at least a second, not {step}")
        return cls(begin, end, min(timedelta(seconds=min(step, 10**9)), end - begin))

    @property
    def words(self) -> str:
        return f"{_instant(self.begin)} to {_instant(self.end)}"

    def require_whole_hours(self) -> None:
        """Partitions are those of an hour of insert time: none may be cut by the window or by a step of it."""
        for name, value in (("begin", self.begin - _EPOCH), ("end", self.end - _EPOCH), ("step", self.step)):
            if value % _BUCKET and not (name == "step" and self.step == self.end - self.begin):
                raise QueryError(
                    f"partitions must align with the window: they are those of whole hours or days, UTC, and its {name} is not one"
                    f" ({self.words} in steps of {self.step.total_seconds():g} s)"
                )

    def steps(self, begins: Sequence[datetime]) -> list[tuple[_Window, list[datetime]]]:
        """The steps with buckets, which belong to the step that they begin in, or to the first."""
        found: dict[int, list[datetime]] = {}
        for begin in sorted(set(begins)):
            found.setdefault(max(0, (begin - self.begin) // self.step), []).append(begin)
        return [
            (
                _Window(self.begin + number * self.step, min(self.end, self.begin + (number + 1) * self.step)),
                of_step,
            )
            for number, of_step in found.items()
        ]


_OUTCOMES: Final = {
    (Retired.GONE, False): "retired",
    (Retired.GONE, True): "would be retired",
    (Retired.NOT_FOUND, False): "were replaced or retired meanwhile",
    (Retired.KEPT, False): "kept: their blocks are gone, and nothing could make them again",
    (Retired.KEPT, True): "would be kept: their blocks are gone, and nothing could make them again",
}


def _partitions_of(row: Row) -> PartitionsOf | str | None:
    view_set, instance, begin, end, version = row
    if view_set is None or instance is None or begin is None or end is None or version is None:
        return None
    try:
        return PartitionsOf(
            view_set, instance, _exact_time(int(begin)), _exact_time(int(end)), bytes.fromhex(version) or None
        )
    except QueryError as error:
        return str(error)


def _words(one: PartitionsOf | PartitionFile) -> str:
    if isinstance(one, PartitionFile):
        return _shown(one.key)
    return f"{_shown(one.view_set)}/{_shown(one.instance)} [{_instant(one.begin)}, {_instant(one.end)})"


def _time(time_ns: int) -> datetime:
    """As the catalog can compare it: whole microseconds, in its years."""
    try:
        return min(max(_EPOCH + timedelta(microseconds=time_ns // NS_PER_US), _FIRST), _LAST)
    except OverflowError:
        return _FIRST if time_ns < 0 else _LAST


def _exact_time(time_ns: int) -> datetime:
    if time_ns % NS_PER_US:
        raise QueryError("insert times of partitions are whole microseconds")
    return _time(time_ns)


def _instant(time: datetime) -> str:
    return time.isoformat().replace("+00:00", "Z")


def _buckets(count: int) -> str:
    return "1 bucket" if count == 1 else f"{count} buckets"


def _shown(text: str) -> str:
    return text if len(text) <= _SHOWN_CHARS_MAX else f"{text[:_SHOWN_CHARS_MAX]}…"


@contextmanager
def _gone_is_trouble() -> Iterator[None]:
    """An instance that goes away meanwhile is trouble of the moment."""
    try:
        yield
    except InstanceGoneError as error:
        raise BackendUnavailableError("a view instance was removed while it was administered: ask again") from error
