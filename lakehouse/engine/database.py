"""One locked in-memory DuckDB: settings first, then the files it may open, then the lock, then the relations.

It can open the partition files of its queries and nothing else. It trusts nobody's SQL and runs none itself: whoever
executes a statement has passed it through the gate.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import duckdb
import pyarrow as pa

from lakehouse.engine.functions import (
    CLOCK_FUNCTIONS,
    ArrowFunction,
    Macro,
    MadeRows,
    PayloadFunction,
    RelationFunction,
    ServerFunction,
    functions_in,
    outlines,
    own_functions,
    read_by,
    relation_functions,
)
from lakehouse.engine.limits import EngineLimits
from lakehouse.engine.made_rows import MadeRelation
from lakehouse.engine.metadata_relations import columns_of, read_csv, select_of
from lakehouse.engine.names import (
    CATALOG_NAME,
    INCOMING,
    INFORMATION_STAND_IN,
    NOW_VARIABLE,
    SCHEMA_NAME,
    raw_table,
    relation_name,
    relation_name_sql,
    view_set_table,
)
from lakehouse.engine.payloads import Payloads
from lakehouse.engine.plan import planning_setting
from lakehouse.engine.relations import Call, EngineCatalog, Relation
from lakehouse.engine.sql_types import literal, quoted, sql_type
from lakehouse.errors import InternalError
from lakehouse.model import EVERYTHING, TimeRange

PARQUET_MAGIC: Final = b"PAR1"


def settings(limits: EngineLimits) -> tuple[str, ...]:
    """Settings of a new database. The order matters: later ones are refused before, or make earlier ones impossible."""
    return (
        f"temp_directory = {literal(limits.spill_folder)}",  # none: no spill
        f"max_temp_directory_size = '{limits.spill_bytes_max}B'",
        f"memory_limit = '{limits.memory_bytes_max}B'",
        f"threads = {limits.threads}",
        f"async_threads = {limits.async_threads}",
        f"max_expression_depth = {limits.expression_depth_max}",
        "autoinstall_known_extensions = false",
        "autoload_known_extensions = false",
        "allow_community_extensions = false",
        "allow_persistent_secrets = false",
        "python_enable_replacements = false",  # else FROM name reads variables of the calling frames
        # files never change, so their footers are read once and never checked again
        "parquet_metadata_cache = true",
        "enable_external_file_cache = false",
        "validate_external_file_cache = 'NO_VALIDATION'",
        # the dialect: see functions/ for the clock
        "TimeZone = 'UTC'",
        "default_null_order = 'NULLS_LAST_ON_ASC_FIRST_ON_DESC'",
        "integer_division = true",
    )


class Database:
    """A database in three steps: made (ahead of time), opened for some files and locked, given relations.

    One query at a time. Relations may be replaced between queries; files may not.
    """

    def __init__(
        self,
        limits: EngineLimits,
        extra_settings: Iterable[str] = (),
        *,
        plans: bool = False,
        stand_ins: Mapping[str, str] | None = None,
    ) -> None:
        """``plans``: it is asked for plans that hold for any rows, see ``lakehouse.engine.plan``. ``stand_ins``: what
        makes our own functions, by name, where that is not their declaration."""
        self.connection: Any = duckdb.connect()
        self.locked = False
        self.payloads = Payloads()
        self._views: dict[str, str] = {}
        self._given: set[str] = set()  # relations whose rows came with a statement
        self._made: dict[str, MadeRelation] = {}  # relations whose rows are made while they are read
        self._snapshots: dict[
            str, bytes
        ] = {}  # of the catalog, as they were loaded; few bytes each, or they were a file
        self._has_information = False
        self._asked: list[str] | None = []
        self._sources: frozenset[str] = frozenset()  # that stand-ins were declared for
        self._functions: set[str] = set()
        self._instead = stand_ins or {}
        try:
            planning = [planning_setting(self.connection)] if plans else []
            self._run("; ".join(f"SET {setting}" for setting in (*settings(limits), *extra_settings, *planning)))
            self._run(f"ATTACH ':memory:' AS {CATALOG_NAME}; USE {CATALOG_NAME}; DETACH memory")
            self._add_relation_functions()
        except duckdb.Error as error:
            self.connection.close()
            raise InternalError(f"the engine does not start: {error}") from error

    def use_functions(self, text: str) -> None:
        """Our own functions that a text calls, where they are not there yet: each costs a millisecond or more to make."""
        for function in functions_in(text):
            if function.name in self._functions:
                continue
            if function.name in self._instead:
                self._run(self._instead[function.name])
            elif isinstance(function, Macro):
                self._run(function.text)
            elif isinstance(function, ArrowFunction):
                self.connection.create_function(
                    function.name, function, list(function.types), function.result, type="arrow"
                )
            elif isinstance(function, PayloadFunction):
                self.connection.create_function(  # with side effects: nothing calls it but a statement that runs
                    function.name,
                    self.payloads.read,
                    list(function.types),
                    function.result,
                    type="arrow",
                    side_effects=True,
                )
            elif isinstance(function, ServerFunction):
                self.connection.create_function(
                    function.name,
                    self.payloads.asking(function.name, len(function.types)),
                    list(function.types),
                    function.result,
                    type="arrow",
                    null_handling="special",
                    side_effects=True,
                )
            self._functions.add(function.name)

    def outline_functions(self) -> None:
        """Stand-ins of our own functions, for plans that are read for what is around these."""
        for text in outlines():
            self._run(text)

    def _add_relation_functions(self) -> None:
        for function in relation_functions().values():
            if function.administers:
                continue  # the server runs it, not the engine
            if function.source is None or function.arguments:
                self._run(f"CREATE {_relation_macro(function)}")
                continue
            # without parameters the engine looks at once for what it names
            name = quoted(relation_name(function.source))
            self._run(f"CREATE TABLE {name} (i INTEGER); CREATE {_relation_macro(function)}; DROP TABLE {name}")

    def lock(self, paths: Sequence[str]) -> None:
        """From here on only ``paths`` can be opened, and no setting can be changed."""
        allowed = ", ".join(literal(path) for path in paths)
        self._run(f"SET allowed_paths = [{allowed}]; SET enable_external_access = false; SET lock_configuration = true")
        self.locked = True

    def set_now(self, now_ns: int) -> None:
        """What the clock shows to the next statement, which reads ours and not the engine's own."""
        self.use_functions(" ".join(function.name for function in own_functions() if function.name in CLOCK_FUNCTIONS))
        self._run(f"SET VARIABLE {NOW_VARIABLE} = make_timestamp_ns({int(now_ns)})")

    def bind(
        self,
        relations: Sequence[Relation],
        catalog: EngineCatalog,
        metadata: Mapping[str, Path | bytes],
        read: frozenset[str] | None = None,
    ) -> None:
        """Make exactly these relations visible. Snapshots of the catalog are replaced, views only where they differ.

        Args:
            read: Names of columns, without which the statement reads none of ``metadata``; ``None``: it may read any.
        """
        wanted = {}
        needed: dict[str, set[str]] = {}
        for relation in relations:
            columns = _snapshot_columns(relation, catalog, read)
            wanted[relation.name] = _view_text(relation, catalog, columns)
            for name, own in columns.items():
                needed.setdefault(name, set()).update(own)
        for relation in relations:
            if relation.table is not None:
                self._load(quoted(raw_table(relation.name)), _rows_of(relation.table, relation.schema.names))
                self._given.add(relation.name)
        for name, own in sorted(needed.items()):
            snapshot = metadata.get(name)
            if snapshot is not None and self._snapshots.get(name) == snapshot:
                continue  # to the letter what is there
            rows = None if snapshot is None else read_csv(name, catalog.view_sets[name].schema, snapshot)
            if rows is None or not own <= set(rows.column_names):
                raise InternalError(f"there is no snapshot of {name}, or not of all of {', '.join(sorted(own))}")
            self._snapshots.pop(name, None)
            self._load(quoted(raw_table(name)), rows)
            if isinstance(snapshot, bytes):
                self._snapshots[name] = snapshot
        for name in self._views.keys() - wanted.keys():
            self._run(f"DROP VIEW {quoted(name)}")
            del self._views[name]
            if name in self._given:
                self._run(f"DROP TABLE {quoted(raw_table(name))}")
                self._given.remove(name)
            if self._made.pop(name, None) is not None:
                self.connection.unregister(raw_table(name))
        for relation in relations:
            if relation.made_by:
                self._made[relation.name] = self._maker(relation, catalog)
                self.connection.register(raw_table(relation.name), self._made[relation.name])
        for name, text in wanted.items():
            if self._views.get(name) != text:
                self._run(f"CREATE OR REPLACE VIEW {quoted(name)} AS {text}")
                self._views[name] = text

    def _maker(self, relation: Relation, catalog: EngineCatalog) -> MadeRelation:
        """What makes the rows of a relation, with what it reads of the catalog."""
        made = _made_rows(relation)
        tables = {
            name: self.connection.sql(_columns_select(name, columns, catalog)).to_arrow_table()
            for name, columns in made.catalog.items()
        }
        scan = _scan((*relation.files, *relation.files_inside)) if relation.files or relation.files_inside else ""
        return MadeRelation(relation, made.make, self.connection, scan, tables)

    def fault(self, error: Exception) -> Exception:
        """Why a statement failed: what those who make its rows or fetch its payloads have met, which the engine tells in
        words of its own."""
        faults = (self.payloads.fault, *(made.fault for made in self._made.values()))
        return next((fault for fault in faults if fault is not None), error)

    def declare(
        self, catalog: EngineCatalog, spelled: Callable[[Any, str | None], str] = lambda kind, _: sql_type(kind)
    ) -> None:
        """Typed empty tables for everything a caller may name; ``stand_ins`` says which instance is which.

        ``spelled`` makes the type of a column from its Arrow type and its origin.
        """
        named = {quoted(name): relation for name, relation in catalog.tables.items()}
        named |= {quoted(view_set_table(name)): relation for name, relation in catalog.view_sets.items()}
        for name, relation in named.items():
            kinds = [spelled(member.type, relation.origins.get(member.name)) for member in relation.schema]
            self._run(f"CREATE TABLE {name} AS {_empty_select(relation.schema, kinds)}")
        self._sources = frozenset(catalog.view_sets)
        for function in relation_functions().values():
            if function.administers and function.source in self._sources:  # called once by a statement: no keys
                self._run(f"CREATE {_stand_in_macro(function, [])}")
        self._answer_calls([])

    def stand_ins(self, calls: Collection[Call]) -> dict[str, Call]:
        """Tables that stand for these calls from here on; where a source is asked several times, each has its own."""
        asked = {call: read_by(call) for call in calls}
        keys: list[str] = []
        if len({source for source, _ in asked.values()}) < len(calls):
            keys = sorted({_key(arguments) for _, arguments in asked.values()})
        if keys != self._asked:
            self._asked = None  # until all of them are made: a cancel may come in between
            self._answer_calls(keys)
            self._asked = keys
        tables = {}
        for call, (source, arguments) in asked.items():
            place = keys.index(_key(arguments)) + 1 if keys else 1
            table = view_set_table(source, place)
            if place > 1:
                self._run(f"CREATE TABLE IF NOT EXISTS {quoted(table)} AS FROM {quoted(view_set_table(source))}")
            tables[table] = call
        return tables

    def _answer_calls(self, keys: Sequence[str]) -> None:
        for function in relation_functions().values():
            if not function.administers and (function.source is None or function.source in self._sources):
                self._run(f"CREATE OR REPLACE {_stand_in_macro(function, keys)}")

    def describe(self, catalog: EngineCatalog) -> None:
        """The stand-in of ``information_schema``: what the caller may see, and nothing of the engine's own."""
        if self._has_information:
            return
        for statement in _information(catalog.tables):
            self._run(statement)
        self._has_information = True

    def is_sound(self) -> bool:
        """Whether the database still answers after a query that did not end by itself."""
        try:
            return bool(self.connection.execute("SELECT 42").fetchall() == [(42,)])
        except duckdb.Error:
            return False

    def close(self) -> None:
        self.connection.close()

    def _load(self, table: str, rows: Any) -> None:
        self.connection.register(INCOMING, rows)
        try:
            self._run(f"CREATE OR REPLACE TABLE {table} AS SELECT * FROM {INCOMING}")
        finally:
            self.connection.unregister(INCOMING)

    def _run(self, statements: str) -> None:
        self.connection.execute(statements)


