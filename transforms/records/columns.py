"""Read records by columns: what a mapping reads of them, without an object of Python for each record.

A JSON record is decoded to the keys that the mapping names, a CSV record is split among all others. What that refuses,
or what has other keys or quotes, is judged by itself, as payloads.py does.
"""

from bisect import bisect_left
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from functools import lru_cache, partial
from typing import Any, NamedTuple

import msgspec
import polars as pl
from msgspec import UNSET
from msgspec.structs import astuple

from transforms.records.paths import Record, Table
from transforms.records.payloads import (
    CELL_BYTES,
    DEEPEST,
    UNREADABLE,
    Refused,
    check_depth,
    csv_form,
    decode_each,
    decode_object,
    error_of,
    read_csv,
    read_json,
    slices_of,
)

CHUNK_ROWS = 512  # decoded to tuples at a time: fewer than what starts Python's collector of garbage
MOSTLY = 2  # a slice of which one record in so many has other keys is followed by slices of whole records
Slices = Iterator[tuple[Sequence[Record], list[int]]]  # records, and the rows of the raw block that they are


class Sheet(Table):
    """Records of CSV: a String column of each name, null where a record has no such value."""

    def __init__(self, columns: Mapping[str, Any]):
        super().__init__(columns)

    def column(self, name: Any) -> Any:
        """The value of each record at a key."""
        return self.columns[name] if name in self.columns else [None] * len(self)


class Decoded(Table):
    """Records of JSON: the values of some keys, UNSET where a record does not have one that is not only read."""

    def __init__(
        self, columns: dict[str, list[Any]], kept: Container[str], payloads: list[bytes], whole: dict[int, Record]
    ):
        self.columns, self.kept, self.payloads, self.whole = columns, kept, payloads, whole

    def __len__(self) -> int:
        return len(self.payloads)

    def __getitem__(self, at: Any) -> Any:
        return self.whole[at] if at in self.whole else decode_object(self.payloads[at])

    def __iter__(self) -> Iterator[Record]:
        return map(self.__getitem__, range(len(self)))

    def column(self, name: Any) -> Any:
        """The value of each record at a key."""
        values = self.columns[name]
        return [None if value is UNSET else value for value in values] if name in self.kept else values

    def only(self, names: Sequence[str]) -> Iterable[Record]:
        """Each record with no other keys than these."""
        for values in zip(*(self.columns[name] for name in names), strict=True):
            yield {name: value for name, value in zip(names, values, strict=True) if value is not UNSET}

    def but(self, taken: Container[str]) -> Iterable[Record | None]:
        """Each record without the taken keys."""
        left = [name for name in self.columns if name not in taken]
        records: list[Record | None] = list(self.only(left)) if left else [None] * len(self)
        for at, record in self.whole.items():
            records[at] = {name: value for name, value in record.items() if name not in taken}
        return records


class Keys(NamedTuple):
    """The keys of a record that are read, and those of them of which an absent value differs from null."""

    names: tuple[str, ...]
    kept: frozenset[str]


def read_columns(raw: pl.DataFrame, refused: Refused, keys: Keys) -> Slices:
    """Decode a RECORD_SCHEMA block as payloads.read_slices does, by columns."""
    form, blank = csv_form(raw), _decoder(keys)
    whole = blank is None
    for start, stop in slices_of(raw, CELL_BYTES * len(form["header"]) if form else 0):
        some = raw["payload"][start:stop]
        if form is not None:
            yield _read_sheet(some, start, refused, form)
        elif whole:
            yield read_json(some.to_list(), start, refused)
        else:
            assert blank is not None
            records, rows = _read_decoded(some.to_list(), start, refused, keys, blank)
            whole = len(records.whole) * MOSTLY > len(records)
            yield records, rows


class _Decoder(NamedTuple):
    decode: Callable[[bytes], msgspec.Struct]
    blank: tuple  # of a record without any of the keys


