"""Statements put together from whatever SQL has, nested in each other, over relations of any columns.

Every statement has one answer: rows are numbered, limited and picked only in an order of all columns, so that what is
compared is what was asked, and not which row came first. Same seed, same statements.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal, TypeVar

_T = TypeVar("_T")
Kind = Literal["time", "text", "number"]

_DEPTH_MAX: Final = 3
_SECOND_NS: Final = 1_000_000_000
_JOINS: Final = ("JOIN", "JOIN", "LEFT JOIN", "RIGHT JOIN", "FULL JOIN")
_UNITS: Final = ("microsecond", "millisecond", "second", "minute", "hour", "day", "week", "month", "quarter", "year")


@dataclass(frozen=True)
class Column:
    """A column that a predicate may be about."""

    name: str
    kind: Kind


@dataclass(frozen=True)
class Rows:
    """What may stand in FROM: a table, a call, or a SELECT in parentheses."""

    text: str
    columns: tuple[Column, ...]
    is_base: bool = False

    def of(self, *kinds: Kind) -> list[Column]:
        return [column for column in self.columns if column.kind in kinds]


def base(text: str, *, times: str = "", texts: str = "", numbers: str = "") -> Rows:
    """A relation of the lake; columns are names between spaces."""
    kinds: tuple[tuple[Kind, str], ...] = (("time", times), ("text", texts), ("number", numbers))
    return Rows(text, tuple(Column(name, kind) for kind, names in kinds for name in names.split()), is_base=True)


def _floored(time: str) -> str:
    """The microsecond that a time is in, as repairs of the engine's functions have it."""
    return (
        f"(CASE WHEN {time} >= TIMESTAMP_NS 'infinity' THEN TIMESTAMP 'infinity'"
        f" WHEN {time} <= TIMESTAMP_NS '-infinity' THEN TIMESTAMP '-infinity'"
        f" ELSE make_timestamp(epoch_ns({time}) // 1000 - CAST(epoch_ns({time}) % 1000 < 0 AS BIGINT)) END)"
    )


def _moved(time: str, seconds: int) -> str:
    """A time with its nanoseconds, so much later; infinite where these do not reach."""
    there = f"({_floored(time)} + INTERVAL ({seconds}) SECOND)"
    return (
        f"(CASE WHEN {there} > TIMESTAMP '2262-04-11 23:47:16.854774' THEN TIMESTAMP_NS 'infinity'"
        f" WHEN {there} < TIMESTAMP '1677-09-21 00:12:43.145226' THEN TIMESTAMP_NS '-infinity'"
        f" ELSE make_timestamp_ns(epoch_us({there}) * 1000 + (epoch_ns({time}) % 1000 + 1000) % 1000) END)"
    )