def _rows_of(table: bytes, columns: list[str]) -> Any:
    if not table.startswith(PARQUET_MAGIC):
        return pa.ipc.open_stream(table).read_all().select(columns)
    import pyarrow.parquet as pq  # few statements are given a file

    return pq.read_table(pa.BufferReader(table), columns=columns)


def _relation_macro(function: RelationFunction) -> str:
    """A relation function as a table macro over hashed names: a relation that nobody has resolved does not exist."""
    source, arguments = _in_sql(function)
    return _table_macro(function, relation_name_sql(source, *arguments))


def _stand_in_macro(function: RelationFunction, keys: Sequence[str]) -> str:
    """The same over stand-ins: what is asked with the n-th of the keys has the n-th table of its source, else the first."""
    source, arguments = _in_sql(function)
    if function.moments:
        arguments = arguments[: len(function.texts)]
    place = "''"
    if keys:
        listed, spelled = ", ".join(literal(key) for key in keys), " || '/' || ".join(arguments) or "''"
        place = f"coalesce(nullif(list_position([{listed}], {spelled}), 1) || '_', '')"
    text = _table_macro(function, f"{literal(view_set_table(''))} || {place} || {source}")
    read = " AND ".join(f"CAST({moment.name} AS {moment.sql_type}) IS NOT NULL" for moment in function.moments)
    return f"{text} WHERE {read}" if read else text  # so that the binder gives them a type


