"""The query engine of one worker process: inspects a statement, then runs it over the files it is given.

One statement at a time, from one thread; only ``interrupt`` may be called from another. It knows no socket, no store
and no catalog, and opens no file but those of the relations it is handed. A database serves again for the same
identity and the same files, as long as every statement on it ended cleanly.
"""

from __future__ import annotations

import json
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Generic, TypeVar

import duckdb
import pyarrow as pa

from lakehouse.engine.bounds import ALL_ROWS, NO_ROWS, find_rows, reference
from lakehouse.engine.columns import columns_read
from lakehouse.engine.database import Database
from lakehouse.engine.functions import own_functions, read_by
from lakehouse.engine.gate import Checked, judge
from lakehouse.engine.limits import DEFAULT_LIMITS, EngineLimits
from lakehouse.engine.moments import has_moments, references_with_moments
from lakehouse.engine.names import INFORMATION_STAND_IN
from lakehouse.engine.origins import Origins
from lakehouse.engine.output import (
    PAIRS_AS_TEXT,
    EdgeConverter,
    edge_schema,
    on_its_way_out,
    shows_stored_columns,
    split_by_bytes,
)
from lakehouse.engine.parameters import Declared, Executable, Parameters, Template
from lakehouse.engine.parse import Parser
from lakehouse.engine.payloads import Fetch
from lakehouse.engine.plan import may_reject_rows, plan_of
from lakehouse.engine.relations import Call, EngineCatalog, Inspection, Origin, Reference, Relation
from lakehouse.engine.times import cannot_be_kept
from lakehouse.engine.translate import poisons, translate
from lakehouse.engine.tree import Parsed
from lakehouse.engine.values import BoundValue, bound_values, python_column
from lakehouse.errors import LakeflightError, QueryCancelledError, QueryError
from lakehouse.model import EVERYTHING, Spelling

_T = TypeVar("_T")
_INSPECTIONS_MAX: Final = 4
_SHOW_TABLES: Final = (
    f"SELECT table_catalog, table_schema, table_name, table_type FROM {INFORMATION_STAND_IN}.tables ORDER BY table_name"
)
_DESCRIBE: Final = 'column_name, column_type AS data_type, "null" AS is_nullable'
_EXPLAIN_SCHEMA: Final = pa.schema([("plan_type", pa.string()), ("plan", pa.string())])
_HIDDEN_IN_PLANS: Final = ("file", "path")


@dataclass(slots=True)
class _Inspector:
    """A locked database over typed empty relations: it binds every statement of one catalog and holds nothing."""

    database: Database
    parser: Parser
    origins: Origins

    def close(self) -> None:
        self.database.close()
        self.origins.close()


@dataclass(frozen=True, slots=True)
class _DatabaseKey:
    identity: str
    paths: frozenset[str]


_MemoryKey = tuple[str, str, tuple[str | None, ...] | None]  # catalog, statement, bound strings; None: nothing bound


class Memory(Generic[_T]):
    """The last few answers, by statement: as many as their number and their text together allow."""

    def __init__(self, limits: EngineLimits) -> None:
        self._entries: OrderedDict[_MemoryKey, _T] = OrderedDict()
        self._entries_max = limits.statements_remembered_max
        self._text_max = limits.text_remembered_max
        self._text = 0

    def get(self, key: _MemoryKey) -> _T | None:
        if key not in self._entries:
            return None
        self._entries.move_to_end(key)
        return self._entries[key]

    def put(self, key: _MemoryKey, value: _T) -> None:
        if key not in self._entries:
            self._text += _text_size(key)
        self._entries[key] = value
        while len(self._entries) > self._entries_max or self._text > self._text_max:
            oldest, _ = self._entries.popitem(last=False)
            self._text -= _text_size(oldest)


def _text_size(key: _MemoryKey) -> int:
    _, sql, bound = key
    return len(sql) + sum(len(text) for text in bound or () if text)


