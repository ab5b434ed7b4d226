"""Parquet files put together from row groups of others, byte for byte: nothing is decoded, so nothing can change.

A row group does not know where it is; only the footer says so. Groups are copied one after the other, and their entries of
the footers with the places moved. The footer is a structure of Thrift's compact protocol, which is read and written here as it
stands: what is not understood is carried along. Indexes and filters outside of a group are left out, which readers can do without.

Knows no view and no row. Refuses footers that it cannot read, and groups that other files would be needed for.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

MAGIC: Final = b"PAR1"
COPIED_AT_ONCE: Final = 1 << 20
SHORT_DICTIONARY_BYTES: Final = 4096
FOOTER_BYTES_MAX: Final = 256 << 20  # of files of ours they take kilobytes

Fields: TypeAlias = "dict[int, tuple[int, Any]]"  # a structure: number of a field -> its type and value

# types of the compact protocol
_TRUE, _FALSE, _BYTE, _I16, _I32, _I64, _DOUBLE, _BINARY, _LIST, _SET, _MAP, _STRUCT = range(1, 13)
_NESTED_MAX: Final = 32

# fields of FileMetaData, RowGroup, ColumnChunk and ColumnMetaData
_F_SCHEMA, _F_ROWS, _F_GROUPS = 2, 3, 4
_G_COLUMNS, _G_BYTES, _G_ROWS, _G_OFFSET, _G_COMPRESSED, _G_ORDINAL = 1, 2, 3, 5, 6, 7
_C_PATH, _C_OFFSET, _C_META, _C_INDEXES, _C_CRYPTO = 1, 2, 3, (4, 5, 6, 7), (8, 9)
_M_PATH, _M_COMPRESSED, _M_DATA, _M_INDEX, _M_DICTIONARY, _M_ENCODINGS, _M_FILTERS = 3, 7, 9, 10, 11, 13, (14, 15)
_M_STATISTICS, _S_MOST, _S_LEAST = 12, 5, 6
_DATA_PAGES: Final = (0, 3)
_BY_DICTIONARY: Final = (2, 8)


class FooterError(ValueError):
    """A file whose groups cannot be copied."""


@dataclass(frozen=True, slots=True)
class RowGroup:
    """One row group: where it is, and what its footer says of it."""

    path: Path
    number: int  # in its file
    rows: int
    spans: tuple[tuple[int, int], ...]  # of bytes: where each begins and how long it is
    fields: Fields
    plain: frozenset[str]  # names of top-level columns whose values do not repeat enough for a dictionary

    @property
    def size_bytes(self) -> int:
        return sum(length for _, length in self.spans)

    def bounds(self, column: str) -> tuple[int, int]:
        """The least and the greatest value of a column of int64 or times without nulls.

        Raises:
            FooterError: The file does not say.
        """
        for described in self.fields[_G_COLUMNS][1][1]:
            meta = described[_C_META][1]
            if meta[_M_PATH][1][1] == [column.encode()]:
                try:
                    statistics = meta[_M_STATISTICS][1]
                    least, most = (statistics[field][1] for field in (_S_LEAST, _S_MOST))
                except KeyError:
                    break
                return int.from_bytes(least, "little", signed=True), int.from_bytes(most, "little", signed=True)
        raise FooterError(f"no statistics of {column}")


@dataclass(frozen=True, slots=True)
class Footer:
    """What a file says of itself."""

    fields: Fields
    groups: tuple[RowGroup, ...]


def read_footer(path: Path) -> Footer:
    """
    Raises:
        FooterError: It is no Parquet file of the kind that can be copied from.
    """
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        file.seek(max(0, size - 8))
        end = file.read(8)
        length = int.from_bytes(end[:4], "little")
        if len(end) < 8 or end[4:] != MAGIC or length > min(FOOTER_BYTES_MAX, size - 12):
            raise FooterError("no Parquet footer")
        file.seek(size - 8 - length)
        data = file.read(length)
    try:
        fields = _Reader(data).structure(0)
        groups = tuple(_group(path, number, group) for number, group in enumerate(_take(fields, _F_GROUPS)[1]))
    except FooterError:
        raise
    except (IndexError, KeyError, TypeError, ValueError) as error:
        raise FooterError("a Parquet footer that cannot be read") from error
    return Footer(fields, groups)


class GroupWriter:
    """A file that is made of row groups of others with the same schema."""

    def __init__(self, path: Path, like: Footer) -> None:
        """``like``: of one of the files, for all that is not of their groups."""
        self._file = path.open("xb")
        self._file.write(MAGIC)
        self._at = len(MAGIC)
        self._like = like.fields
        self._groups: list[Fields] = []
        self._rows = 0

    @property
    def size_bytes(self) -> int:
        return self._at

    def append(self, group: RowGroup) -> None:
        columns = []
        with group.path.open("rb", buffering=0) as source:
            for column, (begin, length) in zip(group.fields[_G_COLUMNS][1][1], group.spans, strict=True):
                columns.append(_moved_column(column, self._at - begin))
                self._copy(source.fileno(), begin, length)
        fields = dict(group.fields)
        fields[_G_COLUMNS] = (_LIST, (_STRUCT, columns))
        fields[_G_OFFSET] = (_I64, self._at - group.size_bytes)
        fields[_G_COMPRESSED] = (_I64, group.size_bytes)
        fields[_G_ORDINAL] = (_I16, len(self._groups))
        if len(self._groups) >= 1 << 15:  # the number does not fit, and nobody needs it
            del fields[_G_ORDINAL]
        self._groups.append(fields)
        self._rows += group.rows

    def close(self) -> None:
        fields = dict(self._like)
        fields[_F_ROWS] = (_I64, self._rows)
        fields[_F_GROUPS] = (_LIST, (_STRUCT, self._groups))
        data = bytearray()
        _write_structure(data, fields)
        with self._file:
            self._file.write(data + len(data).to_bytes(4, "little") + MAGIC)

    def _copy(self, source: int, begin: int, length: int) -> None:
        end = begin + length
        while begin < end:
            part = os.pread(source, min(COPIED_AT_ONCE, end - begin), begin)
            if not part:
                raise FooterError("a row group is cut off")
            self._file.write(part)
            begin += len(part)
        self._at += length


def same_schema(one: Footer, other: Footer) -> bool:
    return bool(_take(one.fields, _F_SCHEMA) == _take(other.fields, _F_SCHEMA))


def _group(path: Path, number: int, fields: Fields) -> RowGroup:
    columns = _take(fields, _G_COLUMNS)[1]
    metas = [column[_C_META][1] for column in columns]
    if any(_C_PATH in column or any(field in column for field in _C_CRYPTO) for column in columns):
        raise FooterError("a row group in another file, or encrypted")
    spans = tuple(
        (min(meta[field][1] for field in (_M_DATA, _M_INDEX, _M_DICTIONARY) if field in meta), meta[_M_COMPRESSED][1])
        for meta in metas
    )
    plain = {meta[_M_PATH][1][1][0].decode() for meta in metas if not _repeats(meta)}
    return RowGroup(path, number, fields[_G_ROWS][1], spans, fields, frozenset(plain))


def _repeats(meta: Fields) -> bool:
    """Whether all values of a column are in a dictionary that is short beside them, or at all."""
    if _M_ENCODINGS not in meta or _M_DICTIONARY not in meta:
        return False
    if any(page[1][1] in _DATA_PAGES and page[2][1] not in _BY_DICTIONARY for page in meta[_M_ENCODINGS][1][1]):
        return False
    dictionary = meta[_M_DATA][1] - meta[_M_DICTIONARY][1]
    return bool(dictionary <= max(SHORT_DICTIONARY_BYTES, meta[_M_COMPRESSED][1] // 2))


def _moved_column(column: Fields, by: int) -> Fields:
    meta = {field: value for field, value in column[_C_META][1].items() if field not in _M_FILTERS}
    for field in (_M_DATA, _M_INDEX, _M_DICTIONARY):
        if field in meta:
            meta[field] = (_I64, meta[field][1] + by)
    moved = {field: value for field, value in column.items() if field not in _C_INDEXES}
    if moved[_C_OFFSET][1]:  # some writers say nothing there
        moved[_C_OFFSET] = (_I64, moved[_C_OFFSET][1] + by)
    moved[_C_META] = (_STRUCT, meta)
    return moved


def _take(fields: Fields, field: int) -> Any:
    return fields[field][1]


class _Reader:
    """Thrift's compact protocol."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def structure(self, depth: int) -> Fields:
        if depth > _NESTED_MAX:
            raise FooterError("a Parquet footer that is nested too deep")
        fields: Fields = {}
        field = 0
        while head := self._byte():
            kind = head & 15
            field = field + (head >> 4) if head >> 4 else self._signed()
            # The value of a boolean is in its type.
            fields[field] = (kind, None) if kind in (_TRUE, _FALSE) else (kind, self._value(kind, depth))
        return fields

    def _value(self, kind: int, depth: int) -> Any:
        match kind:
            case 5 | 6 | 4:
                return self._signed()
            case 8:
                length = self._unsigned()
                self._at += length
                if self._at > len(self._data):
                    raise FooterError("a Parquet footer that is cut off")
                return self._data[self._at - length : self._at]
            case 12:
                return self.structure(depth + 1)
            case 9 | 10:
                head = self._byte()
                count = self._unsigned() if head >> 4 == 15 else head >> 4
                of = head & 15
                if of in (_TRUE, _FALSE, _BYTE):
                    return of, [self._byte() for _ in range(count)]
                return of, [self._value(of, depth + 1) for _ in range(count)]
            case 3:
                return self._byte()
            case 7:
                self._at += 8
                return self._data[self._at - 8 : self._at]
            case _:
                raise FooterError("a Parquet footer of another kind")

    def _byte(self) -> int:
        self._at += 1
        return self._data[self._at - 1]

    def _unsigned(self) -> int:
        value = shift = 0
        while True:
            byte = self._byte()
            value |= (byte & 127) << shift
            if byte < 128:
                return value
            shift += 7

    def _signed(self) -> int:
        value = self._unsigned()
        return (value >> 1) ^ -(value & 1)