def _in_sql(function: RelationFunction) -> tuple[str, list[str]]:
    """The source and the arguments that it is asked with, of a call, as SQL over the parameters of its macro."""
    spelled = [argument.canonical_sql.format(argument.name) for argument in function.arguments]
    return (spelled[0], spelled[1:]) if function.source is None else (literal(function.source), spelled)


def _table_macro(function: RelationFunction, table: str) -> str:
    names = ", ".join(argument.name for argument in function.arguments)
    return f"MACRO {function.name}({names}) AS TABLE {function.select.format(table=f'query_table({table})')}"


def _key(arguments: Sequence[str | None]) -> str:
    return "/".join(map(str, arguments))


def _empty_select(schema: Any, kinds: Iterable[str] | None = None) -> str:
    kinds = map(sql_type, schema.types) if kinds is None else kinds
    columns = ", ".join(
        f"CAST(NULL AS {kind}) AS {quoted(name)}" for kind, name in zip(kinds, schema.names, strict=True)
    )
    return f"SELECT {columns} WHERE false"


def _snapshot_columns(
    relation: Relation, catalog: EngineCatalog, read: frozenset[str] | None
) -> Mapping[str, set[str]]:
    """The columns of the catalog's files that a relation is made of; none for one of Parquet files."""
    if relation.made_by:
        return {name: set(columns) for name, columns in _made_rows(relation).catalog.items()}
    if not relation.metadata:
        return {}
    declared = catalog.view_sets[relation.metadata]
    if read is not None and relation.range != EVERYTHING:
        read |= {str(column).lower() for column in (relation.begin_column, relation.end_column)}
    return columns_of(relation.metadata, declared.schema, declared.joins, read)