class QueryEngine:
    """See the module. ``close`` it when the worker ends."""

    def __init__(self, limits: EngineLimits = DEFAULT_LIMITS) -> None:
        self._limits = limits
        self._inspectors: OrderedDict[str, _Inspector] = OrderedDict()
        self._judged: Memory[Checked] = Memory(limits)
        self._inspected: Memory[Inspection] = Memory(limits)
        self._parameter_types: Memory[Declared] = Memory(limits)
        self._templates: Memory[Template] = Memory(limits)
        self.spare: Database | None = None
        self.current: Database | None = None
        self._key: _DatabaseKey | None = None
        self._reader: ResultReader | None = None
        self._lock = threading.Lock()  # guards what interrupt() looks at
        self._busy: Any = None
        self._interrupted = False

    # --- inspect

    def inspect(
        self,
        sql: str,
        parameters: Any,
        catalog: EngineCatalog,
        *,
        now_ns: int | None = None,
        spelling: Spelling = Spelling.PLAIN,
    ) -> Inspection:
        """Judge and bind a statement without touching a file.

        Args:
            parameters: Bound values in order, or a record batch of one row; ``None`` at prepare, where each is NULL and an
                instance is unknown.
        Raises:
            LakeflightError: The statement is refused, or does not bind; the message is for the user.
        """
        now_ns = time.time_ns() if now_ns is None else now_ns
        key: _MemoryKey = (f"{catalog.digest}/{spelling.value}", sql, None if parameters is None else ())
        known = self._inspected.get(key) if not parameters else None
        if known is not None:
            return replace(known, now_ns=now_ns)
        self._begin()
        inspector: _Inspector | None = None
        try:
            inspector = self._inspector(catalog)
            found = self._inspect(inspector, sql, parameters, catalog, now_ns, spelling)
            if not parameters and not found.volatile:
                self._inspected.put(key, found)
            return found
        except Exception as error:
            if inspector is not None and not isinstance(error, LakeflightError) and poisons(error):
                self._drop_inspector(catalog)
            raise translate(error) from error
        finally:
            self._end()

    def _inspect(
        self,
        inspector: _Inspector,
        sql: str,
        parameters: Any,
        catalog: EngineCatalog,
        now_ns: int,
        spelling: Spelling,
    ) -> Inspection:
        database = inspector.database
        self._watch(database)
        bound = None if parameters is None else _bound(parameters)
        checked = self._check(inspector, sql, bound, catalog)
        if checked.reads_clock:
            database.set_now(now_ns)
        if checked.reads_information or checked.kind == "show_tables":
            database.describe(catalog)
        calls = database.stand_ins(checked.calls)  # before anything is bound: those of the last statement are others
        declared = self._declared(database, checked, sql, catalog)
        reads = checked.kind not in ("describe", "show_tables") and bool(checked.tables or checked.calls)
        closed = ""
        if bound is None and checked.parameters:
            executable = Parameters(database.connection, checked).prepared(declared)
        else:
            values = bound or []
            template = self._template(inspector, checked, sql, values, catalog)
            executable, closed = template.bound(values), template.closed(database.connection, values)
        database.use_functions(executable.text)
        timed = tuple(references_with_moments(database.connection, closed)) if closed and _has_moments(checked) else ()
        binds = bound is not None or declared.binds
        schema = self._schema(inspector, checked, executable, spelling, catalog, must_bind=binds)
        references = self._references(database, checked, calls, catalog, closed) if reads else ()
        if reads and timed:
            references = (*(one for one in references if not (one.is_call and has_moments(one.relation))), *timed)
        is_bounded = any(
            reference.range != EVERYTHING or reference.equals or reference.ended_by_ns is not None
            for reference in references
        )
        return Inspection(
            kind=checked.kind,
            references=references,
            parameters=checked.parameters,
            volatile=checked.reads_clock and is_bounded,
            schema=_serialized(schema),
            parameter_schema=_serialized(declared.schema(spelling)),
            now_ns=now_ns,
            needs_relations=reads,
            administers=tuple(sorted(checked.administers)),
        )

    def _declared(self, database: Database, checked: Checked, sql: str, catalog: EngineCatalog) -> Declared:
        """The types of parameters; values do not matter to them."""
        if not checked.parameters:
            return Declared()
        key: _MemoryKey = (catalog.digest, sql, None)
        known = self._parameter_types.get(key)
        if known is None:
            known = Parameters(database.connection, checked).declare()
            self._parameter_types.put(key, known)
        return known

    def _template(
        self, inspector: _Inspector, checked: Checked, sql: str, bound: Sequence[BoundValue], catalog: EngineCatalog
    ) -> Template:
        """What runs. Of values it depends on their types, and on those that are text, which stand in it as literals."""
        shown = tuple(
            f"'{one.value}" if one.type.is_text and one.value is not None else one.type.in_text for one in bound
        )
        key: _MemoryKey = (catalog.digest, sql, shown)
        is_short = sum(map(len, shown)) <= self._limits.bound_text_remembered_max
        known = self._templates.get(key) if is_short else None
        if known is None:
            known = Parameters(inspector.database.connection, checked).template(bound)
            if is_short:
                self._templates.put(key, known)
        return known

    def _references(
        self, database: Database, checked: Checked, calls: Mapping[str, Call], catalog: EngineCatalog, closed: str
    ) -> tuple[Reference, ...]:
        """What the statement reads, and which rows of it can matter. Without values for its parameters that is all."""
        tables: dict[str, Call | str] = {name: name for name in checked.tables} | dict(calls)
        declared = {name: catalog.tables[name] for name in checked.tables}
        declared |= {table: catalog.view_sets[read_by(call)[0]] for table, call in calls.items()}
        plan = None
        if closed and may_reject_rows(checked.tree):
            plan = plan_of(database.connection, closed, self._limits)
        self.check_interrupt()  # the engine answers with a plan's error, not with this one
        try:
            rows = find_rows(plan, declared) if plan is not None else dict.fromkeys(tables, ALL_ROWS)
        except RecursionError:
            rows = dict.fromkeys(tables, ALL_ROWS)
        columns = columns_read(checked.tree, tables)
        return tuple(
            replace(reference(named, rows.get(table, NO_ROWS)), columns=columns)
            for table, named in sorted(tables.items())
        )

    def _schema(
        self,
        inspector: _Inspector,
        checked: Checked,
        executable: Executable,
        spelling: Spelling,
        catalog: EngineCatalog,
        *,
        must_bind: bool,
    ) -> Any:
        database = inspector.database
        try:
            if checked.kind == "explain":
                database.connection.sql(executable.text, params=list(executable.values))  # to find a mistake here
                return _EXPLAIN_SCHEMA
            relation = _relation(database, checked, executable)
        except duckdb.Error as error:
            if not must_bind:
                return pa.schema([])  # what the columns are, values decide
            if executable.repaired_function is not None and isinstance(
                error, (duckdb.BinderException, duckdb.CatalogException)
            ):
                raise cannot_be_kept(executable.repaired_function) from error
            raise
        origins = self._origins(inspector, checked, executable, spelling, catalog)
        tree = checked.tree if checked.kind == "query" else None
        return edge_schema(relation.columns, relation.types, tree, spelling, origins, checked.folded)

    def _origins(
        self,
        inspector: _Inspector,
        checked: Checked,
        executable: Executable,
        spelling: Spelling,
        catalog: EngineCatalog,
    ) -> Sequence[Origin | None]:
        """What the columns of a statement are to the original, if that matters to how they are spelled."""
        if checked.kind != "query" or not spelling & (Spelling.JSONB | Spelling.DICTIONARIES):
            return ()

        def bind(database: Database) -> Any:
            self._watch(database)
            database.stand_ins(checked.calls)
            if checked.reads_information:
                database.describe(catalog)
            if checked.reads_clock:
                database.set_now(0)
            database.use_functions(executable.text)
            return _relation(database, checked, executable)

        return inspector.origins.find(bind, spelling)

    def _check(
        self, inspector: _Inspector, sql: str, bound: Sequence[BoundValue] | None, catalog: EngineCatalog
    ) -> Checked:
        """The gate's judgement. Of bound values it reads strings alone, so statements are remembered by these."""
        checked = self._judge(inspector, sql, bound, catalog)
        inspector.database.use_functions(checked.text)
        if bound is not None and len(bound) != checked.parameters:
            raise QueryError(f"the statement has {checked.parameters} parameters, {len(bound)} were bound")
        return checked

    def _judge(
        self, inspector: _Inspector, sql: str, bound: Sequence[BoundValue] | None, catalog: EngineCatalog
    ) -> Checked:
        strings = None if not bound else tuple(one.value if one.type.is_text else None for one in bound)
        key: _MemoryKey = (catalog.digest, sql, strings)
        is_short = sum(len(text) for text in strings or () if text) <= self._limits.bound_text_remembered_max
        known = self._judged.get(key) if is_short else None
        if known is not None:
            return known
        parsed = inspector.parser.parse(sql)
        checked = self._judge_parsed(parsed, strings, catalog)
        translated = inspector.parser.translate(parsed)
        if translated is not None:
            checked = self._judge_parsed(translated, strings, catalog)
        if checked.is_reworded:
            checked.tree = inspector.parser.parse(checked.text).node
        if is_short:
            self._judged.put(key, checked)
        return checked

    def _judge_parsed(self, parsed: Parsed, strings: Sequence[Any] | None, catalog: EngineCatalog) -> Checked:
        return judge(
            parsed,
            tables=catalog.tables,
            view_sets=catalog.view_sets,
            time_columns=catalog.time_columns,
            other_columns=catalog.other_columns,
            parameters=strings,
            limits=self._limits,
        )

    def _inspector(self, catalog: EngineCatalog) -> _Inspector:
        known = self._inspectors.get(catalog.digest)
        if known is not None:
            self._inspectors.move_to_end(catalog.digest)
            return known
        limits = replace(self._limits, spill_folder="", spill_bytes_max=0)  # it runs nothing
        database = Database(limits, ["explain_output = 'all'"], plans=True)
        database.declare(catalog)
        database.use_functions(" ".join(function.name for function in own_functions() if function.is_private))
        database.outline_functions()
        database.lock([])
        made = _Inspector(database, Parser(database.connection, self._limits), Origins(self._limits, catalog))
        self._inspectors[catalog.digest] = made
        if len(self._inspectors) > _INSPECTIONS_MAX:
            self._inspectors.popitem(last=False)[1].close()
        return made

    def _drop_inspector(self, catalog: EngineCatalog) -> None:
        dropped = self._inspectors.pop(catalog.digest, None)
        if dropped is not None:
            dropped.close()

    # --- run

    def run(
        self,
        sql: str,
        parameters: Any,
        relations: Sequence[Relation],
        *,
        catalog: EngineCatalog,
        identity: str,
        row_limit: int | None = None,
        now_ns: int | None = None,
        metadata: Mapping[str, Path | bytes] | None = None,
        spelling: Spelling = Spelling.PLAIN,
        fetch: Fetch | None = None,
    ) -> ResultReader:
        """Start a statement that ``inspect`` has let pass; rows are computed as the reader is pulled.

        Args:
            relations: Every relation of the inspection, under ``relation_name`` for view instances.
            identity: Whose statement it is: a database is never shared between identities.
            row_limit: At most this many rows, on top of the statement's own limit.
            now_ns: ``Inspection.now_ns``, so that bounds and rows follow the same clock.
            metadata: CSV by view set, of one snapshot, in a file or as it is, for relations whose rows come from the catalog.
            spelling: As in the inspection.  fetch: Has the payloads of blocks.
        """
        if self._reader is not None:
            raise RuntimeError("the previous result is still open")
        self._begin()
        paths = [path for relation in relations for path in (*relation.files, *relation.files_inside)]
        try:
            return self._run(
                sql,
                parameters,
                relations,
                catalog,
                _DatabaseKey(identity, frozenset(paths)),
                row_limit,
                time.time_ns() if now_ns is None else now_ns,
                metadata or {},
                spelling,
                fetch,
            )
        except Exception as error:
            cause = self.cause(error)
            self.finish(error)
            raise translate(cause, paths) from error

    def _run(
        self,
        sql: str,
        parameters: Any,
        relations: Sequence[Relation],
        catalog: EngineCatalog,
        key: _DatabaseKey,
        row_limit: int | None,
        now_ns: int,
        metadata: Mapping[str, Path | bytes],
        spelling: Spelling,
        fetch: Fetch | None,
    ) -> ResultReader:
        inspector = self._inspector(catalog)
        self._watch(inspector.database)
        bound = _bound(parameters)
        checked = self._check(inspector, sql, bound, catalog)
        if checked.reads_clock:  # what is repaired follows from what constants and the clock fold to
            inspector.database.set_now(now_ns)
        executable = self._template(inspector, checked, sql, bound, catalog).bound(bound)
        if checked.kind in ("describe", "show_tables"):  # answered from the declarations: no file is opened
            database = inspector.database
        else:
            database = self._database(key)
            self._watch(database)
            database.payloads.begin(fetch)
            database.bind(
                relations, catalog, metadata, columns_read(checked.tree, checked.tables) if metadata else None
            )
        if checked.reads_information or checked.kind == "show_tables":
            database.describe(catalog)
        if checked.reads_clock:
            database.set_now(now_ns)
        database.use_functions(executable.text)
        self.check_interrupt()
        if checked.kind == "explain":
            rows = _explain(database, checked, executable)
            self._reader = ResultReader(
                self, _EXPLAIN_SCHEMA, None, iter(rows[:row_limit].to_batches()), sorted(key.paths)
            )
            return self._reader
        origins = self._origins(inspector, checked, executable, spelling, catalog)
        self._watch(database)
        relation = _relation(database, checked, executable)
        tree = checked.tree if checked.kind == "query" else None
        schema = edge_schema(relation.columns, relation.types, tree, spelling, origins, checked.folded)
        projected = on_its_way_out(relation.columns, relation.types, schema)
        if projected is not None:
            database.use_functions(PAIRS_AS_TEXT)
            relation = relation.project(projected)
        if row_limit is not None:
            relation = relation.limit(row_limit)
        one_by_one = any(read.made_by for read in relations)  # a row may be as large as a batch
        batches = relation.to_arrow_reader(1 if one_by_one else self._batch_rows(schema))
        converter = EdgeConverter(batches.schema, schema, stored=shows_stored_columns(checked.tree))
        pieces = (
            piece
            for batch in batches
            for piece in map(converter.convert, split_by_bytes(batch, self._limits.batch_bytes_max))
        )
        self._reader = ResultReader(self, schema, batches, pieces, sorted(key.paths))
        return self._reader

    def _batch_rows(self, schema: Any) -> int:
        """About one message of rows: strings take more room than numbers, and a batch that is cut costs more."""
        width = sum(8 if pa.types.is_primitive(kind) else 40 for kind in schema.types) or 8
        rows = self._limits.batch_bytes_max // width
        return max(2_048, min(self._limits.batch_rows_max, rows - rows % 2_048))

    def _database(self, key: _DatabaseKey) -> Database:
        if self.current is not None and self._key == key:
            return self.current
        self._discard()
        database, self.spare = self.spare or Database(self._limits), None
        self.current, self._key = database, key
        database.lock(sorted(key.paths))
        return database

    def _discard(self) -> None:
        if self.current is not None:
            self.current.close()
        self.current, self._key = None, None

    # --- around a statement

    def premake(self) -> None:
        """Make the next database ahead of its statement. For idle moments."""
        if self.spare is None:
            self.spare = Database(self._limits)

    def interrupt(self) -> None:
        """Stop what runs now; safe from any thread. The statement fails with ``QueryCancelledError``."""
        with self._lock:
            self._interrupted = True
            if self._busy is not None:
                self._busy.interrupt()

    def close(self) -> None:
        if self._reader is not None:
            self._reader.close()
        self._discard()
        for inspector in self._inspectors.values():
            inspector.close()
        self._inspectors.clear()
        if self.spare is not None:
            self.spare.close()
            self.spare = None

    def _begin(self) -> None:
        with self._lock:
            self._interrupted = False
            self._busy = None

    def _watch(self, database: Database) -> None:
        with self._lock:
            self._busy = database.connection

    def _end(self) -> None:
        with self._lock:
            self._busy = None

    def cause(self, error: Exception) -> Exception:
        """Why a statement failed."""
        return error if self.current is None else self.current.fault(error)

    def check_interrupt(self) -> None:
        if self._interrupted:
            raise QueryCancelledError("the statement was interrupted")

    def finish(self, error: BaseException | None, *, exhausted: bool = False) -> None:
        """A statement is over. Keep its database only if that is beyond doubt."""
        self._reader = None
        self._end()
        if self.current is None:
            return
        if exhausted and error is None:
            return
        if (error is not None and poisons(error)) or not self.current.is_sound():
            self._discard()


