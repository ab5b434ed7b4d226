"""What a SQL function of our own declares, in one value: its gate verdict, its body, its types and its documentation.

A function that is SQL over its arguments is a ``.sql`` file with a macro; one over Arrow arrays is a module with an
``ArrowFunction``; a table function whose rows come from the lake is a module with a ``RelationFunction``. Each is one
file of this folder, and nothing else names it.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, Protocol

from lakehouse.engine.relations import Call
from lakehouse.engine.tree import Node, bound_value, parameter_number, string_literal
from lakehouse.errors import ForbiddenSqlError
from lakehouse.model import TimeRange

OUR_PREFIX: Final = "lakeflight_"  # of helpers of other functions: no statement may call them
Listing = Literal["numeric", "string", "system", "datetime"]
Kind = Literal["scalar", "aggregate", "table"]

_SIGNATURE: Final = re.compile(r"([a-z_][a-z0-9_]*)\((.*)\) -> (\S.*)")
_ORDINALS: Final = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth")


@dataclass(frozen=True, kw_only=True)
class OwnFunction:
    """What is common to all of them."""

    signature: str  # bin_center(value DOUBLE, size DOUBLE) -> DOUBLE
    documentation: str
    listing: Listing | None = None  # the list of SqlInfo that has it; drivers know four
    kind: Kind = "scalar"
    examples: tuple[tuple[str, str], ...] = ()  # a call, and its answer as text: a test runs them

    def __post_init__(self) -> None:
        if _SIGNATURE.fullmatch(self.signature) is None:
            raise ValueError(f"a signature looks like name(parameter TYPE, …) -> TYPE, not {self.signature!r}")
        if not self.documentation:
            raise ValueError(f"{self.name} has no documentation")

    @property
    def name(self) -> str:
        return self.signature.partition("(")[0]

    @property
    def parameters(self) -> tuple[str, ...]:
        """``name TYPE`` of each."""
        inside = self.signature[len(self.name) + 1 : self.signature.rindex(") -> ")]
        return tuple(part.strip() for part in _split_types(inside) if part.strip())

    @property
    def result(self) -> str:
        return self.signature.rpartition(" -> ")[2]

    @property
    def is_private(self) -> bool:
        return self.name.startswith(OUR_PREFIX)


@dataclass(frozen=True, kw_only=True)
class Macro(OwnFunction):
    """A body in SQL. A macro shadows the engine's function of its name, which stays ``system.main.<name>``."""

    text: str  # CREATE MACRO …; of kind table: … AS TABLE SELECT …


@dataclass(frozen=True, kw_only=True)
class ArrowFunction(OwnFunction):
    """A body over whole Arrow arrays, of the types of the signature. Rows with a NULL do not reach it and give NULL."""

    function: Callable[..., Any]

    @property
    def types(self) -> tuple[str, ...]:
        return tuple(parameter.partition(" ")[2] for parameter in self.parameters)

    def __call__(self, *arrays: Any) -> Any:
        """What the engine calls: it counts parameters, and functions of Arrow have optional ones."""
        return self.function(*arrays)

    @property
    def __signature__(self) -> inspect.Signature:
        """As many parameters as are declared, which is what the engine counts."""
        names = [parameter.partition(" ")[0] for parameter in self.parameters]
        return inspect.Signature([inspect.Parameter(name, inspect.Parameter.POSITIONAL_ONLY) for name in names])


@dataclass(frozen=True, kw_only=True)
class PayloadFunction(OwnFunction):
    """Payloads by the ids of their blocks, fetched while the statement runs (``lakehouse.engine.payloads``)."""

    @property
    def types(self) -> tuple[str, ...]:
        return tuple(parameter.partition(" ")[2] for parameter in self.parameters)


@dataclass(frozen=True, kw_only=True)
class ServerFunction(OwnFunction):
    """What only the server can do, a vector of rows at a time, for administrators: it is told texts, and answers one for each.

    Times are nanoseconds since 1970; rows with a NULL reach it. See ``lakehouse.engine.administration``.
    """

    @property
    def types(self) -> tuple[str, ...]:
        return tuple(parameter.partition(" ")[2] for parameter in self.parameters)


@dataclass(frozen=True, kw_only=True)
class Rewording(OwnFunction):
    """A call that stands for others, by what its literals say or how many arguments it has: ``lakehouse.engine.dialect``."""

    translate: Callable[[Node], Node]  # the call -> what is written in its place


@dataclass(frozen=True, slots=True)
class Argument:
    """One argument of a relation function: text that is known before anything runs."""

    name: str
    noun: str  # in messages: an instance
    is_open: bool = True  # may be a parameter; else only a literal
    canonical: Callable[[str], str] = str  # one spelling for each; raises ``ForbiddenSqlError``
    canonical_sql: str = "{}"  # the same in SQL


@dataclass(frozen=True, slots=True)
class Moment:
    """An argument that is a moment: a constant of any type of time, text, or computed of constants and the clock.

    The engine evaluates it before the statement runs. A source is asked with its nanoseconds since 1970, as text.
    """

    name: str
    noun: str
    what: str  # in messages: start time
    canonical_sql: str = "CAST(epoch_ns(CAST({0} AS TIMESTAMPTZ_NS)) AS VARCHAR)"
    sql_type: str = "TIMESTAMP_NS"  # what a parameter in its place is
    kind: str = "a timestamp"  # in messages


