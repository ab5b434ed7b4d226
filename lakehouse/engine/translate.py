"""DuckDB's exceptions as errors of the lake: one curated line each, without paths and names of our own making."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any, Final

import duckdb
import pyarrow as pa

from lakehouse.engine.names import without_our_names
from lakehouse.errors import (
    BackendUnavailableError,
    InternalError,
    LakeflightError,
    LimitExceededError,
    QueryCancelledError,
    QueryError,
    SqlSyntaxError,
    UnreadableFileError,
    UnsupportedError,
)

_MESSAGE_CHARS_MAX: Final = 600
# What the engine advises and nobody here can do: "… exceeded. Use SET pivot_limit=X to increase the limit."
_SETTINGS_ADVICE: Final = re.compile(
    r"(?:[.;!] +(?:Please +)?(?:Use|use|Try|Enable|To [a-z ]+ use)|,? or) +[\"'`]?(?:SET|RESET|PRAGMA) +[a-z_]+[ =].*\.\Z"
)
_MISSING_CAST: Final = re.compile(r"Unimplemented type for cast \(([A-Z_ ]+) -> ([A-Z_ ]+)\)")
_OTHER_WAY: Final[dict[tuple[str, str], str]] = {
    ("TIMESTAMP_NS", "TIMESTAMP_S"): "cast it to TIMESTAMP first",
    ("TIMESTAMP_NS", "TIME WITH TIME ZONE"): "cast it to TIME first",
    ("TIMESTAMP_NS", "BIGINT"): "use epoch_ns",
    ("TIMESTAMP_NS", "DOUBLE"): "use epoch",
    ("INTERVAL", "BIGINT"): "use epoch_ns",
    ("INTERVAL", "DOUBLE"): "use epoch",
}
# Of a date or a coarser time that is compared with one in nanoseconds; the engine talks about the numbers that they are kept in.
_BEYOND_NANOSECONDS: Final = re.compile(
    r"Type INT(?:32|64) with value (\S+(?: [0-9:.]+)?) can't be cast .*the destination type INT64"
    "|Could not convert Timestamp to higher precision"
)
# Of a time with a zone, beside one in nanoseconds, which has none and is UTC.
_ZONED_BESIDE: Final = re.compile(
    "(?:Cannot compare values of type|No function matches).*"
    "(?:TIMESTAMP_NS.*TIMESTAMP WITH TIME ZONE|TIMESTAMP WITH TIME ZONE.*TIMESTAMP_NS)"
)
_KIND: Final = re.compile(
    r"\s*(?:[A-Za-z_]+Exception:\s*)?((?:[A-Z][A-Za-z]*|INTERRUPT|INTERNAL)(?: [A-Za-z]+){0,3} Error): ?"
)
_SUSPECTED: Final = "the file might be corrupted"  # of decoders that do not know its name
# How much disk the engine was given for what does not fit in memory, and what its files there are called.
_SPILLED: Final = re.compile(r"/([0-9.]+ [A-Za-z]+) used\)\.\s+This limit was set by the 'max_temp_directory_size'")
_SPILL_FILE: Final = "duckdb_temp_"
_IN_A_FUNCTION: Final = re.compile(r"Python exception occurred while executing the UDF: \w+: ")  # one of our own
_CANDIDATES: Final = re.compile(r"^\s*Candidate bindings: (.+)$", re.MULTILINE)
_BY_KIND: Final[dict[str, type[LakeflightError]]] = {
    "INTERRUPT Error": QueryCancelledError,
    "Parser Error": SqlSyntaxError,
    "Syntax Error": SqlSyntaxError,
    "Not implemented Error": UnsupportedError,
    "Out of Memory Error": LimitExceededError,
    "INTERNAL Error": InternalError,
    "FATAL Error": InternalError,
    "IO Error": BackendUnavailableError,
    "Permission Error": BackendUnavailableError,
}


def translate(error: BaseException, paths: Iterable[str] = ()) -> LakeflightError:
    """The error a caller sees for ``error``. The original belongs in the log, chained with ``from``."""
    if isinstance(error, LakeflightError):
        return error
    text = str(error)
    match = _KIND.match(text)
    kind = match.group(1) if match else ""
    if isinstance(error, duckdb.InterruptException) or kind == "INTERRUPT Error":
        return QueryCancelledError("the statement was interrupted")
    if (
        isinstance(error, duckdb.OutOfMemoryException)
        or kind == "Out of Memory Error"
        or isinstance(error, MemoryError)
    ):
        if (spilled := _SPILLED.search(text)) is not None:
            return LimitExceededError(
                f"what the statement cannot keep in memory takes more than the {spilled.group(1)} of disk that one may"
                " use: select less, or a shorter time range, or aggregate first"
            )
        return LimitExceededError(
            "the statement needs more memory than one statement may use: select less, or aggregate"
        )
    if _SPILL_FILE in text:
        return LimitExceededError(
            "what the statement cannot keep in memory does not fit on the server's disk: select less, or aggregate first"
        )
    if (
        isinstance(error, (duckdb.IOException, duckdb.PermissionException))
        or _BY_KIND.get(kind) is BackendUnavailableError
    ):
        return UnreadableFileError("a partition file could not be read")
    if isinstance(error, (duckdb.InternalException, duckdb.FatalException)) or _BY_KIND.get(kind) is InternalError:
        return InternalError("the engine failed")
    paths = tuple(paths)
    if _is_about_a_file(error, kind, paths):
        # Its reason is about bytes that no user has seen, and may have some of them in it.
        return UnreadableFileError("a partition file could not be read: its content is damaged")
    if isinstance(error, (duckdb.Error, OSError, pa.ArrowInvalid, ValueError)) and kind:
        return _BY_KIND.get(kind, QueryError)(_curated(text, match, paths))
    if isinstance(error, duckdb.NotImplementedException):
        return UnsupportedError(_curated(text, match, paths))
    if isinstance(error, duckdb.Error):
        return QueryError(_curated(text, match, paths))
    return InternalError("the engine failed")


def _is_about_a_file(error: BaseException, kind: str, paths: Sequence[str]) -> bool:
    """Whether reading a Parquet file went wrong.

    Either it is named, which no statement can do. Or a decoder complains in its own words about what makes no sense in it:
    without a kind, which every error about a statement has, or in bytes that are no text at all.
    """
    if isinstance(error, UnicodeDecodeError):
        return True
    if isinstance(error, duckdb.InvalidInputException):
        return bool(paths) and (_SUSPECTED in str(error) or any(path in str(error) for path in paths))
    return type(error) is duckdb.Error and not kind


def _curated(text: str, match: re.Match[str] | None, paths: Iterable[str]) -> str:
    start = match.start(1) if match else 0
    line = _IN_A_FUNCTION.sub("", text[start:].partition("\n")[0].strip())
    candidates = _CANDIDATES.search(text)
    if candidates:
        line = f"{line.rstrip('!.')}: candidates are {candidates.group(1)}"
    line = without_settings_advice(line)
    cast = _MISSING_CAST.search(line)
    if cast is not None and (way := _OTHER_WAY.get((cast.group(1), cast.group(2)))):
        line = f"{line}: {way}"
    if _ZONED_BESIDE.search(line):
        line = f"{line.partition(' - an explicit cast')[0].partition('. You might')[0]}: give the one with a zone AT TIME ZONE 'UTC'"
    beyond = _BEYOND_NANOSECONDS.search(line)
    if beyond is not None and ("higher precision" in line or beyond.group(1).count("-") >= 2):
        line = (
            f"the time {beyond.group(1) or 'of a subquery or a column'} lies beyond the years 1677 to 2262, "
            "which nanoseconds do not reach: compare it with CAST(… AS TIMESTAMP)"
        )
    for path in paths:
        line = line.replace(path, "a partition file")
    return without_our_names(line)[:_MESSAGE_CHARS_MAX]


def without_settings_advice(line: str) -> str:
    """The line without a closing advice to change a setting: statements cannot."""
    return _SETTINGS_ADVICE.sub("", line)


def poisons(error: BaseException) -> bool:
    """Whether a database must not be used again after this error."""
    return isinstance(translate(error), (InternalError, LimitExceededError, BackendUnavailableError))


__all__: list[Any] = ["poisons", "translate", "without_settings_advice"]