class ResultReader:
    """Rows of one statement in edge types, as record batches that fit one message each. Close it, or read to the end."""

    def __init__(
        self, engine: QueryEngine, schema: Any, source: Any, batches: Iterator[Any], paths: Sequence[str]
    ) -> None:
        self.schema = schema
        self._engine = engine
        self._source = source
        self._batches = batches
        self._paths = paths
        self._open = True

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        if not self._open:
            raise StopIteration
        try:
            self._engine.check_interrupt()
            return next(self._batches)
        except StopIteration:
            self._shut(None, exhausted=True)
            raise
        except Exception as error:
            cause = self._engine.cause(error)
            self._shut(error)
            raise translate(cause, self._paths) from error

    def close(self) -> None:
        """Give up the rest."""
        if self._open:
            self._shut(None)

    def _shut(self, error: BaseException | None, *, exhausted: bool = False) -> None:
        self._open = False
        self._batches = iter(())
        if self._source is not None:
            try:
                self._source.close()
            except (OSError, pa.ArrowInvalid, duckdb.Error) as trouble:
                error = error or trouble
            self._source = None
        self._engine.finish(error, exhausted=exhausted)

    def __enter__(self) -> ResultReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _has_moments(checked: Checked) -> bool:
    return any(has_moments(call.name) for call in checked.calls)