@lru_cache(maxsize=64)
def _decoder(keys: Keys) -> _Decoder | None:
    """Return the decoder of records that have no other keys; None if a key cannot be that of a struct."""
    fields = [(f"f{at}", Any, UNSET if name in keys.kept else None) for at, name in enumerate(keys.names)]
    rename = {f"f{at}": name for at, name in enumerate(keys.names)}
    try:
        shape = msgspec.defstruct("Shape", fields, rename=rename, forbid_unknown_fields=True, gc=False)
    except ValueError:
        return None
    return _Decoder(msgspec.json.Decoder(shape, float_hook=Decimal).decode, astuple(shape()))


def _read_decoded(
    payloads: list[bytes], first: int, refused: Refused, keys: Keys, decoder: _Decoder
) -> tuple[Decoded, list[int]]:
    whole: dict[int, Record] = {}
    columns: list[list] = [[] for _ in keys.names]
    kept: list[int] = []
    for start in range(0, len(payloads), CHUNK_ROWS):
        part, before = payloads[start : start + CHUNK_ROWS], len(refused)
        judge = partial(_judge, part, first + start, refused, whole, keys, decoder)
        plain = [payload if len(payload) < 2 * DEEPEST or _is_flat(payload) else b"" for payload in part]
        values = decode_each(map(astuple, map(decoder.decode, plain)), judge)
        rows: Sequence[int] = range(first + start, first + start + len(part))
        if len(refused) > before:
            rows = [row for row, value in zip(rows, values, strict=True) if value is not None]
            values = [value for value in values if value is not None]
        kept.extend(rows)
        for column, more in zip(columns, zip(*values, strict=True), strict=bool(values)):
            column.extend(more)
    found = payloads if len(kept) == len(payloads) else [payloads[row - first] for row in kept]
    records = {bisect_left(kept, row): record for row, record in whole.items()}
    return Decoded(dict(zip(keys.names, columns, strict=True)), keys.kept, found, records), kept


def _is_flat(payload: bytes) -> bool:
    try:
        check_depth(payload)
    except msgspec.DecodeError:
        return False
    return True


def _judge(
    payloads: list[bytes],
    first: int,
    refused: Refused,
    whole: dict[int, Record],
    keys: Keys,
    decoder: _Decoder,
    at: int,
) -> tuple | None:
    try:
        check_depth(payloads[at])
        record = decode_object(payloads[at])
    except UNREADABLE as problem:
        refused.append((first + at, *error_of(problem)))
        return None
    whole[first + at] = record
    return tuple(record.get(name, default) for name, default in zip(keys.names, decoder.blank, strict=True))


def _read_sheet(
    payloads: pl.Series, start: int, refused: Refused, form: dict[str, Any]
) -> tuple[Sequence[Record], list[int]]:
    names, delimiter = form["header"], form["delimiter"]
    if len(names) > 1 and len(set(names)) == len(names) and len(delimiter) == 1:
        columns = _split(payloads, delimiter, form.get("quote") or "\n", len(names))
        if columns is not None:
            return Sheet(dict(zip(names, columns, strict=True))), list(range(start, start + len(payloads)))
    return read_csv(payloads.to_list(), start, refused, form)


def _split(payloads: pl.Series, delimiter: str, quote: str, width: int) -> list[pl.Series] | None:
    """The columns of payloads of which each is a row without quotes; None if one is another."""
    try:
        texts = payloads.cast(pl.String)
    except pl.exceptions.PolarsError:  # not in UTF-8
        return None
    if texts.str.contains(f"[\\x{ord(quote):02x}\\r\\n]").any():
        return None
    split = texts.str.splitn(delimiter, width).struct.unnest()
    last = split.to_series(width - 1)
    if last.null_count() or last.str.contains(delimiter, literal=True).any():
        return None
    return split.select(pl.when(pl.all() != "").then(pl.all())).get_columns()
