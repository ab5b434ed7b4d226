"""JSON text -> JSONB, the bytes in which the original keeps documents: whole columns at once, no value in Python.

A document is a header, the entries of its members (type and length), and their bytes; in an object the keys come first, in
order. The texts of a column lie one after the other, so all of them are taken apart together: quotes tell what is inside of
strings, brackets how deep a value lies. Lengths then follow level by level from the innermost, and places from the
outermost. Texts that are not in the one spelling that documents are kept in (blanks, keys out of order, escapes that need
none) are brought into it first, each by Python.

The texts are JSON: this checks no more of them than it needs to come to its end.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

DEPTH_MAX: Final = 1_000  # every level takes a look at what is in it
LENGTH_MAX: Final = (1 << 28) - 1  # of a value: an entry has no room for more

_ARRAY, _OBJECT, _SCALAR = 0x80000000, 0x40000000, 0x20000000
_NULL, _STRING, _NUMBER, _FALSE, _TRUE, _CONTAINER = range(6)
_ZERO, _NAN, _INFINITY, _MINUS_INFINITY, _SIGNED, _UNSIGNED, _DOUBLE = range(0x00, 0x70, 0x10)
_UNESCAPED: Final = np.arange(256, dtype=np.uint8)
_UNESCAPED[list(b"bfnrt")] = list(b"\b\f\n\r\t")
_KIND_OF_ATOM: Final = np.full(256, _NUMBER, np.int64)
_KIND_OF_ATOM[list(b"nft")] = _NULL, _FALSE, _TRUE


def encoded(texts: Any) -> Any:
    """A binary array of JSONB documents, from a string array of JSON; null where it is null.

    Raises:
        pa.ArrowInvalid: A text is no JSON, or nested deeper or longer than is possible.
    """
    distinct = pc.dictionary_encode(texts)
    return pc.take(_documents(distinct.dictionary), distinct.indices)


def encoded_dictionary(texts: Any, kind: Any) -> Any:
    """The same as a dictionary array of this type."""
    distinct = pc.dictionary_encode(texts)
    return pa.DictionaryArray.from_arrays(distinct.indices.cast(kind.index_type), _documents(distinct.dictionary))


def _documents(texts: Any) -> Any:
    if not len(texts):
        return pa.array([], pa.binary())
    try:
        return _documents_of(texts)
    except pa.ArrowInvalid:
        raise
    except (IndexError, ValueError) as error:  # what should be there is not
        raise pa.ArrowInvalid("not JSON") from error


def _documents_of(texts: Any) -> Any:
    offsets, data = _bytes_of(texts)
    parts = _Parts.of(offsets, data)
    if parts.odd.size:
        texts = texts.to_pylist()
        for place in parts.odd.tolist():
            texts[place] = _in_one_spelling(texts[place])
        offsets, data = _bytes_of(pa.array(texts, pa.string()))
        parts = _Parts.of(offsets, data)
        if parts.odd.size:
            raise pa.ArrowInvalid("not JSON")
    places, out = _written(parts)
    if places[-1] > np.iinfo(np.int32).max:
        raise pa.ArrowInvalid("too many bytes for one batch")
    return pa.Array.from_buffers(
        pa.binary(), len(places) - 1, [None, pa.py_buffer(places.astype(np.int32)), pa.py_buffer(out)]
    )


def _in_one_spelling(text: str) -> str:
    try:
        plain = json.dumps(json.loads(text), ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    except (ValueError, RecursionError) as error:
        raise pa.ArrowInvalid("not JSON") from error
    return plain.encode(errors="replace").decode()  # a half of a surrogate pair is no character


def _bytes_of(texts: Any) -> tuple[Any, Any]:
    _, offsets, data = texts.buffers()
    places = np.frombuffer(offsets, np.int32)[texts.offset : texts.offset + len(texts) + 1].astype(np.int64)
    content = np.frombuffer(data, np.uint8) if data is not None else np.zeros(0, np.uint8)
    return places - places[0], content[places[0] : places[-1]]


@dataclass(slots=True)
class _Parts:
    """Texts taken apart: keys and values in the order of the text, and how deep each lies."""

    data: Any  # without escapes: of an escape the last byte is what it stands for, …
    kept: Any  # … and the bytes of strings that are kept
    at: Any  # where a value begins
    end: Any  # where a string or an atom ends
    strings: Any
    containers: Any
    objects: Any
    keys: Any
    sizes: Any  # of strings, in bytes
    levels: list[Any]  # places of the values that lie equally deep, from the outermost
    parents: Any
    odd: Any  # numbers of the texts that are spelled otherwise; if there are any, nothing else counts

    @classmethod
    def of(cls, offsets: Any, data: Any) -> _Parts:
        escaping, escaped, odd_at = _escapes(data)
        quotes = data == ord('"')
        quotes[escaped] = False
        inside = np.logical_xor.accumulate(quotes)  # from the first quote to before the second
        outside = ~(inside | quotes)
        opens = outside & ((data == ord("{")) | (data == ord("[")))
        closes = outside & ((data == ord("}")) | (data == ord("]")))
        atoms = outside & ~(opens | closes | (data == ord(",")) | (data == ord(":")))
        odd_at = np.concatenate([odd_at, np.flatnonzero(atoms & (data <= ord(" ")))])

        edges = np.zeros(len(data) + 1, bool)
        edges[offsets] = True
        first_of_atom, last_of_atom = atoms.copy(), atoms.copy()
        first_of_atom[1:] &= ~atoms[:-1] | edges[1:-1]
        last_of_atom[:-1] &= ~atoms[1:] | edges[1:-1]
        at = np.flatnonzero(opens | (quotes & inside) | first_of_atom)
        strings, containers = data[at] == ord('"'), opens[at]
        end = at + 1
        end[strings] = np.flatnonzero(quotes & ~inside)[: np.count_nonzero(strings)]
        end[~(strings | containers)] = np.flatnonzero(last_of_atom) + 1
        after = np.append(data, 0)[np.minimum(end + 1, len(data))]
        keys = strings & (after == ord(":"))

        deep = np.cumsum(opens.astype(np.int32) - closes, dtype=np.int32)
        if not np.array_equal(at[deep[at] - containers == 0], offsets[:-1]) or deep[offsets[1:] - 1].any():
            raise pa.ArrowInvalid("not JSON")
        levels, parents = _levels(deep[at] - containers, containers)
        content = inside & ~quotes
        content[escaping] = False
        before = np.cumsum(content, dtype=np.int32) - content
        sizes = np.where(strings, before[end - (end == len(data))] - before[at], 0)
        plain = data.copy()
        kept = content
        unicode = escaping[data[escaping + 1] == ord("u")] if escaping.size else escaping
        plain[escaped] = _UNESCAPED[data[escaped]]
        if unicode.size:
            plain[unicode + 5] = _hex(data[unicode + 4]) * 16 + _hex(data[unicode + 5])
            for place in range(1, 5):
                kept[unicode + place] = False
            before = np.cumsum(kept, dtype=np.int32) - kept
            sizes = np.where(strings, before[np.minimum(end, len(data) - 1)] - before[at], 0)
        parts = cls(
            plain, kept, at, end, strings, containers, data[at] == ord("{"), keys, sizes, levels, parents, odd_at
        )
        texts = np.searchsorted(offsets, np.concatenate([odd_at, at[parts._keys_out_of_order()]]), "right") - 1
        parts.odd = np.unique(texts)
        return parts

    def text(self, places: Any) -> Any:
        """The strings at these places, without escapes, as an Arrow array."""
        sizes = self.sizes[places]
        begins = np.cumsum(self.kept, dtype=np.int32)[self.at[places]]  # the quote itself is none of them
        return _array_of(self.data[self.kept], begins, sizes)

    def _keys_out_of_order(self) -> Any:
        keys = np.concatenate([level[self.keys[level]] for level in self.levels])
        if keys.size < 2:
            return keys[:0]
        names = self.text(keys)
        rising = pc.less(names.slice(0, len(names) - 1), names.slice(1)).to_numpy(zero_copy_only=False)
        return keys[1:][~rising & (self.parents[keys[1:]] == self.parents[keys[:-1]])]


def _escapes(data: Any) -> tuple[Any, Any, Any]:
    """Places of backslashes that escape, of what each escapes, and of those that are not needed in the one spelling."""
    backslashes = np.flatnonzero(data == ord("\\"))
    if not backslashes.size:
        return backslashes, backslashes, backslashes
    numbers = np.arange(backslashes.size)
    begins = np.ones(backslashes.size, bool)
    begins[1:] = np.diff(backslashes) != 1
    runs = np.maximum.accumulate(np.where(begins, numbers, 0))
    escaping = backslashes[(numbers - runs) % 2 == 0]
    if escaping[-1] + 1 >= len(data):
        raise pa.ArrowInvalid("not JSON")
    escaped = escaping + 1
    unicode = escaping[data[escaped] == ord("u")]
    if unicode.size and unicode[-1] + 5 >= len(data):
        raise pa.ArrowInvalid("not JSON")
    is_ascii = (data[unicode + 2] == ord("0")) & (data[unicode + 3] == ord("0")) & (data[unicode + 4] < ord("8"))
    return escaping, escaped, unicode[~is_ascii]


def _hex(digits: Any) -> Any:
    return (digits & 0xF) + np.where(digits >= ord("A"), 9, 0).astype(np.uint8)


def _levels(depths: Any, containers: Any) -> tuple[list[Any], Any]:
    """The values of each depth, and what each value is in."""
    deepest = int(depths.max(initial=0))
    if deepest > DEPTH_MAX:
        raise pa.ArrowInvalid(f"nested deeper than {DEPTH_MAX} levels")
    order = np.argsort(depths, kind="stable")
    bounds = np.searchsorted(depths[order], np.arange(deepest + 2))
    levels = [order[begin:end] for begin, end in pairwise(bounds)]
    parents = np.full(len(depths), -1, np.int64)
    for outer, inner in pairwise(levels):
        holders = outer[containers[outer]]
        parents[inner] = holders[np.searchsorted(holders, inner) - 1]
    return levels, parents


def _written(parts: _Parts) -> tuple[Any, Any]:
    """Where each document begins, and the last ends, and the bytes of all."""
    kinds = np.where(
        parts.strings, _STRING, np.where(parts.containers, _CONTAINER, _KIND_OF_ATOM[parts.data[parts.at]])
    )
    sizes = parts.sizes + 4 * parts.containers
    numbers = np.flatnonzero(kinds == _NUMBER)
    payloads = np.zeros((0, 9), np.uint8)
    if numbers.size:
        lengths = parts.end[numbers] - parts.at[numbers]
        payloads, sizes[numbers] = _numbers(_array_of(parts.data, parts.at[numbers], lengths))
    groups = [_Groups.of(parts, level) for level in parts.levels[1:]]
    for group in reversed(groups):
        sizes[group.holders] += np.add.reduceat(sizes[group.members], group.begins) + 4 * group.counts
    if sizes.max() > LENGTH_MAX:
        raise pa.ArrowInvalid(f"longer than {LENGTH_MAX} bytes")

    roots = parts.levels[0]
    scalars = ~parts.containers[roots]
    places = np.concatenate([[0], np.cumsum(sizes[roots] + 8 * scalars)])
    payload_at, entry_at = np.zeros(len(sizes), np.int64), np.full(len(sizes), -1, np.int64)
    payload_at[roots] = places[:-1] + 8 * scalars
    entry_at[roots[scalars]] = places[:-1][scalars] + 4
    heads = np.where(parts.objects, _OBJECT, _ARRAY)
    for group in groups:
        group.place(parts.keys, sizes, payload_at, entry_at)
        heads[group.holders] += np.where(parts.objects[group.holders], group.key_counts, group.counts)

    out = np.zeros(int(places[-1]), np.uint8)
    _write_words(out, places[:-1][scalars], np.full(np.count_nonzero(scalars), _SCALAR))
    _write_words(out, payload_at[parts.containers], heads[parts.containers])
    with_entry = entry_at >= 0
    _write_words(out, entry_at[with_entry], (kinds[with_entry] << 28) | sizes[with_entry])
    out[_each_byte(payload_at[parts.strings], parts.sizes[parts.strings])] = parts.data[parts.kept]
    for width in np.unique(sizes[numbers]).tolist():
        chosen = sizes[numbers] == width
        out[payload_at[numbers[chosen], None] + np.arange(width)] = payloads[chosen, :width]
    return places, out


@dataclass(slots=True)
class _Groups:
    """The members of containers that lie equally deep, those of one container side by side."""

    members: Any
    holders: Any  # the containers
    begins: Any  # of each one's members
    counts: Any
    key_counts: Any  # how many of them are keys

    @classmethod
    def of(cls, parts: _Parts, members: Any) -> _Groups:
        parents = parts.parents[members]
        begins = np.flatnonzero(np.append(True, parents[1:] != parents[:-1]))
        counts = np.diff(np.append(begins, len(members)))
        key_counts = np.add.reduceat(parts.keys[members].astype(np.int64), begins)
        return cls(members, parents[begins], begins, counts, key_counts)

    def place(self, keys: Any, sizes: Any, payload_at: Any, entry_at: Any) -> None:
        """Keys before values, entries before bytes."""
        is_key, own = keys[self.members], sizes[self.members]
        key_number, value_number = self._running(is_key * 1), self._running(~is_key * 1)
        key_offset, value_offset = self._running(is_key * own), self._running(~is_key * own)
        key_bytes = np.repeat(np.add.reduceat(is_key * own, self.begins), self.counts)
        key_count, count = np.repeat(self.key_counts, self.counts), np.repeat(self.counts, self.counts)
        base = np.repeat(payload_at[self.holders], self.counts) + 4
        entry_at[self.members] = base + 4 * np.where(is_key, key_number, key_count + value_number)
        payload_at[self.members] = base + 4 * count + np.where(is_key, key_offset, key_bytes + value_offset)

    def _running(self, values: Any) -> Any:
        """Sums of what comes before, in each container."""
        before = np.cumsum(values) - values
        return before - np.repeat(before[self.begins], self.counts)


def _numbers(texts: Any) -> tuple[Any, Any]:
    """The bytes of numbers, in rows, and how many of each count. Integers keep to 64 bits, what is larger is a double."""
    payloads = np.zeros((len(texts), 9), np.uint8)
    sizes = np.ones(len(texts), np.int64)
    offsets, data = _bytes_of(texts)
    is_negative = data[offsets[:-1]] == ord("-")
    digits = np.diff(offsets) - is_negative
    is_word = (data[offsets[:-1] + is_negative] == ord("N")) | (data[offsets[:-1] + is_negative] == ord("I"))
    is_whole = ~(is_word | _bools(pc.match_substring_regex(texts, "[.eE]")))
    fits = (
        is_whole & ~is_negative & ((digits < 20) | ((digits == 20) & _bools(pc.less_equal(texts, str((1 << 64) - 1)))))
    )
    fits |= is_whole & is_negative & ((digits < 19) | ((digits == 19) & _bools(pc.less_equal(texts, str(-(1 << 63))))))

    for negative, tag, kind in ((False, _UNSIGNED, np.uint64), (True, _SIGNED, np.int64)):
        rows = np.flatnonzero(fits & (is_negative == negative))
        values = pc.take(texts, pa.array(rows)).cast(pa.from_numpy_dtype(kind)).to_numpy(zero_copy_only=False)
        rows, values = rows[values != 0], values[values != 0]
        width = np.full(len(rows), 8)
        for narrower in (4, 2, 1):
            ends = np.iinfo(f"{'i' if negative else 'u'}{narrower}")
            width[(values >= ends.min) & (values <= ends.max)] = narrower
        _put(payloads, sizes, rows, values.astype(f">{'i' if negative else 'u'}8"), tag, width)
    rows = np.flatnonzero(~(fits | is_word))
    doubles = pc.take(texts, pa.array(rows)).cast(pa.float64()).to_numpy(zero_copy_only=False)
    finite = np.isfinite(doubles)
    _put(payloads, sizes, rows[finite], doubles[finite].astype(">f8"), _DOUBLE, np.full(np.count_nonzero(finite), 8))
    infinite = np.concatenate([rows[~finite], np.flatnonzero(is_word)])
    payloads[infinite, 0] = np.where(is_negative[infinite], _MINUS_INFINITY, _INFINITY)
    payloads[np.flatnonzero(is_word & (data[offsets[:-1]] == ord("N"))), 0] = _NAN
    return payloads, sizes


def _put(payloads: Any, sizes: Any, rows: Any, values: Any, tag: int, width: Any) -> None:
    """A tag, and the last bytes of each value."""
    payloads[rows, 0] = tag
    sizes[rows] = 1 + width
    octets = values.view(np.uint8).reshape(-1, 8)
    for count in np.unique(width).tolist():
        chosen = width == count
        payloads[rows[chosen], 1 : 1 + count] = octets[chosen, 8 - count :]


def _bools(values: Any) -> Any:
    return np.asarray(values.to_numpy(zero_copy_only=False), bool)


def _array_of(data: Any, begins: Any, sizes: Any) -> Any:
    """A string array of pieces of these bytes."""
    offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int32)
    content = data[_each_byte(begins, sizes)]
    return pa.Array.from_buffers(pa.string(), len(sizes), [None, pa.py_buffer(offsets), pa.py_buffer(content)])


def _each_byte(begins: Any, sizes: Any) -> Any:
    """The places of all bytes of pieces, one piece after the other."""
    return np.repeat(begins - (np.cumsum(sizes) - sizes), sizes) + np.arange(int(sizes.sum()))


def _write_words(out: Any, places: Any, words: Any) -> None:
    """Four bytes each, the largest first."""
    out[places[:, None] + np.arange(4)] = words.astype(">u4").view(np.uint8).reshape(-1, 4)