def _view_text(relation: Relation, catalog: EngineCatalog, columns: Mapping[str, set[str]]) -> str:
    row_filter = _row_filter(relation)
    if relation.metadata:
        source = select_of(relation.metadata, catalog, columns)
        return f"SELECT * FROM ({source}){row_filter}" if row_filter else source
    listed = ", ".join(quoted(name) for name in relation.schema.names)
    if relation.table is not None or relation.made_by:
        return f"SELECT {listed} FROM {quoted(raw_table(relation.name))}{row_filter}"
    parts = []
    if relation.files:
        parts.append(f"SELECT {listed} FROM {_scan(relation.files)}{row_filter}")
    if relation.files_inside:
        parts.append(f"SELECT {listed} FROM {_scan(relation.files_inside)}")
    if not parts:
        return _empty_select(relation.schema)
    rows = " UNION ALL ".join(parts)
    return relation.merge.format(rows=f"({rows})") if relation.merge else rows


def _made_rows(relation: Relation) -> MadeRows:
    made = relation_functions()[relation.made_by].made
    if made is None:
        raise InternalError(f"{relation.made_by} makes no rows")
    return made


def _columns_select(name: str, columns: Collection[str], catalog: EngineCatalog) -> str:
    listed = ", ".join(quoted(column) for column in columns)
    return f"SELECT {listed} FROM ({select_of(name, catalog, {name: set(columns)})})"