def _bound(parameters: Any) -> list[BoundValue]:
    """Of a record batch its first row; values of Python's are taken for columns of their own."""
    if isinstance(parameters, pa.RecordBatch):
        return bound_values(parameters.columns)
    return bound_values([python_column(value) for value in parameters])


def _relation(database: Database, checked: Checked, executable: Executable) -> Any:
    text = _SHOW_TABLES if checked.kind == "show_tables" else executable.text
    values = list(executable.values)
    relation = database.connection.sql(text, params=values) if values else database.connection.sql(text)
    return relation.project(_DESCRIBE) if checked.kind == "describe" else relation


def _explain(database: Database, checked: Checked, executable: Executable) -> Any:
    """The plan as an indented tree. File names are left out, the rest is DuckDB's."""
    options = "ANALYZE, FORMAT json" if checked.analyze else "FORMAT json"
    text, values = executable.text, list(executable.values)
    rows = database.connection.execute(f"EXPLAIN ({options}) {text}", values).fetchall()
    plans = [_render_plan(json.loads(plan)) for _, plan in rows]
    if not any(plans):  # nothing ran: statistics of the files, or constants, were the answer
        rows = database.connection.execute(f"EXPLAIN (FORMAT json) {text}", values).fetchall()
        plans = [f"{_render_plan(json.loads(plan))}\n(known without a scan)" for _, plan in rows]
    kinds = ["plan_with_metrics" if checked.analyze else str(kind) for kind, _ in rows]
    return pa.table([pa.array(kinds, pa.string()), pa.array(plans, pa.string())], schema=_EXPLAIN_SCHEMA)


