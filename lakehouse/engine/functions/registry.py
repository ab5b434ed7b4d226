"""Which SQL functions of our own there are: the files of this folder, read once.

A ``.sql`` file is a macro whose first comment is its declaration; a module is a function by its ``FUNCTION``. Neither is
listed anywhere: dropping a file here adds a function to the engine, to the gate, to SqlInfo and to the documentation.
"""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from importlib.resources import files
from typing import Any, Final, get_args

from lakehouse.engine.functions.declare import (
    OUR_PREFIX,
    Kind,
    Listing,
    Macro,
    OwnFunction,
    RelationFunction,
    ServerFunction,
)
from lakehouse.engine.relations import Call, Reference

_PACKAGE: Final = __name__.rpartition(".")[0]
_WORD: Final = re.compile(r"[a-z_][a-z0-9_]*")
_OUTLINE_PREFIX: Final = "lakeshapes_"  # as long as the other, so that places stay
_NO_CALLS: Final = re.compile(
    r"'[^']*'|\bsystem\.main\.\w+"
)  # of ours in a body: they may have the name of what calls it
_KEYED: Final = re.compile(r"(list|kind|example): (.+)")


def macro(name: str, text: str) -> Macro:
    """The declaration at the top of a ``.sql`` file, and the macro below it.

    Lines of the comment: the signature, then the documentation; ``list: numeric`` (or string, system, datetime),
    ``kind: aggregate`` (or table), and any number of ``example: call = answer``.

    Raises:
        ValueError: It is declared in another way.
    """
    comment, body = [], text
    while body.startswith("--"):
        line, _, body = body.partition("\n")
        comment.append(line.removeprefix("--").strip())
    keyed = [(match.group(1), match.group(2)) for line in comment if (match := _KEYED.fullmatch(line))]
    told = dict(keyed)
    if told.get("list", "numeric") not in get_args(Listing) or told.get("kind", "scalar") not in get_args(Kind):
        raise ValueError(f"{name}.sql: list is one of {get_args(Listing)}, kind one of {get_args(Kind)}")
    found = Macro(
        signature=comment[0] if comment else "",
        documentation=" ".join(line for line in comment[1:] if not _KEYED.fullmatch(line)).strip(),
        listing=told.get("list"),  # type: ignore[arg-type]
        kind=told.get("kind", "scalar"),  # type: ignore[arg-type]
        examples=tuple(_example(name, value) for key, value in keyed if key == "example"),
        text=body.strip(),
    )
    if found.name != name or not re.match(rf"CREATE MACRO {name}\(", found.text):
        raise ValueError(f"{name}.sql must declare and create {name}")
    return found


def _example(name: str, text: str) -> tuple[str, str]:
    call, sign, answer = text.rpartition(" = ")
    if not sign:
        raise ValueError(f"{name}.sql: an example looks like call = answer, not {text!r}")
    return call, answer


@cache
def own_functions() -> tuple[OwnFunction, ...]:
    """All but those whose rows come from the lake, by name."""
    macros = [
        macro(entry.name.removesuffix(".sql"), entry.read_text(encoding="utf-8"))
        for entry in files(_PACKAGE).iterdir()
        if entry.name.endswith(".sql")
    ]
    found = [*macros, *(declared for declared in _declared() if isinstance(declared, OwnFunction))]
    names = [function.name for function in found]
    if len(set(names)) != len(names):
        raise ValueError(f"a function is declared twice: {sorted(names)}")
    return tuple(sorted(found, key=lambda function: function.name))


def functions_in(text: str) -> list[OwnFunction]:
    """Our own functions whose names are in a text of SQL, each after those that its body calls."""
    own = _by_name()
    found: dict[str, OwnFunction] = {}

    def add(words: Iterable[str]) -> None:
        for word in words:
            function = own.get(word)
            if function is not None and word not in found:
                if isinstance(function, Macro):
                    add(part for part in _words(_NO_CALLS.sub("", function.text)) if part != word)
                found[word] = function

    add(_words(text))
    return list(found.values())


def outlines() -> Iterator[str]:
    """What makes stand-ins of the macros over times: of their arguments and their type, and a fraction of their plan.

    They are for looking at what is around them and in their arguments; each argument is in them once. Something random is
    as well: of constants the binder would fold them, and the casts around them with them.
    """
    for function in _outlined():
        names = ", ".join(f"a{place}" for place in range(len(function.parameters)))
        shape = outlined(f"{function.name}({names})")
        yield f"CREATE MACRO {shape} AS [CAST(NULL AS {function.result})][CAST(hash({names}, random()) AS BIGINT)]"


def outlined(text: str) -> str:
    """A text with the stand-ins in place of these macros. Everything in it stays in its place."""
    return _calls_of_outlined().sub(_OUTLINE_PREFIX, text)


@cache
def _outlined() -> tuple[OwnFunction, ...]:
    private = (one for one in own_functions() if one.is_private and not isinstance(one, ServerFunction))
    return tuple(one for one in private if "TIMESTAMP_NS" in one.signature)


@cache
def _calls_of_outlined() -> re.Pattern[str]:
    names = "|".join(function.name.removeprefix(OUR_PREFIX) for function in _outlined())
    return re.compile(rf"\b{OUR_PREFIX}(?=(?:{names})\()")


def _words(text: str) -> Iterable[str]:
    return dict.fromkeys(_WORD.findall(text.lower()))


@cache
def _by_name() -> Mapping[str, OwnFunction]:
    return {function.name: function for function in own_functions()}


@cache
def relation_functions() -> Mapping[str, RelationFunction]:
    """Table functions whose rows come from the lake, by name."""
    return {declared.name: declared for declared in _declared() if isinstance(declared, RelationFunction)}


def _declared() -> Iterator[Any]:
    for module in pkgutil.iter_modules(importlib.import_module(_PACKAGE).__path__):
        declared = getattr(importlib.import_module(f"{_PACKAGE}.{module.name}"), "FUNCTION", None)
        if declared is not None:
            yield declared


def read_by(call: Call) -> tuple[str, tuple[str | None, ...]]:
    """The source that a call reads, and the arguments that it is asked with."""
    return relation_functions()[call.name].read_by(call)


def reference_of(call: Call, **read: Any) -> Reference:
    """A call as whoever resolves relations is told of it; ``read`` is what its predicates say. Moments are open."""
    source, arguments = read_by(call)
    arguments += (None,) * len(relation_functions()[call.name].moments)
    return Reference(call.name, source, arguments, is_call=True, **read)


def listed_functions(listing: Listing) -> tuple[str, ...]:
    """Names for one of SqlInfo's lists."""
    return tuple(function.name for function in own_functions() if function.listing == listing)