def _write_structure(out: bytearray, fields: Fields) -> None:
    last = 0
    for field, (kind, value) in sorted(fields.items()):
        if 0 < field - last < 16:
            out.append((field - last) << 4 | kind)
        else:
            out.append(kind)
            _write_signed(out, field)
        last = field
        if kind not in (_TRUE, _FALSE):
            _write_value(out, kind, value)
    out.append(0)


def _write_value(out: bytearray, kind: int, value: Any) -> None:
    match kind:
        case 5 | 6 | 4:
            _write_signed(out, value)
        case 8:
            _write_unsigned(out, len(value))
            out += value
        case 12:
            _write_structure(out, value)
        case 9 | 10:
            of, items = value
            if len(items) < 15:
                out.append(len(items) << 4 | of)
            else:
                out.append(0xF0 | of)
                _write_unsigned(out, len(items))
            for item in items:
                if of in (_TRUE, _FALSE, _BYTE):
                    out.append(item)
                else:
                    _write_value(out, of, item)
        case 3:
            out.append(value)
        case 7:
            out += value


def _write_unsigned(out: bytearray, value: int) -> None:
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)


def _write_signed(out: bytearray, value: int) -> None:
    _write_unsigned(out, value << 1 if value >= 0 else ((-value) << 1) - 1)
