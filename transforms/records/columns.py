"""Read records by columns: what a mapping reads of them, without an object of Python for each record.

A JSON record is decoded to the keys that the mapping names, a CSV record is split among all others. What that refuses,
or what has other keys or quotes, is judged by itself, as payloads.py does.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from functools import lru_cache, partial
from typing import Any, NamedTuple

import msgspec
import polars as pl
from msgspec import UNSET
from msgspec.structs import astuple

from transforms.json_objects import DEEPEST, UNREADABLE, check_depth, decode_object, error_of
from transforms.records.paths import Record, Table
from transforms.records.payloads import CELL_BYTES, Refused, csv_form, decode_each, read_csv, read_json, slices_of

CHUNK_ROWS = 512  # decoded to tuples at a time: fewer than what starts Python's collector of garbage
OFTEN, MOST_OTHERS = 64, 32  # a key that is not read is decoded like one that is if one record in so many has it
MOSTLY = 2  # a slice of which one record in so many has other keys is followed by slices of whole records
FEW_ROWS, RARELY = 512, 16  # rows of CSV are read in two ways if they are many, and one in so many is in doubt
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

    def only(self, names: Sequence[str]) -> list[Record | None]:
        """Each record with no other keys than these, None if it has none of them."""
        records: list[Record | None] = [None] * len(self)
        for name in names:
            for at, value in enumerate(self.columns[name]):
                if value is not UNSET:
                    record = records[at]
                    if record is None:
                        records[at] = {name: value}
                    else:
                        record[name] = value
        return records

    def but(self, taken: Container[str]) -> Iterable[Record | None]:
        """Each record without the taken keys."""
        records = self.only([name for name in self.columns if name not in taken])
        for at, record in self.whole.items():
            records[at] = {name: value for name, value in record.items() if name not in taken}
        return records


class Keys(NamedTuple):
    """The keys of a record that are read, and those of them of which an absent value differs from null."""

    names: tuple[str, ...]
    kept: frozenset[str]

    def with_others(self, names: Sequence[str]) -> "Keys":
        """These keys and others that are not read."""
        return Keys(tuple(dict.fromkeys((*self.names, *names))), self.kept | set(names)) if names else self


def read_columns(raw: pl.DataFrame, refused: Refused, keys: Keys) -> Slices:
    """Decode a RECORD_SCHEMA block as payloads.read_slices does, by columns."""
    form = csv_form(raw)
    if form is not None:
        for start, stop in slices_of(raw, CELL_BYTES * len(form["header"])):
            yield _read_sheet(raw["payload"][start:stop], start, refused, form)
        return
    others, by_key = _others(keys), True
    for start, stop in slices_of(raw):
        payloads = raw["payload"][start:stop].to_list()
        wider = keys.with_others(others)
        decoder = _decoder(wider) if by_key else None
        if decoder is None:
            yield read_json(payloads, start, refused)
            continue
        records, rows = _read_decoded(payloads, start, refused, wider, decoder)
        learned = _learn(others, records, wider)
        by_key = learned or len(records.whole) * MOSTLY <= len(records)
        yield records, rows


@lru_cache(maxsize=64)
def _others(keys: Keys) -> list[str]:
    """Return the other keys that records of a mapping often have: found while they are read, and only for speed."""
    return []


def _learn(others: list[str], records: "Decoded", keys: Keys) -> bool:
    if not records.whole:
        return False
    counts = Counter(name for record in records.whole.values() for name in record if name not in keys.names)
    often = [name for name, count in counts.items() if count * OFTEN >= len(records)]
    if not often or len(others) + len(often) > MOST_OTHERS:
        return False
    others.extend(often)
    return True


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
        quotes = (form.get("quote") or "") + form.get("escape", "")
        split = _split(payloads, names, delimiter, quotes, fewer=form.get("rest", False))
        if split is not None and not split.doubtful.any():
            return Sheet(_columns(split.frame, form)), list(range(start, start + len(payloads)))
        if split is not None and split.doubtful.sum() * RARELY < len(payloads):
            return _read_mixed(payloads, split, start, refused, form)
    return read_csv(payloads.to_list(), start, refused, form)


class _Split(NamedTuple):
    frame: pl.DataFrame
    doubtful: pl.Series  # Boolean: has quotes or another number of fields


def _split(payloads: pl.Series, names: list[str], delimiter: str, quotes: str, fewer: bool) -> _Split | None:
    """The fields of payloads of which each is a row without quotes, and where it is none. A row may have `fewer`.

    None if one is not in UTF-8, or if they are few and one has quotes.
    """
    try:
        texts = payloads.cast(pl.String)
    except pl.exceptions.PolarsError:
        return None
    special = "".join(f"\\x{ord(char):02x}" for char in quotes)
    quoted = texts.str.contains(f"[{special}\\r\\n]")
    if len(texts) < FEW_ROWS and quoted.any():
        return None
    frame = texts.str.splitn(delimiter, len(names)).struct.unnest()
    last = frame.to_series(len(names) - 1)
    return _Split(frame, quoted | last.str.contains(delimiter, literal=True).fill_null(not fewer))


def _columns(frame: pl.DataFrame, form: dict[str, Any]) -> dict[str, pl.Series]:
    """The columns by name, with null for what is empty and for the texts treated as null."""
    given = pl.all() != ""
    if null := form.get("null"):
        given = given & ~pl.all().is_in(null)
    return dict(zip(form["header"], frame.select(pl.when(given).then(pl.all())).get_columns(), strict=True))


def _read_mixed(
    payloads: pl.Series, split: _Split, start: int, refused: Refused, form: dict[str, Any]
) -> tuple[Sequence[Record], list[int]]:
    """Read those that are in doubt by themselves."""
    wrong: Refused = []
    doubtful = split.doubtful.arg_true().to_list()
    records, found = read_csv(payloads.filter(split.doubtful).to_list(), 0, wrong, form)
    refused += [(start + doubtful[at], code, errors) for at, code, errors in wrong]
    names = split.frame.columns
    values = [[record.get(key, "") for record in records] for key in form["header"]]
    series = [pl.Series(name, column, dtype=pl.String) for name, column in zip(names, values, strict=True)]
    others, nth = pl.DataFrame(series), {doubtful[at]: number for number, at in enumerate(found)}
    parts: list[pl.DataFrame] = []
    rows: list[int] = []
    end = 0
    for row in [*doubtful, len(payloads)]:
        parts.append(split.frame[end:row])
        rows += range(start + end, start + row)
        if row in nth:
            parts.append(others[nth[row] : nth[row] + 1])
            rows.append(start + row)
        end = row + 1
    return Sheet(_columns(pl.concat(parts, rechunk=True), form)), rows