class StatementMaker:
    """Makes statements over ``bases``. ``moments``: where things happened; ``texts``: what ids and names are."""

    def __init__(
        self, chance: random.Random, bases: Sequence[Rows], moments: Sequence[int], texts: Sequence[str]
    ) -> None:
        self._chance = chance
        self._bases = bases
        self._moments = moments
        self._texts = texts
        self._names = 0
        self._makers: Sequence[Callable[[int], Rows]] = (
            self._filtered, self._filtered, self._filtered, self._starred, self._of_a_struct, self._grouped, self._distinct,
            self._windowed, self._set_operation, self._joined, self._joined, self._nested_joins, self._lateral, self._as_of,
            self._positional, self._one_sided, self._first_rows, self._with_cte, self._recursive, self._unnested,
            self._with_scalars, self._pivoted,
        )  # fmt: skip

    def statement(self) -> str:
        self._names = 0
        found = self._rows(self._pick((1, 1, 2, 2, 2, _DEPTH_MAX)))
        if found.is_base or self._chance.random() < 0.5:
            alias = self._name()
            what = self._pick(("*", "count(*)", f"{alias}.*", self._aggregates(found, alias)))
            return f"SELECT {what} FROM {found.text} AS {alias}{self._where(found, alias)}"
        return found.text[1:-1]

    # --- relations; each is a SELECT in parentheses

    def _rows(self, depth: int) -> Rows:
        if depth <= 0 or self._chance.random() < 0.1:
            return self._pick(self._bases)
        return self._pick(self._makers)(depth - 1)

    def _filtered(self, depth: int) -> Rows:
        inner, alias = self._rows(depth), self._name()
        items, columns = self._items(inner, alias)
        return Rows(f"(SELECT {items} FROM {inner.text} AS {alias}{self._where(inner, alias)})", columns)

    def _starred(self, depth: int) -> Rows:
        inner, alias = self._rows(depth), self._name()
        names = [column.name for column in inner.columns]
        times = inner.of("time")
        chosen = self._pick(inner.columns)
        star, columns = "*", inner.columns
        match self._chance.randrange(6):
            case 0 if len(names) > 1:
                star, columns = f"* EXCLUDE ({chosen.name})", tuple(c for c in columns if c != chosen)
            case 1 if len(times) > 1:
                star = f"* REPLACE ({times[1].name} AS {times[0].name})"
            case 2 if times:
                star = f"* REPLACE ({self._moment()} AS {times[0].name})"
            case 3 if len(times) > 1:  # names that change places
                first, second = times[:2]
                star = f"* RENAME ({first.name} AS {second.name}, {second.name} AS {first.name})"
            case 4:
                star, columns = f"COLUMNS('^{chosen.name.strip(chr(34))}$')", (chosen,)
            case _ if len(names) > 1:
                star = f"COLUMNS(lambda c: c <> '{chosen.name.strip(chr(34))}')"
                columns = tuple(c for c in columns if c != chosen)
        return Rows(f"(SELECT {star} FROM {inner.text} AS {alias}{self._where(inner, alias)})", columns)

    def _of_a_struct(self, depth: int) -> Rows:
        """``s.*`` makes columns that nobody named here, before or after others of the same names."""
        inner = self._rows(depth)
        times, chosen = inner.of("time"), self._pick(inner.columns)
        members = {chosen.name: Column(chosen.name, chosen.kind)}
        values = {chosen.name: chosen.name}
        if times:
            member, source = self._pick(times), self._pick(times)
            members[member.name] = member
            values[member.name] = self._pick((source.name, self._moment()))
        made = ", ".join(f"{name}: {value}" for name, value in values.items())
        source_text = f"(SELECT {{{made}}} AS s, * FROM {inner.text} AS {self._name()})"
        kept = tuple(column for column in inner.columns if column.name not in members)
        if self._chance.random() < 0.5:
            listed = ", ".join(column.name for column in inner.columns)
            return Rows(f"(SELECT s.*, {listed} FROM {source_text} AS {self._name()})", (*members.values(), *kept))
        return Rows(f"(SELECT s.* FROM {source_text} AS {self._name()})", tuple(members.values()))

    def _grouped(self, depth: int) -> Rows:
        inner, alias = self._rows(depth), self._name()
        keys = self._some(inner.columns)
        listed = ", ".join(f"{alias}.{key.name}" for key in keys)
        groups = self._pick(("ALL", listed, ", ".join(str(n) for n in range(1, len(keys) + 1)), f"ROLLUP ({listed})"))
        if len(keys) > 1 and self._chance.random() < 0.2:
            groups = f"GROUPING SETS (({alias}.{keys[0].name}), ({alias}.{keys[1].name}), ())"
            keys = keys[:2]
            listed = ", ".join(f"{alias}.{key.name}" for key in keys)
        made, columns = ["count(*) AS n"], [Column("n", "number")]
        for column in inner.of("time", "number")[:2]:
            name = self._name()
            made.append(f"{self._pick(('min', 'max'))}({alias}.{column.name}) AS {name}")
            columns.append(Column(name, column.kind))
        having = self._pick(
            (
                "",
                "",
                " HAVING count(*) > 1",
                f" HAVING {self._predicate(replace(inner, columns=tuple(keys)), alias, 0)}",
            )
        )
        if "GROUPING" in groups or "ROLLUP" in groups:
            having = ""
        return Rows(
            f"(SELECT {listed}, {', '.join(made)} FROM {inner.text} AS {alias}{self._where(inner, alias)}"
            f" GROUP BY {groups}{having})",
            (*[key for key in keys if key.name != "n"], *columns),
        )

    def _distinct(self, depth: int) -> Rows:
        inner, alias = self._rows(depth), self._name()
        if self._chance.random() < 0.5:
            items, columns = self._items(inner, alias)
            return Rows(f"(SELECT DISTINCT {items} FROM {inner.text} AS {alias}{self._where(inner, alias)})", columns)
        key = self._pick(inner.columns).name
        listed = ", ".join(column.name for column in inner.columns)
        return Rows(
            f"(SELECT DISTINCT ON ({key}) {listed} FROM {inner.text} AS {alias}{self._where(inner, alias)}"
            f" ORDER BY {key}, {listed})",
            inner.columns,
        )

    def _windowed(self, depth: int) -> Rows:
        inner, alias = self._rows(depth), self._name()
        listed = ", ".join(f"{alias}.{column.name}" for column in inner.columns)
        parts = ", ".join(f"{alias}.{column.name}" for column in self._some(inner.columns))
        over = self._pick((f"PARTITION BY {parts} ORDER BY {listed}", f"ORDER BY {listed}", f"PARTITION BY {parts}"))
        counted = f"count(*) OVER ({over})" if "ORDER" not in over else f"row_number() OVER ({over})"
        place, other = self._name(), self._name()
        columns = [*inner.columns, Column(place, "number")]
        made = f"{counted} AS {place}"
        times = inner.of("time")
        if times and self._chance.random() < 0.5:
            function = self._pick(("lag", "lead", "max", "first_value")) if "ORDER" in over else "max"
            made += f", {function}({alias}.{times[0].name}) OVER ({over}) AS {other}"
            columns.append(Column(other, "time"))
        qualify = self._pick(("", "", f" QUALIFY {place} <= {self._chance.randint(1, 4)}", f" QUALIFY {counted} = 1"))
        return Rows(
            f"(SELECT {listed}, {made} FROM {inner.text} AS {alias}{self._where(inner, alias)}{qualify})",
            tuple(columns),
        )

    def _set_operation(self, depth: int) -> Rows:
        """Columns of one kind meet in one place, under the first one's names."""
        parts = [self._rows(depth) for _ in range(self._chance.randint(2, 3))]
        every: tuple[Kind, ...] = ("time", "text", "number")
        kinds = [kind for kind in every if all(part.of(kind) for part in parts)]
        if not kinds:
            return self._filtered(depth)
        columns = tuple(Column(self._name(), kind) for kind in kinds)
        selects = []
        for part in parts:
            alias = self._name()
            items = ", ".join(f"{alias}.{self._pick(part.of(column.kind)).name} AS {column.name}" for column in columns)
            selects.append(f"SELECT {items} FROM {part.text} AS {alias}{self._where(part, alias)}")
        operator = self._pick(
            (" UNION ALL ", " UNION ALL ", " UNION ", " EXCEPT ", " INTERSECT ", " EXCEPT ALL ", " UNION ALL BY NAME ")
        )
        return Rows(f"({operator.join(selects)})", columns)

    def _joined(self, depth: int) -> Rows:
        left, right, a, b = self._rows(depth), self._rows(depth), self._name(), self._name()
        shared = [c for c in left.columns if (c in right.columns and c.kind == "text") or c in right.of("time")]
        if shared and self._chance.random() < 0.4:
            using = self._pick(shared)
            rest = [c for c in left.columns if c != using]
            items = [using.name, *(f"{a}.{c.name}" for c in rest)]
            columns = [using, *rest]
            names = {c.name for c in columns}
            for column in right.columns:
                if column.name not in names:
                    items.append(f"{b}.{column.name}")
                    columns.append(column)
            where = self._pick(("", f" WHERE {self._predicate(Rows('', (using,)), '', 0)}"))
            return Rows(
                f"(SELECT {', '.join(items)} FROM {left.text} AS {a} {self._pick(_JOINS)} {right.text} AS {b}"
                f" USING ({using.name}){where})",
                tuple(columns),
            )
        items_left, columns_left = self._items(left, a, fresh=True)
        items_right, columns_right = self._items(right, b, fresh=True)
        return Rows(
            f"(SELECT {items_left}, {items_right} FROM {left.text} AS {a} {self._pick(_JOINS)} {right.text} AS {b}"
            f" ON {self._link(left, a, right, b)}{self._where_of_both(left, a, right, b)})",
            (*columns_left, *columns_right),
        )

    def _nested_joins(self, depth: int) -> Rows:
        """Outer joins inside of outer joins, on either side."""
        parts = [(self._rows(depth - 1), self._name()) for _ in range(3)]
        (x, a), (y, b), (z, c) = parts
        kinds = ("LEFT JOIN", "RIGHT JOIN", "FULL JOIN", "JOIN")
        inner = f"({y.text} AS {b} {self._pick(kinds)} {z.text} AS {c} ON {self._link(y, b, z, c)})"
        shown = [self._items(part, alias, fresh=True) for part, alias in parts]
        first, second, third = self._tests(parts)
        where = self._pick(("", f" WHERE {first}", f" WHERE {second}", f" WHERE {third} OR {first}", f" WHERE {third}"))
        return Rows(
            f"(SELECT {', '.join(items for items, _ in shown)} FROM {x.text} AS {a} {self._pick(kinds)} {inner}"
            f" ON {self._link(x, a, y, b)}{where})",
            tuple(column for _, columns in shown for column in columns),
        )

    def _lateral(self, depth: int) -> Rows:
        outer, inner, a, b, made = self._rows(depth), self._rows(depth - 1), self._name(), self._name(), self._name()
        at = inner.of("time")
        summed = f"max({b}.{at[0].name}) AS latest" if at else "count(*) AS latest"
        body = f"SELECT count(*) AS n, {summed} FROM {inner.text} AS {b} WHERE {self._link(inner, b, outer, a)}"
        if self._chance.random() < 0.6:
            body += f" AND {self._predicate(inner, b, 0)}"
        join = self._pick((f", LATERAL ({body}) AS {made}", f" LEFT JOIN LATERAL ({body}) AS {made} ON {made}.n > 0"))
        items, columns = self._items(outer, a)
        one, two = self._name(), self._name()
        return Rows(
            f"(SELECT {items}, {made}.n AS {one}, {made}.latest AS {two} FROM {outer.text} AS {a}{join}{self._where(outer, a)})",
            (*columns, Column(one, "number"), Column(two, "time" if at else "number")),
        )

    def _as_of(self, depth: int) -> Rows:
        """Of the right side only the time is shown: several rows may have it."""
        left, right, a, b, found = self._rows(depth), self._rows(depth), self._name(), self._name(), self._name()
        if not left.of("time") or not right.of("time"):
            return self._filtered(depth)
        at, matched = self._pick(left.of("time")).name, self._pick(right.of("time")).name
        items, columns = self._items(left, a)
        operator = self._pick((">=", ">", "<=", "<"))
        test = self._pick(
            (
                "",
                f" WHERE {self._predicate(left, a, 0)}",
                f" WHERE {self._predicate(Rows('', (Column(matched, 'time'),)), b, 0)}",
            )
        )
        return Rows(
            f"(SELECT {items}, {b}.{matched} AS {found} FROM {left.text} AS {a} ASOF {self._pick(('', 'LEFT '))}JOIN"
            f" {right.text} AS {b} ON {a}.{at} {operator} {b}.{matched}{test})",
            (*columns, Column(found, "time")),
        )

    def _positional(self, depth: int) -> Rows:
        """Only tables have an order of their own."""
        left, right, a, b = self._pick(self._bases), self._pick(self._bases), self._name(), self._name()
        one, columns = self._items(left, a, fresh=True)
        two, others = self._items(right, b, fresh=True)
        where = self._where_of_both(left, a, right, b)
        return Rows(
            f"(SELECT {one}, {two} FROM {left.text} AS {a} POSITIONAL JOIN {right.text} AS {b}{where})",
            (*columns, *others),
        )

    def _one_sided(self, depth: int) -> Rows:
        left, right, a, b = self._rows(depth), self._rows(depth), self._name(), self._name()
        items, columns = self._items(left, a)
        kind = self._pick(("SEMI", "ANTI"))
        return Rows(
            f"(SELECT {items} FROM {left.text} AS {a} {kind} JOIN {right.text} AS {b} ON {self._link(left, a, right, b)}"
            f"{self._where(left, a)})",
            columns,
        )

    def _first_rows(self, depth: int) -> Rows:
        inner, alias = self._rows(depth), self._name()
        listed = ", ".join(column.name for column in inner.columns)
        order = self._pick(("ALL", ", ".join(f"{column.name} DESC" for column in inner.columns)))
        offset = self._pick(("", "", f" OFFSET {self._chance.randrange(5)}"))
        return Rows(
            f"(SELECT {listed} FROM {inner.text} AS {alias}{self._where(inner, alias)} ORDER BY {order}"
            f" LIMIT {self._pick((0, 1, 3, 10, 40))}{offset})",
            inner.columns,
        )

    def _with_cte(self, depth: int) -> Rows:
        inner, name, a, b = self._rows(depth), self._name(), self._name(), self._name()
        kind = self._pick(("", "MATERIALIZED ", "NOT MATERIALIZED "))
        head = f"WITH {name} AS {kind}(SELECT * FROM {inner.text} AS {self._name()})"
        there = replace(inner, text=name)
        if self._chance.random() < 0.4:
            items, columns = self._items(there, a)
            return Rows(f"({head} SELECT {items} FROM {name} AS {a}{self._where(there, a)})", columns)
        items_a, columns_a = self._items(there, a, fresh=True)
        items_b, columns_b = self._items(there, b, fresh=True)
        return Rows(
            f"({head} SELECT {items_a}, {items_b} FROM {name} AS {a} {self._pick(_JOINS)} {name} AS {b}"
            f" ON {self._link(there, a, there, b)}{self._where_of_both(there, a, there, b)})",
            (*columns_a, *columns_b),
        )

    def _recursive(self, depth: int) -> Rows:
        inner, name, alias = self._rows(depth), self._name(), self._name()
        if not inner.of("time"):
            return self._filtered(depth)
        at = self._pick(inner.of("time")).name
        step = f"SELECT n + 1, moment + INTERVAL 3 SECOND FROM {name} WHERE n < 3"
        seed = f"SELECT 1, {alias}.{at}::TIMESTAMP FROM {inner.text} AS {alias}{self._where(inner, alias)}"
        head = f"WITH RECURSIVE {name}(n, moment) AS ({seed}"
        columns = (Column("n", "number"), Column("moment", "time"))
        where = self._where(Rows("", columns), name)
        return Rows(f"({head} UNION {step}) SELECT n, moment::TIMESTAMP_NS AS moment FROM {name}{where})", columns)

    def _unnested(self, depth: int) -> Rows:
        inner, alias, made = self._rows(depth), self._name(), self._name()
        items, columns = self._items(inner, alias)
        extra = self._pick(
            (
                f"{items}, u.x AS {made} FROM {inner.text} AS {alias}, unnest([1, 2]) AS u(x)",
                f"{items}, unnest([1, 2, 3]) AS {made} FROM {inner.text} AS {alias}",
                f"{items}, u.x AS {made} FROM {inner.text} AS {alias}, range(3) AS u(x)",
                f"{items}, u.x AS {made} FROM {inner.text} AS {alias} JOIN (VALUES (1), (2)) AS u(x) ON true",
            )
        )
        return Rows(f"(SELECT {extra}{self._where(inner, alias)})", (*columns, Column(made, "number")))

    def _with_scalars(self, depth: int) -> Rows:
        """Subqueries in the select list, one of them about each row."""
        outer, inner, a, b = self._rows(depth), self._rows(depth - 1), self._name(), self._name()
        items, columns = self._items(outer, a)
        one, two = self._name(), self._name()
        link = self._link(inner, b, outer, a)
        counted = f"(SELECT count(*) FROM {inner.text} AS {b} WHERE {link} AND {self._predicate(inner, b, 0)}) AS {one}"
        times = inner.of("time")
        made = [*columns, Column(one, "number")]
        if times:
            at = f"(SELECT max({b}.{times[0].name}) FROM {inner.text} AS {b}{self._where(inner, b)}) AS {two}"
            counted, made = f"{counted}, {at}", [*made, Column(two, "time")]
        return Rows(f"(SELECT {items}, {counted} FROM {outer.text} AS {a}{self._where(outer, a)})", tuple(made))

    def _pivoted(self, depth: int) -> Rows:
        inner = self._rows(depth)
        texts, times = inner.of("text"), inner.of("time")
        if not texts or not times:
            return self._filtered(depth)
        on, at = self._pick(texts).name, self._pick(times)
        source = f"(SELECT {on}, {at.name} FROM {inner.text} AS {self._name()})"
        values = ", ".join(f"'{text}' AS v{n}" for n, text in enumerate(self._sample(self._texts, 2)))
        pivot = f"(PIVOT {source} ON {on} IN ({values}) USING count(*) GROUP BY {at.name})"
        return Rows(pivot, (at, Column("v0", "number"), Column("v1", "number")))

    # --- parts

    def _items(self, rows: Rows, alias: str, *, fresh: bool = False) -> tuple[str, tuple[Column, ...]]:
        """Some columns, some under other names; ``fresh``: all of them."""
        items, columns = [], []
        taken: set[str] = set()
        for column in self._some(rows.columns):
            name = column.name
            if fresh or self._chance.random() < 0.15:
                name = self._name()
            elif self._chance.random() < 0.1:  # under the name of another one
                name = self._pick(rows.columns).name
            if name in taken:
                continue
            taken.add(name)
            items.append(f"{alias}.{column.name} AS {name}")
            columns.append(Column(name, column.kind))
        return ", ".join(items), tuple(columns)

    def _aggregates(self, rows: Rows, alias: str) -> str:
        made = [f"min({alias}.{column.name}), max({alias}.{column.name})" for column in rows.columns]
        numbers = [f"{alias}.{column.name}" for column in rows.of("number")]
        return ", ".join(["count(*)", *made, *(f"list_sum(list({n})), wavg({n}, 2)" for n in numbers[:1])])

    def _link(self, left: Rows, a: str, right: Rows, b: str) -> str:
        """What joins two relations, with more that holds for some rows only."""
        kinds: tuple[Kind, ...] = ("text", "time", "number")
        pairs = [
            (self._pick(left.of(k)).name, self._pick(right.of(k)).name) for k in kinds if left.of(k) and right.of(k)
        ]
        terms = [
            f"{a}.{x} {self._pick(('=', '=', '=', '=', 'IS NOT DISTINCT FROM'))} {b}.{y}"
            for x, y in self._sample(pairs, 1)
        ]
        times = (left.of("time"), right.of("time"))
        if all(times) and self._chance.random() < 0.25:
            terms.append(f"{a}.{self._pick(times[0]).name} {self._operator()} {b}.{self._pick(times[1]).name}")
        if self._chance.random() < 0.4:
            side, alias = self._pick(((left, a), (right, b)))
            terms.append(self._predicate(side, alias, 1))
        return " AND ".join(terms) or "true"

    def _tests(self, parts: Sequence[tuple[Rows, str]]) -> list[str]:
        return [self._predicate(rows, alias, 1) for rows, alias in parts]

    def _where(self, rows: Rows, alias: str) -> str:
        tests = [self._predicate(rows, alias, 0) for _ in range(self._pick((0, 1, 1, 1, 1, 2)))]
        return f" WHERE {' AND '.join(tests)}" if tests else ""

    def _where_of_both(self, left: Rows, a: str, right: Rows, b: str) -> str:
        sides = self._sample(((left, a), (right, b)), self._pick((0, 1, 1, 1, 2)))
        tests = [self._predicate(rows, alias, 0) for rows, alias in sides]
        return f" WHERE {self._pick((' AND ', ' OR ')).join(tests)}" if tests else ""

    def _predicate(self, rows: Rows, alias: str, depth: int) -> str:
        draw = self._chance.random()
        if depth < 2 and draw < 0.2:
            one, two = self._predicate(rows, alias, depth + 1), self._predicate(rows, alias, depth + 1)
            return f"({one} {self._pick(('OR', 'OR', 'AND'))} {two})"
        if depth < 2 and draw < 0.26:
            return f"NOT ({self._predicate(rows, alias, depth + 1)})"
        if depth == 0 and alias and draw < 0.34:
            return self._about_others(rows, alias)
        times = rows.of("time")
        column = self._pick(rows.columns)
        if times and self._chance.random() < 0.75:
            column = self._pick((times[0], *times))
        name = f"{alias}.{column.name}" if alias else column.name
        match column.kind:
            case "time":
                return self._about_time(name)
            case "text":
                return self._about_text(name)
        return f"{name} {self._operator()} {self._chance.randrange(8)}"

    def _about_others(self, rows: Rows, alias: str) -> str:
        inner, b = self._pick(self._bases), self._name()
        column = self._pick(rows.columns)
        same = inner.of(column.kind)
        where = f"{self._link(inner, b, rows, alias)} AND {self._predicate(inner, b, 1)}"
        exists = f"{self._pick(('', 'NOT '))}EXISTS (SELECT 1 FROM {inner.text} AS {b} WHERE {where})"
        if not same:
            return exists
        picked, negated = self._pick(same).name, self._pick(("", "", "NOT "))
        listed = (
            f"{alias}.{column.name} {negated}IN (SELECT {b}.{picked} FROM {inner.text} AS {b}{self._where(inner, b)})"
        )
        scalar = (
            f"{alias}.{column.name} {self._operator()} (SELECT {self._pick(('min', 'max'))}({b}.{picked})"
            f" FROM {inner.text} AS {b}{self._where(inner, b)})"
        )
        return self._pick((exists, listed, scalar))

    def _about_text(self, name: str) -> str:
        one, two = (f"'{text}'" for text in self._sample([*self._texts, "other"], 2))
        return self._pick(
            (
                f"{name} = {one}",
                f"{name} = {one}",
                f"{one} = {name}",
                f"{name} IN ({one}, {two})",
                f"{name} <> {one}",
                f"{name} NOT IN ({one}, {two})",
                f"{name} LIKE {one}",
                f"{name} LIKE '%1%'",
                f"lower({name}) = {one}",
                f"nullif({name}, {one}) = {two}",
                f"{name} IS NOT NULL",
                f"{name} IS NULL",
                f"{name} >= {one}",
                f"coalesce({name}, {one}) = {one}",
            )
        )

    def _about_time(self, name: str) -> str:
        operator, moment = self._operator(), self._moment()
        low, high = sorted((self._moment_ns(), self._moment_ns()))
        unit = self._pick(_UNITS)
        at_ns = self._moment_ns()
        return self._pick(
            (
                *[f"{name} {operator} {moment}"] * 6,
                f"{moment} {operator} {name}",
                f"{name} {self._pick(('', '', 'NOT '))}BETWEEN make_timestamp_ns({low}) AND make_timestamp_ns({high})",
                f"{name} IN ({moment}, {self._moment()})",
                f"date_trunc('{unit}', {name}) {operator} date_trunc('{unit}', make_timestamp_ns({at_ns}))",
                f"date_trunc('{unit}', {name}) {operator} {moment}",
                f"CAST({name} AS {self._pick(('DATE', 'TIMESTAMP', 'TIMESTAMP_MS'))}) {operator} {moment}",
                f"time_bucket(INTERVAL {self._pick(('7 SECOND', '1 HOUR', '2 DAY', '5 MONTH'))}, {name}) {operator} {moment}",
                f"date_bin('{self._pick(('7 seconds', '2 days', '1 month', '3 months'))}', {name}) {operator} {moment}",
                f"date_trunc('{unit}', {_floored(name)}) {operator} {moment}",
                f"{_moved(name, self._chance.randrange(-9, 9))} {operator} {moment}",
                f"epoch_ns({name}) {operator} {at_ns}",
                f"epoch_ns({name}) // 1000000000 - 5 {operator} {at_ns // _SECOND_NS}",
                f"epoch_us({name}) {operator} {at_ns // 1_000}",
                f"epoch_ms({name}) {operator} {at_ns // 1_000_000}",
                f"epoch({name}) {operator} {at_ns / _SECOND_NS!r}",
                f"{name} {self._pick(('+', '-'))} INTERVAL {self._chance.randrange(40)} SECOND {operator} {moment}",
                f"{name} - INTERVAL 1 MONTH {operator} {moment}",
                f"{name} {operator} now() - INTERVAL {self._chance.randrange(60)} SECOND",
                f"{name} {operator} ago(INTERVAL '{self._chance.randrange(60)} seconds')",
                f"{name} IS NULL",
                f"{name} IS NOT NULL",
                f"{name} IS NOT DISTINCT FROM {moment}",
                f"coalesce({name}, {moment}) {operator} {moment}",
                f"CASE WHEN {name} {operator} {moment} THEN true ELSE {self._pick(('true', 'false', 'NULL'))} END",
                f"second({name}) {operator} {self._chance.randrange(60)}",
                f"greatest({name}, {moment}) {operator} {self._moment()}",
            )
        )

    def _operator(self) -> str:
        return self._pick(("<", "<=", ">", ">=", "=", "<>"))

    def _moment(self) -> str:
        moment_ns = self._moment_ns()
        seconds = moment_ns // _SECOND_NS
        return self._pick(
            (
                f"make_timestamp_ns({moment_ns})",
                f"make_timestamp_ns({moment_ns})",
                f"make_timestamp({moment_ns // 1_000})",
                f"make_timestamp({seconds}000000) + INTERVAL 1 SECOND",
                f"to_timestamp({seconds})::TIMESTAMP",
            )
        )

    def _moment_ns(self) -> int:
        """Of an event, next to one, or outside of everything."""
        moment = self._pick(self._moments)
        return moment + self._pick((0, 0, 0, 1, -1, 999, -1_000, 5 * _SECOND_NS, -(400 * 86_400 * _SECOND_NS)))

    def _name(self) -> str:
        self._names += 1
        return f"x{self._names}"

    def _some(self, columns: Sequence[Column]) -> list[Column]:
        """At least one, in their order; times are seldom left out."""
        kept = [c for c in columns if self._chance.random() < (0.9 if c.kind == "time" else 0.6)]
        return (kept or [self._pick(columns)])[:6]

    def _sample(self, choices: Sequence[_T], count: int) -> list[_T]:
        return self._chance.sample(list(choices), min(count, len(choices)))

    def _pick(self, choices: Sequence[_T]) -> _T:
        return self._chance.choice(choices)