@dataclass(frozen=True, slots=True)
class Seconds(Moment):
    """A whole number of seconds, which may be computed as a moment may."""

    canonical_sql: str = "CAST(CAST({0} AS BIGINT) AS VARCHAR)"
    sql_type: str = "BIGINT"
    kind: str = "a number of seconds"


class StoredRows(Protocol):
    """What a function reads that makes its rows while they are asked for."""

    @property
    def arguments(self) -> tuple[str, ...]:
        """Of the call, as the source was asked."""
        ...

    @property
    def range(self) -> TimeRange:
        """That of the headers."""
        ...

    def table(self, name: str) -> Any:
        """A table of the catalog, those of its columns that the function declares, as a ``pa.Table``."""
        ...

    def query(self, sql: str) -> Iterator[Any]:
        """Record batches in the order of the files, whose rows are ``{rows}`` in the text; none if there are no files."""
        ...


@dataclass(frozen=True, slots=True)
class MadeRows:
    """How rows are made of other rows, a record batch at a time, by who has arguments and files at hand."""

    make: Callable[[StoredRows], Iterator[Any]]
    catalog: Mapping[str, tuple[str, ...]]  # tables of the catalog that it reads, and which of their columns


@dataclass(frozen=True, slots=True)
class RelationFunction:
    """A table function whose rows a source of the lake has. Its arguments are literals or bound text, never computed.

    Moments alone may be computed; they come last.
    """

    name: str
    arguments: tuple[Argument | Moment, ...]
    documentation: str
    source: str | None = None  # the source that has its rows; ``None``: the first argument names it
    select: str = "SELECT * FROM {table}"  # of the rows that the source has, by the arguments' names
    made: MadeRows | None = None  # of what the source has, while they are asked for; ``None``: the source has its rows
    administers: bool = (
        False  # for administrators, and a statement of its own: calling it changes the lake, or plans to
    )

    @property
    def texts(self) -> tuple[Argument, ...]:
        """The arguments that are text."""
        return tuple(argument for argument in self.arguments if isinstance(argument, Argument))

    @property
    def moments(self) -> tuple[Moment, ...]:
        """Those that are moments."""
        return tuple(argument for argument in self.arguments if isinstance(argument, Moment))

    def not_a_moment(self, place: int) -> ForbiddenSqlError:
        """What is wrong with the argument at a place, counted from 0."""
        argument = self.arguments[place]
        assert isinstance(argument, Moment)
        return ForbiddenSqlError(
            f"{_ORDINALS[place].capitalize()} argument to {self.name} must be {argument.kind} ({argument.what}): a literal, a"
            " parameter, or computed of constants and now()"
        )

    def call(self, given: Sequence[Node], parameters: Sequence[Any] | None) -> Call:
        """What a call in a statement means.

        Args:
            given: Argument nodes of the parse tree.  parameters: Bound values; ``None`` at prepare.
        Returns:
            The call with its texts; its moments are evaluated later.
        Raises:
            ForbiddenSqlError: It has other arguments, or one that is not known before the statement runs.
        """
        if self.moments and len(self.texts) <= len(given) < len(self.arguments):
            raise self.not_a_moment(len(given))
        if len(given) != len(self.arguments):
            takes = " and ".join(argument.noun for argument in self.arguments) or "nothing"
            raise ForbiddenSqlError(f"{self.name} takes {takes}, not {len(given)} arguments")
        if any(argument.get("name") for argument in given):
            raise ForbiddenSqlError(f"{self.name} takes its arguments by position")
        return Call(
            self.name,
            tuple(
                self._literal(argument, _ORDINALS[position], node.get("expression") or {}, parameters)
                for position, (argument, node) in enumerate(zip(self.texts, given, strict=False))
            ),
        )

    def _literal(self, argument: Argument, ordinal: str, node: Node, parameters: Sequence[Any] | None) -> str | None:
        text = string_literal(node)
        if text is not None:
            return argument.canonical(text)
        if not argument.is_open:
            raise ForbiddenSqlError(f"the {ordinal} argument of {self.name} must be a string literal")
        if parameter_number(node) is None:
            raise ForbiddenSqlError(
                f"the {ordinal} argument of {self.name} must be a string literal or a parameter: "
                "it cannot depend on rows or expressions"
            )
        if parameters is None:
            return None
        value = bound_value(node, parameters)
        if not isinstance(value, str):
            noun = argument.noun.removeprefix("an ").removeprefix("a ")
            raise ForbiddenSqlError(f"the {noun} of {self.name} must be bound to a string")
        return argument.canonical(value)

    def read_by(self, call: Call) -> tuple[str, tuple[str | None, ...]]:
        """The source that a call reads, and the arguments that it is asked with."""
        if self.source is not None:
            return self.source, call.literals
        return str(call.literals[0]), call.literals[1:]


def _split_types(text: str) -> list[str]:
    """At the commas that stand outside of brackets: ``a DECIMAL(18, 3), b INTEGER``."""
    parts, depth = [""], 0
    for mark in text:
        depth += (mark in "([") - (mark in ")]")
        if mark == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += mark
    return parts