def _render_plan(plan: Any) -> str:
    lines: list[str] = []
    roots = plan if isinstance(plan, list) else plan.get("operator", [plan])
    todo = [(root, 0) for root in reversed(roots)]
    while todo:
        node, depth = todo.pop()
        name = str(node.get("name") or node.get("type") or "")
        hidden = name in ("RESULT_COLLECTOR", "EXPLAIN_ANALYZE")
        if not hidden:
            facts = [f"{key}: {_fact(value)}" for key, value in (node.get("extra_info") or {}).items() if _shown(key)]
            if "timing" in node:
                facts += [f"rows: {node.get('intermediate_rows', 0)}", f"time: {float(node['timing']) * 1e3:.3f} ms"]
            lines.append("  " * depth + name + (f" ({'; '.join(facts)})" if facts else ""))
        todo.extend((child, depth if hidden else depth + 1) for child in reversed(node.get("children") or []))
    return "\n".join(lines)


def _shown(key: str) -> bool:
    return not any(word in key.lower() for word in _HIDDEN_IN_PLANS) or key == "Total Files Read"


def _fact(value: Any) -> str:
    text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return " ".join(text.split())


def _serialized(schema: Any) -> bytes:
    return bytes(schema.serialize().to_pybytes())


__all__ = ["QueryEngine", "ResultReader"]