def _scan(paths: Sequence[str]) -> str:
    listed = ", ".join(literal(path) for path in paths)
    return f"read_parquet([{listed}], hive_partitioning = false, union_by_name = false)"


def _row_filter(relation: Relation) -> str:
    """The header's range. Columns stay as they are: a cast would keep the scan from skipping row groups."""
    limits: TimeRange = relation.range
    terms = []
    if limits.end_ns is not None and relation.begin_column is not None:
        terms.append(f"{quoted(relation.begin_column)} <= make_timestamp_ns({limits.end_ns})")
    if limits.begin_ns is not None and relation.end_column is not None:
        terms.append(f"{quoted(relation.end_column)} >= make_timestamp_ns({limits.begin_ns})")
    return " WHERE " + " AND ".join(terms) if terms else ""


def _information(tables: Mapping[str, Any]) -> list[str]:
    place = f"{literal(CATALOG_NAME)}, {literal(SCHEMA_NAME)}"
    listed = [f"({place}, {literal(name)}, 'BASE TABLE')" for name in sorted(tables)]
    columns = [
        f"({place}, {literal(name)}, {literal(member.name)}, {position}, 'YES', {literal(sql_type(member.type))})"
        for name in sorted(tables)
        for position, member in enumerate(tables[name].schema, 1)
    ]
    return [
        f"CREATE SCHEMA {INFORMATION_STAND_IN}",
        f"""CREATE TABLE {INFORMATION_STAND_IN}.schemata (
            catalog_name VARCHAR, schema_name VARCHAR, schema_owner VARCHAR)""",
        f"INSERT INTO {INFORMATION_STAND_IN}.schemata VALUES ({place}, {literal(CATALOG_NAME)})",
        f"""CREATE TABLE {INFORMATION_STAND_IN}.tables (
            table_catalog VARCHAR, table_schema VARCHAR, table_name VARCHAR, table_type VARCHAR)""",
        *([f"INSERT INTO {INFORMATION_STAND_IN}.tables VALUES {', '.join(listed)}"] if listed else []),
        f"""CREATE TABLE {INFORMATION_STAND_IN}.columns (
            table_catalog VARCHAR, table_schema VARCHAR, table_name VARCHAR, column_name VARCHAR,
            ordinal_position INTEGER, is_nullable VARCHAR, data_type VARCHAR)""",
        *([f"INSERT INTO {INFORMATION_STAND_IN}.columns VALUES {', '.join(columns)}"] if columns else []),
    ]
